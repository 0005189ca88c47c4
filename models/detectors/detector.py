"""The protocol every detector follows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from cellwatch.models import types
from cellwatch.models.types import F32, I64

SEQUENCE = types.SEQUENCE

Kind = Literal["window", "sequence"]
Labelled = tuple[F32, I64]  # rows and their class indices
Progress = Callable[[float], None]  # called with the part done, 0..1


class Detector(Protocol):
    """A seeded classifier of the windows of a device.

    `x` is float32 without NaN (see `Scaler`): (n, n_features) where KIND is "window", and
    (n, SEQUENCE, n_features), oldest window first, where it is "sequence"; a device with fewer
    windows has its first one repeated on the left.
    `y` holds indices into `classes`, 2 to 256 of them; a class absent from `y` gets a probability near 0.
    """

    NAME: ClassVar[str]
    KIND: ClassVar[Kind]
    classes: tuple[str, ...]
    seed: int

    def fit(
        self, x: F32, y: I64, *, validation: Labelled | None = None, progress: Progress | None = None
    ) -> None:
        """Learn. Networks keep the epoch that did best on `validation`, else on the last tenth of the rows.

        ValueError if `y` has fewer than two classes.
        """

    def predict_proba(self, x: F32) -> F32:
        """float32 (n, n_classes), rows summing to 1."""

    def to_onnx(self) -> bytes:
        """A graph (main domain only) with input "x" and output "probabilities" that computes the same."""


@dataclass(eq=False)
class WindowDetector:
    """What the detectors of single windows share."""

    KIND: ClassVar[Kind] = "window"

    classes: tuple[str, ...]
    seed: int = 0
