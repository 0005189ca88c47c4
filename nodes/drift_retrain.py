"""`cellwatch drift retrain`: make a candidate version of the models by hand."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellwatch.nodes.moments import moment_ns

if TYPE_CHECKING:
    from rich.console import Console

FIGURES = {
    "errors": "errors",
    "fpr": "false alarm rate",
    "fnr": "miss rate",
    "loss": "log loss",
    "mcc": "MCC",
    "alarms": "false alarms",
}


def retrain(
    store: Annotated[
        Path, typer.Option(help="Samples of a cell (CELL/samples), or a table of windows with label1.")
    ],
    scenario: Annotated[str, typer.Option(help="A: false alarms. B: misses.")],
    since: Annotated[
        str, typer.Option(help="Onset of the drift: 2026-03-01T12:00 (UTC), or 20min ago as 20min.")
    ] = "",
    where: Annotated[
        str, typer.Option("--registry", help="A site (bench, factory), or the folder of a registry.")
    ] = "bench",
    replay: Annotated[str, typer.Option(help="Table or folder that the models learnt from.")] = "",
    label: Annotated[str, typer.Option(help="Label column of the table of --replay.")] = "",
    level: Annotated[str, typer.Option(help="Levels that may be trained, such as 1 or 1,2,3.")] = "1,2,3",
    cores: Annotated[int, typer.Option(min=1, help="Cores that it may take.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the models.")] = 0,
    cache: Annotated[Path | None, typer.Option(help="Where data and finished models are kept.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a candidate from labelled windows since a drift began, and judge it on those held out.

    It is put into the registry and not into service. Exit code 1: it does not pass its gate.
    """
    from cellwatch.nodes.cli import err, fail, out, print_json
    from cellwatch.nodes.runner import home
    from cellwatch.nodes.train_command import SHIPPED, bar

    folder = Path(where) if "/" in where else home() / "models" / where
    shipped = SHIPPED / where
    try:
        order = {
            "registry": str(folder), "keys": str(home() / "keys"), "store": str(store),
            "scenario": _scenario(scenario),
            "fallback": str(shipped) if shipped.is_dir() else "", "cache": str(cache or home() / "datasets"),
            "since_ns": moment_ns(since, time.time_ns(), "--since") if since else 0, "replay": replay,
            "label": label, "cores": cores, "seed": seed, "levels": _levels(level), "idle": False,
        }  # fmt: skip
        with bar(err) as tick:
            said = _run(order, tick)
    except (ValueError, OSError) as error:
        raise fail(error) from None
    if "version" not in said:
        raise fail(said["error"])
    if as_json:
        print_json(said)
    else:
        _print(out, said, where)
    if not said["passed"]:
        raise typer.Exit(1)


def _scenario(text: str) -> str:
    """ValueError if it is none."""
    if text not in ("A", "B"):
        raise ValueError(f"--scenario {text}: A or B")
    return text


def _levels(text: str) -> list[int]:
    """ValueError if these are no levels."""
    if not {*text.split(",")} <= {"1", "2", "3"}:
        raise ValueError(f"--level {text}: such as 1 or 1,2,3")
    return sorted({int(part) for part in text.split(",")})


def _run(order: dict[str, Any], tick: Callable[[str, int, int], None]) -> dict[str, Any]:
    """The last line of the process; Ctrl-C ends it."""
    from cellwatch.nodes.retrain_process import RetrainProcess

    with tempfile.TemporaryDirectory() as place:
        process = RetrainProcess(order, Path(place) / "log")
        process.start()
        last: dict[str, Any] = {}
        try:
            while True:
                running = process.running
                for line in process.poll():
                    if "stage" in line:
                        tick(f"{line['stage']} {line['about']}".strip(), line["step"], line["steps"] or 1)
                    else:
                        last = line
                if not running:
                    return last or {"error": f"it ended without a word: {process.last_words()}"}
                time.sleep(0.05)
        finally:
            process.cancel()
            while process.running:
                time.sleep(0.05)


def _print(screen: Console, said: dict[str, Any], where: str) -> None:
    from rich.table import Table

    before, after = said["before"], said["after"]
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("held out", f"parent {said['parent']}", f"candidate {said['version']}"):
        table.add_column(column)
    for name, words in FIGURES.items():
        table.add_row(words, *(_figure(one[name]) for one in (before, after)))
    screen.print(table)
    screen.print(
        f"{said['made']}, judged by {before['samples']:,} samples, {before['benign']:,} of them benign",
        highlight=False,
    )
    for why in said["why"]:
        screen.print(f"does not pass: {why}", style="red", highlight=False, soft_wrap=True)
    if said["passed"]:
        screen.print(
            f"serve it with: cellwatch registry promote {said['version']} --registry {where}",
            highlight=False, soft_wrap=True,
        )  # fmt: skip


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if isinstance(value, float) else f"{value:,}"
