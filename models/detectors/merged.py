"""Many ONNX graphs as one: a session call costs more than most of these models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class ServedGraph:
    """One model as it is served: an ONNX graph from "x", (n, f) or (n, T, f), to "probabilities" (n, c)."""

    level: int
    detector: str
    kind: str  # window | sequence
    content: bytes

    @property
    def name(self) -> str:
        """As in "L2/XGB"."""
        return f"L{self.level}/{self.detector}"


def merge(graphs: Sequence[ServedGraph]) -> bytes:
    """One graph with the inputs "window" and "sequence" and an output (n, m, c) for each level, "L1" ...

    In each output the models stand in the order of `graphs`. Equal constants are kept once. ValueError if
    two graphs want different versions of the same operators.
    """
    import onnx
    from onnx import TensorProto, helper

    nodes: list[Any] = []
    constants: dict[bytes, str] = {}
    initializers: list[Any] = []
    opsets: dict[str, int] = {}
    inputs: dict[str, Any] = {}
    outputs: dict[int, list[str]] = {}
    versions = []
    for k, graph in enumerate(graphs):
        model = onnx.load_model_from_string(graph.content)
        versions.append(model.ir_version)
        for opset in model.opset_import:
            domain = "" if opset.domain == "ai.onnx" else opset.domain
            if opsets.setdefault(domain, opset.version) != opset.version:
                raise ValueError(f"{graph.name}: opset {opset.version} of {domain!r} beside {opsets[domain]}")
        if graph.kind not in inputs:
            inputs[graph.kind] = helper.make_tensor_value_info(
                graph.kind, TensorProto.FLOAT, ["n", *[None] * (1 if graph.kind == "window" else 2)]
            )
        names = {"": "", "x": graph.kind}
        for tensor in model.graph.initializer:
            own = tensor.name
            tensor.name = ""
            key = tensor.SerializeToString()
            if key not in constants:
                constants[key] = f"{k}/{own}"
                tensor.name = constants[key]
                initializers.append(tensor)
            names[own] = constants[key]
        _rename(model.graph.node, names, f"{k}/")
        nodes += model.graph.node
        row = f"row/{k}"
        nodes.append(helper.make_node("Unsqueeze", [names["probabilities"], "axis"], [row]))
        outputs.setdefault(graph.level, []).append(row)
    initializers.append(helper.make_tensor("axis", TensorProto.INT64, [1], [1]))
    for level, rows in outputs.items():
        nodes.append(helper.make_node("Concat", rows, [f"L{level}"], axis=1))
    merged = helper.make_graph(
        nodes,
        "ensemble",
        list(inputs.values()),
        [helper.make_tensor_value_info(f"L{v}", TensorProto.FLOAT, ["n", None, None]) for v in outputs],
        initializers,
    )
    model = helper.make_model(
        merged, opset_imports=[helper.make_opsetid(d, v) for d, v in opsets.items()], ir_version=max(versions)
    )
    return bytes(model.SerializeToString())


def opsets(content: bytes) -> tuple[tuple[str, int], ...]:
    """Versions of the operators a graph wants: only graphs that agree can be merged."""
    import onnx

    model = onnx.load_model_from_string(content)
    return tuple(sorted(("" if o.domain == "ai.onnx" else o.domain, o.version) for o in model.opset_import))


def _rename(nodes: Any, names: dict[str, str], prefix: str) -> None:
    """Give every value of the nodes, and of graphs inside them, a name that no other graph has."""
    for node in nodes:
        for places in (node.input, node.output):
            for i, name in enumerate(places):
                places[i] = names.setdefault(name, prefix + name)
        node.name = ""
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                for own in (*inner.input, *inner.output, *inner.initializer):
                    own.name = names.setdefault(own.name, prefix + own.name)
                _rename(inner.node, names, prefix)
