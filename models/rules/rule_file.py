"""The user's rule file: limits, physics, rules and tests in one YAML text (docs/rule-language.md)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cellwatch.models.rules import language
from cellwatch.models.rules.marked_yaml import Marked, MarkedError
from cellwatch.models.rules.physics import Balance, Common, PhysicsRule, Range, Rate, Stuck
from cellwatch.models.rules.series import Series
from cellwatch.models.rules.tag_limits import Limit
from cellwatch.models.rules.user_rules import UserRule
from cellwatch.models.types import Screening

RuleFileError = MarkedError  # "FILE:LINE: FIELD: why"

CATEGORIES = ("fault", "dos", "ddos", "recon", "web", "mitm", "bruteforce", "malware", "ics")
VERDICTS = {"suspicious": Screening.SUSPICIOUS, "block": Screening.BLOCK}
EXPECTED = {"allow": Screening.ALLOW, **VERDICTS}
_ABOUT = ("verdict", "category", "attack_id", "message")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
MIN_SPAN_S, MAX_WINDOWS = 0.001, 10_000
_TECHNIQUE = re.compile(r"T\d{4}(\.\d{3})?")


@dataclass(frozen=True, slots=True)
class RuleTest:
    """One test of a rule file: series of tags and features, and the verdict of every window."""

    name: str
    line: int
    window_s: float
    step_s: float  # time between two values of a tag
    device: str  # owner of the tags
    tags: dict[str, Series]  # one value a step
    features: dict[tuple[str, str], Series]  # (device, feature): one value a window
    expect: tuple[Screening, ...]  # gravest verdict of each window
    fires: tuple[str, ...] | None  # rules that must fire, and no others; None = not tested


@dataclass(frozen=True, slots=True)
class RuleFile:
    """A checked rule file."""

    limits: tuple[Limit, ...] = ()
    physics: tuple[PhysicsRule, ...] = ()
    rules: tuple[UserRule, ...] = ()
    tests: tuple[RuleTest, ...] = ()

    @classmethod
    def parse(cls, text: str, name: str = "<rules>") -> RuleFile:
        """Read a rule file. RuleFileError names file, line and field.

        >>> RuleFile.parse("rules: [{name: high, when: LIT101 > 90, for: 3s}]").rules[0].for_s
        3.0
        >>> RuleFile.parse("rules: [{name: a, when: X >}]", "my.yaml")  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        MarkedError: my.yaml:1: rules[0].when: not an expression: invalid syntax
        """
        root = Marked.parse(text, name)
        if root.value is None:
            return cls()
        root.table("limits", "physics", "rules", "tests")
        rules = tuple(_rule(m) for m in root["rules"].items())
        for i, rule in enumerate(rules):
            if rule.name in {r.name for r in rules[:i]}:
                raise root["rules"][i]["name"].error(f"another rule is called '{rule.name}' too")
        return cls(
            tuple(_limit(m) for m in root["limits"].items()),
            tuple(_physics(m) for m in root["physics"].items()),
            rules,
            tuple(_test(m) for m in root["tests"].items()),
        )


def _rule(m: Marked) -> UserRule:
    m.table("name", "when", "for", "device", *_ABOUT, required=("name", "when"))
    name = m["name"].text()
    if not _NAME.fullmatch(name):
        raise m["name"].error(f"'{name}' must be letters, digits, - and _")
    about = _about(m)
    for_s = _span(m["for"], 0.0)
    devices = _some(m["device"]) if "device" in m else ()
    return UserRule(name, _condition(m["when"]), for_s, devices, **about)


def _limit(m: Marked) -> Limit:
    numbers = ("low_low", "low", "high", "high_high", "rate")
    m.table("tags", *numbers, "deadband", "quality", *_ABOUT[1:], required=("tags",))
    about = _about(m)
    del about["verdict"]
    quality = m["quality"].value
    if not isinstance(quality, bool | None):
        raise m["quality"].error("expected true or false")
    bounds = {key: m[key].number(math.nan) for key in numbers}
    limit: Limit = _made(
        m,
        Limit,
        _some(m["tags"]),
        deadband=m["deadband"].number(0.0),
        quality=bool(quality),
        **bounds,
        **about,
    )
    return limit


def _physics(m: Marked) -> PhysicsRule:
    kinds = ("range", "rate", "stuck", "balance")
    m.table(*kinds, "while", *_ABOUT)
    given = [k for k in kinds if k in m]
    if len(given) != 1:
        raise m.error(f"expected one of: {', '.join(kinds)}")
    guard = _condition(m["while"]) if "while" in m else None
    common = Common(guard, **{"category": "fault", **_about(m)})
    law = m[given[0]]
    match given[0]:
        case "range":
            law.table("tags", "low", "high", required=("tags",))
            low, high = law["low"].number(-math.inf), law["high"].number(math.inf)
            if not low < high or (low == -math.inf and high == math.inf):
                raise law.error("needs low or high, and low below high")
            return Range(_some(law["tags"]), low, high, common)
        case "rate":
            law.table("tags", "limit", required=("tags", "limit"))
            return Rate(_some(law["tags"]), _above_zero(law["limit"]), common)
        case "stuck":
            law.table("tags", "for", required=("tags", "for"))
            return Stuck(_some(law["tags"]), _span(law["for"], 0.0), common)
    law.table(
        "volume", "capacity", "in", "out", "per", "for", "tolerance",
        required=("volume", "capacity", "for", "tolerance"),
    )  # fmt: skip
    inflow, outflow = law["in"].names(), law["out"].names()
    if not law["volume"].text():
        raise law["volume"].error("expected a name")
    if not inflow and not outflow:
        raise law.error("needs a flow: in, out or both")
    return Balance(
        law["volume"].text(),
        _above_zero(law["capacity"]),
        inflow,
        outflow,
        _span(law["for"], 0.0),
        _above_zero(law["tolerance"]),
        _span(law["per"], 1.0),
        common,
    )


def _test(m: Marked) -> RuleTest:
    m.table(
        "name", "window", "step", "device", "given", "expect", "fires", required=("name", "given", "expect")
    )
    window_s = _span(m["window"], 1.0)
    step_s = _span(m["step"], window_s)
    per_window = round(window_s / step_s)
    if per_window < 1 or abs(per_window * step_s - window_s) > 1e-9 * window_s:
        raise m["step"].error(f"a window of {window_s:g} s must be a whole number of steps")
    expect = _words(m["expect"])
    tags: dict[str, Series] = {}
    features: dict[tuple[str, str], Series] = {}
    given = m["given"]
    given.table(*(given.value if isinstance(given.value, dict) else ()))
    for key in given.value:
        device, slash, feature = str(key).rpartition("/")
        if slash and feature not in language.FEATURES:
            raise given[key].error(f"no feature is called '{feature}'")
        series = _made(given[key], Series.parse, given[key].value)
        steps = len(expect) * (1 if slash else per_window)
        if len(series.value) != steps:
            raise given[key].error(f"has {len(series.value)} values; {len(expect)} windows need {steps}")
        if slash:
            features[device, feature] = series
        else:
            tags[str(key)] = series
    if not given.value:
        raise given.error("names no tag and no feature")
    return RuleTest(
        m["name"].text(),
        m.line,
        window_s,
        step_s,
        m["device"].text() or "PLC1",
        tags,
        features,
        expect,
        m["fires"].names() if "fires" in m else None,
    )


# ---------------------------------------------------------------------- pieces
def _about(m: Marked) -> dict[str, Any]:
    """Verdict, category, technique and message, as far as they are given."""
    technique = m["attack_id"].text()
    if technique and not _TECHNIQUE.fullmatch(technique):
        raise m["attack_id"].error(f"'{technique}' is no technique of ATT&CK for ICS, such as T0836")
    category = m["category"].text(CATEGORIES)
    found: dict[str, Any] = {"verdict": VERDICTS[m["verdict"].text(tuple(VERDICTS)) or "suspicious"]}
    found |= {"category": category} if category else {}
    return {**found, "attack_id": technique, "message": m["message"].text()}


def _condition(m: Marked) -> language.Condition:
    if isinstance(m.value, bool | int | float):
        raise m.error(f"expected a condition, found {m.value!r}")
    condition: language.Condition = _made(m, language.compile_condition, m.text())
    return condition


def _span(m: Marked, default: float) -> float:
    """A span of time in s; a bare number is seconds."""
    if m.value is None:
        return default
    span_s = m.number(0.0) if not isinstance(m.value, str) else _made(m, language.seconds, m.value)
    if not MIN_SPAN_S <= span_s <= language.MAX_SPAN_S:
        raise m.error(f"must be {MIN_SPAN_S:g} to {language.MAX_SPAN_S:g} s")
    return span_s


def _above_zero(m: Marked) -> float:
    number = m.number(math.nan)
    if not number > 0:
        raise m.error("must be above 0")
    return number


def _words(m: Marked) -> tuple[Screening, ...]:
    """Verdicts of windows in turn: `allowx3 suspicious block`."""
    found: list[Screening] = []
    for word in m.text().split():
        name, _, times = word.partition("x")
        if name not in EXPECTED or (times and not times.isdecimal()):
            raise m.error(
                f"'{word}' is no verdict: {', '.join(EXPECTED)}, or one with its number, as in allowx3"
            )
        found += [EXPECTED[name]] * min(
            int(times[:9] or 1), MAX_WINDOWS + 1
        )  # ten digits are too many anyway
        if len(found) > MAX_WINDOWS:
            break
    if not 0 < len(found) <= MAX_WINDOWS:
        raise m.error(f"1 to {MAX_WINDOWS:,} windows, as in: allowx3 suspicious")
    return tuple(found)


def _some(m: Marked) -> tuple[str, ...]:
    """At least one name."""
    names = m.names()
    if not names:
        raise m.error("expected a name or a list of names")
    return names


def _made(m: Marked, make: Callable[..., Any], *values: Any, **more: Any) -> Any:
    """What `make` makes; what it refuses is an error of this field."""
    try:
        return make(*values, **more)
    except ValueError as error:
        raise m.error(error) from None
