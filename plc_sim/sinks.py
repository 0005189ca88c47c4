"""Where frames go: a capture file, a FIFO, a virtual interface or one in a network namespace of our own.

None of them ever blocks the plant.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import errno
import fcntl
import os
import select
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from cellwatch.plc_sim import pcap
from cellwatch.plc_sim.frames import Frames
from cellwatch.plc_sim.namespace import PLANT, Namespace

PIPE_BYTES = 1 << 20  # wanted size of the pipe; about 10 s of benign traffic
BACKLOG_BYTES = 4 << 20  # kept when a reader is slow; blocks beyond are counted as unread


class Sink(Protocol):
    """Takes frames."""

    unread: int  # frames that nobody took

    def write(self, frames: Frames) -> None:
        """Take a block."""

    def close(self) -> None:
        """Release everything."""


class PcapFile:
    """A capture file."""

    def __init__(self, path: Path) -> None:
        self.unread = 0
        self._file = path.open("wb")
        self._file.write(pcap.HEADER)

    def write(self, frames: Frames) -> None:
        """Append a block."""
        self._file.write(pcap.encode(frames))
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class PcapFifo:
    """A pcap stream through a named pipe.

    Without a reader frames are counted as unread. When a reader goes, the next one gets a new pcap header.
    """

    def __init__(self, path: Path) -> None:
        """Make the FIFO at `path`, or use the one that lies there; ValueError if that is something else."""
        self.path = path
        self.unread = 0
        self.readers = 0  # how many have come so far
        self._fd = -1
        self._rest = b""
        if not path.exists():
            os.mkfifo(path, 0o600)
        elif not stat.S_ISFIFO(path.stat().st_mode):
            raise ValueError(f"{path} exists and is not a FIFO; choose another path for --fifo")

    def write(self, frames: Frames) -> None:
        """Send a block, or count it as unread."""
        if self._fd >= 0 and self._reader_gone():
            self._hang_up()
        if self._fd < 0 and not self._open():
            self.unread += len(frames)
            return
        if len(self._rest) > BACKLOG_BYTES:
            self.unread += len(frames)
        else:
            self._rest += pcap.encode(frames)
        self._push()

    def close(self) -> None:
        """Close and remove the FIFO."""
        self._hang_up()
        self.path.unlink(missing_ok=True)

    def _open(self) -> bool:
        try:
            self._fd = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno in {errno.ENXIO, errno.ENOENT}:  # nobody reads; or the FIFO was removed
                return False
            raise
        with contextlib.suppress(OSError):  # over the user's pipe limit: the usual 64 KiB will do
            fcntl.fcntl(self._fd, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        self._rest = pcap.HEADER
        self.readers += 1
        return True

    def _reader_gone(self) -> bool:
        poll = select.poll()
        poll.register(self._fd, 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))

    def _push(self) -> None:
        try:
            while self._rest:
                self._rest = self._rest[os.write(self._fd, self._rest) :]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._hang_up()

    def _hang_up(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._rest = -1, b""


class Interface:
    """Sends on a veth, TAP or dummy interface that the caller made; never on any other."""

    def __init__(self, name: str) -> None:
        driver = virtual_driver(name)
        if driver not in {"veth", "tap", "dummy"}:
            raise ValueError(
                f"interface {name!r} is {driver}: frames go only to a veth, TAP or dummy interface"
            )
        self.unread = 0
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        self._socket.bind((name, 0))

    def write(self, frames: Frames) -> None:
        """Send a block; frames that the interface does not take are counted."""
        self.unread += len(frames) - send_all(self._socket, frames)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()


class OwnNamespace:
    """Sends on a veth pair in a network namespace that lives as long as this sink."""

    def __init__(self) -> None:
        """NamespaceError where that is not possible."""
        self.unread = 0
        self.namespace = Namespace()
        self._socket = self.namespace.packet_socket(PLANT)

    def write(self, frames: Frames) -> None:
        """Send a block; frames that the interface does not take are counted."""
        self.unread += len(frames) - send_all(self._socket, frames)

    def close(self) -> None:
        """Close the socket, and with it the namespace."""
        self._socket.close()
        self.namespace.close()


_IOVEC = np.dtype([("base", np.uintp), ("len", np.uintp)])  # struct iovec
_MSGHDR = np.dtype(  # struct msghdr
    [
        ("name", np.uintp),
        ("namelen", np.uint32),
        ("iov", np.uintp),
        ("iovlen", np.uintp),
        ("control", np.uintp),
        ("controllen", np.uintp),
        ("flags", np.int32),
    ],
    align=True,
)
_MMSGHDR = np.dtype([("hdr", _MSGHDR), ("len", np.uint32)], align=True)  # struct mmsghdr, sendmmsg(2)
_AT_ONCE = 1024  # UIO_MAXIOV


def send_all(raw: socket.socket, frames: Frames) -> int:
    """Send all frames on a packet socket without waiting; how many it took.

    A frame that is refused (too long, queue full, link down) is left out.
    """
    n = len(frames)
    data = np.ascontiguousarray(frames.data)
    iovec = np.zeros(n, _IOVEC)
    iovec["base"] = data.ctypes.data + frames.offset[:-1]
    iovec["len"] = np.diff(frames.offset)
    message = np.zeros(n, _MMSGHDR)
    message["hdr"]["iov"] = iovec.ctypes.data + np.arange(n) * _IOVEC.itemsize
    message["hdr"]["iovlen"] = 1
    at, lost = 0, 0
    while at < n:
        begin = message.ctypes.data + at * _MMSGHDR.itemsize
        sent = _SENDMMSG(raw.fileno(), begin, min(n - at, _AT_ONCE), socket.MSG_DONTWAIT)
        lost += sent < 0
        at += max(sent, 1)
    return n - lost


_SENDMMSG = ctypes.CDLL(None).sendmmsg
_SENDMMSG.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int)


def virtual_driver(name: str) -> str:
    """Kind of an interface: "veth", "tap", "dummy", the driver of anything else, or "missing"."""
    if not Path("/sys/class/net", name).exists() or "/" in name:
        return "missing"
    flags = Path("/sys/class/net", name, "tun_flags")
    if flags.exists():
        return "tap" if int(flags.read_text(), 16) & 0x2 else "tun"  # IFF_TAP, linux/if_tun.h
    info = array.array("B", struct.pack("I", 0x3) + bytes(192))  # ETHTOOL_GDRVINFO, struct ethtool_drvinfo
    request = struct.pack("16sP", name.encode(), info.buffer_info()[0])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            fcntl.ioctl(probe.fileno(), 0x8946, request)  # SIOCETHTOOL
        except OSError:
            return "no virtual Ethernet"
    return info.tobytes()[4:36].split(b"\0", 1)[0].decode(errors="replace") or "unknown"


def open_sinks(
    fifo: Path | None, capture: Path | None, interface: str | None, namespace: bool = False
) -> list[Sink]:
    """Open the sinks that were asked for; close those already open if one fails."""
    wanted: list[Callable[[], Sink]] = []
    if fifo is not None:
        wanted.append(lambda: PcapFifo(fifo))
    if capture is not None:
        wanted.append(lambda: PcapFile(capture))
    if interface is not None:
        wanted.append(lambda: Interface(interface))
    if namespace:
        wanted.append(OwnNamespace)
    sinks: list[Sink] = []
    try:
        sinks.extend(make() for make in wanted)
    except (OSError, ValueError):
        for sink in sinks:
            sink.close()
        raise
    return sinks
