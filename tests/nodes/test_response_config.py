"""The response in the cell file: mistakes are named with file and key."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cellwatch.models.response.policy import ResponsePolicy, parse_rule
from cellwatch.models.types import FusedVerdict, Priority, Screening
from cellwatch.nodes.cell import Artifacts, node_table
from cellwatch.nodes.cli import app, config_path
from cellwatch.nodes.config import ConfigError, load
from cellwatch.nodes.drivers.audit_log import AuditLog

CELL = "cell: c\nplcs: [{name: PLC1, tag_map: tags.yaml}]\n"
TAGS = """
tags:
  - {path: "Objects/*:PLC1/*:LOCK", writable: true, range: [0, 1]}
  - {path: "Objects/*:PLC1/*:SP", name: "{parent}.{name}", writable: true, range: [0, 1]}
  - {path: "Objects/*:PLC1/*:*"}
methods: [{path: "Objects/*:PLC1/*:Reset"}]
"""
RULE = "response: [{action: quarantine, tag: LOCK, revert: 0, priority: high}]\n"


@pytest.fixture
def cell(tmp_path):
    (tmp_path / "tags.yaml").write_text(TAGS)

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
        ("interlocks: {dead_man_s: -1}", "interlocks: dead_man_s, per_s, clear_s and max_age_s"),
        ("interlocks: {dead_man: 1}", "interlocks: unknown key 'dead_man'"),
        ("alarms: {flood_alarms: 0}", "alarms: flood_alarms and max_alarms"),
        ("response_file: nowhere.yaml", "nowhere.yaml: no such policy file"),
        (RULE + "response_file: policy.yaml", "give it or response, not both"),
        (
            RULE.replace("LOCK", "LOKC"),
            r"cell.yaml: response\[0\]: tag: .*nothing writable named LOKC; .*LOCK",
        ),
        (RULE.replace("LOCK", "PV"), "nothing writable named PV"),
        (RULE.replace("LOCK", "SP"), r"named SP; there is: LOCK, PLC1.SP, PLC1/Reset\(\)"),
        (
            "response: [{action: alarm}, {action: safe_state, method: PLC1/Rest}]",
            r"response\[1\]: method: .*PLC1/Rest\(\)",
        ),
        (
            "response: [{action: safe_state, tag: LOCK, revert_method: PLC1/Unlock}]",
            r"response\[0\]: revert_method: .*PLC1/Unlock\(\)",
        ),
    ],
)
def test_mistakes_are_named(cell, text, says):
    with pytest.raises(ConfigError, match=says):
        load(cell(text))


def test_a_typo_in_a_policy_file_names_that_file(cell, tmp_path):
    (tmp_path / "policy.yaml").write_text(RULE.replace("LOCK", "LOKC"))
    with pytest.raises(ConfigError, match=r"policy.yaml: response\[0\]: tag"):
        load(cell("response_file: policy.yaml\n"))


@pytest.mark.parametrize("tag", ["tag: LOCK", "tag: PLC1.SP", "method: PLC1/Reset"])
def test_what_the_tag_map_lets_be_written_is_taken(cell, tag):
    assert load(cell(f"response: [{{action: safe_state, {tag}}}]")).response


def test_a_node_id_may_have_any_name(cell, tmp_path):
    path = cell(RULE)
    (tmp_path / "tags.yaml").write_text("tags: [{node: 'ns=2;i=7', writable: true, range: [0, 1]}]")
    assert load(path).response


@pytest.mark.parametrize("name", ["demo", "factory"])
def test_shipped_cells_keep_their_alarms_and_writes_from_window_to_window(name):
    cell = load(config_path(name))
    fusion = next(s for s in node_table(cell, Artifacts(Path("x"))) if s.name == "fusion_node").parameters
    assert json.loads(fusion["alarms"])["off_delay_s"] >= 2.5 * cell.window_s
    assert json.loads(fusion["interlocks"])["max_age_s"] >= cell.fusion.budget_s + 1
    policy = ResponsePolicy(tuple(parse_rule(asdict(r)) for r in cell.response))
    for decision, priority in ((Screening.SUSPICIOUS, Priority.LOW), (Screening.BLOCK, Priority.CRITICAL)):
        assert policy.alarm_priority(FusedVerdict("PLC1", decision, 0.9, 0.5, "dos")) == priority


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
