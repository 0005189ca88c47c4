"""One shape for every ONNX graph: input "x", one output "probabilities"."""

from __future__ import annotations

from typing import Any


def tidy(graph: Any) -> bytes:
    """Keep only the probability output of a converted classifier and give it its standard name."""
    outputs = list(graph.graph.output)
    keep = outputs[-1]
    for out in outputs[:-1]:
        graph.graph.output.remove(out)
    for node in graph.graph.node:
        for i, name in enumerate(node.output):
            if name == keep.name:
                node.output[i] = "probabilities"
        for i, name in enumerate(node.input):
            if name == keep.name:
                node.input[i] = "probabilities"
    keep.name = "probabilities"
    return bytes(graph.SerializeToString())
