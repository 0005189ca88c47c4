"""Messages out of streams: cut anywhere, out of order, repeated, lost, met in the middle."""

from __future__ import annotations

import json
import struct
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellwatch.models.features import messages as ms
from cellwatch.models.features.messages import Dissector, Messages
from cellwatch.models.features.packets import PROTOCOLS, parse
from cellwatch.models.types import PacketBlock

MS = 1_000_000


def frame(payload: bytes, seq: int, sport: int = 40000, dport: int = 502, flags: int = 0x18) -> bytes:
    tcp = struct.pack(">HHIIBBHHH", sport, dport, seq % 2**32, 9, 5 << 4, flags, 4096, 0, 0) + payload
    ip = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 1, 0x4000, 64, 6, 0, b"\x0a\0\0\1", b"\x0a\0\0\2"
    )
    return bytes.fromhex("0200000000020200000000010800") + ip + tcp


def block(frames: list[bytes], step_ns: int = MS, cut: int = 0, start_ns: int = 0) -> PacketBlock:
    """Frames one step apart; `cut`: bytes that the capture left away at the end of each."""
    size = np.array([len(f) for f in frames], dtype=np.uint32)
    kept = np.maximum(size.astype(np.int64) - cut, 54).astype(np.uint32) if cut else size
    data = np.frombuffer(b"".join(f[:k] for f, k in zip(frames, kept.tolist(), strict=True)), dtype=np.uint8)
    offset = np.concatenate([[0], np.cumsum(kept)[:-1]]).astype(np.int64)
    time_ns = start_ns + np.arange(len(frames), dtype=np.int64) * step_ns
    return PacketBlock(data, offset, kept, size, time_ns, 1)


def read(frames: list[bytes], dissector: Dissector | None = None, **how: int) -> Messages:
    return (dissector or Dissector()).messages(parse(block(frames, **how)))


def stream(parts: list[bytes], dport: int, seq: int = 1000) -> list[bytes]:
    frames = []
    for part in parts:
        frames.append(frame(part, seq, dport=dport))
        seq += len(part)
    return frames


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


def opcua(node: int, size: int = 60, status: int = 0, chunk: bytes = b"F") -> bytes:
    body = (
        struct.pack("<IIII", 1, 1, 5, 6) + struct.pack("<BBH", 1, 0, node) + struct.pack("<qII", 0, 7, status)
    )
    body += bytes(max(0, size - 8 - len(body)))
    return b"MSG" + chunk + struct.pack("<I", 8 + len(body)) + body


def modbus(code: int, address: int = 4, count: int = 2, tid: int = 1) -> bytes:
    return struct.pack(">HHHBBHH", tid, 0, 6, 17, code, address, count)


def publish(topic: bytes, payload: bytes, qos: int = 0) -> bytes:
    body = struct.pack(">H", len(topic)) + topic + (b"\0\1" if qos else b"") + payload
    length, out = len(body), b""
    while True:
        out += bytes([length % 128 | (128 if length > 127 else 0)])
        length //= 128
        if not length:
            return bytes([0x30 | qos << 1]) + out + body


REQUESTS = {
    4840: [opcua(631), opcua(673, 3000), opcua(826), opcua(712, 70)],
    502: [modbus(3), modbus(16), modbus(6, 9), modbus(1)],
    1883: [
        publish(b"cell/t", b'{"v": 1}'),
        b"\xc0\0",
        publish(b"cell/u", b"[1,2]" * 400, 1),
        b"\xe0\0",
    ],
}


@pytest.mark.parametrize("port", REQUESTS)
@settings(max_examples=40, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(0, 4000), max_size=12), split=st.integers(0, 12))
def test_segmentation_and_blocks_change_nothing(port: int, cuts: list[int], split: int) -> None:
    whole = read(stream(REQUESTS[port], port))
    assert len(whole) == 4
    frames = stream(chunks(b"".join(REQUESTS[port]), [len(REQUESTS[port][0]), *cuts]), port)
    dissector = Dissector()
    parts = [read(part, dissector) for part in (frames[:split], frames[split:]) if part]
    for name in ("protocol", "function", "kind", "flags", "unit", "address", "count", "size", "qos"):
        assert np.concatenate([getattr(p, name) for p in parts]).tolist() == getattr(whole, name).tolist(), (
            name
        )
    assert dissector.counts["bytes_unread"] == dissector.counts["bytes_lost"] == 0


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.permutations(range(8)), st.lists(st.integers(0, 7), max_size=6))
def test_order_and_repetition_change_nothing(order: list[int], again: list[int]) -> None:
    data = opcua(631, 900) + opcua(634, 700) + opcua(826, 800)
    parts = [data[i * 300 : (i + 1) * 300] for i in range(8)]
    frames = stream(parts, 4840, seq=2**32 - 700)
    first = frame(b"", 2**32 - 701, dport=4840, flags=2)
    opening = frame(b"HELF" + struct.pack("<I", 32) + bytes(24), 2**32 - 700 - 32, dport=4840)
    first = frame(b"", 2**32 - 700 - 33, dport=4840, flags=2)
    got = read([first, opening, *(frames[i] for i in (*order[:3], *again, *order[3:]))])
    assert got.function.tolist() == [-1, 631, 634, 826]


