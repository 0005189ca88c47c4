"""One pass over packets into sums per device and window: compiled loops over plain arrays.

Two open-addressing tables (`flow_tables.py` holds them). A *flow* is (window, MACs, addresses, ports,
protocol); it knows the *slots* of its two devices, and what is distinct in a window is read off the flows. A
slot is (window, MAC, or address where there is no MAC) with the sums of everything that the device sent and
received. A flow is looked up once a packet; a slot only when a flow is new.
"""

# ruff: noqa: ANN001, ANN201, ANN202
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

from typing import Any

import numpy as np

from cellwatch.models.features.columns import FLAGS, QUANTITIES
from cellwatch.models.features.protocols.compiled import entry

_entry: Any = entry  # these functions have no types
# Numbers, not len(...): what is compiled is kept on disk, and only a change in this file makes it new.
Q = 10
if (len(QUANTITIES), len(FLAGS)) != (Q, 6):
    raise ImportError("models/features/fold.py does not fit the quantities and flags of columns.py")
COUNT, SUM, SQUARE, LOW, HIGH = range(5)  # of quantity q at 5 * q
FLAG = 5 * Q  # six, in the order of columns.FLAGS
PACKETS, SENT, RECEIVED, FRAGMENTS = range(FLAG + 6, FLAG + 10)
WIDTH = FLAG + 10
GAPS = 32  # octaves of the time between two packets of a flow: below 1 us, 1-2 us, 2-4 us ...
WINDOW, SRC_MAC, DST_MAC, SRC_HI, SRC_LO, DST_HI, DST_LO, PORTS, KIND = range(9)  # of a flow's key
IPS, MACS, PORT, PROTOCOL, PEER = range(5)  # kinds of things that are counted once
SRC, DST = 1, 2
SYN, SYN_ACK, RST, PAYLOAD = 1, 2, 4, 8  # seen in a flow
EMPTY = -1
_FIRST, _LAST = np.iinfo(np.int64).max, np.iinfo(np.int64).min
# In compiled code whole rows are copied word by word: numba takes a second to compile one slice assignment.


@_entry
def _mixed(h, word):
    return (h ^ (h >> np.uint64(32)) ^ word) * np.uint64(0x9E3779B97F4A7C15)


@_entry
def _place(index, keys, key):
    """Place in `index` of the row of `keys` that equals `key`, or of the free cell where it belongs."""
    h = np.uint64(0)
    for j in range(key.shape[0]):
        h = _mixed(h, key[j])
    mask = np.uint64(index.shape[0] - 1)
    at = (h ^ (h >> np.uint64(29))) & mask
    while index[at] >= 0:
        row = index[at]
        same = True
        for j in range(key.shape[0]):
            if keys[row, j] != key[j]:
                same = False
                break
        if same:
            break
        at = (at + np.uint64(1)) & mask
    return at


@_entry
def _is_group(mac, hi, lo):
    """No device: group MACs; without a MAC the unspecified, multicast and limited broadcast addresses."""
    if mac != 0:
        return (mac >> np.uint64(40)) & np.uint64(1) == 1
    if hi == 0 and lo >> np.uint64(32) == 0xFFFF:
        return (lo >> np.uint64(24)) & np.uint64(0xFF) >= 224 or lo & np.uint64(0xFFFFFFFF) == 0
    return hi >> np.uint64(56) == 0xFF or (hi == 0 and lo == 0)


@_entry
def _slot(index, keys, stats, first, last, gaps, used, alias, key, mac, hi, lo, window):
    """Slot of a device in a window, made if it is new; -1 for a group address."""
    if _is_group(mac, hi, lo):
        return EMPTY
    if mac != 0:
        hi = lo = np.uint64(0)
    for j in range(alias.shape[0]):  # a device with several addresses counts under its first
        if alias[j, 0] == mac and alias[j, 1] == hi and alias[j, 2] == lo:
            mac, hi, lo = alias[j, 3], alias[j, 4], alias[j, 5]
            break
    key[0], key[1], key[2], key[3] = window, mac, hi, lo
    at = _place(index, keys, key)
    if index[at] < 0:
        s = used[1]
        used[1] += 1
        index[at] = s
        for j in range(4):
            keys[s, j] = key[j]
        for j in range(WIDTH):
            stats[s, j] = 0.0
        for q in range(Q):
            stats[s, 5 * q + LOW] = np.inf
            stats[s, 5 * q + HIGH] = -np.inf
        first[s] = _FIRST
        last[s] = _LAST
        for j in range(GAPS):
            gaps[s, j] = 0
    return np.int64(index[at])


