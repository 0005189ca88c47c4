"""A packet socket with its memory-mapped ring of TPACKET_V3 blocks (the kernel's packet_mmap).

The kernel fills a block, hands it over and goes on with the next; we copy it once and hand it back. What
finds no free block is dropped and counted (PACKET_STATISTICS). A VLAN tag that was taken off on the way is
put back.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import select
import socket
import struct

import numpy as np

from cellwatch.models.types import PacketBlock
from cellwatch.nodes.drivers import records

# linux/if_packet.h, linux/if_arp.h, asm-generic/socket.h
_SOL_PACKET, _ADD_MEMBERSHIP, _RX_RING, _STATISTICS, _VERSION, _RESERVE, _IGNORE_OUTGOING = (
    263, 1, 5, 6, 10, 12, 23,
)  # fmt: skip
_TPACKET_V3, _PROMISCUOUS, _ETH_P_ALL, _SO_ATTACH_FILTER = 2, 1, 3, 26
_USER = 1  # TP_STATUS_USER: the block is ours
_STATUS, _SIZE = 8, 20  # bytes into a block: its state, how much of it is used
_VLAN_TAG = 4  # bytes
_ETHERNET, _LOOPBACK = 1, 772
_LINK_TYPE = {_ETHERNET: 1, _LOOPBACK: 1, 65534: 101, 768: 101, 769: 101, 776: 101}  # ARPHRD_* -> LINKTYPE_*


def _link_type(hardware: int) -> int:
    """LINKTYPE_* of an ARPHRD_*. OSError when it is neither Ethernet nor IP."""
    if hardware not in _LINK_TYPE:
        raise OSError(errno.EPROTONOSUPPORT, f"hardware of type {hardware} carries no Ethernet and no IP")
    return _LINK_TYPE[hardware]


class Ring:
    """Packets of the interface `name`, at most `snap` bytes of each, in `blocks` blocks of `block_bytes`.

    Raises PermissionError without CAP_NET_RAW, OSError for what else the kernel refuses.
    """

    def __init__(
        self, name: str, *, promiscuous: bool, snap: int, block_bytes: int, blocks: int, retire_ms: int
    ) -> None:
        self.index = socket.if_nametoindex(name)
        self._block_bytes, self._blocks, self._next = block_bytes, blocks, 0
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            self._option(_VERSION, _TPACKET_V3)
            self._option(_RESERVE, _VLAN_TAG)  # room for the tag
            ring = struct.pack("7I", block_bytes, blocks, 2048, block_bytes // 2048 * blocks, retire_ms, 0, 0)
            self._option(_RX_RING, ring)
            self._map = mmap.mmap(self._socket.fileno(), block_bytes * blocks)
            if snap < records.MAX_PACKET:
                self._cut(snap)
            if name == "lo":  # every packet goes out there and comes in again
                self._option(_IGNORE_OUTGOING, 1)
            if promiscuous:
                self._option(_ADD_MEMBERSHIP, struct.pack("iHH8s", self.index, _PROMISCUOUS, 0, b""))
            self._socket.bind((name, _ETH_P_ALL))
            self._link_type = _link_type(self._socket.getsockname()[3])
        except OSError:
            self._socket.close()
            raise
        self._bytes = np.frombuffer(self._map, np.uint8)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)

    def _option(self, option: int, value: int | bytes) -> None:
        self._socket.setsockopt(_SOL_PACKET, option, value)

    def _cut(self, snap: int) -> None:
        """Keep `snap` bytes of each packet: a filter whose one instruction returns that number."""
        code = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, snap))  # BPF_RET | BPF_K
        program = struct.pack("HP", 1, ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    def wait(self, timeout_s: float) -> bool:
        """Wait for a block; False when the socket has an error to tell (see `error`)."""
        events = self._poll.poll(max(1, int(timeout_s * 1000)))
        return not any(event & select.POLLERR for _, event in events)

    def error(self) -> int:
        """The socket's pending error, 0 for none; reading clears it."""
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def statistics(self) -> tuple[int, int]:
        """Packets dropped and times the ring was full, since the last call."""
        _, dropped, frozen = struct.unpack("3I", self._socket.getsockopt(_SOL_PACKET, _STATISTICS, 12))
        return dropped, frozen

    def take(self) -> list[PacketBlock]:
        """What the filled blocks hold, oldest first; waits for nothing."""
        taken: list[PacketBlock] = []
        for _ in range(self._blocks):
            start = self._next * self._block_bytes
            if not self._bytes[start + _STATUS] & _USER:
                break
            count, first, size = struct.unpack_from("III", self._map, start + _STATUS + 4)
            if count:
                taken.append(self._packets(start, min(size, self._block_bytes), count, first))
            struct.pack_into("I", self._map, start + _STATUS, 0)  # back to the kernel
            self._next = (self._next + 1) % self._blocks
        return taken

    def _packets(self, start: int, size: int, count: int, first: int) -> PacketBlock:
        raw = self._bytes[start : start + size].copy()
        at, time_ns = np.empty(count, np.int64), np.empty(count, np.int64)
        length, wire = np.empty(count, np.uint32), np.empty(count, np.uint32)
        if not records.ring_packets(raw, first, count, at, length, wire, time_ns):
            raise OSError(errno.EBADMSG, "the kernel's ring holds a packet that lies outside its block")
        return PacketBlock(raw, at, length, wire, time_ns, self._link_type)

    def close(self) -> None:
        """Free the ring."""
        del self._bytes
        self._map.close()
        self._socket.close()
