"""What a broken limit is evidence of: columns that tell the same story, and what the story hints at.

One large packet breaks packet size, IP length, payload length and their spreads at once. That is one piece of
evidence, not eight, so columns are put into groups (those of DataSense: rate, addresses, multiplexing, flags,
fragmentation, size, timing), and of each group only the worst column counts.
"""

from __future__ import annotations

from dataclasses import dataclass

# Beginning of the column's name -> group, category of DataSense or "fault", ATT&CK for ICS technique.
_GROUPS = (
    ("network_packets", "rate", "dos", "T0814"),
    ("network_interval-packets", "timing", "dos", "T0814"),
    ("network_time-delta", "timing", "", ""),
    ("network_tcp-flags-syn", "flags", "dos", "T0814"),
    ("network_tcp-flags-rst", "flags", "recon", "T0846"),
    ("network_tcp-flags", "flags", "", ""),
    ("network_ip-flags", "ip", "", ""),
    ("network_ips", "addresses", "recon", "T0846"),
    ("network_macs", "addresses", "recon", "T0846"),
    ("network_ports", "multiplexing", "recon", "T0846"),
    ("network_protocols", "multiplexing", "recon", "T0846"),
    ("network_fragment", "fragmentation", "dos", "T0814"),
    ("network_window-size", "window", "", ""),
    ("network_ttl", "ip", "", ""),
    ("network_", "size", "", ""),
    ("log_", "messages", "", ""),
    ("industrial_new-peers", "peers", "recon", "T0846"),
    ("industrial_", "industrial", "", ""),
    ("sensor_", "process", "fault", ""),
)
_TAG_GROUPS = {"std_deviation": "noise", "good_ratio": "quality", "staleness": "quality"}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a column belongs to and hints at; empty where it cannot tell."""

    group: str
    category: str
    attack_id: str


def of_feature(name: str) -> Evidence:
    """Evidence of a feature of a device.

    >>> of_feature("network_ports_dst_count")
    Evidence(group='multiplexing', category='recon', attack_id='T0846')
    """
    found = next((rest for start, *rest in _GROUPS if name.startswith(start)), ["other", "", ""])
    return Evidence(*found)


def of_tag_column(column: str) -> Evidence:
    """Evidence of a statistic of a tag: its value, its noise or its quality."""
    return Evidence(_TAG_GROUPS.get(column, "value"), "fault", "")
