"""Who on this machine is at the other end of a loopback connection (Linux, /proc/net/tcp)."""

from __future__ import annotations

import ipaddress
import os
import pwd
import sys
from pathlib import Path

TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def runs_here() -> str:
    """Name of the user that this process runs as, whatever the environment says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # as in some containers
        return f"uid{os.getuid()}"


def owner(address: str, port: int, server_port: int) -> int | None:
    """User id of the process that connected from `address`:`port` to `server_port`; None: not known.

    OSError where the kernel's tables cannot be read.
    """
    wanted = ipaddress.ip_address(address)
    for table in TABLES if wanted.version == 4 else TABLES[1:]:
        for line in Path(table).read_text().splitlines()[1:]:
            cells = line.split()
            ip, _, at = cells[1].partition(":")
            to = cells[2].partition(":")[2]
            if int(at, 16) == port and int(to, 16) == server_port and _address(ip) == wanted:
                return int(cells[7])
    return None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Words of 32 bits, each in the byte order of the machine.

    >>> _address("0100007F")
    IPv4Address('127.0.0.1')
    """
    raw = bytes.fromhex(text)
    if sys.byteorder == "little":
        raw = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    found = ipaddress.ip_address(raw)
    return getattr(found, "ipv4_mapped", None) or found
