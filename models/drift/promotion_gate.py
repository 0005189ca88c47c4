"""Whether a candidate may go on: it is set against its parent on the very same windows.

Candidate and parent judge each window of each device, one of them beside the other. Only samples on which
they differ can tell them apart (McNemar 1947). Windows of a device in a row in which they differ in the same
way are one such pair: they follow each other too closely to be several. The tests may be looked at at any
time, see `anytime`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from cellwatch.models.drift.anytime import above_rate, more_often
from cellwatch.models.drift.ring import slots_of
from cellwatch.models.types import I64, U8, Bool, FusedWindow, Screening, SettledLabels, Stage, StageFigures

BENIGN = ("benign", "normal")
CATCH_UP = 30  # windows for which one that has just been started may be behind
SET_BACK = 64  # windows: an id that is older says that the clock was set back
ORDERS = 256  # of devices that are remembered: fusion names the gravest first
_ALLOW = int(Screening.ALLOW)
_NONE, _BENIGN, _ATTACK = range(3)  # labels


@dataclass(frozen=True, slots=True)
class GateSettings:
    """What one stage asks for."""

    windows: int = 300  # that both have judged, at least
    labelled: int = 500  # samples with a label, at least
    unlabelled_windows: int = 3_600  # that do where labels are fewer
    probation_windows: int = 3_600  # in place of `windows` once it is in service
    alpha: float = 0.01  # of each test, over the whole stage
    doubt: float = 3.0  # evidence of being worse with which none passes yet; 1 / alpha: it fails
    false_alarms_per_hour: float = 1.0  # of the cell: alarms of the candidate alone that nobody labelled
    late: int = 120  # windows after which a label is no longer waited for
    slower: float = 1.5  # times the parent's mean latency
    unnoticed_s: float = 0.2  # a latency below this is never too long: windows wait as long for a late source
    lost: float = 0.01  # share of samples that the candidate did not judge
    behind: int = 10  # windows that it may still be judging
    kept: int = 86_400  # windows


class Judgement(NamedTuple):
    """What a gate says, and why."""

    outcome: Literal["wait", "pass", "fail"]
    why: str


class PromotionGate:
    """The gate of one stage. The devices are those of the first window; others come and go."""

    def __init__(self, stage: Stage, settings: GateSettings | None = None, *, window_s: float) -> None:
        """`window_s`: length of a window. Once it is in service, the parent is the one that judges beside."""
        self.stage, self.settings = stage, settings or GateSettings()
        self._window_s = window_s
        self._behind = 0  # windows that were said too late before the stage began
        self._begin(())

    def _begin(self, devices: tuple[str, ...]) -> None:
        shape = (self.settings.kept, len(devices))
        self.devices = devices
        self._row = {name: i for i, name in enumerate(devices)}
        self._places: dict[tuple[str, ...], tuple[I64, I64]] = {}
        self._ids, self._seen, self._last = np.zeros(self.settings.kept, np.int64), 0, -1
        self._served, self._beside = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)  # Screening
        self._label = np.zeros(shape, np.uint8)
        self._latency = {"served": (0.0, 0), "beside": (0.0, 0)}  # sum in s, windows

    # What is heard -----------------------------------------------------------
    def beside(self, window: FusedWindow, latency_s: float) -> None:
        """What the one that judges beside says; the stage begins with its first window that is in time."""
        if not self.devices:
            if latency_s > self._window_s and self._behind < CATCH_UP:
                self._behind += 1
                return
            self._begin(tuple(sorted(v.device for v in window.verdicts)))
        slot = self._slot(window.window_id)
        if slot >= 0:
            self._put(self._beside, slot, window)
            self._spent("beside", latency_s)

    def served(self, window: FusedWindow, latency_s: float) -> None:
        """What the cell says. What the canary has displaced is not overwritten."""
        slot = self._slot(window.window_id) if self.devices else -1
        if slot >= 0:
            self._put(self._served, slot, window, keep=True)
            self._spent("served", latency_s)

    def displaced(self, window: FusedWindow) -> None:
        """What the parent says of the devices of the canary."""
        slot = self._slot(window.window_id) if self.devices else -1
        if slot >= 0:
            self._put(self._served, slot, window)

    def labels(self, labels: SettledLabels) -> None:
        """What samples really were; windows or devices that are not known are passed over."""
        if not self.devices:
            return
        place = np.array([self._row.get(name, -1) for name in labels.devices], np.int64)
        kinds = [_BENIGN if name in BENIGN else _ATTACK for name in labels.classes]
        slots, columns = slots_of(labels.window_ids, self._ids, self._seen), place[labels.device]
        there = (slots >= 0) & (columns >= 0)
        self._label[slots[there], columns[there]] = np.array(kinds, np.uint8)[labels.label[there]]

    def _slot(self, window_id: int) -> int:
        """Where a window stands, a new one behind the last; -1: it is older, and was passed over."""
        if window_id <= self._last:
            if window_id < self._last - SET_BACK:
                self._begin(self.devices)
            else:
                return int(slots_of(np.array([window_id], np.int64), self._ids, self._seen)[0])
        slot = self._seen % self.settings.kept
        self._ids[slot] = self._last = window_id
        self._served[slot] = self._beside[slot] = self._label[slot] = 0
        self._seen += 1
        return slot

    def _put(self, into: U8, slot: int, window: FusedWindow, *, keep: bool = False) -> None:
        mine, columns = self._found(tuple([v.device for v in window.verdicts]))
        decision = np.array([v.decision for v in window.verdicts], np.uint8)[mine]
        if keep:
            there = into[slot, columns]
            decision = np.where(there, there, decision)
        into[slot, columns] = decision

    def _found(self, names: tuple[str, ...]) -> tuple[I64, I64]:
        """Places among `names` of the devices that count, and their columns here."""
        found = self._places.get(names)
        if found is None:
            if len(self._places) >= ORDERS:
                self._places.clear()
            columns = np.array([self._row.get(name, -1) for name in names], np.int64)
            found = self._places[names] = np.flatnonzero(columns >= 0), columns[columns >= 0]
        return found

    def _spent(self, who: str, latency_s: float) -> None:
        total, windows = self._latency[who]
        self._latency[who] = total + latency_s, windows + 1

    # What it comes to --------------------------------------------------------
    def figures(self) -> StageFigures:
        """Candidate and parent so far."""
        candidate, parent, label = self._windows()
        both = (candidate > 0) & (parent > 0)
        benign, attack = both & (label == _BENIGN), both & (label == _ATTACK)
        alarms = [int((benign & (who > _ALLOW)).sum()) for who in (candidate, parent)]
        misses = [int((attack & (who == _ALLOW)).sum()) for who in (candidate, parent)]
        latency = [total / n if n else float("nan") for total, n in self._spent_by()]
        return StageFigures(
            windows=int(both.any(axis=1).sum()),
            labelled=int(benign.sum() + attack.sum()),
            errors=alarms[0] + misses[0],
            parent_errors=alarms[1] + misses[1],
            false_alarms=alarms[0],
            parent_false_alarms=alarms[1],
            latency_s=latency[0],
            parent_latency_s=latency[1],
        )

    def judge(self) -> Judgement:
        """Ask every few seconds; it goes over all windows of the stage."""
        it, now = self.settings, self.figures()
        evidence, worse = self._worse()
        bad = worse if evidence >= 1 / it.alpha else self._slow()
        if bad:
            return Judgement("fail", bad)
        least = it.windows if self.stage != Stage.ACTIVE else it.probation_windows
        lost, judged = self._lost()
        if lost > it.lost * max(judged, least * len(self.devices)):
            return Judgement("fail", f"{lost} of {judged} samples were not judged")
        if now.windows < least:
            return Judgement("wait", f"{now.windows} of {least} windows")
        if now.labelled < it.labelled and now.windows < it.unlabelled_windows:
            return Judgement("wait", f"{now.labelled} of {it.labelled} labelled samples")
        if lost > it.lost * judged:
            return Judgement("wait", f"{lost} of {judged} samples were not judged")
        if evidence >= it.doubt:
            return Judgement("wait", f"in doubt: {worse}")
        return Judgement(
            "pass",
            f"{now.windows} windows, {now.labelled} labelled samples: {now.errors} errors, "
            f"{now.parent_errors} of its parent",
        )

    def _worse(self) -> tuple[float, str]:
        """The strongest evidence that it is worse than its parent, and what that is."""
        candidate, parent, label = self._windows()
        both = (candidate > 0) & (parent > 0)
        alarm, before = both & (candidate > _ALLOW), both & (parent > _ALLOW)
        benign, attack = label == _BENIGN, label == _ATTACK
        more, fewer = alarm & ~before, before & ~alarm  # alarms than the parent
        kinds = {
            "false alarms": (more & benign, fewer & benign),
            "misses": (fewer & attack, more & attack),
            "errors": ((more & benign) | (fewer & attack), (fewer & benign) | (more & attack)),
        }
        found = []
        for what, (worse, better) in kinds.items():
            one, other = _stretches(worse), _stretches(better)
            words = f"more {what} than its parent: worse in {one} stretches of windows, better in {other}"
            found.append((more_often(one, other), words))
        old = max(len(more) - self.settings.late, 0)
        alone = _stretches((more & (label == _NONE))[:old])
        hours = old * self._window_s / 3600
        words = f"{alone} alarms of its own in {hours:.2g} h that nobody labelled"
        found.append((above_rate(alone, hours * self.settings.false_alarms_per_hour), words))
        return max(found, key=lambda one: one[0])

    def _slow(self) -> str:
        """Latencies are compared once both have judged what a stage asks for."""
        (mine, n), (theirs, m) = self._spent_by()
        if min(n, m) < self.settings.windows:
            return ""
        latency, before = mine / n, theirs / m
        if latency > self._window_s:
            return f"{latency:.3f} s to the verdict: longer than a window"
        if latency > max(self.settings.slower * before, self.settings.unnoticed_s):
            return f"{latency:.3f} s to the verdict, {before:.3f} s of its parent"
        return ""

    def _lost(self) -> tuple[int, int]:
        """Samples that the parent alone has judged, and all that it has."""
        candidate, parent, _ = (part[: -self.settings.behind] for part in self._windows())
        judged = parent > 0
        return int((judged & (candidate == 0)).sum()), int(judged.sum())

    def _windows(self) -> tuple[U8, U8, U8]:
        """Decisions of candidate and parent and labels (windows, devices), in order of time."""
        used = min(self._seen, self.settings.kept)
        cut = self._seen % self.settings.kept if used == self.settings.kept else 0
        served, beside, label = (
            part[:used] if not cut else np.concatenate([part[cut:], part[:cut]])
            for part in (self._served, self._beside, self._label)
        )
        return (served, beside, label) if self.stage == Stage.ACTIVE else (beside, served, label)

    def _spent_by(self) -> tuple[tuple[float, int], tuple[float, int]]:
        """Latency of candidate and parent."""
        served, beside = self._latency["served"], self._latency["beside"]
        return (served, beside) if self.stage == Stage.ACTIVE else (beside, served)


def _stretches(what: Bool) -> int:
    """How many times a device enters the state (windows, devices).

    >>> _stretches(np.array([[1, 0], [1, 1], [0, 0], [1, 0]], bool))
    3
    """
    return int(what[:1].sum() + (what[1:] & ~what[:-1]).sum())
