"""NeuroSense at run time: all graphs of an ensemble on one window, through ONNX Runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cellwatch.models.types import Level, LevelScores, Verdicts

if TYPE_CHECKING:
    from collections.abc import Callable

    from cellwatch.models.detectors.scaler import Scaler
    from cellwatch.models.types import F32, FeatureWindow


class Ensemble:
    """Serves ONNX graphs by (level, detector). One that fails is taken out and named in `failed`."""

    def __init__(
        self,
        schema_id: str,
        classes: dict[int, tuple[str, ...]],
        scaler: Scaler,
        graphs: dict[tuple[int, str], bytes],
    ) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1  # the windows are small; a thread pool costs more than it gives
        options.log_severity_level = 3
        providers = [
            p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in ort.get_available_providers()
        ]
        self.schema_id = schema_id
        self.classes = classes
        self.failed: dict[str, str] = {}
        self._scaler = scaler
        self._run = {
            key: _runner(ort.InferenceSession(graph, options, providers=providers))
            for key, graph in graphs.items()
        }

    def judge(self, window: FeatureWindow) -> Verdicts:
        """Scores of every detector for every device. ValueError if the window has another schema."""
        if window.schema_id != self.schema_id:
            raise ValueError(f"models have schema {self.schema_id}, the window {window.schema_id}")
        x = self._scaler.transform(window.values)
        levels = []
        for level in sorted({level for level, _ in self._run}):
            classes = self.classes[level]
            names = tuple(d for lv, d in self._run if lv == level)
            scores = np.full((len(x), len(names), len(classes)), np.nan, dtype=np.float32)
            for k, name in enumerate(names):
                if name in self.failed:
                    continue
                try:
                    scores[:, k] = self._run[level, name](x)
                except Exception as error:  # the others go on
                    self.failed[name] = str(error)
            levels.append(LevelScores(Level(level), names, classes, scores))
        n = len(window.devices)
        return Verdicts(
            "ensemble",
            window.window_id,
            window.end_ns,
            window.closed_ns,
            window.devices,
            np.zeros(n, np.uint8),
            np.zeros(n, np.float32),
            tuple(levels),
        )


def _runner(session: Any) -> Callable[[F32], F32]:
    def run(x: F32) -> F32:
        return np.asarray(session.run(["probabilities"], {"x": x})[0], dtype=np.float32)

    return run
