"""A stress test: recorded windows through the real nodes of a cell at rising rates, until it is saturated.

DeepSense, section 5.5.6. The nodes are those of `cellwatch run`, over DDS, with drift monitoring; only the
sources, for which a player stands in, and what trains models are left out.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import psutil

from cellwatch.models.evaluation.stress import Flow, decisions, flow, highest, next_rate
from cellwatch.models.types import I64, U8
from cellwatch.nodes.cell import Artifacts, NodeSpec
from cellwatch.nodes.config import CellConfig, ConfigError
from cellwatch.nodes.model_sets import for_cell
from cellwatch.nodes.runner import CONFIG, CellRun, RunOptions, home
from cellwatch.nodes.start import checked
from cellwatch.nodes.stress_player import Player
from cellwatch.nodes.stress_recording import CELLS, Recording, open_recording

if TYPE_CHECKING:
    from rich.console import Console

    from cellwatch.models.registry.model_set import ModelSet

SOURCES = {"opcua_client_node", "network_tap_node", "feature_node"}
LEARNERS = {"retrain_node"}  # models of the site must not come from a replay
MANAGER = "cell_manager_node"  # runs in the process of the command, as in `cellwatch run`
LEAST_WINDOWS = 5  # of a rate: a slow one takes longer than was asked for
TELL_S = 1.2  # every node tells its counters once a second
REST_S = 20.0  # at most, between two rates
USS_EVERY = 8  # samples
TOLD = ("windows", "unpaired", "labels_joined", "alarms")  # counters of the drift node
Tick = Callable[[str, int, int], None]


class Stopped(Exception):  # noqa: N818 - no error
    """The user has ended the test."""


class StressCell(CellRun):
    """The nodes of a cell without plant, sources and retraining."""

    LEFT_OUT: ClassVar[set[str]] = SOURCES | LEARNERS

    def _start_plant(self) -> None:
        pass

    def specs(self, files: Artifacts) -> list[NodeSpec]:
        return [spec for spec in super().specs(files) if spec.executable not in self.LEFT_OUT]

    def look(self) -> None:
        """Bring back what fell. Stopped after Ctrl-C."""
        self.watch()
        if self.stopping.is_set():
            raise Stopped

    def rest(self) -> None:
        """Until every node has told its counters and they stand still; `REST_S` at most.

        The drift node loads what watches the loss with the first labels, and is silent until it has.
        """
        told, since, until = self.counters(), time.monotonic(), time.monotonic() + REST_S
        while time.monotonic() < until:
            self._wait(TELL_S)
            self.look()
            if all(node.heard_s > since for node in self.manager.nodes.values()):
                before, told, since = told, self.counters(), time.monotonic()
                if told == before:
                    return

    def counters(self) -> dict[str, int]:
        """Of the drift node, and how often nodes were started again."""
        nodes = self.manager.nodes
        restarts = sum(node.restarts for node in nodes.values())
        return {key: nodes["drift_node"].total(key) for key in TOLD} | {"restarts": restarts}


class Meter:
    """CPU and memory of processes, from now to the last `sample`; a pid of 0 stays without figures."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._samples = 0
        self._processes = {name: psutil.Process(pid) for name, pid in pids.items() if pid}
        self._rss = dict.fromkeys(pids, 0)
        self._uss = dict.fromkeys(pids, 0)
        self._cpu = dict.fromkeys(pids, 0.0)
        self._from = {name: self._seconds(name) for name in self._processes}
        self._begun = time.monotonic()

    def _seconds(self, name: str) -> float:
        user, system, *_ = self._processes[name].cpu_times()
        return float(user + system)

    def sample(self) -> None:
        """A process that has ended keeps its last figures."""
        passed = max(time.monotonic() - self._begun, 1e-3)
        whole = self._samples % USS_EVERY == 0  # it takes milliseconds
        self._samples += 1
        for name, process in self._processes.items():
            with contextlib.suppress(psutil.Error):
                self._rss[name] = max(self._rss[name], process.memory_info().rss)
                if whole:
                    self._uss[name] = max(self._uss[name], process.memory_full_info().uss)
                self._cpu[name] = (self._seconds(name) - self._from[name]) / passed

    def figures(self) -> dict[str, dict[str, float]]:
        """For each name `cpu` (mean, share of one core), `rss_mb` and `uss_mb` (most, 1e6 bytes)."""
        return {
            name: {"cpu": self._cpu[name], "rss_mb": self._rss[name] / 1e6, "uss_mb": self._uss[name] / 1e6}
            for name in self._cpu
        }


