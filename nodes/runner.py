"""`cellwatch run`: the plant, every node, the manager, and the report at the end."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cellwatch.models.types import Incident
from cellwatch.nodes.cell import Artifacts, NodeSpec, node_table, write_params
from cellwatch.nodes.config import CellConfig, ConfigError
from cellwatch.nodes.plant import Plant

START_TIMEOUT_S = 60.0
CONNECT_TIMEOUT_S = 10.0
KEPT_RUNS = 20
LEARNING_WINDOWS = 40
MIN_WINDOW_S = 0.1


def home() -> Path:
    """Where Cellwatch keeps its models, records and logs: $CELLWATCH_HOME, else the XDG state folder."""
    if "CELLWATCH_HOME" in os.environ:
        return Path(os.environ["CELLWATCH_HOME"])
    return Path(os.environ.get("XDG_STATE_HOME", "~/.local/state")).expanduser() / "cellwatch"


@dataclass(frozen=True)
class RunOptions:
    """What the command line says."""

    duration_s: float | None = None  # None: until Ctrl-C, or the end of a replay
    arm: bool = False
    seed: int = 0
    speed: float = 1.0
    capture: str = ""


@dataclass
class Process:
    """One node's process."""

    spec: NodeSpec
    command: list[str]
    log: Path
    popen: subprocess.Popen[bytes] | None = None
    died_at: list[float] = field(default_factory=list)


