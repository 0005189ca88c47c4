"""MQTT topics by number: a table of fixed size that only grows; topics beyond it are 0."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.features.protocols.compiled import compiled
from cellwatch.models.types import U8

PLACES = 8192  # half of them are used at most
LONGEST = 128  # bytes of the text that are kept; the whole topic tells it apart

TOPIC = np.dtype([("hash", "u8"), ("number", "i8"), ("length", "i8"), ("text", "u1", (LONGEST,))], align=True)


def new_topics() -> NDArray[Any]:
    """An empty table; the last row counts the topics."""
    return np.zeros(PLACES + 1, TOPIC)


@compiled
def intern(topics: NDArray[Any], text: U8) -> int:
    """Number of a topic from 1 on, 0 when the table is full."""
    h = np.uint64(0xCBF29CE484222325)  # FNV-1a
    for byte in text:
        h = (h ^ np.uint64(byte)) * np.uint64(0x100000001B3)
    if h == 0:
        h = np.uint64(1)
    at = int(np.int64((h ^ h >> np.uint64(32)) & np.uint64(PLACES - 1)))
    while topics[at].hash != 0:
        if topics[at].hash == h:
            return int(topics[at].number)
        at = (at + 1) % PLACES
    if topics[PLACES].number >= PLACES // 2:
        return 0
    topics[PLACES].number += 1
    row = topics[at]
    row.hash, row.number, row.length = h, topics[PLACES].number, min(len(text), LONGEST)
    for i in range(row.length):
        row.text[i] = text[i]
    return int(row.number)
