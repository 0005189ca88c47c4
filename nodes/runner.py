"""`cellwatch run`: the plant, every node, the manager, and the report at the end."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cellwatch.models.types import FeatureWindow, Incident
from cellwatch.nodes.cell import (
    ARMED_FILE,
    DASHBOARD,
    Artifacts,
    NodeSpec,
    namespace,
    node_table,
    write_params,
)
from cellwatch.nodes.config import CellConfig, ConfigError
from cellwatch.nodes.model_sets import ewad_for_cell, site_of
from cellwatch.nodes.plant import Plant
from cellwatch.nodes.processes import Process, ProcessTable
from cellwatch.plc_sim.network.hosts import devices_of
from cellwatch.plc_sim.sites import SITES

if TYPE_CHECKING:
    from cellwatch.models.registry.model_set import ModelSet
    from cellwatch.nodes.cell_manager_node import CellManagerNode, HostedManager

START_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 10.0
PAGE_TIMEOUT_S = 3.0
KEPT_RUNS = 20
LEARNING_WINDOWS = 40
MIN_WINDOW_S = 0.1
LABELS_AT_ONCE = 10  # well below the depth of the topic
NETWORK_COMMISSION_S = 10.0
TAP = "network_tap_node"
DRIFT_COUNTERS = ("windows", "labels_joined", "labels_expired", "labels_held_back", "alarms")
CONFIG = Path(str(resources.files("cellwatch"))) / "config"


def home() -> Path:
    """Where Cellwatch keeps its models, records and logs: $CELLWATCH_HOME, else the XDG state folder."""
    if "CELLWATCH_HOME" in os.environ:
        return Path(os.environ["CELLWATCH_HOME"])
    return Path(os.environ.get("XDG_STATE_HOME", "~/.local/state")).expanduser() / "cellwatch"


def users_file() -> Path:
    """Who may use the pages of all cells."""
    return home() / "users.json"


@dataclass(frozen=True)
class RunOptions:
    """What the command line says."""

    duration_s: float | None = None  # None: until Ctrl-C, or the end of a replay
    arm: bool = False
    seed: int = 0
    speed: float = 1.0
    capture: str = ""
    dashboard: bool = False  # serve the operator's page


class CellRun:
    """One run of a cell. `say` gets one line for each piece of news."""

    def __init__(self, cell: CellConfig, options: RunOptions, say: Callable[[str], None]) -> None:
        self.cell = cell
        self.options = options
        self.say = say
        self.folder = home() / "cells" / cell.cell
        self.run_folder = self.folder / "runs" / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self.plant: Plant | None = None
        self.table: ProcessTable | None = None
        self.stopping = threading.Event()
        self._host: HostedManager | None = None
        self.commissioning_s = 0.0
        self.network_s = 0.0
        self.hear: Callable[[FeatureWindow], None] | None = None  # gets every window
        self.learns_first = False  # the scenario waits until the quiet plant is learnt
        self._told: dict[str, bool] = {}

    @property
    def site(self) -> str:
        """Whose EWAD is served here: the simulated site, or a real cell."""
        return self.cell.cell if self.cell.plant == "none" else site_of(self.cell.plant.partition(":")[2])

    @property
    def manager(self) -> CellManagerNode:
        """The manager; only after `launch`."""
        if self._host is None:
            raise RuntimeError("the cell is not launched")
        return self._host.node

    # Up ------------------------------------------------------------------------
    def prepare(self) -> None:
        """Folder, lock, plant: everything that can fail by a user's mistake, before a node is started."""
        self.run_folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"cell {self.cell.cell} is running already; stop it, or set CELLWATCH_HOME"
            ) from None
        (self.folder / ARMED_FILE).unlink(missing_ok=True)  # what was switched in an earlier run
        for old in sorted((self.folder / "runs").iterdir())[:-KEPT_RUNS]:
            shutil.rmtree(old, ignore_errors=True)
        if self.cell.plant != "none":
            self._start_plant()
        if self.options.capture:
            tap = replace(self.cell.tap, source=self.options.capture, speed=self.options.speed)
            # What the simulated plant tells of attacks is not in this traffic.
            self.cell = replace(self.cell, tap=tap, drift=replace(self.cell.drift, truth=False))

    def _start_plant(self) -> None:
        kind, _, what = self.cell.plant.partition(":")
        arguments = ["--seed", str(self.options.seed), "--labels", str(self.run_folder / "labels.json")]
        arguments += ["--cert-dir", str(self.folder / "certificates")]
        if kind == "replay":
            self.plant = Plant([*arguments, "--replay", what, "--speed", str(self.options.speed)])
            self.plant.start()
            self._adopt(self.plant.ready())
            # However fast the file is played, the learning period holds enough windows to learn from.
            fits = max(self.commissioning_s / LEARNING_WINDOWS, MIN_WINDOW_S)
            self.cell = replace(self.cell, window_s=min(self.cell.window_s, fits))
            return
        # The nodes start while the plant does, so what they need of it is settled here.
        site = SITES[site_of(what)]
        port = _free_port()
        arguments += ["--scenario", what or "demo", "--port", str(port)]
        if not self.options.capture:
            fifo = self.run_folder / "packets.fifo"
            os.mkfifo(fifo)
            arguments += ["--fifo", str(fifo)]
            self.cell = replace(self.cell, tap=replace(self.cell.tap, source=str(fifo)))
        self.plant = Plant(arguments)
        self.plant.start()
        self.plant.incidents = []  # it announces those that its scenario has
        first = site.plcs[0]
        if [p.name for p in self.cell.plcs] == [first]:
            endpoints = {first: f"opc.tcp://127.0.0.1:{port}/cellwatch/"}
            self._adopt({"endpoints": endpoints, "devices": devices_of(site)})
        else:  # the other servers take a free port themselves
            self._adopt(self.plant.ready())

    def _adopt(self, ready: dict[str, Any]) -> None:
        """Endpoints, devices and learning period as the plant says."""
        endpoints = ready["endpoints"]
        strangers = [p.name for p in self.cell.plcs if p.name not in endpoints]
        if strangers:  # else a simulated incident could act on a real PLC
            raise ConfigError(
                f"plcs: {strangers[0]} is not in this plant ({', '.join(endpoints)}); rename or remove it"
            )
        plcs = [replace(p, endpoint=endpoints[p.name]) for p in self.cell.plcs]
        self.cell = replace(self.cell, plcs=plcs, devices=self.cell.devices | ready.get("devices", {}))
        self.commissioning_s = float(ready.get("commission_s", 0.0))

    def artifacts(self, models: ModelSet | None) -> Artifacts:
        """Files for the nodes: those of the models, or the cell's own that commissioning will write."""
        files = Artifacts(
            self.folder, keys=str(home() / "keys"), cache=str(home() / "datasets"), users=str(users_file())
        )
        if not self.options.capture:  # EWAD knows the cell's own traffic, not this one
            files = replace(files, ewad=ewad_for_cell(self.cell, home(), CONFIG / "ewad", self.say))
        if models is not None:
            files = replace(
                files,
                models=str(models.folder),
                fallback=str(models.path),
                version=models.bundle.version,
                surroundings=models.bundle.manifest.surroundings(),
                baseline_file=self._unpacked(models, "baseline.json"),
                profile_file=self._unpacked(models, "profile.json"),
                fit_file=self._unpacked(models, "fusion.json"),
                weights=models.bundle.manifest.fusion_weights(),
            )
            if self.options.capture:
                # The ensemble knows the simulated traffic, not this one: it abstains, the rules learn it.
                self.network_s = NETWORK_COMMISSION_S
                traffic = str(self.run_folder / "profile.traffic.json")
                files = replace(files, models="", fallback="", fit_file="", weights={}, traffic_file=traffic)
            if files.baseline_file and files.profile_file:
                return files
        own = self.folder if self.plant is None else self.run_folder
        files = replace(
            files, baseline_file=str(own / "baseline.json"), profile_file=str(own / "profile.json")
        )
        learnt = [Path(files.baseline_file), Path(files.profile_file)]
        if not self.commissioning_s and not all(p.exists() for p in learnt):
            for lone in learnt:  # one without the other cannot judge
                lone.unlink(missing_ok=True)
            self.commissioning_s = self.cell.commission_s
            self.learns_first = self.plant is not None
        return files

    def _unpacked(self, models: ModelSet, name: str) -> str:
        """Path of one file of a bundle, as it was checked, "" if it has none of this name."""
        if name not in models.bundle.files:
            return ""
        path = self.run_folder / name
        path.write_bytes(models.bundle.files[name])
        return str(path)

    def specs(self, files: Artifacts) -> list[NodeSpec]:
        """The nodes that `launch` starts."""
        return node_table(
            self.cell,
            files,
            armed=self.options.arm,
            commissioning_s=self.commissioning_s,
            network_s=self.network_s,
            dashboard=self.options.dashboard,
        )

    def launch(self, files: Artifacts) -> None:
        """Start the processes and bring the nodes up. ConfigError with the node's own words if one cannot."""
        from cellwatch.nodes.cell_manager_node import HostedManager
        from cellwatch.nodes.report import Ledger

        os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        os.environ.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", str(CONFIG / "dds" / "fastdds.xml"))
        self.namespace = namespace(self.cell)
        specs = self.specs(files)
        self.table = ProcessTable([self._process(spec) for spec in specs], self.say, self._restarted)
        self.table.order()
        self.ledger = Ledger(window_s=self.cell.window_s, hear=self.hear)
        self._host = HostedManager(self.namespace, [s.name for s in specs], self.ledger)
        if self.options.capture and Path(self.options.capture).is_file():
            self.manager.held.add(TAP)  # the file begins with the run
        self.table.collect()
        if self.plant is not None:
            self.plant.ready()
        self._await_up()
        self._await_links()

    def page(self) -> str:
        """Where the operator's page is, or why it is not; "" without one. Waits a little for it."""
        node = self.manager.nodes.get(DASHBOARD)
        deadline = time.monotonic() + PAGE_TIMEOUT_S
        while node is not None and not (node.state == "active" and node.counters):
            if node.refusal or time.monotonic() > deadline or self.stopping.is_set():
                return f"not served: {node.refusal or 'it has not come up yet'}"
            self.watch()
            time.sleep(0.02)
        return node.message if node is not None else ""

    def _await_links(self) -> None:
        """A link that cannot connect at the start is a mistake to mend; later it is an outage to sit out."""
        links = [n for name, n in self.manager.nodes.items() if name.startswith("opcua_client_node")]
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        while not all(n.healthy for n in links) and not self.stopping.is_set():
            self.watch()
            if time.monotonic() > deadline:
                raise ConfigError(next(n.message for n in links if not n.healthy))
            time.sleep(0.02)

    def _await_up(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.manager.up:
            if self.stopping.is_set():
                return
            self.watch()
            assert self.table is not None
            for process in self.table.processes:
                if process.name in self.manager.optional:
                    continue
                refusal = self.manager.nodes[process.name].refusal
                if refusal:
                    raise ConfigError(f"{process.name}: {refusal}")
                if len(process.died_at) >= 3:
                    raise ConfigError(f"{process.name} does not start: {process.last_words()}")
            if time.monotonic() > deadline:
                waiting = {n.name: n.state for n in self.manager.nodes.values() if n.state != "active"}
                raise ConfigError(
                    f"not active within {START_TIMEOUT_S:.0f} s: {waiting}; see {self.run_folder}"
                )
            time.sleep(0.02)

    def _process(self, spec: NodeSpec) -> Process:
        params = write_params(spec, self.namespace, self.run_folder)
        arguments = [
            "--ros-args",
            "-r",
            f"__node:={spec.name}",
            "-r",
            f"__ns:={self.namespace}",
            "--params-file",
            str(params),
        ]
        return Process(
            spec.name, f"cellwatch.nodes.{spec.executable}", arguments, self.run_folder / f"{spec.name}.log"
        )

    def _restarted(self, name: str) -> None:
        if self._host is not None:
            self.manager.restarted(name)

    # Run -----------------------------------------------------------------------
    def run(self, tick: Callable[[float], None]) -> None:
        """Until the duration is over, the plant ends or `stopping` is set; `tick` gets the seconds."""
        self.manager.held.clear()
        if self.learns_first:
            self.say(f"learning the plant for {self.commissioning_s:.0f} s, then the scenario begins")
            self._wait(self.commissioning_s + self.cell.window_s)
        self.ledger.start_ns = time.time_ns()
        if self.plant is not None:
            self.plant.begin()
        last_words = None
        while not self.stopping.wait(0.05):
            elapsed = (time.time_ns() - self.ledger.start_ns) / 1e9
            self.watch()
            tick(elapsed)
            if self.options.duration_s is not None and elapsed >= self.options.duration_s:
                break
            if self.plant is not None and self.plant.ended:
                # The last window closes after the last sample.
                last_words = last_words or time.monotonic() + 2 * self.cell.window_s + 1.0
                if time.monotonic() > last_words:
                    break
        self.end_ns = time.time_ns()
        self.node_states = {
            n.name: {"state": n.state, "restarts": n.restarts} for n in self.manager.nodes.values()
        }

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.stopping.wait(0.05):
            self.watch()

    def watch(self) -> None:
        """Hear the plant, and bring back nodes that fell."""
        if self.plant is not None:
            self.plant.poll()
            for _ in range(min(len(self.plant.labels), LABELS_AT_ONCE) if self._host else 0):
                self.manager.publish_label(self.plant.labels.popleft())
            if self.plant.died and not self.stopping.is_set():
                if self._host is None or not self.ledger.start_ns:
                    raise ConfigError(f"the plant stopped: {self.plant.died}")
                self.say(f"the plant stopped: {self.plant.died}; the run ends here")
                self.stopping.set()
        if self.table is not None:
            self.table.watch()
        if self._host is not None:
            for node in self.manager.nodes.values() if self.ledger.start_ns else ():
                if node.warns != self._told.get(node.name, False):
                    self._told[node.name] = node.warns
                    if node.warns:
                        self.say(f"{node.name}: {node.message}")

    # Down ----------------------------------------------------------------------
    def shutdown(self) -> None:
        """Sources first, so that what is on its way is still heard; then the plant."""
        if self._host is not None and self.table is not None:
            self.manager.wanted = False
            for process in reversed(self.table.processes):
                self.manager.take_down(process.name)
            time.sleep(0.2)  # last diagnostics
        if self.table is not None:
            self.table.stop()
        if self.plant is not None:
            self.plant.stop()
        if self._host is not None:
            self._host.close()
        if hasattr(self, "_lock"):
            self._lock.close()

    # Report --------------------------------------------------------------------
    def report(self) -> dict[str, Any]:
        """The report of the run; None stands for what cannot be known."""
        incidents: list[Incident] | None = None
        if self.plant is not None and self.plant.incidents is not None:
            # With a capture the simulated attacks are not in the traffic.
            seen = [i for i in self.plant.incidents if i.kind == "fault" or not self.options.capture]
            incidents = [i for i in seen if i.onset_ns < self.end_ns]
        start = self.ledger.start_ns
        nodes = self.manager.nodes
        export, drift = nodes["influx_export_node"], nodes["drift_node"]
        safe = self.plant.safe_state_ns if self.plant else None
        body = self.ledger.report(end_ns=self.end_ns, incidents=incidents)
        return {
            "duration_s": body.pop("duration_s"),
            "nodes": self.node_states,
            **body,
            "export": {
                "written": export.total("written"),
                "pending": int(export.counters.get("pending", 0)),
                "lost": export.total("lost"),
            },
            "drift": {
                **body["drift"],
                **{key: drift.total(key) for key in DRIFT_COUNTERS},
            },
            "plant": {
                "safe_state_reached_at": round((safe - start) / 1e9, 3) if safe and safe >= start else None,
                "writes": self.plant.writes if self.plant else None,
            },
            "seed": self.options.seed,
        }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
