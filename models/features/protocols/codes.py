"""Names, flags and the row that a message is read into."""

from __future__ import annotations

import numpy as np

# Highest protocol of a packet; the place in this tuple is its code in `Packets.app` and `Messages.protocol`.
PROTOCOLS = (
    "eth", "llc", "arp", "lldp", "profinet", "goose", "eapol", "ip", "icmp", "igmp", "icmpv6", "tcp",
    "udp", "sctp", "data", "json", "http", "tls", "ssh", "telnet", "ftp", "smtp", "dns", "mdns", "llmnr",
    "nbns", "ntp", "dhcp", "dhcpv6", "ssdp", "snmp", "syslog", "tftp", "rtsp", "quic", "mqtt", "mbtcp",
    "opcua", "tpkt", "enip", "dnp3", "bacnet", "iec104", "ads", "hartip", "synphasor", "smb", "influxdb",
    "s7comm", "s7comm-plus", "mms", "sv",
)  # fmt: skip
CODE = {name: i for i, name in enumerate(PROTOCOLS)}

# Messages.flags
REQUEST, RESPONSE, READ, WRITE, CONTROL, EXCEPTION = 1, 2, 4, 8, 16, 32
# Messages.value_kinds
NUMERIC, STRING, ARRAY = 1, 2, 4

MESSAGE = np.dtype(
    [
        ("packet", np.int64),
        ("address", np.int64),
        ("status", np.int64),
        ("size", np.int64),
        ("value_low", np.float64),
        ("value_high", np.float64),
        ("value_sum", np.float64),
        ("value_squares", np.float64),
        ("value_count", np.int32),
        ("kind", np.int32),
        ("function", np.int32),
        ("unit", np.int32),
        ("count", np.int32),
        ("topic", np.uint32),
        ("topic_at", np.int32),  # where the topic lies in the message, while it is read
        ("topic_length", np.int32),
        ("protocol", np.uint8),
        ("flags", np.uint8),
        ("qos", np.uint8),
        ("value_kinds", np.uint8),
    ],
    align=True,
)
