"""`cellwatch features`: captures and DataSense tables to feature windows, and the choice of features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup


class FileOrCommand(TyperGroup):
    """`features FILE ...` is short for `features extract FILE ...`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["extract", *args]
        return super().parse_args(ctx, args)


features = typer.Typer(
    cls=FileOrCommand,
    no_args_is_help=True,
    add_completion=False,
    help="Turn a capture into a table of feature windows (`features FILE -o TABLE`), or choose features.",
)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@features.command()
def extract(
    file: Annotated[
        Path, typer.Argument(help="pcap, pcapng (.gz too), or a table of DataSense (.csv.tar.xz).")
    ],
    out: Annotated[
        Path, typer.Option("-o", "--output", help="Parquet file to write; with --datasense also .csv.")
    ],
    window: Annotated[float, typer.Option(min=0.1, max=3600.0, help="Window length, s.")] = 1.0,
    datasense: Annotated[
        bool, typer.Option("--datasense", help="DataSense's form: its 94 columns, 0 and [] for nothing.")
    ] = False,
    schema: Annotated[
        str,
        typer.Option(help="Only the columns of a schema: FILE.json from `features select`, or datasense17."),
    ] = "",
    labels: Annotated[
        Path | None,
        typer.Option(help="CSV, adds label1: NUMBER;0|1 for each packet, or start_ns,end_ns,label1 ..."),
    ] = None,
    devices: Annotated[
        Path | None, typer.Option(help="CSV with mac, device_name (and ip): adds the column device_name.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the feature windows of a capture, a row for every device in every window."""
    from rich.table import Table

    from cellwatch.models.features.datasense import TableError
    from cellwatch.nodes import features_file as ff
    from cellwatch.nodes.cli import err, fail, print_json
    from cellwatch.nodes.cli import out as screen
    from cellwatch.nodes.drivers.capture import CaptureError

    if out.suffix != ".parquet" and not (datasense and out.suffix == ".csv"):
        cure = f"name it {out.stem}.parquet (.csv is for --datasense)"
        raise fail(f"{out}: the table is written as parquet: {cure}")
    if datasense and schema:
        raise fail("--datasense has 94 columns of its own: leave out --schema")
    try:
        chosen = ff.read_schema(schema) if schema else None
        if ".csv" in file.suffixes[-3:]:
            rows = ff.convert(file, out, as_datasense=datasense, schema=chosen)
            if as_json:
                print_json({"rows": rows})
            else:
                screen.print(f"{out}: {rows:,} rows", highlight=False)
            return
        names = ff.read_devices(devices) if devices else None
        given = ff.read_labels(labels) if labels else None
        with _progress(file, quiet=as_json) as told:
            done = ff.extract(
                file, out, window, names=names, labels=given, as_datasense=datasense, schema=chosen, told=told
            )
    except (CaptureError, ff.FeatureFileError, TableError, OSError) as error:
        raise fail(error) from None
    if done.damage:
        err.print(f"[yellow]{done.damage}; the windows before it are complete[/]", soft_wrap=True)
    if done.unread:
        err.print(f"[yellow]{done.unread:,} packets skipped: {done.strange}[/]", soft_wrap=True)
    if as_json:
        print_json({k: getattr(done, k) for k in ("packets", "malformed", "windows", "devices", "seconds")})
        return
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    rate = done.packets / max(done.seconds, 1e-9)
    unread = f", {done.unread:,} unread" if done.unread else ""
    table.add_row("packets", f"{done.packets:,} ({done.malformed:,} malformed, {done.late:,} late{unread})")
    marked = "" if done.malicious is None else f", {done.malicious:,} not benign"
    table.add_row("windows", f"{done.windows:,} of {window:g} s{marked}")
    table.add_row("devices", f"{done.devices:,}")
    table.add_row("rows", f"{done.rows:,} in {out}")
    table.add_row("time", f"{done.seconds:.2f} s, {rate:,.0f} packets/s")
    if done.skipped:
        table.add_row("skipped", f"{done.skipped:,} silent windows: the capture's clock jumps")
    if done.unlisted:
        table.add_row("left out", f"{done.unlisted:,} rows of windows with more than 1,024 devices")
    screen.print(table, highlight=False)


@features.command()
def select(
    table: Annotated[Path, typer.Argument(help="Table with a column of labels: .parquet or .csv.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="Schema file (JSON) to write.")],
    labels: Annotated[str, typer.Option(help="Column of the labels.")] = "label1",
    sessions: Annotated[
        str, typer.Option(help="Column that says which rows belong together; without it, stretches of time.")
    ] = "",
    picture: Annotated[Path | None, typer.Option(help="Draw the front (.png, .svg, .pdf).")] = None,
    generations: Annotated[int, typer.Option(min=1, max=1000, help="How long to search.")] = 25,
    seed: Annotated[int, typer.Option(help="Seed of the search and of the folds.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Choose features: quality against their number and their cost (NSGA-II)."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Table

    from cellwatch.models.features import selection
    from cellwatch.nodes import features_select as fs
    from cellwatch.nodes.cli import err, fail, print_json
    from cellwatch.nodes.cli import out as screen

    try:
        x, y, names, groups = fs.read_labelled(table, labels, sessions)
        columns = (
            TextColumn("searching"),
            BarColumn(),
            TextColumn("{task.completed}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=err, transient=True, disable=as_json) as bar:
            task = bar.add_task("", total=generations)
            front = selection.select(
                x, y, names, sessions=groups, generations=generations, seed=seed,
                told=lambda generation: bar.update(task, completed=generation),
            )  # fmt: skip
        fs.write_schema(out, front, table)
        if picture is not None:
            fs.draw(front, picture, table.name)
    except (OSError, ValueError, ModuleNotFoundError) as error:
        raise fail(error) from None
    if as_json:
        print_json(fs.as_dict(front))
        return
    rows = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("", "features", "cost", "macro F1 ± s.e.", "set aside"):
        rows.add_column(name, justify="left" if not name else "right")
    marks = ["chosen" if i == front.chosen else "" for i in range(len(front.candidates))]
    for mark, one in zip([*marks, "all"], [*front.candidates, front.everything], strict=True):
        rows.add_row(
            mark,
            str(len(one.names)),
            f"{one.cost:g}",
            f"{one.quality:.3f} ± {one.error:.3f}",
            f"{one.held_out:.3f}",
        )
    screen.print(rows, highlight=False)
    screen.print(f"{out}: {', '.join(front.choice.names)}", highlight=False, soft_wrap=True)


def _progress(file: Path, *, quiet: bool) -> Any:
    """A bar over the bytes of a big file; counts nothing for a small one."""
    from contextlib import contextmanager

    @contextmanager
    def bar() -> Any:
        size = file.stat().st_size if file.is_file() else 0
        if quiet or size < 20_000_000:
            yield lambda _bytes: None
            return
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        from cellwatch.nodes.cli import err

        columns = (TextColumn(file.name), BarColumn(), DownloadColumn(), TimeRemainingColumn())
        with Progress(*columns, console=err, transient=True) as progress:
            task = progress.add_task("", total=None if file.suffix == ".gz" else size)
            yield lambda read: progress.advance(task, read)

    return bar()
