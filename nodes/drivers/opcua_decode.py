# asyncua re-exports its generated types without __all__ and narrows int and str to its own NewTypes.
# mypy: disable-error-code="attr-defined,name-defined,arg-type,operator"
"""Publish responses decoded straight from the bytes into numpy arrays (OPC UA Part 6, 5.2).

A DataChangeNotification is a list of records [handle u32][DataValue]. The length of a record follows from
its encoding mask and its scalar type alone, so that a message is read in one of three ways:

1. all records alike: one structured view over the bytes;
2. the same mixture as in an earlier message: the remembered offsets, checked record by record in numpy
   (by induction from the first record the check proves the guess);
3. anything else: one walk over the records. Only values without a fixed length (text, arrays) cost a call
   into asyncua's decoder.

asyncua reads the two picosecond fields in the wrong place (both after the timestamps, where Part 6 table 26
puts each behind its own); here they are read as the standard has them.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import nodeid_from_binary, struct_from_binary, variant_from_binary

from cellwatch.models.types import F64, I64, U8, U32

EPOCH_TICKS = 116_444_736_000_000_000  # 1970-01-01 in 100 ns since 1601 (Part 6, 5.2.2.5)
_SPAN = (2**63 - 1) // 100  # ticks around 1970 that fit nanoseconds in 64 bits: 1677 to 2262

_VALUE, _STATUS, _SOURCE, _SERVER, _SOURCE_PS, _SERVER_PS = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
# Built-in types of fixed length: id -> (bytes, numpy type; "" = not a number). Part 6, table 1.
_SCALARS: dict[int, tuple[int, str]] = {
    0: (0, ""), 1: (1, "u1"), 2: (1, "i1"), 3: (1, "u1"), 4: (2, "<i2"), 5: (2, "<u2"), 6: (4, "<i4"),
    7: (4, "<u4"), 8: (8, "<i8"), 9: (8, "<u8"), 10: (4, "<f4"), 11: (8, "<f8"), 13: (8, ""), 14: (16, ""),
    19: (4, ""),
}  # fmt: skip
_BOOLEAN = 1
_DATA_CHANGE = bytes.fromhex("01002b03")  # i=811, DataChangeNotification_Encoding_DefaultBinary
_STATUS_CHANGE = bytes.fromhex("01003403")  # i=820, StatusChangeNotification_Encoding_DefaultBinary
_PUBLISH_RESPONSE, _REPUBLISH_RESPONSE = 829, 835
_NO_DIAGNOSTICS = bytes.fromhex("00ffffffff000000")  # no DiagnosticInfo, null StringTable, null header
_NO_DIAGNOSTICS_EMPTY = bytes.fromhex("0000000000000000")  # the same with an empty StringTable


class DecodeError(ValueError):
    """A message that does not follow OPC UA Part 6."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Data changes of one message in the order sent; all arrays have shape (n,)."""

    handle: U32  # client handle
    value: F64  # NaN where there is no number
    status: U32
    source_ns: I64  # 0 where not sent
    server_ns: I64

    def __len__(self) -> int:
        return len(self.handle)


@dataclass(frozen=True, slots=True)
class Message:
    """One NotificationMessage.

    `alive_only`: a keep-alive; its sequence number is that of the *next* message.
    """

    subscription_id: int
    sequence: int
    publish_ns: int
    more: bool
    alive_only: bool
    samples: tuple[Samples, ...] = ()
    status_changes: tuple[int, ...] = ()
    other: int = 0  # notifications of other kinds (events), not decoded


def _record_size(key: int) -> int:
    """Bytes of a record with `key` = mask | type << 8; 0 where the length is not fixed."""
    mask, kind = key & 0xFF, key >> 8
    if mask & 0xC0 or (mask & _VALUE and kind not in _SCALARS) or (not mask & _VALUE and kind):
        return 0
    size = 5 + (1 + _SCALARS[kind][0] if mask & _VALUE else 0)
    for bit, length in ((_STATUS, 4), (_SOURCE, 8), (_SOURCE_PS, 2), (_SERVER, 8), (_SERVER_PS, 2)):
        size += length if mask & bit else 0
    return size


