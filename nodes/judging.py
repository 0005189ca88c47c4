"""Judging models on the tests of a data set: every model, the ensembles of the paper, and the leak checks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cellwatch.models.datasets.dataset import BENIGN_SHARE, DataSet, Part
from cellwatch.models.detectors.scaler import Scaler
from cellwatch.models.evaluation.leaks import Rows, check, unknown
from cellwatch.models.evaluation.metrics import confusion, quality, recall_by_class
from cellwatch.models.evaluation.pool import TABLE_2, pool_weights
from cellwatch.models.fusion.calibration import Calibration, fit
from cellwatch.models.fusion.formulas import posterior
from cellwatch.models.fusion.weights import validation_weights
from cellwatch.models.rules.profile import Profile
from cellwatch.models.rules.rulesense import RuleSense
from cellwatch.models.types import F32, F64, I64
from cellwatch.nodes.evaluation_figures import Figures
from cellwatch.nodes.measuring import WorkError
from cellwatch.nodes.trainer import Trained, probabilities

RULES = "rulesense"
Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Judged:
    """What came out, ready for JSON."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    by_class: dict[str, dict[str, float]] = field(default_factory=dict)  # "test/L3/XGB" -> class -> recall
    by_size: dict[str, list[float]] = field(default_factory=dict)  # "test/L1/XGB" -> recall in fifths of size
    beside: list[dict[str, Any]] = field(default_factory=list)  # how sure, events, differences
    confusion: dict[str, list[list[int]]] = field(default_factory=dict)  # truth in rows; L3: the best alone
    reliability: dict[str, list[dict[str, float]]] = field(default_factory=dict)  # of level 1
    metrics: list[dict[str, Any]] = field(
        default_factory=list
    )  # the 16 of each model, if costs were measured


