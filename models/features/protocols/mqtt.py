"""MQTT 3.1, 3.1.1 and 5 (OASIS MQTT Version 5.0, 2.1 and 3).

`kind` and `function` are the packet type. Of a PUBLISH: topic, QoS and the numbers in its JSON payload; a
payload that is text but not JSON is one string.
"""

from __future__ import annotations

from typing import Any

from cellwatch.models.features.protocols.codes import EXCEPTION, REQUEST, RESPONSE, STRING
from cellwatch.models.features.protocols.compiled import compiled
from cellwatch.models.features.protocols.json_values import read_values
from cellwatch.models.features.protocols.reading import be16, be32, u8
from cellwatch.models.types import U8

NAME = "mqtt"
TCP_PORTS = (1883,)
UDP_PORTS = ()
STRONG = False

CONNECT, CONNACK, PUBLISH, PUBREL, SUBSCRIBE, UNSUBSCRIBE = 1, 2, 3, 6, 8, 10
_REQUESTS = (1, 3, 6, 8, 10, 12, 14)


@compiled
def _varint(m: U8, at: int) -> tuple[int, int]:
    """Variable Byte Integer (1.5.5): value and the place behind it; place -1 = broken, 0 = too few bytes."""
    value = 0
    for i in range(4):
        if at + i >= len(m):
            return 0, 0
        value |= (u8(m, at + i) & 127) << 7 * i
        if u8(m, at + i) < 128:
            return value, at + i + 1
    return 0, -1


@compiled
def size(m: U8) -> int:
    """Bytes of the message at m[0]; 0 = too few bytes to tell, -1 = none begins here."""
    kind, flags = u8(m, 0) >> 4, u8(m, 0) & 15
    if kind == PUBLISH:
        if flags & 6 == 6:  # QoS 3
            return -1
    elif kind == 0 or flags != (2 if kind in (PUBREL, SUBSCRIBE, UNSUBSCRIBE) else 0):
        return -1
    length, behind = _varint(m, 1)
    if behind <= 0:
        return behind
    if kind == PUBLISH:  # its topic has to fit; digits of a text would be a PUBLISH else
        if len(m) < behind + 2:
            return 0 if length >= 2 else -1
        if 2 + be16(m, behind) + (2 if flags & 6 else 0) > length:
            return -1
    return behind + length


@compiled
def signature(m: U8) -> bool:
    """Whether m begins like a message of this protocol: CONNECT by name, PUBLISH by a printable topic."""
    kind = u8(m, 0) >> 4
    if size(m) <= 0 or kind not in (CONNECT, PUBLISH):
        return False
    length, behind = _varint(m, 1)
    name = be16(m, behind)
    if kind == CONNECT:
        return (name == 4 and be32(m, behind + 2) == 0x4D515454) or (  # MQTT, MQIsdp
            name == 6 and be32(m, behind + 2) == 0x4D514973
        )
    if name < 3 or name + 2 > length or behind + 2 + name > len(m):
        return False
    for i in range(behind + 2, behind + 2 + name):
        if not 32 < u8(m, i) < 127 or u8(m, i) in (35, 43):  # wildcards cannot be published to
            return False
    return True


@compiled
def describe(m: U8, server: bool, memory: int, out: Any) -> int:  # noqa: ARG001
    """Fill the row; `memory` is the protocol version, 0 = not known."""
    kind = u8(m, 0) >> 4
    out.kind = kind
    out.function = kind
    out.flags = REQUEST if kind in _REQUESTS else RESPONSE
    length, at = _varint(m, 1)
    if at <= 0:
        return memory
    if kind == CONNECT:
        return u8(m, at + 2 + be16(m, at))
    if kind == CONNACK:
        out.status = u8(m, at + 1)
        if out.status:
            out.flags |= EXCEPTION
        return 5 if length > 2 else 4
    if kind != PUBLISH:
        return memory
    out.qos = u8(m, 0) >> 1 & 3
    topic = be16(m, at)
    if at + 2 + topic > len(m):
        return memory
    out.topic_at, out.topic_length = at + 2, topic
    at += 2 + topic + (2 if out.qos else 0)
    # Without CONNECT or CONNACK the version is a guess: no text begins with the 0 of an empty property list.
    if memory == 5 or (memory == 0 and u8(m, at) == 0 and at < len(m)):
        properties, at = _varint(m, at)
        if at <= 0:
            return memory
        at += properties
    first = u8(m, at)
    if first in (34, 45, 91, 123) or 48 <= first <= 57:
        read_values(m, at, out.size > len(m), out)
    elif 32 < first < 127:
        out.value_kinds = STRING
    return memory
