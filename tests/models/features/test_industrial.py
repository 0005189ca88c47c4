"""`log_*` and `industrial_*` columns: against plain sets and sums over the messages, and by hand."""

from __future__ import annotations

import json
import math
import os
import struct
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from cellwatch.models.features import messages as ms
from cellwatch.models.features.columns import INDUSTRIAL_COLUMNS, LOG_COLUMNS
from cellwatch.models.features.packets import PROTOCOLS, Packets, address, mac, parse
from cellwatch.models.features.traffic import TrafficWindows
from cellwatch.models.types import PacketBlock, TrafficBatch
from cellwatch.nodes.drivers.capture import read_all

DATA = Path(os.environ.get("CELLWATCH_DATA", Path(__file__).parents[4] / "shared" / "data"))
S = 1_000_000_000
HMI, PLC, SENSOR, BROKER = (f"02:00:00:00:00:{i:02x}" for i in (1, 2, 3, 4))


class Wire:
    """Frames of TCP conversations with running sequence numbers."""

    def __init__(self) -> None:
        self.frames: list[tuple[float, bytes]] = []
        self.sequence: Counter[tuple[str, int, str, int]] = Counter()

    def send(self, at: float, src: str, sport: int, dst: str, dport: int, payload: bytes) -> None:
        flow = (src, sport, dst, dport)
        back = (dst, dport, src, sport)
        ips = b"".join(b"\x0a\0\0" + bytes.fromhex(m[-2:]) for m in (src, dst))
        tcp = struct.pack(
            ">HHIIBBHHH",
            sport,
            dport,
            1000 + self.sequence[flow],
            1000 + self.sequence[back],
            0x50,
            0x18,
            512,
            0,
            0,
        )
        self.sequence[flow] += len(payload)
        ip = struct.pack(">BBHHHBBH", 0x45, 0, 40 + len(payload), 1, 0x4000, 64, 6, 0) + ips
        macs = bytes.fromhex(dst.replace(":", "")) + bytes.fromhex(src.replace(":", ""))
        self.frames.append((at, macs + b"\x08\0" + ip + tcp + payload))

    def modbus(self, at: float, pdu: bytes, *, unit: int = 1, answer: bytes = b"", hmi: str = HMI) -> None:
        for src, sport, dst, dport, body in ((hmi, 40000, PLC, 502, pdu), (PLC, 502, hmi, 40000, answer)):
            if body:
                self.send(at, src, sport, dst, dport, struct.pack(">HHHB", 7, 0, len(body) + 1, unit) + body)

    def publish(self, at: float, topic: str, payload: bytes, src: str = SENSOR, dst: str = BROKER) -> None:
        body = struct.pack(">H", len(topic)) + topic.encode() + payload
        ports = (50000, 1883) if dst == BROKER else (1883, 50000)
        self.send(at, src, ports[0], dst, ports[1], bytes([0x30, len(body)]) + body)

    def packets(self) -> Packets:
        frames = [frame for _, frame in self.frames]
        length = np.array([len(f) for f in frames], dtype=np.uint32)
        offset = np.array([0, *np.cumsum(length)[:-1]], dtype=np.int64)
        time_ns = np.array([round(t * S) for t, _ in self.frames], dtype=np.int64)
        return parse(
            PacketBlock(np.frombuffer(b"".join(frames), np.uint8), offset, length, length, time_ns, 1)
        )


def rows(packets: Packets, window_s: float = 10.0) -> dict[tuple[int, str], dict[str, float]]:
    windows = TrafficWindows(window_s)
    windows.add(packets)
    return {
        (b.window_id, d): dict(zip(b.columns, v.tolist(), strict=True))
        for b in windows.close(None)
        for d, v in zip(b.devices, b.values, strict=True)
    }


def row(wire: Wire, device: str) -> dict[str, float]:
    return rows(wire.packets())[11, device]


