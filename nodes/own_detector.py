"""A detector that somebody else wrote, as one of ours: `cellwatch evaluate --detector mypkg:MyDetector`."""

from __future__ import annotations

import importlib
import inspect
import pickle
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellwatch.models.detectors.detector import Kind, Labelled
from cellwatch.models.types import F32, I64

NEEDS = ("fit", "predict_proba")


@dataclass(frozen=True, slots=True)
class OwnKind:
    """Stands for a class with `fit(x, y)` and `predict_proba(x)` where we want one of our detectors.

    What it may have beside them: KIND = "sequence" to be given the last windows of a device instead of one;
    parameters `classes` and `seed`; `validation` of `fit`; `to_onnx`; `classes_`, which says as in
    scikit-learn which class each column of `predict_proba` is.
    """

    target: type[Any]

    @property
    def NAME(self) -> str:  # noqa: N802 - as our detectors have it
        return self.target.__name__

    @property
    def KIND(self) -> Kind:  # noqa: N802
        return "sequence" if getattr(self.target, "KIND", "") == "sequence" else "window"

    def __call__(self, classes: tuple[str, ...], *, seed: int) -> OwnDetector:
        known = inspect.signature(self.target).parameters
        given = {"classes": classes, "seed": seed, "random_state": seed}
        return OwnDetector(self.target(**{k: v for k, v in given.items() if k in known}), classes, seed)


@dataclass(eq=False, slots=True)
class OwnDetector:
    """The thing itself. `predict_proba` raises ValueError for what is no table of probabilities."""

    model: Any
    classes: tuple[str, ...]
    seed: int

    @property
    def PICKLED(self) -> bool:  # noqa: N802
        """Whether `to_onnx` gives no graph."""
        return not hasattr(self.model, "to_onnx")

    def fit(self, x: F32, y: I64, *, validation: Labelled | None = None) -> None:
        """Learn, from validation rows as well where it wants them."""
        more = (
            {"validation": validation} if "validation" in inspect.signature(self.model.fit).parameters else {}
        )
        self.model.fit(x, y, **more)

    def predict_proba(self, x: F32) -> F32:
        """float32 (n, n_classes), rows summing to 1."""
        p = np.asarray(self.model.predict_proba(x), dtype=np.float32)
        learnt = getattr(self.model, "classes_", None)
        if learnt is not None and p.ndim == 2 and p.shape[1] == len(learnt) <= len(self.classes):
            whole = np.zeros((len(p), len(self.classes)), dtype=np.float32)
            whole[:, np.asarray(learnt, dtype=np.int64)] = p
            p = whole
        wanted = (len(x), len(self.classes))
        if p.shape != wanted:
            raise ValueError(f"predict_proba gave an array of shape {p.shape}, not {wanted}")
        if not np.isfinite(p).all() or (p < 0).any() or (np.abs(p.sum(axis=1) - 1) > 1e-3).any():
            raise ValueError("predict_proba gave rows that are no probabilities: each must sum to 1")
        return p

    def to_onnx(self) -> bytes:
        """Its own graph, or where it has none itself, pickled."""
        return pickle.dumps(self) if self.PICKLED else bytes(self.model.to_onnx())


def own_kind(spec: str) -> OwnKind:
    """The class that `package.module:Class` names, also in the current folder. ValueError for any other."""
    module, _, name = spec.partition(":")
    if not module or not name:
        raise ValueError(f"--detector {spec}: such as mypkg.module:MyDetector")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)  # processes that train get it too
    try:
        with redirect_stdout(sys.stderr):
            target = getattr(importlib.import_module(module), name)
    except (Exception, SystemExit) as error:  # somebody else's code may raise anything
        raise ValueError(f"--detector {spec}: {type(error).__name__}: {error}") from None
    if not isinstance(target, type) or any(not callable(getattr(target, need, None)) for need in NEEDS):
        raise ValueError(f"--detector {spec}: it must be a class with fit(x, y) and predict_proba(x)")
    return OwnKind(target)
