"""The tap as a node: going on after a crash, and what it says while it cannot see."""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from cellwatch.models.types import PacketBlock

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("cellwatch_msgs")
from rclpy.parameter import Parameter  # noqa: E402

from cellwatch.nodes.network_tap_node import NetworkTapNode  # noqa: E402
from cellwatch.nodes.ros.node import ERROR, OK  # noqa: E402
from cellwatch.nodes.warm import load  # noqa: E402

FRAME = bytes.fromhex("02000000000202000000000188b5").ljust(60, b"\0")


@pytest.fixture(autouse=True)
def _ros(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF")
    monkeypatch.setenv("CELLWATCH_PARENT", "4711")
    load()  # nothing here waits for machine code
    rclpy.init()
    yield
    rclpy.try_shutdown()


class Tap(NetworkTapNode):
    """Keeps what it publishes and logs."""

    def __init__(self, **parameters: object) -> None:
        super().__init__()
        self.said: list = []
        self.told: list[str] = []
        done = self.set_parameters([Parameter(k, value=v) for k, v in parameters.items()])
        assert all(d.successful for d in done), done

    def say(self, pub, msg) -> bool:
        self.said.append(msg)
        return True

    def news(self, key: str, text: str) -> None:
        if self._news.get(key) != text:
            self.told.append(text)
        super().news(key, text)

    def good_news(self, key: str, text: str) -> None:
        if key in self._news:
            self.told.append(text)
        super().good_news(key, text)

    def crash(self) -> None:
        """End as if killed: nothing more is published, nothing is tidied up."""
        self._halted.set()
        self.thread.join()
        self.active = False
        self.destroy_node()


def until(tap: Tap, what: Callable[[], bool], within_s: float = 10.0) -> None:
    end = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end, (tap.told, tap.health())
        tap.step()
        time.sleep(0.01)


def total(tap: Tap) -> int:
    """Packets that are accounted for: in a window, or too late for theirs."""
    return sum(m.packets + m.late for m in tap.said)


def up(tap: Tap) -> Tap:
    tap.trigger_configure()
    tap.trigger_activate()
    return tap


def capture_file(path: Path, packets: int, gap_ns: int) -> Path:
    out = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 65535, 1)
    for i in range(packets):
        at = 1_700_000_000_000_000_000 + i * gap_ns
        out += struct.pack("<IIII", at // 10**9, at % 10**9, 60, 60) + FRAME
    path.write_bytes(out)
    return path


@pytest.mark.parametrize("speed", [20.0, 0.0])
def test_a_killed_tap_goes_on_in_the_file_where_it_was(speed: float, tmp_path: Path) -> None:
    path = capture_file(tmp_path / "x.pcap", 4000, 5_000_000)  # 20 s
    settings = {
        "source": str(path),
        "speed": speed,
        "window_s": 0.1,
        "lateness_s": 0.0,
        "place_file": str(tmp_path / "tap.json"),
    }
    first = up(Tap(**settings))
    until(first, lambda: len(first.said) >= (3 if speed else 1))
    first.crash()
    before = total(first)
    assert before > 0
    assert before < 4000 or not speed
    second = up(Tap(**settings))
    until(second, lambda: second.ended)
    second.end()
    assert before + total(second) == 4000
    assert not (tmp_path / "tap.json").exists()  # the end was no crash: the next one begins anew
    third = up(Tap(**settings))
    assert third.place == 0
    third.end()
    second.destroy_node()
    third.destroy_node()


def test_a_place_of_another_run_or_capture_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = capture_file(tmp_path / "x.pcap", 100, 1000)
    place = tmp_path / "tap.json"
    for text in ('{"key": ["4711", "other.pcap"], "packets": 50}', "{", "[]", '{"packets": 1}', ""):
        place.write_text(text)
        tap = up(Tap(source=str(path), speed=0.0, place_file=str(place)))
        assert tap.place == 0
        tap.end()
        tap.destroy_node()
    place.write_text(f'{{"key": ["4711", "{path}"], "packets": 50}}')
    monkeypatch.setenv("CELLWATCH_PARENT", "4712")
    tap = up(Tap(source=str(path), speed=0.0, place_file=str(place)))
    assert tap.place == 0
    tap.end()
    tap.destroy_node()


class Wire:
    """A live source that a test drives."""

    name, exhausted, dropped, frozen, damage = "eth9", False, 0, 0, ""

    def read(self, timeout_s: float = 0.0) -> list[PacketBlock]:
        time.sleep(0.01)
        if self.damage:
            return []
        data = np.frombuffer(FRAME + bytes(128), np.uint8)
        size = np.array([len(FRAME)], np.uint32)
        now = np.array([time.time_ns()])
        return [PacketBlock(data, np.zeros(1, np.int64), size, size, now, 1)]

    def close(self) -> None:
        pass


def test_a_blind_tap_says_so_once_and_publishes_no_empty_windows() -> None:
    tap = Tap(window_s=0.1, lateness_s=0.0)
    tap.trigger_configure()
    wire = tap.capture = Wire()
    tap.trigger_activate()
    until(tap, lambda: len(tap.said) >= 3)
    assert tap.health()[0] == OK
    assert tap.told == []
    wire.damage = "eth9: the interface is gone; capture goes on when it is back"
    until(tap, lambda: bool(tap.told))
    time.sleep(0.1)
    tap.step()
    blind = len(tap.said)
    for _ in range(4):
        time.sleep(0.1)
        tap.step()
    assert len(tap.said) == blind
    assert tap.health()[:2] == (ERROR, wire.damage)
    assert tap.told == [wire.damage]
    wire.damage = ""
    until(tap, lambda: len(tap.said) >= blind + 3)
    assert tap.health()[0] == OK
    assert tap.told[1:] == [": capturing again"]
    assert all(m.packets > 3 for m in tap.said)  # about ten in a window: none that was seen in part
    tap.end()
    tap.destroy_node()


def test_a_link_type_nobody_knows_is_said_and_the_rest_is_read(tmp_path: Path) -> None:
    path = capture_file(tmp_path / "x.pcap", 100, 1000)
    raw = path.read_bytes()
    path.write_bytes(raw[:20] + struct.pack("<I", 147) + raw[24:] + raw)  # USER0, then Ethernet
    tap = up(Tap(source=str(path), speed=0.0))
    until(tap, lambda: tap.ended)
    tap.step()
    assert sum(m.packets for m in tap.said) == 100
    level, text, counters = tap.health()
    assert level == ERROR
    assert "link type 147" in text
    assert counters["unread"] == 100
    tap.end()
    tap.destroy_node()


def test_packets_that_lie_unread_are_not_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader was held up: what waits in the pipe came in time, and no window may say that it did not."""
    now = time.time_ns()
    stamps = np.linspace(now - 3 * 10**9, now - 10**9, 2000).astype(np.int64).reshape(20, 100)

    offset, length = np.arange(100, dtype=np.int64) * 60, np.full(100, 60, np.uint32)
    data = np.frombuffer(FRAME * 100, np.uint8)
    blocks = [PacketBlock(data, offset, length, length, at, 1) for at in stamps]

    class Backlog(Wire):
        def read(self, timeout_s: float) -> list[PacketBlock]:
            return [blocks.pop(0)] if blocks else []

    monkeypatch.setattr("cellwatch.nodes.network_tap_node.open_source", lambda *_, **__: Backlog())
    tap = up(Tap(source="eth9", window_s=0.1, lateness_s=0.0))
    until(tap, lambda: bool(tap.said) and tap.said[-1].packets == 0)  # by the clock, once all is read
    assert sum(m.late for m in tap.said) == 0
    assert total(tap) >= 1900  # all but the first window, which is seen in part
    tap.crash()


def test_the_place_counts_what_was_unread_and_what_the_queue_lost(tmp_path: Path) -> None:
    path, place = tmp_path / "x.pcap", tmp_path / "tap.json"
    raw = capture_file(path, 4000, 5_000_000).read_bytes()  # 20 s
    head, size = raw[:24], 200 * 76
    parts = [raw[24 + at : 24 + at + size] for at in range(0, len(raw) - 24, size)]
    links = [head, head[:20] + struct.pack("<I", 147)]  # by turns Ethernet and USER0
    path.write_bytes(b"".join(links[i % 2] + part for i, part in enumerate(parts)))
    settings = {
        "source": str(path),
        "speed": 20.0,
        "window_s": 0.1,
        "lateness_s": 0.0,
        "place_file": str(place),
    }
    first = Tap(**settings)
    first.trigger_configure()
    first.ready = deque(maxlen=1)
    closed: list = []
    close = first.windows.close
    first.windows.close = lambda until: closed.extend(found := close(until)) or found
    first.trigger_activate()
    while not (first.overflow and first.unread):
        time.sleep(0.01)
    until(first, lambda: bool(first.said))
    first.crash()
    second = up(Tap(**settings))
    begun = second.place
    until(second, lambda: second.ended)
    second.end()
    told = sum(b.packets for b in closed if b.window_id <= first.said[-1].window_id)
    assert total(first) < told  # some were lost in the queue
    assert begun // 400 * 200 + min(begun % 400, 200) == told  # Ethernet packets before the place
    assert told + total(second) == 2000
    second.destroy_node()


def test_a_halted_tap_publishes_no_part_of_a_window() -> None:
    tap = Tap(window_s=1.0, lateness_s=0.0)
    tap.trigger_configure()
    tap.capture = Wire()
    tap.trigger_activate()
    until(tap, lambda: len(tap.said) >= 1)
    tap.end()
    assert all(m.packets > 30 for m in tap.said)  # about 90 in a window
    assert time.time_ns() >= max(m.window_id for m in tap.said) * 10**9
    tap.destroy_node()


def test_the_tap_sees_on_after_the_clock_is_set_back() -> None:
    class Shifted(Wire):
        shift_ns = 0

        def read(self, timeout_s: float = 0.0) -> list[PacketBlock]:
            (block,) = super().read(timeout_s)
            block.time_ns[:] -= self.shift_ns
            return [block]

    tap = Tap(window_s=0.1, lateness_s=0.0)
    tap.trigger_configure()
    wire = tap.capture = Shifted()
    tap.trigger_activate()
    until(tap, lambda: len(tap.said) >= 3)
    wire.shift_ns = 3600 * 10**9
    before = tap.said[-1].window_id
    until(tap, lambda: sum(m.window_id < before - 35_000 for m in tap.said) >= 3)
    assert tap.health()[2]["clock_steps"] == 1
    old = [m for m in tap.said if m.window_id < before - 35_000]
    assert sum(m.packets for m in old) > 3 * len(old)  # it sees on; a stall of the machine may thin out one
    tap.end()
    tap.destroy_node()


def test_a_stream_that_has_not_begun_is_not_silence() -> None:
    """A window without packets, before anybody sends, would make every device of the profile look dead."""
    tap = Tap(window_s=0.1, lateness_s=0.0)
    tap.trigger_configure()
    wire = tap.capture = Wire()
    wire.read = lambda timeout_s=0.0: time.sleep(0.01) or []
    tap.trigger_activate()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        tap.step()
        time.sleep(0.01)
    assert tap.said == []
    del wire.read
    until(tap, lambda: len(tap.said) >= 3)
    assert all(m.packets for m in tap.said)
    tap.crash()
