"""From the options of `cellwatch run` to a report: check, run, shut down."""

from __future__ import annotations

import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellwatch.nodes.config import CellConfig, ConfigError, DashboardConfig, load
from cellwatch.nodes.model_sets import for_cell
from cellwatch.nodes.plant import PlantError
from cellwatch.nodes.runner import CONFIG, CellRun, RunOptions, home, users_file
from cellwatch.nodes.warm import ensure_compiled
from cellwatch.plc_sim.seeds import TRAINING_FIRST

if TYPE_CHECKING:
    from rich.console import Console

    from cellwatch.models.registry.model_set import ModelSet


class RunError(Exception):
    """The run could not be made; the text says why and what to do."""


def start(
    config: Path, options: RunOptions, *, plant: str | None, influx: str, console: Console
) -> dict[str, Any]:
    """Run a cell and return its report. RunError with one line on any mistake of the user's."""
    try:
        return _run(checked(config, plant, options, influx), options, console)
    except (ConfigError, PlantError, RuntimeError) as error:
        raise RunError(str(error)) from None


def checked(config: Path, plant: str | None, options: RunOptions, influx: str = "") -> CellConfig:
    """The cell file with the options laid over it, checked. ConfigError names what is wrong and the cure."""
    cell = _adapt(load(config), plant, influx)
    _check(cell, options)
    return cell


def models_for(cell: CellConfig, console: Console) -> ModelSet | None:
    """What the ensemble serves, None if nothing fits; the packet parser is compiled first."""
    ensure_compiled(home(), console)
    return for_cell(cell, home(), CONFIG / "models", console)


def _adapt(cell: CellConfig, plant: str | None, influx: str) -> CellConfig:
    if plant is not None:
        cell = replace(cell, plant=plant)
        if plant.startswith("replay:"):
            # A recorded plant has other tags and nothing to write to.
            tags = str(Path(__file__).resolve().parent.parent / "config" / "tags" / "replay.yaml")
            cell = replace(
                cell, cell=f"{cell.cell}-replay", response=[], plcs=[replace(cell.plcs[0], tag_map=tags)]
            )
    return replace(cell, record=replace(cell.record, influx=influx)) if influx else cell


def _check(cell: CellConfig, options: RunOptions) -> None:
    kind, _, what = cell.plant.partition(":")
    if kind not in {"sim", "replay", "none"} or (kind == "replay" and not what):
        raise ConfigError(f"plant '{cell.plant}': use sim, sim:SCENARIO, replay:FILE or none")
    if kind == "replay" and not Path(what).is_file():
        raise ConfigError(f"{what}: no such file to replay")
    if kind == "replay" and options.speed <= 0:
        raise ConfigError(f"--speed {options.speed}: a replay needs a speed above 0")
    if kind == "none" and not all(p.endpoint for p in cell.plcs):
        raise ConfigError(
            f"cell {cell.cell}: plcs: a real cell needs an endpoint for each PLC, or use --plant sim"
        )
    if kind == "none" and cell.drift.truth:
        raise ConfigError(
            f"cell {cell.cell}: drift: truth: only a simulated or replayed plant knows it; "
            "labels of a real one come by the service submit_label"
        )
    if not 0 <= options.seed < TRAINING_FIRST:
        raise ConfigError(
            f"--seed {options.seed}: use 0 to {TRAINING_FIRST - 1}; the others are kept for training"
        )
    if options.capture:
        from cellwatch.nodes.drivers.capture import CaptureError, open_source

        try:
            open_source(options.capture).close()
        except CaptureError as error:
            raise ConfigError(str(error)) from None
    if options.dashboard and cell.dashboard.enabled:
        _check_page(cell.dashboard)
    if cell.record.influx:
        from cellwatch.nodes.drivers.influx_forward import parse_url

        try:
            parse_url(cell.record.influx)
        except ValueError as error:
            raise ConfigError(str(error)) from None


def _check_page(page: DashboardConfig) -> None:
    """Nothing but loopback without users, and nothing with a file of users that cannot be read."""
    from cellwatch.nodes.page.address import is_loopback
    from cellwatch.nodes.page.users import UsersError, UsersFile

    file = UsersFile(users_file())
    try:
        users = file.load()
    except UsersError as error:
        raise ConfigError(str(error)) from None
    if users or (is_loopback(page.host) and not file.exists()):
        return
    why = f"{file.path} has nobody in it" if file.exists() else f"{page.host} is open to other machines"
    raise ConfigError(
        f"dashboard: {why}: `cellwatch users add NAME --role engineer` makes a user, "
        "--no-dashboard goes without the page"
    )


def _run(cell: CellConfig, options: RunOptions, console: Console) -> dict[str, Any]:
    models = models_for(cell, console)
    begun = time.monotonic()
    run = CellRun(
        cell,
        options,
        lambda text: console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True),
    )
    before = {s: signal.signal(s, lambda *_: run.stopping.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        with console.status("starting the cell"):
            run.prepare()
            run.launch(run.artifacts(models))
        if page := run.page():
            console.print(f"page: {page}", highlight=False, markup=False, soft_wrap=True)
        active = sum(node.state == "active" for node in run.manager.nodes.values())
        console.print(
            f"cell [bold]{cell.cell}[/] runs: {active} nodes active "
            f"after {time.monotonic() - begun:.1f} s; Ctrl-C ends it",
            highlight=False,
        )
        _watch(run, options, console)
    finally:
        with console.status("shutting down"):
            run.shutdown()
        for signum, handler in before.items():
            signal.signal(signum, handler)
    console.print(f"record, audit log and node logs: {run.folder}", highlight=False, soft_wrap=True)
    return run.report()


def _watch(run: CellRun, options: RunOptions, console: Console) -> None:
    from rich.live import Live

    from cellwatch.nodes.console import live

    if not console.is_terminal:
        told: dict[str, str] = {}

        def tell(elapsed: float) -> None:
            for name, (decision, _, why) in list(run.ledger.devices.items()):
                if decision != told.get(name, "ALLOW"):
                    told[name] = decision
                    text = why or f"{name}: ALLOW"
                    console.print(f"{elapsed:6.1f} s  {text}", highlight=False, markup=False, soft_wrap=True)

        run.run(tell)
        return
    with Live(console=console, refresh_per_second=4, transient=True) as view:
        run.run(lambda elapsed: view.update(live(run.ledger, elapsed, options.duration_s, options.arm)))
