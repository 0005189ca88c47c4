"""`cellwatch select`: which models together make the best ensemble."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from cellwatch.models.datasets.dataset import DataSet
    from cellwatch.models.selection.compared import Compared
    from cellwatch.models.selection.level import Chosen, Ensemble, Settings
    from cellwatch.models.selection.scores import Scores
    from cellwatch.models.selection.sensitivity import Sensitivity
    from cellwatch.nodes.measured_choice import Duel

_PICTURES = {".svg", ".png", ".pdf"}
_SHOWN = 10  # rows of a ranked list on the screen


def select(
    scores: Annotated[
        Path,
        typer.Option(
            help="CSV with model, level, detection_quality, resource_usage, speed_latency, coverage (0..1)."
        ),
    ],
    level: Annotated[
        str, typer.Option(help="Levels, such as 1 or 1,2,3; without it those of the file.")
    ] = "",
    runs: Annotated[int, typer.Option(min=1, help="Runs of NSGA-II for each level.")] = 100,
    sizes: Annotated[str, typer.Option(help="Least and greatest number of members.")] = "1-5",
    k: Annotated[int, typer.Option("--k", min=1, help="Best members that count in each dimension.")] = 3,
    weights: Annotated[
        str,
        typer.Option(help="Quality,resources,speed,coverage for the ranking; without it those of the level."),
    ] = "",
    reference: Annotated[str, typer.Option(help="Reference point of the hypervolume.")] = "0,0,0,0",
    population: Annotated[int, typer.Option(min=2, help="Ensembles in a generation.")] = 150,
    generations: Annotated[int, typer.Option(min=1, help="Generations of a run.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first run; the next ones count up.")] = 0,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; without it one a core.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw the fronts: FILE.svg or FILE.png.")] = None,
    data: Annotated[
        str,
        typer.Option(help="Train on this data too, and choose by the measured quality of whole ensembles."),
    ] = "",
    label: Annotated[str, typer.Option(help="Column of a table file that holds the label.")] = "",
    cache: Annotated[Path | None, typer.Option(help="Where data and finished models are kept.")] = None,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="How rankings of single models hang on weights and method.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Choose ensembles: exact Pareto front, NSGA-II many times, ranking by TOPSIS, the most frequent."""
    from cellwatch.models.selection.sensitivity import sensitivity as judged
    from cellwatch.nodes.cli import err, fail, print_json
    from cellwatch.nodes.cli import out as screen
    from cellwatch.nodes.train_command import bar
    from cellwatch.nodes.trainer import TrainingError

    try:
        chosen_from = _read(scores, level)
        if sensitivity:
            tables = {each: judged(one) for each, one in chosen_from.items()}
            print_json(_sensitivity_json(tables)) if as_json else _print_sensitivity(screen, tables)
            return
        _check_picture(picture)
        known = _opened(data, label, cache, chosen_from, err) if data else None
        settings = _settings(chosen_from, sizes, k, weights, reference, population, generations)
        from cellwatch.nodes.choosing import choose_all  # needs pymoo

        with bar(err) as tick:
            found = choose_all(chosen_from, settings, runs, seed, workers, tick)
        duels = _duels(known, cache, chosen_from, settings, runs, seed, workers, err) if known else {}
        if picture is not None:
            from cellwatch.nodes.front_picture import draw

            draw(found, picture)
    except ImportError as error:
        raise fail(f"{error.name} is not installed: pip install 'cellwatch[learn]'") from None
    except (ValueError, OSError, TrainingError) as error:
        raise fail(error) from None
    if as_json:
        measured = {str(each): one.to_dict() for each, one in duels.items()}
        levels = {str(each): choice_json(one) for each, one in found.items()}
        print_json({"levels": levels} | ({"measured": measured} if known else {}))
        return
    from cellwatch.models.selection.compared import compare, of_the_paper

    for each, one in found.items():
        named = of_the_paper(chosen_from[each])
        beside = compare(named, chosen_from[each], one, k, settings.weights[each])
        _print(screen, each, one, beside, runs)
    _print_duels(screen, duels)