def test_modbus_reads_writes_registers_and_exceptions() -> None:
    wire = Wire()
    wire.modbus(100.0, struct.pack(">BHH", 3, 0, 10), answer=bytes([3, 20]) + bytes(20))
    wire.modbus(101.0, struct.pack(">BHH", 3, 5, 10), answer=bytes([3, 20]) + bytes(20))  # 5 of them again
    wire.modbus(102.0, struct.pack(">BHH", 4, 0, 3), answer=bytes([4, 6]) + bytes(6))  # another table
    wire.modbus(103.0, struct.pack(">BHH", 6, 40, 7), answer=struct.pack(">BHH", 6, 40, 7))
    wire.modbus(104.0, struct.pack(">BHH", 3, 900, 1), unit=2, answer=bytes([0x83, 2]))
    for device in (HMI, PLC):
        got = {k.removeprefix("industrial_"): v for k, v in row(wire, device).items()}
        assert got["messages_count"] == 10
        assert got["requests_count"] == 5
        assert got["read_ratio"] == pytest.approx(4 / 5)
        assert got["write_ratio"] == pytest.approx(1 / 5)
        assert got["writes_count"] == 1
        assert got["exceptions_count"] == 1
        assert got["registers_count"] == 15 + 3 + 1 + 1
        assert got["registers-written_count"] == 1
        assert got["units_count"] == 2
        assert got["services_count"] == 3
        shares = np.array([6, 2, 2]) / 10
        assert got["services_entropy"] == pytest.approx(-(shares * np.log2(shares)).sum())
        assert got["new-peers_count"] == 1


def test_a_peer_is_new_once() -> None:
    wire = Wire()
    wire.modbus(100.0, struct.pack(">BHH", 3, 0, 1))
    wire.modbus(111.0, struct.pack(">BHH", 3, 0, 1))
    wire.modbus(112.0, struct.pack(">BHH", 3, 0, 1), hmi="02:00:00:00:00:09")
    found = rows(wire.packets())
    assert found[11, PLC]["industrial_new-peers_count"] == 1
    assert found[12, PLC]["industrial_new-peers_count"] == 1  # only the second client
    assert found[12, HMI]["industrial_new-peers_count"] == 0


def test_a_steady_flow_has_no_interval_entropy() -> None:
    steady, mixed = Wire(), Wire()
    for i in range(9):
        steady.publish(100 + i, "a", b"1")
        mixed.publish(100 + 2.0 ** (i - 6), "a", b"1")  # every gap in an octave of its own
    assert row(steady, SENSOR)["industrial_interval_entropy"] == 0
    assert row(mixed, SENSOR)["industrial_interval_entropy"] == pytest.approx(3)


def test_what_a_sensor_publishes() -> None:
    wire = Wire()
    for i, value in enumerate((20.0, 22.0, 27.0)):
        wire.publish(100 + i, "iiot/temp", json.dumps({"value": value, "unit": "C"}).encode())
        wire.publish(100.5 + 2 * i, "iiot/xyz", json.dumps({"xyz": [-1, 0.5]}).encode())
    wire.publish(101.0, "iiot/temp", b"99", src=BROKER, dst="02:00:00:00:00:08")  # to a subscriber
    got = {k.removeprefix("log_"): v for k, v in row(wire, SENSOR).items()}
    values = np.array([20.0, 22.0, 27.0] + [-1, 0.5] * 3)
    assert got["messages_count"] == 6
    assert got["interval-messages"] == pytest.approx((2 * 1000 + 2 * 2000) / 4)  # ms, of each topic by itself
    assert got["data-ranges_avg"] == pytest.approx(values.mean())
    assert got["data-ranges_std_deviation"] == pytest.approx(values.std())
    assert (got["data-ranges_min"], got["data-ranges_max"]) == (-1, 27)
    assert got["data-types_count"] == 3
    broker = row(wire, BROKER)
    assert broker["log_messages_count"] == 0  # a broker passes on, it does not measure
    assert math.isnan(broker["log_data-ranges_avg"])
    assert broker["industrial_messages_count"] == 7


def test_a_silent_application_is_nan_not_zero() -> None:
    wire = Wire()
    wire.send(100.0, HMI, 40000, PLC, 9999, b"\x01\x02")
    got = row(wire, PLC)
    for name in (*LOG_COLUMNS, *INDUSTRIAL_COLUMNS):
        if name.endswith("_count") and "peers" not in name:
            assert got[name] == 0, name
        elif "peers" not in name:
            assert math.isnan(got[name]), name


def name(packets: Packets, row: int, side: str) -> str:
    hardware = int(getattr(packets, f"{side}_mac")[row])
    hi, lo = (int(getattr(packets, f"{side}_{half}")[row]) for half in ("hi", "lo"))
    return mac(hardware) if hardware else address(hi, lo)


