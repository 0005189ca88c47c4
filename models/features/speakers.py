"""Flows to conversations: who serves whom, and what is said how often. Compiled loops over plain arrays."""

# ruff: noqa: ANN001, ANN201, ANN202
# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"

from __future__ import annotations

import numpy as np

from cellwatch.models.features.fold import (
    DST_HI,
    DST_LO,
    KIND,
    PAYLOAD,
    PORTS,
    RST,
    SRC_HI,
    SRC_LO,
    SRC_MAC,
    SYN,
    SYN_ACK,
    _entry,
    _place,
)

GROUP, PUBLIC, NAMED = 0, 1, 2  # a peer is GROUP, PUBLIC, or NAMED + its slot
NEITHER, CLIENT, SERVER = 0, 1, 2  # types.Role
CHANCE = 32768  # Linux gives clients ports from here on; IANA's range begins at 49152
if (SRC_MAC, SRC_HI, SRC_LO, DST_HI, DST_LO, PORTS, KIND) != (1, 3, 4, 5, 6, 7, 8):
    # They are compiled into the loops here, and only a change in this file compiles these anew.
    raise ImportError("models/features/speakers.py does not fit the flow keys of fold.py")
TCP_, UDP_, DATA_, JSON_, ARP_ = range(5)  # places in `codes`: what these are in PROTOCOLS


@_entry
def _is_public(hi, lo):
    """An address of the Internet (RFC 1918, 6598, 3927, 4193, 4291); forged ones count too."""
    if hi == 0 and lo >> np.uint64(32) == 0xFFFF:
        a, b = np.int64(lo >> np.uint64(24)) & 0xFF, np.int64(lo >> np.uint64(16)) & 0xFF
        if a in (0, 10, 127) or a >= 224:
            return False
        if a == 172:
            return b < 16 or b > 31
        if a == 100:
            return b < 64 or b > 127
        return not ((a == 192 and b == 168) or (a == 169 and b == 254))
    return hi >> np.uint64(61) == 1  # 2000::/3


@_entry
def serves(source, target, source_known, target_known):
    """Which end is the server: 0 source, 1 target, -1 neither; the same in every window of a connection."""
    if source == target:
        return -1
    if source_known != target_known:
        return 0 if source_known else 1
    if not source_known and source >= CHANCE and target >= CHANCE:
        return -1
    return 0 if source < target else 1


@_entry
def part(source, target, tables, transport, side):
    """Role of the `side` (0 source, 1 target) and the port that tells the service, 0 = none does."""
    if source == 0 and target == 0:
        return NEITHER, 0
    known = tables[transport, source] > 0, tables[transport, target] > 0
    server = serves(source, target, known[0], known[1])
    if server < 0:
        return NEITHER, source if source == target and (known[0] or source < CHANCE) else 0
    port = source if server == 0 else target
    if port >= CHANCE and not (known[0] or known[1]):
        port = 0
    return SERVER if side == server else CLIENT, port


@_entry
def parts(source, target, l4, tables, out):
    """Fill `out` (n, 3) with role of source, role of target and port of n messages."""
    for i in range(source.shape[0]):
        tcp = 1 if l4[i] == 6 else 0
        role, port = part(np.int64(source[i]), np.int64(target[i]), tables, tcp, 0)
        out[i, 0], out[i, 2] = role, port
        out[i, 1] = SERVER if role == CLIENT else CLIENT if role == SERVER else NEITHER


@_entry
def outside(src_hi, src_lo, dst_hi, dst_lo, out):
    """Fill `out` (n,) with 1 where the source is public, plus 2 where the target is."""
    for i in range(src_hi.shape[0]):
        out[i] = (1 if _is_public(src_hi[i], src_lo[i]) else 0) + (
            2 if _is_public(dst_hi[i], dst_lo[i]) else 0
        )


@_entry
def _found(index, keys, used, key, which):
    """Row of `key` in `keys`, made if it is new; used[which] counts the rows."""
    at = _place(index, keys, key)
    if index[at] < 0:
        row = used[which]
        used[which] += 1
        index[at] = row
        for j in range(key.shape[0]):
            keys[row, j] = key[j]
    return np.int64(index[at])


@_entry
def speak(
    flow_keys, flow_slots, packets, seen, tables, codes,
    index, keys, sums, address_index, address_keys, claim_index, claim_keys, claim_sums, used,
):  # fmt: skip
    """Fold flows into rows and claims; `used` (3,) counts rows, addresses behind rows, and claims.

    `keys` (r, 3): slot, peer, role << 32 | protocol << 16 | port. `sums` (r, 3): packets, refused
    connections, addresses. `claim_keys` (c, 3): slot that heard, address, slot of its owner. `claim_sums`
    (c, 2): packets, of them ARP. `tables` (2, 65536): PROTOCOLS code of the known ports of UDP and of TCP.
    """
    key, end, claim = np.empty(3, np.uint64), np.empty(3, np.uint64), np.empty(3, np.uint64)
    for row in range(flow_keys.shape[0]):
        source, target = np.int64(flow_slots[row, 0]), np.int64(flow_slots[row, 1])
        if source == target:
            continue
        kind = flow_keys[row, KIND]
        app = np.int64(kind >> np.uint64(16))
        transport = 1 if np.int64(kind >> np.uint64(8)) & 0xFF == 6 else 0
        ports = np.int64(flow_keys[row, PORTS])
        sport, dport = ports >> 16, ports & 0xFFFF
        for side in range(2):
            slot = source if side == 0 else target
            if slot < 0:
                continue
            other = target if side == 0 else source
            hi, lo = flow_keys[row, DST_HI], flow_keys[row, DST_LO]
            if side == 1:
                hi, lo = flow_keys[row, SRC_HI], flow_keys[row, SRC_LO]
            peer = GROUP if other < 0 else PUBLIC if _is_public(hi, lo) else NAMED + other
            role, port = part(sport, dport, tables, transport, side)
            name = app
            if app == codes[TCP_] or app == codes[UDP_] or app == codes[DATA_] or app == codes[JSON_]:
                # Bare acknowledgements belong to what they acknowledge.
                name = np.int64(tables[transport, port])
                if name == 0:
                    name = codes[TCP_] if transport else codes[UDP_]
            key[0], key[1] = np.uint64(slot), np.uint64(peer)
            key[2] = np.uint64(role << 32 | name << 16 | port)
            before = used[0]
            at = _found(index, keys, used, key, 0)
            if used[0] > before:
                sums[at, 0] = sums[at, 1] = sums[at, 2] = 0
            sums[at, 0] += packets[row]
            if seen[row] & (SYN | SYN_ACK | RST | PAYLOAD) == RST:
                sums[at, 1] += 1
            end[0], end[1], end[2] = np.uint64(at), hi, lo
            before = used[1]
            _found(address_index, address_keys, used, end, 1)
            if used[1] > before:
                sums[at, 2] += 1
        lo = flow_keys[row, SRC_LO]
        local = lo >> np.uint64(32) == 0xFFFF and lo & np.uint64(0xFFFFFFFF) != 0
        if source >= 0 and local and flow_keys[row, SRC_MAC] != 0:
            if _is_public(flow_keys[row, SRC_HI], lo):
                continue
            claim[0] = np.uint64(target if target >= 0 else source)
            claim[1], claim[2] = lo, np.uint64(source)
            before = used[2]
            at = _found(claim_index, claim_keys, used, claim, 2)
            if used[2] > before:
                claim_sums[at, 0] = claim_sums[at, 1] = 0
            claim_sums[at, 0] += packets[row]
            if app == codes[ARP_]:
                claim_sums[at, 1] += packets[row]
