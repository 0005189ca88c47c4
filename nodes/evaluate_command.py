"""`cellwatch evaluate`: judge detectors, our own or others, on rows that they never saw."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cellwatch.nodes.train_command import (
    AsJson,
    Cache,
    Data,
    Engine,
    Group,
    Label,
    Level,
    Seed,
    TestSeed,
    Time,
    Workers,
    cell,
)

if TYPE_CHECKING:
    from rich.console import Console

    from cellwatch.models.datasets.dataset import DataSet
    from cellwatch.models.registry.bundle import Bundle
    from cellwatch.models.rules.profile import Profile
    from cellwatch.nodes.judging import Judge, Judged
    from cellwatch.nodes.own_detector import OwnKind
    from cellwatch.nodes.trainer import Failed

COSTS = {  # metrics that may not have been measured, which says nothing about the model
    "ram_train_mb", "cpu_train", "training_time_s",
    "ram_infer_mb", "cpu_infer", "inference_time_s", "processing_rate", "size_mb",
}  # fmt: skip
SELECTION_RUNS = 20  # of NSGA-II, in a report; `cellwatch select --scores` does a hundred
COLUMNS = {
    "test": "test", "level": "L", "name": "name", "accuracy": "acc", "precision_macro": "prec",
    "recall_macro": "rec", "f1_macro": "F1", "f1_weighted": "F1 w", "mcc": "MCC",
}  # fmt: skip


def evaluate(
    data: Data,
    models_folder: Annotated[
        Path | None, typer.Option("--models", help="Folder of models; without it they are trained first.")
    ] = None,
    level: Level = "1,2,3",
    detectors: Annotated[
        str,
        typer.Option(
            help="Of ours, separated by commas, or all; all without --detector.", show_default=False
        ),
    ] = "",
    detector: Annotated[
        list[str] | None,
        typer.Option(help="Your own: mypkg.module:MyDetector, a class with fit(x, y) and predict_proba(x)."),
    ] = None,
    label: Label = "",
    group: Group = "",
    time: Time = "",
    device: Annotated[str, typer.Option(help="Column of a table file that names the device.")] = "",
    split: Annotated[
        Literal["", "device"],
        typer.Option(help="device: judge on devices that training never saw.", show_default=False),
    ] = "",
    runs: Annotated[int, typer.Option(min=1, help="Train from so many seeds and give means.")] = 1,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Also what each model costs: the 16 metrics of four dimensions.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(help="Write a report into this folder: HTML, JSON, CSV. With --metrics.")
    ] = None,
    engine: Engine = "local",
    workers: Workers = None,
    seed: Seed = 0,
    test_seed: TestSeed = None,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Judge models, and the ensembles of the paper, on rows that they never saw; check for leaks."""
    from cellwatch.models.datasets.dataset import DataError
    from cellwatch.models.datasets.device_split import device_disjoint
    from cellwatch.nodes.cli import err, print_json
    from cellwatch.nodes.cli import out as screen
    from cellwatch.nodes.own_detector import own_kind
    from cellwatch.nodes.runner import home
    from cellwatch.nodes.train_command import errors, levels_in, open_sets

    with errors():
        if report is not None:
            _writable(report)
        own = [own_kind(each) for each in detector or []]
        names = detectors or ("all" if not own else "")
        if models_folder is not None and (own or runs > 1 or split):
            raise ValueError("--models judges what is there: without --detector, --runs and --split")
        place = cache or home() / "datasets"
        try:
            sets = open_sets(data, place, label, group, time, err, test_seed or 0, device)
        except DataError as error:
            if "data absent" not in str(error) or Path(data).suffix:
                raise  # a file that was named is to be there; a published data set need not
            absent = {"data": data, "status": "data absent", "detail": str(error)}
            print_json(absent) if as_json else screen.print(f"{data}: data absent ({error})", highlight=False)
            return
        measured = metrics or report is not None
        results = []
        for each in sets:
            one = device_disjoint(each) if split else each
            levels = levels_in(level, one)
            if models_folder is not None:
                judge = _judge_of_folder(one, models_folder, levels, names, err)
                bad: list[dict[str, Any]] = []
                results.append(_result(one, [_judged(judge, measured, workers, bad, seed, err)], bad))
                continue
            if not len(one.train):
                raise DataError(
                    f"{one.name}: benign rows only: give --models with a folder of the same columns"
                )
            results.append(
                _trained_and_judged(
                    one, place, levels, names, own, engine, workers, range(seed, seed + runs), measured, err
                )
            )
        found = {"command": _said(), "seeds": [*range(seed, seed + runs)], "data": results}
        written = []
        if report is not None:
            from cellwatch.nodes.evaluation_report import write_report

            with err.status("the best ensembles"):
                for result in results:
                    result["selection"] = _selection(result["scores"])
            written = write_report(found, report)
    if as_json:
        print_json(found)
        return
    for result in results:
        _print(screen, result)
    for path in written:
        screen.print(str(path), highlight=False)


