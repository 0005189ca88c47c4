"""The protocol every detector follows."""

from __future__ import annotations

from typing import ClassVar, Protocol

from cellwatch.models.types import F32, I64


class Detector(Protocol):
    """A seeded classifier of feature windows.

    `x` is float32 (n_windows, n_features) without NaN (see `Scaler`); `y` holds indices into
    `classes`; `predict_proba` gives float32 (n_windows, n_classes), rows summing to 1.
    `to_onnx` gives a graph with input "x" and output "probabilities" that computes the same.
    """

    NAME: ClassVar[str]
    classes: tuple[str, ...]

    def fit(self, x: F32, y: I64) -> None: ...

    def predict_proba(self, x: F32) -> F32: ...

    def to_onnx(self) -> bytes: ...
