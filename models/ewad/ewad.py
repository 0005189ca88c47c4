"""EWAD: an ensemble of Wasserstein GANs that knows only normal data (Riaz et al., JCDE 2025)."""

from __future__ import annotations

import copy
import io
import warnings
from collections.abc import Callable
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from cellwatch.models.detectors.graph import IR_VERSION, OPSET
from cellwatch.models.ewad.fitting import fit
from cellwatch.models.ewad.judgement import Judgement
from cellwatch.models.ewad.report import Report
from cellwatch.models.ewad.scoring import Outputs, Scoring
from cellwatch.models.ewad.settings import EwadSettings
from cellwatch.models.ewad.training import device
from cellwatch.models.types import F32, F64, I64

CHUNK = 1024  # rows judged at once
LEAST = 20  # normal rows to learn from
HELD_BACK = 5  # one normal row in so many, at the end, calibrates if no validation rows are given

Progress = Callable[[float], None]  # called with the part done, 0..1


class Ewad:
    """The whole detector. Deterministic for a seed; on the GPU where there is one.

    >>> rows = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    >>> ewad = Ewad(EwadSettings(epochs=1, members=3)).fit(rows, ("a", "b", "c", "d"))
    >>> ewad.score(rows).shape, ewad.judge(rows).parts.shape
    ((200,), (200, 3))
    """

    columns: tuple[str, ...]  # (f,)
    threshold: float  # the score that `settings.false_alarms` of normal rows reach
    report: Report

    def __init__(self, settings: EwadSettings | None = None, seed: int = 0) -> None:
        self.settings = settings or EwadSettings()
        self.seed = seed

    def fit(
        self,
        x: F32,
        columns: tuple[str, ...],
        *,
        labels: I64 | None = None,
        validation: F32 | None = None,
        groups: tuple[str, ...] | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Learn what is normal from raw rows (n, f), NaN where a number is missing, in the order of time.

        `labels` (n,), 0 normal: rows with another label are left out of all that is learnt here. `validation`
        (m, f): normal rows for alpha, beta, the p-value and the threshold; without them the last fifth of the
        normal rows is held back for it. `groups` (f,): the sensor group of each column (partition "columns").
        ValueError for too few rows, no column that varies, or if every member diverged.
        """
        normal = x if labels is None else x[np.asarray(labels) == 0]
        if x.shape[1] != len(columns) or (groups is not None and len(groups) != len(columns)):
            raise ValueError(f"{x.shape[1]} columns of numbers, {len(columns)} names")
        if validation is None:
            cut = len(normal) - len(normal) // HELD_BACK
            normal, validation = normal[:cut], normal[cut:]
        if len(normal) < LEAST or len(validation) < 2:
            raise ValueError(
                f"{len(normal)} normal rows to learn from and {len(validation)} to calibrate on are too few"
            )
        self.columns = tuple(columns)
        self._scoring, calibration, self.report = fit(
            normal, validation, self.columns, groups, self.settings, self.seed, progress
        )
        self.threshold = calibration.score(self.settings.false_alarms)
        return self

    def judge(self, x: F32) -> Judgement:
        """Everything about raw rows (n, f)."""
        score, p_value, parts, features = self._chunks(x, self._scoring)
        return Judgement(score.astype(np.float64), p_value.astype(np.float64), parts, features)

    def score(self, x: F32) -> F64:
        """float64 (n,), high = anomalous."""
        return self.judge(x).score

    def p_value(self, x: F32) -> F64:
        """float64 (n,), 0..1."""
        return self.judge(x).p_value

    def signals(self, x: F32) -> F32:
        """What a head may learn from: (n, 2 I), standardised errors and then -C(x) of all members."""
        found: F32 = np.concatenate(self._chunks(x, lambda part: tuple(self._scoring.terms(part)[0])), axis=1)
        return found

    def scaled(self, x: F32) -> F32:
        """The preprocessed rows (n, w), complete and in 0..1 for what is usual in training."""
        found: F32 = self._chunks(x, self._scoring.prepare)[0]
        return found

    def to_onnx(self) -> bytes:
        """A graph from raw "x" (NaN allowed) to "score", "p_value", "parts", "features"."""
        import onnx

        out, names = io.BytesIO(), list(Outputs._fields)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter warns of its own end and of what is constant
            torch.onnx.export(
                copy.deepcopy(self._scoring).cpu().eval(),
                (torch.zeros(2, len(self.columns)),),
                out,  # type: ignore[arg-type]
                input_names=["x"],
                output_names=names,
                dynamic_axes={name: {0: "n"} for name in ("x", *names)},
                opset_version=OPSET,
                dynamo=False,
            )
        model = onnx.load_from_string(out.getvalue())
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())

    def tensors(self) -> dict[str, NDArray[Any]]:
        """All that was learnt, for safetensors; the rest is in `card`."""
        return {name: value.cpu().numpy() for name, value in self._scoring.state_dict().items()}

    def card(self) -> dict[str, Any]:
        """JSON: settings, seed, columns, threshold, report."""
        return {
            "settings": self.settings.to_json(),
            "seed": self.seed,
            "columns": list(self.columns),
            "threshold": self.threshold,
            "report": self.report.to_json(),
        }

    @classmethod
    def from_tensors(cls, tensors: dict[str, NDArray[Any]], card: dict[str, Any]) -> Self:
        """What `tensors` and `card` gave; ValueError if they do not fit together."""
        try:
            made = cls(EwadSettings.from_json(card["settings"]), card["seed"])
            made.columns, made.threshold = tuple(card["columns"]), float(card["threshold"])
            made.report = Report.from_json(card["report"])
            made._scoring = Scoring.from_state(
                {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()},
                made.settings,
                made.report.depths,
            )
        except (KeyError, TypeError, RuntimeError) as error:
            raise ValueError(f"tensors and card do not fit together: {error}") from error
        return made

    def _chunks(self, x: F32, judge: Callable[[torch.Tensor], tuple[torch.Tensor, ...]]) -> list[F32]:
        if x.ndim != 2 or x.shape[1] != len(self.columns):
            raise ValueError(f"rows of {len(self.columns)} columns, not of shape {x.shape}")
        here = device()
        self._scoring.to(here)
        rows = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
        with torch.no_grad():
            parts = [judge(part.to(here)) for part in torch.split(rows, CHUNK)]
            return [torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True)]
