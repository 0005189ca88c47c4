"""A small bundle to write, read and harm."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from cellwatch.models.registry.keys import Keys
from cellwatch.models.registry.manifest import Manifest, ModelEntry


def softmax_graph(features: int = 2, classes: int = 2, seed: int = 0) -> bytes:
    """The smallest detector: one matrix and a softmax."""
    weights = np.random.default_rng(seed).normal(size=(features, classes)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["z"]),
            helper.make_node("Softmax", ["z"], ["probabilities"], axis=1),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", features])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", classes])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return model.SerializeToString()


@pytest.fixture
def keys(tmp_path):
    return Keys(tmp_path / "keys")


@pytest.fixture
def manifest():
    return Manifest(
        "bench",
        "s1",
        1.0,
        {"1": ["benign", "attack"]},
        {"centre": [0.0, 0.0], "scale": [1.0, 1.0]},
        [ModelEntry("XGB", 1, "window", "L1-XGB.onnx", {"mcc": 0.5})],
        {"1": {"XGB": 0.5}},
    )


@pytest.fixture
def files():
    return {"L1-XGB.onnx": softmax_graph(), "profile.json": b"{}"}
