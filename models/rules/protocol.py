"""Rules over conversations: what is said for the first time, and what is not said any more.

Each rule speaks once a device and window, with its gravest finding. Its points are scaled by how much a first
sight of its kind is worth for that device (`Habits.weight`). Conversations with public addresses or a group
are judged by service and by number, never by address: names resolve to other addresses every day. A service
that other devices of the cell use counts half on a device that is new to it.

Registers are compared with those that the same peer named by the same function before. A function that is new
is compared with what any peer ever named in the same table (Modbus Application Protocol 1.1b3, 4.3): writes
with what was written there, reads with all of it.

| rule | points | ATT&CK for ICS |
|---|---|---|
| `new-writer` | 6 | T0855 unauthorized command message |
| `register-outside-map` | 6, reading 3 | T0836 modify parameter, T0861 point and tag identification |
| `arp-identity-change` | 6 | T0830 adversary-in-the-middle |
| `new-opcua-session` | 3 | T0848 rogue master |
| `scan` | 3 | T0846 remote system discovery |
| `new-function-code` | 2 | T0869 standard application layer protocol |
| `new-peer` | 2, a device of the cell 1 | T0846 |
| `new-service` | 1, with public addresses or a group 0.5 | T0886 remote services |
| `period-lost` | 1 | T0804 block reporting message |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cellwatch.models.rules.habits import ENOUGH_WINDOWS, Habit, Habits, Key, is_stranger, owners, rows
from cellwatch.models.rules.rule import Finding
from cellwatch.models.types import Conversations, FeatureWindow, Role, Violation

SCAN = 6  # new services of one peer, new peers, or connections refused beyond habit, in one window
REGULAR = 0.5  # share of the windows that a habit has to show in for its silence to be news
_TABLES = {
    **dict.fromkeys(("modbus:1", "modbus:5", "modbus:15"), "coils"),
    "modbus:2": "discrete inputs",
    **dict.fromkeys(("modbus:3", "modbus:6", "modbus:16", "modbus:22", "modbus:23"), "holding registers"),
    "modbus:4": "input registers",
}
_SESSION = frozenset({"opcua:Hello", "opcua:OpenSecureChannel", "opcua:CreateSession"})
_HARMLESS = frozenset({"arp", "icmp", "icmpv6"})  # to ask whether someone is there
_MANY = frozenset({Conversations.PUBLIC, Conversations.GROUP})
_POINTS = {
    "new-writer": (6.0, "ics", "T0855"),
    "register-outside-map": (6.0, "ics", "T0836"),
    "register-read-outside-map": (3.0, "recon", "T0861"),
    "arp-identity-change": (6.0, "mitm", "T0830"),
    "new-opcua-session": (3.0, "ics", "T0848"),
    "scan": (3.0, "recon", "T0846"),
    "new-function-code": (2.0, "ics", "T0869"),
    "new-peer": (2.0, "recon", "T0846"),
    "new-service": (1.0, "", "T0886"),
    "period-lost": (1.0, "", "T0804"),
}


@dataclass(frozen=True, slots=True)
class _Known:
    """Habits of one device, as the rules ask for them."""

    habits: Habits
    peers: frozenset[str]
    protocols: frozenset[tuple[str, Role, str]]  # (peer, role, protocol) with messages
    writers: frozenset[tuple[str, Role, str]]
    public: Mapping[tuple[Role, str], int]  # most public addresses in a window
    tables: Mapping[tuple[Role, str, bool], tuple[int, int]]  # registers named (True: written) in each table
    regular: tuple[Key, ...]  # conversations whose silence is news
    weights: Mapping[str, float]

    @classmethod
    def of(cls, habits: Habits) -> _Known:
        """Sort them out."""
        said = habits.conversations.items()
        public: dict[tuple[Role, str], int] = {}
        for key, habit in said:
            if key.peer == Conversations.PUBLIC and not key.service:
                about = (key.role, key.protocol)
                public[about] = max(public.get(about, 0), habit.peers)
        tables: dict[tuple[Role, str, bool], tuple[int, int]] = {}
        for key, habit in said:
            if key.service not in _TABLES or habit.high < 0:
                continue
            for written in {False, habit.writes > 0}:
                space = (key.role, _TABLES[key.service], written)
                low, high = tables.get(space, (habit.low, habit.high))
                tables[space] = min(low, habit.low), max(high, habit.high)
        functions = habits.weight(lambda k, _: bool(k.service), lambda k: k[:4])
        windows = min(1.0, habits.windows / ENOUGH_WINDOWS)
        return cls(
            habits,
            habits.peers(),
            frozenset((k.peer, k.role, k.protocol) for k, _ in said if k.service),
            frozenset((k.peer, k.role, k.protocol) for k, h in said if h.writes),
            public,
            tables,
            tuple(k for k, h in said if _is_regular(k, h, habits.windows)),
            {
                "new-writer": habits.weight(lambda _, h: h.writes > 0, lambda k: k.peer),
                "register-outside-map": windows,
                "register-read-outside-map": windows,
                "new-opcua-session": habits.weight(lambda k, _: k.service in _SESSION, lambda k: k.peer),
                "scan": windows,
                "new-function-code": functions,
                "new-peer": habits.weight(lambda k, _: k.peer not in _MANY, lambda k: k.peer),
                "new-service": habits.weight(lambda k, _: not k.service, lambda k: k),
                "period-lost": windows,
                "arp-identity-change": windows,
            },
        )

    def registers(self, key: Key, habit: Habit | None, writes: bool) -> tuple[int, int] | None:
        """First and last register that a conversation may name; None = not told. (-1, -1): none, ever."""
        if habit is not None and habit.high >= 0:
            return habit.low, habit.high
        if key.service not in _TABLES:
            return None
        found = self.tables.get((key.role, _TABLES[key.service], writes))
        # To read a table for the first time is a new function code, no more; to write one is grave.
        return (-1, -1) if found is None and writes else found


def _is_regular(key: Key, habit: Habit, windows: int) -> bool:
    often = habit.windows >= max(ENOUGH_WINDOWS // 2, REGULAR * windows)
    return often and not key.service and key.peer not in _MANY and key.protocol not in _HARMLESS


class ProtocolRules:
    """Judges the conversations of a window by the habits of its devices.

    A device without habits is judged for what it does to those that have some: writes, and addresses that are
    theirs. Windows come in the order of time: `period-lost` counts from the first one, and anew after a gap.
    """

    def __init__(self, habits: Mapping[str, Habits], block_points: float = 6.0) -> None:
        self._known = {device: _Known.of(mine) for device, mine in habits.items()}
        self._owners = owners(habits)
        # What some device of the cell is used to is no surprise on another.
        self._usual = {
            (key.role, key.protocol, key.port)
            for device, mine in habits.items()
            if not is_stranger(device)
            for key in mine.conversations
            if not key.service and not is_stranger(key.peer)
        }
        self._worth = block_points / 6.0
        learned = max((mine.windows for mine in habits.values()), default=0)
        self._grace = min(1.0, learned / ENOUGH_WINDOWS)
        self._last: dict[tuple[str, Key], int] = {}  # when a regular conversation was last seen
        self._since = self._before = -1

    def take_over(self, other: ProtocolRules) -> None:
        """Go on from what another, with other habits, has seen."""
        self._last, self._since, self._before = other._last, other._since, other._before

    def judge(self, window: FeatureWindow) -> list[Finding]:
        """What breaks a rule; nothing where nobody watched, or nothing was learned."""
        spoken = window.conversations
        if spoken is None or not self._known:
            self._before = -1
            return []
        news = _News(window, self._known, self._grace, self._worth)
        seen = self._conversations(window, spoken, news)
        self._claims(spoken, news)
        self._silent(window, spoken, seen, news)
        return news.found()

    def _conversations(
        self, window: FeatureWindow, spoken: Conversations, news: _News
    ) -> set[tuple[str, Key]]:
        seen: set[tuple[str, Key]] = set()
        strange: dict[int, list[tuple[Key, int]]] = {}
        refused: dict[int, tuple[int, Key]] = {}
        for at, key, packets, writes, no, peers, low, high in rows(spoken):
            device = window.devices[at]
            known = self._known.get(device)
            if known is None:
                if writes and key.role == Role.CLIENT and key.peer in self._known:
                    news.add(at, "new-writer", key, writes)
                continue
            habit = known.habits.conversations.get(key)
            seen.add((device, key))
            if writes and (key.peer, key.role, key.protocol) not in known.writers:
                news.add(at, "new-writer", key, writes)
            beyond = no - (2 * habit.refused if habit else 0)
            if beyond > 0 and not key.service and key.peer not in _MANY:
                refused[at] = (refused.get(at, (0, key))[0] + beyond, key)
            if habit is None:
                strange.setdefault(at, []).append((key, packets))
            registers = known.registers(key, habit, writes > 0) if high >= 0 else None
            if registers is not None and (low < registers[0] or high > registers[1]):
                rule = "register-outside-map" if writes else "register-read-outside-map"
                news.add(at, rule, key, high if high > registers[1] else low, *registers)
            most = known.public.get((key.role, key.protocol), 0)
            if key.peer == Conversations.PUBLIC and not key.service and 0 < 2 * most + 3 < peers:
                news.add(at, "new-peer", key, peers, 0, most, share=0.5)
        for at, some in strange.items():
            self._strange(at, self._known[window.devices[at]], some, news)
        for at, (no, key) in refused.items():
            if no >= SCAN:
                news.add(at, "scan", key, no)
        return seen

    def _strange(self, at: int, known: _Known, some: list[tuple[Key, int]], news: _News) -> None:
        """Conversations that are no habit."""
        services: dict[str, set[tuple[str, int]]] = {}
        hosts = set()
        for key, count in some:
            about = (key.peer, key.role, key.protocol)
            if key.service:
                if about in known.protocols and key.service.rpartition(":")[2]:
                    news.add(at, "new-function-code", key, count)
                elif key.service in _SESSION and about not in known.protocols:
                    news.add(at, "new-opcua-session", key, count)
                continue
            usual = (key.role, key.protocol, key.port) in self._usual
            if key.peer in known.peers or key.peer in _MANY:
                news.add(at, "new-service", key, count, share=0.5 if usual or key.peer in _MANY else 1.0)
            else:
                share = 1.0 if is_stranger(key.peer) else 0.25 if usual else 0.5
                news.add(at, "new-peer", key, count, share=share)
                hosts.add(key.peer)
            if key.peer not in _MANY:
                services.setdefault(key.peer, set()).add((key.protocol, key.port))
        most = max((len(ports) for ports in services.values()), default=0)
        if max(most, len(hosts)) >= SCAN:
            news.add(at, "scan", some[0][0], max(most, len(hosts)), 0, SCAN - 1)

    def _claims(self, spoken: Conversations, news: _News) -> None:
        """Addresses in the hands of someone else: whoever hears it, whose address it is, and who does it."""
        names = spoken.names
        for at, ip, owner, packets in zip(
            spoken.claim_device.tolist(), spoken.claim_ip.tolist(), spoken.claim_owner.tolist(),
            spoken.claim_packets.tolist(), strict=True,
        ):  # fmt: skip
            right = self._owners.get(names[ip])
            if right is None or names[owner] in right:
                continue
            key = Key(names[owner], Role.PEER, f"as {names[ip]}", "", 0)
            for row in {at, *(news.row[name] for name in (*right, names[owner]) if name in news.row)}:
                news.add(row, "arp-identity-change", key, packets)

    def _silent(
        self, window: FeatureWindow, spoken: Conversations, seen: set[tuple[str, Key]], news: _News
    ) -> None:
        if window.window_id != self._before + 1:
            self._since = window.window_id - 1
            self._last.clear()
        self._before = window.window_id
        # A lost row may be the one that is looked for: only on the device whose rows found no room.
        full = np.bincount(spoken.device, minlength=len(window.devices)) >= Conversations.MOST
        full &= spoken.more > 0
        window_s = (window.end_ns - window.start_ns) / 1e9
        for at, device in enumerate(window.devices):
            known = self._known.get(device)
            for key in known.regular if known else ():
                if (device, key) in seen or full[at]:
                    self._last[device, key] = window.window_id
                    continue
                silent = window.window_id - self._last.get((device, key), self._since)
                normal = known.habits.conversations[key].silent if known else 0
                if silent > 2 * normal + 2:
                    news.add(at, "period-lost", key, silent * window_s, 0, normal * window_s)


class _News:
    """The gravest finding of each rule on each device."""

    def __init__(
        self, window: FeatureWindow, known: Mapping[str, _Known], grace: float, worth: float
    ) -> None:
        self.row = {name: i for i, name in enumerate(window.devices)}
        self._devices, self._known, self._grace, self._worth = window.devices, known, grace, worth
        self._best: dict[tuple[int, str], tuple[float, Key, float, float, float]] = {}

    def add(
        self,
        at: int,
        rule: str,
        key: Key,
        observed: float,
        low: float = 0,
        high: float = 0,
        share: float = 1.0,
    ) -> None:
        """Note a finding; `share` of the rule's points."""
        known = self._known.get(self._devices[at])
        points = _POINTS[rule][0] * share * self._worth * (known.weights[rule] if known else self._grace)
        best = self._best.get((at, rule))
        if points > 0 and (best is None or (points, observed) > (best[0], best[2])):
            self._best[at, rule] = (points, key, observed, low, high)

    def found(self) -> list[Finding]:
        """All of them, by device."""
        out = []
        for (at, rule), (points, key, observed, low, high) in sorted(self._best.items()):
            _, category, attack_id = _POINTS[rule]
            what = f"{key.peer} {key.service or key.protocol}" + (f" port {key.port}" if key.port else "")
            name = "register-outside-map" if rule == "register-read-outside-map" else rule
            violation = Violation(
                self._devices[at], what, float(observed), float(low), float(high), name, category, attack_id
            )
            out.append(Finding(at, points, violation))
        return out
