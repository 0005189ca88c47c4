"""The tap as a node: going on after a crash, and what it says while it cannot see."""

from __future__ import annotations

import struct
import time
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

FRAME = bytes.fromhex("02000000000202000000000188b5").ljust(60, b"\0")


@pytest.fixture(autouse=True)
def _ros(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF")
    monkeypatch.setenv("CELLWATCH_PARENT", "4711")
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
