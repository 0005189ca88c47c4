"""Packets to the 64 numeric `network_*` columns of DataSense, one row a device and window.

Two steps keep it fast. `add` folds packets into *flow rows*: one row for each (window, MACs, addresses,
ports, protocol) with count, sums, sums of squares, minima and maxima. `close` spreads the flow rows of a
window over the devices at their two ends and counts what is distinct among them. Both are sorts and
`reduceat`, no loop over packets.

A device is its MAC address, else its IP address; windows lie on whole multiples of their length since the
epoch. What each column means: docs/features.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.features import packets as pk
from cellwatch.models.features.packets import U64, Packets
from cellwatch.models.types import F32, F64, I64, Bool, TrafficBatch

STATISTICS = ("avg", "max", "min", "std_deviation")
QUANTITIES = (  # with statistics, in the order of the flow rows
    "header-length", "ip-flags", "ip-length", "mss", "packet-size", "payload-length", "tcp-flags",
    "time-delta", "ttl", "window-size",
)  # fmt: skip
FLAGS = ("ack", "fin", "psh", "rst", "syn", "urg")
_FLAG_BITS = (pk.ACK, pk.FIN, pk.PSH, pk.RST, pk.SYN, pk.URG)


def _columns() -> tuple[str, ...]:
    def four(name: str) -> list[str]:
        return [f"{name}_{s}" for s in STATISTICS]

    def three(name: str) -> list[str]:
        return [f"{name}_{side}_count" for side in ("all", "dst", "src")]

    names = ["fragmentation-score", "fragmented-packets", *four("header-length"), "interval-packets"]
    names += [
        *four("ip-flags"),
        *four("ip-length"),
        *three("ips"),
        *three("macs"),
        *four("mss"),
        *four("packet-size"),
    ]
    names += [*three("packets"), *four("payload-length"), *three("ports"), *three("protocols")]
    names += [f"tcp-flags-{flag}_count" for flag in FLAGS]
    names += [*four("tcp-flags"), *four("time-delta"), *four("ttl"), *four("window-size")]
    return tuple(f"network_{name}" for name in names)


NETWORK_COLUMNS = _columns()  # 64, in the order of DataSense
COUNT_COLUMNS = tuple(
    name for name in NETWORK_COLUMNS if name.endswith("_count") or name == "network_fragmented-packets"
)  # 0, not NaN, when nothing came
_PLACE = {name: i for i, name in enumerate(NETWORK_COLUMNS)}

# Keys of a flow row (uint64) and its additive, minimum and maximum columns (float64).
_KEYS = ("window", "src_mac", "dst_mac", "src_hi", "src_lo", "dst_hi", "dst_lo", "ports", "kind")
_Q = len(QUANTITIES)
_SUMS = 3 * _Q + len(FLAGS) + 2  # counts, sums, squares of each quantity; flags; packets; fragments
_N_FLAG, _N_PACKETS, _N_FRAGMENTS = 3 * _Q, 3 * _Q + len(FLAGS), 3 * _Q + len(FLAGS) + 1
_TIME_DELTA = QUANTITIES.index("time-delta")
_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class _Flows:
    """Flow rows: f rows."""

    keys: U64  # (f, len(_KEYS))
    sums: F64  # (f, _SUMS)
    low: F64  # (f, _Q), +inf where undefined
    high: F64  # (f, _Q), -inf
    first_ns: I64  # (f,)
    last_ns: I64


def _mix(columns: list[U64]) -> U64:
    """64-bit hash of each row; two of a million rows collide with odds of 3e-8."""
    h = columns[0] * _ODD
    for column in columns[1:]:
        h = (h ^ (h >> np.uint64(32)) ^ column) * _ODD
    return h ^ (h >> np.uint64(29))


def _groups(h: U64) -> tuple[I64, I64]:
    """Order that brings equal values together, and the first place of each group in that order."""
    order = np.argsort(h)
    ranked = h[order]
    starts = (
        np.concatenate([[0], np.flatnonzero(ranked[1:] != ranked[:-1]) + 1])
        if len(h)
        else np.zeros(0, np.int64)
    )
    return order, starts.astype(np.int64)


def _fold(packets: Packets, window: I64, delta_ns: I64) -> _Flows:
    """Flow rows of packets, n > 0."""
    ports = packets.src_port.astype(np.uint64) << np.uint64(16) | packets.dst_port
    kind = packets.app.astype(np.uint64) << np.uint64(16)
    kind |= packets.l4.astype(np.uint64) << np.uint64(8) | packets.ip_version
    columns = [
        window.astype(np.uint64), packets.src_mac, packets.dst_mac, packets.src_hi, packets.src_lo,
        packets.dst_hi, packets.dst_lo, ports, kind,
    ]  # fmt: skip
    order, starts = _groups(_mix(columns))
    head = order[starts]
    keys = np.stack([column[head] for column in columns], axis=1)
    f = len(starts)
    sums = np.zeros((f, _SUMS))
    low, high = np.full((f, _Q), np.inf), np.full((f, _Q), -np.inf)
    size = np.diff(np.append(starts, len(order)))

    def put(q: int, values: NDArray[np.generic], valid: Bool | None) -> None:
        ranked = values[order].astype(np.float64)
        if valid is None:
            sums[:, q] = size
            sums[:, _Q + q] = np.add.reduceat(ranked, starts)
            sums[:, 2 * _Q + q] = np.add.reduceat(ranked * ranked, starts)
            low[:, q] = np.minimum.reduceat(ranked, starts)
            high[:, q] = np.maximum.reduceat(ranked, starts)
            return
        ok = valid[order]
        if not ok.any():
            return
        kept = np.where(ok, ranked, 0.0)
        sums[:, q] = np.add.reduceat(ok, starts, dtype=np.float64)
        sums[:, _Q + q] = np.add.reduceat(kept, starts)
        sums[:, 2 * _Q + q] = np.add.reduceat(kept * kept, starts)
        low[:, q] = np.minimum.reduceat(np.where(ok, ranked, np.inf), starts)
        high[:, q] = np.maximum.reduceat(np.where(ok, ranked, -np.inf), starts)

    ip, tcp = packets.ip_version > 0, packets.l4 == pk.TCP
    # DataSense's payload-length of UDP is the UDP length field: its 8-byte header is counted.
    payload = packets.payload_length + np.where(packets.l4 == pk.UDP, np.uint32(8), np.uint32(0))
    put(0, packets.ip_header, ip)
    put(1, packets.ip_flags, packets.ip_version == 4)
    put(2, packets.ip_length, ip)
    put(3, packets.mss, packets.mss > 0)
    put(4, packets.wire_length, None)
    put(5, payload, tcp | (packets.l4 == pk.UDP))
    put(6, packets.tcp_flags, tcp)
    put(7, delta_ns, delta_ns >= 0)
    put(8, packets.ttl, ip)
    put(9, packets.window, tcp)
    if tcp.any():
        flags = packets.tcp_flags[order]
        for i, bit in enumerate(_FLAG_BITS):
            sums[:, _N_FLAG + i] = np.add.reduceat(flags & bit != 0, starts, dtype=np.float64)
    sums[:, _N_PACKETS] = size
    if packets.fragment.any():
        sums[:, _N_FRAGMENTS] = np.add.reduceat(packets.fragment[order], starts, dtype=np.float64)
    time_ns = packets.time_ns[order]
    return _Flows(
        keys, sums, low, high, np.minimum.reduceat(time_ns, starts), np.maximum.reduceat(time_ns, starts)
    )


def _merge(parts: list[_Flows]) -> _Flows:
    """One row a flow."""
    if len(parts) == 1:
        return parts[0]
    keys = np.concatenate([p.keys for p in parts])
    order, starts = _groups(_mix([keys[:, i] for i in range(keys.shape[1])]))
    return _Flows(
        keys[order[starts]],
        np.add.reduceat(np.concatenate([p.sums for p in parts])[order], starts, axis=0),
        np.minimum.reduceat(np.concatenate([p.low for p in parts])[order], starts, axis=0),
        np.maximum.reduceat(np.concatenate([p.high for p in parts])[order], starts, axis=0),
        np.minimum.reduceat(np.concatenate([p.first_ns for p in parts])[order], starts),
        np.maximum.reduceat(np.concatenate([p.last_ns for p in parts])[order], starts),
    )


def _select(flows: _Flows, pick: Bool) -> _Flows:
    return _Flows(
        flows.keys[pick],
        flows.sums[pick],
        flows.low[pick],
        flows.high[pick],
        flows.first_ns[pick],
        flows.last_ns[pick],
    )


class TrafficWindows:
    """Per-device traffic of windows of `window_s` seconds.

    `names` maps a MAC or an IP address, as text, to a device name. At most `max_devices` rows a window (a
    flood with forged addresses must not fill the memory): named devices first, then those with most
    packets; the rest is counted in `unlisted`. `late` counts packets whose window was closed already,
    `malformed` broken ones.
    """

    def __init__(
        self,
        window_s: float,
        names: Mapping[str, str] | None = None,
        *,
        max_devices: int = 1024,
        max_empty: int = 10,
    ) -> None:
        if not window_s > 0:
            raise ValueError(f"window of {window_s} s: must be longer than 0")
        self.window_ns = round(window_s * 1e9)
        self.names = {key.lower(): name for key, name in (names or {}).items()}
        self.max_devices = max_devices
        self.max_empty = max_empty
        self.packets = self.malformed = self.late = self.unlisted = self.skipped = 0
        self._parts: list[_Flows] = []
        self._rows = 0
        self._merged = 0
        self._oldest = 0  # window, of what is in _parts
        self._closed: int | None = None  # last window closed: its id (end / length)
        self._last_ns: int | None = None
        self._broken: dict[int, int] = {}  # malformed by window
        self._reported_late = 0
        self._newest_ns = 0

    @property
    def newest_ns(self) -> int:
        """Time of the newest packet, 0 before the first."""
        return self._newest_ns

    def add(self, packets: Packets) -> None:
        """Take in packets, in the order of the capture."""
        n = len(packets)
        if not n:
            return
        time_ns = packets.time_ns
        before = np.empty_like(time_ns)
        before[1:] = time_ns[:-1]
        before[0] = time_ns[0] if self._last_ns is None else self._last_ns
        # Time since the packet before in the whole capture, as in DataSense; 0 for the very first, or a
        # step back.
        delta = np.maximum(time_ns - before, 0)
        self._last_ns = int(time_ns[-1])
        window = time_ns // self.window_ns + 1
        self.packets += n
        self._newest_ns = max(self._newest_ns, int(time_ns.max()))
        broken = packets.malformed
        if broken.any():
            self.malformed += int(broken.sum())
            ids, counts = np.unique(window[broken], return_counts=True)
            for key, count in zip(ids.tolist(), counts.tolist(), strict=True):
                self._broken[key] = self._broken.get(key, 0) + count
        flows = _fold(packets, window, delta)
        if self._closed is not None and int(window.min()) <= self._closed:
            late = flows.keys[:, 0].astype(np.int64) <= self._closed
            self.late += int(flows.sums[late, _N_PACKETS].sum())
            flows = _select(flows, ~late)
        if len(flows.first_ns):
            oldest = int(flows.keys[:, 0].min())
            self._oldest = min(self._oldest, oldest) if self._parts else oldest
            self._parts.append(flows)
            self._rows += len(flows.first_ns)
            if self._rows > 2 * self._merged + 65_536:
                self._parts = [_merge(self._parts)]
                self._rows = self._merged = len(self._parts[0].first_ns)

    def close(self, until_ns: int | None) -> list[TrafficBatch]:
        """Batches of all windows that end at or before `until_ns` (None: of all), oldest first.

        Windows without a packet yield a batch without rows, at most `max_empty` in one call (more:
        `skipped`).
        """
        if until_ns is None:
            if not self._newest_ns:
                return []
            until_ns = (self._newest_ns // self.window_ns + 1) * self.window_ns
        last = until_ns // self.window_ns
        if self._closed is not None and last <= self._closed:
            return []
        ready: _Flows | None = None
        if self._parts and self._oldest <= last:
            flows = _merge(self._parts)
            pick = flows.keys[:, 0].astype(np.int64) <= last
            if pick.any():
                ready = _select(flows, pick)
                flows = _select(flows, ~pick)
            self._parts = [flows] if len(flows.first_ns) else []
            self._rows = self._merged = len(flows.first_ns)
            self._oldest = int(flows.keys[:, 0].min()) if self._parts else 0
        if ready is None and self._closed is None:
            # Nothing has come yet; from now on a window without packets is known to be empty.
            self._closed = last if last > 0 and self._newest_ns == 0 else None
            return []
        found = self._tables(ready) if ready is not None else {}
        first = min(found, default=last) if self._closed is None else self._closed + 1
        empty = [w for w in range(max(first, last - self.max_empty - len(found)), last + 1) if w not in found]
        empty = empty[-self.max_empty :] if self.max_empty else []
        self.skipped += max(0, last + 1 - first - len(found) - len(empty))
        batches = []
        for w in sorted([*found, *empty]):
            devices, values, count = found.get(w, ((), np.zeros((0, len(NETWORK_COLUMNS)), np.float32), 0))
            batches.append(
                TrafficBatch(
                    w,
                    (w - 1) * self.window_ns,
                    w * self.window_ns,
                    NETWORK_COLUMNS,
                    devices,
                    values,
                    count,
                    malformed=self._broken.pop(w, 0),
                    late=self.late - self._reported_late,
                )
            )
            self._reported_late = self.late
        self._closed = last
        return batches

    def _tables(self, flows: _Flows) -> dict[int, tuple[tuple[str, ...], F32, int]]:
        """(device names, values, packets) of each window in `flows`."""
        window, src_mac, dst_mac, src_hi, src_lo, dst_hi, dst_lo, ports, kind = flows.keys.T
        f = len(window)
        # Ends of each flow: (MAC, 0, 0) or (0, address) -> device id, -1 where a group address is no device.
        ends = []
        for one, hi, lo in ((src_mac, src_hi, src_lo), (dst_mac, dst_hi, dst_lo)):
            bare = one == 0
            group = np.where(bare, _is_group(hi, lo), (one >> np.uint64(40)) & np.uint64(1) == 1)
            ends.append((one, np.where(bare, hi, 0), np.where(bare, lo, 0), ~group))
        columns = [np.concatenate([ends[0][i], ends[1][i]]) for i in range(3)]
        by, firsts = _groups(_mix(columns))
        texts, place = np.unique(self._names(*(c[by[firsts]] for c in columns)), return_inverse=True)
        device = np.empty(2 * f, dtype=np.int64)
        device[by] = np.repeat(place, np.diff(np.append(firsts, 2 * f)))
        device = np.where(np.concatenate([ends[0][3], ends[1][3]]), device, -1)
        itself = (device[:f] == device[f:]) & (device[:f] >= 0)
        row = np.concatenate([np.arange(f), np.arange(f)])
        sent = np.repeat([True, False], f)
        keep = (device >= 0) & (sent | ~np.concatenate([itself, itself]))  # a packet to oneself is one packet
        row, sent, device = row[keep], sent[keep], device[keep]
        packets_in = dict(zip(*_sum_by(window, flows.sums[:, _N_PACKETS]), strict=True))
        tables: dict[int, tuple[tuple[str, ...], F32, int]] = {
            w: ((), np.zeros((0, len(NETWORK_COLUMNS)), np.float32), int(n)) for w, n in packets_in.items()
        }
        if not len(row):
            return tables
        order, starts = _groups(window[row] * np.uint64(len(texts)) + device.astype(np.uint64))
        row, sent = row[order], sent[order]
        received = ~sent | itself[row]
        g = len(starts)
        group_of = np.repeat(np.arange(g), np.diff(np.append(starts, len(row))))
        sums = np.add.reduceat(flows.sums[row], starts, axis=0)
        low = np.minimum.reduceat(flows.low[row], starts, axis=0)
        high = np.maximum.reduceat(flows.high[row], starts, axis=0)
        first = np.minimum.reduceat(flows.first_ns[row], starts)
        last = np.maximum.reduceat(flows.last_ns[row], starts)
        counted = flows.sums[row, _N_PACKETS]
        out = np.full((g, len(NETWORK_COLUMNS)), np.nan)

        def put(name: str, values: NDArray[np.generic]) -> None:
            out[:, _PLACE["network_" + name]] = values

        with np.errstate(divide="ignore", invalid="ignore"):
            for q, name in enumerate(QUANTITIES):
                scale = 1e-9 if q == _TIME_DELTA else 1.0
                n, total, square = sums[:, q], sums[:, _Q + q], sums[:, 2 * _Q + q]
                some = n > 0
                mean = total / n
                spread = np.sqrt(np.maximum((square - total * mean) / n, 0.0))
                # The smallest difference that 64-bit sums of squares can still show.
                spread = np.where((high[:, q] == low[:, q]) & some, 0.0, spread)
                put(name + "_avg", np.where(some, mean * scale, np.nan))
                put(name + "_std_deviation", np.where(some, spread * scale, np.nan))
                put(name + "_min", np.where(some, low[:, q] * scale, np.nan))
                put(name + "_max", np.where(some, high[:, q] * scale, np.nan))
            total = sums[:, _N_PACKETS]
            put("interval-packets", np.where(total > 1, (last - first) / 1e6 / (total - 1), np.nan))
            datagrams = sums[:, 0]
            put("fragmentation-score", np.where(datagrams > 0, sums[:, _N_FRAGMENTS] / datagrams, np.nan))
        put("fragmented-packets", sums[:, _N_FRAGMENTS])
        put("packets_all_count", total)
        put("packets_src_count", np.add.reduceat(np.where(sent, counted, 0), starts))
        put("packets_dst_count", np.add.reduceat(np.where(received, counted, 0), starts))
        for i, flag in enumerate(FLAGS):
            put(f"tcp-flags-{flag}_count", sums[:, _N_FLAG + i])

        def distinct(name: str, *sides: tuple[list[U64], Bool]) -> None:
            """Distinct values (of one or more words) within each group, over the given sides."""
            group = np.concatenate([group_of[ok] for _, ok in sides])
            words = [np.concatenate([words[i][ok] for words, ok in sides]) for i in range(len(sides[0][0]))]
            by, firsts = _groups(_mix([group.astype(np.uint64), *words]))
            put(name, np.bincount(group[by[firsts]], minlength=g))

        has_ip = (src_hi[row] | src_lo[row] | dst_hi[row] | dst_lo[row]) != 0
        has_port = ports[row] != 0
        always = np.ones(len(row), dtype=bool)
        src_ip, dst_ip = ([src_hi[row], src_lo[row]], has_ip), ([dst_hi[row], dst_lo[row]], has_ip)
        src_port, dst_port = (
            ([ports[row] >> np.uint64(16)], has_port),
            ([ports[row] & np.uint64(0xFFFF)], has_port),
        )
        src_hw, dst_hw = ([src_mac[row]], src_mac[row] != 0), ([dst_mac[row]], dst_mac[row] != 0)
        app = [kind[row] >> np.uint64(16)]
        for name, src, dst in (
            ("ips", src_ip, dst_ip),
            ("macs", src_hw, dst_hw),
            ("ports", src_port, dst_port),
        ):
            distinct(name + "_all_count", src, dst)
            distinct(name + "_src_count", src)
            distinct(name + "_dst_count", dst)
        distinct("protocols_all_count", (app, always))
        distinct("protocols_src_count", (app, sent))
        distinct("protocols_dst_count", (app, received))

        windows = window[row[starts]].astype(np.int64)
        text = texts[device[order[starts]]]
        named = set(self.names.values())
        cuts = [
            0,
            *(np.flatnonzero(np.diff(windows)) + 1).tolist(),
            g,
        ]  # groups lie in the order of the windows
        for start, stop in pairwise(cuts):
            pick = np.arange(start, stop)
            if len(pick) > self.max_devices:
                known = np.array([name in named for name in text[pick].tolist()])
                rank = np.lexsort((-out[pick, _PLACE["network_packets_all_count"]], ~known))
                self.unlisted += len(pick) - self.max_devices
                pick = np.sort(pick[rank[: self.max_devices]])
            w = int(windows[start])
            tables[w] = (tuple(text[pick].tolist()), out[pick].astype(np.float32), int(packets_in[w]))
        return tables

    def _names(self, macs: U64, his: U64, los: U64) -> NDArray[np.str_]:
        seen: dict[tuple[int, int, int], str] = {}
        out = []
        for one in zip(macs.tolist(), his.tolist(), los.tolist(), strict=True):  # devices, not packets
            if one not in seen:
                text = pk.mac(one[0]) if one[0] else pk.address(one[1], one[2])
                seen[one] = self.names.get(text, text)
            out.append(seen[one])
        return np.array(out, dtype=np.str_)


def _sum_by(key: U64, value: F64) -> tuple[list[int], list[float]]:
    ids, place = np.unique(key, return_inverse=True)
    return ids.tolist(), np.bincount(place, weights=value).tolist()


def _is_group(hi: U64, lo: U64) -> Bool:
    """No device: the unspecified, multicast and limited broadcast addresses."""
    v4 = (hi == 0) & (lo >> np.uint64(32) == np.uint64(0xFFFF))
    top = (lo >> np.uint64(24)) & np.uint64(0xFF)
    group4 = v4 & ((top >= 224) | (lo & np.uint64(0xFFFFFFFF) == 0))
    group6 = ~v4 & ((hi >> np.uint64(56) == np.uint64(0xFF)) | ((hi == 0) & (lo == 0)))
    return np.asarray(group4 | group6)
