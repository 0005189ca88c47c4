"""Live capture on a Linux interface that may go down, vanish and come back."""

from __future__ import annotations

import fcntl
import socket
import struct
import threading
import time
from dataclasses import dataclass

from cellwatch.models.types import PacketBlock
from cellwatch.nodes.drivers.pcap_file import CaptureError
from cellwatch.nodes.drivers.records import MAX_PACKET
from cellwatch.nodes.drivers.ring import Ring

_SIOCGIFFLAGS, _IFF_UP = 0x8913, 1
_LOOK_S = 0.1  # between two looks at an interface that is down


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """How to capture from an interface; a ring of 32 MiB holds a quarter of a second of gigabit Ethernet."""

    promiscuous: bool = True  # also frames to other stations
    snap: int = MAX_PACKET  # bytes kept of each packet
    block_bytes: int = 1 << 20  # a multiple of the page size; no packet is longer
    blocks: int = 32
    retire_ms: int = 20  # a block that is not full is handed over after this

    def __post_init__(self) -> None:
        if not 1 <= self.snap <= MAX_PACKET:
            raise CaptureError(f"snap length {self.snap}: must be 1 to {MAX_PACKET} bytes")


class LiveCapture:
    """Packets of `interface` as they pass.

    `dropped` and `frozen` count what the kernel dropped, and how often it found the ring full. While the
    interface is down or gone, `damage` says so and `read` waits for it to come back. Raises CaptureError for
    a missing interface or privilege.
    """

    exhausted = False

    def __init__(self, interface: str, settings: LiveSettings | None = None) -> None:
        self.name = interface
        self.damage = ""
        self._settings = settings or LiveSettings()
        self._counts = [0, 0]  # dropped, frozen
        self._lock = threading.Lock()  # counters are asked for from other threads
        self._ring: Ring | None = self._open()
        self._look()

    def _open(self) -> Ring:
        s = self._settings
        try:
            return Ring(
                self.name,
                promiscuous=s.promiscuous,
                snap=s.snap,
                block_bytes=s.block_bytes,
                blocks=s.blocks,
                retire_ms=s.retire_ms,
            )
        except PermissionError:
            raise CaptureError(
                f"{self.name}: no privilege to capture; run as root or give python CAP_NET_RAW "
                "(setcap cap_net_raw+ep), or read a capture file"
            ) from None
        except OSError as error:
            names = [name for _, name in socket.if_nameindex()]
            if self.name not in names:
                raise CaptureError(
                    f"{self.name}: no such interface; this machine has {', '.join(names)}"
                ) from None
            raise CaptureError(
                f"{self.name}: cannot open the capture ring: {error.strerror or error}"
            ) from None

    @property
    def dropped(self) -> int:
        """Packets dropped by the kernel since the start."""
        return self._count()[0]

    @property
    def frozen(self) -> int:
        """Times the kernel found the ring full since the start."""
        return self._count()[1]

    def _count(self) -> tuple[int, int]:
        with self._lock:
            if self._ring is not None:
                for i, more in enumerate(self._ring.statistics()):
                    self._counts[i] += more
            return self._counts[0], self._counts[1]

    def read(self, timeout_s: float = 0.0) -> list[PacketBlock]:
        """Packets of the blocks that are ready; waits up to `timeout_s` for the first."""
        end = time.monotonic() + timeout_s
        while True:
            blocks = self._ring.take() if self._ring is not None else []
            left = end - time.monotonic()
            if blocks or left <= 0:
                return blocks
            if self.damage:
                time.sleep(min(left, _LOOK_S))
                self._look()
            elif self._ring is not None and not self._ring.wait(left):
                self._look()

    def _look(self) -> None:
        """Say how the interface is; take up the one that came in the place of the old."""
        if self._ring is not None:
            self._ring.error()
        try:
            index = socket.if_nametoindex(self.name)
        except OSError:
            self._drop()
            self.damage = f"{self.name}: the interface is gone; capture goes on when it is back"
            return
        if self._ring is None or self._ring.index != index:
            self._drop()
            try:
                ring = self._open()
            except CaptureError as error:
                self.damage = str(error)
                return
            with self._lock:
                self._ring = ring
        up = _is_up(self.name)
        self.damage = "" if up else f"{self.name}: the interface is down; capture goes on when it is up"

    def _drop(self) -> None:
        self._count()
        with self._lock:
            if self._ring is not None:
                self._ring.close()
                self._ring = None

    def close(self) -> None:
        """Free the ring."""
        self._drop()
        self.exhausted = True


def _is_up(name: str) -> bool:
    """Whether the interface is switched on (IFF_UP)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        try:
            answer = fcntl.ioctl(asker, _SIOCGIFFLAGS, struct.pack("16sH14x", name.encode(), 0))
        except OSError:
            return False
    return bool(struct.unpack_from("H", answer, 16)[0] & _IFF_UP)
