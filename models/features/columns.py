"""Names of every traffic feature, in the order in which they travel; what each means: docs/features.md.

`DATASENSE_COLUMNS` is the table of DataSense (Firouzi et al., Electronics 2025, 14, 4095): 10 columns of
identity and labels, 8 `log_*` and 76 `network_*`, of which 13 are lists.
"""

from __future__ import annotations

STATISTICS = ("avg", "max", "min", "std_deviation")
SIDES = ("all", "dst", "src")
QUANTITIES = (  # with STATISTICS each
    "header-length", "ip-flags", "ip-length", "mss", "packet-size", "payload-length", "tcp-flags",
    "time-delta", "ttl", "window-size",
)  # fmt: skip
SETS = ("ips", "macs", "ports", "protocols")  # with SIDES each: a list, and its length
FLAGS = ("ack", "fin", "psh", "rst", "syn", "urg")

IDENTITY_COLUMNS = (
    "device_name", "device_mac", "label_full", "label1", "label2", "label3", "label4", "timestamp",
    "timestamp_start", "timestamp_end",
)  # fmt: skip


def _datasense() -> tuple[str, ...]:
    def four(name: str) -> list[str]:
        return [f"{name}_{s}" for s in STATISTICS]

    def both(name: str) -> list[str]:
        return [f"{name}_{side}{end}" for side in SIDES for end in ("", "_count")]

    log = [*four("log_data-ranges"), "log_data-types", "log_data-types_count"]
    log += ["log_interval-messages", "log_messages_count"]
    names = ["fragmentation-score", "fragmented-packets", *four("header-length"), "interval-packets"]
    names += [*four("ip-flags"), *four("ip-length"), *both("ips"), *both("macs"), *four("mss")]
    names += [*four("packet-size"), *(f"packets_{side}_count" for side in SIDES), *four("payload-length")]
    names += [*both("ports"), *both("protocols"), *(f"tcp-flags-{flag}_count" for flag in FLAGS)]
    names += [*four("tcp-flags"), *four("time-delta"), *four("ttl"), *four("window-size")]
    return (*IDENTITY_COLUMNS, *log, *(f"network_{name}" for name in names))


DATASENSE_COLUMNS = _datasense()  # 94, in its order
LIST_COLUMNS = (  # 13, in files only
    "log_data-types",
    *(f"network_{name}_{side}" for name in SETS for side in SIDES),
)
_NUMERIC = [c for c in DATASENSE_COLUMNS[len(IDENTITY_COLUMNS) :] if c not in LIST_COLUMNS]
LOG_COLUMNS = tuple(c for c in _NUMERIC if c.startswith("log_"))  # 7
NETWORK_COLUMNS = tuple(c for c in _NUMERIC if c.startswith("network_"))  # 64
INDUSTRIAL_COLUMNS = (  # 14, ours
    "industrial_messages_count",
    "industrial_requests_count",
    "industrial_services_count",
    "industrial_services_entropy",
    "industrial_read_ratio",
    "industrial_write_ratio",
    "industrial_writes_count",
    "industrial_controls_count",
    "industrial_exceptions_count",
    "industrial_registers_count",
    "industrial_registers-written_count",
    "industrial_units_count",
    "industrial_new-peers_count",
    "industrial_interval_entropy",
)
TRAFFIC_COLUMNS = NETWORK_COLUMNS + LOG_COLUMNS + INDUSTRIAL_COLUMNS
COUNT_COLUMNS = tuple(  # 0, not NaN, when nothing came
    name for name in TRAFFIC_COLUMNS if name.endswith("_count") or name == "network_fragmented-packets"
)
UNITS = (  # UCUM, by the beginning of the name; the first that fits, else "1"
    ("network_interval-packets", "ms"),
    ("network_time-delta", "s"),
    ("network_header-length", "By"),
    ("network_ip-length", "By"),
    ("network_mss", "By"),
    ("network_packet-size", "By"),
    ("network_payload-length", "By"),
    ("network_window-size", "By"),
    ("log_interval-messages", "ms"),
    ("industrial_services_entropy", "bit"),
    ("industrial_interval_entropy", "bit"),
    ("sensor_staleness", "s"),
)


def unit(name: str) -> str:
    """UCUM unit of a column.

    >>> unit("network_time-delta_avg"), unit("network_ttl_max")
    ('s', '1')
    """
    return next((u for start, u in UNITS if name.startswith(start)), "1")
