# asyncua re-exports its generated types without __all__ and narrows int and str to its own NewTypes.
# mypy: disable-error-code="attr-defined,name-defined,arg-type,union-attr"
"""Finding the nodes of a tag map in a server: browse paths, wildcards, units, ranges.

Everything goes in batches inside the server's operation limits, and one bad node never stops the others.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncua import Client, ua

from cellwatch.nodes.drivers.opcua_settings import LinkSettings
from cellwatch.nodes.drivers.opcua_units import ucum
from cellwatch.nodes.drivers.tag_map import MethodRule, Segment, TagMap, TagRule

_NUMERIC = frozenset(
    getattr(ua.VariantType, name)
    for name in (
        "Boolean", "SByte", "Byte", "Int16", "UInt16", "Int32", "UInt32", "Int64", "UInt64",
        "Float", "Double",
    )
)  # fmt: skip
_PROPERTIES = frozenset({"EngineeringUnits", "EURange", "InstrumentRange"})
_NODES = int(ua.NodeClass.Object | ua.NodeClass.Variable)
_METHODS = int(ua.NodeClass.Method)
_PROPERTY = ua.NodeId(ua.ObjectIds.HasProperty)


@dataclass(frozen=True, slots=True)
class Child:
    """One node found by browsing."""

    node_id: ua.NodeId
    name: str
    namespace: int
    is_variable: bool
    parent: str  # browse name of the parent
    path: tuple[tuple[int, str], ...] = ()  # (namespace, name) of every step below Objects


@dataclass(frozen=True, slots=True)
class FoundTag:
    """One variable that a rule of the tag map owns."""

    rule: TagRule
    name: str
    device: str
    node_id: ua.NodeId
    unit: str = ""
    low: float = math.nan
    high: float = math.nan
    kind: ua.VariantType | None = None  # of the value; None while the server shows no value
    value: float = math.nan


@dataclass(frozen=True, slots=True)
class FoundMethod:
    """One method that a rule of the tag map allows to call."""

    rule: MethodRule
    parent_id: ua.NodeId
    node_id: ua.NodeId


@dataclass(slots=True)
class Resolved:
    """Tags found, and what was wrong with the others: source in the tag map -> reason."""

    tags: list[FoundTag] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


class Browser:
    """Batched reads and browses on an open session."""

    def __init__(self, client: Client) -> None:
        self.session = client.uaclient.session
        self.uris: list[str] = []
        self.per_read = self.per_browse = self.per_subscribe = 500
        self._children: dict[ua.NodeId, list[Child]] = {}
        self._uri_of_alias: dict[str, str] = {}

    async def begin(self) -> None:
        """Read the NamespaceArray and the operation limits."""
        ids = ua.ObjectIds
        nodes = [
            ids.Server_NamespaceArray,
            ids.Server_ServerCapabilities_OperationLimits_MaxNodesPerRead,
            ids.Server_ServerCapabilities_OperationLimits_MaxNodesPerBrowse,
            ids.Server_ServerCapabilities_OperationLimits_MaxMonitoredItemsPerCall,
        ]
        values = [_plain(v) for v in await self.read([(ua.NodeId(n), ua.AttributeIds.Value) for n in nodes])]
        self.uris = list(values[0] or ["http://opcfoundation.org/UA/"])
        self.per_read, self.per_browse, self.per_subscribe = (
            min(500, limit) if isinstance(limit, int) and limit > 0 else 500 for limit in values[1:]
        )

    async def read(self, wanted: Sequence[tuple[ua.NodeId, ua.AttributeIds]]) -> list[ua.DataValue]:
        """Read attributes in batches; bad ones come back with their status."""
        results: list[ua.DataValue] = []
        for part in slices(wanted, self.per_read):
            parameters = ua.ReadParameters()
            parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
            for node_id, attribute in part:
                parameters.NodesToRead.append(ua.ReadValueId(node_id, attribute))
            results += await self.session.read(parameters)
        return results

    async def children(self, parents: Iterable[Child]) -> dict[ua.NodeId, list[Child]]:
        """Children by hierarchical references without properties; each node is browsed once."""
        parents = list(parents)
        missing = [p for p in parents if p.node_id not in self._children]
        for part in slices(missing, self.per_browse):
            references = await self._browse([p.node_id for p in part], ua.ObjectIds.HierarchicalReferences)
            for parent, refs in zip(part, references, strict=True):
                seen = set()
                kept = self._children.setdefault(parent.node_id, [])
                for ref in refs:
                    if ref.ReferenceTypeId == _PROPERTY or ref.NodeId in seen:
                        continue
                    seen.add(ref.NodeId)
                    kept.append(_child(ref, parent))
        return {p.node_id: self._children[p.node_id] for p in parents}

    async def properties(self, nodes: Sequence[ua.NodeId]) -> list[dict[str, Any]]:
        """Values of EngineeringUnits, EURange and InstrumentRange where a node has them."""
        found: list[tuple[int, str, ua.NodeId]] = []
        row = 0
        for part in slices(nodes, self.per_browse):
            for refs in await self._browse(list(part), ua.ObjectIds.HasProperty):
                found += [
                    (row, r.BrowseName.Name, _local(r.NodeId))
                    for r in refs
                    if r.BrowseName.Name in _PROPERTIES
                ]
                row += 1
        read = await self.read([(node_id, ua.AttributeIds.Value) for _, _, node_id in found])
        values: list[dict[str, Any]] = [{} for _ in nodes]
        for (at, name, _), data in zip(found, read, strict=True):
            values[at][name] = _plain(data)
        return values

    async def _browse(
        self, nodes: list[ua.NodeId], reference: int, classes: int = _NODES
    ) -> list[list[ua.ReferenceDescription]]:
        parameters = ua.BrowseParameters()
        parameters.View = ua.ViewDescription()
        parameters.RequestedMaxReferencesPerNode = 0
        for node_id in nodes:
            description = ua.BrowseDescription()
            description.NodeId = node_id
            description.BrowseDirection = ua.BrowseDirection.Forward
            description.ReferenceTypeId = ua.NodeId(reference)
            description.IncludeSubtypes = True
            description.NodeClassMask = classes
            description.ResultMask = ua.BrowseResultMask.All
            parameters.NodesToBrowse.append(description)
        results = await self.session.browse(parameters)
        found: list[list[ua.ReferenceDescription]] = []
        for result in results:
            refs = list(result.References or [])
            point = result.ContinuationPoint
            while point:
                more = ua.BrowseNextParameters()
                more.ContinuationPoints = [point]
                (next_result,) = await self.session.browse_next(more)
                refs += next_result.References or []
                point = next_result.ContinuationPoint
            found.append(refs)
        return found

    # -- the tag map ---------------------------------------------------------------------------------------

    async def resolve(self, tag_map: TagMap, plc: str) -> Resolved:
        """Find every tag of the map. The first rule that matches a node owns it."""
        out = Resolved()
        owned: set[ua.NodeId] = set()
        candidates: list[tuple[TagRule, Child]] = []
        for rule in tag_map.rules:
            try:
                matches = [self._by_node_id(rule, plc)] if rule.node else await self.walk(rule.path)
            except ValueError as error:
                out.problems[rule.source] = str(error)
                continue
            matches = [m for m in matches if m.is_variable]
            if not matches:
                out.problems[rule.source] = "no variable matches this browse path"
            elif len(matches) > 1 and not rule.wild:
                out.problems[rule.source] = f"{len(matches)} variables match; name the namespace"
            else:
                fresh = [m for m in matches if m.node_id not in owned]
                if not fresh and not rule.wild:
                    out.problems[rule.source] = "an entry above owns this variable; put this one first"
                owned.update(m.node_id for m in fresh)
                candidates += [(rule, m) for m in fresh]
        await self._describe(candidates, plc, out)
        return out

    def _by_node_id(self, rule: TagRule, plc: str) -> Child:
        text = rule.node
        if text.startswith("nsu="):
            uri, _, rest = text[4:].partition(";")
            if uri not in self.uris:
                raise ValueError(f"the server has no namespace {uri}")
            text = f"ns={self.uris.index(uri)};{rest}"
        try:
            node_id = ua.NodeId.from_string(text)
        except (ua.UaError, ValueError, TypeError) as error:
            raise ValueError(f"not a node id: {error}") from error
        return Child(node_id, "", int(node_id.NamespaceIndex), True, plc)

    async def find_methods(
        self, rules: Sequence[MethodRule]
    ) -> tuple[dict[str, FoundMethod], dict[str, str]]:
        """Methods by name of their commands, and what was wrong with the others."""
        found: dict[str, FoundMethod] = {}
        problems: dict[str, str] = {}
        for rule in rules:
            wanted = rule.path[-1]
            matches = [
                FoundMethod(rule, parent.node_id, ref.NodeId)
                for parent in await self.walk(rule.path[:-1])
                for refs in await self._browse([parent.node_id], ua.ObjectIds.HasComponent, _METHODS)
                for ref in refs
                if wanted.matches(ref.BrowseName.Name, ref.BrowseName.NamespaceIndex, self.uris)
            ]
            if len(matches) == 1:
                found[rule.name] = matches[0]
            else:
                problems[rule.name] = f"{len(matches)} methods match this browse path"
        return found, problems

    async def walk(self, path: tuple[Segment, ...]) -> list[Child]:
        """All nodes at the end of a browse path from the Objects folder, in browse order."""
        root = Child(ua.NodeId(ua.ObjectIds.ObjectsFolder), "Objects", 0, False, "")
        level = {root.node_id: root}
        for i, segment in enumerate(path):
            if segment.any_depth:
                level = await self._descendants(level, last=i == len(path) - 1)
                continue
            found: dict[ua.NodeId, Child] = {}
            by_parent = await self.children(level.values())
            for kids in by_parent.values():
                found |= {k.node_id: k for k in kids if segment.matches(k.name, k.namespace, self.uris)}
            level = found
        return list(level.values())

    async def _descendants(self, level: dict[ua.NodeId, Child], *, last: bool) -> dict[ua.NodeId, Child]:
        """``**``: the nodes of `level` and all below them (below only where nothing follows)."""
        seen = dict(level)
        edge = list(level.values())
        while edge:
            by_parent = await self.children(edge)
            # the Server object describes the server itself and is not a part of the plant
            edge = [
                k
                for kids in by_parent.values()
                for k in kids
                if k.node_id not in seen and k.node_id != ua.NodeId(ua.ObjectIds.Server)
            ]
            seen |= {k.node_id: k for k in edge}
        return {k: v for k, v in seen.items() if not (last and k in level)}

    async def _describe(self, found: list[tuple[TagRule, Child]], plc: str, out: Resolved) -> None:
        ids = [child.node_id for _, child in found]
        wanted = [(i, a) for i in ids for a in (ua.AttributeIds.Value, ua.AttributeIds.BrowseName)]
        answers = await self.read(wanted)
        values, names = answers[0::2], answers[1::2]
        described = await self.properties(ids)
        taken: dict[str, str] = {}
        for (rule, child), data, browse, extra in zip(found, values, names, described, strict=True):
            where = "/".join(_step(n, step) for n, step in child.path) or rule.source
            if browse.StatusCode is not None and not browse.StatusCode.is_good():
                out.problems[where] = browse.StatusCode.name
                continue
            kind = data.Value.VariantType if data.Value is not None and data.Value.Value is not None else None
            scalar = kind is None or (kind in _NUMERIC and not data.Value.is_array)
            if not scalar and rule.wild:
                continue  # a wildcard takes the numbers and leaves the rest
            leaf = child.name or browse.Value.Value.Name
            name = rule.name.format(name=leaf, parent=child.parent)
            if name in taken:
                out.problems[where] = (
                    f"the name {name!r} is already taken by {taken[name]}; use {{parent}}.{{name}}"
                )
                continue
            taken[name] = where
            if not scalar:
                out.problems[where] = (
                    f"not a number but {kind.name if kind else 'nothing'}: its value stays NaN"
                )
            device = (rule.device or "{parent}").format(name=leaf, parent=child.parent) or plc
            low, high = _range(extra)
            out.tags.append(
                FoundTag(
                    rule,
                    name,
                    device,
                    child.node_id,
                    rule.unit or _unit(extra.get("EngineeringUnits")),
                    low if math.isnan(rule.low) else rule.low,
                    high if math.isnan(rule.high) else rule.high,
                    kind if scalar else None,
                    float(data.Value.Value) if scalar and kind is not None else math.nan,
                )
            )

    # -- `cellwatch browse` --------------------------------------------------------------------------------

    async def tag_map(self, limit: int) -> str:
        """YAML of all numeric variables below Objects, the server's own left out; at most `limit`."""
        everything = (Segment("*", None, any_depth=True),)
        found = [c for c in await self.walk(everything) if c.is_variable][:limit]
        ids = [c.node_id for c in found]
        access, values = ua.AttributeIds.UserAccessLevel, ua.AttributeIds.Value
        answers = await self.read([(i, a) for i in ids for a in (values, access)])
        properties = await self.properties(ids)
        aliases = {
            n: _alias(self.uris[n], n) for n in sorted({c.namespace for c in found}) if n < len(self.uris)
        }
        lines = ["# Tag map made by `cellwatch browse`; see docs/opcua.md.", "namespaces:"]
        lines += [f"  {alias}: {_quoted(self.uris[n])}" for n, alias in aliases.items()]
        lines.append("tags:")
        names: set[str] = set()
        for child, data, level, extra in zip(found, answers[0::2], answers[1::2], properties, strict=True):
            kind = data.Value.VariantType if data.Value is not None else ua.VariantType.Null
            if kind not in _NUMERIC or data.Value.is_array:
                continue
            low, high = _range(extra)
            unit = _unit(extra.get("EngineeringUnits"))
            name = child.name if child.name not in names else f"{child.parent}.{child.name}"
            if name in names:
                name = ".".join(step for _, step in child.path)
            names.add(name)
            path = "/".join(["Objects", *(_step(n, step, aliases) for n, step in child.path)])
            facts = [kind.name, unit, "" if math.isnan(low) else f"{low:g} to {high:g}"]
            lines.append(f"  - path: {_quoted(path)} # {', '.join(f for f in facts if f)}")
            if name != child.name:
                lines.append(f"    name: {_quoted(name)}")
            if (_plain(level) or 0) & 0x02:  # CurrentWrite
                span = f"[{low:g}, {high:g}]" if low < high else "[LOW, HIGH]"
                lines += ["    # writable: true", f"    # range: {span}"]
        if not names:
            lines[-1] = "tags: [] # the server shows no numeric variable to this user"
        return "\n".join(lines) + "\n"