def test_bytes_lost_inside_a_message_leave_the_stream_in_step() -> None:
    parts = chunks(opcua(673, 3000) + opcua(631), [1000, 1400, 3000])
    frames = stream(parts, 4840)
    del frames[1]
    dissector = Dissector()
    got = read([*frames, frame(opcua(826), 1000 + 3060, dport=4840)], dissector, step_ns=600 * MS)
    assert got.function.tolist() == [673, 631, 826]
    assert dissector.counts["bytes_lost"] == 400
    assert dissector.counts["out_of_step"] == 0


def test_a_lost_header_costs_its_message_and_no_other() -> None:
    frames = stream([opcua(631, 500)[:200], opcua(631, 500)[200:], opcua(673, 800), opcua(826)], 4840)
    dissector = Dissector()
    got = read([frames[0], frames[1], frame(b"", 0, dport=1), frames[3]], dissector, step_ns=600 * MS)
    assert got.function.tolist() == [631]
    later = read([frame(opcua(847), 1000 + 500 + 800 + 60, dport=4840)], dissector, start_ns=9_000 * MS)
    assert later.function.tolist() == [826, 847]
    assert dissector.counts["out_of_step"] == 1
    assert dissector.counts["bytes_lost"] == 800
    assert dissector.counts["waiting"] == 0


@pytest.mark.parametrize(
    ("port", "name"), [(4840, "opcua"), (502, "mbtcp"), (1883, "mqtt"), (50123, "opcua")]
)
def test_met_in_the_middle(port: int, name: str) -> None:
    sent = REQUESTS[4840 if port == 50123 else port]
    data = b"".join(sent)
    got = read(stream([data[len(sent[0]) - 5 : len(sent[0])], *sent[1:]], port))
    assert [PROTOCOLS[p] for p in got.protocol] == [name] * 3


