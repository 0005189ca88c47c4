"""The tag map: what it takes, and the one line it answers to anything else."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest

from cellwatch.nodes.drivers.tag_map import TagMap, TagMapError

ROOT = Path(__file__).resolve().parents[2]
FULL = """
namespaces: {plc: "urn:acme:plc1"}
defaults: {sampling_ms: 50, queue_size: 20}
tags:
  - path: "Objects/plc:PLC1/2:Valve&/1/*:SP&:x"
    name: Valve1.SP
    device: V1
    deadband: {percent: 0.5}
    trigger: timestamp
    writable: true
    range: [0, 10.5]
    min_interval_s: 2
    role: mode
    unit: bar
  - node: nsu=urn:acme:plc1;s=Tank.Level
    name: level
    sampling_ms: -1
    deadband: {absolute: 0.1}
  - path: "**/PT*"
"""


def test_every_key_arrives():
    tags = TagMap.parse(FULL)
    first, second, third = tags.rules
    assert [(s.pattern, s.namespace) for s in first.path] == [
        ("PLC1", "urn:acme:plc1"), ("Valve/1", 2), ("SP:x", None),
    ]  # fmt: skip
    assert (first.name, first.device, first.role, first.unit, first.trigger) == (
        "Valve1.SP", "V1", "mode", "bar", "timestamp",
    )  # fmt: skip
    assert (first.low, first.high, first.min_interval_s, first.writable) == (0.0, 10.5, 2.0, True)
    assert (first.sampling_ms, first.queue_size) == (50.0, 20)
    assert (first.deadband.kind, first.deadband.value) == ("percent", 0.5)
    assert (second.sampling_ms, second.deadband.kind) == (-1.0, "absolute")
    assert math.isnan(second.low)
    assert [(s.any_depth, s.pattern) for s in third.path] == [(True, "*"), (False, "PT*")]
    assert third.wild
    assert not first.wild


def test_segments_match():
    (rule,) = TagMap.parse("namespaces: {p: 'urn:x'}\ntags: [{path: 'p:P*T/1:b'}]").rules
    uris = ["http://opcfoundation.org/UA/", "urn:x"]
    assert rule.path[0].matches("PLC1-T", 1, uris)
    assert not rule.path[0].matches("PLC1-T", 0, uris)
    assert not rule.path[0].matches("PLC1-T", 7, uris)
    assert not rule.path[0].matches("PT.", 1, uris)
    assert rule.path[1].matches("b", 1, uris)
    assert not rule.path[1].matches("b", 2, uris)


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("tags: [{node: 'i=1', colour: red}]", "tags[0].colour", "unknown key"),
        ("tag: []", "tag", "unknown key"),
        ("[1]", "expected a mapping", "a list"),
        ("", "expected a mapping", "nothing"),
        ("tags: []", "tags", "at least one"),
        ("tags: [5]", "tags[0]", "expected a mapping, got 5"),
        ("tags: [{node: 'i=1', path: 'a'}]", "tags[0]", "either 'node' or 'path'"),
        ("tags: [{name: a}]", "tags[0]", "either 'node' or 'path'"),
        ("tags: [{node: 'x=1'}]", "tags[0].node", "not a node id"),
        ("tags: [{node: 7}]", "tags[0].node", "expected text"),
        ("tags: [{path: 'Objects/'}]", "tags[0].path", "not a browse path"),
        ("tags: [{path: 'a//b'}]", "tags[0].path", "not a browse path"),
        ("tags: [{path: 'plc:a'}]", "tags[0].path", "'plc' is not listed under 'namespaces'"),
        ("tags: [{node: 'i=1', sampling_ms: fast}]", "tags[0].sampling_ms", "finite number, got 'fast'"),
        ("tags: [{node: 'i=1', sampling_ms: .nan}]", "tags[0].sampling_ms", "finite number"),
        ("tags: [{node: 'i=1', sampling_ms: -2}]", "tags[0].sampling_ms", "expected -1 to"),
        ("tags: [{node: 'i=1', queue_size: 1.5}]", "tags[0].queue_size", "whole number"),
        ("tags: [{node: 'i=1', queue_size: true}]", "tags[0].queue_size", "whole number"),
        ("tags: [{node: 'i=1', writable: 'yes'}]", "tags[0].writable", "true or false"),
        ("tags: [{node: 'i=1', range: [5, 1]}]", "tags[0].range", "not below"),
        ("tags: [{node: 'i=1', range: 5}]", "tags[0].range", "[low, high]"),
        ("tags: [{node: 'i=1', deadband: 5}]", "tags[0].deadband", "expected a mapping"),
        ("tags: [{node: 'i=1', deadband: {absolute: 1, percent: 1}}]", "tags[0].deadband", "either"),
        ("tags: [{node: 'i=1', deadband: {percent: 101}}]", "tags[0].deadband.percent", "0 to 100"),
        ("tags: [{node: 'i=1', role: boss}]", "tags[0].role", "expected one of"),
        ("tags: [{node: 'i=1', name: '{nam}'}]", "tags[0].name", "unknown placeholder {nam}"),
        ("tags: [{node: 'i=1', name: '{parent}'}]", "tags[0].name", "needs a path"),
        ("tags: [{path: 'a/*', name: b}]", "tags[0].name", "wildcard"),
        ("tags: [{path: 'a/*', writable: true}]", "tags[0].writable", "without wildcards"),
        (
            "tags: [{node: 'i=1', name: a}, {node: 'i=2', name: a}]",
            "tags[1].name",
            "already the name of tags[0]",
        ),
        ("tags: [{node: 'i=1', name: a}, {node: 'i=1', name: b}]", "tags[1]", "already tags[0]"),
        ("defaults: {writable: true}\ntags: [{node: 'i=1'}]", "defaults.writable", "unknown key"),
        ("namespaces: {'a b': x}\ntags: [{node: 'i=1'}]", "namespaces", "short name"),
        ("tags:\n  - node: i=1\n    name: a\n    name: b", ":4", "given twice"),
        ("tags: [", "<tag map>:", "not valid YAML"),
    ],
)
def test_mistakes_name_the_key(text, key, says):
    with pytest.raises(TagMapError) as caught:
        TagMap.parse(text)
    message = str(caught.value)
    assert message.startswith("<tag map>")
    assert key in message
    assert says in message
    assert "\n" not in message


def test_a_file_is_named(tmp_path):
    with pytest.raises(TagMapError, match=r"nothing\.yaml: cannot read"):
        TagMap.load(tmp_path / "nothing.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TagMapError, match=r"binary\.yaml"):
        TagMap.load(tmp_path / "binary.yaml")


@pytest.mark.parametrize("file", sorted((ROOT / "config" / "tags").glob("*.yaml")), ids=lambda f: f.name)
def test_shipped_maps_load(file):
    assert TagMap.load(file).rules


def test_importing_the_light_parts_does_not_import_asyncua():
    code = (
        "import sys, cellwatch.nodes.drivers.tag_map, cellwatch.nodes.drivers.audit_log, "
        "cellwatch.nodes.drivers.opcua_writer, cellwatch.nodes.drivers.opcua_settings, "
        "cellwatch.nodes.drivers.opcua_units; sys.exit('asyncua' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