def slices(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    """Slices of at most `size`."""
    return (items[i : i + size] for i in range(0, len(items), size))


def _plain(data: ua.DataValue) -> Any:
    good = data.StatusCode is None or data.StatusCode.is_good()
    return data.Value.Value if good and data.Value is not None else None


def _local(node_id: Any) -> ua.NodeId:
    """Turn an ExpandedNodeId of this server into a NodeId."""
    return ua.NodeId(node_id.Identifier, node_id.NamespaceIndex, node_id.NodeIdType)


def _child(ref: ua.ReferenceDescription, parent: Child) -> Child:
    name = ref.BrowseName.Name or ""
    return Child(
        _local(ref.NodeId),
        name,
        int(ref.BrowseName.NamespaceIndex),
        ref.NodeClass == ua.NodeClass.Variable,
        parent.name,
        (*parent.path, (int(ref.BrowseName.NamespaceIndex), name)),
    )


def _alias(uri: str, index: int) -> str:
    """Shorten a namespace URI to its last word."""
    words = re.findall(r"[A-Za-z_][A-Za-z0-9_]*", uri)
    return f"{words[-1].lower()}{index}" if words else f"ns{index}"


def _step(namespace: int, name: str, aliases: dict[int, str] | None = None) -> str:
    escaped = re.sub(r"([&/:])", r"&\1", name)
    return f"{(aliases or {}).get(namespace, namespace)}:{escaped}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)  # a JSON string is a YAML string


def _range(extra: dict[str, Any]) -> tuple[float, float]:
    """EURange, else InstrumentRange; NaN where the server states none or an empty one."""
    for name in ("EURange", "InstrumentRange"):
        found = extra.get(name)
        low, high = getattr(found, "Low", math.nan), getattr(found, "High", math.nan)
        if low < high:
            return float(low), float(high)
    return math.nan, math.nan


def _unit(found: Any) -> str:
    if found is None or not hasattr(found, "UnitId"):
        return ""
    text = getattr(found.DisplayName, "Text", None) or ""
    return ucum(int(found.UnitId), text)


def browse(settings: LinkSettings, *, limit: int = 20_000) -> str:
    """Write a ready tag map (YAML) of all that a server shows: units, ranges, writable tags as comments.

    Opens a session of its own; raises `LinkError` with one clear line.
    """
    return asyncio.run(_browse_server(settings, limit))


async def _browse_server(settings: LinkSettings, limit: int) -> str:
    from cellwatch.nodes.drivers.opcua_session import LOST, Session

    session = Session(settings)
    await session.open()
    try:
        browser = Browser(session.client)
        await browser.begin()
        return await browser.tag_map(limit)
    except LOST as error:
        raise session.explain(error) from error
    finally:
        await session.close()
