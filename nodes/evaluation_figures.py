"""What stands beside the quality of a model: how sure it is, events, differences, and the 16 metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np

from cellwatch.models.datasets.dataset import DataSet, Part
from cellwatch.models.evaluation.clock import Clock
from cellwatch.models.evaluation.coverage import coverage, detection_diversity, error_diversity
from cellwatch.models.evaluation.dimensions import METRICS, detection_quality
from cellwatch.models.evaluation.metrics import confusion, mcc, mcc_of_many
from cellwatch.models.evaluation.reliability import reliability
from cellwatch.models.evaluation.significance import delong, drawn_confusions, interval, mcnemar
from cellwatch.models.types import F32, I64

MOST_CELLS = 20_000_000  # of the confusion matrices of all sessions; with more, the bootstrap draws rows
WIDEST = 20  # classes up to which every confusion matrix is given; of wider ones that of the best model alone

Answers = Mapping[str, F32]  # model or ensemble -> probabilities (n, classes) for the rows of the test


class Figures:
    """Figures of one test. `whole`: its rows are all that there were, so that alarms can be counted."""

    def __init__(self, test: str, part: Part, data: DataSet, whole: bool, seed: int = 0) -> None:
        self.test, self.part, self.whole, self.seed = test, part, whole, seed
        self.step_s = float(data.facts.get("window_s", 0.0))  # type: ignore[arg-type]
        self._group = np.unique(part.group, return_inverse=True)[1]
        self._device_names, self._device = np.unique(part.device, return_inverse=True)

    @cached_property
    def clock(self) -> Clock | None:
        """The rows on one clock; None where they have no time."""
        if self.part.time_ns is None:
            return None
        line = self._group.astype(np.int64) * len(self._device_names) + self._device
        kind = self.part.y[max(self.part.y)]
        return Clock.of(line, self.part.time_ns, kind, self.step_s)

    def beside(self, level: int, answers: Answers) -> list[dict[str, Any]]:
        """One dict a model: 95 % intervals, events, and the difference to the best of them by MCC.

        At level 1 an event is found by any alarm, at the others by its own class. Of rows that are not all
        that there were no alarms are counted.
        """
        y, classes = self.part.y[level], next(iter(answers.values())).shape[1]
        known = y >= 0
        called = {name: p.argmax(axis=1) for name, p in answers.items()}
        right = {name: (said == y)[known] for name, said in called.items()}
        best = max(called, key=lambda name: mcc(confusion(y[known], called[name][known], classes)))
        out = []
        for name, said in called.items():
            drawn = drawn_confusions(self._by_group(y, said, classes, known), seed=self.seed)
            total = drawn.sum(axis=(1, 2))
            accuracy = np.trace(drawn, axis1=1, axis2=2) / np.maximum(total, 1)
            row: dict[str, Any] = {
                "test": self.test, "level": level, "name": name, "drawn": self._drawn(classes),
                "accuracy_interval": interval(np.where(total > 0, accuracy, np.nan)),
                "mcc_interval": interval(mcc_of_many(drawn)),
            }  # fmt: skip
            row |= self._events((said > 0) & ((said == y) | (level == 1)))
            row["against"] = best
            row["mcnemar_p"] = mcnemar(right[best], right[name]).p if name != best else None
            if level == 1 and name != best:
                scores = (answers[one][known, 1].astype(np.float64) for one in (best, name))
                row["delong_p"] = delong(y[known] > 0, *scores).p
            out.append(row)
        return out

    def confusions(self, level: int, answers: Answers) -> dict[str, list[list[int]]]:
        """Confusion matrices by "test/L1/XGB", truth in rows."""
        y = self.part.y[level]
        known = y >= 0
        found = {
            name: confusion(y[known], p.argmax(axis=1)[known], p.shape[1]) for name, p in answers.items()
        }
        if len(next(iter(found.values()))) > WIDEST:
            best = max(found, key=lambda name: mcc(found[name]))
            found = {best: found[best]}
        return {f"{self.test}/L{level}/{name}": m.tolist() for name, m in found.items()}

    def reliability(self, level: int, answers: Answers) -> dict[str, list[dict[str, float]]]:
        """Of the probabilities of attack, level 1 alone."""
        attacked = self.part.y[1] > 0
        return {
            f"{self.test}/L1/{name}": reliability(p[:, 1].astype(np.float64), attacked)
            for name, p in answers.items()
            if level == 1
        }

    def metrics(
        self, level: int, answers: Answers, costs: Mapping[tuple[str, int], Mapping[str, float]]
    ) -> list[dict[str, Any]]:
        """The 16 metrics of DeepSense (section 4.2) of each model; NaN: not defined, or not measured."""
        y, top = self.part.y[level], self.part.y[max(self.part.y)]
        known = y >= 0
        attacked = np.where((y > 0) & (top > 0), top, -1)
        device = self._device if len(self._device_names) > 1 else np.full(len(y), -1)
        right = np.stack([p.argmax(axis=1) == y for p in answers.values()])
        diversity = detection_diversity(right[:, known]), error_diversity(right[:, known])
        out = []
        for i, (name, p) in enumerate(answers.items()):
            found = detection_quality(confusion(y[known], p.argmax(axis=1)[known], p.shape[1]))
            found |= costs.get((name, level), {})
            found["detection_latency_s"] = self._events(right[i] & (y > 0))["latency_s"]
            found["class_coverage"] = coverage(right[i], attacked)
            found["device_coverage"] = coverage(right[i], np.where(known, device, -1))
            found["detection_diversity"], found["error_diversity"] = (float(part[i]) for part in diversity)
            values = {metric.name: float(found.get(metric.name, np.nan)) for metric in METRICS}
            out.append({"level": level, "name": name, **values})
        return out

    def _events(self, called: np.ndarray) -> dict[str, Any]:
        if self.clock is None:
            return {"latency_s": float("nan")}
        found = asdict(self.clock.judge(called, len(called) * self.step_s))
        out = {"events": found["events"], "event_recall": found["recall"], "latency_s": found["latency_s"]}
        if self.whole and self.step_s:
            out["alarms"], out["event_precision"] = found["alarms"], found["precision"]
            # a device sees an hour in an hour, so a cell of d devices sees d
            out["false_alarms_per_hour"] = found["false_alarms_per_hour"] * len(self._device_names)
        return out

    def _drawn(self, classes: int) -> str:
        """What the bootstrap draws."""
        groups = int(self._group.max(initial=0)) + 1
        return "sessions" if 1 < groups <= MOST_CELLS // classes**2 else "rows"

    def _by_group(self, y: I64, called: I64, classes: int, known: np.ndarray) -> I64:
        """Confusion matrices of the sessions (g, c, c), or of all rows (1, c, c)."""
        group = self._group[known] if self._drawn(classes) == "sessions" else np.zeros(known.sum(), np.int64)
        groups = int(group.max(initial=0)) + 1
        cell = (group * classes + y[known]) * classes + called[known]
        return np.bincount(cell, minlength=groups * classes**2).reshape(groups, classes, classes)
