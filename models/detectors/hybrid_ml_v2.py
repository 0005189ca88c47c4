"""Stacking (DeepSense, Table 1: hybridML_V2)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from cellwatch.models.detectors.detector import Labelled, Progress, WindowDetector
from cellwatch.models.detectors.graph import Graph
from cellwatch.models.detectors.labels import softmax
from cellwatch.models.detectors.members import Member, members
from cellwatch.models.types import F32, F64, I64

FLOOR = np.float32(1e-4)  # log-probabilities end here
BLOCKS = 10  # stretches of the rows that take turns in the two folds


@dataclass(eq=False, kw_only=True)
class HybridMLV2(WindowDetector):
    """A second model learns how far to trust XGB, RandomForest and LogReg in each class.

    DeepSense names hybridML_V2 and defines it not; this is stacking (Wolpert, Stacked Generalization, Neural
    Networks 5, 1992) on class probabilities (Ting and Witten, Issues in Stacked Generalization, JAIR 10,
    1999).
    The second model is a softmax of b_c + sum over members of w_mc log p_mc, learnt from probabilities for
    rows the members had not seen: of two folds, cut into blocks of neighbouring rows, each is judged by
    members of the other. Then the members learn again from all rows.

    size: of the members' trees, 1 being that of the detectors of their names. pull: of the weights towards
    equal trust (L2 penalty, in rows).
    """

    NAME: ClassVar[str] = "hybridML_V2"

    size: float = 0.5
    pull: float = 30.0
    _members: tuple[Member, ...] = field(default=(), init=False)

    def fit(
        self, x: F32, y: I64, *, validation: Labelled | None = None, progress: Progress | None = None
    ) -> None:
        """`validation` is not needed: the folds take its place."""
        self._width = x.shape[1]
        fold = np.arange(len(x)) * BLOCKS // len(x) % 2
        logs = np.empty((3, len(x), len(self.classes)), dtype=np.float32)
        for side in (0, 1):
            first = members(self.classes, self.seed, self.size)
            for k, member in enumerate(first):
                member.fit(x[fold != side], y[fold != side])
                logs[k, fold == side] = _logs(member.predict_proba(x[fold == side]))
            if progress:
                progress((side + 1) / 4)
        self._weights, self._bias = _trust(logs, y, self.pull)
        self._members = members(self.classes, self.seed, self.size)
        for member in self._members:
            member.fit(x, y)
        if progress:
            progress(1.0)

    def predict_proba(self, x: F32) -> F32:
        logs = np.stack([_logs(m.predict_proba(x)) for m in self._members])
        return softmax((self._weights[:, None] * logs).sum(axis=0) + self._bias)

    def to_onnx(self) -> bytes:
        g = Graph((self._width,), len(self.classes))
        floor = g.constant(FLOOR)
        logs = (g.node("Log", g.node("Max", m.onnx(g), floor)) for m in self._members)
        trusted = [g.node("Mul", log, g.constant(w)) for log, w in zip(logs, self._weights, strict=True)]
        return g.finish(g.node("Softmax", g.node("Sum", *trusted, g.constant(self._bias)), axis=1))


def _logs(p: F32) -> F32:
    return np.log(np.maximum(p, FLOOR))


def _trust(logs: F32, y: I64, pull: float) -> tuple[F32, F32]:
    """Weights (members, classes) and bias (classes,) of the second model, by L-BFGS."""
    from scipy.optimize import minimize

    count, rows, classes = logs.shape
    equal = np.full((count, classes), 1 / count)

    def loss(flat: F64) -> tuple[float, F64]:
        w, b = flat[:-classes].reshape(count, classes), flat[-classes:]
        p = softmax((w[:, None] * logs).sum(axis=0) + b)
        off = p.astype(np.float64)
        off[np.arange(rows), y] -= 1
        value = -np.log(np.maximum(p[np.arange(rows), y], 1e-12)).sum()
        value += pull * (((w - equal) ** 2).sum() + (b**2).sum())
        slope_w = np.einsum("mnc,nc->mc", logs, off) + 2 * pull * (w - equal)
        return float(value / rows), np.concatenate([slope_w.ravel(), off.sum(axis=0) + 2 * pull * b]) / rows

    start = np.concatenate([equal.ravel(), np.zeros(classes)])
    best = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 60}).x.astype(np.float32)
    return best[:-classes].reshape(count, classes), best[-classes:]