# ---------------------------------------------------------------------- one data set
def _trained_and_judged(
    data: DataSet,
    cache: Path,
    levels: Sequence[int],
    names: str,
    own: Sequence[OwnKind],
    engine: str,
    workers: int | None,
    seeds: Sequence[int],
    measured: bool,
    console: Console,
) -> dict[str, Any]:
    """Each run trains what is not kept and judges it; what fails is a row, unless everything does."""
    from cellwatch.nodes.train_command import judge_of, train_models

    judged, failed = [], []
    for seed in seeds:
        bad: list[Failed] = []
        found = train_models(data, cache, levels, names, engine, workers, seed, console, own=own, failed=bad)
        failed += [_failure(f.level, f.detector, seed, f.error) for f in bad]
        if not found:
            raise ValueError(f"no detector could be trained: {bad[0].detector}: {bad[0].error}")
        judge = judge_of(data, found, console)[0]
        judged.append(_judged(judge, measured, workers, failed, seed, console))
    return _result(data, judged, failed)


def _judged(
    judge: Judge,
    measured: bool,
    workers: int | None,
    failed: list[dict[str, Any]],
    seed: int,
    console: Console,
) -> Judged:
    """The figures; adds to `failed` the models that did not answer."""
    from cellwatch.nodes.trainer import costs_of_answers

    costs = None
    if measured:
        part = next(iter(judge.data.tests.values()))
        with console.status("measuring what answers cost"):
            costs, bad = costs_of_answers(judge.models, part, judge.scaler.transform(part.pool), workers)
        failed += [_failure(f.level, f.detector, seed, f.error) for f in bad]
    found = judge.judge(costs)
    failed += [_failure(level, name, seed, why) for (name, level), why in judge.failed.items()]
    if not found.rows:
        raise ValueError(f"no detector could be judged: {failed[0]['name']}: {failed[0]['error']}")
    return found


def _failure(level: int, name: str, run: int, error: str) -> dict[str, Any]:
    return {"level": level, "name": name, "run": run, "error": error}


def _writable(folder: Path) -> None:
    """Make the folder of a report before the long work. ValueError."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; --report wants a folder")
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{folder}: nothing can be written there")


def _result(data: DataSet, runs: Sequence[Judged], failed: list[dict[str, Any]]) -> dict[str, Any]:
    """One data set, for JSON; of several runs the means, and of what has none the first."""
    from dataclasses import asdict

    from cellwatch.models.evaluation.averages import averaged

    out = {
        "name": data.name, "about": data.about, "split": data.split, "fingerprint": data.fingerprint,
        "counts": {"train": len(data.train), "validation": len(data.validation)}
        | {name: len(part) for name, part in data.tests.items()},
        "classes": {str(level): list(names) for level, names in data.classes.items()},
        **asdict(runs[0]),
        "failed": failed,
    }  # fmt: skip
    out["rows"] = averaged([one.rows for one in runs], ("test", "level", "name"))
    out["metrics"] = averaged([one.metrics for one in runs], ("level", "name"))
    out["scores"] = _scores(out["metrics"])
    return out


def _scores(metrics: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every model's scores in the four dimensions, 0..1 among the models of its level (VIKOR)."""
    import numpy as np

    from cellwatch.models.evaluation.dimensions import DIMENSIONS, METRICS, dimension_scores

    out = []
    for level in dict.fromkeys(row["level"] for row in metrics):
        mine = [row for row in metrics if row["level"] == level]
        values = np.array([[row[metric.name] for metric in METRICS] for row in mine])
        costs = np.array([metric.name in COSTS for metric in METRICS])
        values[:, costs & np.isnan(values).any(axis=0)] = np.nan  # measured of some only: compares nothing
        scores = dimension_scores(values)
        out += [
            {"level": level, "model": row["name"], **dict(zip(DIMENSIONS, map(float, values), strict=True))}
            for row, values in zip(mine, scores, strict=True)
        ]
    return out


