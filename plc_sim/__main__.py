"""`cellwatch sim`: the simulated plant, live or written down. `--help` lists the options."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import stat
import sys
import time
from pathlib import Path

from cellwatch.plc_sim import console, scenario, seeds


def parser() -> argparse.ArgumentParser:
    """All options."""
    args = argparse.ArgumentParser(
        prog="cellwatch sim",
        allow_abbrev=False,
        description="A simulated plant: live behind OPC UA, as a labelled data set, or as a picture.",
    )
    what = args.add_argument_group(
        "what to do (without any: serve the scenario live)"
    ).add_mutually_exclusive_group()
    what.add_argument("--list", action="store_true", help="list scenarios, attacks and faults")
    what.add_argument("--dataset", type=Path, metavar="OUT", help="write a labelled data set to this folder")
    what.add_argument("--picture", type=Path, metavar="FILE", help="draw a run to this .png or .svg file")
    what.add_argument("--replay", type=Path, metavar="FILE", help="serve this recorded table live")

    run = args.add_argument_group("which run")
    run.add_argument("--scenario", help="name or YAML file (default: demo)")
    run.add_argument("--seed", type=int, help="0 <= seed < 2**31 (default: the scenario's own, else 0)")
    run.add_argument("--duration", type=_seconds, metavar="S", help="length (default: the scenario's own)")
    run.add_argument("--windows", type=int, metavar="N", help="data set: its length in windows")
    run.add_argument(
        "--window", type=_seconds, metavar="S", default=1.0, help="data set: window (default: 1)"
    )
    run.add_argument(
        "--max-mb", type=int, default=4096, metavar="MB", help="data set: end when the capture is this large"
    )
    run.add_argument("--json", action="store_true", help="list, data set: JSON on stdout")

    live = args.add_argument_group("live")
    live.add_argument("--port", type=_port, default=0, help="OPC UA port on 127.0.0.1; 0 takes a free one")
    live.add_argument("--fifo", type=Path, help="send the traffic as a pcap stream through this FIFO")
    live.add_argument("--pcap", type=Path, help="write the traffic to this capture file")
    live.add_argument("--interface", help="send the traffic on this veth, TAP or dummy interface")
    live.add_argument(
        "--namespace", action="store_true", help="send the traffic in a network namespace of its own (root)"
    )
    live.add_argument("--labels", type=Path, help="write the labelled incidents to this JSON file")
    live.add_argument("--security", default="none", choices=("none", "basic256sha256"))
    live.add_argument("--user", default="", help="the only user name that is let in")
    live.add_argument(
        "--password-env", default="", metavar="VAR", help="environment variable with the password"
    )
    live.add_argument("--cert-dir", type=Path, help="folder for the self-signed certificate")
    live.add_argument(
        "--duration-hint",
        type=float,
        metavar="S",
        help="length of the run; until it is over, open labels end there",
    )
    live.add_argument(
        "--speed", type=float, default=1.0, help="scenario: 1 .. 1000 without traffic; replay: any above 0"
    )
    live.add_argument("--commission-rows", type=int, default=400, help="replay: rows that count as benign")
    live.add_argument("--plc", default="PLC1", help="replay: name of the PLC")
    return args


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; use 0..65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= 1e7:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return value


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    reader = parser()
    args = reader.parse_args(arguments)
    if args.replay is not None and args.scenario is not None:
        reader.error("argument --replay: not allowed with argument --scenario")
    if args.windows is not None and args.dataset is None:
        reader.error("argument --windows: only with --dataset")
    if args.dataset is not None and args.windows is not None and args.duration is not None:
        reader.error("argument --windows: not allowed with argument --duration")
    try:
        if args.seed is not None:
            seeds.check_seed(args.seed, training=False)
        if args.list:
            return _list(args)
        if args.dataset is not None:
            return _dataset(args)
        if args.picture is not None:
            return _picture(args)
        if args.duration is not None or not _controlled():
            return _standalone(args, arguments)
        return _live(args)
    except (OSError, ValueError) as error:
        print(f"error: {_words(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _words(error: Exception) -> str:
    """One line about an error."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _list(args: argparse.Namespace) -> int:
    if args.json:
        print(json.dumps(console.catalogue(), indent=1))
    else:
        console.print_catalogue()
    return 0


def _plan(args: argparse.Namespace) -> tuple[scenario.Scenario, int]:
    plan = scenario.load(args.scenario or "demo")
    return plan, plan.seed if args.seed is None else args.seed


