"""Node parameters from a frozen dataclass: declared with description, unit and range."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node

P = TypeVar("P")


def param(
    default: Any, description: str, *, unit: str = "", low: float | None = None, high: float | None = None
) -> Any:
    """A dataclass field that becomes a ROS parameter."""
    return dataclasses.field(
        default=default, metadata={"description": description, "unit": unit, "low": low, "high": high}
    )


def declare(node: Node, params: type[P]) -> None:
    """Declare every field of `params` on `node`."""
    for field in dataclasses.fields(params):  # type: ignore[arg-type]
        meta = field.metadata
        unit = f" [{meta['unit']}]" if meta["unit"] else ""
        descriptor = ParameterDescriptor(description=meta["description"] + unit)
        if meta["low"] is not None:
            if isinstance(field.default, int) and not isinstance(field.default, bool):
                descriptor.integer_range = [
                    IntegerRange(from_value=meta["low"], to_value=meta["high"], step=0)
                ]
            else:
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=float(meta["low"]), to_value=float(meta["high"]), step=0.0)
                ]
        node.declare_parameter(field.name, field.default, descriptor)


def read(node: Node, params: type[P]) -> P:
    """The node's present parameters as the frozen dataclass."""
    return params(**{f.name: node.get_parameter(f.name).value for f in dataclasses.fields(params)})  # type: ignore[arg-type]
