"""Live capture on a Linux interface: AF_PACKET with a memory-mapped TPACKET_V3 ring.

The kernel fills blocks of the ring; a filled block is copied once and handed back. What finds no free block
is counted by the kernel (PACKET_STATISTICS). See packet_mmap in the kernel's documentation. The network
card or the kernel may already have taken an outer VLAN tag off a packet; it is not put back.
"""

from __future__ import annotations

import mmap
import select
import socket
import struct
import time

import numpy as np

from cellwatch.models.types import BLOCK_PADDING, PacketBlock
from cellwatch.nodes.drivers.pcap_file import CaptureError

_SOL_PACKET, _ADD_MEMBERSHIP, _RX_RING, _STATISTICS, _VERSION = 263, 1, 5, 6, 10
_TPACKET_V3, _PROMISC, _ETH_P_ALL = 2, 1, 3
_USER = 1  # TP_STATUS_USER: the block is ours
_HEADER = 48  # bytes of tpacket3_hdr; sockaddr_ll follows
_OUTGOING = 4  # PACKET_OUTGOING
_LINK_TYPE = {1: 1, 772: 1, 65534: 101, 768: 101, 776: 101}  # ARPHRD_* -> LINKTYPE_*


class LiveCapture:
    """Packets of `interface` (promiscuous) as they pass.

    `block_bytes` times `blocks` is the ring, 32 MiB by default: about half a second of gigabit. `dropped`
    counts what the kernel dropped since the start. Raises CaptureError for a missing interface or
    privilege.
    """

    def __init__(
        self, interface: str, *, block_bytes: int = 1 << 20, blocks: int = 32, retire_ms: int = 20
    ) -> None:
        self.name = interface
        self.damage = ""
        self.exhausted = False
        self._dropped = 0
        self._block_bytes = block_bytes
        self._blocks = blocks
        self._next = 0
        try:
            index = socket.if_nametoindex(interface)
        except OSError:
            known = ", ".join(name for _, name in socket.if_nameindex())
            raise CaptureError(f"{interface}: no such interface; this machine has {known}") from None
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        except PermissionError:
            raise CaptureError(
                f"{interface}: no privilege to capture; run as root or give python CAP_NET_RAW "
                "(setcap cap_net_raw+ep), or read a capture file"
            ) from None
        try:
            self._socket.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V3)
            ring = struct.pack("7I", block_bytes, blocks, 2048, block_bytes // 2048 * blocks, retire_ms, 0, 0)
            self._socket.setsockopt(_SOL_PACKET, _RX_RING, ring)
            self._socket.setsockopt(
                _SOL_PACKET, _ADD_MEMBERSHIP, struct.pack("iHH8s", index, _PROMISC, 0, b"")
            )
            self._map = mmap.mmap(self._socket.fileno(), block_bytes * blocks)
            self._socket.bind((interface, _ETH_P_ALL))
        except OSError as error:
            self._socket.close()
            raise CaptureError(
                f"{interface}: cannot open the capture ring: {error.strerror or error}"
            ) from None
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN | select.POLLERR)
        self._loopback = self._socket.getsockname()[4:] and interface == "lo"

    @property
    def dropped(self) -> int:
        """Packets dropped by the kernel since the start."""
        if self._socket.fileno() >= 0:
            # Reading the statistics resets them.
            self._dropped += struct.unpack("3I", self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 12))[1]
        return self._dropped

    def read(self, timeout_s: float = 0.0) -> list[PacketBlock]:
        """Packets of the blocks that are ready; waits up to `timeout_s` for the first."""
        blocks: list[PacketBlock] = []
        end = time.monotonic() + timeout_s
        while len(blocks) < self._blocks:
            start = self._next * self._block_bytes
            if not struct.unpack_from("I", self._map, start + 8)[0] & _USER:
                left = end - time.monotonic()
                if blocks or left <= 0:
                    break
                self._poll.poll(max(1, int(left * 1000)))
                if not struct.unpack_from("I", self._map, start + 8)[0] & _USER and time.monotonic() >= end:
                    break
                continue
            count, first, size = struct.unpack_from("III", self._map, start + 12)
            if count:
                blocks += self._packets(self._map[start : start + size] + bytes(BLOCK_PADDING), count, first)
            struct.pack_into("I", self._map, start + 8, 0)  # back to the kernel
            self._next = (self._next + 1) % self._blocks
        return blocks

    def _packets(self, raw: bytes, count: int, first: int) -> list[PacketBlock]:
        next_at = struct.Struct("I").unpack_from
        places = []
        position = first
        for _ in range(count):
            places.append(position)
            position += next_at(raw, position)[0]
        data = np.frombuffer(raw, dtype=np.uint8)
        at = np.array(places, dtype=np.int64)
        if self._loopback:  # the loopback shows every packet twice: going out and coming in
            at = at[data[at + _HEADER + 10] != _OUTGOING]
            if not len(at):
                return []

        def field(shift: int, kind: str) -> np.ndarray:
            size = np.dtype(kind).itemsize
            spread = np.ndarray((len(data) - size + 1,), kind, buffer=data.data, strides=(1,))
            return spread[at + shift]

        time_ns = field(4, "u4").astype(np.int64) * 1_000_000_000 + field(8, "u4").astype(np.int64)
        hardware = int(field(_HEADER + 8, "u2")[0])
        return [
            PacketBlock(
                data,
                at + field(24, "u2").astype(np.int64),
                field(12, "u4"),
                field(16, "u4"),
                time_ns,
                _LINK_TYPE.get(hardware, 1),
            )
        ]

    def close(self) -> None:
        """Free the ring."""
        if self._socket.fileno() >= 0:
            _ = self.dropped
            self._map.close()
            self._socket.close()
