"""`cellwatch ewad train | score | evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from cellwatch.models.datasets.labelled_rows import LabelledRows
    from cellwatch.models.ewad.catalog import Make
    from cellwatch.models.ewad.noise import Noise
    from cellwatch.models.types import I64

app = typer.Typer(
    help="EWAD: an ensemble of Wasserstein GANs that learns what is normal.", no_args_is_help=True
)

Table = Literal["methods", "ablation", "sizes", "noise"]
Label = Annotated[str, typer.Option(help="Column of a table file with the label; without it all is normal.")]
Group = Annotated[str, typer.Option(help="Column of a table file whose rows stay together in one fold.")]
Time = Annotated[str, typer.Option(help="Column of a table file with the time.")]
Cache = Annotated[Path | None, typer.Option(help="Where finished results are kept.")]
Digit = Annotated[int | None, typer.Option(min=0, max=9, help="MNIST: the digit that is normal.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
TOP = 3  # columns named for a row
SHOWN = 20  # rows printed


@app.command()
def train(
    data: Annotated[str, typer.Option(help="sim:factory, sim:bench, secom, mnist, skab, or a table file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the model to write.")],
    label: Label = "",
    time: Time = "",
    digit: Digit = None,
    until: Annotated[
        float, typer.Option(min=0.05, max=1.0, help="Learn from this first part of the rows, in time.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the model.")] = 0,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Learn what is normal; rows that are labelled otherwise are left out. Writes a signed folder."""
    from cellwatch.models.registry.ewad_bundle import check_target
    from cellwatch.models.registry.keys import Keys
    from cellwatch.nodes.cli import err, out, print_json
    from cellwatch.nodes.runner import home

    with _errors():
        check_target(output)
        keys = Keys(home() / "keys")
        with _bar(err) as tick:
            if data.startswith("sim:"):
                from cellwatch.nodes.ewad_cell import train_site

                place = cache or home() / "datasets"
                version = train_site(
                    data.removeprefix("sim:"), output, cache=place, keys=keys, seed=seed, told=tick
                )
                facts: dict[str, Any] = {}
            else:
                rows, _ = _part(_one_digit(_rows(data, label, "", time), digit), 0.0, until)
                version, facts = _train(rows, output, seed, keys, tick)
    size = sum(p.stat().st_size for p in output.iterdir())
    if as_json:
        print_json({"version": version, "bytes": size, **facts})
        return
    out.print(f"{output}: version {version}, {size / 1e6:.2f} MB", highlight=False)
    for name, value in facts.items():
        out.print(f"  {name}: {value}", highlight=False)


@app.command()
def score(
    data: Annotated[str, typer.Option(help="secom, mnist, skab, or a table file.")],
    model: Annotated[Path, typer.Option("--model", help="Folder that `cellwatch ewad train` wrote.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write all rows to this CSV file.")
    ] = None,
    label: Label = "",
    time: Time = "",
    since: Annotated[float, typer.Option(min=0.0, max=0.99, help="Leave out this first part.")] = 0.0,
    as_json: AsJson = False,
) -> None:
    """Score rows: how unusual each is, how often normal rows are as much so, and which columns say it."""
    from cellwatch.models.datasets.tables import listed
    from cellwatch.nodes.cli import err, out, print_json
    from cellwatch.nodes.ewad_bundling import load_bundle
    from cellwatch.nodes.ewad_scores import aligned, check_output, lines, silence, write_csv

    with _errors():
        if output is not None:
            check_output(output)
        loaded = load_bundle(model)
        rows, places = _part(_rows(data, label, "", time), since, 1.0)
        given = aligned(rows, loaded.columns)
        if given.missing:
            said = f"missing in the table: {listed(given.missing)}"
            err.print(said, markup=False, highlight=False, soft_wrap=True)
        judged = loaded.judge(given.x)
        silence(judged, given.empty)
        found = lines(judged, places, loaded.columns, loaded.threshold, TOP)
        if output is not None:
            write_csv(output, found)
    if as_json:
        print_json({"version": loaded.version, "threshold": loaded.threshold, "rows": found})
        return
    from rich.table import Table as Grid

    alarms = sum(line["alarm"] for line in found)
    empty = f", {given.empty.sum()} with everything missing" if given.empty.any() else ""
    out.print(
        f"{len(found)} rows, {alarms} over the threshold {loaded.threshold:.3f}{empty}", highlight=False
    )
    shown = Grid(box=None, padding=(0, 2, 0, 0))
    for column in ("row", "score", "p", "columns"):
        shown.add_column(column)
    scored = [line for line, nothing in zip(found, given.empty, strict=True) if not nothing]
    for line in sorted(scored, key=lambda one: -one["score"])[:SHOWN]:
        said = ", ".join(f"{name} {value:+.1f}" for name, value in line["features"].items())
        shown.add_row(str(line["row"]), f"{line['score']:.3f}", f"{line['p_value']:.2g}", said)
    out.print(shown)


