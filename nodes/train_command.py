"""`cellwatch train`, `cellwatch evaluate`, `cellwatch models`."""

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
    from cellwatch.models.rules.profile import Profile
    from cellwatch.nodes.judging import Judged
    from cellwatch.nodes.trainer import Trained

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

    with _errors():
        check_target(output)
        place = cache or home() / "datasets"
        sets = _open(data, place, label, group, time, err)
        if len(sets) > 1:
            raise ValueError(f"{data} is {len(sets)} data sets: name one: {', '.join(s.name for s in sets)}")
        chosen = training_only(sets[0])
        found = _train(chosen, place, _levels(level, chosen), models, engine, workers, seed, err)
        judge, beside = _judge(chosen, found, err)
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


def evaluate(
    data: Data,
    models_folder: Annotated[
        Path | None, typer.Option("--models", help="Folder of models; without it they are trained first.")
    ] = None,
    level: Level = "1,2,3",
    detectors: Annotated[str, typer.Option(help="Detectors, separated by commas, or all.")] = "all",
    label: Label = "",
    group: Group = "",
    time: Time = "",
    engine: Engine = "local",
    workers: Workers = None,
    seed: Seed = 0,
    test_seed: TestSeed = None,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Judge models, and the ensembles of the paper, on rows that they never saw; check for leaks."""
    from cellwatch.models.datasets.dataset import DataError
    from cellwatch.nodes.cli import err, print_json
    from cellwatch.nodes.cli import out as screen
    from cellwatch.nodes.runner import home

    with _errors():
        place = cache or home() / "datasets"
        try:
            sets = _open(data, place, label, group, time, err, test_seed or 0)
        except DataError as error:
            if "data absent" not in str(error):
                raise
            absent = {"data": data, "status": "data absent", "detail": str(error)}
            print_json(absent) if as_json else screen.print(f"{data}: data absent ({error})", highlight=False)
            return
        results = []
        for one in sets:
            if models_folder is not None:
                results.append((one, _judge_folder(one, models_folder, _levels(level, one), detectors, err)))
                continue
            if not len(one.train):
                raise DataError(
                    f"{one.name}: benign rows only: give --models with a folder of the same columns"
                )
            found = _train(one, place, _levels(level, one), detectors, engine, workers, seed, err)
            results.append((one, _judge(one, found, err)[0].judge()))
    if as_json:
        from dataclasses import asdict

        print_json(
            {
                "data": [
                    {
                        "name": one.name, "about": one.about, "split": one.split,
                        "fingerprint": one.fingerprint,
                        "counts": {"train": len(one.train), "validation": len(one.validation)}
                        | {name: len(part) for name, part in one.tests.items()},
                        **asdict(judged),
                    }
                    for one, judged in results
                ]
            }
        )  # fmt: skip
        return
    for one, judged in results:
        _print(screen, one, judged)


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

    with _errors():
        rows = table(_read(folder), folder) if folder is not None else _known()
    if as_json:
        print_json(rows)
        return
    from rich.table import Table

    columns = ("site", "name", "level", "accuracy", "f1", "mcc", "size_mb", "served", "version")
    shown = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        shown.add_column(column)
    for row in rows:
        shown.add_row(*(_cell(row.get(column)) for column in columns))
    screen.print(shown)
    for row in rows:
        if "why" in row:
            screen.print(f"{row['site']}: {row['why']}", style="red", highlight=False)


def add_to(app: typer.Typer) -> None:
    """Add the three commands."""
    for command in (train, evaluate, models):
        app.command()(command)


# ---------------------------------------------------------------------- what they share
@contextmanager
def _errors() -> Iterator[None]:
    from cellwatch.models.registry.bundle import BundleError
    from cellwatch.nodes.cli import fail
    from cellwatch.nodes.trainer import TrainingError

    try:
        yield
    except (BundleError, TrainingError, ValueError, OSError) as error:
        raise fail(error) from None


def _open(
    spec: str, cache: Path, label: str, group: str, time: str, console: Console, test_seed: int = 0
) -> list[DataSet]:
    from cellwatch.nodes.data_sources import open_data

    with bar(console) as tick:
        return open_data(
            spec, cache, label=label, group=group, time=time, test_seed=test_seed,
            told=lambda done, of: tick("simulating", done, of),
        )  # fmt: skip


def _levels(text: str, data: DataSet) -> list[int]:
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


def _names(text: str) -> list[str]:
    from cellwatch.models.detectors.catalog import DETECTORS

    if text == "all":
        return list(DETECTORS)
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in DETECTORS]
    if unknown:
        raise ValueError(f"no detector is called {unknown[0]!r}; there are: {', '.join(DETECTORS)}")
    return names


def _train(
    data: DataSet,
    cache: Path,
    levels: Sequence[int],
    names: str,
    engine: str,
    workers: int | None,
    seed: int,
    console: Console,
) -> list[Trained]:
    from cellwatch.nodes.trainer import job_list, train

    jobs = list(job_list(_names(names), levels))
    with bar(console) as tick:
        found = train(
            data, jobs, cache / "trained", seed=seed, engine=engine, workers=workers,
            told=tick,
        )  # fmt: skip
    order = {name: i for i, name in enumerate(_names("all"))}
    return sorted(found, key=lambda one: (one.level, order[one.detector]))


def _judge(data: DataSet, found: list[Trained], console: Console) -> Any:
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


def _judge_folder(data: DataSet, folder: Path, levels: Sequence[int], names: str, console: Console) -> Judged:
    """Judge the models of a bundle."""
    from cellwatch.nodes.bundling import trained_of
    from cellwatch.nodes.judging import Judge
    from cellwatch.nodes.trainer import data_digest, schema_of

    held = _read(folder)
    if held.manifest.schema_id != schema_of(data).schema_id:
        raise ValueError(
            f"{folder}: its models have schema {held.manifest.schema_id}, {data.name} has other columns"
        )
    found, scaler = trained_of(held)
    wanted = _names(names)
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
        return Judge(cut, found, scaler, _profile(held, data), strange=strange).judge()


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
        for level, names in data.classes.items():
            place = {name: i for i, name in enumerate(classes[level])}
            index = np.array([place.get(name, -1) for name in names], dtype=np.int64)
            y[level] = index[one.y[level]]
        return replace(one, y=y)

    return replace(
        data,
        classes=classes,
        train=part(data.train),
        validation=part(data.validation),
        tests={name: part(one) for name, one in data.tests.items()},
    )


def _read(folder: Path) -> Bundle:
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


def _print(screen: Console, data: DataSet, judged: Judged) -> None:
    from rich.table import Table

    screen.print(f"{data.name}: {data.about}; split: {data.split}", highlight=False)
    for one in judged.checks:
        mark = {True: "[green]✓[/]", False: "[yellow]![/]", None: "?"}[one["ok"]]
        screen.print(f"{mark} {one['test']}, {one['name']}: {one['detail']}", highlight=False)
    columns = {
        "test": "test",
        "level": "level",
        "name": "name",
        "accuracy": "acc",
        "precision_macro": "prec",
        "recall_macro": "rec",
        "f1_macro": "F1",
        "f1_weighted": "F1 w",
        "mcc": "MCC",
    }
    shown = Table(box=None, padding=(0, 2, 0, 0))
    for title in columns.values():
        shown.add_column(title, no_wrap=True)
    for row in judged.rows:
        if "accuracy" in row:
            shown.add_row(*(_cell(row[column]) for column in columns))
    screen.print(shown)
    for row in judged.rows:
        if "false_alarm_rate" in row:
            screen.print(
                f"{row['test']}, L{row['level']} {row['name']}: {100 * row['false_alarm_rate']:.3f} % of "
                f"{row['rows']} benign rows called, "
                f"{row['false_alarms_per_device_hour']:.2f} a device and hour",
                highlight=False,
            )


def _cell(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else "" if value is None else str(value)