def _selection(scores: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What `cellwatch select` says of the scores, level by level; {} where it cannot choose."""
    import numpy as np

    from cellwatch.models.evaluation.dimensions import DIMENSIONS
    from cellwatch.models.selection.level import Settings
    from cellwatch.models.selection.ranking import WEIGHTS
    from cellwatch.models.selection.scores import Scores, ScoresError, check
    from cellwatch.nodes.select_command import choice_json

    found = {}
    for level in dict.fromkeys(row["level"] for row in scores):
        mine = [row for row in scores if row["level"] == level]
        values = np.array([[row[name] for name in DIMENSIONS] for row in mine])
        whole = np.isfinite(values).all(axis=1)
        names = tuple(row["model"] for row, known in zip(mine, whole, strict=True) if known)
        one = Scores(level, names, values[whole])
        try:
            if names:
                check(one, "the report")
                found[level] = one
        except ScoresError:
            continue
    try:
        from cellwatch.nodes.choosing import choose_all
    except ImportError:  # pymoo
        return {}
    if not found:
        return {}
    settings = Settings({level: np.array(WEIGHTS[level]) for level in found})
    chosen = choose_all(found, settings, SELECTION_RUNS, 0, None, lambda *_: None)
    return {str(level): choice_json(one) for level, one in chosen.items()}


# ---------------------------------------------------------------------- models of a folder
def _judge_of_folder(
    data: DataSet, folder: Path, levels: Sequence[int], names: str, console: Console
) -> Judge:
    """The judge of the models of a bundle."""
    from cellwatch.nodes.bundling import trained_of
    from cellwatch.nodes.judging import Judge
    from cellwatch.nodes.train_command import names_in, read_bundle
    from cellwatch.nodes.trainer import data_digest, schema_of

    held = read_bundle(folder)
    if held.manifest.schema_id != schema_of(data).schema_id:
        raise ValueError(
            f"{folder}: its models have schema {held.manifest.schema_id}, {data.name} has other columns"
        )
    found, scaler = trained_of(held)
    wanted = names_in(names)
    found = [one for one in found if one.level in levels and one.detector in wanted]
    if not found:
        there = ", ".join(f"L{m.level} {m.detector}" for m in held.manifest.models)
        raise ValueError(f"{folder}: none of the models asked for; it has {there}")
    learnt = held.manifest.lineage
    strange = ""
    if learnt.get("digest") != data_digest(data):
        strange = f"the models learnt from other rows ({learnt.get('name', learnt.get('data', 'unknown'))})"
    with console.status("judging"):
        cut = _as_learnt(data.only({one.level for one in found}), held)
        return Judge(cut, found, scaler, _profile(held, data), strange=strange)


def _profile(held: Bundle, data: DataSet) -> Profile | None:
    """RuleSense's profile, where the data has the devices that it knows."""
    from cellwatch.models.rules.profile import Profile

    content = held.files.get("profile.json")
    if content is None or data.facts.get("site") != held.manifest.site:
        return None
    return Profile.parse(content.decode(), "profile.json")


def _as_learnt(data: DataSet, held: Bundle) -> DataSet:
    """The data with classes numbered as the models have them; -1 for one that they do not know."""
    from dataclasses import replace

    import numpy as np

    from cellwatch.models.datasets.dataset import Part

    classes = {level: tuple(held.manifest.classes[str(level)]) for level in data.classes}

    def part(one: Part) -> Part:
        y = dict(one.y)
        for level in data.classes.keys() & one.y.keys():
            place = {name: i for i, name in enumerate(classes[level])}
            index = np.array([place.get(name, -1) for name in data.classes[level]], dtype=np.int64)
            y[level] = index[one.y[level]]
        return replace(one, y=y)

    return replace(
        data,
        classes=classes,
        train=part(data.train),
        validation=part(data.validation),
        tests={name: part(one) for name, one in data.tests.items()},
    )


# ---------------------------------------------------------------------- what is shown
def _said() -> str:
    """The command as it was given, without where its files lie."""
    from cellwatch.nodes.cli import said

    return said({"--cache", "--report", "--models", "--workers"})


def _print(screen: Console, found: Mapping[str, Any]) -> None:
    from rich.markup import escape

    screen.print(f"{found['name']}: {found['about']}; split: {found['split']}", highlight=False, markup=False)
    for one in found["checks"]:
        mark = {True: "[green]✓[/]", False: "[yellow]![/]", None: "?"}[one["ok"]]
        said = escape(f"{one['test']}, {one['name']}: {one['detail']}")
        screen.print(f"{mark} {said}", highlight=False)
    rows = [row for row in found["rows"] if "accuracy" in row]
    _table(screen, "", COLUMNS.values(), [[cell(row[column]) for column in COLUMNS] for row in rows])
    for row in found["rows"]:
        if "false_alarm_rate" in row:
            screen.print(
                f"{row['test']}, L{row['level']} {row['name']}: {100 * row['false_alarm_rate']:.3f} % of "
                f"{row['rows']} benign rows called, "
                f"{row['false_alarms_per_device_hour']:.2f} a device and hour",
                highlight=False,
                markup=False,
            )
    _print_beside(screen, found["beside"])
    _print_costs(screen, found)
    for one in found["failed"]:
        said = escape(f"L{one['level']} {one['name']}: {one['error']}")
        screen.print(f"[red]failed[/]: {said}", highlight=False)


def _print_beside(screen: Console, beside: Sequence[Mapping[str, Any]]) -> None:
    """95 % intervals, events and alarms, and whether the difference to the best is more than chance."""
    titles = ("test", "L", "name", "MCC, 95 %", "events", "after s", "false/h", "p to best")
    lines = []
    for row in beside:
        low, high = row["mcc_interval"]
        lines.append([
            row["test"], str(row["level"]), row["name"], f"{low:.2f}-{high:.2f}",
            _number(row.get("event_recall"), ".0%"), _number(row.get("latency_s"), ".1f"),
            _number(row.get("false_alarms_per_hour"), ".1f"),
            "best" if row["mcnemar_p"] is None else f"{row['mcnemar_p']:.1g}",
        ])  # fmt: skip
    _table(screen, "How sure, and by events", titles, lines)


def _print_costs(screen: Console, found: Mapping[str, Any]) -> None:
    """What each model costs, and its scores in the four dimensions."""
    from cellwatch.models.evaluation.dimensions import DIMENSIONS

    titles = ("L", "name", "train s", "MB", "ask µs", "MB", "size MB", "quality", "res.", "speed", "cov.")
    scores = {(row["level"], row["model"]): row for row in found["scores"]}
    lines = []
    for row in found["metrics"]:
        score = scores[row["level"], row["name"]]
        lines.append([
            str(row["level"]), row["name"], _number(row["training_time_s"], ".1f"),
            _number(row["ram_train_mb"], ".0f"), _number(1e6 * row["inference_time_s"], ".1f"),
            _number(row["ram_infer_mb"], ".0f"), _number(row["size_mb"], ".2f"),
            *(_number(score[name], ".2f") for name in DIMENSIONS),
        ])  # fmt: skip
    _table(screen, "What each model costs, and its scores in four dimensions (1: best here)", titles, lines)


def _table(screen: Console, title: str, titles: Iterable[str], lines: Sequence[Sequence[str]]) -> None:
    from rich.markup import escape
    from rich.table import Table

    if not lines:
        return
    shown = Table(box=None, padding=(0, 1, 0, 0), title_justify="left", title=f"\n{title}" if title else None)
    for each in titles:
        shown.add_column(each, no_wrap=True)
    for line in lines:
        shown.add_row(*map(escape, line))
    screen.print(shown)


def _number(value: float | None, form: str) -> str:
    return "" if value is None or value != value else format(value, form)  # noqa: PLR0124 - NaN
