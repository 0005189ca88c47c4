"""`cellwatch train`, `cellwatch models`, and what other commands need to train."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from cellwatch.models.datasets.dataset import DataSet
    from cellwatch.models.registry.bundle import Bundle
    from cellwatch.nodes.own_detector import OwnKind
    from cellwatch.nodes.trainer import Failed, Trained

Data = Annotated[str, typer.Option(help="sim:factory, sim:bench, a published data set, or a table file.")]
Label = Annotated[str, typer.Option(help="Column of a table file that holds the label.")]
Group = Annotated[str, typer.Option(help="Column of a table file whose rows stay together in one split.")]
Time = Annotated[str, typer.Option(help="Column of a table file with the time.")]
Level = Annotated[str, typer.Option(help="Levels, such as 1 or 1,2,3.")]
Models = Annotated[str, typer.Option(help="Detectors, separated by commas, or all.")]
Cache = Annotated[Path | None, typer.Option(help="Where data and finished models are kept.")]
Engine = Annotated[str, typer.Option(help="local, dask://HOST:PORT or ray://HOST:PORT.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Models at a time on this machine.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the models.")]
TestSeed = Annotated[
    int | None,
    typer.Option(min=1, help="Test a simulated site on new sessions, drawn with this seed and played now."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SHIPPED = Path(str(resources.files("cellwatch"))) / "config" / "models"


def train(
    data: Data,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the models to write.")],
    level: Level = "1,2,3",
    models: Models = "all",
    label: Label = "",
    group: Group = "",
    time: Time = "",
    engine: Engine = "local",
    workers: Workers = None,
    seed: Seed = 0,
    serve_all: Annotated[
        bool, typer.Option("--serve-all", help="A cell serves every model, not the best ensemble alone.")
    ] = False,
    packed: Annotated[
        bool, typer.Option("--packed", help="One archive, unsigned: for models shipped with a release.")
    ] = False,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Train detectors; what is finished already is kept. Splits are by session and time, never at random."""
    from cellwatch.models.registry.bundle import check_target, write
    from cellwatch.models.registry.keys import Keys
    from cellwatch.nodes.bundling import bundle
    from cellwatch.nodes.cli import err, print_json
    from cellwatch.nodes.cli import out as screen
    from cellwatch.nodes.data_sources import training_only
    from cellwatch.nodes.runner import home

    with errors():
        check_target(output)
        place = cache or home() / "datasets"
        sets = open_sets(data, place, label, group, time, err)
        if len(sets) > 1:
            raise ValueError(f"{data} is {len(sets)} data sets: name one: {', '.join(s.name for s in sets)}")
        chosen = training_only(sets[0])
        found = train_models(chosen, place, levels_in(level, chosen), models, engine, workers, seed, err)
        judge, beside = judge_of(chosen, found, err)
        manifest, files = bundle(chosen, found, judge, seed=seed, serve_all=serve_all, beside=beside)
        keys = None if packed else Keys(home() / "keys")
        version = write(output, manifest, files, keys, packed=packed)
    size = sum(p.stat().st_size for p in output.iterdir())
    if as_json:
        print_json({"version": version, "models": len(found), "bytes": size, "serve": manifest.serve})
    else:
        screen.print(
            f"{output}: {len(found)} models, {size / 1e6:.2f} MB, version {version}", highlight=False
        )


