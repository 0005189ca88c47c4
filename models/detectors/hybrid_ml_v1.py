"""Soft voting (DeepSense, Table 1: hybridML_V1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from cellwatch.models.detectors.detector import Labelled, Progress, WindowDetector
from cellwatch.models.detectors.graph import Graph
from cellwatch.models.detectors.members import Member, members
from cellwatch.models.types import F32, I64


@dataclass(eq=False, kw_only=True)
class HybridMLV1(WindowDetector):
    """The mean of the probabilities of XGB, RandomForest and LogReg, each of half its usual size.

    DeepSense names hybridML_V1 and defines it not; this is the soft vote of Kittler et al., On Combining
    Classifiers, IEEE PAMI 20, 1998 (the sum rule).

    size: of the members' trees, 1 being that of the detectors of their names. linear: share of LogReg in the
    mean, 0..1; the others share the rest.
    """

    NAME: ClassVar[str] = "hybridML_V1"

    size: float = 0.5
    linear: float = 0.2
    _members: tuple[Member, ...] = field(default=(), init=False)

    def fit(
        self, x: F32, y: I64, *, validation: Labelled | None = None, progress: Progress | None = None
    ) -> None:
        """`validation` is not needed: the vote has no weights to learn."""
        self._width = x.shape[1]
        self._members = members(self.classes, self.seed, self.size)
        for k, member in enumerate(self._members):
            member.fit(x, y)
            if progress:
                progress((k + 1) / len(self._members))

    @property
    def _weights(self) -> F32:
        rest = (1 - self.linear) / 2
        return np.array([rest, rest, self.linear], dtype=np.float32)

    def predict_proba(self, x: F32) -> F32:
        out: F32 = np.tensordot(self._weights, np.stack([m.predict_proba(x) for m in self._members]), 1)
        return out

    def to_onnx(self) -> bytes:
        g = Graph((self._width,), len(self.classes))
        votes = (
            g.node("Mul", m.onnx(g), g.constant(w)) for m, w in zip(self._members, self._weights, strict=True)
        )
        return g.finish(g.node("Sum", *votes))
