"""What `cellwatch sim` shows to people: the catalogue, progress, the figures of a data set, a live run."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

from rich.console import Console
from rich.table import Table

from cellwatch.plc_sim import scenario
from cellwatch.plc_sim.attacks import ATTACKS
from cellwatch.plc_sim.faults import FAULTS

out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True, highlight=False)
GRACE_S = 10.0  # for the plant to end by itself, and again on SIGTERM


def catalogue() -> dict[str, Any]:
    """What there is: names of scenarios and faults, and every attack."""
    return {
        "scenarios": list(scenario.names()),
        "attacks": [
            {"category": each.category, "type": each.type, "attack_id": each.attack_id}
            for each in ATTACKS.values()
        ],
        "faults": list(FAULTS),
    }


def print_catalogue() -> None:
    """Print it with a line about each."""
    table = _table("scenario", "site", "length", "about")
    for name in scenario.names():
        plan = scenario.load(name)
        table.add_row(name, plan.site, clock(plan.duration_s), plan.about)
    out.print(table)
    table = _table("attack", "technique", "about")
    for name, attack in ATTACKS.items():
        table.add_row(name, attack.attack_id or "", attack.about)
    out.print(table)
    table = _table("fault", "shows in", "of", "sites", "about")
    for name, fault in FAULTS.items():
        table.add_row(name, fault.tag, fault.device, ", ".join(fault.sites), fault.about)
    out.print(table)


@contextlib.contextmanager
def progress(text: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar on stderr; call what it gives with the steps done so far."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(text, total=total)
        yield lambda done: bar.update(task, completed=done)


def print_dataset(manifest: dict[str, Any], labels: dict[str, Any], folder: object, took_s: float) -> None:
    """Print what a data set holds."""
    seconds = manifest["windows"] * manifest["window_s"]
    table = _table("label", "incidents", "seconds", "devices")
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for each in labels["incidents"]:
        groups.setdefault((each["category"], each["type"]), []).append(each)
    for (category, kind), found in sorted(groups.items()):
        lasted = sum(each["end_ns"] - each["onset_ns"] for each in found) * 1e-9
        devices = dict.fromkeys(each["device"] for each in found)
        table.add_row(f"{category}/{kind}", str(len(found)), f"{lasted:.0f}", ", ".join(devices))
    if groups:
        out.print(table)
    size = sum(file["bytes"] for file in manifest["files"].values()) / 1e6
    out.print(
        f"{folder}: {manifest['windows']} windows of {manifest['window_s']:g} s, "
        f"{manifest['packets']:,} packets, {size:.1f} MB; "
        f"{seconds:.0f} s of {manifest['scenario']} (seed {manifest['seed']}) in {took_s:.1f} s",
        soft_wrap=True,
    )


def attend(arguments: list[str], seconds: float | None, speed: int) -> int:
    """Run the live plant as a child, start it at once, tell people what happens; returns the exit code.

    It ends after `seconds`, on Ctrl-C or SIGTERM. Where stdout is no terminal its JSON lines pass through.
    The plant lives `speed` seconds a second.
    """
    child = subprocess.Popen(
        [sys.executable, "-m", "cellwatch.plc_sim", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for us; we let it end in order
    )
    stopping = threading.Event()
    before = {s: signal.signal(s, lambda *_: stopping.set()) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        return _attend(child, seconds, speed, stopping)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if child.poll() is None:
            child.kill()
        child.wait()


def _attend(
    child: subprocess.Popen[str], seconds: float | None, speed: int, stopping: threading.Event
) -> int:
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    lines: queue.Queue[str | None] = queue.Queue()
    last_words: list[str] = []

    def read() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            lines.put(line)
        lines.put(None)

    def read_errors() -> None:
        assert child.stderr is not None
        for line in child.stderr:
            last_words.append(line.rstrip())
            del last_words[:-20]

    readers = [threading.Thread(target=each, daemon=True) for each in (read, read_errors)]
    for reader in readers:
        reader.start()
    narrator = Narrator() if sys.stdout.isatty() else None
    begun = ending = None
    with contextlib.suppress(BrokenPipeError):
        child.stdin.write("start\n")
        child.stdin.flush()
    with narrator or contextlib.nullcontext():
        while True:
            try:
                line = lines.get(timeout=0.2)
            except queue.Empty:
                line = ""
            if line is None:
                break
            if line and narrator is None:
                sys.stdout.write(line)
                sys.stdout.flush()
            if line:
                event = json.loads(line)
                if event["event"] == "started":
                    begun = time.monotonic()
                if narrator is not None:
                    narrator.hear(event)
            now = time.monotonic()
            if begun is not None and narrator is not None:
                narrator.at((now - begun) * speed)
            over = seconds is not None and begun is not None and now - begun >= seconds
            if ending is None and (over or stopping.is_set()):
                ending = now
                child.stdin.close()
            if ending is not None and now - ending > GRACE_S:
                os.killpg(child.pid, signal.SIGKILL if now - ending > 2.0 * GRACE_S else signal.SIGTERM)
    code = child.wait()
    for reader in readers:
        reader.join(1.0)
    for line in last_words:
        print(line, file=sys.stderr)
    return code


class Narrator:
    """Tells the events of a live plant in words, with a line at the bottom that says what goes on now."""

    def __init__(self) -> None:
        self._status = out.status("starting")
        self._zero_ns = 0
        self._incidents: dict[str, dict[str, Any]] = {}
        self._told: set[tuple[str, str]] = set()

    def __enter__(self) -> Self:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def hear(self, event: dict[str, Any]) -> None:
        """Take one event of the protocol."""
        kind = event["event"]
        if kind == "ready":
            for name, where in event["endpoints"].items():
                out.print(f"[bold]{name}[/]  {where}", soft_wrap=True)
            for name in ("modbus", "mqtt"):
                if event.get(name):
                    out.print(f"[bold]{name}[/]  {event[name]}", soft_wrap=True)
            if where := event.get("namespace"):
                watch = f"nsenter --net={where['path']} tcpdump -i {where['interface']}"
                out.print(f"[bold]frames[/]  {watch}", soft_wrap=True)
            out.print(f"{len(event['devices'])} devices, {len(event['tags'])} tags; Ctrl-C ends it")
        elif kind == "started":
            self._zero_ns = event["at_ns"]
        elif kind == "incident":
            self._incidents[event["name"]] = event
        elif kind == "incident_end":
            self._incidents[event["name"]]["end_ns"] = event["end_ns"]
        elif kind == "end":
            late = f", {event['late_scans']} late scans" if event["late_scans"] else ""
            out.print(f"ended: {event['reason']}; {event['frames']:,} frames{late}")
        else:
            rest = {k: v for k, v in event.items() if k not in {"event", "at_ns"}}
            words = "  ".join(f"{k} {v}" for k, v in rest.items())
            out.print(f"{self._now(event)}  {kind.replace('_', ' ')}  {words}", soft_wrap=True)

    def at(self, elapsed_s: float) -> None:
        """Say what has begun and ended by now."""
        active = []
        for name, each in self._incidents.items():
            begin, end = ((each[key] - self._zero_ns) * 1e-9 for key in ("onset_ns", "end_ns"))
            if begin <= elapsed_s and (name, "begin") not in self._told:
                self._told.add((name, "begin"))
                colour = "red" if each["kind"] == "attack" else "yellow"
                technique = f"  {each['attack_id']}" if each["attack_id"] else ""
                out.print(f"{clock(begin)}  [{colour}]▶[/] {name}{technique}")
            if end <= elapsed_s and (name, "end") not in self._told:
                self._told.add((name, "end"))
                out.print(f"{clock(end)}  [green]■[/] {name} is over")
            if begin <= elapsed_s < end:
                active.append(name)
        self._status.update(f"{clock(elapsed_s)}  {', '.join(active) or 'nothing is wrong'}")

    def _now(self, event: dict[str, Any]) -> str:
        at_ns = event.get("at_ns", time.time_ns())
        return clock((at_ns - self._zero_ns) * 1e-9) if self._zero_ns else "     "


def clock(seconds: float) -> str:
    """Minutes and seconds.

    >>> clock(75.4)
    '01:15'
    """
    whole = max(int(seconds), 0)
    return f"{whole // 60:02d}:{whole % 60:02d}"


def _table(*columns: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=i == 0, overflow="fold")
    return table
