"""The page of an evaluation: what `cellwatch evaluate --json` prints, as HTML a plant engineer can read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median
from string import Template
from typing import Any

from cellwatch.models.evaluation.dimensions import DIMENSIONS, METRICS
from cellwatch.nodes import evaluation_pictures as pictures
from cellwatch.nodes.evaluation_words import is_ensemble, level_name, summary
from cellwatch.nodes.markup import cell, figure, folded, heat, many, note, number, percent, safe, table

Row = Mapping[str, Any]

_TEMPLATE = Path(__file__).with_name("evaluation_report.html")
_RADARS = 6  # best models that get a radar plot
_HARDEST = 15  # classes
_RANKED = 10  # ensembles
_MISTAKES = 10  # listed below a large confusion matrix
_OPEN = 20  # classes; a larger confusion matrix is folded away
_QUALITY = {
    "accuracy": "accuracy",
    **{
        f"{name}_{mean}": f"{'F1' if name == 'f1' else name}, {mean}"
        for mean in ("macro", "weighted")
        for name in ("precision", "recall", "f1")
    },
    "mcc": "MCC",
}
_QUIET = {
    "false_alarm_rate": "false alarms, share of rows",
    "false_alarms_per_device_hour": "false alarms / device and h",
}
_BESIDE = {
    "accuracy_interval": "accuracy, 95 %",
    "mcc_interval": "MCC, 95 %",
    "events": "events",
    "alarms": "alarms",
    "event_precision": "right alarms",
    "event_recall": "events found",
    "latency_s": "found after, s",
    "false_alarms_per_hour": "false alarms / h",
    "against": "tested against",
    "mcnemar_p": "McNemar p",
    "delong_p": "DeLong p",
}
_METRICS = {
    "accuracy": "accuracy",
    "f1": "F1",
    "mcc": "MCC",
    "ram_train_mb": "RAM to train, MB",
    "cpu_train": "CPU to train",
    "ram_infer_mb": "RAM to infer, MB",
    "cpu_infer": "CPU to infer",
    "size_mb": "size, MB",
    "training_time_s": "training, s",
    "inference_time_s": "inference, µs a row",
    "detection_latency_s": "latency, s",
    "processing_rate": "rows / s",
    "class_coverage": "classes",
    "device_coverage": "devices",
    "detection_diversity": "diversity, detections",
    "error_diversity": "diversity, errors",
}
_DIMENSIONS = {name: name.replace("_", " ").replace("speed ", "speed and ") for name in DIMENSIONS}
_TABLES = (("detection_quality", "coverage"), ("resource_usage", "speed_latency"))  # of the 16 metrics
_AXES = dict(zip(DIMENSIONS, ("quality", "resources", "speed", "coverage"), strict=True))
_CHECKED = {True: "fair", False: "speaks against the figures", None: "cannot be made"}
_SIZES = ("0–0.2 (mild)", "0.2–0.4", "0.4–0.6", "0.6–0.8", "0.8–1 (severe)")


def page(found: Row) -> str:
    """The whole page; None where nothing was measured. OSError if the page's template is not there."""
    contents, parts = [], []
    for i, data in enumerate(found.get("data") or [], 1):
        name = safe(data.get("name") or "data")
        parts.append(f'<h2 id="d{i}">{name}</h2>{_about(data)}')
        links = []
        for j, (title, build) in enumerate(_SECTIONS.items(), 1):
            if section := build(data):
                parts.append(f'<h3 id="d{i}-{j}">{title}</h3>{section}')
                links.append(f'<li><a href="#d{i}-{j}">{title}</a></li>')
        contents.append(f'<li><a href="#d{i}">{name}</a><ul>{"".join(links)}</ul></li>')
    head = f"<h1>Evaluation</h1>{_origin(found)}"
    head += f"<nav><ul>{''.join(contents)}</ul></nav>" if contents else "<p>There is nothing to show.</p>"
    title = ", ".join(["Evaluation", *(safe(data.get("name") or "data") for data in found.get("data") or [])])
    template = Template(_TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(title=title, body="\n".join((head, *parts)))


def scores_of(row: Row) -> list[float]:
    """The scores (0..1) of a model in the four dimensions, [] if one is missing or none."""
    values = [row.get(name) for name in DIMENSIONS]
    there = [float(value) for value in values if value is not None and 0 <= value <= 1]
    return there if len(there) == len(DIMENSIONS) else []


# ---------------------------------------------------------------------- what it is
def _origin(found: Row) -> str:
    said = [f"<code>{safe(found['command'])}</code>"] if found.get("command") else []
    said += [f"version {safe(found['version'])}"] if found.get("version") else []
    seeds = [safe(seed) for seed in found.get("seeds") or []]
    said += [f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(seeds)}"] if seeds else []
    said += (
        [f"results, metrics and scores are means, the rest is of seed {seeds[0]}"] if len(seeds) > 1 else []
    )
    return note(" · ".join(said)) if said else ""


def _about(data: Row) -> str:
    facts = [f"split: {safe(data['split'])}"] if data.get("split") else []
    facts += [f"{safe(part)}: {number(rows)} rows" for part, rows in (data.get("counts") or {}).items()]
    facts += [f"fingerprint <code>{safe(data['fingerprint'])}</code>"] if data.get("fingerprint") else []
    about = f"<p>{safe(data['about'])}</p>" if data.get("about") else ""
    return about + (note(" · ".join(facts)) if facts else "")


# ---------------------------------------------------------------------- tables
def _checks(data: Row) -> str:
    rows = [
        [
            cell(each.get("test")),
            cell(each.get("name"), "words"),
            cell(_CHECKED.get(each.get("ok")), "words bad" if each.get("ok") is False else "words"),
            cell(each.get("detail"), "words"),
        ]
        for each in data.get("checks") or []
    ]
    heads = ["test", "check", "answer", "detail"]
    return table(heads, rows, words=heads, sortable=False)


def _results(data: Row) -> str:
    rows, out = data.get("rows") or [], []
    for level in _levels(rows, data.get("failed") or []):
        here = [row for row in rows if row.get("level") == level]
        failed = _failed(data, level)
        attacked = _by_test(row for row in here if "false_alarm_rate" not in row)
        for test, mine in (attacked or ({"": []} if failed else {})).items():
            mine.sort(key=lambda row: -_or(row.get("mcc"), -2))
            out.append(_heading(level, test) + _quality_table(mine, failed))
        for test, mine in _by_test(row for row in here if "false_alarm_rate" in row).items():
            mine.sort(key=lambda row: _or(row.get("false_alarm_rate"), 2))
            best = {name: _best([row.get(name) for row in mine], cost=True) for name in _QUIET}
            cells = [
                [cell(row.get("name")), cell(row.get("rows"))]
                + [cell(row.get(name), "best" if i in best[name] else "") for name in _QUIET]
                for i, row in enumerate(mine)
            ]
            heads = ["model", "rows", *_QUIET.values()]
            out.append(_heading(level, test, "benign rows alone") + table(heads, cells))
    words = "Best of a column in bold. Macro: mean over the classes that occur; weighted: by their rows."
    if any("mcc_std" in row for row in rows):
        words += " ±: standard deviation over the runs."
    return _noted(words, out)


def _quality_table(rows: Sequence[Row], failed: Sequence[tuple[str, str]]) -> str:
    best = {name: _best([row.get(name) for row in rows]) for name in _QUALITY}
    cells = [
        [cell(row.get("name")), cell(row.get("rows"))]
        + [cell(_spread(row, name), "best" if i in best[name] else "") for name in _QUALITY]
        for i, row in enumerate(rows)
    ]
    return table(["model", "rows", *_QUALITY.values()], cells, failed=failed)


def _beside(data: Row) -> str:
    rows, out = data.get("beside") or [], []
    for level in _levels(rows):
        for test, mine in _by_test(row for row in rows if row.get("level") == level).items():
            mine.sort(key=lambda row: -_or((row.get("mcc_interval") or [None])[0], -2))
            shown = [key for key in _BESIDE if any(row.get(key) is not None for row in mine)]
            cells = [[cell(row.get("name")), *(cell(_beside_of(row, key)) for key in shown)] for row in mine]
            out.append(_heading(level, test) + table(["model", *(_BESIDE[key] for key in shown)], cells))
    return _noted(
        "Intervals: bootstrap. Events and alarms count whole, without point adjustment. A small p: the "
        "model differs from the one it was tested against.",
        out,
    )


def _metrics(data: Row) -> str:
    rows, out = data.get("metrics") or [], []
    for level in _levels(rows):
        mine = [row for row in rows if row.get("level") == level]
        out.append(_heading(level))
        out += [_metrics_table(mine, dimensions, _failed(data, level)) for dimensions in _TABLES]
    return _noted("Best of a column in bold: the least of what costs, the greatest of the rest.", out)


def _metrics_table(rows: Sequence[Row], dimensions: Sequence[str], failed: Sequence[tuple[str, str]]) -> str:
    shown = [m for name in dimensions for m in METRICS if m.dimension == name]
    best = {m.name: _best([row.get(m.name) for row in rows], cost=m.cost) for m in shown}
    cells = [
        [cell(row.get("name"))]
        + [cell(_metric(row, m.name), "best" if i in best[m.name] else "") for m in shown]
        for i, row in enumerate(rows)
    ]
    groups = [(_DIMENSIONS[name], sum(m.dimension == name for m in shown)) for name in dimensions]
    heads = ["model", *(_METRICS.get(m.name, m.name) for m in shown)]
    return table(heads, cells, groups=groups, failed=failed)


def _scores(data: Row) -> str:
    rows, out = data.get("scores") or [], []
    for level in _levels(rows):
        mine = [row for row in rows if row.get("level") == level]
        mine.sort(key=lambda row: -_or(_mean(row), -1))
        best = {name: _best([row.get(name) for row in mine]) for name in DIMENSIONS}
        cells = [
            [cell(row.get("model"))]
            + [cell(_fixed(row.get(name)), "best" if i in best[name] else "") for name in DIMENSIONS]
            + [cell(_fixed(_mean(row)))]
            for i, row in enumerate(mine)
        ]
        heads = ["model", *_DIMENSIONS.values(), "mean"]
        out.append(_heading(level) + table(heads, cells) + _radars(mine))
    words = (
        f"0 to 1, 1 is best. The radar plots show the {_RADARS} best models by their mean; dashed: the "
        "median of all."
    )
    absent = [f"{safe(r.get('model'))} (level {safe(r.get('level'))})" for r in rows if not scores_of(r)]
    if absent:
        words += (
            f" Without a score in every dimension, and so not in the file of scores: {', '.join(absent)}."
        )
    return _noted(words, out)


def _radars(rows: Sequence[Row]) -> str:
    """Of rows in the order of their mean."""
    whole = [(str(row.get("model")), scores_of(row)) for row in rows if scores_of(row)]
    typical = [median(column) for column in zip(*(values for _, values in whole), strict=True)]
    axes = list(_AXES.values())
    return many(figure(name, pictures.radar(values, typical, axes)) for name, values in whole[:_RADARS])


def _by_class(data: Row) -> str:
    keyed = _by_key(data.get("by_class"))
    finest = max((level for _, level in keyed), default=0)
    out = []
    for (test, level), mine in keyed.items():
        if level != finest:
            continue
        recall: dict[str, list[float]] = {}
        for name, value in (each for found in mine.values() for each in (found or {}).items()):
            if value is not None:
                recall.setdefault(name, []).append(value)
        hardest = sorted(recall, key=lambda name: (sum(recall[name]) / len(recall[name]), name))[:_HARDEST]
        cells = [
            [cell(name), *(heat((found or {}).get(name)) for found in mine.values())] for name in hardest
        ]
        if cells:
            out.append(_heading(level, test) + table(["class", *mine], cells))
    return _noted(f"% of a class's rows that are called so; the {_HARDEST} classes with the least mean.", out)


def _by_size(data: Row) -> str:
    out = []
    for (test, level), mine in _by_key(data.get("by_size")).items():
        cells = [
            [cell(name), *(heat(value) for value in [*(values or []), *[None] * 5][:5])]
            for name, values in mine.items()
        ]
        out.append(_heading(level, test) + table(["model", *_SIZES], cells))
    return _noted("% of the attacked rows that are called rightly, by the size of the incident.", out)


# ---------------------------------------------------------------------- pictures
def _fronts(data: Row) -> str:
    out = []
    for level, one in (data.get("selection") or {}).items():
        ensembles, frequent = _drawable(one.get("front")), _drawable(one.get("frequent"))
        models = [
            (str(row.get("model")), scores_of(row))
            for row in data.get("scores") or []
            if str(row.get("level")) == level and scores_of(row) and not is_ensemble(row.get("model"))
        ]
        quality, *others = _AXES.values()
        drawn = many(
            figure(
                f"{quality} against {name}",
                pictures.front(
                    [(values[i], values[0], members) for members, values in ensembles],
                    [(values[i], values[0], model) for model, values in models],
                    [(values[i], values[0]) for _, values in frequent],
                    name,
                    quality,
                ),
            )
            for i, name in enumerate(others, 1)
        )
        words = f"{number(len(ensembles))} ensembles are on the front."
        if one.get("hypervolume_ratio") is not None:
            words += f" Hypervolume, NSGA-II / exact, least of the runs: {one['hypervolume_ratio']:.3f}."
        tables = _ensembles("most frequent over the runs", one.get("frequent") or [])
        tables += _ensembles("best ranked of the front", (one.get("ranked") or [])[:_RANKED])
        if drawn or tables:
            out.append(f"{_heading(level)}<p>{words}</p>{drawn}{tables}")
    return _noted(
        "Filled: ensembles that no other one beats in all four dimensions; numbered: the most frequent; "
        "hollow: single models. Up and right is better; the line joins the best in the two dimensions shown.",
        out,
    )


def _ensembles(title: str, rows: Sequence[Row]) -> str:
    cells = [
        [cell(place), cell(_members(each), "words")]
        + [cell(_fixed(value)) for value in [*(each.get("objectives") or []), *[None] * 4][:4]]
        + [cell(_fixed(each.get("score"))), cell(each.get("runs"))]
        for place, each in enumerate(rows, 1)
    ]
    shown = table(["", "ensemble", *_AXES.values(), "TOPSIS", "runs"], cells, words=["ensemble"])
    return f"<p>{title.capitalize()}:</p>{shown}" if shown else ""


def _reliability(data: Row) -> str:
    out = []
    for (test, level), mine in _by_key(data.get("reliability")).items():
        by_gap = sorted(
            ((_gap(bins or []), name, bins or []) for name, bins in mine.items()), key=lambda e: e[:2]
        )
        drawn = many(
            figure(name, pictures.reliability(bins), f"mean gap {gap:.3f}") for gap, name, bins in by_gap
        )
        out += [_heading(level, test) + drawn] if drawn else []
    return _noted(
        "Across: the probability that a model gave; up: the share that was so. On the dashed line it means "
        "what it says; above, it is too timid; below, too sure. Large dots: many rows.",
        out,
    )


def _confusion(data: Row) -> str:
    out = []
    for (test, level), mine in _by_key(data.get("confusion")).items():
        classes = [str(name) for name in (data.get("classes") or {}).get(str(level)) or []]
        small, large = [], []
        for name, matrix in mine.items():
            drawn = figure(name, pictures.confusion(matrix or [], classes))
            if drawn and len(matrix) > _OPEN:
                large.append(folded(name, drawn + _mistakes(matrix, classes)))
            else:
                small.append(drawn)
        drawn = many(small) + "".join(large)
        out += [_heading(level, test) + drawn] if drawn else []
    return _noted(
        "A row is what was there, a column what it was called; % of the row. Blue is right, orange wrong.",
        out,
    )


def _mistakes(matrix: Sequence[Sequence[float | None]], classes: Sequence[str]) -> str:
    """The mistakes that most often befall a class."""
    names = [*classes, *map(str, range(len(classes), len(matrix)))]
    found = [
        (-share, i, j)
        for i, row in enumerate(pictures.shares(matrix))
        for j, share in enumerate(row)
        if share > 0 and i != j < len(names)
    ]
    cells = [
        [cell(names[i]), cell(names[j], "words"), cell(percent(-share))]
        for share, i, j in sorted(found)[:_MISTAKES]
    ]
    return table(["truth", "called", "% of its rows"], cells, words=["called"])


# ---------------------------------------------------------------------- pieces
def _heading(level: int | str, test: str = "", more: str = "") -> str:
    parts = [level_name(level), f"on {test}" if test else "", more]
    return f"<h4>{safe(', '.join(part for part in parts if part))}</h4>"


def _noted(words: str, parts: Sequence[str]) -> str:
    return note(words) + "".join(parts) if parts else ""


def _failed(data: Row, level: int) -> list[tuple[str, str]]:
    found = []
    for one in data.get("failed") or []:
        if one.get("level") == level:
            run = f" in run {one['run']}" if one.get("run") is not None else ""
            found.append((str(one.get("name")), f"failed{run}: {one.get('error')}"))
    return found


def _members(each: Row) -> str:
    return " + ".join(map(str, each.get("models") or []))


def _drawable(ensembles: Sequence[Row] | None) -> list[tuple[str, list[float]]]:
    """Members and objectives of those that have all four."""
    return [
        (_members(each), each["objectives"])
        for each in ensembles or []
        if len(each.get("objectives") or []) == len(DIMENSIONS) and None not in each["objectives"]
    ]


def _fixed(value: float | None) -> str | None:
    return None if value is None else f"{value:.3f}"


def _spread(row: Row, name: str) -> str | None:
    """A figure, with its standard deviation over the runs where there is one."""
    value, std = row.get(name), row.get(f"{name}_std")
    return _fixed(value) if value is None or std is None else f"{value:.3f} ± {std:.3f}"


def _metric(row: Row, name: str) -> Any:
    """A metric in the unit of its heading."""
    value = row.get(name)
    return 1e6 * value if value is not None and name == "inference_time_s" else value


def _beside_of(row: Row, key: str) -> Any:
    """A figure; an interval or a p-value in its own form."""
    value = row.get(key)
    if value is not None and key.endswith("_interval"):
        return "–".join(_fixed(end) or "?" for end in value)
    if value is not None and key.endswith("_p"):
        return "<0.001" if value < 0.001 else f"{value:.3f}"
    return value


def _best(values: Sequence[float | None], *, cost: bool = False) -> set[int]:
    """Places of the best; none if all are the same."""
    there = {value for value in values if value is not None}
    if len(there) < 2:
        return set()
    best = min(there) if cost else max(there)
    return {i for i, value in enumerate(values) if value == best}


def _mean(row: Row) -> float | None:
    """Of the scores that are there."""
    there = [row[name] for name in DIMENSIONS if row.get(name) is not None]
    return sum(there) / len(there) if there else None


def _gap(bins: Sequence[Row]) -> float:
    """Mean distance of what was said from what was there, by rows (expected calibration error)."""
    there: list[tuple[float, float]] = [
        (abs(each["predicted"] - each["observed"]), each.get("rows") or 0)
        for each in bins
        if each.get("predicted") is not None and each.get("observed") is not None
    ]
    return sum(gap * rows for gap, rows in there) / (sum(rows for _, rows in there) or 1)


def _or(value: float | None, otherwise: float) -> float:
    return otherwise if value is None else value


def _levels(*lists: Iterable[Row]) -> list[int]:
    return sorted({row["level"] for rows in lists for row in rows if row.get("level") is not None})


def _by_test(rows: Iterable[Row]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(str(row.get("test") or ""), []).append(row)
    return found


def _by_key(values: Mapping[str, Any] | None) -> dict[tuple[str, int], dict[str, Any]]:
    """Values by (test, level) and name, from keys such as test/L1/XGB; other keys are passed over."""
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for key, value in (values or {}).items():
        if parts := re.fullmatch(r"(.+?)/L(\d+)/(.+)", key, re.DOTALL):
            found.setdefault((parts[1], int(parts[2])), {})[parts[3]] = value
    return dict(sorted(found.items(), key=lambda each: each[0][1]))


_SECTIONS: dict[str, Callable[[Row], str]] = {
    "Summary": summary,
    "Leak checks": _checks,
    "Results": _results,
    "How sure, and by events": _beside,
    "The 16 metrics": _metrics,
    "Scores in four dimensions": _scores,
    "Pareto fronts": _fronts,
    "Reliability": _reliability,
    "Confusion matrices": _confusion,
    "Recall of the hardest classes": _by_class,
    "Recall by size of the incident": _by_size,
}
