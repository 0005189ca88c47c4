"""The response in the cell file: mistakes are named with file and key."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cellwatch.nodes.cli import app
from cellwatch.nodes.config import ConfigError, load
from cellwatch.nodes.drivers.audit_log import AuditLog

CELL = "cell: c\nplcs: [{name: PLC1, tag_map: tags.yaml}]\n"
RULE = "response: [{action: quarantine, tag: LOCK, revert: 0, priority: high}]\n"


@pytest.fixture
def cell(tmp_path):
    (tmp_path / "tags.yaml").write_text("tags: []")

    def write(text):
        (tmp_path / "cell.yaml").write_text(CELL + text)
        return tmp_path / "cell.yaml"

    return write


def test_inline_and_file_say_the_same(cell, tmp_path):
    more = "interlocks: {dead_man_s: 5}\nalarms: {flood_alarms: 20}\n"
    (tmp_path / "policy.yaml").write_text(RULE + more)
    inline, file = load(cell(RULE + more)), load(cell("response_file: policy.yaml\n"))
    assert inline.response[0].priority == file.response[0].priority == "high"
    assert inline.interlocks == file.interlocks
    assert inline.alarms == file.alarms
    assert file.interlocks.dead_man_s == 5


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("response: [{tag: LOCK}]", "key 'action' is missing"),
        ("response: [{action: lock, tag: LOCK}]", r"cell.yaml: response\[0\]: action 'lock': use advise"),
        ("response: [{action: alarm}, {action: clamp, tag: SP}]", r"response\[1\]: clamp, and no other"),
        ("interlocks: {dead_man_s: -1}", "interlocks: dead_man_s, per_s and clear_s"),
        ("interlocks: {dead_man: 1}", "interlocks: unknown key 'dead_man'"),
        ("alarms: {flood_alarms: 0}", "alarms: flood_alarms and max_alarms"),
        ("response_file: nowhere.yaml", "nowhere.yaml: no such policy file"),
        (RULE + "response_file: policy.yaml", "give it or response, not both"),
    ],
)
def test_mistakes_are_named(cell, text, says):
    with pytest.raises(ConfigError, match=says):
        load(cell(text))


def test_audit_commands(tmp_path):
    file = tmp_path / "audit.jsonl"
    with AuditLog(file) as log:
        log.operator("override", user="anna", reason="why", target="LOCK")
    run = CliRunner().invoke
    good = run(app, ["audit", "verify", str(file), "--json"])
    assert (good.exit_code, json.loads(good.output)["ok"]) == (0, True)
    shown = run(app, ["audit", "show", str(file), "--json"])
    assert json.loads(shown.output)[0]["target"] == "LOCK"
    file.write_text(file.read_text().replace("anna", "otto"))
    bad = run(app, ["audit", "verify", str(file), "--json"])
    assert bad.exit_code == 1
    assert json.loads(bad.output)["problems"][0].startswith("line 1: edited")
    assert run(app, ["audit", "verify", str(tmp_path / "no")]).exit_code == 2
