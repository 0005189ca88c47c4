"""Building small ONNX graphs: input "x", output "probabilities", main domain only."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, checker, helper, numpy_helper

OPSET = 18
IR_VERSION = 10


class Graph:
    """Appends nodes one by one; every method gives the name of its result.

    >>> g = Graph((4,), 2)
    >>> scores = g.node("MatMul", "x", g.constant(np.zeros((4, 2), np.float32)))
    >>> type(g.finish(g.node("Softmax", scores)))
    <class 'bytes'>
    """

    def __init__(self, shape: tuple[int, ...], classes: int) -> None:
        """`shape` of one row of x."""
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._input = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])
        self._output = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", classes])

    def constant(self, value: NDArray[Any] | np.generic) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def ints(self, *value: int) -> str:
        """An int64 vector, as shapes and axes need it."""
        return self.constant(np.array(value, dtype=np.int64))

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(op, inputs, [name], **attributes))
        return name

    def two(self, op: str, *inputs: str, **attributes: Any) -> tuple[str, str]:
        """A node with two results."""
        names = (f"v{len(self._nodes)}a", f"v{len(self._nodes)}b")
        self._nodes.append(helper.make_node(op, inputs, names, **attributes))
        return names

    def cast(self, name: str, dtype: type[np.generic]) -> str:
        return self.node("Cast", name, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def weights(self, stored: NDArray[Any], scale: NDArray[np.float32]) -> str:
        """A float32 matrix kept as small integers and scale; ONNX Runtime multiplies once, at load."""
        return self.node("Mul", self.cast(self.constant(stored), np.float32), self.constant(scale))

    def finish(self, result: str) -> bytes:
        """The graph whose output is `result`."""
        self._nodes.append(helper.make_node("Identity", [result], ["probabilities"]))
        graph = helper.make_graph(
            self._nodes, "detector", [self._input], [self._output], initializer=self._constants
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        checker.check_model(model)
        return bytes(model.SerializeToString())
