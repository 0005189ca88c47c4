"""Windows of a cell, judged first and learnt from afterwards, by a model that is made anew at alarms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from cellwatch.models.drift.attribution import Scenario
from cellwatch.models.drift.history import History
from cellwatch.models.drift.loss_monitor import OPEN
from cellwatch.models.drift.losses import log_loss
from cellwatch.models.drift.prequential import LEARN, STEP
from cellwatch.models.drift.watch import DriftSettings, DriftWatch
from cellwatch.models.types import F32, I64, Bool

AHEAD = 50  # windows judged at once
HALF = 0.5  # P(attack) from which on a sample is called an attack


class CellStream(NamedTuple):
    """w windows of d devices, in the order of time; labels come with their window."""

    x: F32  # (w, d, f), NaN = missing
    attack: Bool  # (w, d) not benign
    labelled: Bool  # (w, d)


class Voters(Protocol):
    """What judges."""

    def votes(self, x: F32) -> F32:
        """P(attack) (w, d, m) by each member for windows (w, d, f), NaN where a device is not there."""
        ...


class Raised(NamedTuple):
    """An alarm; places count windows from 0."""

    window: int  # that raised it
    since: int  # with which the drift began, as estimated
    scenario: Scenario | None  # None: raised without labels
    reasons: tuple[str, ...]
    served: int | None = None  # from which on the model judged that was made for it; None: never


@dataclass(slots=True)
class _Known:
    """What was normal before the last drift that labels told of."""

    limits: tuple[float, float] = OPEN
    history: History = field(default_factory=History)


@dataclass(slots=True)
class Adapted:
    """What came of it."""

    probability: F32  # (w, d) P(attack) as it was said then
    alarms: list[Raised] = field(default_factory=list)


def adapt(
    stream: CellStream,
    model: Voters,
    learn: Callable[[int, int], Voters],
    *,
    settings: DriftSettings | None = None,
    seed: int = 0,
    told: Callable[[int], None] = lambda _: None,
) -> Adapted:
    """Judge window by window; after an alarm `learn(a, b)` makes a model of the windows from a to before b.

    These are the windows since the drift began, as estimated, until they hold LEARN labelled samples. The
    new model judges beside for STEP more, and judges alone from then on if it was wrong no more often than
    the old one; else that stays. Meanwhile nothing is watched. Who judges then is to be as good as it was
    before the drift, as in `CellWatch`.
    """
    w, d = stream.attack.shape
    settings = settings or DriftSettings()
    run = Adapted(np.full((w, d), np.nan, np.float32))
    behind = np.concatenate([[0], np.cumsum(stream.labelled.sum(axis=1))])  # labelled samples before a window
    now, known = 0, _Known()
    while (raised := _watch(stream, model, settings, seed, run, now, known, told)) is not None:
        made = max(int(np.searchsorted(behind, behind[raised.since] + LEARN)), raised.window + 1)
        now = int(np.searchsorted(behind, behind[min(made, w)] + STEP))
        if now > w:  # the stream ends before
            rest = slice(raised.window + 1, w)
            run.probability[rest] = model.votes(stream.x[rest]).mean(axis=2)
            run.alarms.append(raised)
            break
        old = model.votes(stream.x[raised.window + 1 : now]).mean(axis=2)
        run.probability[raised.window + 1 : now] = old
        candidate = learn(raised.since, made)
        beside = slice(made, now)
        new = candidate.votes(stream.x[beside]).mean(axis=2)
        if _wrong(stream, new, beside) <= _wrong(stream, run.probability[beside], beside):
            model, raised = candidate, raised._replace(served=now)
        run.alarms.append(raised)
        told(now)
    return run


def _wrong(stream: CellStream, probability: F32, part: slice) -> int:
    """Labelled samples that are judged wrongly."""
    return int((((probability >= HALF) != stream.attack[part]) & stream.labelled[part]).sum())


def _watch(
    stream: CellStream,
    model: Voters,
    settings: DriftSettings,
    seed: int,
    run: Adapted,
    start: int,
    before: _Known,
    told: Callable[[int], None],
) -> Raised | None:
    """Judge from window `start` on until the alarm; what was normal until then goes into `before`."""
    w, d = stream.attack.shape
    watch, history = DriftWatch(settings, devices=d, seed=seed, ceiling=before.limits), before.history
    for first in range(start, w, AHEAD):
        part = slice(first, first + AHEAD)
        votes = model.votes(stream.x[part])
        run.probability[part] = votes.mean(axis=2)
        for now, vote in enumerate(votes, first):
            silent = watch.unlabelled(stream.x[now : now + 1], vote[None])
            known = stream.labelled[now]
            attack, p = stream.attack[now, known], run.probability[now, known]
            loss, wrong = log_loss(p, attack), (p >= HALF) != attack
            history.add(np.full(len(loss), now, np.int64), loss, wrong, attack)
            if watch.labelled(loss, wrong) is not None:
                since, kind = history.origin()
                history.cut(since)
                before.limits = watch.limits
                return Raised(now, since, kind.scenario, watch.reasons)
            if silent:
                span = settings.consecutive * settings.block
                return Raised(now, max(now + 1 - span, start), None, watch.reasons)
        told(min(first + AHEAD, w))
    return None


def calm(x: F32, votes: F32, order: I64, attack: Bool | None = None, *, seed: int = 0) -> list[int]:
    """Windows of a long stream in which the watch over a model that stays raises an alarm, as in a cell.

    Window i of the stream is `order[i]` of p windows x (p, d, f) with votes (p, d, m); `attack` (p, d) is
    what they were, None: no label ever comes. As in `CellWatch` a window of the cell is one value.
    """
    watch, alarms = DriftWatch(devices=x.shape[1], seed=seed), list[int]()
    loss = wrong = np.zeros(len(x))
    if attack is not None:
        p = votes.mean(axis=2)
        loss = np.nanmean(log_loss(p, attack), axis=1)
        wrong = np.nanmean(np.where(np.isfinite(p), (p >= HALF) != attack, np.nan), axis=1)
    for first in range(0, len(order), AHEAD):
        here = order[first : first + AHEAD]
        if watch.unlabelled(x[here], votes[here]):
            alarms.append(first + len(here) - 1)
        done = 0
        while attack is not None and (taken := watch.labelled(loss[here[done:]], wrong[here[done:]])):
            done += taken
            alarms.append(first + done - 1)
    return alarms