class Judge:
    """Judges trained models on one data set. `profile` adds RuleSense (its limits) at level 1.

    `strange` says why it is not known which rows the models learnt from, "" if they are those of the data.
    """

    def __init__(
        self,
        data: DataSet,
        models: Sequence[Trained],
        scaler: Scaler,
        profile: Profile | None = None,
        told: Told = lambda _: None,
        *,
        strange: str = "",
    ) -> None:
        self.data = data
        self.models = models
        self.scaler = scaler
        self.told = told
        self.strange = strange
        self.rules = RuleSense(profile) if profile is not None else None
        self.failed: dict[tuple[str, int], str] = {}  # models that did not answer, and why
        self.on_validation = self.said(data.validation) if len(data.validation) else {}
        self._fitted_on = _like_tests(data)
        self.calibration = self.calibration_on(self._fitted_on)

    def judge(self, costs: Mapping[tuple[str, int], Mapping[str, float]] | None = None) -> Judged:
        """All figures of all tests; with what each model costs, its 16 metrics on the first test."""
        out = Judged()
        trained_on = _rows(self.data.train, self.data.validation) if len(self.data.train) else None
        for name, part in self.data.tests.items():
            checks = []
            if self.strange:
                checks = unknown(self.strange)
            elif trained_on is not None:
                checks = check(trained_on, _rows(part), in_time=self.data.in_time)
            out.checks.extend({"test": name, **each.to_dict()} for each in checks)
            levels = sorted(part.y.keys() & self.data.classes.keys())
            said = self.said(part, {(m.detector, m.level) for m in self.models if m.level in levels})
            figures = Figures(name, part, self.data, "site" not in self.data.facts or name == "natural")
            for level in levels:
                contenders = self._contenders(level, said)
                for label, p in contenders:
                    self._figures(out, name, part, level, label, p)
                if (part.y[level] > 0).any():
                    out.beside.extend(figures.beside(level, dict(contenders)))
                    out.confusion.update(figures.confusions(level, dict(contenders)))
                    out.reliability.update(figures.reliability(level, dict(contenders)))
                if costs is not None and name == next(iter(self.data.tests)):
                    trained = {
                        m.detector: said[m.detector, level]
                        for m in self.models
                        if (m.detector, level) in said and m.level == level
                    }
                    out.metrics.extend(figures.metrics(level, trained, costs))
        return out

    def ensemble(self, level: int, members: Sequence[str], said: Mapping[tuple[str, int], F32]) -> F32 | None:
        """Posterior form of the fusion, weights from validation; None when a member is absent."""
        here = [m for m in members if (m, level) in said]
        if len(here) < len(members):
            return None
        stack = np.stack([self._calibrate(level, m, said[m, level]) for m in here], axis=1)
        weights = self.weights_of(level, here)
        return posterior(stack.astype(np.float64), np.array([weights[m] for m in here])).astype(np.float32)

    def best_ensemble(self, level: int) -> tuple[str, ...]:
        """Members of the paper's ensemble of a level that does best on validation; () if none is whole."""
        whole = self.data.validation.y[level]
        known = self._fitted_on[whole[self._fitted_on] >= 0]
        y = whole[known]
        score: dict[tuple[str, ...], float] = {}
        for members in self.paper(level).values():
            p = self.ensemble(level, members, self.on_validation)
            if p is not None:
                score[members] = quality(confusion(y, p[known].argmax(axis=1), p.shape[1])).mcc
        return max(score, key=lambda m: score[m]) if score else ()

    def paper(self, level: int) -> dict[str, tuple[str, ...]]:
        """The paper's ensembles of a level; without a profile RuleSense is left out, and the name says so."""
        found = TABLE_2.get(level, {})
        if level != 1 or self.rules is not None:
            return found
        return {
            f"{label} without RuleSense": tuple(m for m in members if m != RULES)
            for label, members in found.items()
        }

    def _contenders(self, level: int, said: Mapping[tuple[str, int], F32]) -> list[tuple[str, F32]]:
        found = [(name, p) for (name, lv), p in said.items() if lv == level]
        for label, members in self.paper(level).items():
            p = self.ensemble(level, members, said)
            if p is not None:
                found.append((label, p))
        everyone = [name for name, lv in said if lv == level]
        p = self.ensemble(level, everyone, said)
        if p is not None and len(everyone) > 2:
            found.append((f"all {len(everyone)}", p))
        return found

    def _figures(self, out: Judged, test: str, part: Part, level: int, label: str, p: F32) -> None:
        y = part.y[level]
        known = y >= 0
        called = p.argmax(axis=1)
        m = confusion(y[known], called[known], p.shape[1])
        row = {"data": self.data.name, "test": test, "level": level, "name": label}
        if not (y[known] > 0).any():  # benign rows alone: only false alarms say something
            alarms = float((called[known] > 0).mean())
            window_s = float(self.data.facts.get("window_s", np.nan))  # type: ignore[arg-type]
            out.rows.append(
                row
                | {"rows": int(known.sum()), "false_alarm_rate": alarms}
                | {"false_alarms_per_device_hour": alarms * 3600 / window_s}
            )
            return
        out.rows.append(row | quality(m).to_dict())
        key = f"{test}/L{level}/{label}"
        names = self.data.classes[level]
        out.by_class[key] = {
            name: float(r) for name, r in zip(names, recall_by_class(m), strict=True) if np.isfinite(r)
        }
        if part.size is not None:
            fifth = np.minimum((np.nan_to_num(part.size) * 5).astype(int), 4)
            right = (called == y) & known
            out.by_size[key] = [
                float(right[rows].mean()) if (rows := (y > 0) & known & (fifth == k)).any() else float("nan")
                for k in range(5)
            ]

    def said(self, part: Part, only: Collection[tuple[str, int]] | None = None) -> dict[tuple[str, int], F32]:
        """What RuleSense and the models (those in `only`: name, level) say of the rows: (n, classes) each."""
        pool = self.scaler.transform(part.pool)
        found: dict[tuple[str, int], F32] = {}
        if self.rules is not None:
            x = part.x
            _, _, confidence = self.rules.judge_many(x, self.rules.rows(part.device.tolist()))
            found[RULES, 1] = np.stack([1 - confidence, confidence], axis=1).astype(np.float32)
        for one in (m for m in self.models if only is None or (m.detector, m.level) in only):
            self.told(f"{one.detector}, L{one.level}")
            try:
                found[one.detector, one.level] = probabilities(one, part, pool)
            except WorkError as error:
                self.failed[one.detector, one.level] = f"asked: {error}"
        return found

    def calibration_on(self, rows: I64) -> Calibration:
        """Isotonic calibrators of level 1, from these validation rows."""
        if not self.on_validation:
            return Calibration()
        truth = self.data.validation.y[1][rows] > 0
        found = {}
        for (name, level), p in self.on_validation.items():
            if level == 1 and truth.any() and not truth.all():
                found[f"L1/{name}"] = fit(p[rows, 1].astype(np.float64), truth)
        return Calibration(found)

    def _calibrate(self, level: int, name: str, p: F32) -> F32:
        if level != 1 or f"L1/{name}" not in self.calibration.by_name:
            return p
        attack = self.calibration.apply(f"L1/{name}", p[:, 1].astype(np.float64))
        return np.stack([1 - attack, attack], axis=1).astype(np.float32)

    def weights_of(self, level: int, members: Sequence[str] | None = None) -> dict[str, float]:
        """Weights of the members (all, if none are named) from validation; equal without validation rows.

        At level 1, where the fusion takes a mean of calibrated scores, log-odds of balanced accuracy; where
        it pools posteriors, the weights that make the pool most probable.
        """
        names = list(members or [n for n, lv in self.on_validation if lv == level])
        if not self.on_validation:
            return dict.fromkeys(members or [m.detector for m in self.models if m.level == level], 1.0)
        y = self.data.validation.y[level]
        known = self._fitted_on[y[self._fitted_on] >= 0]
        truth: F64 = np.stack(
            [self._calibrate(level, n, self.on_validation[n, level])[known, y[known]] for n in names], axis=1
        ).astype(np.float64)
        if level > 1:
            return {n: float(w) for n, w in zip(names, pool_weights(truth), strict=True)}
        said = np.stack([self.on_validation[n, 1][known].argmax(axis=1) for n in names], axis=1)
        weights = validation_weights(y[known], said, 2)
        if not weights.any():  # none is better than chance
            weights += 1.0
        return {n: float(w) for n, w in zip(names, weights, strict=True)}


def _like_tests(data: DataSet) -> I64:
    """Validation rows with as large a share of benign ones as the tests have by design.

    A simulated site's validation has more of them; of a table nothing is known beforehand: all rows.
    """
    y = data.validation.y[1]
    if "site" not in data.facts:
        return np.arange(len(y))
    attacked, quiet = np.flatnonzero(y > 0), np.flatnonzero(y == 0)
    n = min(len(quiet), round(len(attacked) * BENIGN_SHARE / (1 - BENIGN_SHARE)))
    evenly = np.linspace(0, len(quiet) - 1, n).round().astype(np.int64) if n else np.zeros(0, dtype=np.int64)
    return np.sort(np.concatenate([attacked, quiet[evenly]]))


def _rows(*parts: Part) -> Rows:
    parts = tuple(part for part in parts if len(part))
    level = max(parts[0].y)
    times = [part.time_ns for part in parts]
    return Rows(
        np.concatenate([part.x for part in parts]),
        np.concatenate([part.y[level] for part in parts]),
        np.concatenate([part.group for part in parts]),
        None if any(t is None for t in times) else np.concatenate(times),  # type: ignore[arg-type]
    )
