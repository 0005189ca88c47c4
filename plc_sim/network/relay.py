"""Man in the middle: frames of a pair go to the attacker, who passes them on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cellwatch.plc_sim.frames import ETHER_IPV4, Block, Host, Single, part
from cellwatch.plc_sim.network.tcp import MS


def relay_single(time: int, frame: bytes, by: Host, delay_ns: int) -> tuple[Single, Single]:
    """The frame on its way to the attacker, and `delay_ns` later from it: one hop less to live (RFC 1812)."""
    passed = bytearray(frame)
    passed[6:12] = by.mac
    passed[22] = max(passed[22] - 1, 1)
    return (time, by.mac + frame[6:]), (time + delay_ns, bytes(passed))


def relay_block(block: Block, ways: Mapping[bytes, Host], rng: np.random.Generator) -> list[Block]:
    """The same for a block. `ways`: destination and source MAC -> attacker."""
    if block.rows[0, 12:14].tobytes() != ETHER_IPV4:
        return [block]
    out: list[Block] = []
    for ends, by in ways.items():
        theirs = (block.rows[:, :12] == np.frombuffer(ends, np.uint8)).all(axis=1)
        if not theirs.any():
            continue
        mine, block = part(block, theirs), part(block, ~theirs)
        mac = np.frombuffer(by.mac, np.uint8)
        taken, passed = mine.rows.copy(), mine.rows.copy()
        taken[:, :6] = mac
        passed[:, 6:12] = mac
        passed[:, 22] = np.maximum(passed[:, 22] - np.uint8(1), 1)
        delay = rng.integers(MS // 10, MS, size=len(passed))
        out += [Block(mine.time_ns, taken), Block(mine.time_ns + delay, passed)]
    return [*out, block]