@pytest.mark.parametrize("seed", range(30))
def test_numbers_in_a_payload_are_no_messages(seed: int) -> None:
    # ASCII digits are the first byte of a PUBLISH, and what follows them a plausible length.
    rng = np.random.default_rng(seed)
    sent = [
        publish(b"cell/t", json.dumps([round(v, 3) for v in rng.uniform(-9, 99, 600 + seed)]).encode())
        for _ in range(4)
    ]
    frames = stream([part[i : i + 1448] for part in sent for i in range(0, len(part), 1448)], 1883)
    dissector = Dissector()
    got = read(frames[1:], dissector)
    assert got.size.tolist() == [len(part) for part in sent[1:]]
    assert {got.names[i] for i in got.topic.tolist()} == {"cell/t"}
    # The same after lost bytes, with the messages end to end.
    data = b"".join(sent)
    frames = stream([data[i : i + 1448] for i in range(0, len(data), 1448)], 1883)
    del frames[len(sent[0]) // 1448]
    lossy = read(frames, step_ns=600 * MS)
    assert set(lossy.size.tolist()) <= {len(part) for part in sent}
    assert len(lossy) >= 3


def test_a_new_connection_on_the_same_ports_begins_anew() -> None:
    half = frame(opcua(631, 3000)[:1000], 5000, dport=4840)
    again = frame(b"", 77, dport=4840, flags=2)
    assert read([half, again, frame(opcua(826), 78, dport=4840)]).function.tolist() == [826]
    far = frame(opcua(847), 3_000_000_000, dport=4840)
    assert read([half, far]).function.tolist() == [847]


def test_a_short_snap_length_still_names_the_function() -> None:
    got = read([frame(opcua(673, 1000), 1000, dport=4840), frame(opcua(631, 900), 2000, dport=4840)], cut=800)
    assert got.function.tolist() == [673, 631]


def test_chunks_name_the_service_with_the_last() -> None:
    later = b"MSGC" + struct.pack("<IIIII", 60, 1, 1, 7, 6) + bytes(36)
    last = b"MSGF" + struct.pack("<IIIII", 60, 1, 1, 8, 6) + bytes(36)
    abort = b"MSGA" + struct.pack("<IIIIII", 28, 1, 1, 8, 6, 0x80820000)
    got = read(stream([opcua(634, chunk=b"C"), later, last, opcua(829), opcua(634, chunk=b"C"), abort], 4840))
    assert got.function.tolist() == [-1, -1, 634, 829, -1, 634]
    assert got.flags[-1] & ms.EXCEPTION
    assert got.status[-1] == 0x80820000


def test_opcua_faults() -> None:
    got = read([frame(opcua(397, status=0x80340000), 1, sport=4840, dport=40000)])
    assert got.function.tolist() == [397]
    assert got.flags.tolist() == [ms.RESPONSE | ms.EXCEPTION]
    assert got.status.tolist() == [0x80340000]


def test_modbus_23_names_the_registers_that_it_writes() -> None:
    both = struct.pack(">HHHBBHHHHB4s", 1, 0, 15, 17, 23, 0, 100, 200, 2, 4, b"abcd")
    cut = struct.pack(">HHHBBHH", 1, 0, 6, 17, 23, 0, 100)
    got = read([frame(both, 1), frame(cut, 1 + len(both))])
    assert got.address.tolist() == [200, -1]
    assert got.count.tolist() == [2, 0]
    assert got.flags.tolist() == [ms.REQUEST | ms.READ | ms.WRITE] * 2


def test_modbus_registers_and_exceptions() -> None:
    refusal = struct.pack(">HHHBBB", 1, 0, 3, 17, 0x86, 2)
    answer = struct.pack(">HHHBBB4s", 1, 0, 7, 17, 3, 4, b"abcd")
    got = read([frame(modbus(3, 100, 2), 1), frame(modbus(16, 7, 3), 13), frame(answer, 1, 502, 40000),
                frame(refusal, 14, 502, 40000)])  # fmt: skip
    assert got.function.tolist() == [3, 16, 3, 6]
    assert got.unit.tolist() == [17] * 4
    assert got.address.tolist() == [100, 7, -1, -1]
    assert got.count.tolist() == [2, 3, 0, 0]
    assert got.status.tolist() == [0, 0, 0, 2]
    assert got.flags.tolist() == [ms.REQUEST | ms.READ, ms.REQUEST | ms.WRITE, ms.RESPONSE | ms.READ,
                                  ms.RESPONSE | ms.EXCEPTION | ms.WRITE]  # fmt: skip


@pytest.mark.parametrize(
    ("payload", "kinds", "numbers"),
    [
        (b'{"t": 21.5, "name": "x", "on": true}', ms.NUMERIC | ms.STRING, [21.5]),
        (b'{"a": [1, -2.5e1, 3], "b": {"c": 7}}', ms.ARRAY | ms.NUMERIC, [1, -25, 3, 7]),
        (b"1023", ms.NUMERIC, [1023]),
        (b'"hello \\" 5"', ms.STRING, []),
        (b"on", ms.STRING, []),
        (b"\xff\xd8\xff", 0, []),
        (b"", 0, []),
    ],
)
@pytest.mark.parametrize("qos", [0, 1])
def test_mqtt_values(payload: bytes, kinds: int, numbers: list[float], qos: int) -> None:
    got = read([frame(publish(b"cell/x", payload, qos), 1, dport=1883)])
    assert got.names[got.topic[0]] == "cell/x"
    assert got.qos.tolist() == [qos]
    assert got.value_kinds.tolist() == [kinds]
    assert got.value_count.tolist() == [len(numbers)]
    if numbers:
        assert got.value_low.tolist() == [min(numbers)]
        assert got.value_high.tolist() == [max(numbers)]
        assert got.value_sum.tolist() == pytest.approx([sum(numbers)])
        assert got.value_squares.tolist() == pytest.approx([sum(v * v for v in numbers)])
    else:
        assert np.isnan(got.value_low[0])


@pytest.mark.parametrize("form", ["%.3f", "%.3e", "%d"])
@settings(max_examples=40, deadline=None, derandomize=True)
@given(blanks=st.integers(0, 11), cut=st.integers(20, 4000))
def test_a_number_cut_where_reading_ends_is_left_out(form: str, blanks: int, cut: int) -> None:
    text = "[" + " " * blanks + ",".join(form % v for v in np.linspace(200, 250, 1200)) + "]"
    sent = publish(b"cell/t", text.encode())
    head = sent[:2048].decode("latin-1")
    numbers = json.loads(head.partition("cell/t")[2].rpartition(",")[0] + "]")
    for got in (read([frame(sent, 1, dport=1883)]), read(stream(chunks(sent, [cut]), 1883))):
        assert got.size.tolist() == [len(sent)]
        assert got.value_count.tolist() == [len(numbers)]
        assert (got.value_low[0], got.value_high[0]) == (numbers[0], numbers[-1])
        assert got.value_sum[0] == pytest.approx(sum(numbers))


@pytest.mark.parametrize("blanks", range(24))
def test_a_name_cut_where_reading_ends_is_no_text(blanks: int) -> None:
    text = "[" + " " * blanks + json.dumps([{"x": 1.5, "speed": 200} for _ in range(200)])[1:]
    got = read([frame(publish(b"cell/t", text.encode()), 1, dport=1883)])
    assert got.value_kinds.tolist() == [ms.ARRAY | ms.NUMERIC]


VALUES = st.one_of(
    st.floats(-1e9, 1e9),
    st.integers(-(10**9), 10**9),
    st.text(max_size=8),
    st.lists(st.floats(-1e6, 1e6), max_size=4),
)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=6))
def test_json_numbers_are_those_of_a_json_parser(fields_: dict[str, object]) -> None:
    got = read([frame(publish(b"cell/x", json.dumps(fields_).encode()), 1, dport=1883)])
    flat = [
        n for v in fields_.values() for n in (v if isinstance(v, list) else [v]) if not isinstance(n, str)
    ]
    kinds = sum({ms.ARRAY if isinstance(v, list) else ms.STRING if isinstance(v, str) else ms.NUMERIC
                 for v in fields_.values()})  # fmt: skip
    assert got.value_kinds.tolist() == [kinds]
    assert got.value_count.tolist() == [len(flat)]
    if flat:
        assert got.value_low[0] == pytest.approx(min(flat), rel=1e-12, abs=1e-280)
        assert got.value_high[0] == pytest.approx(max(flat), rel=1e-12, abs=1e-280)


