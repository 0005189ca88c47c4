"""Judging by events and alarms instead of rows: no row of an event counts as found because another one is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellwatch.models.evaluation.speed import detection_latency, first_alarms
from cellwatch.models.types import F64


@dataclass(frozen=True, slots=True)
class EventQuality:
    """Alarms against events. `precision` is NaN without alarms, `recall` and `latency_s` without events."""

    events: int
    alarms: int
    precision: float  # share of the alarms that lie within an event
    recall: float  # share of the events with an alarm
    latency_s: float  # mean over the detected events
    false_alarms_per_hour: float  # by the time outside of events


def episodes(times: F64, gap_s: float) -> F64:
    """Times (k,) at which alarms begin: those more than `gap_s` after the one before; `times` (n,) ascending.

    >>> episodes(np.array([1.0, 2.0, 9.0]), 3.0).tolist()
    [1.0, 9.0]
    """
    return times[np.diff(times, prepend=-np.inf) > gap_s]


def event_quality(raised: F64, onset: F64, end: F64, watched_s: float, gap_s: float = 0.0) -> EventQuality:
    """Times (n,) at which something is raised, against events [onset, end] (k,) that do not overlap.

    All ascending, on one clock. An alarm goes on as long as it is raised again within `gap_s`; it belongs to
    an event if it begins there. `watched_s`: the length of the whole recording.
    """
    found = first_alarms(raised, onset, end)
    alarms = episodes(raised, gap_s)
    place = np.searchsorted(onset, alarms, side="right") - 1
    inside = (place >= 0) & (alarms <= end[place]) if len(onset) else np.zeros(len(alarms), dtype=np.bool_)
    quiet_s = watched_s - float((end - onset).sum())
    return EventQuality(
        events=len(onset),
        alarms=len(alarms),
        precision=float(inside.mean()) if len(alarms) else float("nan"),
        recall=float(np.isfinite(found).mean()) if len(onset) else float("nan"),
        latency_s=detection_latency(onset, found),
        false_alarms_per_hour=3600 * float((~inside).sum()) / quiet_s if quiet_s > 0 else float("nan"),
    )
