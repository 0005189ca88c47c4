"""Network tap: packets of an interface, a capture file or a FIFO, summed up per device and window.

Publishes   traffic (TrafficBatch)
Parameters  source, speed, window_s, lateness_s, devices, promiscuous, snap, ring_mib, place_file (`Params`)
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, replace
from pathlib import Path

from cellwatch_msgs.msg import TrafficBatch

from cellwatch.models.features.packets import parse
from cellwatch.models.features.traffic import SET_BACK_NS, TrafficWindows
from cellwatch.nodes.drivers.capture import (
    CaptureError,
    LiveCapture,
    LiveSettings,
    PacedCapture,
    open_source,
)
from cellwatch.nodes.ros import convert
from cellwatch.nodes.ros.node import ERROR, OK, WARN, CellNode, run
from cellwatch.nodes.ros.params import param
from cellwatch.nodes.warm import load


@dataclass(frozen=True)
class Params:
    source: str = param("", "interface, capture file or FIFO; empty: no tap")
    speed: float = param(
        1.0, "rate of a capture file against its own time; 0: as fast as it goes", low=0.0, high=1e6
    )
    window_s: float = param(1.0, "window length", unit="s", low=0.1, high=60.0)
    lateness_s: float = param(0.2, "how long a window waits for late packets", unit="s", low=0.0, high=10.0)
    devices: str = param("{}", "JSON object: MAC address -> device name")
    promiscuous: bool = param(True, "an interface also shows frames to other stations")
    snap: int = param(262_144, "how much of a packet an interface keeps", unit="B", low=64, high=262_144)
    ring_mib: int = param(32, "ring between the kernel and an interface's tap", unit="MiB", low=1, high=1024)
    place_file: str = param(
        "", "where the place in a capture file is noted, to go on from after a crash; empty: nowhere"
    )


class NetworkTapNode(CellNode):
    NAME = "network_tap_node"
    PARAMS = Params

    def build(self) -> None:
        p = self.params
        if p.source:
            load()  # no packet waits for machine code
        self.windows = TrafficWindows(p.window_s, json.loads(p.devices))
        self.place = self._passed = self._noted()
        live = LiveSettings(promiscuous=p.promiscuous, snap=p.snap, blocks=p.ring_mib)
        self.capture = open_source(p.source, speed=p.speed, skip=self.place, live=live) if p.source else None
        self.is_file = isinstance(self.capture, PacedCapture)
        if self.place:
            self.get_logger().info(f"{p.source}: going on behind packet {self.place}")
        self.pub = self.publisher(TrafficBatch, "traffic")
        self.ready: deque = deque(maxlen=64)  # batches, and how far into the capture each goes
        self.lock = threading.Lock()
        self.packets = self.malformed = self.late = self.overflow = self.unread = 0
        self.ended = False
        self.trouble = self.strange = ""
        self._unread: Counter[int] = Counter()  # by window, beyond those that are closed
        self._halted = threading.Event()
        self._drops_told = 0

    def start(self) -> None:
        self._halted.clear()
        if self.capture is not None:
            # On an interface silence is news at once; a stream begins with its first packet.
            self.since_ns = time.time_ns() if isinstance(self.capture, LiveCapture) else 0
            self.thread = threading.Thread(target=self._read, name="tap", daemon=True)
            self.thread.start()

    def _read(self) -> None:
        """Packets to windows, in a thread of its own: a capture at top speed must not stall the node."""
        lateness = int(self.params.lateness_s * 1e9)
        behind = 0
        try:
            while not self._halted.is_set():
                now = time.time_ns()
                blocks = self.capture.read(timeout_s=0.05)
                for block in blocks:
                    if not self.since_ns and not self.is_file:
                        # A stream that was running already is seen in part at first; a file begins with us.
                        self.since_ns = int(block.time_ns[0])
                    self._take(block)
                if self.capture.exhausted:
                    break
                if not self.is_file:
                    self.trouble = self.capture.damage
                    if self.trouble:  # blind: no window may say that nothing came
                        self.since_ns = time.time_ns()
                if blocks:
                    newest = self.windows.newest_ns
                    # Far behind ours: another clock, or an old capture through a FIFO. It goes on as it is.
                    far = newest and now - newest > self.windows.window_ns + SET_BACK_NS
                    behind = now - newest if far else 0
                    now = min(now, newest)  # more may lie unread: the clock does not say yet what came
                else:
                    now -= behind
                if self.since_ns or self.is_file:
                    self._stage(self.windows.close(now - lateness))
        except (CaptureError, OSError) as error:
            self.trouble = str(error)
        if self.capture.exhausted:  # else the last window is seen in part only
            self._stage(self.windows.close(None))
        self.trouble = self.trouble or self.capture.damage
        self.ended = True

    def _take(self, block: object) -> None:
        try:
            packets = parse(block)
        except ValueError as error:  # a link type nobody knows; the rest of the capture may be fine
            self.strange = f"{self.params.source}: {error}"
            self.unread += len(block.time_ns)
            self._unread.update((block.time_ns // self.windows.window_ns + 1).tolist())
            return
        steps = self.windows.clock_steps
        self.windows.add(packets)
        if self.windows.clock_steps > steps:
            self.since_ns = min(self.since_ns, int(block.time_ns.min()))

    def _stage(self, batches: list) -> None:
        with self.lock:
            for batch in batches:
                unread = [window for window in self._unread if window <= batch.window_id]
                self._passed += batch.packets + batch.late + sum(map(self._unread.pop, unread))
                if batch.start_ns < self.since_ns:
                    continue  # seen in part only
                self.overflow += len(self.ready) == self.ready.maxlen
                self.ready.append((batch, self._passed))

    def step(self) -> None:
        with self.lock:
            batches = list(self.ready)
            self.ready.clear()
        for batch, place in batches:
            self.packets += batch.packets
            self.malformed += batch.malformed
            self.late += batch.late
            dropped = getattr(self.capture, "dropped", 0) + self.overflow
            news = dropped - self._drops_told
            self._drops_told = dropped
            self.say(self.pub, convert.traffic_msg(replace(batch, dropped=news)))
            self.place = place
        if batches:
            self._note()
        trouble = self.trouble or self.strange
        if trouble:
            self.news("capture", trouble)
        else:
            self.good_news("capture", f"{self.params.source}: capturing again")

    def _key(self) -> list[str]:
        """The run of the cell and its capture; the parent outlives the nodes that it restarts."""
        return [os.environ.get("CELLWATCH_PARENT", ""), self.params.source]

    def _noted(self) -> int:
        """Packets of the capture file that are published already, by a tap of this run that was killed."""
        try:
            noted = json.loads(Path(self.params.place_file).read_text(encoding="utf-8"))
            return int(noted["packets"]) if noted["key"] == self._key() else 0
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def _note(self) -> None:
        if not self.is_file or not self.params.place_file:
            return
        path = Path(self.params.place_file)
        new = path.with_suffix(".new")
        try:
            new.write_text(json.dumps({"key": self._key(), "packets": self.place}), encoding="utf-8")
            new.replace(path)
        except OSError as error:
            self.news("place", f"cannot note the place in the capture: {error}")

    def stop(self) -> None:
        self._halted.set()
        if self.capture is not None:
            self.thread.join(timeout=2.0)
        self.step()

    def release(self) -> None:
        if getattr(self, "capture", None) is not None:
            self.capture.close()
            if self.is_file and self.params.place_file:
                Path(self.params.place_file).unlink(missing_ok=True)

    def health(self) -> tuple[bytes, str, dict[str, object]]:
        dropped = getattr(self.capture, "dropped", 0)
        counters = {
            "packets": self.packets,
            "malformed": self.malformed,
            "late": self.late,
            "dropped": dropped + self.overflow,
            "frozen": getattr(self.capture, "frozen", 0),
            "unread": self.unread,
            "clock_steps": self.windows.clock_steps,
            "ended": int(self.ended),
        }
        trouble = self.trouble or self.strange
        if trouble:
            return ERROR, trouble, counters
        if dropped + self.overflow:
            return WARN, f"{dropped} packets dropped by the kernel, {self.overflow} windows here", counters
        return OK, self.params.source or "no source", counters


def main() -> None:
    run(NetworkTapNode)


if __name__ == "__main__":
    main()
