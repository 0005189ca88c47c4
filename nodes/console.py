"""What a person sees in the terminal: the live line while a cell runs, and the tables at its end."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from cellwatch.nodes.report import Ledger

STYLE = {"ALLOW": "green", "SUSPICIOUS": "yellow", "BLOCK": "bold red"}
DASH = "–"


def live(ledger: Ledger, elapsed_s: float, duration_s: float | None, armed: bool) -> Group:
    """The cell at a glance: one head line, one row a device."""
    of = f" of {duration_s:.0f}" if duration_s else ""
    head = Text.assemble(
        (" armed " if armed else " advising ", "reverse red" if armed else "reverse blue"),
        f" {elapsed_s:5.0f}{of} s   windows {ledger.windows}   samples {ledger.tags['received']}"
        f"   packets {ledger.traffic['packets']}   commands {ledger.commands['issued']}",
    )
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 1))
    for name in sorted(ledger.devices):
        decision, category, why = ledger.devices[name]
        table.add_row(
            name,
            Text(decision, STYLE.get(decision, "")),
            category if decision != "ALLOW" else "",
            Text(why.partition(": ")[2].partition(": ")[2], overflow="ellipsis", no_wrap=True),
        )
    return Group(head, table)


def print_report(console: Console, report: dict[str, Any]) -> None:
    """The tables at the end of a run."""
    incidents = Table(title="Incidents", box=box.SIMPLE_HEAD, title_justify="left")
    for column in ("name", "kind", "onset", "detected", "after", "decision", "category"):
        numeric = column in {"onset", "detected", "after"}
        incidents.add_column(column, justify="right" if numeric else "left", no_wrap=column != "name")
    for i in report["incidents"]:
        missed = i["detected_at"] is None
        incidents.add_row(
            i["name"],
            i["kind"],
            _seconds(i["onset"]),
            Text("missed", "bold red") if missed else _seconds(i["detected_at"]),
            _seconds(i["latency_s"]),
            Text(i["decision"] or DASH, STYLE.get(i["decision"] or "", "")),
            i["category"] or DASH,
        )
    if report["incidents"]:
        console.print(incidents)

    facts = Table(title="The run", box=box.SIMPLE_HEAD, show_header=False, title_justify="left")
    facts.add_column(style="bold")
    facts.add_column()
    v, c, t, e = report["verdicts"], report["commands"], report["tags"], report["export"]
    facts.add_row("duration", f"{report['duration_s']:.1f} s, seed {report['seed']}")
    facts.add_row("tags", _counts(t))
    facts.add_row("traffic", _counts(report["traffic"]))
    facts.add_row("verdicts", f"{report['windows']} windows; " + _counts(v))
    if report["false_alarms"] is not None:
        facts.add_row("false alarms", str(report["false_alarms"]))
    drift = {k: n for k, n in report["drift"].items() if k not in {"state", "scenario"}}
    facts.add_row("drift", f"{report['drift']['state'] or DASH}; {_counts(drift)}")
    facts.add_row("commands", _counts(c))
    safe = report["plant"]["safe_state_reached_at"]
    if safe is not None:
        facts.add_row("safe state", f"reached at {safe:.1f} s")
    facts.add_row("record", _counts(e))
    restarted = {n: s["restarts"] for n, s in report["nodes"].items() if s["restarts"]}
    states = {s["state"] for s in report["nodes"].values()}
    facts.add_row(
        "nodes",
        f"{len(report['nodes'])} {', '.join(sorted(states))}"
        + (f"; restarted {restarted}" if restarted else ""),
    )
    console.print(facts)

    latency = Table(title="Latency, ms", box=box.SIMPLE_HEAD, title_justify="left")
    latency.add_column("from → to")
    latency.add_column("p50", justify="right")
    latency.add_column("p99", justify="right")
    for name, q in report["latency_ms"].items():
        latency.add_row(name.replace("_to_", " → "), _ms(q["p50"]), _ms(q["p99"]))
    console.print(latency)


def _counts(values: dict[str, Any]) -> str:
    return ", ".join(f"{v:,} {k.replace('_', ' ')}" for k, v in values.items())


def _seconds(value: float | None) -> str:
    return DASH if value is None else f"{value:.1f} s"


def _ms(value: float | None) -> str:
    return DASH if value is None else f"{value:.1f}"
