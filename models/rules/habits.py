"""What a device is used to say to whom, learned from benign windows.

How much a first sight is worth depends on how often something new came while learning: the chance that the
next window shows something never seen is about the share of windows that showed something seen in no other
(I. J. Good, The population frequencies of species, Biometrika 40, 1953).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from cellwatch.models.types import Conversations, FeatureWindow, Role

ENOUGH_WINDOWS = 30  # with fewer windows learned, a first sight weighs proportionally less
NOVELTY = 10.0  # a kind of thing that was new in a tenth of the windows tells nothing any more


class Key(NamedTuple):
    """What makes a conversation another one."""

    peer: str  # device, MAC, Conversations.PUBLIC or GROUP
    role: Role  # of the device itself
    protocol: str
    service: str  # "" = packets
    port: int


@dataclass(frozen=True, slots=True)
class Habit:
    """One conversation as it used to be."""

    windows: int  # that showed it
    period_s: float  # mean time between two packets (messages of a service) in these windows
    silent: int  # windows that it was ever silent for, at most
    writes: int = 0  # windows in which it wrote or controlled
    low: int = -1  # registers named, -1 = none
    high: int = -1
    peers: int = 1  # addresses in one window, at most
    refused: int = 0  # connections (requests of a service) that were refused in one window, at most

    def joined(self, other: Habit) -> Habit:
        """What was normal in either of two benign periods."""
        windows = self.windows + other.windows
        named = [habit for habit in (self, other) if habit.high >= 0]
        return Habit(
            windows,
            (self.period_s * self.windows + other.period_s * other.windows) / max(windows, 1),
            max(self.silent, other.silent),
            self.writes + other.writes,
            min((habit.low for habit in named), default=-1),
            max((habit.high for habit in named), default=-1),
            max(self.peers, other.peers),
            max(self.refused, other.refused),
        )


@dataclass(frozen=True, slots=True)
class Habits:
    """All conversations of one device, learned from `windows` windows; `addresses` are its own, IPv4."""

    windows: int
    conversations: Mapping[Key, Habit] = field(default_factory=dict)
    addresses: tuple[str, ...] = ()

    def peers(self) -> frozenset[str]:
        """Everyone that it ever spoke with."""
        return frozenset(key.peer for key in self.conversations)

    def joined(self, other: Habits) -> Habits:
        """What was normal in either of two benign periods; what one did not hear was silent there."""
        mine, theirs = self.conversations, other.conversations
        both = {key: mine[key].joined(theirs[key]) for key in mine if key in theirs}
        for ours, rest, silent in ((mine, theirs, other.windows), (theirs, mine, self.windows)):
            both |= {k: replace(h, silent=max(h.silent, silent)) for k, h in ours.items() if k not in rest}
        addresses = tuple(sorted({*self.addresses, *other.addresses}))
        return Habits(self.windows + other.windows, both, addresses)

    def weight(self, some: Callable[[Key, Habit], bool], of: Callable[[Key], Any]) -> float:
        """Worth, 0..1, of a first sight of a kind of thing.

        The kind are the conversations that `some` picks; two with the same `of` are one thing.
        """
        seen: dict[Any, int] = {}
        for key, habit in self.conversations.items():
            if some(key, habit):
                seen[of(key)] = seen.get(of(key), 0) + habit.windows
        once = sum(count == 1 for count in seen.values())
        grace = min(1.0, self.windows / ENOUGH_WINDOWS)
        return grace * max(0.0, 1.0 - NOVELTY * once / max(self.windows, 1))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML or JSON, sorted, so that two profiles can be compared line by line."""
        rows = []
        for key, habit in sorted(self.conversations.items()):
            row: dict[str, Any] = {"peer": key.peer, "role": key.role.name.lower(), "protocol": key.protocol}
            row |= {"service": key.service} if key.service else {}
            row |= {"port": key.port} if key.port else {}
            row |= {"windows": habit.windows, "period_s": round(habit.period_s, 3), "silent": habit.silent}
            row |= {"writes": habit.writes} if habit.writes else {}
            row |= {"registers": [habit.low, habit.high]} if habit.high >= 0 else {}
            row |= {"peers": habit.peers} if habit.peers > 1 else {}
            row |= {"refused": habit.refused} if habit.refused else {}
            rows.append(row)
        return {"windows": self.windows, "addresses": sorted(self.addresses), "conversations": rows}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Habits:
        """Read it back. ValueError that names the field that is missing or wrong."""
        where = ""
        try:
            conversations = {}
            for number, row in enumerate(data["conversations"], 1):
                where = f"conversation {number}: "
                key, habit = _conversation(row)
                conversations[key] = habit
            where = ""
            return cls(int(data["windows"]), conversations, tuple(str(ip) for ip in data["addresses"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"habits: {where}missing or wrong: {error}") from None


def _conversation(row: Mapping[str, Any]) -> tuple[Key, Habit]:
    low, high = row.get("registers", (-1, -1))
    key = Key(
        str(row["peer"]),
        Role[str(row["role"]).upper()],
        str(row["protocol"]),
        str(row.get("service", "")),
        int(row.get("port", 0)),
    )
    return key, Habit(
        int(row["windows"]),
        float(row["period_s"]),
        int(row["silent"]),
        int(row.get("writes", 0)),
        int(low),
        int(high),
        int(row.get("peers", 1)),
        int(row.get("refused", 0)),
    )


def is_stranger(name: str) -> bool:
    """Whether a name is only an address: a station that is not in the inventory of the cell.

    >>> is_stranger("PLC1"), is_stranger("e4:5f:01:55:90:c1"), is_stranger("192.168.1.9")
    (False, True, True)
    """
    return name.count(":") >= 2 or name.replace(".", "").isdigit()


def owners(habits: Mapping[str, Habits]) -> dict[str, frozenset[str]]:
    """IPv4 address -> the devices in whose hands it was."""
    found: dict[str, set[str]] = {}
    for device, mine in habits.items():
        for ip in mine.addresses:
            found.setdefault(ip, set()).add(device)
    return {ip: frozenset(names) for ip, names in found.items()}


def rows(spoken: Conversations) -> Iterable[tuple[int, Key, int, int, int, int, int, int]]:
    """Each row of a window: device row, key, packets, writes, refused, peers, low, high."""
    names = spoken.names
    for at, peer, role, protocol, service, port, *rest in zip(
        spoken.device.tolist(), spoken.peer.tolist(), spoken.role.tolist(), spoken.protocol.tolist(),
        spoken.service.tolist(), spoken.port.tolist(), spoken.packets.tolist(), spoken.writes.tolist(),
        spoken.refused.tolist(), spoken.peers.tolist(), spoken.low.tolist(), spoken.high.tolist(),
        strict=True,
    ):  # fmt: skip
        yield at, Key(names[peer], _ROLES[role], names[protocol], names[service], port), *rest


_ROLES = tuple(Role)


@dataclass(slots=True)
class _Seen:
    """A conversation while it is learned."""

    last: int = -1  # window of its device, counted from the first learned
    windows: int = 0
    packets: int = 0
    silent: int = 0
    writes: int = 0
    low: int = -1
    high: int = -1
    peers: int = 1
    refused: int = 0


class HabitsBuilder:
    """Learns from benign windows in the order of time.

    What is seen in one of two recordings that follow each other counts as silent all through the other: a
    longer silence is then normal, never a shorter one.
    """

    def __init__(self) -> None:
        self._seen: dict[str, dict[Key, _Seen]] = {}
        self._windows: dict[str, int] = {}
        self._addresses: dict[str, set[str]] = {}
        self._window_s = 1.0

    def add(self, window: FeatureWindow) -> None:
        """Take a window in; one without conversations tells nothing."""
        spoken = window.conversations
        if spoken is None:
            return
        self._window_s = (window.end_ns - window.start_ns) / 1e9
        for device in window.devices:
            self._windows[device] = self._windows.get(device, 0) + 1
        for at, key, packets, writes, refused, peers, low, high in rows(spoken):
            device = window.devices[at]
            seen = self._seen.setdefault(device, {}).setdefault(key, _Seen())
            now = self._windows[device] - 1
            seen.silent = max(seen.silent, now - seen.last - 1)
            seen.last = now
            seen.windows += 1
            seen.packets += packets
            seen.writes += writes > 0
            seen.peers = max(seen.peers, peers)
            seen.refused = max(seen.refused, refused)
            if high >= 0:
                seen.low = low if seen.high < 0 else min(seen.low, low)
                seen.high = max(seen.high, high)
        for ip, owner in zip(spoken.claim_ip.tolist(), spoken.claim_owner.tolist(), strict=True):
            self._addresses.setdefault(spoken.names[owner], set()).add(spoken.names[ip])

    def build(self) -> dict[str, Habits]:
        """Habits by device name; empty when no window carried conversations."""
        return {
            device: Habits(
                windows,
                {key: self._habit(seen, windows) for key, seen in self._seen.get(device, {}).items()},
                tuple(sorted(self._addresses.get(device, ()))),
            )
            for device, windows in self._windows.items()
        }

    def _habit(self, seen: _Seen, windows: int) -> Habit:
        return Habit(
            seen.windows,
            self._window_s * seen.windows / seen.packets,
            max(seen.silent, windows - seen.last - 1),
            seen.writes,
            seen.low,
            seen.high,
            seen.peers,
            seen.refused,
        )
