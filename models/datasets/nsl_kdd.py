"""NSL-KDD (Tavallaee et al., CISDA 2009): files without header, 41 features, the attack, a difficulty.

Training is the published 20 % file; the tests are Test+ and Test-21, which has attacks that training lacks.
Categories are those of the KDD Cup 1999 task description, with the test's own attacks as in Tavallaee et al.
"""

from __future__ import annotations

from pathlib import Path

from cellwatch.models.datasets.dataset import DataSet
from cellwatch.models.datasets.tables import given_parts, read_table

FEATURES = (
    "duration", "protocol_type", "service", "flag", "src_bytes", "dst_bytes", "land", "wrong_fragment",
    "urgent", "hot", "num_failed_logins", "logged_in", "num_compromised", "root_shell", "su_attempted",
    "num_root", "num_file_creations", "num_shells", "num_access_files", "num_outbound_cmds",
    "is_host_login", "is_guest_login", "count", "srv_count", "serror_rate", "srv_serror_rate",
    "rerror_rate", "srv_rerror_rate", "same_srv_rate", "diff_srv_rate", "srv_diff_host_rate",
    "dst_host_count", "dst_host_srv_count", "dst_host_same_srv_rate", "dst_host_diff_srv_rate",
    "dst_host_same_src_port_rate", "dst_host_srv_diff_host_rate", "dst_host_serror_rate",
    "dst_host_srv_serror_rate", "dst_host_rerror_rate", "dst_host_srv_rerror_rate",
)  # fmt: skip
_ATTACKS = {
    "dos": "back land neptune pod smurf teardrop apache2 mailbomb processtable udpstorm",
    "probe": "ipsweep nmap portsweep satan mscan saint",
    "r2l": "ftp_write guess_passwd imap multihop phf spy warezclient warezmaster named sendmail "
    "snmpgetattack snmpguess worm xlock xsnoop",
    "u2r": "buffer_overflow loadmodule perl rootkit httptunnel ps sqlattack xterm",
}
CATEGORY = {"normal": "benign"} | {name: kind for kind, names in _ATTACKS.items() for name in names.split()}


def load(folder: Path) -> DataSet:
    """The data set from the folder with the three files. DataError."""
    names = (*FEATURES, "attack", "difficulty")
    return given_parts(
        "nsl_kdd",
        "NSL-KDD, connections of a simulated office network",
        read_table(folder / "KDDTrain+_20Percent.txt", names),
        {
            "Test+": read_table(folder / "KDDTest+.txt", names),
            "Test-21": read_table(folder / "KDDTest-21.txt", names),
        },
        "attack",
        CATEGORY,
        drop=("difficulty",),
    )
