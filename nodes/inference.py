"""Asking a trained model, and what that costs."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable, Sequence

import numpy as np
import onnxruntime as ort

from cellwatch.models.types import F32
from cellwatch.nodes.measuring import measured

LEAST_S = 0.3  # of asking, so that load and time can be measured


def asked(graph: bytes, *, pickled: bool = False) -> Callable[[F32], F32]:
    """Rows (n, f) or sequences to probabilities (n, classes), of an ONNX graph or a pickled detector."""
    if pickled:  # made here, a moment ago
        found: Callable[[F32], F32] = pickle.loads(graph).predict_proba  # noqa: S301
        return found
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda x: np.asarray(session.run(["probabilities"], {"x": x})[0], dtype=np.float32)


def answers(graph: bytes, pickled: bool, batches: Sequence[F32]) -> F32:
    """What a model says of all rows (n, classes)."""
    ask = asked(graph, pickled=pickled)
    return np.concatenate([ask(x) for x in batches])


def time_to_answer(graph: bytes, pickled: bool, batches: Sequence[F32]) -> float:
    """Seconds for all batches, the mean of as many rounds as LEAST_S holds.

    One of its kind is asked beforehand, so that libraries are loaded; memory is that of the model itself.
    """
    asked(graph, pickled=pickled)(batches[0])
    with measured():
        ask = asked(graph, pickled=pickled)
        ask(batches[0])
        begun, rounds = time.perf_counter(), 0
        while not rounds or time.perf_counter() - begun < LEAST_S:
            for x in batches:
                ask(x)
            rounds += 1
        return (time.perf_counter() - begun) / rounds
