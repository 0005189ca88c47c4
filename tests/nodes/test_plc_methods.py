"""Methods of a PLC as commands: allow-listed in the tag map, behind the same guard as every write."""

from __future__ import annotations

import time

import pytest

from cellwatch.models.types import Command, CommandStatus
from cellwatch.nodes.drivers.opcua_link import OpcuaLink
from cellwatch.nodes.drivers.opcua_settings import LinkSettings
from cellwatch.nodes.drivers.tag_map import TagMap, TagMapError

TAGS = "tags: [{path: 'Objects/*:PLC1/*:LIT101'}]\n"


def command(n, tag, value=1.0):
    return Command(f"c{n}", 0, "PLC1", tag, value, time.time_ns(), 5.0, "test")


@pytest.mark.parametrize(
    ("methods", "says"),
    [
        ("methods: [{path: 'SafeState'}]", r"methods\[0\].path: name the object and the method"),
        ("methods: [{path: 'Objects/*:PLC1/*:*'}]", "without wildcards"),
        ("methods: [{node: 'i=1'}]", "unknown key"),
        ("methods: {}", "expected a list"),
        ("methods: [{path: 'Objects/*:P/*:M', min_interval_s: -1}]", "min_interval_s"),
    ],
)
def test_mistakes_in_the_tag_map(methods, says):
    with pytest.raises(TagMapError, match=says):
        TagMap.parse(TAGS + methods)


def test_a_method_is_called_once_and_only_if_armed_and_listed(served_plc):
    methods = (
        "methods: [{path: 'Objects/*:PLC1/*:SafeState', min_interval_s: 60}, {path: 'Objects/*:PLC1/*:Nix'}]"
    )
    link = OpcuaLink(LinkSettings("PLC1", served_plc.server.endpoint), TagMap.parse(TAGS + methods))
    link.start(wait_s=10)
    try:
        assert link.methods == ("PLC1/SafeState()",)
        assert "0 methods match" in link.stats.problems["PLC1/Nix()"]
        tries = [
            (command(1, "PLC1/SafeState()"), False),  # disarmed
            (command(2, "PLC1/Reset()"), True),  # not in the tag map
            (command(3, "PLC1/SafeState()", 7.0), True),
        ]
        statuses = []
        for c, armed in tries:
            link.submit(c, armed=armed)
            statuses.append(_result(link).status)
        assert statuses == [CommandStatus.WITHHELD, CommandStatus.REFUSED, CommandStatus.REFUSED]
        assert served_plc.calls == []
        link._guard._last_ns.clear()  # the withheld one counts for the rate
        link.submit(command(4, "PLC1/SafeState()"), armed=True)
        assert _result(link).status is CommandStatus.ACCEPTED
        assert [name for name, _ in served_plc.calls] == ["SafeState"]
        link.submit(command(5, "PLC1/SafeState()"), armed=True)
        assert "after the last write" in _result(link).error
        link._guard._last_ns.clear()
        served_plc.refusal = 0x80AF0000  # Bad_InvalidState
        link.submit(command(6, "PLC1/SafeState()"), armed=True)
        assert "refuses the call: BadInvalidState" in _result(link).error
    finally:
        link.stop()


def _result(link):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if results := link.results():
            return results[0]
        time.sleep(0.02)
    raise TimeoutError
