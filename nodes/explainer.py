"""Asks the L1 models which features moved them, in a thread of its own: the windows go on."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cellwatch.models.detectors.serving import session
from cellwatch.models.fusion.attribution import Explained, Method, top_contributions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cellwatch.models.detectors.merged import ServedGraph
    from cellwatch.models.types import F32

TREES = frozenset({"DecisionTree", "RandomForest", "XGB"})  # cheap to ask: SHAP; the others: occlusion
AGAIN_S = 10.0  # a device is not explained again within


@dataclass(frozen=True, slots=True)
class Attribution:
    """What moved the models on one device in one window."""

    window_id: int
    end_ns: int
    device: str
    contributions: tuple[tuple[str, float], ...]  # (feature, share of P(attack)), the gravest first


class Explainer:
    """One device at a time; while it is busy, `offer` refuses. `weights`: detector -> weight, 1 if absent."""

    def __init__(
        self, graphs: Sequence[ServedGraph], weights: Mapping[str, float], features: Sequence[str]
    ) -> None:
        self._graphs = [g for g in graphs if g.level == 1]
        self._weights = weights
        self._features = tuple(features)
        self._sessions: list[
            Any
        ] = []  # of its own, opened when first asked: the hot path's are never held up
        self._pool = ThreadPoolExecutor(1)
        self._busy: Future[Attribution] | None = None
        self._told: dict[str, float] = {}

    def offer(self, window_id: int, end_ns: int, device: str, sequence: F32, now_s: float) -> bool:
        """Explain the last window of a device, `sequence` (T, f) scaled as the models see it.

        False if it is busy, or said something of this device less than `AGAIN_S` ago.
        """
        self._told = {d: t for d, t in self._told.items() if now_s - t < AGAIN_S}
        if self._busy is not None or device in self._told:
            return False
        self._told[device] = now_s
        self._busy = self._pool.submit(self._explain, window_id, end_ns, device, sequence.copy())
        return True

    def take(self) -> Attribution | None:
        """The answer, once, when there is one. An error of a model comes out here."""
        if self._busy is None or not self._busy.done():
            return None
        done, self._busy = self._busy, None
        return done.result()

    def close(self) -> None:
        """Wait for what is being asked."""
        self._pool.shutdown(cancel_futures=True)

    def _explain(self, window_id: int, end_ns: int, device: str, sequence: F32) -> Attribution:
        if not self._sessions:
            self._sessions = [session(g.content) for g in self._graphs]
        models = [
            Explained(
                g.detector,
                self._weights.get(g.detector, 1.0),
                _attack(s),
                sequence if g.kind == "sequence" else sequence[-1],
                method(g.detector),
            )
            for g, s in zip(self._graphs, self._sessions, strict=True)
        ]
        baseline = np.zeros(sequence.shape[-1], np.float32)  # the scaler puts the median of training there
        found = top_contributions(models, baseline, self._features)
        return Attribution(window_id, end_ns, device, tuple(found))


def method(detector: str) -> Method:
    """How a detector is asked."""
    return "shap" if detector in TREES else "occlusion"


def _attack(graph: Any) -> Callable[[F32], F32]:
    def ask(rows: F32) -> F32:
        out: F32 = graph.run(["probabilities"], {"x": np.ascontiguousarray(rows, np.float32)})[0][:, 1]
        return out

    return ask