def plain(packets: Packets, window_ns: int) -> dict[tuple[int, str], dict[str, float]]:
    """The definitions of docs/features.md, one message after the other."""
    m = ms.Dissector().messages(packets)
    mine: dict[tuple[int, str], list[int]] = defaultdict(list)
    for i, p in enumerate(m.packet.tolist()):
        for device in {name(packets, p, "src"), name(packets, p, "dst")}:
            mine[int(m.time_ns[i]) // window_ns + 1, device].append(i)
    table = {}
    for key, own in mine.items():
        asked = [i for i in own if m.flags[i] & ms.REQUEST]
        services = Counter(
            (m.protocol[i], m.function[i] if m.function[i] >= 0 else ("", m.kind[i])) for i in own
        )
        share = np.array(list(services.values())) / len(own)
        registers = defaultdict(set)
        for i in asked:
            if m.address[i] >= 0:
                modbus = PROTOCOLS[m.protocol[i]] == "mbtcp"
                space = {1: 1, 5: 1, 15: 1, 2: 2, 4: 4}.get(int(m.function[i]), 0) if modbus else 0
                for r in range(max(1, int(m.count[i]))):
                    place = (m.protocol[i], m.unit[i], space, m.address[i] + r)
                    registers["all"].add(place)
                    if m.flags[i] & ms.WRITE:
                        registers["written"].add(place)
        reads, writes = (sum(bool(m.flags[i] & bit) for i in asked) for bit in (ms.READ, ms.WRITE))
        table[key] = {
            "messages_count": len(own),
            "requests_count": len(asked),
            "services_count": len(services),
            "services_entropy": float(-(share * np.log2(share)).sum()),
            "read_ratio": reads / len(asked) if asked else math.nan,
            "write_ratio": writes / len(asked) if asked else math.nan,
            "writes_count": writes,
            "controls_count": sum(bool(m.flags[i] & ms.CONTROL) for i in asked),
            "exceptions_count": sum(bool(m.flags[i] & ms.EXCEPTION) for i in own),
            "registers_count": len(registers["all"]),
            "registers-written_count": len(registers["written"]),
            "units_count": len({(m.protocol[i], m.unit[i]) for i in own if m.unit[i] >= 0}),
        }
    return table


@pytest.mark.parametrize(
    "folder", ["lemay_modbus", "pcaps/modbus", "pcaps/opcua", "pcaps/dnp3", "pcaps/mqtt"]
)
def test_real_captures_agree_with_the_plain_reference(folder: str) -> None:
    files = sorted(DATA.glob(f"{folder}/*.pcap*"), key=lambda f: f.stat().st_size)[-3:]
    if not files:
        pytest.skip(f"{DATA / folder} is absent; set CELLWATCH_DATA")
    compared = 0
    for file in files:
        block = next(iter(read_all(file)))
        packets = parse(block)
        found = rows(packets)
        for key, want in plain(packets, 10 * S).items():
            got = {name: found[key][f"industrial_{name}"] for name in want}
            assert got == pytest.approx(want, rel=1e-5, nan_ok=True), (file.name, key)
            compared += 1
    assert compared


def test_windows_do_not_depend_on_how_the_capture_is_cut() -> None:
    file = DATA / "lemay_modbus" / "moving_two_files_modbus_6RTU.pcap"
    if not file.exists():
        pytest.skip(f"{file} is absent; set CELLWATCH_DATA")
    block = next(iter(read_all(file)))

    def cut(step: int) -> list[TrafficBatch]:
        windows, out = TrafficWindows(1.0, lists=True), []
        for start in range(0, len(block.time_ns), step):
            part = slice(start, start + step)
            windows.add(
                parse(
                    PacketBlock(
                        block.data, block.offset[part], block.length[part], block.wire_length[part],
                        block.time_ns[part], block.link_type,
                    )
                )
            )  # fmt: skip
            out += windows.close(windows.newest_ns - 2 * S)
        return out + windows.close(None)

    whole, pieces = ([b for b in cut(step) if b.packets] for step in (10**9, 61))
    assert [b.window_id for b in pieces] == [b.window_id for b in whole]
    assert len(whole) > 20
    for batch, want in zip(pieces, whole, strict=True):
        assert batch.devices == want.devices
        np.testing.assert_allclose(batch.values, want.values, rtol=1e-6)
        for column, lists in want.lists.items():
            assert batch.lists[column].to_lists() == lists.to_lists(), column
