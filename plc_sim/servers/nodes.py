# mypy: disable-error-code="attr-defined,arg-type"
# asyncua re-exports its generated types without __all__ and narrows int and str to its own NewTypes.
"""Nodes of a PLC in the address space: AnalogItems with their properties, methods (OPC UA Parts 3 and 8)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from asyncua import ua

from cellwatch.plc_sim.tags import TagSpec

TYPES = {
    "float": (ua.VariantType.Double, ua.ObjectIds.Double),
    "int": (ua.VariantType.Int32, ua.ObjectIds.Int32),
    "bool": (ua.VariantType.Boolean, ua.ObjectIds.Boolean),
}
_CAST: dict[str, Callable[[float], Any]] = {"float": float, "int": int, "bool": bool}
_GOOD = ua.StatusCode(ua.StatusCodes.Good)

# UCUM unit -> UNECE Rec. 20 code, symbol, name (OPC UA Part 8, 5.6.3)
_UNITS = {
    "%": ("P1", "%", "percent"),
    "Cel": ("CEL", "°C", "degree Celsius"),
    "L/min": ("L2", "l/min", "litre per minute"),
    "kPa": ("KPA", "kPa", "kilopascal"),
    "A": ("AMP", "A", "ampere"),
    "kW": ("KWT", "kW", "kilowatt"),
    "m/s": ("MTS", "m/s", "metre per second"),
    "mm/s": ("C16", "mm/s", "millimetre per second"),
    "g": ("GRM", "g", "gram"),
    "s": ("SEC", "s", "second [unit of time]"),
    "/min": ("C94", "min⁻¹", "reciprocal minute"),
}


class _Value(ua.DataValue):
    """A value that nobody changes: asyncua's deep copies, one a monitored item, would be most of the cost."""

    __slots__ = ()

    def __deepcopy__(self, memo: Any) -> _Value:
        return self


def is_analog(spec: TagSpec) -> bool:
    """Whether the tag is an AnalogItem: a number with a range."""
    return spec.kind == "float" and spec.low == spec.low


def data_value(spec: TagSpec, value: float, code: int, stamp: datetime) -> ua.DataValue:
    """Value of a tag with status `code`; a bad one has none (Part 4, 7.11)."""
    bad = code >> 30 >= 2
    kind = TYPES[spec.kind][0]
    return _Value(
        ua.Variant(None, ua.VariantType.Null) if bad else ua.Variant(_CAST[spec.kind](value), kind),
        StatusCode=ua.StatusCode(code) if code else _GOOD,
        SourceTimestamp=stamp,
        ServerTimestamp=stamp,
    )


def variable(
    node: ua.NodeId,
    parent: ua.NodeId,
    spec: TagSpec,
    value: ua.DataValue,
    historized: bool,
) -> list[ua.AddNodesItem]:
    """The variable of a tag; an AnalogItem with its EURange and EngineeringUnits."""
    access = ua.AccessLevel.CurrentRead.mask
    if spec.writable:
        access |= ua.AccessLevel.CurrentWrite.mask
    if historized:
        access |= ua.AccessLevel.HistoryRead.mask
    kind = ua.ObjectIds.AnalogItemType if is_analog(spec) else ua.ObjectIds.DataItemType
    attributes = _attributes(spec.name, value.Value, TYPES[spec.kind][1], access)
    attributes.Description = ua.LocalizedText(spec.about or None)
    attributes.Historizing = historized
    name = ua.QualifiedName(spec.name, node.NamespaceIndex)
    items = [_item(node, parent, ua.ObjectIds.HasComponent, name, attributes, kind)]
    if is_analog(spec):
        items += [
            _property(node, 1, "EURange", ua.Range(spec.low, spec.high), ua.ObjectIds.Range),
            _property(node, 2, "EngineeringUnits", _unit(spec.unit), ua.ObjectIds.EUInformation),
        ]
    return items


def child(node: ua.NodeId, nth: int, name: str) -> ua.NodeId:
    """Node id of what belongs to a node: `PLC1.LIT101.EURange`, or the node's number and one more digit."""
    if isinstance(node.Identifier, int):
        return ua.NodeId(node.Identifier * 10 + nth, node.NamespaceIndex)
    return ua.NodeId(f"{node.Identifier!s}.{name}", node.NamespaceIndex)


def _item(
    node: ua.NodeId,
    parent: ua.NodeId,
    reference: int,
    name: ua.QualifiedName,
    attributes: ua.VariableAttributes,
    kind: int,
) -> ua.AddNodesItem:
    return ua.AddNodesItem(
        ParentNodeId=parent,
        ReferenceTypeId=ua.NodeId(reference),
        RequestedNewNodeId=node,
        BrowseName=name,
        NodeClass=ua.NodeClass.Variable,
        NodeAttributes=attributes,
        TypeDefinition=ua.NodeId(kind),
    )


def _attributes(name: str, value: ua.Variant, data_type: int, access: int) -> ua.VariableAttributes:
    return ua.VariableAttributes(
        DisplayName=ua.LocalizedText(name),
        Value=value,
        DataType=ua.NodeId(data_type),
        ValueRank=ua.ValueRank.Scalar,
        AccessLevel=access,
        UserAccessLevel=access,
    )


def _property(owner: ua.NodeId, nth: int, name: str, value: Any, data_type: int) -> ua.AddNodesItem:
    variant = ua.Variant(value, ua.VariantType.ExtensionObject)
    return _item(
        child(owner, nth, name),
        owner,
        ua.ObjectIds.HasProperty,
        ua.QualifiedName(name, 0),
        _attributes(name, variant, data_type, ua.AccessLevel.CurrentRead.mask),
        ua.ObjectIds.PropertyType,
    )


def _unit(ucum: str) -> ua.EUInformation:
    code, symbol, name = _UNITS.get(ucum, ("", ucum, ucum))
    unit_id = int.from_bytes(code.encode(), "big") if code else -1
    return ua.EUInformation(
        "http://www.opcfoundation.org/UA/units/un/cefact",
        unit_id,
        ua.LocalizedText(symbol),
        ua.LocalizedText(name),
    )
