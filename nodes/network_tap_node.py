"""Network tap: packets of an interface, a capture file or a FIFO, summed up per device and window.

Publishes   traffic (TrafficBatch)
Parameters  source, speed, window_s, lateness_s, devices (see `Params`)
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from dataclasses import dataclass, replace

from cellwatch_msgs.msg import TrafficBatch

from cellwatch.models.features.packets import parse
from cellwatch.models.features.traffic import TrafficWindows
from cellwatch.nodes.drivers.capture import CaptureError, PacedCapture, open_source
from cellwatch.nodes.ros import convert
from cellwatch.nodes.ros.node import ERROR, OK, WARN, CellNode, run
from cellwatch.nodes.ros.params import param


@dataclass(frozen=True)
class Params:
    source: str = param("", "interface, capture file or FIFO; empty: no tap")
    speed: float = param(
        1.0, "rate of a capture file against its own time; 0: as fast as it goes", low=0.0, high=1e6
    )
    window_s: float = param(1.0, "window length", unit="s", low=0.1, high=60.0)
    lateness_s: float = param(0.2, "how long a window waits for late packets", unit="s", low=0.0, high=10.0)
    devices: str = param("{}", "JSON object: MAC address -> device name")


class NetworkTapNode(CellNode):
    NAME = "network_tap_node"
    PARAMS = Params

    def build(self) -> None:
        self.windows = TrafficWindows(self.params.window_s, json.loads(self.params.devices))
        self.capture = (
            open_source(self.params.source, speed=self.params.speed) if self.params.source else None
        )
        self.pub = self.publisher(TrafficBatch, "traffic")
        self.ready: deque = deque(maxlen=64)
        self.lock = threading.Lock()
        self.packets = self.malformed = self.late = self.overflow = 0
        self.ended = False
        self.trouble = ""
        self._halted = threading.Event()
        self._drops_told = 0

    def start(self) -> None:
        self._halted.clear()
        if self.capture is not None:
            self.since_ns = 0
            self.thread = threading.Thread(target=self._read, name="tap", daemon=True)
            self.thread.start()

    def _read(self) -> None:
        """Packets to windows, in a thread of its own: a capture at top speed must not stall the node."""
        lateness = int(self.params.lateness_s * 1e9)
        try:
            while not self._halted.is_set():
                for block in self.capture.read(timeout_s=0.05):
                    if not self.since_ns and not isinstance(self.capture, PacedCapture):
                        # A stream that was running already is seen in part at first; a file begins with us.
                        self.since_ns = int(block.time_ns[0])
                    self.windows.add(parse(block))
                if self.capture.exhausted:
                    break
                self._stage(self.windows.close(time.time_ns() - lateness))
        except (CaptureError, OSError) as error:
            self.trouble = str(error)
        self._stage(self.windows.close(None))
        self.trouble = self.trouble or getattr(self.capture, "damage", "") or ""
        self.ended = True

    def _stage(self, batches: list) -> None:
        with self.lock:
            for batch in batches:
                if batch.start_ns < self.since_ns:
                    continue  # seen in part only
                self.overflow += len(self.ready) == self.ready.maxlen
                self.ready.append(batch)

    def step(self) -> None:
        with self.lock:
            batches = list(self.ready)
            self.ready.clear()
        for batch in batches:
            self.packets += batch.packets
            self.malformed += batch.malformed
            self.late += batch.late
            dropped = getattr(self.capture, "dropped", 0) + self.overflow
            news = dropped - self._drops_told
            self._drops_told = dropped
            self.say(self.pub, convert.traffic_msg(replace(batch, dropped=news)))
        if self.trouble:
            self.news("capture", self.trouble)

    def stop(self) -> None:
        self._halted.set()
        if self.capture is not None:
            self.thread.join(timeout=2.0)
        self.step()

    def release(self) -> None:
        if getattr(self, "capture", None) is not None:
            self.capture.close()

    def health(self) -> tuple[bytes, str, dict[str, object]]:
        dropped = getattr(self.capture, "dropped", 0) if self.capture else 0
        counters = {
            "packets": self.packets,
            "malformed": self.malformed,
            "late": self.late,
            "dropped": dropped + self.overflow,
            "ended": int(self.ended),
        }
        if self.trouble:
            return ERROR, self.trouble, counters
        if dropped + self.overflow:
            return WARN, f"{dropped} packets dropped by the kernel, {self.overflow} windows here", counters
        return OK, self.params.source or "no source", counters


def main() -> None:
    run(NetworkTapNode)


if __name__ == "__main__":
    main()
