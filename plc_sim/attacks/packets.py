"""Blocks of attack packets: copies of one template with patched fields, no loop over packets.

Offsets are those of an Ethernet II + IPv4 (20 bytes) frame.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from cellwatch.plc_sim.frames import (
    ACK,
    ACKNO,
    DPORT,
    ETHER_IPV4,
    I64,
    ICMP,
    IDENT,
    MSS_OPTION,
    RST,
    SEQ,
    SPORT,
    SYN,
    TCP,
    U8,
    UDP,
    Block,
    Host,
    fill_checksums,
    put16,
    put32,
    stamp,
    tcp_frame,
    udp_frame,
)

TTL, WINDOW, ICMP_TYPE, ICMP_SEQ = 22, 48, 34, 40  # byte offsets
FRAGMENT = 1480  # bytes of payload of a full IPv4 fragment (MTU 1500, RFC 791)
FRAGMENT_GAP_NS = 123_000  # a full frame at 100 Mbit/s
UNREACHABLE, PORT = 3, 3  # ICMP type and code (RFC 792)

_IP = struct.Struct(">BBHHHBBH4s4s")


def masked(host: Host, **changes: bytes | int) -> Host:
    """Return a host that sends with other addresses, TTL or window than its own."""
    return replace(host, **changes)  # type: ignore[arg-type]  # the fields are named at the call


def tcp_block(
    src: Host,
    dst: Host,
    at: I64,
    sport: I64 | int,
    dport: I64 | int,
    flags: int,
    seq: I64,
    ack: I64 | None = None,
    payload: bytes = b"",
    options: bytes = b"",
) -> Block:
    """TCP segments; fields that differ from packet to packet are (n,)."""
    n = len(at)
    block = stamp(tcp_frame(src, dst, (0, 0), 0, 0, flags, payload, options), at)
    rows = block.rows
    put16(rows, IDENT, src.next_ident(n) + np.arange(n))
    put16(rows, SPORT, np.asarray(sport))
    put16(rows, DPORT, np.asarray(dport))
    put32(rows, SEQ, seq)
    if ack is not None:
        put32(rows, ACKNO, ack)
    return block


def udp_block(src: Host, dst: Host, at: I64, sport: I64 | int, dport: I64 | int, payload: bytes) -> Block:
    """UDP datagrams with one payload."""
    n = len(at)
    block = stamp(udp_frame(src, dst, (0, 0), payload), at)
    put16(block.rows, IDENT, src.next_ident(n) + np.arange(n))
    put16(block.rows, SPORT, np.asarray(sport))
    put16(block.rows, DPORT, np.asarray(dport))
    return block


def icmp_block(src: Host, dst: Host, at: I64, kind: int, code: int, rest: bytes) -> Block:
    """ICMP messages: type, code, and the `rest` after the checksum (RFC 792)."""
    n = len(at)
    body = bytes([kind, code, 0, 0]) + rest
    head = _IP.pack(0x45, 0, 20 + len(body), 0, 0, src.ttl, ICMP, 0, src.ip, dst.ip)
    block = stamp(dst.mac + src.mac + ETHER_IPV4 + head + body, at)
    put16(block.rows, IDENT, src.next_ident(n) + np.arange(n))
    return block


def echo_block(src: Host, dst: Host, at: I64, seq: I64, payload: bytes, ident: int = 1) -> Block:
    """ICMP echo requests."""
    block = icmp_block(src, dst, at, 8, 0, struct.pack(">HH", ident, 0) + payload)
    put16(block.rows, ICMP_SEQ, seq)
    return block


def picked(block: Block, pick: I64) -> Block:
    """Take some packets of a block."""
    return Block(block.time_ns[pick], block.rows[pick])


def tcp_answer(asked: Block, src: Host, dst: Host, flags: int, delay: I64, seq: I64 | None = None) -> Block:
    """Answers of `src` to each segment of `asked`: RST, RST-ACK or SYN-ACK.

    RST takes its sequence number from the acknowledgement that it answers (RFC 9293, 3.10.7.1); one with ACK
    and a SYN-ACK acknowledge the sequence number plus one.
    """
    n = len(asked.time_ns)
    options = MSS_OPTION if flags & SYN else b""
    block = stamp(tcp_frame(src, dst, (0, 0), 0, 0, flags, options=options), asked.time_ns + delay)
    rows = block.rows
    put16(rows, IDENT, src.next_ident(n) + np.arange(n))
    rows[:, SPORT : SPORT + 2] = asked.rows[:, DPORT : DPORT + 2]
    rows[:, DPORT : DPORT + 2] = asked.rows[:, SPORT : SPORT + 2]
    if flags & ACK:
        if seq is not None:
            put32(rows, SEQ, seq)
        put32(rows, ACKNO, get32(asked.rows, SEQ) + 1)
    else:
        rows[:, SEQ : SEQ + 4] = asked.rows[:, ACKNO : ACKNO + 4]
    return block


def syn_answers(
    rng: np.random.Generator,
    syn: Block,
    is_open: np.ndarray[tuple[int, ...], np.dtype[np.bool_]],
    src: Host,
    dst: Host,
) -> list[Block]:
    """What a host says to SYNs: SYN-ACK, which the asking stack resets, or RST-ACK from a closed port."""
    opened, closed = picked(syn, np.flatnonzero(is_open)), picked(syn, np.flatnonzero(~is_open))
    accept = tcp_answer(
        opened, src, dst, SYN | ACK, stack_delay(rng, len(opened.time_ns)), initial(rng, len(opened.time_ns))
    )
    reset = tcp_answer(accept, dst, src, RST, stack_delay(rng, len(opened.time_ns)))
    refuse = tcp_answer(closed, src, dst, RST | ACK, stack_delay(rng, len(closed.time_ns)))
    return [accept, reset, refuse]


def echo_answer(asked: Block, src: Host, dst: Host, delay: I64) -> Block:
    """Echo replies with the payload of the requests."""
    n = len(asked.time_ns)
    rows = asked.rows.copy()
    rows[:, 0:6] = np.frombuffer(dst.mac, np.uint8)
    rows[:, 6:12] = np.frombuffer(src.mac, np.uint8)
    rows[:, 26:30] = np.frombuffer(src.ip, np.uint8)
    rows[:, 30:34] = np.frombuffer(dst.ip, np.uint8)
    rows[:, TTL] = src.ttl
    rows[:, ICMP_TYPE] = 0
    put16(rows, IDENT, src.next_ident(n) + np.arange(n))
    return Block(asked.time_ns + delay, rows)


def unreachable(asked: Block, src: Host, dst: Host, delay: I64) -> Block:
    """ICMP port unreachable with the header and first 8 bytes of the datagram (RFC 792)."""
    quoted = asked.rows.copy()  # all of even width
    fill_checksums(quoted)
    block = icmp_block(src, dst, asked.time_ns + delay, UNREACHABLE, PORT, bytes(4 + 28))
    block.rows[:, 42:70] = quoted[:, 14:42]
    return block


def fragmented(
    src: Host, dst: Host, at: I64, protocol: int, body: bytes, fields: Mapping[int, I64]
) -> list[Block]:
    """IPv4 datagrams of `body` (transport header and payload) cut into full fragments.

    `fields`: byte offset in the body -> 16-bit values (n,), in the first fragment. The transport checksum is
    over the whole datagram and set here, as no single frame holds it.
    """
    n = len(at)
    ident = src.next_ident(n) + np.arange(n)
    blocks = []
    for k, first in enumerate(range(0, len(body), FRAGMENT)):
        piece = body[first : first + FRAGMENT]
        more = 0x2000 if first + FRAGMENT < len(body) else 0
        head = _IP.pack(0x45, 0, 20 + len(piece), 0, more | first // 8, src.ttl, protocol, 0, src.ip, dst.ip)
        block = stamp(dst.mac + src.mac + ETHER_IPV4 + head + piece, at + k * FRAGMENT_GAP_NS)
        put16(block.rows, IDENT, ident)
        blocks.append(block)
    even = body + b"\0" * (len(body) % 2)
    total = int(np.frombuffer(even, ">u2").astype(np.int64).sum()) + np.zeros(n, np.int64)
    if protocol != ICMP:  # pseudo-header
        total += int(np.frombuffer(src.ip + dst.ip, ">u2").astype(np.int64).sum()) + protocol + len(body)
    for offset, value in fields.items():  # these bytes are 0 in `body`
        put16(blocks[0].rows, 34 + offset, value)
        total = total + (value & 0xFFFF)
    put16(blocks[0].rows, 34 + {TCP: 16, UDP: 6, ICMP: 2}[protocol], ~_folded(total))
    return blocks


def get32(rows: U8, at: int) -> I64:
    """Read big-endian 32-bit fields at byte `at`: (n,)."""
    part = rows[:, at : at + 4].astype(np.int64)
    return part[:, 0] << 24 | part[:, 1] << 16 | part[:, 2] << 8 | part[:, 3]


def initial(rng: np.random.Generator, n: int) -> I64:
    """Draw initial sequence numbers."""
    return rng.integers(1 << 32, size=n)


def stack_delay(rng: np.random.Generator, n: int) -> I64:
    """Time that a host takes to answer, 0.2-1 ms, in ns."""
    return rng.integers(200_000, 1_000_000, size=n)


def _folded(total: I64) -> I64:
    total = (total & 0xFFFF) + (total >> 16)
    return (total & 0xFFFF) + (total >> 16)
