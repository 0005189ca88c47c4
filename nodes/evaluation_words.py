"""What an evaluation came to, in sentences for who runs the plant."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from cellwatch.nodes.markup import number, safe

Row = Mapping[str, Any]

_LEVELS = {"1": " (benign or attack)", "2": " (kind of attack)", "3": " (which attack)"}


def level_name(level: object) -> str:
    """A level and what it tells apart.

    >>> level_name(2)
    'Level 2 (kind of attack)'
    """
    return f"Level {level}{_LEVELS.get(str(level), '')}"


def is_ensemble(name: object) -> bool:
    """Whether the name is one of those that `cellwatch evaluate` gives to ensembles.

    >>> is_ensemble("L1_Ens2 without RuleSense"), is_ensemble("all 22"), is_ensemble("XGB")
    (True, True, False)
    """
    return re.match(r"L\d+_Ens\d+|all \d+$", str(name)) is not None


def summary(data: Row) -> str:
    """What was judged, what is unfair, what failed; then the best of each level and how it does on duty."""
    rows = [row for row in data.get("rows") or [] if row.get("level") is not None]
    said = [_judged(data, rows), _checked(data.get("checks") or []), _failed(data.get("failed") or [])]
    levels = [_level(level, data, rows) for level in sorted({row["level"] for row in rows})]
    listed = "".join(f"<li>{each}</li>" for each in levels if each)
    return f"<p>{' '.join(each for each in said if each)}</p>" + (f"<ul>{listed}</ul>" if listed else "")


def _judged(data: Row, rows: Sequence[Row]) -> str:
    names = {row.get("name") for row in rows}
    ensembles = sum(map(is_ensemble, names))
    if not names:
        return "No model was judged."
    learnt = (data.get("counts") or {}).get("train")
    many = _count(len(names) - ensembles, "model")
    many += f" and {_count(ensembles, 'ensemble')}" if ensembles else ""
    after = f", having learnt from {number(learnt)} rows" if learnt is not None else ""
    return f"{many} were judged on {safe(data.get('name') or 'this data')}{after}."


def _level(level: int, data: Row, rows: Sequence[Row]) -> str:
    """The best by MCC on each test that holds attacks, and the ensemble that was searched for."""
    best = _best(level, rows)
    said = [_duty(test, row, data) for test, row in best.items()]
    names = {row.get("name") for row in best.values()}
    quiet: dict[str, list[str]] = {}
    for row in rows:
        alarms = row.get("false_alarms_per_device_hour")
        if alarms is not None and row["level"] == level and row.get("name") in names:
            quiet.setdefault(str(row.get("test")), []).append(f"{safe(row.get('name'))} {alarms:.3g}")
    said += [
        f"False alarms per device and hour on {safe(test)}, where nothing is wrong: {', '.join(each)}."
        for test, each in quiet.items()
    ]
    said.append(_chosen(level, data))
    return f"{level_name(level)}. {' '.join(each for each in said if each)}" if any(said) else ""


def _duty(test: str, best: Row, data: Row) -> str:
    """What the best model of a test is like: rows, events, false alarms."""
    kind = "an ensemble" if is_ensemble(best.get("name")) else "a single model"
    words = f"On {safe(test)} the best is <b>{safe(best.get('name'))}</b>, {kind}, with MCC {best['mcc']:.3f}"
    if best.get("accuracy") is not None:
        words += f" and {100 * best['accuracy']:.1f} % of the rows right"
    same = ("test", "level", "name")
    beside: Row = next(
        (r for r in data.get("beside") or [] if all(r.get(key) == best.get(key) for key in same)), {}
    )
    if beside.get("events") and beside.get("event_recall") is not None:
        found = round(beside["event_recall"] * beside["events"])
        words += f"; it reports {found} of {_count(beside['events'], 'event')}"
        if beside.get("latency_s") is not None:
            words += f", {beside['latency_s']:.3g} s after they begin"
    if beside.get("false_alarms_per_hour") is not None:
        words += f", with {beside['false_alarms_per_hour']:.3g} false alarms an hour"
    return f"{words}."


def _chosen(level: int, data: Row) -> str:
    one = (data.get("selection") or {}).get(str(level)) or {}
    first = next(iter(one.get("frequent") or []), None)
    if not first or not first.get("models"):
        return ""
    return f"The search for ensembles most often ends with {safe(' + '.join(map(str, first['models'])))}."


def _checked(checks: Sequence[Row]) -> str:
    if not checks:
        return ""
    bad = [each for each in checks if each.get("ok") is False]
    unknown = sum(each.get("ok") is None for each in checks)
    said = f"Of {_count(len(checks), 'leak check')}, {len(bad) or 'none'} speak against the figures"
    if bad:
        names = [f"{safe(each.get('name'))} on {safe(each.get('test'))}" for each in bad]
        said += f" ({', '.join(names)})"
    return said + (f"; {unknown} cannot be made." if unknown else ".")


def _failed(failed: Sequence[Row]) -> str:
    names = {f"{safe(one.get('name'))} (level {safe(one.get('level'))})": None for one in failed}
    return f"{_count(len(names), 'detector')} failed: {', '.join(names)}." if names else ""


def _best(level: int, rows: Sequence[Row]) -> dict[str, Row]:
    """The row with the greatest MCC of each test that has one, the first of equals."""
    found: dict[str, Row] = {}
    for row in rows:
        if row["level"] == level and row.get("mcc") is not None:
            test = str(row.get("test"))
            if test not in found or row["mcc"] > found[test]["mcc"]:
                found[test] = row
    return found


def _count(n: int, what: str) -> str:
    return f"{number(n)} {what}{'' if n == 1 else 's'}"