# ---------------------------------------------------------------------- what is asked for
def _read(path: Path, levels: str) -> dict[int, Scores]:
    from cellwatch.models.selection.scores import check, parse

    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not a text file") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    found = parse(text, str(path))
    wanted = _whole(levels, "--level", "such as 1 or 1,2,3") if levels else [*found]
    absent = [each for each in wanted if each not in found]
    if absent:
        raise ValueError(f"{path} has no level {absent[0]}: it has {', '.join(map(str, found))}")
    for each in wanted:
        check(found[each], str(path))
    return {each: found[each] for each in sorted({*wanted})}


def _settings(
    scores: Mapping[int, Scores],
    sizes: str,
    k: int,
    weights: str,
    reference: str,
    population: int,
    generations: int,
) -> Settings:
    import numpy as np

    from cellwatch.models.evaluation.aggregation import weights_of
    from cellwatch.models.selection.level import Settings
    from cellwatch.models.selection.nsga2 import Search
    from cellwatch.models.selection.ranking import WEIGHTS

    ends = _whole(sizes.replace("-", ","), "--sizes", "such as 1-5")
    low, high = (ends[0], ends[-1])
    fewest = min(len(one.models) for one in scores.values())
    if len(ends) > 2 or not 1 <= low <= high:
        raise ValueError(f"--sizes {sizes}: such as 1-5")
    if low > fewest:
        raise ValueError(f"--sizes {sizes}: there are only {fewest} models")
    parts = np.array(_four(weights, "--weights")) if weights else None
    try:
        given = {each: weights_of(np.array(WEIGHTS[each]) if parts is None else parts) for each in scores}
    except ValueError as error:
        raise ValueError(f"--weights {weights}: {error}") from None
    return Settings(
        given,
        k,
        (low, high),
        tuple(_four(reference, "--reference")),
        search=Search(population, generations),
    )


def _check_picture(path: Path | None) -> None:
    if path is not None and path.suffix not in _PICTURES:
        raise ValueError(f"{path}: a picture is .svg, .png or .pdf")
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)  # an error comes before the searches


