"""The fast decoder against asyncua's own, value for value, and against bytes written by hand."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary, struct_to_binary
from hypothesis import given, settings
from hypothesis import strategies as st

from cellwatch.nodes.drivers.opcua_decode import DecodeError, Decoder, ticks_to_ns

V = ua.VariantType
INTEGERS = {
    V.SByte: (-(2**7), 2**7 - 1), V.Byte: (0, 2**8 - 1), V.Int16: (-(2**15), 2**15 - 1),
    V.UInt16: (0, 2**16 - 1), V.Int32: (-(2**31), 2**31 - 1), V.UInt32: (0, 2**32 - 1),
    V.Int64: (-(2**63), 2**63 - 1), V.UInt64: (0, 2**64 - 1),
}  # fmt: skip
times = st.datetimes(datetime(1971, 1, 1), datetime(2200, 1, 1)).map(lambda t: t.replace(tzinfo=UTC))  # noqa: DTZ001
statuses = st.sampled_from([0, 0x40920000, 0x80340000, 0x00000480, 0x808A0000, 0xC0000000])
variants = st.one_of(
    *(st.integers(*span).map(lambda v, t=kind: ua.Variant(v, t)) for kind, span in INTEGERS.items()),
    st.booleans().map(lambda v: ua.Variant(v, V.Boolean)),
    st.floats(width=32).map(lambda v: ua.Variant(v, V.Float)),
    st.floats().map(lambda v: ua.Variant(v, V.Double)),
    st.text(max_size=5).map(lambda v: ua.Variant(v, V.String)),
    st.lists(st.floats(), max_size=3).map(lambda v: ua.Variant(v, V.Double)),
    times.map(lambda v: ua.Variant(v, V.DateTime)),
    st.just(ua.Variant(ua.StatusCode(0x80340000), V.StatusCode)),
    st.just(ua.Variant(None, V.Null)),
)
values = st.builds(
    lambda variant, status, source, server: ua.DataValue(
        variant,
        None if status is None else ua.StatusCode(status),
        SourceTimestamp=source,
        ServerTimestamp=server,
    ),
    variants,
    st.none() | statuses,
    st.none() | times,
    st.none() | times,
)


def response(items: list[ua.DataValue], sequence: int = 5) -> bytes:
    answer = ua.PublishResponse()
    answer.Parameters.SubscriptionId = 9
    answer.Parameters.AvailableSequenceNumbers = [4, 5]
    answer.Parameters.NotificationMessage.SequenceNumber = sequence
    answer.Parameters.NotificationMessage.PublishTime = datetime(2025, 1, 1, tzinfo=UTC)
    data = ua.DataChangeNotification()
    data.MonitoredItems = [ua.MonitoredItemNotification(i + 1, v) for i, v in enumerate(items)]
    answer.Parameters.NotificationMessage.NotificationData = [data]
    return struct_to_binary(answer)


def stock(data: bytes) -> list[tuple[int, float, int, int, int]]:
    """What asyncua reads, as plain numbers."""
    answer = struct_from_binary(ua.PublishResponse, Buffer(data))
    rows = []
    for item in answer.Parameters.NotificationMessage.NotificationData[0].MonitoredItems:
        variant, code = item.Value.Value, item.Value.StatusCode
        number = (
            variant is not None and not variant.is_array and isinstance(variant.Value, bool | int | float)
        )
        times_ns = [
            0
            if t is None
            else (t.replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
            for t in (item.Value.SourceTimestamp, item.Value.ServerTimestamp)
        ]
        value = float(variant.Value) if number else math.nan
        rows.append((item.ClientHandle, value, 0 if code is None else code.value, *times_ns))
    return rows


def fast(decoder: Decoder, data: bytes) -> list[tuple[int, float, int, int, int]]:
    message = decoder.publish(data)
    assert (message.subscription_id, message.sequence, message.alive_only) == (9, 5, False)
    (s,) = message.samples
    return list(
        zip(
            s.handle.tolist(), s.value.tolist(), s.status.tolist(), (s.source_ns // 1000).tolist(),
            (s.server_ns // 1000).tolist(), strict=True,
        )
    )  # fmt: skip


def same(a: list[tuple[float, ...]], b: list[tuple[float, ...]]) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(np.array(x[1]), np.array(y[1]))  # NaN equals NaN
        assert (x[0], *x[2:]) == (y[0], *y[2:])


@given(st.lists(values, max_size=12))
@settings(max_examples=80, deadline=None)
def test_any_mixture_reads_as_asyncua_reads_it(items):
    data = response(items)
    decoder = Decoder()
    for _ in range(2):  # the second time from memory
        same(fast(decoder, data), stock(data))


@given(values, st.integers(1, 40), st.data())
@settings(max_examples=40, deadline=None)
def test_records_alike_read_as_asyncua_reads_them(first, n, data):
    kind = first.Value.VariantType
    if kind in INTEGERS:
        more = data.draw(st.lists(st.integers(*INTEGERS[kind]), min_size=n, max_size=n))
    elif kind == V.Double and not first.Value.is_array:
        more = data.draw(st.lists(st.floats(), min_size=n, max_size=n))
    else:
        more = [first.Value.Value] * n
    items = [
        ua.DataValue(
            ua.Variant(v, kind, is_array=first.Value.is_array), first.StatusCode,
            SourceTimestamp=first.SourceTimestamp, ServerTimestamp=first.ServerTimestamp,
        )
        for v in more
    ]  # fmt: skip
    blob = response(items)
    same(fast(Decoder(), blob), stock(blob))


def test_each_of_the_three_ways_is_taken():
    now = datetime(2025, 1, 1, tzinfo=UTC)
    double = ua.DataValue(ua.Variant(1.5, V.Double), SourceTimestamp=now)
    flag = ua.DataValue(ua.Variant(True, V.Boolean), SourceTimestamp=now)
    decoder = Decoder()
    decoder.publish(response([double] * 10))
    assert (decoder.uniform, decoder.remembered, decoder.walked) == (1, 0, 0)
    decoder.publish(response([double, flag] * 5))
    assert (decoder.uniform, decoder.remembered, decoder.walked) == (1, 0, 1)
    decoder.publish(response([double, flag] * 5))
    assert (decoder.uniform, decoder.remembered, decoder.walked) == (1, 1, 1)
    rows = fast(
        decoder, response([flag, double] * 5)
    )  # same length, other order: the memory must not be trusted
    assert (decoder.remembered, decoder.walked) == (1, 2)
    assert [r[1] for r in rows] == [1.0, 1.5] * 5


def test_picoseconds_stand_behind_their_own_timestamp():
    """OPC UA Part 6, table 26; asyncua reads both after the timestamps."""
    ticks = 116_444_736_000_000_000 + 12_345
    record = struct.pack("<IBBdIqHqH", 3, 0x3F, 11, 2.5, 0x40920000, ticks, 77, ticks + 10, 88)
    body = struct.pack("<i", 2) + record * 2 + struct.pack("<i", -1)
    for tail in (b"", struct.pack("<IBBi2sIqHqH", 4, 0x3F, 12, 2, b"ab", 0, ticks, 77, ticks + 10, 88)):
        n = 2 + bool(tail)
        blob = struct.pack("<i", n) + record * 2 + tail + body[-4:]
        samples = Decoder().items(blob, 0, len(blob))
        assert samples.source_ns.tolist() == [1_234_500] * n
        assert samples.server_ns.tolist() == [1_235_500] * n
        assert samples.value.tolist()[:2] == [2.5, 2.5]
        assert samples.status.tolist()[:2] == [0x40920000] * 2


def test_keep_alive_and_status_change():
    answer = ua.PublishResponse()
    answer.Parameters.SubscriptionId = 1
    answer.Parameters.NotificationMessage.SequenceNumber = 8
    message = Decoder().publish(struct_to_binary(answer))
    assert message.alive_only
    assert message.sequence == 8
    change = ua.StatusChangeNotification(Status=ua.StatusCode(0x800A0000))
    answer.Parameters.NotificationMessage.NotificationData = [change]
    message = Decoder().publish(struct_to_binary(answer))
    assert message.status_changes == (0x800A0000,)
    assert not message.alive_only


def test_header_with_diagnostics_and_strings():
    answer = struct_from_binary(
        ua.PublishResponse, Buffer(response([ua.DataValue(ua.Variant(1.0, V.Double))]))
    )
    answer.ResponseHeader.StringTable = ["a", "bc"]
    answer.ResponseHeader.ServiceDiagnostics = ua.DiagnosticInfo(AdditionalInfo="why")
    rows = fast(Decoder(), struct_to_binary(answer))
    assert rows[0][:2] == (1, 1.0)


def test_republish_and_another_message():
    answer = ua.RepublishResponse()
    answer.NotificationMessage.SequenceNumber = 4
    assert Decoder().republish(struct_to_binary(answer), 9).sequence == 4
    with pytest.raises(DecodeError, match="i=835"):
        Decoder().publish(struct_to_binary(answer))


@given(st.integers(0, 400), st.integers(0, 255), st.booleans())
@settings(max_examples=150, deadline=None)
def test_damaged_messages_raise_one_kind_of_error(at, byte, cut):
    now = datetime(2025, 1, 1, tzinfo=UTC)
    items = [
        ua.DataValue(ua.Variant(1.5, V.Double), SourceTimestamp=now),
        ua.DataValue(ua.Variant("text", V.String), SourceTimestamp=now),
        ua.DataValue(ua.Variant(7, V.Int16), SourceTimestamp=now),
    ]
    data = bytearray(response(items))
    at = min(at, len(data) - 1)
    if cut:
        del data[at:]
    else:
        data[at] = byte
    try:
        message = Decoder().publish(bytes(data))
    except DecodeError:
        return
    for samples in message.samples:  # a flipped bit that is still a message
        assert len(samples.value) == len(samples.handle) == len(samples.status)


def test_times_out_of_range_do_not_wrap():
    assert ticks_to_ns(np.array([0, 2**63 - 1, -1, 1])).tolist()[:1] == [0]
    far = int(ticks_to_ns(2**63 - 1))
    assert far > 0
    assert far // 10**9 > datetime(2262, 1, 1, tzinfo=UTC).timestamp()
