"""What the cell thinks of its devices, and why."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING

from cellwatch.models.types import Screening
from cellwatch.nodes.page.values import Band, DeviceView, ExplanationView, SourceView

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cellwatch.models.types import FusedVerdict, FusedWindow, Verdicts

AGAIN_NS = 30_000_000_000  # an alarm unseen for longer comes anew
GONE = 5  # windows without a verdict: a stranger has one only while it talks
MOST_DEVICES, MOST_EXPLANATIONS = 1000, 512
MOST_WINDOWS, MOST_BANDS = 120, 500


class VerdictBoard:
    """Devices, their verdicts of the last windows, and the explanation of each alarm.

    `known` are the devices of the cell; others are strangers. `window_ns` is the length of a window.
    """

    def __init__(self, known: Iterable[str], window_ns: int) -> None:
        self._known = frozenset(names := tuple(known))
        self._window_ns = window_ns
        self._plcs: frozenset[str] = frozenset()
        self._with_tags: frozenset[str] = frozenset()
        self._devices = {name: DeviceView(name, "network", Screening.UNKNOWN) for name in names}
        self._bands: dict[str, deque[list[int]]] = {}  # start, end, decision
        self._sources: dict[str, dict[str, SourceView]] = {}
        self._windows: deque[FusedWindow] = deque(maxlen=MOST_WINDOWS)
        self._explanations: dict[str, ExplanationView] = {}  # by key of the alarm, the latest last
        self._shares: dict[str, tuple[int, tuple[tuple[str, float], ...], str]] = {}

    # Writing --------------------------------------------------------------------
    def tell_apart(self, plcs: frozenset[str], with_tags: frozenset[str]) -> None:
        """Which devices are PLCs, and which have tags."""
        self._plcs, self._with_tags = plcs, with_tags
        for name in sorted(plcs | with_tags):
            self._meet(name)
        self._devices = {name: replace(d, kind=self._kind(name)) for name, d in self._devices.items()}

    def judge(self, window: FusedWindow) -> None:
        """The cell's verdicts of one window."""
        self._windows.append(window)
        for verdict in window.verdicts:
            self._judge(verdict, window)
        self._let_go(window.end_ns - GONE * self._window_ns)

    def hear(self, verdicts: Verdicts) -> None:
        """What one source says."""
        rows = zip(verdicts.devices, verdicts.screening.tolist(), verdicts.confidence.tolist(), strict=True)
        for device, screening, confidence in rows:
            if self._meet(device) is not None:
                self._sources.setdefault(device, {})[verdicts.source] = SourceView(
                    verdicts.source, Screening(screening), confidence, verdicts.end_ns, verdicts.abstained
                )

    def attribute(self, end_ns: int, device: str, shares: tuple[tuple[str, float], ...], words: str) -> None:
        """What moved the models on a device; it may come some windows late."""
        if self._meet(device) is None:
            return
        self._shares[device] = (end_ns, shares, words)
        for key, view in self._explanations.items():
            if view.device == device and view.first_ns <= end_ns <= view.end_ns + AGAIN_NS:
                self._explanations[key] = replace(view, shares=shares, shares_in_words=words)

    # Reading --------------------------------------------------------------------
    def devices(self) -> tuple[DeviceView, ...]:
        return tuple(self._devices.values())

    def sources(self, device: str) -> tuple[SourceView, ...]:
        return tuple(self._sources.get(device, {}).values())

    def bands(self, device: str, since_ns: int) -> tuple[Band, ...]:
        return tuple(
            Band(start / 1e9, end / 1e9, Screening(decision))
            for start, end, decision in self._bands.get(device, ())
            if end >= since_ns
        )

    def verdicts(self, device: str, limit: int) -> list[tuple[int, int, FusedVerdict]]:
        """See `LiveCell.verdicts`."""
        found: list[tuple[int, int, FusedVerdict]] = []
        for window in reversed(self._windows):
            found += [
                (window.window_id, window.end_ns, v)
                for v in window.verdicts
                if not device or v.device == device
            ]
            if len(found) >= limit:
                break
        return found[:limit]

    def explanation(self, key: str) -> ExplanationView | None:
        return self._explanations.get(key)

    # Within ---------------------------------------------------------------------
    def _let_go(self, since_ns: int) -> None:
        """What was said of a device that has no verdicts any more is no longer its state."""
        for name, d in self._devices.items():
            if d.decision != Screening.UNKNOWN and d.at_ns <= since_ns:
                self._devices[name] = DeviceView(name, d.kind, Screening.UNKNOWN, since_ns=d.at_ns)

    def _judge(self, v: FusedVerdict, w: FusedWindow) -> None:
        start_ns = w.end_ns - self._window_ns
        if (old := self._meet(v.device)) is None:
            return
        same = (old.decision, old.category) == (v.decision, v.category)
        self._devices[v.device] = DeviceView(
            v.device, old.kind, v.decision, v.probability, v.threshold, v.category, v.attack_type,
            v.explanation, old.since_ns if same else start_ns, w.end_ns,
        )  # fmt: skip
        if v.decision == Screening.ALLOW:
            return
        bands = self._bands.setdefault(v.device, deque(maxlen=MOST_BANDS))
        if bands and bands[-1][2] == v.decision and start_ns - bands[-1][1] <= self._window_ns // 2:
            bands[-1][1] = w.end_ns
        else:
            bands.append([start_ns, w.end_ns, int(v.decision)])
        self._explain(v, w)

    def _explain(self, v: FusedVerdict, w: FusedWindow) -> None:
        """Keep the gravest window of an occurrence, and of equally grave ones the last."""
        key = f"{v.device}/{v.category}"
        old = self._explanations.pop(key, None)
        if old is not None and w.end_ns - old.end_ns > AGAIN_NS:
            old = None
        if old is not None and old.decision > v.decision:
            self._explanations[key] = old
            return
        first_ns = old.first_ns if old else w.end_ns
        at_ns, shares, words = self._shares.get(v.device, (0, (), ""))
        if at_ns < first_ns:
            shares, words = (), ""
        self._explanations[key] = ExplanationView(
            key, v.device, v.category, v.attack_type, v.decision, v.probability, v.threshold, v.explanation,
            v.violations, v.contributions, v.agreeing, v.conflict, shares, words, w.window_id, w.end_ns,
            first_ns, v.explanation_json,
        )  # fmt: skip
        while len(self._explanations) > MOST_EXPLANATIONS:
            del self._explanations[next(iter(self._explanations))]

    def _meet(self, device: str) -> DeviceView | None:
        """The device, which may be new; None if there is no room for more."""
        if device not in self._devices:
            if len(self._devices) >= MOST_DEVICES and not self._make_room():
                return None
            self._devices[device] = DeviceView(device, self._kind(device), Screening.UNKNOWN)
        return self._devices[device]

    def _make_room(self) -> bool:
        """Forget a stranger that is gone."""
        for name, d in self._devices.items():
            if d.kind == "stranger" and d.decision == Screening.UNKNOWN:
                del self._devices[name]
                return True
        return False

    def _kind(self, device: str) -> str:
        if device in self._plcs:
            return "plc"
        if device in self._with_tags:
            return "process"
        return "network" if device in self._known else "stranger"