def _whole(text: str, option: str, example: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{option} {text}: {example}") from None


def _four(text: str, option: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if len(found) != 4 or not all(map(math.isfinite, found)):
        raise ValueError(f"{option} {text}: four numbers, for quality, resources, speed and coverage")
    return found


def _opened(
    data: str, label: str, cache: Path | None, scores: Mapping[int, Scores], console: Console
) -> DataSet:
    """The data set; says which levels and models of the scores have no part in it."""
    from cellwatch.models.detectors.catalog import DETECTORS
    from cellwatch.nodes.runner import home
    from cellwatch.nodes.train_command import open_sets

    sets = open_sets(data, cache or home() / "datasets", label, "", "", console)
    if len(sets) > 1:
        raise ValueError(f"{data} is {len(sets)} data sets: name one: {', '.join(s.name for s in sets)}")
    for level, one in scores.items():
        names = [model for model in one.models if model not in DETECTORS]
        if level not in sets[0].classes:
            console.print(f"level {level}: not measured, {data} has no such level", highlight=False)
        elif len(names) == len(one.models):
            raise ValueError(f"none of the models of level {level} is a detector of Cellwatch")
        elif names:
            said = f"level {level}: not measured, no detectors of Cellwatch: {', '.join(names)}"
            console.print(said, highlight=False)
    return sets[0]


def _duels(
    data: DataSet,
    cache: Path | None,
    scores: Mapping[int, Scores],
    settings: Settings,
    runs: int,
    seed: int,
    workers: int | None,
    console: Console,
) -> dict[int, Duel]:
    """Trains the models of `scores` on the data (what is finished is kept) and lets both fitnesses choose."""
    from cellwatch.models.detectors.catalog import DETECTORS
    from cellwatch.nodes.measured_choice import duel
    from cellwatch.nodes.runner import home
    from cellwatch.nodes.train_command import bar, judge_of, train_models

    place = cache or home() / "datasets"
    found = {}
    for level in (each for each in scores if each in data.classes):
        names = [model for model in scores[level].models if model in DETECTORS]
        trained = train_models(data, place, [level], ",".join(names), "local", workers, seed, console)
        judge, _ = judge_of(data, trained, console)
        with bar(console) as tick:
            found[level] = duel(judge, scores[level], settings, runs, seed, workers, tick)
    return found


# ---------------------------------------------------------------------- what is answered
def choice_json(one: Chosen) -> dict[str, Any]:
    def row(each: Ensemble, *more: str) -> dict[str, Any]:
        return {name: getattr(each, name) for name in ("models", "objectives", *more)}

    return {
        "front": [row(each) for each in one.front],
        "ranked": [row(each, "score") for each in one.ranked],
        "frequent": [row(each, "score", "runs") for each in one.frequent],
        "hypervolume_ratio": one.hypervolume_ratio,
    }


def _sensitivity_json(tables: Mapping[int, Sensitivity]) -> dict[str, Any]:
    from dataclasses import asdict

    return {"levels": {str(level): asdict(one) for level, one in tables.items()}}


def _print(screen: Console, level: int, one: Chosen, beside: list[Compared], runs: int) -> None:
    from rich.table import Table

    ratio = "not known" if one.hypervolume_ratio is None else f"{one.hypervolume_ratio:.6f}"
    screen.print(
        f"[bold]level {level}[/]: {len(one.front)} of {one.subsets:,} ensembles are on the front; "
        f"hypervolume NSGA-II / exact, worst of {runs} runs: {ratio}; {one.whole} runs found the whole front",
        highlight=False,
    )
    objectives = ("quality", "resources", "speed", "coverage")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("", "ensemble", *objectives, "TOPSIS"):
        table.add_column(column)
    for place, each in enumerate(one.ranked[:_SHOWN], 1):
        table.add_row(str(place), *_row(each), f"{each.score:.4f}")
    if len(one.ranked) > _SHOWN:
        table.add_row("", f"and {len(one.ranked) - _SHOWN} more (--json)")
    screen.print(table)
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("most frequent", *objectives, f"runs of {runs}"):
        table.add_column(column)
    for each in one.frequent:
        table.add_row(*_row(each), str(each.runs))
    screen.print(table)
    if beside:
        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("paper", "ensemble", *objectives, "place", "beaten in everything by"):
            table.add_column(column)
        for it in beside:
            beaten = " + ".join(it.beaten_by) or "none: it is on the front"
            table.add_row(it.name, *_row(it), str(it.rank), beaten)
        screen.print(table)
    screen.print()


def _print_duels(screen: Console, duels: Mapping[int, Duel]) -> None:
    from rich.table import Table

    for level, one in duels.items():
        screen.print(
            f"[bold]level {level}[/]: quality (mean of accuracy, F1, MCC) of the best by either fitness",
            highlight=False,
        )
        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in (
            "fitness",
            "ensemble",
            f"validation ({one.rows} rows)",
            *(f"test {t}" for t in one.test),
        ):
            table.add_column(column)
        for i, (name, chosen) in enumerate(
            (("mean of the members", one.by_mean), ("measured", one.measured))
        ):
            figures = (one.validation[i], *(tests[i] for tests in one.test.values()))
            members = " + ".join(chosen.ranked[0].models)
            table.add_row(name, members, *(f"{figure:.4f}" for figure in figures))
        table.add_row("McNemar, p", "", "", *(f"{tests[2]:.3g}" for tests in one.test.values()))
        screen.print(table)


def _row(each: Ensemble | Compared) -> list[str]:
    return [" + ".join(each.models), *(f"{value:.4f}" for value in each.objectives)]


def _print_sensitivity(screen: Console, tables: Mapping[int, Sensitivity]) -> None:
    from rich.table import Table

    for level, one in tables.items():
        methods = [*one.between_weights]
        table = Table("", *methods, title=f"level {level}: best three", title_justify="left", box=None)
        for name, ranked in one.ranked.items():
            table.add_row(name, *(", ".join(ranked[method][:3]) for method in methods))
        screen.print(table)
        for what, taus in (("weights", one.between_weights), ("methods", one.between_methods)):
            table = Table("", *next(iter(taus.values())), box=None)
            table.title, table.title_justify = f"Kendall's tau between {what}", "left"
            for name, pairs in taus.items():
                table.add_row(name, *("" if math.isnan(tau) else f"{tau:.2f}" for tau in pairs.values()))
            screen.print(table)
        screen.print()