def test_topics_are_numbered_once_and_the_table_has_an_end() -> None:
    topics = [b"t/%d" % i for i in range(5000)]
    dissector = Dissector()
    sent = stream([publish(t, b"1") for t in topics], 1883)
    got = read(sent, dissector)
    named = got.topic > 0
    assert 4000 < named.sum() < 5000
    assert [got.names[i] for i in got.topic[named].tolist()] == [t.decode() for t in topics[: named.sum()]]
    again = read([frame(publish(topics[3], b"1"), 9, sport=40001, dport=1883)], dissector)
    assert again.names[again.topic[0]] == "t/3"


def test_the_table_of_streams_forgets_and_counts() -> None:
    frames = [frame(modbus(3), 1, sport=1024 + i) for i in range(20_000)]
    dissector = Dissector()
    assert len(read(frames, dissector)) == 20_000
    assert dissector.counts["streams_forgotten"] > 10_000


def test_segments_that_wait_are_few() -> None:
    frames = [f for i in range(500) for f in (frame(opcua(631, 500)[:100], 1, sport=1024 + i, dport=4840),
                                              frame(b"x" * 50, 900, sport=1024 + i, dport=4840))]  # fmt: skip
    dissector = Dissector()
    # 64 have a place; the other streams give up the bytes in between, which were the rest of their message.
    assert read(frames, dissector, step_ns=1000).function.tolist() == [631] * (500 - 64)
    assert dissector.counts["waiting"] == 64
    # Those that have waited for long make room.
    read([frame(opcua(631)[:30], 5, sport=9, dport=4840), frame(b"y", 99, sport=9, dport=4840)], dissector,
         start_ns=10**12)  # fmt: skip
    assert dissector.counts["waiting"] == 1


def test_nothing_yields_nothing() -> None:
    empty = PacketBlock(*(np.zeros(0, t) for t in (np.uint8, np.int64, np.uint32, np.uint32, np.int64)), 1)
    assert len(Dissector().messages(parse(empty))) == 0


def test_counts_name_what_was_not_read() -> None:
    dissector = Dissector()
    read(stream([modbus(3), b"\xffnot modbus at all", modbus(1)], 502), dissector)
    assert dissector.counts == {
        "bytes_lost": 0,
        "bytes_unread": 18,
        "bytes_repeated": 0,
        "out_of_step": 1,
        "streams_forgotten": 0,
        "waiting": 0,
    }