def _dataset(args: argparse.Namespace) -> int:
    from cellwatch.plc_sim import dataset

    plan, seed = _plan(args)
    windows = args.windows
    if windows is None:
        windows = max(round((args.duration or plan.duration_s) / args.window), 1)
    if args.max_mb < 1:
        raise ValueError(f"--max-mb is {args.max_mb}; it must be at least 1")
    begun = time.monotonic()
    with console.progress(f"{plan.name}, seed {seed}", max(windows, 1)) as seen:
        manifest = dataset.write(args.dataset, plan, seed, windows, args.window, args.max_mb << 20, seen)
    took = time.monotonic() - begun
    if not manifest["complete"]:
        print(
            f"warning: the capture reached --max-mb {args.max_mb}: "
            f"{manifest['windows']} of {windows} windows written",
            file=sys.stderr,
        )
    labels = json.loads((args.dataset / "labels.json").read_text(encoding="utf-8"))
    if args.json:
        print(json.dumps({"folder": str(args.dataset), "took_s": round(took, 3), **manifest}, indent=1))
    else:
        console.print_dataset(manifest, labels, args.dataset, took)
    return 0


def _picture(args: argparse.Namespace) -> int:
    from cellwatch.plc_sim.picture import picture
    from cellwatch.plc_sim.recording import Playback

    plan, seed = _plan(args)
    run = Playback(plan, seed, args.duration or plan.duration_s)
    with console.progress(f"{plan.name}, seed {seed}", run.n) as seen:
        picture(run, args.picture, seen)
    print(args.picture)
    return 0


def _controlled() -> bool:
    """Whether somebody on a pipe says when to start, and ends the run by closing it."""
    try:
        mode = os.fstat(0).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _standalone(args: argparse.Namespace, arguments: list[str]) -> int:
    """Start at once and run for the length of the scenario."""
    seconds, speed = args.duration, 1  # a replay's labels are in the time of the clock
    if args.replay is None:
        plan, _ = _plan(args)
        speed = _speed(args)
        seconds = seconds or plan.duration_s / speed
        if sys.stdout.isatty():
            console.out.print(f"[bold]{plan.name}[/]  {plan.about}", soft_wrap=True)
    return console.attend(without_duration(arguments), seconds, speed)


def without_duration(arguments: list[str]) -> list[str]:
    """Drop `--duration`, which only the parent of the live plant obeys.

    >>> without_duration(["--seed", "1", "--duration", "5", "--duration=6"])
    ['--seed', '1']
    """
    kept: list[str] = []
    skip = False
    for each in arguments:
        if not skip and each != "--duration" and not each.startswith("--duration="):
            kept.append(each)
        skip = not skip and each == "--duration"
    return kept


def _live(args: argparse.Namespace) -> int:
    from cellwatch.plc_sim import live, sinks
    from cellwatch.plc_sim.replay import Replay
    from cellwatch.plc_sim.servers.security import Security
    from cellwatch.plc_sim.table import read_table

    password = os.environ.get(args.password_env, "") if args.password_env else ""
    security = Security(args.security, args.user, password, args.cert_dir)
    security.check()
    if args.replay is not None:
        options = live.Options(args.seed or 0, args.port, args.labels, args.duration_hint, security)
        table = read_table(args.replay)
        for warning in table.warnings:
            print(f"warning: {warning}", file=sys.stderr)
        replay = Replay(table, args.plc, args.speed, args.commission_rows)
        options.sinks = sinks.open_sinks(args.fifo, args.pcap, args.interface, args.namespace)
        asyncio.run(live.run_replay(replay, options))
    else:
        plan, seed = _plan(args)
        speed = _speed(args)
        options = live.Options(seed, args.port, args.labels, args.duration_hint, security, speed=speed)
        options.sinks = sinks.open_sinks(args.fifo, args.pcap, args.interface, args.namespace)
        asyncio.run(live.run_cell(plan, options))
    return 0


def _speed(args: argparse.Namespace) -> int:
    """Speed of a scenario; ValueError for one that cannot be had."""
    if args.speed not in range(1, 1001):
        raise ValueError(f"--speed {args.speed:g}: a scenario runs at a whole number of 1 to 1000")
    if args.speed > 1 and (args.fifo or args.pcap or args.interface or args.namespace):
        raise ValueError("--speed above 1 is for the process alone: leave out where the traffic goes")
    return int(args.speed)


if __name__ == "__main__":
    sys.exit(main())