@_entry
def fold(
    flow_index, flow_keys, flow_slots, flow_last, flow_count, flow_seen,
    slot_index, slot_keys, stats, first, last, gaps, used, alias, packet_slots,
    window_ns, closed, before_ns,
    time_ns, wire, src_mac, dst_mac, ip_version, ip_header, ip_length, ip_flags, fragment, ttl,
    src_hi, src_lo, dst_hi, dst_lo, l4, src_port, dst_port, tcp_flags, window_size, mss, payload, app,
):  # fmt: skip
    """Fold packets; `used` holds the rows in use of flows and slots. Returns the number of late packets."""
    late = 0
    key, end = np.empty(9, np.uint64), np.empty(4, np.uint64)
    value, known = np.empty(Q, np.float64), np.empty(Q, np.bool_)
    for i in range(time_ns.shape[0]):
        at_ns = time_ns[i]
        delta = max(at_ns - before_ns, 0)
        before_ns = at_ns
        window = at_ns // window_ns + 1
        packet_slots[i, 0] = packet_slots[i, 1] = EMPTY
        if window <= closed:
            late += 1
            continue
        key[WINDOW] = np.uint64(window)
        key[SRC_MAC], key[DST_MAC] = src_mac[i], dst_mac[i]
        key[SRC_HI], key[SRC_LO], key[DST_HI], key[DST_LO] = src_hi[i], src_lo[i], dst_hi[i], dst_lo[i]
        key[PORTS] = np.uint64(src_port[i]) << np.uint64(16) | np.uint64(dst_port[i])
        key[KIND] = (
            np.uint64(app[i]) << np.uint64(16) | np.uint64(l4[i]) << np.uint64(8) | np.uint64(ip_version[i])
        )
        at = _place(flow_index, flow_keys, key)
        row = np.int64(flow_index[at])
        octave = EMPTY
        if row < 0:
            row = used[0]
            used[0] += 1
            flow_index[at] = row
            for j in range(9):
                flow_keys[row, j] = key[j]
            flow_count[row] = 0
            flow_seen[row] = 0
            flow_slots[row, 0] = _slot(
                slot_index, slot_keys, stats, first, last, gaps, used, alias, end,
                src_mac[i], src_hi[i], src_lo[i], np.uint64(window),
            )  # fmt: skip
            flow_slots[row, 1] = _slot(
                slot_index, slot_keys, stats, first, last, gaps, used, alias, end,
                dst_mac[i], dst_hi[i], dst_lo[i], np.uint64(window),
            )  # fmt: skip
        else:
            gap_us = max(at_ns - flow_last[row], 0) // 1000
            octave = 0
            while gap_us > 0 and octave < GAPS - 1:
                gap_us >>= 1
                octave += 1
        flow_last[row] = at_ns
        flow_count[row] += 1
        source, target = flow_slots[row, 0], flow_slots[row, 1]
        packet_slots[i, 0], packet_slots[i, 1] = source, target

        if tcp_flags[i] & 2:
            flow_seen[row] |= SYN_ACK if tcp_flags[i] & 16 else SYN
        if tcp_flags[i] & 4:
            flow_seen[row] |= RST
        if payload[i] > 0:
            flow_seen[row] |= PAYLOAD

        ip, tcp = ip_version[i] == 4, l4[i] == 6  # DataSense leaves IPv6 out of the columns of the IP header
        value[0], known[0] = ip_header[i], ip
        value[1], known[1] = ip_flags[i], ip
        value[2], known[2] = ip_length[i], ip
        value[3], known[3] = mss[i], mss[i] > 0
        value[4], known[4] = wire[i], True
        # DataSense's payload-length of UDP is the UDP length field: its 8-byte header is counted.
        value[5], known[5] = np.int64(payload[i]) + (8 if l4[i] == 17 else 0), tcp or l4[i] == 17
        value[6], known[6] = tcp_flags[i], tcp
        value[7], known[7] = delta, True
        value[8], known[8] = ttl[i], ip
        value[9], known[9] = window_size[i], tcp
        for side in range(2):
            s = np.int64(source if side == 0 else target)
            if s < 0:
                continue
            itself = source == target
            if side == 1 and itself:
                break  # a packet to oneself is one packet
            stats[s, PACKETS] += 1
            if side == 0:
                stats[s, SENT] += 1
            if side == 1 or itself:
                stats[s, RECEIVED] += 1
            for q in range(Q):
                if known[q]:
                    v, base = value[q], 5 * q
                    stats[s, base] += 1
                    stats[s, base + SUM] += v
                    stats[s, base + SQUARE] += v * v
                    stats[s, base + LOW] = min(stats[s, base + LOW], v)
                    stats[s, base + HIGH] = max(stats[s, base + HIGH], v)
            if tcp:
                flags = tcp_flags[i]
                stats[s, FLAG] += (flags >> 4) & 1  # ack fin psh rst syn urg
                stats[s, FLAG + 1] += flags & 1
                stats[s, FLAG + 2] += (flags >> 3) & 1
                stats[s, FLAG + 3] += (flags >> 2) & 1
                stats[s, FLAG + 4] += (flags >> 1) & 1
                stats[s, FLAG + 5] += (flags >> 5) & 1
            if fragment[i] and ip:
                stats[s, FRAGMENTS] += 1
            first[s], last[s] = min(first[s], at_ns), max(last[s], at_ns)
            if octave >= 0:
                gaps[s, octave] += 1
    return late


