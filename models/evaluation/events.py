"""Judging by events and alarms instead of rows: no row of an event counts as found because another one is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cellwatch.models.evaluation.speed import detection_latency, first_alarms
from cellwatch.models.types import F64, Bool


@dataclass(frozen=True, slots=True)
class EventQuality:
    """Alarms against events. `precision` is NaN without alarms, `recall` and `latency_s` without events."""

    events: int
    alarms: int
    precision: float  # share of the alarms that lie within an event
    recall: float  # share of the events with an alarm
    latency_s: float  # mean over the detected events
    false_alarms_per_hour: float  # by the time outside of events


def event_quality(
    raised: F64, attacked: Bool, onset: F64, end: F64, watched_s: float, gap_s: float = 0.0
) -> EventQuality:
    """Times (n,) at which something is raised, against events [onset, end] (k,) that do not overlap.

    All ascending, on one clock. `attacked` (n,): whether what was raised is part of an event; only that finds
    one. An alarm goes on as long as it is raised again within `gap_s`, and is true if any part of it is
    attacked. `watched_s`: the length of the whole recording.
    """
    found = first_alarms(raised[attacked], onset, end)
    begins = np.flatnonzero(np.diff(raised, prepend=-np.inf) > gap_s)
    true = np.logical_or.reduceat(attacked, begins) if len(begins) else np.zeros(0, dtype=np.bool_)
    quiet_s = watched_s - float((end - onset).sum())
    return EventQuality(
        events=len(onset),
        alarms=len(begins),
        precision=float(true.mean()) if len(begins) else float("nan"),
        recall=float(np.isfinite(found).mean()) if len(onset) else float("nan"),
        latency_s=detection_latency(onset, found),
        false_alarms_per_hour=3600 * float((~true).sum()) / quiet_s if quiet_s > 0 else float("nan"),
    )
