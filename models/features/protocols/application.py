"""The protocol above TCP or UDP: by the well-known port of either end, and by content."""

from __future__ import annotations

import numpy as np

from cellwatch.models.features.protocols import CATALOGUE
from cellwatch.models.features.protocols.codes import CODE
from cellwatch.models.features.protocols.compiled import compiled
from cellwatch.models.features.protocols.dispatch import CODES, PLACE, STRONG, recognise, tiles
from cellwatch.models.features.protocols.dispatch import signature as begins
from cellwatch.models.features.protocols.reading import be16, be32, u8
from cellwatch.models.features.protocols.tpkt import signature as is_tpkt
from cellwatch.models.features.protocols.tpkt import upper
from cellwatch.models.types import U8

TCP_PORTS = {
    20: "ftp", 21: "ftp", 22: "ssh", 23: "telnet", 25: "smtp", 53: "dns", 80: "http",
    443: "tls", 445: "smb", 554: "rtsp", 8080: "http", 8086: "influxdb", 8883: "tls",
}  # fmt: skip
UDP_PORTS = {
    53: "dns", 67: "dhcp", 68: "dhcp", 69: "tftp", 123: "ntp",
    137: "nbns", 161: "snmp", 162: "snmp", 443: "quic", 514: "syslog", 546: "dhcpv6", 547: "dhcpv6",
    1900: "ssdp", 5353: "mdns", 5355: "llmnr",
}  # fmt: skip
for _protocol in CATALOGUE:
    TCP_PORTS |= dict.fromkeys(_protocol.TCP_PORTS, _protocol.NAME)
    UDP_PORTS |= dict.fromkeys(_protocol.UDP_PORTS, _protocol.NAME)


def _table(ports: dict[int, str]) -> U8:
    table = np.zeros(65536, dtype=np.uint8)
    for port, name in ports.items():
        table[port] = CODE[name]
    return table


TCP_TABLE, UDP_TABLE = _table(TCP_PORTS), _table(UDP_PORTS)
_HTTP, _SSH, _TLS, _JSON, _DATA = CODE["http"], CODE["ssh"], CODE["tls"], CODE["json"], CODE["data"]
_TPKT = CODE["tpkt"]
_EPHEMERAL = 32768  # where Linux begins to number the ports of clients; IANA's range begins at 49152
_METHODS = np.array([
    int.from_bytes(word, "big")
    for word in (b"GET ", b"POST", b"PUT ", b"HEAD", b"HTTP", b"DELE", b"OPTI", b"PATC", b"TRAC")
])  # fmt: skip


@compiled
def _text(m: U8) -> int:
    """Code of HTTP, SSH or TLS where a TCP payload begins like it, else 0."""
    word = be32(m, 0)
    for method in _METHODS:
        if word == method:
            return _HTTP
    if word == 0x5353482D:
        return _SSH
    if 0x14 <= u8(m, 0) <= 0x17 and u8(m, 1) == 3 and 1 <= u8(m, 2) <= 4:
        return _TLS
    return 0


@compiled
def _by_port(table: U8, port: int, m: U8, length: int) -> int:
    """Code of a port, 0 = none. One that clients are given as well has to be borne out by the content."""
    code = int(np.int64(table[port]))
    place = PLACE[code]
    if port >= _EPHEMERAL and place >= 0 and not (begins(place, m) or tiles(place, m, length)):
        return 0
    return code


@compiled
def name(m: U8, length: int, tcp: bool, src_port: int, dst_port: int) -> int:
    """PROTOCOLS code of a payload of `length` bytes, of which m was captured.

    The port decides (destination first), unless the content can be nothing else. Without a known port the
    content decides, else it is `data`.
    """
    table = TCP_TABLE if tcp else UDP_TABLE
    code = _by_port(table, dst_port, m, length)
    if code == 0:
        code = _by_port(table, src_port, m, length)
    if code and not tcp:
        return code
    if code:
        industrial = PLACE[code] >= 0
        if not (industrial and begins(PLACE[code], m)):
            for place in range(len(STRONG)):
                if STRONG[place] and begins(place, m):
                    return int(np.int64(CODES[place]))
            other = _text(m) if industrial else 0
            if other:
                return other
        if code == _TPKT and is_tpkt(m):
            return upper(m) or _TPKT
        return code
    if len(m) < 4:
        return _DATA
    code = _text(m) if tcp else 0
    if code:
        return code
    place = recognise(m, length, tcp)
    if place >= 0:
        code = int(np.int64(CODES[place]))
        return (upper(m) or code) if code == _TPKT else code
    first, second = u8(m, 0), u8(m, 1)
    if (first == 0x7B and second in (0x22, 0x0A, 0x20, 0x7D)) or be16(m, 0) == 0x5B7B:
        return _JSON
    return _DATA
