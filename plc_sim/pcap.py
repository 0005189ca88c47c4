"""Classic pcap with nanoseconds (magic a1b23c4d), encoded a block at a time."""

from __future__ import annotations

import struct

import numpy as np

from cellwatch.plc_sim.frames import U8, Frames

HEADER = struct.pack("<IHHiIII", 0xA1B23C4D, 2, 4, 0, 0, 262_144, 1)  # version 2.4, LINKTYPE_ETHERNET


def encode(frames: Frames) -> bytes:
    """Packet records of a block, without the file header."""
    n = len(frames)
    if n == 0:
        return b""
    size = np.diff(frames.offset)
    head = np.empty((n, 4), "<u4")
    head[:, 0], head[:, 1] = frames.time_ns // 1_000_000_000, frames.time_ns % 1_000_000_000
    head[:, 2] = head[:, 3] = size
    place = frames.offset[:-1] + 16 * np.arange(n)
    out: U8 = np.empty(len(frames.data) + 16 * n, np.uint8)
    out[place[:, None] + np.arange(16)] = head.view(np.uint8)
    body = np.ones(len(out), bool)
    body[(place[:, None] + np.arange(16)).ravel()] = False
    out[body] = frames.data
    return out.tobytes()