def models(
    folder: Annotated[
        Path | None,
        typer.Option("--models", help="Folder of models; without it those of the release and the registry."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the models with their figures on validation data."""
    from cellwatch.nodes.bundling import table
    from cellwatch.nodes.cli import out as screen
    from cellwatch.nodes.cli import print_json

    with errors():
        rows = table(read_bundle(folder), folder) if folder is not None else _known()
    if as_json:
        print_json(rows)
        return
    from rich.table import Table

    columns = ("site", "name", "level", "accuracy", "f1", "mcc", "size_mb", "served", "version")
    shown = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        shown.add_column(column)
    for row in rows:
        shown.add_row(*(cell(row.get(column)) for column in columns))
    screen.print(shown)
    for row in rows:
        if "why" in row:
            screen.print(f"{row['site']}: {row['why']}", style="red", highlight=False)


def add_to(app: typer.Typer) -> None:
    """Add both commands."""
    for command in (train, models):
        app.command()(command)


# ---------------------------------------------------------------------- what they share
@contextmanager
def errors() -> Iterator[None]:
    from cellwatch.models.registry.bundle import BundleError
    from cellwatch.nodes.cli import fail
    from cellwatch.nodes.trainer import TrainingError

    try:
        yield
    except (BundleError, TrainingError, ValueError, OSError) as error:
        raise fail(error) from None


def open_sets(
    spec: str,
    cache: Path,
    label: str,
    group: str,
    time: str,
    console: Console,
    test_seed: int = 0,
    device: str = "",
) -> list[DataSet]:
    from cellwatch.nodes.data_sources import open_data

    with bar(console) as tick:
        return open_data(
            spec, cache, label=label, group=group, time=time, device=device, test_seed=test_seed,
            told=lambda done, of: tick("simulating", done, of),
        )  # fmt: skip


def levels_in(text: str, data: DataSet) -> list[int]:
    try:
        wanted = sorted({int(part) for part in text.split(",")})
    except ValueError:
        raise ValueError(f"--level {text}: such as 1 or 1,2,3") from None
    if not {*wanted} <= {1, 2, 3}:
        raise ValueError(f"--level {text}: levels are 1, 2 and 3")
    there = [level for level in wanted if level in data.classes]
    if not there:
        raise ValueError(f"{data.name} has no level {text}: it has {', '.join(map(str, data.classes))}")
    return there


def names_in(text: str) -> list[str]:
    from cellwatch.models.detectors.catalog import DETECTORS

    if text == "all":
        return list(DETECTORS)
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in DETECTORS]
    if unknown:
        raise ValueError(f"no detector is called {unknown[0]!r}; there are: {', '.join(DETECTORS)}")
    return names


def train_models(
    data: DataSet,
    cache: Path,
    levels: Sequence[int],
    names: str,
    engine: str,
    workers: int | None,
    seed: int,
    console: Console,
    *,
    own: Sequence[OwnKind] = (),
    failed: list[Failed] | None = None,
) -> list[Trained]:
    """Train detectors of the catalog and `own`, with a bar; what fails is put into `failed`, if given."""
    from cellwatch.nodes.trainer import job_list, train

    wanted = [*(names_in(names) if names else []), *(one.NAME for one in own)]
    if len({*wanted}) < len(wanted):
        raise ValueError(f"two detectors have one name: {', '.join(wanted)}")
    with bar(console) as tick:
        found = train(
            data, list(job_list(wanted, levels)), cache / "trained", seed=seed, engine=engine,
            workers=workers, told=tick, own=own, failed=failed,
        )  # fmt: skip
    order = {name: i for i, name in enumerate(dict.fromkeys([*names_in("all"), *wanted]))}
    return sorted(found, key=lambda one: (one.level, order[one.detector]))


def judge_of(data: DataSet, found: list[Trained], console: Console) -> Any:
    """The judge of freshly trained models, and what lies beside them in the bundle of a site."""
    from cellwatch.models.rules.profile import Profile
    from cellwatch.nodes.judging import Judge
    from cellwatch.nodes.trainer import scaler_of

    beside: dict[str, bytes] = {}
    profile = None
    site = str(data.facts.get("site", ""))
    with console.status("judging"):
        if site:
            beside = _beside(site, Path(str(data.facts["folder"])))
            profile = Profile.parse(beside["profile.json"].decode(), "profile.json")
        return Judge(data.only({one.level for one in found}), found, scaler_of(data), profile), beside


def _beside(site: str, folder: Path) -> dict[str, bytes]:
    """Tag baseline and profile of a simulated site; the profile is made at first use by these rules."""
    from cellwatch.nodes.simulated import profile
    from cellwatch.nodes.sources import code_digest, write_whole

    path = folder / f"profile-{code_digest('models/rules')}.json"
    if not path.is_file():
        write_whole(path, profile(site, folder).encode())
    return {"baseline.json": (folder / "baseline.json").read_bytes(), "profile.json": path.read_bytes()}


def read_bundle(folder: Path) -> Bundle:
    from cellwatch.models.registry.bundle import read
    from cellwatch.models.registry.keys import Keys
    from cellwatch.nodes.runner import home

    return read(folder, Keys(home() / "keys"))


def _known() -> list[dict[str, Any]]:
    """Rows of the bundles of the release and of what the registries serve; one that is refused says why."""
    from cellwatch.models.registry.bundle import BundleError, read
    from cellwatch.models.registry.keys import Keys
    from cellwatch.models.registry.registry import Registry
    from cellwatch.nodes.bundling import table
    from cellwatch.nodes.runner import home

    keys = Keys(home() / "keys")
    found: list[dict[str, Any]] = []

    def add(site: str, rows: Callable[[], list[dict[str, Any]]]) -> None:
        try:
            found.extend(rows())
        except BundleError as error:
            found.append({"site": site, "name": "refused", "why": str(error)})

    def served(registry: Registry) -> list[dict[str, Any]]:
        current = registry.current
        return table(registry.load(current), registry.path(current)) if current else []

    for manifest in sorted(SHIPPED.glob("*/manifest.json")):
        folder = manifest.parent
        add(folder.name, lambda folder=folder: table(read(folder, keys), folder))  # type: ignore[misc]
    for folder in sorted(p for p in (home() / "models").glob("*") if p.is_dir()):
        add(folder.name, lambda folder=folder: served(Registry(folder, keys)))  # type: ignore[misc]
    return found


@contextmanager
def bar(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar that appears with the first news."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", visible=False)

        def tick(text: str, done: int, of: int) -> None:
            bar.update(task, description=text, completed=done, total=of, visible=True)

        yield tick


def cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)