SIZE_OF = [_record_size(key) for key in range(1 << 16)]
MAX_LAYOUTS = 256


@functools.cache
def _record_dtype(key: int) -> np.dtype[np.void]:
    """Structured type of a record of fixed length."""
    mask, kind = key & 0xFF, key >> 8
    fields: list[tuple[str, str]] = [("handle", "<u4"), ("mask", "u1")]
    if mask & _VALUE:
        size, name = _SCALARS[kind]
        fields.append(("type", "u1"))
        if size:
            fields.append(("value", name or f"V{size}"))
    for bit, field_name, name in (
        (_STATUS, "status", "<u4"),
        (_SOURCE, "source", "<i8"),
        (_SOURCE_PS, "source_ps", "<u2"),
        (_SERVER, "server", "<i8"),
        (_SERVER_PS, "server_ps", "<u2"),
    ):
        if mask & bit:
            fields.append((field_name, name))
    return np.dtype(fields)


def ticks_to_ns(ticks: Any) -> I64:
    """OPC UA DateTime to nanoseconds since the Unix epoch; 0 (no time) stays 0, far times are clipped.

    >>> ticks_to_ns(np.array([116_444_736_000_000_001, 0])).tolist()
    [100, 0]
    """
    wide = np.asarray(ticks, dtype=np.int64)
    return np.where(
        wide > 0, (np.clip(wide, EPOCH_TICKS - _SPAN, EPOCH_TICKS + _SPAN) - EPOCH_TICKS) * 100, 0
    )


def _numbers(records: Any, key: int) -> F64:
    kind = key >> 8
    if not key & _VALUE or not _SCALARS[kind][1]:
        return np.full(len(records), np.nan)
    raw = records["value"]
    if kind == _BOOLEAN:
        raw = raw != 0
    result: F64 = raw.astype(np.float64)
    return result


