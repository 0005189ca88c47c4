"""XGBoost (DeepSense, Table 1: XGB)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from cellwatch.models.detectors.weights import class_weights
from cellwatch.models.types import F32, I64


class XGB:
    """Gradient-boosted trees; class imbalance by sample weights."""

    NAME: ClassVar[str] = "XGB"

    def __init__(self, classes: tuple[str, ...], seed: int = 0, rounds: int = 60, depth: int = 4) -> None:
        from xgboost import XGBClassifier

        self.classes = classes
        self._model = XGBClassifier(
            n_estimators=rounds,
            max_depth=depth,
            learning_rate=0.2,
            subsample=0.8,
            colsample_bytree=0.8,
            tree_method="hist",
            n_jobs=2,
            random_state=seed,
        )

    def fit(self, x: F32, y: I64) -> None:
        self._model.fit(x, y, sample_weight=class_weights(y)[y])

    def predict_proba(self, x: F32) -> F32:
        return np.asarray(self._model.predict_proba(x), dtype=np.float32)

    def to_onnx(self) -> bytes:
        from onnxmltools.convert import convert_xgboost
        from onnxmltools.convert.common.data_types import FloatTensorType

        from cellwatch.models.detectors.onnx_graph import tidy

        width = self._model.n_features_in_
        return tidy(
            convert_xgboost(
                self._model, initial_types=[("x", FloatTensorType([None, width]))], target_opset=15
            )
        )
