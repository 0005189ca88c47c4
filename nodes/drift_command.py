"""`cellwatch drift`: how drift is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cellwatch.nodes.drift_label import label
from cellwatch.nodes.drift_report import report
from cellwatch.nodes.drift_retrain import retrain

if TYPE_CHECKING:
    from rich.console import Console

drift = typer.Typer(no_args_is_help=True, add_completion=False, help="Drift: whether the models still fit.")
drift.command()(label)
drift.command()(report)
drift.command()(retrain)


@drift.callback()
def _drift() -> None:
    pass


@drift.command()
def evaluate(
    stream: Annotated[str, typer.Option(help="Table file, or a published stream: sea, sea_stream, elec2.")],
    label: Annotated[str, typer.Option(help="Column of a table file with the label.")] = "",
    benign: Annotated[
        str,
        typer.Option(help="Label that is benign; without it 0, normal ... all are, else the most frequent."),
    ] = "",
    drifts: Annotated[
        str | None,
        typer.Option(help='Rows with which drifts begin, such as 12500,25000; "" = there is none.'),
    ] = None,
    beside: Annotated[
        bool,
        typer.Option("--beside", help="Also ADWIN, DDM, Page-Hinkley, KSWIN alone, and always learning."),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of learner and KSWIN.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Judge each row, then learn its label; the model stands still until an alarm and is then made anew."""
    from cellwatch.nodes.cli import err, fail, out, print_json
    from cellwatch.nodes.train_command import bar

    try:
        from cellwatch.nodes.drift_evaluation import evaluate as judge
        from cellwatch.nodes.drift_evaluation import open_stream

        opened = open_stream(stream, label=label, benign=benign, drifts=_rows(drifts))
        with bar(err) as tick:
            found = judge(opened, beside=beside, seed=seed, told=tick)
    except (ValueError, OSError) as error:
        raise fail(error) from None
    if found["note"]:
        (err if as_json else out).print(found["note"], highlight=False)
    if as_json:
        print_json(found)
    else:
        _print(out, found)


def _rows(text: str | None) -> list[int] | None:
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise ValueError(f"--drifts {text}: row numbers, separated by commas") from None


def _print(screen: Console, found: dict[str, Any]) -> None:
    from rich.table import Table

    screen.print(
        f"{found['stream']}: {found['samples']:,} rows, benign is {found['benign']!r}, "
        f"accuracy {found['accuracy']:.4f}",
        highlight=False,
    )
    for one in found["details"]:
        begun, why = f"since about row {one['since']:,}", ", ".join(one["reasons"])
        screen.print(
            f"alarm at row {one['alarm']:,}: scenario {one['scenario']}, {begun} ({why})", highlight=False
        )
    known = found["drifts"] is not None
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("", "accuracy", "alarms", *(("rows until found", "false alarms") if known else ())):
        table.add_column(column)
    for name, one in found["methods"].items():
        cells = [name, f"{one['accuracy']:.4f}", str(len(one["alarms"]))]
        if known:
            delays = ", ".join("missed" if delay is None else f"{delay:,}" for delay in one["delays"])
            cells += [delays or "-", str(one["false_alarms"])]
        table.add_row(*cells)
    screen.print(table)