class StressTest:
    """One launched cell and its player; `rate` measures one rate after the other."""

    def __init__(self, run: StressCell, recording: Recording, seconds: float, tick: Tick) -> None:
        self._run, self._recording, self._seconds, self._tick = run, recording, seconds, tick
        self._calm: U8 | None = None
        self.player = Player(recording, run.namespace)

    def begin(self) -> dict[str, Any]:
        """What is decided without load: the whole recording, each window after the verdict on the one before.

        ConfigError if not every window is judged even so.
        """
        self.player.await_ready(self._run.look)
        count = len(self._recording.first)
        self._tick(f"{count} windows without hurry", 0, 1)
        self.player.play(LEAST_WINDOWS, 0.0, self._run.look)  # they wait for what is loaded late
        play, place = self.player.play(count, 0.0, self._run.look)
        if not play.whole.all():
            raise ConfigError(
                f"{int((~play.whole).sum())} of {count} windows were not judged by all even without hurry; "
                f"see {self._run.run_folder}"
            )
        self._calm = play.decision
        self._run.rest()
        return {"windows": count, "decisions": self._decisions(play.decision, place)}

    def rate(self, rate: float) -> dict[str, Any]:
        """Play at `rate` times the recorded rate: figures as `docs/stress.md` names them."""
        assert self._calm is not None
        run, window_s = self._run, self._recording.window_ns / 1e9
        count = max(LEAST_WINDOWS, math.ceil(self._seconds * rate / window_s))
        lasts = math.ceil(count * window_s / rate)
        before = run.counters()
        assert run.table is not None
        nodes = {p.name: p.pid for p in run.table.processes} | {MANAGER: os.getpid()}
        meter, begun = Meter(nodes | {"player": self.player.pid}), time.monotonic()

        def meanwhile() -> None:
            run.look()
            meter.sample()
            self._tick(f"{rate:g}x", min(int(time.monotonic() - begun), lasts), lasts)

        play, place = self.player.play(count, window_s / rate, meanwhile)
        run.rest()
        found, d = flow(play), len(self._recording.devices)
        figures = meter.figures()
        player = figures.pop("player")
        whole = {key: sum(one[key] for one in figures.values()) for key in player}
        after = run.counters()
        told = {key: after[key] - before[key] for key in after}
        state = run.ledger.drift.state.name if run.ledger.drift else None
        return {
            "rate": rate,
            "seconds": count * window_s / rate,
            **_flow_json(found, d),
            "holds": found.holds,
            "decisions": self._decisions(play.decision, place),
            "unhurried": self._decisions(self._calm[place], place),
            "nodes": figures,
            "all": whole,
            "player": player,
            "restarts": told.pop("restarts"),
            "drift": {"state": state, **told},
        }

    def _decisions(self, decision: U8, place: I64) -> dict[str, Any]:
        assert self._calm is not None
        return asdict(
            decisions(decision, self._calm[place], self._recording.y[place] > 0, self._recording.clear[place])
        )


def _flow_json(found: Flow, devices: int) -> dict[str, Any]:
    return {
        "windows": found.windows,
        "offered": {"windows_s": found.offered, "samples_s": found.offered * devices},
        "throughput": {
            "windows_s": found.throughput,
            "samples_s": found.throughput * devices,
            "share": found.share,
        },
        "latency_ms": {"median": 1e3 * found.median_s, "p99": 1e3 * found.p99_s},
        "late": found.late,
        "lost": found.lost,
    }


def stress(
    spec: str, rates: Sequence[float], seconds: float, cache: Path, console: Console, tick: Tick
) -> dict[str, Any]:
    """Measure the rates, then look for the point of saturation. ConfigError, DataError or RuntimeError.

    After Ctrl-C what was measured until then, `stopped`.
    """
    recording = open_recording(spec, cache, lambda done, of: tick(f"playing {spec}", done, of))
    cell, models = cell_for(spec, recording, console)
    run = StressCell(
        cell,
        RunOptions(),
        lambda text: console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True),
    )
    measured: dict[float, dict[str, Any]] = {}
    held: dict[float, bool] = {}
    result = {
        "data": spec,
        "models": models.bundle.version,
        "window_s": recording.window_ns / 1e9,
        "devices": len(recording.devices),
        "cores": os.cpu_count(),
    }
    before = {s: signal.signal(s, lambda *_: run.stopping.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    test = None
    try:
        tick("starting the cell", 0, 1)
        run.prepare()
        run.launch(run.artifacts(models))
        run.look()
        test = StressTest(run, recording, seconds, tick)
        result["unhurried"] = test.begin()
        while (rate := next_rate(rates, held)) is not None:
            measured[rate] = test.rate(rate)
            held[rate] = measured[rate]["holds"]
    except Stopped:
        result["stopped"] = True
    finally:
        tick("shutting down", 0, 1)
        if test is not None:
            test.player.close()
        run.shutdown()
        for signum, handler in before.items():
            signal.signal(signum, handler)
    failed = [rate for rate, well in held.items() if not well]
    saturation = {"holds": highest(held), "fails": min(failed, default=None)}
    return result | {"rates": [measured[rate] for rate in sorted(measured)], "saturation": saturation}


def cell_for(spec: str, recording: Recording, console: Console) -> tuple[CellConfig, ModelSet]:
    """The shipped cell of the site, under a name and in a folder of its own. ConfigError without models."""
    cell = checked(CONFIG / "cells" / f"{CELLS[spec]}.yaml", None, RunOptions())
    cell = replace(cell, cell=f"{cell.cell}-stress", drift=replace(cell.drift, truth=True))
    if round(cell.window_s * 1e9) != recording.window_ns:
        raise ConfigError(
            f"{spec}: its windows are of {recording.window_ns / 1e9:g} s, the cell's of {cell.window_s:g} s"
        )
    models = for_cell(cell, home(), CONFIG / "models", console)
    if models is None:
        raise ConfigError(f"no models of this release judge {spec}: cellwatch train --data {spec}")
    return cell, models
