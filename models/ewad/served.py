"""A trained EWAD as it is served: one ONNX graph, without torch."""

from __future__ import annotations

import numpy as np

from cellwatch.models.detectors.serving import session
from cellwatch.models.ewad.judgement import Judgement
from cellwatch.models.types import F32

OUTPUTS = ["score", "p_value", "parts", "features"]


class ServedEwad:
    """Judges raw rows (n, f), NaN where a number is missing. ValueError if the graph cannot be loaded."""

    def __init__(self, graph: bytes) -> None:
        try:
            self._session = session(graph)
        except Exception as error:  # ONNX Runtime has errors of its own
            raise ValueError(f"the EWAD cannot be loaded: {' '.join(str(error).split())[:300]}") from None

    def judge(self, x: F32) -> Judgement:
        """Everything about the rows."""
        score, p, parts, features = self._session.run(OUTPUTS, {"x": np.ascontiguousarray(x, np.float32)})
        return Judgement(
            score.astype(np.float64).reshape(len(x)), p.astype(np.float64).reshape(len(x)), parts, features
        )