def _fields(records: Any, key: int) -> tuple[U32, F64, U32, I64, I64]:
    n = len(records)
    return (
        records["handle"].astype(np.uint32),
        _numbers(records, key),
        records["status"].astype(np.uint32) if key & _STATUS else np.zeros(n, np.uint32),
        ticks_to_ns(records["source"]) if key & _SOURCE else np.zeros(n, np.int64),
        ticks_to_ns(records["server"]) if key & _SERVER else np.zeros(n, np.int64),
    )


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the records of a mixed message begin, and which of them are alike."""

    offsets: I64  # (n,)
    mask_at: I64  # (n,) place of each encoding mask, and what stood there
    masks: U8
    kind_at: I64  # (m,) place of each type byte of records that have a value
    kinds: U8
    groups: tuple[tuple[int, I64, I64], ...]  # (key, rows, offsets of the rows)

    @classmethod
    def of(cls, offsets: I64, keys: I64) -> _Layout:
        """`keys`: mask | type << 8 of each record, negative for records of no fixed length."""
        valued = (keys & _VALUE) > 0
        rows = {int(key): np.flatnonzero(keys == key) for key in np.unique(keys) if key >= 0}
        return cls(
            offsets,
            offsets + 4,
            (keys & 0xFF).astype(np.uint8),
            offsets[valued] + 5,
            (keys[valued] >> 8).astype(np.uint8),
            tuple((key, at, offsets[at]) for key, at in rows.items()),
        )

    def fits(self, raw: U8) -> bool:
        """Say whether a message of the same length is laid out the same.

        Same mask and type at the first record prove where the second begins, and so on.
        """
        return np.array_equal(raw[self.mask_at], self.masks) and np.array_equal(raw[self.kind_at], self.kinds)

    def gather(self, raw: U8) -> Samples:
        """Read each group of like records with one structured take."""
        n = len(self.offsets)
        out = Samples(
            np.zeros(n, np.uint32),
            np.full(n, np.nan),
            np.zeros(n, np.uint32),
            np.zeros(n, np.int64),
            np.zeros(n, np.int64),
        )
        for key, rows, offsets in self.groups:
            kind = _record_dtype(key)
            size = kind.itemsize  # a take of plain bytes is ten times one of structured records
            windows: Any = np.ndarray((len(raw) - size + 1,), f"V{size}", raw, 0, (1,))  # one at every byte
            out.handle[rows], out.value[rows], out.status[rows], out.source_ns[rows], out.server_ns[rows] = (
                _fields(windows[offsets].view(kind), key)
            )
        return out


@dataclass(slots=True)
class Decoder:
    """Decodes publish and republish responses; remembers the layouts it has met."""

    layouts: dict[tuple[int, int], _Layout] = field(default_factory=dict)
    uniform: int = 0  # messages read in each way
    remembered: int = 0
    walked: int = 0

    def publish(self, data: bytes) -> Message:
        """Decode a whole PublishResponse, from its type id on. Raises `DecodeError`."""
        try:
            pos = self._header(data, _PUBLISH_RESPONSE)
            subscription, available = struct.unpack_from("<Ii", data, pos)
            pos += 8 + 4 * max(available, 0)
            return self._message(data, pos + 1, subscription, more=data[pos] != 0)
        except (struct.error, IndexError, ValueError, KeyError, ua.UaError) as error:
            raise DecodeError(f"publish response of {len(data)} bytes: {error}") from error

    def republish(self, data: bytes, subscription: int) -> Message:
        """Decode a whole RepublishResponse, from its type id on. Raises `DecodeError`."""
        try:
            pos = self._header(data, _REPUBLISH_RESPONSE)
            return self._message(data, pos, subscription, more=False)
        except (struct.error, IndexError, ValueError, KeyError, ua.UaError) as error:
            raise DecodeError(f"republish response of {len(data)} bytes: {error}") from error

    @staticmethod
    def _header(data: bytes, expected: int) -> int:
        """Skip type id and ResponseHeader; the common form costs two comparisons."""
        if data[:2] == b"\x01\x00" and data[20:28] in {_NO_DIAGNOSTICS, _NO_DIAGNOSTICS_EMPTY}:
            kind, result = struct.unpack_from("<H", data, 2)[0], struct.unpack_from("<I", data, 16)[0]
            pos = 28
        else:
            buffer = Buffer(data)
            kind = nodeid_from_binary(buffer).Identifier
            result = struct_from_binary(ua.ResponseHeader, buffer).ServiceResult.value
            pos = buffer.cur_pos
        if kind != expected:
            raise DecodeError(f"expected message type i={expected}, got i={kind}")
        ua.StatusCode(result).check()
        return pos

    def _message(self, data: bytes, pos: int, subscription: int, *, more: bool) -> Message:
        sequence, publish_time, count = struct.unpack_from("<Iqi", data, pos)
        pos += 16
        samples: list[Samples] = []
        changes: list[int] = []
        other = 0
        for _ in range(max(count, 0)):
            kind = data[pos : pos + 4]
            if kind[:2] == b"\x01\x00":
                pos += 4
            else:  # another encoding of the same node id
                buffer = Buffer(data, pos)
                node_id = nodeid_from_binary(buffer)
                kind = b"\x01\x00" + struct.pack("<H", node_id.Identifier & 0xFFFF)
                pos = buffer.cur_pos
            if data[pos] != 1:
                raise DecodeError(f"notification without a binary body (encoding {data[pos]})")
            (length,) = struct.unpack_from("<i", data, pos + 1)
            pos += 5
            end = pos + length
            if length < 0 or end > len(data):
                raise DecodeError(f"notification of {length} bytes runs past the message")
            if kind == _DATA_CHANGE:
                samples.append(self.items(data, pos, end))
            elif kind == _STATUS_CHANGE:
                changes.append(struct.unpack_from("<I", data, pos)[0])
            else:
                other += 1
            pos = end
        publish_ns = int(ticks_to_ns(publish_time))
        return Message(
            subscription, sequence, publish_ns, more, count <= 0, tuple(samples), tuple(changes), other
        )

    def items(self, data: bytes, pos: int, end: int) -> Samples:
        """Decode the MonitoredItems of a DataChangeNotification whose body is ``data[pos:end]``."""
        (n,) = struct.unpack_from("<i", data, pos)
        pos += 4
        if n <= 0:
            return Samples(*_fields(np.empty(0, _record_dtype(0x0F | 11 << 8)), 0x0F | 11 << 8))
        if n * 5 > end - pos:
            raise DecodeError(f"{n} notifications do not fit {end - pos} bytes")
        mask = data[pos + 4]
        key = mask | data[pos + 5] << 8 if mask & _VALUE else mask
        size = SIZE_OF[key]
        if size and pos + n * size <= end:
            records = np.frombuffer(data, _record_dtype(key), n, pos)
            if np.all(records["mask"] == mask) and (not mask & _VALUE or np.all(records["type"] == key >> 8)):
                self.uniform += 1
                return Samples(*_fields(records, key))
        return self._mixed(data, pos, end, n)

    def _mixed(self, data: bytes, pos: int, end: int, n: int) -> Samples:
        raw = np.frombuffer(data, np.uint8, end - pos, pos)
        layout = self.layouts.get((n, end - pos))
        if layout is not None and layout.fits(raw):
            self.remembered += 1
            return layout.gather(raw)
        self.walked += 1
        offsets, keys, odd = self._walk(data, pos, end, n)
        layout = _Layout.of(np.array(offsets, dtype=np.int64) - pos, np.array(keys, dtype=np.int64))
        if not odd:
            if len(self.layouts) >= MAX_LAYOUTS:
                self.layouts.clear()
            self.layouts[n, end - pos] = layout
        samples = layout.gather(raw)
        for i, (handle, value, status, source, server) in odd.items():
            samples.handle[i], samples.value[i], samples.status[i] = handle, value, status
            samples.source_ns[i], samples.server_ns[i] = ticks_to_ns(source), ticks_to_ns(server)
        return samples

    @staticmethod
    def _walk(
        data: bytes, pos: int, end: int, n: int
    ) -> tuple[list[int], list[int], dict[int, tuple[int, float, int, int, int]]]:
        offsets: list[int] = []
        keys: list[int] = []
        odd: dict[int, tuple[int, float, int, int, int]] = {}
        size_of = SIZE_OF
        for i in range(n):
            if pos + 5 > end:
                raise DecodeError(f"record {i} of {n} runs past the message")
            mask = data[pos + 4]
            key = mask | data[pos + 5] << 8 if mask & 1 else mask
            size = size_of[key]
            offsets.append(pos)
            if size:
                keys.append(key)
                pos += size
            else:
                keys.append(-1)
                odd[i], pos = _read_odd(data, pos, end)
        if pos > end:
            raise DecodeError("the last record runs past the message")
        return offsets, keys, odd


def _read_odd(data: bytes, pos: int, end: int) -> tuple[tuple[int, float, int, int, int], int]:
    """One record whose value has no fixed length: asyncua reads the value, which is not a number here."""
    handle, mask = struct.unpack_from("<IB", data, pos)
    if mask & 0xC0:
        raise DecodeError(f"unknown encoding mask 0x{mask:02x}")
    pos += 5
    if mask & _VALUE:
        buffer = Buffer(data, pos, end - pos)
        variant_from_binary(buffer)
        pos = buffer.cur_pos
    found = {_STATUS: 0, _SOURCE: 0, _SOURCE_PS: 0, _SERVER: 0, _SERVER_PS: 0}
    for bit, form in (
        (_STATUS, "<I"),
        (_SOURCE, "<q"),
        (_SOURCE_PS, "<H"),
        (_SERVER, "<q"),
        (_SERVER_PS, "<H"),
    ):
        if mask & bit:
            (found[bit],) = struct.unpack_from(form, data, pos)
            pos += struct.calcsize(form)
    return (handle, float("nan"), found[_STATUS], found[_SOURCE], found[_SERVER]), pos
