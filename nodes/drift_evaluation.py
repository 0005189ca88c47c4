"""One stream, run through by Cellwatch's drift monitors and, beside them, by others alone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from cellwatch.models.datasets import streams
from cellwatch.models.datasets.dataset import DataError
from cellwatch.models.datasets.streams import LabelledStream
from cellwatch.models.datasets.tables import read_table
from cellwatch.models.drift.learner import Learner
from cellwatch.models.drift.prequential import FIRST, LEARN, Run, Stream, Trigger, prequential
from cellwatch.models.drift.sequential import DETECTORS
from cellwatch.models.drift.triggers import Alone, Always, Monitors, Never
from cellwatch.models.drift.watch import DriftSettings
from cellwatch.nodes.data_sources import data_root

LEAST = 5  # windows; before there are so many, a limit is infinite
WITHIN = 3000  # rows after a drift within which an alarm has found it
Told = Callable[[str, int, int], None]
Learn = Callable[[int, int], Learner]


def open_stream(
    spec: str, *, label: str = "", benign: str = "", drifts: Sequence[int] | None = None
) -> LabelledStream:
    """A published stream by name, or a table file. DataError names what is wrong and the cure."""
    if spec in streams.NAMES:
        if label or benign or drifts is not None:
            raise DataError(f"{spec}: its label and its drifts are known: no --label, --benign or --drifts")
        return streams.load(spec, data_root() / "drift")
    path = Path(spec)
    if not path.suffix:
        raise DataError(
            f"no stream is called {spec!r}; there are: {', '.join(streams.NAMES)}; or give a file"
        )
    if not label:
        raise DataError(f"{path}: say which column is the label: --label COLUMN")
    return streams.from_table(path.name, read_table(path), label, benign=benign, drifts=drifts)


def evaluate(
    stream: LabelledStream, *, beside: bool = False, seed: int = 0, told: Told = lambda *_: None
) -> dict[str, Any]:
    """What the monitors make of a stream; `beside` them what others do.

    `note` says that it is too short to be watched, else it is None. ValueError if it cannot even be judged.
    """
    rows = Stream(stream.x, stream.y, len(stream.classes))
    learn = _learner(rows, seed)
    monitors = Monitors(seed=seed)
    run = _run("cellwatch", rows, learn, monitors, told)
    found: dict[str, Any] = {
        "samples": len(stream.y),
        "alarms": [alarm.at for alarm in run.alarms],
        "scenarios": [alarm.attribution.scenario for alarm in run.alarms],
        "accuracy": run.accuracy,
        "stream": stream.name,
        "fingerprint": stream.fingerprint,
        "benign": stream.classes[0],
        "drifts": stream.drifts,
        "note": _note(len(stream.y)),
        "details": [
            {
                "alarm": alarm.at,
                "since": alarm.since,
                "scenario": alarm.attribution.scenario,
                "false_alarm_rise": alarm.attribution.false_alarm_rise,
                "miss_rise": alarm.attribution.miss_rise,
                "reasons": reasons,
            }
            for alarm, reasons in zip(run.alarms, monitors.reasons, strict=True)
        ],
        "label_free": {"blocks": monitors.blocks, "over": monitors.over},
        "settings": asdict(DriftSettings()) | {"first": FIRST, "learn": LEARN, "seed": seed},
        "methods": {"cellwatch": _figures(run, stream.drifts)},
    }
    others: dict[str, Trigger] = {"never": Never()}
    if beside:
        others |= {"always": Always(), **{name: Alone(name, seed) for name in DETECTORS}}
    for name, trigger in others.items():
        found["methods"][name] = _figures(_run(name, rows, learn, trigger, told), stream.drifts)
    return found


def matched(alarms: Sequence[int], drifts: Sequence[int]) -> tuple[list[int | None], int]:
    """Rows from each drift to its first alarm, None without one within WITHIN rows; and all other alarms.

    >>> matched([90, 150, 160, 9000], [100, 5000])
    ([50, None], 3)
    """
    delays = [
        next((at - drift for at in alarms if drift <= at < min(drift + WITHIN, end)), None)
        for drift, end in pairwise([*drifts, sys.maxsize])
    ]
    return delays, len(alarms) - sum(delay is not None for delay in delays)


def _note(rows: int) -> str | None:
    windows = max(rows - LEARN, 0) // DriftSettings().window
    return f"too few rows to watch: {windows} windows, {LEAST} are needed" if windows < LEAST else None


def _run(name: str, rows: Stream, learn: Learn, trigger: Trigger, told: Told) -> Run:
    return prequential(rows, learn, trigger, lambda done: told(name, done, len(rows.y)))


def _learner(rows: Stream, seed: int) -> Learn:
    """Makes models of parts of the rows; those of the beginning, which every method shares, once."""

    def learn(first: int, last: int) -> Learner:
        return Learner(rows.x[first:last], rows.y[first:last], rows.classes, seed)

    start = cache(partial(learn, 0))
    return lambda first, last: start(last) if first == 0 else learn(first, last)


def _figures(run: Run, drifts: Sequence[int] | None) -> dict[str, Any]:
    alarms = [alarm.at for alarm in run.alarms]
    found: dict[str, Any] = {"accuracy": run.accuracy, "alarms": alarms, "trainings": run.trainings}
    if drifts is not None:
        delays, false_alarms = matched(alarms, drifts)
        found |= {"delays": delays, "false_alarms": false_alarms}
    return found
