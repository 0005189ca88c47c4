"""`cellwatch stress`: how much load a cell stands."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_PICTURES = {".svg", ".png", ".pdf"}
_MOST = 10_000.0  # times the recorded rate


def stress(
    data: Annotated[str, typer.Option(help="sim:factory or sim:bench: whose recorded windows are played.")],
    rates: Annotated[str, typer.Option(help="Times the recorded rate.")] = "1,2,5,10",
    seconds: Annotated[
        float, typer.Option(help="Seconds of each rate; a slow one takes the five windows it needs.")
    ] = 20.0,
    cache: Annotated[Path | None, typer.Option(help="Where data is kept.")] = None,
    picture: Annotated[Path | None, typer.Option(help="Draw it: FILE.svg or FILE.png.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Play recorded windows through a real cell at rising rates, until it is saturated."""
    from cellwatch.nodes.cli import err, fail, out, print_json
    from cellwatch.nodes.train_command import bar

    try:
        wanted = _rates(rates)
        _check(seconds, picture)
        from cellwatch.nodes.runner import home
        from cellwatch.nodes.stress import stress as measure

        with bar(err) as tick:
            found = measure(data, wanted, seconds, cache or home() / "datasets", err, tick)
        if picture is not None and found["rates"]:
            from cellwatch.nodes.stress_picture import draw

            draw(found, picture)
    except ImportError as error:
        raise fail(f"{error.name} is not installed: see cellwatch doctor") from None
    except (ValueError, OSError, RuntimeError) as error:
        raise fail(error) from None
    if as_json:
        print_json(found)
    else:
        _print(out, found)
    if found.get("stopped"):
        raise typer.Exit(130)


def _rates(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--rates {text}: numbers, separated by commas") from None
    for rate in found:
        if not (math.isfinite(rate) and 0 < rate <= _MOST):
            raise ValueError(f"--rates {text}: each above 0, at most {_MOST:g}")
    return sorted({*found})


def _check(seconds: float, picture: Path | None) -> None:
    if not 0 < seconds <= 3600:
        raise ValueError(f"--seconds {seconds:g}: use more than 0, at most 3600")
    if picture is not None and picture.suffix not in _PICTURES:
        raise ValueError(f"--picture {picture}: use one of {', '.join(sorted(_PICTURES))}")
    if picture is not None:
        picture.parent.mkdir(parents=True, exist_ok=True)  # an error comes before the measuring


def _print(screen: Console, found: dict[str, Any]) -> None:
    rows = found["rates"]
    if not rows:
        screen.print("stopped before a rate was measured")
        return
    for table in (_flow_table(rows), _decision_table(rows), _node_table(rows)):
        screen.print(table)
    screen.print(_words(found), highlight=False)


def _words(found: dict[str, Any]) -> str:
    def said(rate: float) -> str:
        per_s = rate / found["window_s"]
        return f"{rate:g}x: {per_s:.3g} windows/s, {per_s * found['devices']:.0f} samples/s"

    good, bad = found["saturation"]["holds"], found["saturation"]["fails"]
    lines = [f"holds {said(good)}"] if good is not None else []
    if bad is not None:
        lines.append(f"saturated at {said(bad)}")
    lines += ["stopped"] if found.get("stopped") else []
    return "\n".join(lines)


def _table(*columns: str) -> Table:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _number(value: float, digits: int = 0) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "–"


def _flow_table(rows: list[dict[str, Any]]) -> Table:
    table = _table(
        "rate", "samples/s", "through %", "late", "lost", "median ms", "p99 ms", "cores", "MB"
    )  # fmt: skip
    for row in rows:
        table.add_row(
            f"{row['rate']:g}x",
            _number(row["offered"]["samples_s"], 1),
            _number(100 * row["throughput"]["share"], 1),
            str(row["late"]),
            str(row["lost"]),
            _number(row["latency_ms"]["median"]),
            _number(row["latency_ms"]["p99"]),
            _number(row["all"]["cpu"], 2),
            _number(row["all"]["uss_mb"]),
            style=None if row["holds"] else "yellow",
        )
    return table


def _decision_table(rows: list[dict[str, Any]]) -> Table:
    """False alarms and misses under load and, after the stroke, of the same windows without."""
    table = _table("rate", "false %", "missed %", "same %", "drift", "alarms", "watched %", "labels")
    for row in rows:
        loaded, calm, drift = row["decisions"], row["unhurried"], row["drift"]
        table.add_row(
            f"{row['rate']:g}x",
            *(
                f"{_number(100 * loaded[key], 2)} / {_number(100 * calm[key], 2)}"
                for key in ("false_alarms", "misses")
            ),
            _number(100 * loaded["same"], 2),
            (drift["state"] or "silent").lower(),
            str(drift["alarms"]),
            _number(100 * drift["windows"] / row["windows"], 1),
            str(drift["labels_joined"]),
        )
    return table


def _node_table(rows: list[dict[str, Any]]) -> Table:
    names = [*rows[0]["nodes"], "all", "player"]
    table = _table("cores", *(f"{row['rate']:g}x" for row in rows), "MB")
    table.columns[0].justify = "left"
    for name in names:
        each = [row["nodes"].get(name) or row[name] for row in rows]
        table.add_row(
            name.removesuffix("_node"),
            *(f"{one['cpu']:.2f}" for one in each),
            f"{max(one['uss_mb'] for one in each):.0f}",
        )
    return table
