"""Random forest (DeepSense, Table 1: RandomForest)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from cellwatch.models.types import F32, I64


class RandomForest:
    """Bagged trees with balanced class weights."""

    NAME: ClassVar[str] = "RandomForest"

    def __init__(self, classes: tuple[str, ...], seed: int = 0, trees: int = 60, leaf: int = 2) -> None:
        from sklearn.ensemble import RandomForestClassifier

        self.classes = classes
        self._model = RandomForestClassifier(
            n_estimators=trees,
            min_samples_leaf=leaf,
            class_weight="balanced_subsample",
            n_jobs=2,
            random_state=seed,
        )

    def fit(self, x: F32, y: I64) -> None:
        self._model.fit(x, y)

    def predict_proba(self, x: F32) -> F32:
        return np.asarray(self._model.predict_proba(x), dtype=np.float32)

    def to_onnx(self) -> bytes:
        from skl2onnx import convert_sklearn
        from skl2onnx.common.data_types import FloatTensorType

        from cellwatch.models.detectors.onnx_graph import tidy

        width = self._model.n_features_in_
        graph = convert_sklearn(
            self._model,
            initial_types=[("x", FloatTensorType([None, width]))],
            options={"zipmap": False},
            target_opset=15,
        )
        return tidy(graph)
