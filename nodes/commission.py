"""Learning a profile: from a running cell in its commissioning period, or from a table of windows."""

from __future__ import annotations

import shutil
import signal
from collections import deque
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.tags import TAG_COLUMNS
from cellwatch.models.rules.profile import Profile
from cellwatch.models.rules.profile_builder import MIN_WINDOWS, ProfileBuilder, least_windows
from cellwatch.nodes.config import ConfigError, EwadConfig
from cellwatch.nodes.drivers.whole_file import write_whole
from cellwatch.nodes.window_table import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rich.console import Console

    from cellwatch.models.types import FeatureWindow
    from cellwatch.nodes.config import CellConfig
    from cellwatch.nodes.runner import CellRun

KEPT_WINDOWS = 10_000  # the last ones, for the training of EWAD
TAIL_WINDOWS = 5  # after the period: the first window that is judged makes the profile be written


def commission_table(data: Path, since: float, until: float, margin: float) -> Profile:
    """Learn from the benign windows of a share of a table's time. ValueError says why it cannot."""
    table = read(data).part(since, until)
    if table.attack is not None:
        if table.attack.all():
            raise ValueError(f"{data}: every window is labelled as an attack: nothing to learn from")
        table = table.where(~table.attack)
    builder = ProfileBuilder(default_schema().names, TAG_COLUMNS, margin)
    for window in table.windows():
        builder.add(window)
    return builder.build()


def commission_cell(
    config: Path, minutes: float, plant: str | None, margin: float, out: Path, console: Console
) -> Profile:
    """Run a cell in its commissioning period and take the profile that it learns.

    The baseline of its tags, without which the profile says nothing about the process, is written beside
    `out`, and an EWAD of the same windows beside that. A real cell (plant none) keeps all three and judges by
    them from now on; what it had learned before stays until the new ones are whole. ValueError, or
    RuntimeError of the runner, says what is in the way.
    """
    from cellwatch.nodes.runner import CellRun, RunOptions, home
    from cellwatch.nodes.start import checked
    from cellwatch.nodes.warm import ensure_compiled

    cell = checked(config, plant, RunOptions())
    cell = _quiet(
        replace(
            cell,
            rules=replace(cell.rules, margin=margin),
            ewad=EwadConfig(),  # the one that is to be replaced
            record=replace(cell.record, influx=""),
        )
    )
    if minutes * 60 < MIN_WINDOWS * cell.window_s:
        least = MIN_WINDOWS * cell.window_s / 60
        raise ConfigError(
            f"--minutes {minutes:g}: windows of {cell.window_s:g} s need {least:g} minutes at least"
        )
    ensure_compiled(home(), console)
    options = RunOptions(duration_s=minutes * 60 + TAIL_WINDOWS * cell.window_s)
    run = CellRun(
        cell, options, lambda text: console.print(text, style="yellow", markup=False, soft_wrap=True)
    )
    before = {s: signal.signal(s, lambda *_: run.stopping.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    windows: deque[FeatureWindow] = deque(maxlen=KEPT_WINDOWS)
    try:
        profile = _learn(run, minutes * 60, out, console, windows.append)
    finally:
        with console.status("shutting down"):
            run.shutdown()
        for signum, handler in before.items():
            signal.signal(signum, handler)
    _train_ewad(run, windows, out, console)
    return profile


def _train_ewad(run: CellRun, windows: Iterable[FeatureWindow], out: Path, console: Console) -> None:
    """Beside `out`, and where a real cell looks for it; why there is none is said."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from cellwatch.models.registry.keys import Keys
    from cellwatch.nodes.ewad_cell import train_commissioned
    from cellwatch.nodes.runner import home

    places = [out.parent / f"{out.stem}.ewad"]
    if run.plant is None:
        places.append(run.folder / "ewad")
    benign = [w for w in windows if w.commissioning]
    columns = (TextColumn("training EWAD"), BarColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("", total=1.0)
            train_commissioned(
                benign, places, site=run.site, keys=Keys(home() / "keys"),
                progress=lambda share: bar.update(task, completed=share),
            )  # fmt: skip
    except Exception as error:  # the profile is learnt and in use: this stands beside it
        text = f"no EWAD was trained: {' '.join(str(error).split()) or type(error).__name__}"
        former = run.folder / "ewad"
        if run.plant is None and former.exists():  # it knows the former baseline
            shutil.rmtree(run.folder / "ewad.former", ignore_errors=True)
            former.rename(run.folder / "ewad.former")
            text += "; the former one is out of service"
        console.print(text, style="yellow", markup=False, soft_wrap=True)


def _learn(
    run: CellRun,
    seconds: float,
    out: Path,
    console: Console,
    hear: Callable[[FeatureWindow], None] | None = None,
) -> Profile:
    """`hear` gets every window, also those after the period."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    with console.status("starting the cell"):
        run.prepare()
        run.commissioning_s = seconds
        files = run.artifacts(None)
        kept = [Path(files.baseline_file), Path(files.profile_file)]
        learned = [run.run_folder / f"learned.{path.name}" for path in kept]
        run.hear = hear
        run.launch(replace(files, baseline_file=str(learned[0]), profile_file=str(learned[1]), ewad=""))

    def tick(elapsed: float) -> None:
        bar.update(task, completed=elapsed)
        if all(path.is_file() for path in learned):
            run.stopping.set()

    columns = (TextColumn("learning what is normal"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=seconds)
        run.run(tick)
    if not all(path.is_file() for path in learned):
        why = f"stopped before the {seconds:g} s of the commissioning were over"
        if bar.tasks[0].completed >= seconds:
            why = f"{run.manager.nodes['rule_node'].message}; see {run.run_folder}"
        raise RuntimeError(f"no profile was learned: {why}")
    profile = Profile.parse(learned[1].read_text(encoding="utf-8"), str(learned[1]))
    if profile.windows < least_windows(round(seconds / run.cell.window_s)):
        raise RuntimeError(f"commissioning was interrupted: only {profile.windows} windows were learned")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out.parent / f"{out.stem}.baseline.json", learned[0].read_text(encoding="utf-8"))
    for new, old in zip(learned, kept, strict=True):
        new.replace(old)
    return profile


def _quiet(cell: CellConfig) -> CellConfig:
    """The cell on a plant in which nothing goes wrong. ConfigError when its scenario says otherwise."""
    from cellwatch.plc_sim.scenario import ScenarioError, load

    kind, _, what = cell.plant.partition(":")
    if kind == "replay":
        raise ConfigError(f"plant '{cell.plant}': a recording may hold incidents; use sim:SCENARIO or none")
    if kind != "sim":
        return cell
    try:
        incidents = load(what).incidents if what else ()
    except ScenarioError as error:
        raise ConfigError(str(error)) from None
    if incidents:
        raise ConfigError(
            f"scenario '{what}' has incidents, and what goes wrong must not be learned as normal: "
            "use sim:quiet or another one without"
        )
    return cell if what else replace(cell, plant="sim:quiet")
