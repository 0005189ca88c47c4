"""Labelled rows of many devices and sessions as events on one clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from cellwatch.models.evaluation.events import EventQuality, event_quality
from cellwatch.models.types import F64, I64, Bool

PAUSE = 6  # steps without a row of the incident after which it is another one
APART = 1000  # steps between two lines on the clock: more than any pause


@dataclass(frozen=True, slots=True)
class Clock:
    """n rows, line after line: a line is what happened to one device in one session.

    `order` (n,) puts rows in the order of the clock; `time_s` (n,) is when each, in that order, is judged: at
    the end of its window; `attacked` (n,) whether it is part of an event. `onset` and `end` (k,) of the
    events, `kind` (k,) their class.
    """

    order: I64
    time_s: F64
    attacked: Bool
    onset: F64
    end: F64
    kind: I64
    step_s: float

    @classmethod
    def of(cls, line: I64, time_ns: I64, kind: I64, step_s: float = 0.0) -> Self:
        """Rows (n,) with the beginning of their window, and their class, 0 = benign.

        An event is made of the rows of one class on one line without a longer pause between them. `step_s`:
        length of a window; 0: rows are moments, and their median distance tells what a pause is.
        """
        if not len(line):
            none = np.zeros(0)
            return cls(line, none, none > 0, none, none, kind, step_s)
        order = np.lexsort((time_ns, line))
        ours, t = line[order], (time_ns[order] - time_ns.min()) / 1e9
        new = np.diff(ours, prepend=-1) != 0
        gaps = np.diff(t)[~new[1:]]
        typical = step_s or (float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else 1.0)
        begins = np.flatnonzero(new)
        ends = np.append(begins[1:], len(t)) - 1
        length = t[ends] - t[begins] + APART * typical
        shift = np.cumsum(length) - length - t[begins]
        t = t + np.repeat(shift, ends - begins + 1)
        odd = np.flatnonzero(kind[order] != 0)
        apart = (np.diff(t[odd]) > PAUSE * typical) | (np.diff(kind[order][odd]) != 0)
        first = np.flatnonzero(np.append(True, apart)) if len(odd) else np.zeros(0, dtype=np.int64)
        last = np.append(first[1:], len(odd))[: len(first)] - 1
        return cls(
            order,
            t + step_s,
            kind[order] != 0,
            t[odd[first]],
            t[odd[last]] + step_s,
            kind[order][odd[first]],
            typical,
        )

    def judge(self, called: Bool, watched_s: float = float("nan")) -> EventQuality:
        """Rows (n,) that were called, in the order in which `of` got them."""
        raised = called[self.order]
        return event_quality(
            self.time_s[raised], self.attacked[raised], self.onset, self.end, watched_s, 1.5 * self.step_s
        )
