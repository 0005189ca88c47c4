"""Published tables with one file and a label column, as their publishers wrote them.

Columns that name hosts, times or payloads are left out: what is learnt from them holds for one recording.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cellwatch.models.datasets.dataset import DataError, DataSet
from cellwatch.models.datasets.tables import data_set, read_table


@dataclass(frozen=True, slots=True)
class Published:
    """Where a table lies, which column labels it, and what is left out of it."""

    about: str
    folder: str
    file: str  # glob; the first match by name, and `about` says of how many
    label: str  # "normal", "benign" or the kind of attack
    drop: tuple[str, ...]
    time: str = ""

    def load(self, name: str, root: Path) -> DataSet:
        """The data set; DataError says `data absent` when its file is not below `root`."""
        found = sorted((root / self.folder).glob(self.file))
        if not found:
            raise DataError(f"{name}: data absent ({root / self.folder / self.file})")
        table = read_table(found[0])
        drop = [column for column in self.drop if column in table.column_names]
        about = (
            self.about
            if len(found) == 1
            else f"{self.about}, {found[0].name}, the first of {len(found)} files"
        )
        return data_set(name, about, table, self.label, drop=drop, time=self.time)


_TON = "TON_IoT telemetry (Alsaedi et al., IEEE Access 2020, 8, 165130)"
PUBLISHED: dict[str, Published] = {
    **{
        f"ton_iot_{device}": Published(
            f"{_TON}, {device}",
            "ton_iot_telemetry",
            f"Train_Test_IoT_{device.capitalize()}.csv",
            "type",
            ("date", "time", "label"),
            time="ts",
        )
        for device in ("fridge", "modbus", "thermostat")
    },
    "edge_iiotset": Published(
        "Edge-IIoTset (Ferrag et al., IEEE Access 2022, 10, 40281), ML-EdgeIIoT-dataset.csv",
        "edge_iiotset",
        "*ML-EdgeIIoT-dataset*.csv*",
        "Attack_type",
        # those that its authors drop
        (
            "frame.time", "ip.src_host", "ip.dst_host", "arp.src.proto_ipv4", "arp.dst.proto_ipv4",
            "http.file_data", "http.request.full_uri", "icmp.transmit_timestamp", "http.request.uri.query",
            "tcp.options", "tcp.payload", "tcp.srcport", "tcp.dstport", "udp.port", "mqtt.msg",
            "Attack_label",
        ),
    ),
    "ton_iot_network": Published(
        "TON_IoT network flows (Moustafa, Sustainable Cities and Society 2021, 72, 102994)",
        "ton_iot_network",
        "*rain_*est_*etwork*.csv*",
        "type",
        (
            "ts", "src_ip", "dst_ip", "src_port", "dst_port", "label", "dns_query", "ssl_subject",
            "ssl_issuer", "http_uri", "http_user_agent", "weird_name", "weird_addl",
        ),
    ),
    "cic_iot2023": Published(
        "CICIoT2023 (Neto et al., Sensors 2023, 23, 5941)",
        "cic_iot2023",
        "*.csv*",
        "label",
        (),
    ),
}  # fmt: skip
GROUPS = {"ton_iot": ("ton_iot_fridge", "ton_iot_modbus", "ton_iot_thermostat")}