@_entry
def reindex(index, keys, rows):
    for at in range(index.shape[0]):
        index[at] = EMPTY
    for row in range(rows):
        index[_place(index, keys, keys[row])] = row


@_entry
def first_rows(index, keys, came, rows, times):
    """Places of the rows of `keys` (n, k) that differ, and the sum of `came` of each; returns how many."""
    used = 0
    for row in range(keys.shape[0]):
        at = _place(index, keys, keys[row])
        if index[at] < 0:
            index[at] = row
            times[row] = 0
            rows[used] = row
            used += 1
        times[index[at]] += came[row]
    return used


@_entry
def _note(index, keys, bits, counts, used, key, side):
    """Count one thing of a slot: once in all, once on each side. Returns whether it is new."""
    at = _place(index, keys, key)
    new = index[at] < 0
    if new:
        index[at] = used[0]
        for j in range(4):
            keys[used[0], j] = key[j]
        bits[used[0]] = 0
        used[0] += 1
    row = index[at]
    s, kind = np.int64(key[0]), np.int64(key[1])
    if new:
        counts[s, kind, 0] += 1
    if side & DST and not bits[row] & DST:
        counts[s, kind, 1] += 1
    if side & SRC and not bits[row] & SRC:
        counts[s, kind, 2] += 1
    bits[row] |= side
    return new


@_entry
def distinct(flow_keys, flow_slots, slot_keys, counts, index, keys, bits, known_index, known, known_used):
    """What is distinct in each slot, over flows in the order of their windows; returns the things found."""
    used = np.zeros(1, np.int64)
    key, pair = np.zeros(4, np.uint64), np.empty(5, np.uint64)
    for row in range(flow_keys.shape[0]):
        source, target = flow_slots[row, 0], flow_slots[row, 1]
        itself = source == target
        # IPv4, ARP's too; DataSense lists no IPv6 address
        has_ip = (
            flow_keys[row, SRC_LO] >> np.uint64(32) == 0xFFFF
            or flow_keys[row, DST_LO] >> np.uint64(32) == 0xFFFF
        )
        for side in range(2):
            s = flow_slots[row, side]
            if s < 0 or (side == 1 and itself):
                continue
            key[0] = np.uint64(s)
            for step in range(8):  # source and destination of addresses, MACs and ports; protocol; peer
                kind, end = min(step // 2, PROTOCOL) + (step == 7), step % 2
                hi, lo, seen = np.uint64(0), np.uint64(0), 1 << end
                if kind == IPS:
                    hi, lo = flow_keys[row, SRC_HI + 2 * end], flow_keys[row, SRC_LO + 2 * end]
                    there = has_ip
                elif kind == MACS:
                    lo = flow_keys[row, SRC_MAC + end]
                    there = lo != 0
                elif kind == PORT:
                    lo = (flow_keys[row, PORTS] >> np.uint64(16 - 16 * end)) & np.uint64(0xFFFF)
                    there = flow_keys[row, PORTS] != 0
                elif kind == PROTOCOL:
                    lo = flow_keys[row, KIND] >> np.uint64(16)
                    seen = SRC | DST if itself else 1 << side
                    there = True
                else:  # the other end's address, else its MAC; a group is nobody's peer
                    seen = 0
                    other = 1 - side
                    hi, lo = flow_keys[row, SRC_HI + 2 * other], flow_keys[row, SRC_LO + 2 * other]
                    if hi == 0 and lo == 0:
                        lo = flow_keys[row, SRC_MAC + other]
                    there = not itself and source >= 0 and target >= 0
                if not there:
                    continue
                key[1], key[2], key[3] = np.uint64(kind), hi, lo
                new = _note(index, keys, bits, counts, used, key, seen)
                if kind != PEER or not new:
                    continue
                for j in range(3):
                    pair[j] = slot_keys[s, j + 1]
                pair[3], pair[4] = hi, lo
                at = _place(known_index, known, pair)
                if known_index[at] < 0:
                    counts[s, PEER, 1] += 1
                    if known_used[0] < known.shape[0]:
                        known_index[at] = known_used[0]
                        for j in range(5):
                            known[known_used[0], j] = pair[j]
                        known_used[0] += 1
    return used[0]
