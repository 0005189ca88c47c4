"""The `cellwatch` command."""

from __future__ import annotations

import json
import math
import signal
import sys
from collections.abc import Collection
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from cellwatch.nodes.alarms_command import alarms
from cellwatch.nodes.audit_command import audit
from cellwatch.nodes.blackbox_command import blackbox
from cellwatch.nodes.drift_command import drift
from cellwatch.nodes.evaluate_command import evaluate
from cellwatch.nodes.ewad_command import app as ewad
from cellwatch.nodes.features_command import features
from cellwatch.nodes.profile_command import commission, profile
from cellwatch.nodes.query_command import query
from cellwatch.nodes.registry_command import registry
from cellwatch.nodes.response_command import response
from cellwatch.nodes.rules_command import rules
from cellwatch.nodes.select_command import select
from cellwatch.nodes.stress_command import stress
from cellwatch.nodes.train_command import add_to
from cellwatch.nodes.users_command import users

app = typer.Typer(
    help="Cellwatch watches a factory cell and acts on what it sees.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(features, name="features")
app.add_typer(alarms, name="alarms")
app.add_typer(response, name="response")
app.add_typer(audit, name="audit")
app.add_typer(registry, name="registry")
app.add_typer(ewad, name="ewad")
app.add_typer(drift, name="drift")
app.add_typer(blackbox, name="blackbox")
app.add_typer(users, name="users")
app.command()(commission)
app.add_typer(profile, name="profile")
app.add_typer(rules, name="rules")
app.command()(select)
app.command()(evaluate)
app.command()(query)
app.command()(stress)
add_to(app)  # train, models
err = Console(stderr=True)
out = Console()


def fail(text: object) -> typer.Exit:
    """One clear line, exit code 2."""
    err.print(Text.assemble(("cellwatch: ", "bold red"), str(text)), soft_wrap=True)
    return typer.Exit(2)


def said(skip: Collection[str]) -> str:
    """The command as it was given, without the options of `skip` and what they say."""
    words, passed = [], False
    for word in sys.argv[1:]:
        if passed or word.split("=")[0] in skip:
            passed = not passed and "=" not in word
            continue
        words.append(word)
    return " ".join(["cellwatch", *words])


def print_json(value: object) -> None:
    """JSON alone on stdout; null instead of NaN."""
    sys.stdout.write(json.dumps(_finite(value), indent=1) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value


def config_path(name: str) -> Path:
    """A file, or a cell that ships with Cellwatch."""
    shipped = Path(str(resources.files("cellwatch"))) / "config" / "cells" / f"{name}.yaml"
    return shipped if not Path(name).suffix and shipped.is_file() else Path(name)


@app.command()
def run(
    config: Annotated[str, typer.Option(help="Cell file, or the name of a shipped cell.")] = "demo",
    duration: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds, from the moment all nodes are active.")
    ] = None,
    arm: Annotated[
        bool, typer.Option("--arm", help="Write commands into the PLC. Without it the cell only advises.")
    ] = False,
    dashboard: Annotated[bool, typer.Option("--dashboard/--no-dashboard", help="Operator's page.")] = True,
    report: Annotated[
        Path | None, typer.Option(help="Write the report of the run to this JSON file.")
    ] = None,
    plant: Annotated[
        str | None, typer.Option(help="sim, sim:SCENARIO, replay:FILE, or none (a real cell).")
    ] = None,
    speed: Annotated[
        float,
        typer.Option(min=0.0, help="Rate of a replay or capture; 0 plays a capture as fast as it goes."),
    ] = 1.0,
    capture: Annotated[
        str, typer.Option(help="Capture file or interface instead of the simulated traffic.")
    ] = "",
    influx: Annotated[str, typer.Option(help="Forward the record to this InfluxDB.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of the simulated plant.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON on stdout.")] = False,
) -> None:
    """Run a cell: the plant (if simulated), all nodes, the record, and a report at the end."""
    from cellwatch.nodes.runner import RunOptions
    from cellwatch.nodes.start import RunError, start

    try:
        options = RunOptions(duration, arm, seed, speed, capture, dashboard)
        result = start(config_path(config), options, plant=plant, influx=influx, console=err)
    except RunError as error:
        raise fail(error) from None
    if report is not None:
        try:
            report.parent.mkdir(parents=True, exist_ok=True)
            report.write_text(json.dumps(_finite(result), indent=1) + "\n")
        except OSError as error:
            print_json(result)  # the figures of a run are not thrown away
            raise fail(
                f"{report}: cannot write the report: {error.strerror}; it is printed instead"
            ) from None
    if as_json:
        print_json(result)
    else:
        from cellwatch.nodes.console import print_report

        print_report(out, result)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True}, add_help_option=False
)
def sim(context: typer.Context) -> None:
    """Run the simulated plant alone (see `cellwatch sim --help`)."""
    import os

    os.execv(sys.executable, [sys.executable, "-m", "cellwatch.plc_sim", *context.args])


@app.command()
def browse(
    endpoint: Annotated[str, typer.Argument(help="opc.tcp://HOST:PORT[/PATH]")],
    user: Annotated[str, typer.Option(help="User name; the password is read from --password-env.")] = "",
    password_env: Annotated[
        str, typer.Option(help="Environment variable with the password.")
    ] = "CELLWATCH_OPCUA_PASSWORD",
    policy: Annotated[str, typer.Option(help="None or Basic256Sha256.")] = "None",
    certificate: Annotated[str, typer.Option(help="Client certificate.")] = "",
    private_key: Annotated[str, typer.Option(help="Its private key.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of YAML.")] = False,
) -> None:
    """Print a ready tag map of a server."""
    from cellwatch.nodes.drivers.opcua_browse import browse as browse_server
    from cellwatch.nodes.drivers.opcua_settings import LinkError, LinkSettings

    try:
        settings = LinkSettings(
            "PLC1",
            endpoint,
            security_policy=policy,
            user=user,
            password_env=password_env if user else "",
            certificate=certificate,
            private_key=private_key,
        )
        text = browse_server(settings)
    except (LinkError, OSError, ValueError) as error:
        raise fail(error) from None
    if as_json:
        import yaml

        print_json(yaml.safe_load(text))
    else:
        sys.stdout.write(text)


@app.command()
def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Say what is installed, what is missing, and how to mend it."""
    from dataclasses import asdict

    from cellwatch.nodes.doctor import checks

    found = checks()
    if as_json:
        print_json([asdict(c) for c in found])
    else:
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0))
        for column in ("", "part", "found", "cure"):
            table.add_column(column)
        for check in found:
            table.add_row(
                "[green]✓[/]" if check.ok else "[red]✗[/]",
                check.name,
                check.found,
                "" if check.ok else check.cure,
            )
        out.print(table)
    if not all(c.ok for c in found if getattr(c, "required", True)):
        raise typer.Exit(1)


def main() -> None:
    """Entry point. A broken pipe on stdout is not an error worth a traceback."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    app()


if __name__ == "__main__":
    main()