class CellRun:
    """One run of a cell. `say` gets one line for each piece of news."""

    def __init__(self, cell: CellConfig, options: RunOptions, say: Callable[[str], None]) -> None:
        self.cell = cell
        self.options = options
        self.say = say
        self.folder = home() / "cells" / cell.cell
        self.run_folder = self.folder / "runs" / time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        self.plant: Plant | None = None
        self.processes: list[Process] = []
        self.stopping = threading.Event()
        self.ready: dict[str, Any] = {}
        self.commissioning_s = 0.0

    # Up ------------------------------------------------------------------------
    def prepare(self) -> None:
        """Folder, lock, plant: everything that can fail by a user's mistake, before a node is started."""
        self.run_folder.mkdir(parents=True, exist_ok=True)
        self._lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"cell {self.cell.cell} is running already; stop it, or set CELLWATCH_HOME") from None
        for old in sorted((self.folder / "runs").iterdir())[:-KEPT_RUNS]:
            shutil.rmtree(old, ignore_errors=True)
        if self.cell.plant != "none":
            self._start_plant()
        if self.options.capture:
            tap = replace(self.cell.tap, source=self.options.capture, speed=self.options.speed)
            self.cell = replace(self.cell, tap=tap)

    def _start_plant(self) -> None:
        kind, _, what = self.cell.plant.partition(":")
        arguments = ["--seed", str(self.options.seed), "--labels", str(self.run_folder / "labels.json")]
        arguments += ["--cert-dir", str(self.folder / "certificates")]
        if kind == "replay":
            arguments += ["--replay", what, "--speed", str(self.options.speed)]
        else:
            arguments += ["--scenario", what or "demo"]
            if not self.options.capture:
                arguments += ["--fifo", str(self.run_folder / "packets.fifo")]
        self.plant = Plant(arguments)
        self.plant.start()
        self.ready = self.plant.ready()
        endpoints = self.ready["endpoints"]
        plcs = [replace(p, endpoint=endpoints.get(p.name, p.endpoint)) for p in self.cell.plcs]
        self.cell = replace(self.cell, plcs=plcs, devices=self.cell.devices | self.ready.get("devices", {}))
        if kind == "sim" and not self.options.capture:
            self.cell = replace(self.cell, tap=replace(self.cell.tap, source=str(self.run_folder / "packets.fifo")))
        self.commissioning_s = float(self.ready.get("commission_s", 0.0))
        if kind == "replay":
            # However fast the file is played, the learning period holds enough windows to learn from.
            fits = max(self.commissioning_s / LEARNING_WINDOWS, MIN_WINDOW_S)
            self.cell = replace(self.cell, window_s=min(self.cell.window_s, fits))

    def artifacts(self, trained: Path | None) -> Artifacts:
        """Files for the nodes: a trained folder, or the cell's own profile that commissioning will write."""
        if trained is not None:
            weights = json.loads((trained / "manifest.json").read_text())["weights"]
            return Artifacts(
                self.folder, str(trained), str(trained / "baseline.json"), str(trained / "profile.json"), weights
            )
        own = self.folder if self.plant is None else self.run_folder
        files = Artifacts(self.folder, "", str(own / "baseline.json"), str(own / "profile.json"))
        if self.plant is None and not Path(files.profile_file).exists():
            self.commissioning_s = self.cell.commission_s
        return files

    def launch(self, files: Artifacts) -> None:
        """Start the processes and bring the nodes up. ConfigError with the node's own words if one cannot."""
        import rclpy

        from cellwatch.nodes.cell_manager_node import CellManagerNode
        from cellwatch.nodes.report import Ledger
        from cellwatch.nodes.ros.node import make_executor, spin

        os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        self.namespace = f"/{self.cell.cell}"
        table = node_table(self.cell, files, armed=self.options.arm, commissioning_s=self.commissioning_s)
        for spec in table:
            params = write_params(spec, self.namespace, self.run_folder)
            command = [
                sys.executable, "-m", f"cellwatch.nodes.{spec.executable}", "--ros-args",
                "-r", f"__node:={spec.name}", "-r", f"__ns:={self.namespace}", "--params-file", str(params),
            ]  # fmt: skip
            process = Process(spec, command, self.run_folder / f"{spec.name}.log")
            self._spawn(process)
            self.processes.append(process)
        rclpy.init(
            args=["--ros-args", "-r", f"__ns:={self.namespace}"],
            signal_handler_options=rclpy.signals.SignalHandlerOptions.NO,
        )
        self.ledger = Ledger(window_s=self.cell.window_s)
        self.manager = CellManagerNode([s.name for s in table], self.ledger)
        self.executor = make_executor()
        self.executor.add_node(self.manager)
        self._spin_stop = threading.Event()
        self._spinner = threading.Thread(target=spin, args=(self.executor, self._spin_stop), daemon=True)
        self._spinner.start()
        self._await_up()
        self._await_links()

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
            for process in self.processes:
                refusal = self.manager.nodes[process.spec.name].refusal
                if refusal:
                    raise ConfigError(f"{process.spec.name}: {refusal}")
                if len(process.died_at) >= 3:
                    raise ConfigError(f"{process.spec.name} does not start: {_last_line(process.log)}")
            if time.monotonic() > deadline:
                waiting = {n.name: n.state for n in self.manager.nodes.values() if n.state != "active"}
                raise ConfigError(f"not active within {START_TIMEOUT_S:.0f} s: {waiting}; see {self.run_folder}")
            time.sleep(0.02)

    def _spawn(self, process: Process) -> None:
        env = os.environ | {"CELLWATCH_PARENT": str(os.getpid()), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        with process.log.open("ab") as log:
            process.popen = subprocess.Popen(
                process.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=env
            )

    # Run -----------------------------------------------------------------------
    def run(self, tick: Callable[[float], None]) -> None:
        """Until the duration is over, the plant ends, or `stopping` is set; `tick` gets the seconds gone by."""
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

    def watch(self) -> None:
        """Notice dead processes and start them anew, slower if they keep dying."""
        if self.plant is not None:
            self.plant.poll()
            if self.plant.died and not self.stopping.is_set():
                raise ConfigError(f"the plant stopped: {self.plant.died}")
        for process in self.processes:
            code = process.popen.poll() if process.popen else 0
            if code is None:
                continue
            now = time.monotonic()
            if process.popen is not None:
                process.popen = None
                process.died_at.append(now)
                self.say(f"{process.spec.name} ended ({_exit_text(code)}), starting it again")
            recent = sum(now - t < 30 for t in process.died_at)
            if now - process.died_at[-1] >= min(0.2 * 2 ** (recent - 1) - 0.2, 10.0):
                self._spawn(process)
                if hasattr(self, "manager"):
                    self.manager.restarted(process.spec.name)

    # Down ----------------------------------------------------------------------
    def shutdown(self) -> None:
        """Sources first, so that what is on its way is still heard; then the plant."""
        if hasattr(self, "manager"):
            self.manager.wanted = False
            for process in reversed(self.processes):
                self.manager.take_down(process.spec.name)
            time.sleep(0.3)  # last diagnostics
        for process in reversed(self.processes):
            _end(process.popen)
        if self.plant is not None:
            self.plant.stop()
        if hasattr(self, "manager"):
            import rclpy

            self._spin_stop.set()
            self._spinner.join(timeout=2.0)
            with contextlib.suppress(Exception):
                self.manager.destroy_node()
            rclpy.try_shutdown()
        if hasattr(self, "_lock"):
            self._lock.close()

    # Report --------------------------------------------------------------------
    def report(self) -> dict[str, Any]:
        """The report of the run; None stands for what cannot be known."""
        incidents: list[Incident] | None = None
        if self.plant is not None and self.plant.incidents is not None:
            incidents = [i for i in self.plant.incidents if i.onset_ns < self.end_ns]
        start = self.ledger.start_ns
        nodes = self.manager.nodes
        export = nodes["influx_export_node"]
        safe = self.plant.safe_state_ns if self.plant else None
        body = self.ledger.report(end_ns=self.end_ns, incidents=incidents)
        return {
            "duration_s": body.pop("duration_s"),
            "nodes": self.node_states,
            **body,
            "export": {
                "written": export.total("written"), "pending": int(export.counters.get("pending", 0)),
                "lost": export.total("lost"),
            },
            "plant": {
                "safe_state_reached_at": round((safe - start) / 1e9, 3) if safe and safe >= start else None,
                "writes": self.plant.writes if self.plant else None,
            },
            "seed": self.options.seed,
        }  # fmt: skip


def _end(popen: subprocess.Popen[bytes] | None) -> None:
    if popen is None or popen.poll() is not None:
        return
    popen.send_signal(signal.SIGTERM)
    try:
        popen.wait(timeout=5.0)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()


def _exit_text(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"no word in {log}"
