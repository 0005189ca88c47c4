"""The live plant: a cell or a recording behind OPC UA, in step with the wall clock.

It speaks JSON lines on stdout (ready, incident, write, call, safe_state, chaos, end) and waits for `start` on
stdin.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from cellwatch.plc_sim import chaos
from cellwatch.plc_sim.cell import SCAN_NS, Cell, Step
from cellwatch.plc_sim.incidents import OPEN_END_NS, Incident
from cellwatch.plc_sim.namespace import MIRROR
from cellwatch.plc_sim.network import Network
from cellwatch.plc_sim.network.hosts import devices_of
from cellwatch.plc_sim.replay import Replay
from cellwatch.plc_sim.schedule import Scenario
from cellwatch.plc_sim.servers.opcua import PlcServer
from cellwatch.plc_sim.servers.security import Security
from cellwatch.plc_sim.servers.site import SiteServers
from cellwatch.plc_sim.sinks import OwnNamespace, Sink
from cellwatch.plc_sim.sites import SITES

SCAN_S = SCAN_NS * 1e-9


@dataclass(slots=True)
class Options:
    """How the live plant is reached."""

    seed: int
    port: int = 0
    labels: Path | None = None
    duration_hint_s: float | None = None
    security: Security = field(default_factory=Security)
    sinks: list[Sink] = field(default_factory=list)
    speed: int = 1  # plant seconds a second; above 1 the time of the plant runs ahead of the clock


class Live:
    """What simulation and replay share: server, events, labels, start and stop."""

    def __init__(self, options: Options, name: str) -> None:
        self.options = options
        self.name = name
        self.started = asyncio.Event()
        self.stopped = asyncio.Event()
        self.zero_ns = 0
        self.labels: list[Incident] = []
        self.frames = 0
        self.late = 0  # scans that began more than one cycle late
        self.now_ns: Callable[[], int] = time.time_ns  # the time of the plant

    def say(self, event: str, **fields: object) -> None:
        """One JSON line on stdout; a reader that is gone ends the run."""
        try:
            sys.stdout.write(json.dumps({"event": event, **fields}, allow_nan=False) + "\n")
            sys.stdout.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            self.stopped.set()

    def say_now(self, event: str, **fields: object) -> None:
        """Say an event of this moment."""
        self.say(event, **fields, at_ns=self.now_ns())

    def namespace(self) -> dict[str, Any]:
        """Where the frames can be seen, if they go to a namespace of our own."""
        own = [sink.namespace for sink in self.options.sinks if isinstance(sink, OwnNamespace)]
        return {"namespace": {"path": own[0].path, "interface": MIRROR}} if own else {}

    def listen(self) -> None:
        """Take `start` and end of file from stdin, and the signals."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stopped.set)

        def tell(event: asyncio.Event) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has closed
                loop.call_soon_threadsafe(event.set)

        def read() -> None:
            rest = b""
            while True:
                try:
                    got = os.read(0, 4096)
                except OSError:
                    got = b""
                if not got:
                    tell(self.stopped)
                    return
                *lines, rest = (rest + got).split(b"\n")
                if b"start" in (line.strip() for line in lines):
                    tell(self.started)

        threading.Thread(target=read, name="stdin", daemon=True).start()

    def begin(self, zero_ns: int, labels: list[Incident]) -> None:
        """Scenario time zero."""
        self.zero_ns = zero_ns
        self.labels = labels
        self.write_labels()
        self.say("started", at_ns=zero_ns)
        for label in labels:
            self.say("incident", **label.to_json())

    def write_labels(self) -> None:
        """Write the label file in one step, so that a reader never sees half of it."""
        path = self.options.labels
        if path is None:
            return
        record = {
            "scenario": self.name,
            "seed": self.options.seed,
            "start_ns": self.zero_ns,
            "incidents": [label.to_json() for label in self.labels],
        }
        partial = path.with_name(path.name + ".part")
        partial.write_text(json.dumps(record, indent=1), encoding="utf-8")
        partial.replace(path)

    def send(self, frames: Any) -> None:
        """Frames to every sink."""
        self.frames += len(frames)
        for sink in self.options.sinks:
            sink.write(frames)

    def end(self, reason: str) -> None:
        """Say the last event, with the counts of the run."""
        unread = {type(sink).__name__: sink.unread for sink in self.options.sinks}
        self.say(
            "end",
            at_ns=self.now_ns(),
            reason=reason,
            frames=self.frames,
            unread=unread,
            late_scans=self.late,
        )

    async def until(self, event: asyncio.Event, timeout_s: float) -> bool:
        """Wait for an event; true if it came in time."""
        if timeout_s <= 0.0:
            await asyncio.sleep(0)
            return event.is_set()
        try:
            await asyncio.wait_for(event.wait(), timeout_s)
        except TimeoutError:
            return False
        return True

    def run_with(self, main: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
        """Wrap `main` so that the sinks are closed whatever happens."""

        async def guarded() -> None:
            try:
                await main
            finally:
                for sink in self.options.sinks:
                    sink.close()

        return guarded()


async def run_cell(scenario: Scenario, options: Options) -> None:
    """Serve a simulated cell until stopped."""
    live = Live(options, scenario.name)
    await live.run_with(_run_cell(live, scenario, options))


async def _run_cell(live: Live, scenario: Scenario, options: Options) -> None:
    attacked = any(slot.kind == "attack" for slot in scenario.incidents)  # they act on the process, too
    cell = Cell(scenario, options.seed, time.time_ns(), network=attacked or bool(options.sinks))
    if options.speed > 1:
        live.now_ns = lambda: cell.time_ns

    def take_write(plc: str, tag: str, value: float) -> int:
        refusal = cell.write(plc, tag, value)
        if not refusal:
            live.say_now("write", plc=plc, tag=tag, value=value)
        return int(refusal)

    def take_call(plc: str, method: str, arguments: Sequence[float]) -> int:
        refusal = cell.process.call(plc, method, arguments)
        if not refusal:
            live.say_now("call", plc=plc, method=method, arguments=list(arguments))
        return int(refusal)

    rng = np.random.default_rng(options.seed)
    servers = SiteServers(cell.site, take_write, take_call, options.security, rng)
    try:
        reached = await servers.start(options.port, cell.scan(time.time_ns()).values)
        live.listen()
        if servers.missing:
            live.say("warning", text=servers.missing)
        live.say(
            "ready",
            **reached,
            devices=devices_of(cell.site),
            tags=[tag.name for tag in cell.tags],
            **live.namespace(),
        )
        await _scan_loop(live, cell, servers)
    finally:
        if live.started.is_set():
            cell.close_labels(live.now_ns())
            live.labels = cell.labels
            live.write_labels()
        live.end("stopped")
        await servers.stop()


async def _scan_loop(live: Live, cell: Cell, servers: SiteServers) -> None:
    cell.scan(time.time_ns())  # catch up with the time that starting took; nobody was listening
    begin = due = time.monotonic()
    trouble = _Trouble(live, cell, servers)
    try:
        while not live.stopped.is_set():
            due += SCAN_S
            behind = time.monotonic() - due
            if behind > SCAN_S:  # the machine was busy: skip scans rather than run after the clock
                live.late += 1
                due += behind
            if await live.until(live.stopped, due - time.monotonic()):
                return
            now = live.now_ns()
            if cell.zero_ns is None and live.started.is_set():
                cell.start(now)
                live.begin(now, cell.labels)
            trouble.begin_due(now)
            if live.options.speed == 1:
                step = cell.scan(max(now, cell.time_ns + 1))
            else:
                step = await _scans(cell, live.options.speed)
            elapsed_s = time.monotonic() - begin
            await servers.publish(cell.time_ns, elapsed_s, step.values, step.status, step.alarms)
            live.send(step.frames)
            for plc in step.entered_safe:
                live.say("safe_state", plc=plc, at_ns=cell.time_ns)
            if step.relabelled:
                _announce(live, cell, step.relabelled)
    finally:
        await trouble.end()


async def _scans(cell: Cell, n: int) -> Step:
    """`n` cycles in the time of the plant as one: the last values, and every event."""
    steps: list[Step] = []
    for i in range(n):
        if i % 50 == 49:
            await asyncio.sleep(0)  # clients are served in between
        steps.append(cell.scan(cell.time_ns + SCAN_NS))
    return replace(
        steps[-1],
        alarms=tuple(alarm for step in steps for alarm in step.alarms),
        entered_safe=tuple(plc for step in steps for plc in step.entered_safe),
        relabelled=tuple(dict.fromkeys(i for step in steps for i in step.relabelled)),
    )


class _Trouble:
    """The chaos of a scenario, each step in its own task."""

    def __init__(self, live: Live, cell: Cell, servers: SiteServers) -> None:
        self.live = live
        self.cell = cell
        self.servers = servers
        self.begun = 0  # in order of time
        self.tasks: list[asyncio.Task[None]] = []

    def begin_due(self, now_ns: int) -> None:
        """Begin the steps that are due; raise what an earlier one failed with."""
        for task in [task for task in self.tasks if task.done()]:
            self.tasks.remove(task)
            task.result()
        if self.cell.zero_ns is None:
            return
        elapsed_s = (now_ns - self.cell.zero_ns) * 1e-9
        steps = self.cell.chaos
        while self.begun < len(steps) and steps[self.begun].at_s <= elapsed_s:
            step = steps[self.begun]
            self.begun += 1
            server = self.servers.plcs[step.plc or self.cell.site.plcs[0]]
            self.tasks.append(
                asyncio.create_task(
                    chaos.run(step.name, server, step.duration_s / self.live.options.speed, self.live.say_now)
                )
            )

    async def end(self) -> None:
        """End what goes on."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


def _announce(live: Live, cell: Cell, changed: Sequence[int]) -> None:
    """Tell new ends of labels; one that is open ends where the run is said to end."""
    hint = live.options.duration_hint_s
    live.labels = list(cell.labels)
    if hint is not None:
        end_ns = live.zero_ns + round(hint * live.options.speed * 1e9)
        live.labels = [
            replace(label, end_ns=max(end_ns, label.onset_ns)) if label.end_ns == OPEN_END_NS else label
            for label in cell.labels
        ]
    live.write_labels()
    for i in changed:
        live.say("incident_end", name=live.labels[i].name, end_ns=live.labels[i].end_ns)


async def run_replay(replay: Replay, options: Options) -> None:
    """Serve a recording once through, then stay until stopped."""
    live = Live(options, replay.table.path)
    await live.run_with(_run_replay(live, replay, options))


async def _run_replay(live: Live, replay: Replay, options: Options) -> None:
    server = PlcServer(replay.plc, replay.tags, replay.write, options.security)
    values, status = replay.row(0)
    held = [float("nan") if code else value for value, code in zip(values, status, strict=True)]
    await server.start(options.port, held)
    traffic: asyncio.Task[None] | None = None
    reason = "stopped"
    try:
        live.listen()
        live.say(
            "ready",
            endpoints={replay.plc: server.endpoint},
            devices=devices_of(SITES["bench"]) if options.sinks else {},
            tags=[tag.name for tag in replay.tags],
            **live.namespace(),
            certificate=str(server.certificate) if server.certificate else None,
            rows=len(replay),
            step_s=replay.step_s,
            commission_s=replay.commission_s,
            duration_s=replay.duration_s,
        )
        if options.sinks:
            traffic = asyncio.create_task(_benign_traffic(live))
        if await _first_of(live.started, live.stopped) is live.started:
            zero_ns = time.time_ns()
            live.begin(zero_ns, replay.labels(zero_ns))
            if await _row_loop(live, replay, server):
                reason = "end of file"
                live.end(reason)
                await live.stopped.wait()
    finally:
        if traffic is not None:
            traffic.cancel()
        if reason == "stopped":
            live.end(reason)
        await server.stop()


async def _row_loop(live: Live, replay: Replay, server: PlcServer) -> bool:
    """All rows at their times; true if the last one had its full step."""
    zero = time.monotonic()
    for i in range(len(replay)):
        if await live.until(live.stopped, zero + i * replay.step_s - time.monotonic()):
            return False
        values, status = replay.row(i)
        await server.publish(time.time_ns(), values, status)
    return not await live.until(live.stopped, zero + replay.duration_s - time.monotonic())


async def _benign_traffic(live: Live) -> None:
    last = time.time_ns()
    network = Network(np.random.default_rng(live.options.seed), last, SITES["bench"])
    while True:
        await asyncio.sleep(SCAN_S)
        now = time.time_ns()
        live.send(network.tick(last, now))
        last = now


async def _first_of(*events: asyncio.Event) -> asyncio.Event:
    tasks = {asyncio.create_task(event.wait()): event for event in events}
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return tasks[next(iter(done))]