@app.command()
def evaluate(
    data: Annotated[str, typer.Option(help="secom, mnist, skab, or a table file with a label column.")],
    protocol: Annotated[str, typer.Option(help="honest, time, balanced or leaky.")] = "honest",
    table: Annotated[Table, typer.Option(help="What is compared.")] = "methods",
    methods: Annotated[str, typer.Option(help="Rows of the table, separated by commas, or all.")] = "all",
    seeds: Annotated[int, typer.Option(min=1, help="Train each from so many seeds: 0, 1, ...")] = 1,
    sigma: Annotated[str, typer.Option(help="Noise: shares of each column's range.")] = "0.05,0.1,0.2,0.3",
    snr: Annotated[str, typer.Option(help="Noise: signal-to-noise ratios in dB.")] = "6,12,18",
    prequential: Annotated[
        bool, typer.Option("--prequential", help="With time: in blocks, labels come a day late.")
    ] = False,
    rows: Annotated[
        int | None, typer.Option(min=50, help="At most so many rows learnt from, and judged.")
    ] = None,
    folds: Annotated[int | None, typer.Option(min=1, help="The first so many folds alone.")] = None,
    digits: Annotated[str, typer.Option(help="MNIST: digits that are normal in turn.")] = "",
    label: Label = "",
    group: Group = "",
    time: Time = "",
    cache: Cache = None,
    pictures: Annotated[Path | None, typer.Option(help="Draw into this folder.")] = None,
    write: Annotated[
        Path | None, typer.Option(help="Write the table between its marks in this page.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare EWAD with other detectors under a named protocol. What is finished already is kept."""
    from cellwatch.nodes import ewad_tables as tables
    from cellwatch.nodes.cli import err, out, print_json, said
    from cellwatch.nodes.ewad_data import Limits, splits
    from cellwatch.nodes.ewad_pictures import draw
    from cellwatch.nodes.ewad_runs import run
    from cellwatch.nodes.runner import home
    from cellwatch.nodes.text_file import fill

    with _errors():
        chosen = _methods(Path(data).name, protocol, table, methods)
        noises = _noises(sigma, snr) if table == "noise" else []
        limits = Limits(rows, folds, _digits(digits, data))
        opened = _rows(data, label, group, time, labelled=True)
        cut = splits(opened, protocol, limits, prequential=prequential)
        with _bar(err) as tick:
            results = run(
                cut.folds, cut.count, chosen, opened.columns, (cache or home() / "datasets") / "ewad",
                seeds=range(seeds), noises=noises, told=tick,
            )  # fmt: skip
        found = {
            "data": Path(data).name, "about": opened.about, "fingerprint": opened.fingerprint, "table": table,
            "protocol": protocol + (", prequential" if prequential else ""), "split": cut.about,
            "valid": protocol != "leaky", "pooled": cut.pooled, "folds": cut.count,
            "seeds": list(range(seeds)), "limits": limits.said(), "counts": tables.counts(results),
            "rows": tables.noise_rows(results, noises, pooled=cut.pooled) if noises
            else tables.rows(results, pooled=cut.pooled),
            "skipped": tables.skipped(results),
        }  # fmt: skip
        drawn = draw(found, results, pictures) if pictures is not None else []
        if write is not None:
            mark = " ".join([Path(data).name, protocol, *(["prequential"] if prequential else []), table])
            fill(write, mark, tables.markdown(found, said({"--cache", "--pictures", "--write"})))
    if as_json:
        print_json(found | {"pictures": [str(path) for path in drawn]})
        return
    _print(found)
    for path in drawn:
        out.print(str(path), highlight=False)


# ---------------------------------------------------------------------- what they share
@contextmanager
def _errors() -> Iterator[None]:
    from cellwatch.nodes.cli import fail

    try:
        yield
    except (ValueError, OSError) as error:  # also DataError, BundleError
        raise fail(error) from None


@contextmanager
def _bar(console: Any) -> Iterator[Callable[[str, int, int], None]]:
    from cellwatch.nodes.train_command import bar

    with bar(console) as tick:
        yield tick


def _rows(data: str, label: str, group: str, time: str, *, labelled: bool = False) -> LabelledRows:
    from cellwatch.nodes.ewad_data import open_rows

    return open_rows(data, label=label, group=group, time=time, labelled=labelled)


def _one_digit(rows: LabelledRows, digit: int | None) -> LabelledRows:
    """MNIST's training images with one digit as what is normal; other data as it is."""
    from dataclasses import replace

    if rows.name != "mnist":
        if digit is not None:
            raise ValueError("--digit goes with --data mnist")
        return rows
    if digit is None:
        raise ValueError("--data mnist: say which digit is normal: --digit 0..9")
    assert rows.test is not None
    mine = rows.take((rows.label == digit) & ~rows.test)
    return replace(mine, label=mine.label * 0)


def _part(rows: LabelledRows, since: float, until: float) -> tuple[LabelledRows, I64]:
    """A share of the rows, by time where they have it, and where they stood."""
    import numpy as np

    order = np.arange(len(rows)) if rows.time_ns is None else np.argsort(rows.time_ns, kind="stable")
    order = order[int(since * len(order)) : int(until * len(order))]
    if not len(order):
        raise ValueError(f"{rows.name}: no rows in that part of {len(rows)}")
    return rows.take(order), order


def _train(
    rows: LabelledRows, output: Path, seed: int, keys: Any, tick: Callable[[str, int, int], None]
) -> tuple[str, dict[str, Any]]:
    """Train an EWAD on normal rows and write it; version and what can be said of the training."""
    from cellwatch.models.ewad.catalog import settings_for
    from cellwatch.models.ewad.ewad import Ewad
    from cellwatch.nodes.ewad_bundling import save_bundle
    from cellwatch.nodes.trainer import versions

    model = Ewad(settings_for(rows.name), seed).fit(
        rows.x,
        rows.columns,
        labels=rows.label,
        progress=lambda done: tick("training", round(100 * done), 100),
    )
    lineage = {"name": rows.name, "digest": rows.fingerprint, "seed": seed, "versions": versions()}
    version = save_bundle(output, model, lineage=lineage, keys=keys)
    report = model.report
    return version, {
        "rows": report.rows, "outliers": report.outliers, "columns": len(model.columns),
        "threshold": model.threshold, "members": len(report.depths), "diverged": list(report.diverged),
        "restarted": [i for i, n in enumerate(report.attempts) if n > 1],
        "alpha": report.alpha, "beta": report.beta,
    }  # fmt: skip


def _methods(data: str, protocol: str, table: Table, text: str) -> dict[str, Make]:
    from cellwatch.models.ewad import catalog

    every = {"methods": catalog.methods, "ablation": catalog.ablation, "sizes": catalog.sizes}
    there = every.get(table, catalog.methods)(data, protocol)
    if text == "all":
        return there if table != "noise" else {name: there[name] for name in catalog.NOISE}
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in there]
    if unknown:
        raise ValueError(f"no row of {table} is called {unknown[0]!r}; there are: {', '.join(there)}")
    return {name: there[name] for name in names}


def _noises(sigma: str, snr: str) -> list[Noise]:
    from cellwatch.models.ewad.noise import Noise

    sigmas = _numbers("--sigma", sigma)
    if any(v < 0 for v in sigmas):
        raise ValueError(f"--sigma {sigma}: shares of a range, from 0")
    return [Noise("sigma", v) for v in sigmas if v > 0] + [Noise("snr_db", v) for v in _numbers("--snr", snr)]


def _numbers(option: str, text: str) -> list[float]:
    import math

    try:
        found = [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        found = [math.nan]
    if not all(map(math.isfinite, found)):
        raise ValueError(f"{option} {text}: numbers, separated by commas")
    return found


def _digits(text: str, data: str) -> tuple[int, ...]:
    from cellwatch.nodes.ewad_data import DIGITS

    if not text:
        return DIGITS
    if data != "mnist":
        raise ValueError("--digits goes with --data mnist")
    numbers = _numbers("--digits", text)
    found = tuple(int(v) for v in numbers)
    if not numbers or not {*numbers} <= {*DIGITS} or len({*found}) < len(found):
        raise ValueError(f"--digits {text}: 0 to 9, separated by commas")
    return found


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table as Grid

    from cellwatch.nodes.cli import out
    from cellwatch.nodes.ewad_tables import cells, heading

    out.print(heading(found).replace("**", ""), highlight=False)
    titles, lines = cells(found, short=True)
    shown = Grid(box=None, padding=(0, 1, 0, 0))
    for title in titles:
        shown.add_column(title, no_wrap=title != "method")
    for line in lines:
        shown.add_row(*(cell.replace("**", "") for cell in line))
    out.print(shown)
    for one in found["skipped"]:
        out.print(f"not in the table: {one['method']}: {one['why']}", highlight=False)
