"""Calibrated probabilities: of windows scored 0.8, eight in ten are attacks.

Platt: J. Platt, "Probabilistic outputs for support vector machines", 1999, here on the log-odds of the score.
Isotonic: B. Zadrozny, C. Elkan, "Transforming classifier scores into accurate multiclass probability
estimates", KDD 2002. Both are fitted on validation data, never on what is judged, and keep the order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from cellwatch.models.types import F64, Bool

MAX_KNOTS = 64  # of an isotonic map: bounds the work of one window
_EDGE = 1e-6  # scores are held this far from 0 and 1 before log-odds
_STEPS, _CLOSE = 100, 1e-9  # of Newton


@dataclass(frozen=True, slots=True)
class Platt:
    """p = 1 / (1 + exp(-(slope * logit(s) + offset))), slope > 0; (1, 0) leaves s as it is."""

    slope: float = 1.0
    offset: float = 0.0

    def apply(self, scores: F64) -> F64:
        """Calibrated P(attack) of scores of any shape, NaN stays NaN."""
        return _sigmoid(self.slope * _logit(scores) + self.offset)

    def to_dict(self) -> dict[str, Any]:
        return {"method": "platt", "slope": self.slope, "offset": self.offset}


@dataclass(frozen=True, slots=True)
class Isotonic:
    """Piecewise linear and never falling through at most `MAX_KNOTS` (scores[k], probabilities[k])."""

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]

    def __post_init__(self) -> None:
        x, y = np.array(self.scores), np.array(self.probabilities)
        if not 2 <= len(x) == len(y) <= MAX_KNOTS:
            raise ValueError(f"an isotonic map has 2 to {MAX_KNOTS} knots, as many scores as probabilities")
        if not ((x >= 0).all() and (x <= 1).all() and (np.diff(x) > 0).all()):
            raise ValueError("the scores of an isotonic map lie in 0..1 and rise")
        if not ((y >= 0).all() and (y <= 1).all() and (np.diff(y) >= 0).all()):
            raise ValueError("the probabilities of an isotonic map lie in 0..1 and never fall")

    def apply(self, scores: F64) -> F64:
        """Calibrated P(attack) of scores of any shape, NaN stays NaN."""
        return np.interp(scores, self.scores, self.probabilities)

    def to_dict(self) -> dict[str, Any]:
        return {
            "method": "isotonic",
            "scores": list(self.scores),
            "probabilities": list(self.probabilities),
        }


Calibrator = Platt | Isotonic
METHODS = ("isotonic", "platt")


def calibrator(data: dict[str, Any]) -> Calibrator:
    """A calibrator from its `to_dict`. ValueError names what is wrong."""
    method = data.get("method")
    if method not in METHODS:
        raise ValueError(f"unknown calibration '{method}'; known: {', '.join(METHODS)}")
    try:
        if method == "platt":
            platt = Platt(float(data["slope"]), float(data["offset"]))
            if not (math.isfinite(platt.slope) and platt.slope > 0 and math.isfinite(platt.offset)):
                raise ValueError("slope must be above 0, slope and offset finite")
            return platt
        return Isotonic(tuple(map(float, data["scores"])), tuple(map(float, data["probabilities"])))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{method} calibration: {error!r}") from None


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibrators by "L1/DETECTOR" and, of what is fused, "L1/fused", "L1/models", "L2/fused", "L3/fused"."""

    by_name: dict[str, Calibrator] = field(default_factory=dict)

    def apply(self, name: str, scores: F64) -> F64:
        """Scores of any shape through the calibrator called `name`, unchanged without one."""
        found = self.by_name.get(name)
        return found.apply(scores) if found else scores

    def columns(self, names: tuple[str, ...]) -> Columns:
        """The calibrators of the m columns `names`, stacked to be applied at once."""
        return Columns(tuple(self.by_name.get(n) for n in names))

    def to_dict(self) -> dict[str, Any]:
        return {name: c.to_dict() for name, c in self.by_name.items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Calibration:
        """ValueError names the calibrator that is wrong."""
        out = {}
        for name, d in data.items():
            try:
                out[str(name)] = calibrator(d)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return cls(out)


class Columns:
    """Calibrators of m columns on all rows in a few array operations instead of one call each.

    All isotonic maps lie on one line, `_APART` from each other, so that one interpolation serves them all.
    """

    _APART = 4.0  # scores lie in 0..1; each map goes on flat for 1 on either side

    def __init__(self, calibrators: tuple[Calibrator | None, ...]) -> None:
        steps = [(k, c) for k, c in enumerate(calibrators) if isinstance(c, Isotonic)]
        curves = [(k, c) for k, c in enumerate(calibrators) if isinstance(c, Platt)]
        self._isotonic = np.array([k for k, _ in steps], int)
        self._platt = np.array([k for k, _ in curves], int)
        self._place = np.arange(len(steps)) * self._APART
        self._x = np.array(
            [x + p for p, (_, c) in zip(self._place, steps, strict=True) for x in (-1, *c.scores, 2)]
        )
        self._y = np.array(
            [y for _, c in steps for y in (c.probabilities[0], *c.probabilities, c.probabilities[-1])]
        )
        self._slope = np.array([c.slope for _, c in curves])
        self._offset = np.array([c.offset for _, c in curves])

    def apply(self, scores: F64) -> F64:
        """(n, m) scores in 0..1 to (n, m) calibrated P(attack); NaN stays NaN."""
        if len(self._isotonic) == scores.shape[1] > 0:  # the ordinary case: all of one kind
            line: F64 = np.interp(scores + self._place, self._x, self._y)
            return line
        out = scores.copy()
        if len(self._isotonic):
            out[:, self._isotonic] = np.interp(scores[:, self._isotonic] + self._place, self._x, self._y)
        if len(self._platt):
            out[:, self._platt] = _sigmoid(self._slope * _logit(scores[:, self._platt]) + self._offset)
        return out


def fit_platt(scores: F64, truth: Bool) -> Platt:
    """Platt's sigmoid on log-odds of the scores (n,), by Newton on his smoothed targets.

    ValueError unless both classes are there. A score without any order (slope <= 0) is refused too.
    """
    z, y = _clean(scores, truth)
    z = _logit(z)
    positives, negatives = y.sum(), len(y) - y.sum()
    target = np.where(y, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    design = np.stack([z, np.ones_like(z)], axis=1)
    theta = np.zeros(2)

    def loss(at: F64) -> float:
        logit = design @ at
        return float(np.sum(np.logaddexp(0.0, logit) - target * logit))

    for _ in range(_STEPS):
        p = _sigmoid(design @ theta)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + 1e-9 * np.eye(2)
        step = np.linalg.solve(hessian, design.T @ (p - target))
        while loss(theta - step) > loss(theta) and np.abs(step).max() > _CLOSE:
            step /= 2  # Newton overshoots far from the optimum
        theta -= step
        if np.abs(step).max() < _CLOSE:
            break
    if theta[0] <= 0:
        raise ValueError("the score does not rise with the truth")
    return Platt(float(theta[0]), float(theta[1]))


def fit_isotonic(scores: F64, truth: Bool, max_knots: int = MAX_KNOTS) -> Isotonic:
    """Isotonic regression of truth on the scores (n,) by pool-adjacent-violators, thinned to `max_knots`.

    Ends are held half a count away from 0 and 1 (Laplace), so that no validation set makes certainty.
    ValueError unless both classes are there.
    """
    from sklearn.isotonic import IsotonicRegression

    s, y = _clean(scores, truth)
    edge = 1 / (2 * len(y) + 2)
    fitted = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(s, y)
    x, p = fitted.X_thresholds_, fitted.y_thresholds_
    if len(x) < 2:  # a score that says nothing
        x, p = np.array([0.0, 1.0]), np.repeat(p, 2)[:2]
    x, p = x.astype(float), np.clip(p.astype(float), 0.0, 1.0)
    keep = np.concatenate([[True], np.diff(x) > 0])
    x, p = x[keep], np.maximum.accumulate(p[keep])
    if len(x) > max_knots:
        x, p = _thin(x, p, max_knots)
    return Isotonic(tuple(x.tolist()), tuple(p.tolist()))


def fit(scores: F64, truth: Bool, method: str = "isotonic") -> Calibrator:
    """A calibrator by name, see `METHODS`."""
    if method not in METHODS:
        raise ValueError(f"unknown calibration '{method}'; known: {', '.join(METHODS)}")
    return fit_platt(scores, truth) if method == "platt" else fit_isotonic(scores, truth)


def _thin(x: F64, p: F64, knots: int) -> tuple[F64, F64]:
    """The `knots` points that keep the curve: evenly along its length, score and probability alike."""
    along = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(p)) + np.diff(x) / max(x[-1] - x[0], 1e-12))])
    at = np.searchsorted(along, np.linspace(0.0, along[-1], knots))
    at = np.unique(np.concatenate([[0], np.clip(at, 0, len(x) - 1), [len(x) - 1]]))[:knots]
    at[-1] = len(x) - 1
    return x[at], p[at]


def _clean(scores: F64, truth: Bool) -> tuple[F64, Bool]:
    s, y = np.asarray(scores, float), np.asarray(truth, bool)
    if s.shape != y.shape or s.ndim != 1:
        raise ValueError(f"scores {s.shape} and truth {y.shape} must be two equally long vectors")
    heard = np.isfinite(s)
    s, y = s[heard], y[heard]
    if not y.any() or y.all():
        raise ValueError("calibration needs benign and attacked windows")
    return s, y


def _logit(s: F64) -> F64:
    clipped = np.clip(s, _EDGE, 1 - _EDGE)
    z: F64 = np.log(clipped / (1 - clipped))
    return z


def _sigmoid(z: F64) -> F64:
    p: F64 = 1.0 / (1.0 + np.exp(-np.clip(z, -500, 500)))
    return p
