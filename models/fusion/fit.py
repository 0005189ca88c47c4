"""Weights, calibration and threshold of the fusion, fitted on validation data, kept as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from cellwatch.models.fusion import calibration, formulas
from cellwatch.models.fusion.budget import Budget, threshold_for_budget
from cellwatch.models.fusion.calibration import Calibration
from cellwatch.models.fusion.evidence import Evidence
from cellwatch.models.fusion.naming import BENIGN, Name, names
from cellwatch.models.fusion.settings import FUSED, MODELS, RULESENSE, FusionSettings
from cellwatch.models.fusion.weights import validation_weights
from cellwatch.models.types import Level, LevelScores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from cellwatch.models.types import F64, I64, Bool

VERSION = 1
FLOOR = 0.5  # a window that is more likely benign than not is no alarm, whatever the budget


@dataclass(frozen=True, slots=True)
class FusionFit:
    """What validation data say of the fusion."""

    weights: dict[str, float]  # "L2/XGB" -> weight
    calibration: Calibration
    vote: Literal["weighted", "posterior"]
    budget: Budget
    windows: int  # device windows it was fitted on
    as_is: dict[str, str] = field(default_factory=dict)  # not calibrated, and why

    def settings(self, base: FusionSettings) -> FusionSettings:
        """`base` with the fitted weights, calibration, vote and threshold."""
        return replace(
            base,
            weights={**base.weights, **self.weights},
            calibration=self.calibration,
            vote=self.vote,
            threshold=self.budget.threshold,
        )

    def to_json(self) -> str:
        return json.dumps(
            {
                "version": VERSION,
                "windows": self.windows,
                "vote": self.vote,
                "budget": self.budget.to_dict(),
                "weights": self.weights,
                "calibration": self.calibration.to_dict(),
                "as_is": self.as_is,
            },
            indent=1,
            allow_nan=False,
        )

    @classmethod
    def from_json(cls, text: str) -> FusionFit:
        """ValueError names what is wrong."""
        try:
            data: dict[str, Any] = json.loads(text)
            if data["version"] != VERSION:
                raise ValueError(f"version {data['version']} is not {VERSION}")
            if data["vote"] not in ("weighted", "posterior"):
                raise ValueError(f"unknown vote '{data['vote']}'")
            weights = {str(k): float(v) for k, v in data["weights"].items()}
            if not all(0 <= w < float("inf") for w in weights.values()):
                raise ValueError("weights must be 0 or above, and finite")
            budget = Budget(**data["budget"])
            if not 0 <= budget.threshold <= 1:
                raise ValueError("the threshold must lie in 0..1")
            return cls(
                weights,
                Calibration.from_dict(data["calibration"]),
                data["vote"],
                budget,
                int(data["windows"]),
                dict(data["as_is"]),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a fit of the fusion: {error!r}") from None


class Hold(NamedTuple):
    """Attacks that a budget of false alarms must not cost."""

    rows: Bool  # (n,) of the validation windows
    missed: int  # of their attacks, at most that many may stay below the threshold


def _ceiling(probability: F64, missed: int) -> float:
    """The greatest threshold that at most `missed` of the attacks (k,) do not reach; NaN reaches none."""
    p = np.sort(np.where(np.isnan(probability), -np.inf, probability))
    return float(p[missed]) if missed < len(p) and np.isfinite(p[missed]) else 1.0


def fit_fusion(
    levels: Mapping[Level, LevelScores],
    truth: Mapping[Level, I64],
    stream: ArrayLike,
    *,
    hours: float,
    per_hour: float = 1.0,
    method: str = "isotonic",
    hold: Hold | None = None,
) -> FusionFit:
    """Fit on validation windows that no model was trained on.

    `levels`: probabilities (n, m, c) of the detectors ("rulesense" may be one of L1's); `truth`: class index
    (n,) of each level, -1 where L2 or L3 does not know the class; `stream` (n,): one device in one session,
    its windows in order of time, those of other streams may stand between; `hours`: of benign running behind
    the benign rows. Weights and calibrators of the single detectors are fitted on every other stream, what
    stands on them (calibration of the fused score, threshold) on the rest. What cannot be calibrated stays as
    it is and is named in `as_is`. `hold` comes before the budget. ValueError if no threshold keeps that.
    """
    _, number = np.unique(np.asarray(stream), return_inverse=True)
    first = number % 2 == 0 if number.max(initial=0) > 0 else np.ones(len(number), bool)
    then = ~first if not first.all() else first
    as_is: dict[str, str] = {}
    found: dict[str, calibration.Calibrator] = {}

    def calibrate(name: str, scores: F64, right: Bool) -> None:
        try:
            found[name] = calibration.fit(scores, right, method)
        except ValueError as error:
            as_is[name] = str(error)

    weights: dict[str, float] = {}
    for level, s in levels.items():
        silent = np.isnan(s.probabilities).any(axis=2)
        said = np.where(silent, -1, np.where(np.isnan(s.probabilities), 0, s.probabilities).argmax(axis=2))
        known = first & (truth[level] >= 0)
        fitted = validation_weights(truth[level][known], said[known], len(s.classes))
        if fitted.any():  # else none is better than chance: equal weights
            weights |= {f"L{level}/{d}": round(float(w), 4) for d, w in zip(s.detectors, fitted, strict=True)}
    binary = levels[Level.L1]
    attack = truth[Level.L1] == binary.classes.index("attack")
    raw = binary.probabilities[:, :, binary.classes.index("attack")].astype(float)
    for k, d in enumerate(binary.detectors):
        calibrate(f"L1/{d}", raw[first, k], attack[first])
    settings = FusionSettings(weights=weights, calibration=Calibration(found))
    scores = settings.calibration.columns(tuple(f"L1/{d}" for d in binary.detectors)).apply(raw)
    weight = settings.weight(Level.L1, binary.detectors)
    model = np.array([d != RULESENSE for d in binary.detectors])
    mean = formulas.attack_probability(scores, np.stack([weight * model, weight], axis=1))
    # Each mean is calibrated as it is composed; the last one is what the cell judges by.
    for k, name in enumerate((MODELS,) if model.all() else (MODELS, FUSED)):
        calibrate(name, mean[then, k], attack[then])
        probability = Calibration(found).apply(name, mean[:, k])
    order = np.argsort(number, kind="stable")
    changes = (np.diff(number[order]) != 0) | (attack[order][1:] != attack[order][:-1])
    run = np.empty(len(number), dtype=np.int64)  # windows of a stream in a row without an attack between
    run[order] = np.concatenate([[0], np.cumsum(changes)])
    benign = order[(then & ~attack)[order]]
    budget = threshold_for_budget(
        probability[benign],
        run[benign],
        hours * float(np.mean(then[~attack])) if (~attack).any() else 0.0,
        per_hour,
        FLOOR,
        1.0 if hold is None else _ceiling(probability[hold.rows & attack], hold.missed),
    )
    vote = _vote(levels, truth, np.flatnonzero(first & attack), settings)
    settings = replace(settings, vote=vote)
    rows = np.flatnonzero(then & attack)
    for level, share, right in _named(levels, truth, rows, settings):
        calibrate(f"L{level}/fused", share, right)
    return FusionFit(weights, Calibration(found), vote, budget, len(number), as_is)


def _vote(
    levels: Mapping[Level, LevelScores], truth: Mapping[Level, I64], rows: I64, settings: FusionSettings
) -> Literal["weighted", "posterior"]:
    """The form that names more attacks right; the paper's vote if they are equal."""
    right = {
        form: sum(
            float(r.mean()) for _, _, r in _named(levels, truth, rows, replace(settings, vote=form)) if len(r)
        )
        for form in ("posterior", "weighted")
    }
    return "posterior" if right["posterior"] > right["weighted"] else "weighted"


def _named(
    levels: Mapping[Level, LevelScores], truth: Mapping[Level, I64], rows: I64, settings: FusionSettings
) -> list[tuple[Level, F64, Bool]]:
    """Of L2 and L3: share S of what was named, and whether it is right, of the rows."""
    if not len(rows):
        return []
    n = len(truth[Level.L1])
    evidence = Evidence(
        tuple(map(str, range(n))),
        {},
        {},
        {},
        {level: [("", slice(None), s)] for level, s in levels.items() if level != Level.L1},
        (),
        [],
    )
    said = names(evidence, rows, settings)
    named = [said.get(int(r), Name(BENIGN)) for r in rows]
    out = []
    for level, what, share in (
        (Level.L2, [x.category for x in named], [x.category_confidence for x in named]),
        (Level.L3, [x.attack_type or BENIGN for x in named], [x.type_confidence for x in named]),
    ):
        if level in levels:
            known = truth[level][rows] >= 0
            true = np.array(levels[level].classes, dtype=object)[truth[level][rows]]
            right = np.array(what, dtype=object) == true
            out.append((level, np.array(share)[known], right[known]))
    return out
