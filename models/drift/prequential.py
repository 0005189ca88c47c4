"""A labelled stream, judged first and learnt from afterwards, by a model that stands still between alarms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from cellwatch.models.drift.attribution import Attribution, Rates, attribute
from cellwatch.models.drift.losses import cross_entropy
from cellwatch.models.drift.onset import onset
from cellwatch.models.types import F32, F64, I64, Bool

FIRST = 500  # rows that are only learnt from
LEARN = 2000  # rows of one concept that a model is made of; while there are fewer, it is made anew each STEP
STEP = 1000
AHEAD = 2000  # rows judged at once


class Stream(NamedTuple):
    """n rows in the order of time."""

    x: F32  # (n, f), NaN = missing
    y: I64  # (n,) class, 0 = benign
    classes: int


class Judged(NamedTuple):
    """Rows that the standing model has judged, k of them."""

    x: F32  # (k, f)
    scores: F32  # (k, m) P(not benign) of each member
    loss: F64  # (k,)
    wrong: Bool  # (k,)


class Model(Protocol):
    """What judges."""

    def members(self, x: F32) -> F64:
        """Probabilities (m, k, c) by each member for rows (k, f)."""
        ...


class Trigger(Protocol):
    """What says when to learn anew."""

    latest: bool  # learn from the last LEARN rows instead of those since the drift began, as estimated

    def restart(self) -> None:
        """Another model judges from now on."""

    def step(self, rows: Judged) -> int | None:
        """How many of the rows it took to raise the alarm, None without one."""
        ...


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm; places count rows of the stream from 0."""

    at: int  # the row that raised it
    since: int  # the row with which the drift began, as estimated
    attribution: Attribution


@dataclass(slots=True)
class Run:
    """What came of it."""

    right: Bool  # (n,) judged rightly; False for the first FIRST rows, which are not judged
    alarms: list[Alarm] = field(default_factory=list)
    trainings: int = 0

    @property
    def accuracy(self) -> float:
        """Over the rows judged."""
        return float(self.right[FIRST:].mean())


def prequential(
    stream: Stream,
    learn: Callable[[int, int], Model],
    trigger: Trigger,
    told: Callable[[int], None] = lambda _: None,
) -> Run:
    """Run through a stream; `learn(a, b)` makes a model of the rows from a to before b.

    The model is made of the rows since the drift began, as estimated from the losses since the last model
    stood still. While these are fewer than LEARN, it is made anew each STEP rows, and nothing is watched.
    ValueError for a stream of FIRST rows or fewer.
    """
    n = len(stream.y)
    if n <= FIRST:
        raise ValueError(f"the stream has {n} rows: the first {FIRST} are only learnt from")
    run = Run(np.zeros(n, dtype=np.bool_))
    since, now = 0, FIRST  # first row of the concept, first row that is not judged yet
    while now < n:
        model = learn(since, now)
        run.trainings += 1
        if now - since < LEARN:
            until = min(now + STEP, since + LEARN, n)
            run.right[now:until] = ~_judge(stream, model, now, until).wrong
            now = until
        else:
            now, since = _watch(stream, model, trigger, run, now, told)
        told(now)
    return run


def _watch(
    stream: Stream, model: Model, trigger: Trigger, run: Run, start: int, told: Callable[[int], None]
) -> tuple[int, int]:
    """Judge from row `start` on until the alarm: the row after it, and the one with which the drift began."""
    trigger.restart()
    n, now = len(stream.y), start
    seen: list[Judged] = []
    while now < n:
        rows = _judge(stream, model, now, min(now + AHEAD, n))
        taken = trigger.step(rows)
        k = len(rows.loss) if taken is None else taken
        run.right[now : now + k] = ~rows.wrong[:k]
        seen.append(rows)
        now += k
        told(now)
        if taken is not None:
            alarm = _alarm(stream, seen, start, now)
            run.alarms.append(alarm)
            return now, now - LEARN if trigger.latest else alarm.since
    return n, start


def _alarm(stream: Stream, seen: list[Judged], start: int, now: int) -> Alarm:
    """When it began, and what kind it is, from the rows since the model stood still."""
    loss = np.concatenate([rows.loss for rows in seen])[: now - start]
    wrong = np.concatenate([rows.wrong for rows in seen])[: now - start]
    attack = np.asarray(stream.y[start:now] > 0)
    k = onset(loss, wrong)
    kind = attribute(Rates.of(attack[:k], wrong[:k]), Rates.of(attack[k:], wrong[k:]))
    return Alarm(now - 1, start + k, kind)


def _judge(stream: Stream, model: Model, first: int, last: int) -> Judged:
    x, y = stream.x[first:last], stream.y[first:last]
    members = model.members(x)
    p = members.mean(axis=0)
    scores = np.asarray(1 - members[:, :, 0].T, dtype=np.float32)
    return Judged(x, scores, cross_entropy(p, y), np.asarray(p.argmax(axis=1) != y))
