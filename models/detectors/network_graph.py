"""A trained network as a served graph."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from cellwatch.models.detectors.grid import to_grid

if TYPE_CHECKING:
    import torch

SMALL = 256  # numbers; smaller tensors stay float32
SPARED = 8  # a scale must serve at least so many weights
EXACT = 1e-5  # of the largest weight: what rounding may differ between the net and its graph


def export(net: torch.nn.Module, shape: tuple[int, ...]) -> bytes:
    """The net (logits of rows of `shape`) with a softmax behind it, large tensors kept as 8-bit integers."""
    import onnx
    import torch

    from cellwatch.models.detectors.graph import IR_VERSION, OPSET

    out = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own end and of batches of one
        torch.onnx.export(
            torch.nn.Sequential(net, torch.nn.Softmax(dim=1)).eval(),
            (torch.zeros(2, *shape),),
            out,  # type: ignore[arg-type]
            input_names=["x"],
            output_names=["probabilities"],
            dynamic_axes={"x": {0: "n"}, "probabilities": {0: "n"}},
            opset_version=OPSET,
            dynamo=False,
        )
    model = onnx.load_from_string(out.getvalue())
    model.ir_version = IR_VERSION
    _shrink(model.graph)
    _shorten(model.graph)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _shrink(graph: Any) -> None:
    """Replaces every large float tensor by integers, a Cast and a Mul, which are folded at load."""
    from onnx import TensorProto, helper, numpy_helper

    first = []
    for tensor in list(graph.initializer):
        weights = numpy_helper.to_array(tensor)
        if weights.dtype != np.float32 or weights.size < SMALL:
            continue
        for over in (tuple(range(1, weights.ndim)), (weights.ndim - 1,), (0,)):
            integers, scale = to_grid(weights, over)
            off = np.abs(integers * scale - weights).max()
            if scale.size * SPARED <= weights.size and off <= EXACT * np.abs(weights).max():
                break
        else:
            continue  # not of this net's making: a table of positions, say
        name = tensor.name
        graph.initializer.remove(tensor)
        graph.initializer.append(numpy_helper.from_array(integers, f"{name}.q"))
        graph.initializer.append(numpy_helper.from_array(scale, f"{name}.s"))
        first.append(helper.make_node("Cast", [f"{name}.q"], [f"{name}.f"], to=TensorProto.FLOAT))
        first.append(helper.make_node("Mul", [f"{name}.f", f"{name}.s"], [name]))
    nodes = [*first, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _shorten(graph: Any) -> None:
    """The exporter's names take more room than the deeper nets' weights."""
    short = {"x": "x", "probabilities": "probabilities", "": ""}
    for node in graph.node:
        node.name = node.doc_string = ""
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = short.setdefault(name, f"v{len(short)}")
    for tensor in graph.initializer:
        tensor.name = short[tensor.name]
    del graph.value_info[:]
