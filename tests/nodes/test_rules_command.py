"""`cellwatch rules test`: exit codes, table, JSON; and the rule file of a cell."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cellwatch.nodes.cell import Artifacts, node_table
from cellwatch.nodes.cli import app
from cellwatch.nodes.config import ConfigError, load

RULES = "rules:\n  - {name: high, when: A > 90}\n  - {name: low, when: A < 5}\n"
GOOD = RULES + "tests:\n  - {name: '[it] fires', given: {A: 50 95}, expect: allow suspicious, fires: high}\n"


@pytest.fixture
def run_rules(tmp_path):
    def run(text, *options):
        path = tmp_path / "my.yaml"
        path.write_text(text)
        return CliRunner().invoke(app, ["rules", "test", str(path), *options])

    return run


def test_good_rules(run_rules):
    result = run_rules(GOOD)
    assert result.exit_code == 0
    assert "[it] fires" in result.stdout
    assert "1 of 1 tests passed" in result.stdout
    assert "no test makes these fire: low" in result.stdout


def test_a_failed_test_is_told_with_its_line(run_rules):
    result = run_rules(GOOD.replace("allow suspicious", "allow block"), "--json")
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert (said["tests"], said["passed"], said["failed"], said["untested"]) == (1, 0, 1, ["low"])
    (one,) = said["results"]
    assert (one["line"], one["passed"], one["got"]) == (5, False, ["ALLOW", "SUSPICIOUS"])
    assert one["trouble"] == "window 2 (1 to 2 s): expected BLOCK, got SUSPICIOUS"


@pytest.mark.parametrize(
    ("text", "word"),
    [("rules: [{name: a}]\n", "my.yaml:1: rules[0]: key 'when' is missing"), ("a: [", "not YAML")],
)
def test_a_file_that_is_not_in_order_is_one_line(run_rules, text, word):
    result = run_rules(text, "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert word in result.stderr.replace("\n", "")


def test_a_file_that_is_not_there():
    result = CliRunner().invoke(app, ["rules", "test", "/no/such.yaml"])
    assert result.exit_code == 2
    assert "No such file" in result.stderr


CELL = "cell: c\nplcs:\n  - {name: PLC1, tag_map: map.yaml, endpoint: 'opc.tcp://127.0.0.1:4840'}\n"


def test_the_rule_file_of_a_cell_is_checked_and_handed_to_the_rule_node(tmp_path):
    (tmp_path / "map.yaml").write_text("tags: []\n")
    cell = tmp_path / "cell.yaml"
    cell.write_text(CELL + "rules: {rules_file: my.yaml}\n")
    with pytest.raises(ConfigError, match=r"cell.yaml: rules: rules_file: .*my.yaml: No such file"):
        load(cell)
    (tmp_path / "my.yaml").write_text("rules:\n  - {name: a, when: A}\n")
    with pytest.raises(ConfigError, match=r"my.yaml:2: rules\[0\].when: 'A' is a number"):
        load(cell)
    (tmp_path / "my.yaml").write_text(GOOD)
    table = node_table(load(cell), Artifacts(tmp_path))
    (node,) = [n for n in table if n.name == "rule_node"]
    assert node.parameters["rules_file"] == str(tmp_path / "my.yaml")
