"""Application-layer messages of industrial protocols, one row a message.

    dissector = Dissector()
    messages = dissector.messages(parse(block))     # every block, in the order of capture

TCP streams are put together across segments and blocks (`protocols.streams`); what the columns of a protocol
mean stands in its own file (`protocols.opcua`, `protocols.modbus`, ...).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.features.packets import Packets
from cellwatch.models.features.protocols.assembly import COUNTS, new_state
from cellwatch.models.features.protocols.codes import (
    ARRAY,
    CONTROL,
    EXCEPTION,
    MESSAGE,
    NUMERIC,
    READ,
    REQUEST,
    RESPONSE,
    STRING,
    WRITE,
)
from cellwatch.models.features.protocols.compiled import frozen
from cellwatch.models.features.protocols.streams import Segments, follow
from cellwatch.models.features.protocols.topics import PLACES
from cellwatch.models.types import F64, I64, U8, U32

__all__ = [
    "ARRAY", "CONTROL", "EXCEPTION", "NUMERIC", "READ", "REQUEST", "RESPONSE", "STRING", "WRITE", "Dissector",
    "Messages",
]  # fmt: skip
I32 = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Messages:
    """m messages in the order they were completed; every array has shape (m,)."""

    packet: I64  # row in Packets of the packet that completed it; addresses and ports of both are the same
    time_ns: I64  # of that packet
    protocol: U8  # PROTOCOLS code
    kind: I32  # the protocol's own message type, -1 unknown
    function: I32  # function, service or type code, -1 unknown
    flags: U8  # REQUEST | RESPONSE | READ | WRITE | CONTROL | EXCEPTION
    unit: I32  # Modbus unit, IEC 104 common address, DNP3 destination, C37.118 id code; -1 none
    address: I64  # first register or information object; -1 none
    count: I32  # of registers, coils or information objects
    status: I64  # StatusCode, exception code, error or cause that the message states
    size: I64  # bytes
    topic: U32  # MQTT PUBLISH: index into `names`, 0 = none
    qos: U8  # MQTT PUBLISH
    value_count: I32  # numbers in the JSON payload of an MQTT PUBLISH, those in arrays included
    value_low: F64  # smallest of them, NaN = none
    value_high: F64
    value_sum: F64
    value_squares: F64  # sum of squares
    value_kinds: U8  # NUMERIC | STRING | ARRAY fields in it
    names: tuple[str, ...]  # MQTT topics; names[0] = ""; grows with the Dissector, an index never changes

    def __len__(self) -> int:
        return len(self.packet)


class Dissector:
    """Follows the streams from block to block, in bounded memory.

    `counts`: `bytes_lost` (never captured), `bytes_unread` (captured, but no message was found in them),
    `bytes_repeated` (retransmitted), `out_of_step` (times that a stream lost its place), `streams_forgotten`
    (the table was full), `waiting` (segments that wait for one before them).
    """

    def __init__(self) -> None:
        self._state = new_state()
        self._out = np.empty(4096, MESSAGE)
        self._names: tuple[str, ...] = ("",)

    @property
    def counts(self) -> dict[str, int]:
        """What could not be read, since the start."""
        return dict(zip(COUNTS, self._state.counts.tolist(), strict=False))

    def messages(self, packets: Packets) -> Messages:
        """Messages that these packets complete."""
        block = packets.block
        segments = Segments(
            offset=frozen(block.offset, np.int64),
            length=frozen(block.length, np.uint32),
            time_ns=frozen(block.time_ns, np.int64),
            **{name: getattr(packets, name) for name in Segments._fields[3:]},
        )
        self._out, n = follow(frozen(block.data, np.uint8), segments, self._state, self._out)
        rows = self._out[:n]
        columns = {name: rows[name].copy() for name in (MESSAGE.names or ()) if not name.startswith("topic_")}
        return Messages(time_ns=block.time_ns[rows["packet"]], names=self._known(), **columns)

    def _known(self) -> tuple[str, ...]:
        count = int(self._state.topics[PLACES]["number"])
        if count >= len(self._names):
            rows = self._state.topics[:PLACES]
            rows = np.sort(rows[rows["number"] >= len(self._names)], order="number")
            text = [row["text"][: row["length"]].tobytes().decode("utf-8", "replace") for row in rows]
            self._names += tuple(text)
        return self._names
