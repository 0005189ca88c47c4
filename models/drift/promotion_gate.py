"""Whether a candidate may go on: it is set against its parent on the very same windows.

Candidate and parent judge each window of each device, one of them beside the other. Only samples on which
they differ can tell them apart (McNemar 1947). Windows of a device in a row in which they differ in the same
way are one such pair: they follow each other too closely to be several; a long stretch counts again every
`GateSettings.again` windows. The tests may be looked at at any time, see `anytime`. None passes before the
sums are looked at too: few long differences may be more mistakes than many short ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from cellwatch.models.drift.anytime import above_rate, more_often
from cellwatch.models.drift.attribution import rise
from cellwatch.models.drift.finds import found_of, told_of
from cellwatch.models.drift.ring import slots_of
from cellwatch.models.types import I64, U8, Bool, FusedWindow, Screening, SettledLabels, Stage, StageFigures

BENIGN = ("benign", "normal")
CATCH_UP = 30  # windows for which one that has just been started may be behind
SET_BACK = 64  # windows: an id that is older says that the clock was set back
ORDERS = 256  # of devices that are remembered: fusion names the gravest first
_ALLOW, _BLOCK = int(Screening.ALLOW), int(Screening.BLOCK)
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
    again: int = 60  # windows in which a difference stays and counts once more
    tolerance: float = 0.002  # share of labelled samples on which it may be worse and still pass
    device_labelled: int = 100  # labelled samples from which a device is looked at by itself
    device_tolerance: float = 0.05  # share of these
    false_alarms_per_hour: float = 1.0  # of the cell: alarms of the candidate alone that nobody labelled
    late: int = 120  # windows after which a label is no longer waited for
    slower: float = 1.5  # times the parent's mean latency
    unnoticed_s: float = 0.2  # a latency below this is never too long: windows wait as long for a late source
    lost: float = 0.01  # share of samples that the candidate did not judge, in CANARY: not in time
    behind: int = 10  # windows that it may still be judging
    kept: int = 86_400  # windows


class Judgement(NamedTuple):
    """What a gate says, and why."""

    outcome: Literal["wait", "pass", "fail"]
    why: str


class _Wrong(NamedTuple):
    """One way to be wrong (windows, devices)."""

    mine: Bool  # the candidate is
    theirs: Bool  # its parent is
    of: Bool  # samples on which one can be


class PromotionGate:
    """The gate of one stage. The devices are those of the first window; others come and go."""

    def __init__(self, stage: Stage, settings: GateSettings | None = None, *, window_s: float) -> None:
        """`window_s`: length of a window. Once it is in service, the parent is the one that judges beside."""
        self.stage, self.settings = stage, settings or GateSettings()
        self._window_s = window_s
        self._behind = 0  # windows that were said too late before the stage began
        self.served_since_beside = 0  # windows without a word of the one beside; first: since the making
        self._begin(())

    def _begin(self, devices: tuple[str, ...]) -> None:
        shape = (self.settings.kept, len(devices))
        self.devices = devices
        self._row = {name: i for i, name in enumerate(devices)}
        self._places: dict[tuple[str, ...], tuple[I64, I64]] = {}
        self._ids, self._seen, self._last = np.zeros(self.settings.kept, np.int64), 0, -1
        self._served, self._beside = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)  # Screening
        self._label = np.zeros(shape, np.uint8)
        self._in_time = np.zeros(self.settings.kept, np.uint8)  # 1: the canary decided
        self._latency = {"served": (0.0, 0), "beside": (0.0, 0)}  # sum in s, windows

    # What is heard -----------------------------------------------------------
    def beside(self, window: FusedWindow, latency_s: float) -> None:
        """What the one that judges beside says; the stage begins with its first window that is in time."""
        self.served_since_beside = 0
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
        self.served_since_beside += 1
        slot = self._slot(window.window_id) if self.devices else -1
        if slot >= 0:
            self._put(self._served, slot, window, keep=True)
            self._spent("served", latency_s)

    def displaced(self, window: FusedWindow) -> None:
        """What the parent says of the devices of the canary."""
        slot = self._slot(window.window_id) if self.devices else -1
        if slot >= 0:
            self._put(self._served, slot, window)
            self._in_time[slot] = 1

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
        self._served[slot] = self._beside[slot] = self._label[slot] = self._in_time[slot] = 0
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
        if math.isfinite(latency_s):
            total, windows = self._latency[who]
            self._latency[who] = total + latency_s, windows + 1

    # What it comes to --------------------------------------------------------
    def figures(self) -> StageFigures:
        """Candidate and parent so far."""
        candidate, parent, _ = self._windows()
        wrong = self._wrong()
        alarms, errors = wrong["false alarms"], wrong["errors"]
        latency = [total / n if n else float("nan") for total, n in self._spent_by()]
        return StageFigures(
            windows=int(((candidate > 0) & (parent > 0)).any(axis=1).sum()),
            labelled=int(errors.of.sum()),
            errors=int(errors.mine.sum()),
            parent_errors=int(errors.theirs.sum()),
            false_alarms=int(alarms.mine.sum()),
            parent_false_alarms=int(alarms.theirs.sum()),
            latency_s=latency[0],
            parent_latency_s=latency[1],
        )

    def judge(self) -> Judgement:
        """Ask every few seconds; it goes over all windows of the stage."""
        it, now = self.settings, self.figures()
        wrong = self._wrong()
        evidence, worse = self._worse(wrong)
        bad = worse if evidence >= 1 / it.alpha else self._slow()
        if bad:
            return Judgement("fail", bad)
        least = it.windows if self.stage != Stage.ACTIVE else it.probation_windows
        lost, judged = self._lost()
        if lost > it.lost * max(judged, least * len(self.devices)):
            return Judgement("fail", self._lost_words(lost, judged))
        if now.windows < least:
            return Judgement("wait", f"{now.windows} of {least} windows")
        if now.labelled < it.labelled and now.windows < it.unlabelled_windows:
            return Judgement("wait", f"{now.labelled} of {it.labelled} labelled samples")
        if lost > it.lost * judged:
            return Judgement("wait", self._lost_words(lost, judged))
        if evidence >= it.doubt:
            return Judgement("wait", f"in doubt: {worse}")
        doubt = self._sums(wrong)
        if doubt is not None:
            return doubt
        gone = self._gone() if now.labelled < it.labelled else ""
        if gone:
            return Judgement("wait", gone)
        return Judgement(
            "pass",
            f"{now.windows} windows, {now.labelled} labelled samples: {now.errors} errors, "
            f"{now.parent_errors} of its parent",
        )

    def _wrong(self) -> dict[str, _Wrong]:
        """In what ways the two are wrong on labelled samples; a BLOCK is what asks for a response.

        What stood before an attack has not found it, see `finds`.
        """
        candidate, parent, label = self._windows()
        both = (candidate > 0) & (parent > 0)
        benign, attack = both & (label == _BENIGN), both & (label == _ATTACK)
        told = benign | attack

        def each(who: U8) -> tuple[Bool, ...]:
            alarm, block = who > _ALLOW, who == _BLOCK
            found = found_of(attack, told, alarm)
            false, missed, let = benign & alarm, attack & ~found, attack & ~(found & block)
            return false, missed, false | missed, benign & block, let

        kinds = ("false alarms", "misses", "errors", "false blocks", "attacks not blocked")
        of = (benign, attack, told, benign, attack)
        rows = zip(kinds, each(candidate), each(parent), of, strict=True)
        return {what: _Wrong(mine, theirs, among) for what, mine, theirs, among in rows}

    def _unlabelled(self) -> dict[str, tuple[int, int]]:
        """Stretches in which one alone says it, the candidate or its parent; no label is waited for.

        The first and last windows of an incident are often unclear: an alarm that was labelled in part is not
        without a label.
        """
        candidate, parent, label = (part[: self._old()] for part in self._windows())
        told = label != _NONE
        open_ = (candidate > 0) & (parent > 0) & ~told
        for who in (candidate, parent):
            open_ &= ~told_of(told, who > _ALLOW, self.settings.again)
        found = {}
        for what, least in (("alarms", _ALLOW + 1), ("blocks", _BLOCK)):
            mine, theirs = open_ & (candidate >= least), open_ & (parent >= least)
            found[what] = self._stretches(mine & ~theirs), self._stretches(theirs & ~mine)
        return found

    def _old(self) -> int:
        """Windows whose labels are not waited for."""
        return max(min(self._seen, self.settings.kept) - self.settings.late, 0)

    def _worse(self, wrong: dict[str, _Wrong]) -> tuple[float, str]:
        """The strongest evidence that it is worse than its parent, and what that is."""
        found = []
        for what, (mine, theirs, _) in wrong.items():
            one, other = self._stretches(mine & ~theirs), self._stretches(theirs & ~mine)
            words = f"more {what} than its parent: worse in {one} stretches of windows, better in {other}"
            found.append((more_often(one, other), words))
        hours = self._old() * self._window_s / 3600
        for what, (alone, _) in self._unlabelled().items():
            words = f"{alone} {what} of its own in {hours:.2g} h that nobody labelled"
            found.append((above_rate(alone, hours * self.settings.false_alarms_per_hour), words))
        return max(found, key=lambda one: one[0])

    def _sums(self, wrong: dict[str, _Wrong]) -> Judgement | None:
        """Whether its mistakes are more, however they are spread; None: they are not."""
        it, doubt, errors = self.settings, "", wrong["errors"]
        asked = [(what, one, it.tolerance) for what, one in wrong.items()]
        k, k0, n = (part.sum(axis=0) for part in errors)
        much = (n >= it.device_labelled) & (k - k0 > it.device_tolerance * n)
        for i in np.flatnonzero(much).tolist():
            one = _Wrong(*(part[:, i : i + 1] for part in errors))
            asked.append((f"errors on {self.devices[i]}", one, it.device_tolerance))
        for what, one, tolerance in asked:
            mine, theirs, among = (int(part.sum()) for part in one)
            more = mine - theirs
            words = f"{mine} {what} on {among} samples, {theirs} of its parent"
            clear = more > tolerance * among and rise(theirs, among, mine, among) > 0
            if clear and self._sure(one):
                return Judgement("fail", words)
            if clear or more > it.tolerance * int(errors.of.sum()):
                doubt = doubt or words
        return Judgement("wait", f"in doubt: {doubt}") if doubt else None

    def _sure(self, one: _Wrong) -> bool:
        """Whether the share rises for sure if a stretch is taken as one sample, not as many."""
        mine, theirs, of = one
        stretches = self._stretches(mine & ~theirs) + self._stretches(theirs & ~mine)
        length = int((mine != theirs).sum()) / stretches
        before, after, n = (int(part.sum() / length) for part in (theirs, mine, of))
        return rise(before, n, after, n) > 0

    def _gone(self) -> str:
        """Alarms of its parent that it no longer raises: without labels nobody knows who is right."""
        for what, (alone, gone) in self._unlabelled().items():
            if more_often(gone, alone) >= self.settings.doubt:
                return (
                    f"{gone} {what} of its parent are gone and {alone} are new, with too few labels to tell "
                    "who is right: an operator must decide"
                )
        return ""

    def _stretches(self, what: Bool) -> int:
        return _stretches(what, self.settings.again)

    def _slow(self) -> str:
        """Latencies are compared once both have judged what a stage asks for.

        In CANARY the parent's verdict waits for the candidate's, so its latency says nothing.
        """
        (mine, n), (theirs, m) = self._spent_by()
        if min(n, m) < self.settings.windows:
            return ""
        latency, before = mine / n, theirs / m
        if latency > max(self._window_s, self.settings.unnoticed_s):
            return f"{latency:.3f} s to the verdict: longer than a window"
        if self.stage != Stage.CANARY and latency > max(
            self.settings.slower * before, self.settings.unnoticed_s
        ):
            return f"{latency:.3f} s to the verdict, {before:.3f} s of its parent"
        return ""

    def _lost(self) -> tuple[int, int]:
        """Samples that the parent alone has judged, and all that it has."""
        candidate, parent, _ = (part[: -self.settings.behind] for part in self._windows())
        judged, absent = parent > 0, candidate == 0
        if self.stage == Stage.CANARY:
            absent |= self._late_canary()[: -self.settings.behind, None]
        return int((judged & absent).sum()), int(judged.sum())

    def _late_canary(self) -> Bool:
        """Windows (n,) that went on without the candidate; the fusion may hear of the canary after us."""
        late: Bool = self._in_order(self._in_time) == 0
        begins = int(np.argmin(late)) if not late.all() else CATCH_UP
        late[: min(begins, CATCH_UP)] = False
        return late

    def _lost_words(self, lost: int, judged: int) -> str:
        in_time = " in time" if self.stage == Stage.CANARY else ""
        return f"{lost} of {judged} samples were not judged{in_time}"

    def _windows(self) -> tuple[U8, U8, U8]:
        """Decisions of candidate and parent and labels (windows, devices), in order of time."""
        served, beside, label = (self._in_order(part) for part in (self._served, self._beside, self._label))
        return (served, beside, label) if self.stage == Stage.ACTIVE else (beside, served, label)

    def _in_order(self, part: U8) -> U8:
        """What was kept (windows, ...), in order of time."""
        used = min(self._seen, self.settings.kept)
        cut = self._seen % self.settings.kept if used == self.settings.kept else 0
        return np.concatenate([part[cut:], part[:cut]]) if cut else part[:used]

    def _spent_by(self) -> tuple[tuple[float, int], tuple[float, int]]:
        """Latency of candidate and parent."""
        served, beside = self._latency["served"], self._latency["beside"]
        return (served, beside) if self.stage == Stage.ACTIVE else (beside, served)


def _stretches(what: Bool, again: int) -> int:
    """How many times devices enter the state (windows, devices), or stay in it for `again` windows more.

    >>> _stretches(np.array([[1, 0], [1, 1], [0, 0], [1, 0]], bool), 60)
    3
    >>> _stretches(np.ones((121, 2), bool), 60)
    6
    """
    row = np.pad(what.T, ((0, 0), (1, 1))).ravel()
    edges = np.flatnonzero(row[1:] != row[:-1])
    return int((1 + (edges[1::2] - edges[::2] - 1) // again).sum())
