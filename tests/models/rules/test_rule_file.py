"""Rule files: what they hold, and errors that name file, line and field."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwatch.models.rules.physics import Balance, Range, Rate, Stuck
from cellwatch.models.rules.rule_file import RuleFile, RuleFileError
from cellwatch.models.rules.rule_tests import run_test, untested
from cellwatch.models.rules.series import Series
from cellwatch.models.types import Screening
from cellwatch.plc_sim.sites import SITES
from cellwatch.plc_sim.tags import tags_of

WHOLE = """\
limits:
  - {tags: LIT101, high: 85, high_high: 92, deadband: 2, rate: 5, quality: true, message: full}
physics:
  - range: {tags: [A, B], low: 0}
    while: MODE == 0
    verdict: block
    attack_id: T0831
  - rate: {tags: A, limit: 2.5}
  - stuck: {tags: "A*", for: 5s}
  - balance: {volume: L, capacity: 0.05, in: F1, out: [F2, F3], per: 1min, for: 30, tolerance: 1}
rules:
  - name: high
    when: LIT101 > 90 and avg(LIT101, 2min) > 80
    for: 1.5s
    device: [PLC1, "HMI*"]
    verdict: block
    category: ics
    attack_id: T0836
    message: too full
"""


def test_a_whole_file():
    file = RuleFile.parse(WHOLE, "my.yaml")
    (limit,) = file.limits
    assert (limit.tags, limit.high_high, limit.rate, limit.quality) == (("LIT101",), 92, 5, True)
    assert np.isnan(limit.low)
    assert (limit.category, limit.message) == ("fault", "full")
    first, second, third, fourth = file.physics
    assert isinstance(first, Range)
    assert (first.tags, first.low, first.high) == (("A", "B"), 0, np.inf)
    assert first.common.guard is not None
    assert (first.common.verdict, first.common.attack_id) == (Screening.BLOCK, "T0831")
    assert isinstance(second, Rate)
    assert isinstance(third, Stuck)
    assert third.for_s == 5
    assert isinstance(fourth, Balance)
    assert (fourth.inflow, fourth.outflow, fourth.per_s, fourth.for_s) == (("F1",), ("F2", "F3"), 60, 30)
    assert fourth.common.category == "fault"
    (rule,) = file.rules
    assert (rule.for_s, rule.devices, rule.verdict) == (1.5, ("PLC1", "HMI*"), Screening.BLOCK)
    assert (rule.category, rule.attack_id, rule.message) == ("ics", "T0836", "too full")


def test_an_empty_file_has_no_rules():
    assert RuleFile.parse("# nothing yet\n") == RuleFile()
    assert RuleFile.parse("rules:\n") == RuleFile()


RULE = "rules:\n  - name: a\n    when: A > 1\n"
TEST = "tests:\n  - name: t\n    given: {A: 1x3}\n    expect: allowx3\n"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("- 1\n", "f.yaml:1: expected keys and values"),
        ("rules: [\n", "f.yaml:2: not YAML"),
        ("a: b: c\n", "f.yaml:1: not YAML"),
        ("ruels: []\n", r"f.yaml:1: ruels: unknown key; did you mean 'rules'\?"),
        ("rules: 3\n", "f.yaml:1: rules: expected a list, found int 3"),
        ("rules:\n  - when: A > 1\n", r"f.yaml:2: rules\[0\]: key 'name' is missing"),
        (RULE + "    form: 3s\n", r"f.yaml:4: rules\[0\].form: unknown key; did you mean 'for'"),
        (RULE + "    for: soon\n", r"f.yaml:4: rules\[0\].for: 'soon' is not a span of time"),
        (RULE + "    for: 0\n", r"f.yaml:4: rules\[0\].for: must be 0.001 to 3600 s"),
        (
            RULE + "    verdict: allow\n",
            r"f.yaml:4: rules\[0\].verdict: 'allow' is none of: suspicious, block",
        ),
        (RULE + "    category: bad\n", r"f.yaml:4: rules\[0\].category: 'bad' is none of: fault"),
        (RULE + "    attack_id: 836\n", r"f.yaml:4: rules\[0\].attack_id: expected a text, found int 836"),
        (RULE + "    attack_id: T83\n", r"f.yaml:4: rules\[0\].attack_id: 'T83' is no technique"),
        (RULE + "    when: A > 2\n", r"f.yaml:4: rules.0.when: key stands here twice"),
        (RULE + "  - name: a\n    when: B > 1\n", r"f.yaml:4: rules\[1\].name: another rule is called 'a'"),
        ("rules:\n  - name: a b\n    when: A > 1\n", r"f.yaml:2: rules\[0\].name: 'a b' must be letters"),
        ("rules:\n  - name: a\n    when:\n      A >\n", r"f.yaml:3: rules\[0\].when: not an expression"),
        (
            "rules:\n  - name: a\n    when: true\n",
            r"f.yaml:3: rules\[0\].when: expected a condition, found True",
        ),
        ("limits:\n  - {tags: A, high: much}\n", r"f.yaml:2: limits\[0\].high: expected a number, found str"),
        ("limits:\n  - tags: A\n    high: 0x10\n", r"f.yaml:3: limits\[0\].high: expected a number"),
        ("limits:\n  - {tags: A, high: 1, low: 2}\n", r"f.yaml:2: limits\[0\]: low 2 must lie below high 1"),
        ("limits:\n  - {tags: A, quality: yes}\n", r"f.yaml:2: limits\[0\].quality: expected true or false"),
        ("physics:\n  - {}\n", r"f.yaml:2: physics\[0\]: expected one of: range, rate, stuck, balance"),
        ("physics:\n  - range: {tags: A}\n", r"f.yaml:2: physics\[0\].range: needs low or high"),
        ("physics:\n  - rate: {tags: A, limit: 0}\n", r"f.yaml:2: physics\[0\].rate.limit: must be above 0"),
        (
            "physics:\n  - stuck: {tags: A, for: 5s}\n    while: A +\n",
            r"f.yaml:3: physics\[0\].while: not an exp",
        ),
        (
            "physics:\n  - balance: {volume: L, capacity: 1, for: 5s, tolerance: 1}\n",
            r"f.yaml:2: physics\[0\].balance: needs a flow",
        ),
        (TEST.replace("1x3", "1x2"), r"f.yaml:3: tests\[0\].given.A: has 2 values; 3 windows need 3"),
        (TEST.replace("1x3", "1 high 3"), r"f.yaml:3: tests\[0\].given.A: 'high' is no value"),
        (TEST.replace("{A: 1x3}", "{}"), r"f.yaml:3: tests\[0\].given: names no tag"),
        (TEST.replace("{A:", "{P/x:"), r"f.yaml:3: tests\[0\].given.P/x: no feature is called 'x'"),
        (TEST.replace("allowx3", "okx3"), r"f.yaml:4: tests\[0\].expect: 'okx3' is no verdict"),
        (TEST.replace("allowx3", "allowx0"), r"f.yaml:4: tests\[0\].expect: 1 to 10,000 windows"),
        (TEST + "    step: 300ms\n", r"f.yaml:5: tests\[0\].step: a window of 1 s must be a whole number"),
    ],
)
def test_errors_name_file_line_and_field(text, error):
    with pytest.raises(RuleFileError, match=f"^{error}"):
        RuleFile.parse(text, "f.yaml")


def test_an_alias_that_grows_without_end_is_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 8)]
    with pytest.raises(RuleFileError, match="more than 100000 values"):
        RuleFile.parse("\n".join(lines), "f.yaml")
    with pytest.raises(RuleFileError, match="not YAML"):
        RuleFile.parse("a: &a [*a]", "f.yaml")


@given(st.text(alphabet="rules: -\n[]{}name,when>A1&*!'\"#|%@\t", max_size=80))
def test_any_text_is_read_or_refused(text):
    try:
        RuleFile.parse(text, "f.yaml")
    except RuleFileError as error:
        assert str(error).startswith("f.yaml:")


def test_series():
    series = Series.parse("1 2x2 _ 3..5x3 bad -1e1")
    assert series.value.tolist()[:3] == [1, 2, 2]
    assert np.isnan(series.value).tolist() == [False] * 3 + [True] + [False] * 3 + [True, False]
    assert series.value[4:7].tolist() == [3, 4, 5]
    assert np.flatnonzero(series.bad).tolist() == [7]
    assert Series.parse([1, None, 2.5]).value.tolist()[::2] == [1, 2.5]
    for wrong in ("", "x3", "1x", "1..x2", "nan", "1x999999"):
        with pytest.raises(ValueError, match="value"):
            Series.parse(wrong)


def outcome(rules, test):
    file = RuleFile.parse(f"{rules}tests:\n  - {{name: t, {test}}}\n")
    return run_test(file, file.tests[0]), file


def test_a_test_passes_when_every_window_has_its_verdict():
    result, file = outcome(RULE, "given: {A: 0 2 2}, expect: allow suspiciousx2, fires: a")
    assert (result.trouble, result.fired, untested(file, [result])) == ("", ("a",), ())
    assert result.got == (Screening.ALLOW, Screening.SUSPICIOUS, Screening.SUSPICIOUS)


@pytest.mark.parametrize(
    ("test", "trouble"),
    [
        (
            "given: {A: 0 2 2}, expect: allowx2 suspicious",
            r"window 2 \(1 to 2 s\): expected ALLOW, got SUSPICIOUS",
        ),
        ("given: {A: 0 0 2}, expect: allow suspiciousx2", "window 2 .*: expected SUSPICIOUS, got ALLOW"),
        ("given: {A: 0 0 2}, expect: allowx2 suspicious, fires: b", "fired: a; expected: b"),
        ("given: {A: 0 0 2}, expect: allowx2 suspicious, fires: []", "fired: a; expected: nothing"),
        ("given: {B: 0 0 2}, expect: allowx2 suspicious, fires: a", "got ALLOW; a: no tag is called 'A'"),
    ],
)
def test_a_test_fails_with_the_first_difference(test, trouble):
    result, _ = outcome(RULE, test)
    assert re.search(trouble, result.trouble)


def test_tests_reach_limits_physics_and_features():
    result, _ = outcome(
        "limits: [{tags: A, high_high: 5}]\n", "step: 250ms, given: {A: 0x4 0 9 0 0}, expect: allow block"
    )
    assert result.trouble == ""  # the spike lasted for one of four samples
    result, _ = outcome(
        "physics: [{rate: {tags: A, limit: 1}}]\n", "given: {A: 0 0 5}, expect: allowx2 suspicious"
    )
    assert (result.trouble, result.fired) == ("", ("physics-rate",))
    flood = "rules: [{name: syn, when: \"'network_tcp-flags-syn_count' > 9\"}]\n"
    result, _ = outcome(flood, "given: {CAM/network_tcp-flags-syn_count: 1 50}, expect: allow suspicious")
    assert result.trouble == ""
    result, file = outcome(RULE, "given: {B: 1x2}, expect: allowx2")
    assert untested(file, [result]) == ("a",)


def shipped():
    folder = Path(str(resources.files("cellwatch"))) / "config" / "rules"
    return sorted(folder.glob("*.yaml"))


@pytest.mark.parametrize("path", shipped(), ids=lambda p: p.stem)
def test_shipped_rules_pass_their_tests_and_know_the_tags_of_their_site(path):
    file = RuleFile.parse(path.read_text(), path.name)
    results = [run_test(file, test) for test in file.tests]
    assert [(r.name, r.trouble) for r in results if r.trouble] == []
    assert untested(file, results) == ()
    known = {tag.name for tag in tags_of(SITES[path.stem])}
    used = {n.text for rule in file.rules for n in rule.when.names if not n.feature}
    for law in file.physics:
        if isinstance(law, Balance):
            used |= {law.volume, *law.inflow, *law.outflow}
    assert used <= known


def test_the_example_of_the_docs_passes_its_tests():
    text = (Path(__file__).parents[3] / "docs" / "rule-language.md").read_text()
    file = RuleFile.parse(re.search(r"```yaml\n(.*?)```", text, re.DOTALL)[1], "example")
    results = [run_test(file, test) for test in file.tests]
    assert [(r.name, r.trouble) for r in results if r.trouble] == []
    assert len(results) == 2


def test_each_site_has_its_rules():
    assert {p.stem for p in shipped()} == {"bench", "factory"}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("limits:\n  - {tags: A, quality: [1]}\n", r"f.yaml:2: limits\[0\].quality: expected true or false"),
        ("limits:\n  - {tags: A, quality: 1}\n", r"f.yaml:2: limits\[0\].quality: expected true or false"),
        ("limits:\n  - {tags: null, high: 1}\n", r"f.yaml:2: limits\[0\].tags: expected a name or a list"),
        ("limits:\n  - {tags: [], high: 1}\n", r"f.yaml:2: limits\[0\].tags: expected a name or a list"),
        ("limits:\n  - {tags: [A, ''], high: 1}\n", r"f.yaml:2: limits\[0\].tags\[1\]: expected a name"),
        ("physics:\n  - range: {tags: [], low: 1}\n", r"f.yaml:2: physics\[0\].range.tags: expected a name"),
        (
            "physics:\n  - balance: {volume: null, capacity: 1, in: F, for: 5s, tolerance: 1}\n",
            r"f.yaml:2: physics\[0\].balance.volume: expected a name",
        ),
        (RULE + "    device: []\n", r"f.yaml:4: rules\[0\].device: expected a name"),
        (TEST.replace("allowx3", "allowx1" + 40 * "0"), r"f.yaml:4: tests\[0\].expect: 1 to 10,000 windows"),
        (TEST + "    window: 1.0e-10\n", r"f.yaml:5: tests\[0\].window: must be 0.001 to 3600 s"),
        ("rules:\n  - name: !!bool foo\n", r"f.yaml:2: not YAML: the tag 'tag:yaml.org,2002:bool' is not"),
        ("rules: !!timestamp foo\n", "f.yaml:1: not YAML: the tag"),
        ("rules: []\nlimits: \0\n", r"f.yaml:2: not YAML: special characters are not allowed: U\+0000"),
        ("limits:\n  - tags: A\n    high: " + 5000 * "9", r"f.yaml:3: limits\[0\].high: Exceeds the limit"),
        ("rules: []\n? [a]\n: 1\n", "f.yaml:2: a key must be a text"),
    ],
)
def test_what_once_ended_in_a_traceback(text, error):
    with pytest.raises(RuleFileError, match=f"^{error}"):
        RuleFile.parse(text, "f.yaml")


def test_what_is_found_adds_up_as_in_rulesense():
    two = "rules: [{name: a, when: A > 1}, {name: b, when: A > 2}]\n"
    result, _ = outcome(two, "given: {A: 0 3}, expect: allow suspicious, fires: [a, b]")
    assert result.trouble == ""
    grave = two.replace("A > 2", "A > 2, verdict: block")
    result, _ = outcome(grave, "given: {A: 0 2 3}, expect: allow suspicious block, fires: [a, b]")
    assert result.trouble == ""
    many = "rules: [" + ", ".join(f"{{name: r{i}, when: A > 1}}" for i in range(9)) + "]\n"
    assert outcome(many, "given: {A: 0 3}, expect: allow suspicious")[0].trouble == ""


def test_limits_and_physics_without_a_test_are_told():
    rules = (
        "limits: [{tags: [A, B], high: 5, low: 1}, {tags: A, high: 9}]\n"
        "physics: [{range: {tags: A, high: 4}}, {balance: {volume: A, in: B, "
        "capacity: 1, for: 1s, tolerance: 1}}]\n"
    )
    result, file = outcome(rules, "given: {A: 2 6}, expect: allow suspicious")
    assert result.trouble == ""
    assert untested(file, [result]) == ("limits[0].low (A B)", "limits[1].high (A)", "physics[1].balance (A)")
