"""`python -m cellwatch.plc_sim`: the live plant. `--help` lists the options."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path

from cellwatch.plc_sim import live, scenario, seeds, server, sinks
from cellwatch.plc_sim.replay import Replay
from cellwatch.plc_sim.table import read_table


def parser() -> argparse.ArgumentParser:
    """All options."""
    args = argparse.ArgumentParser(
        prog="python -m cellwatch.plc_sim", description="A simulated plant behind OPC UA."
    )
    what = args.add_mutually_exclusive_group()
    what.add_argument("--scenario", default="demo", help="name or YAML file (default: demo)")
    what.add_argument("--replay", type=Path, metavar="FILE", help="serve this recorded table instead")
    args.add_argument("--seed", type=int, default=0, help="0 <= seed < 2**31")
    args.add_argument("--port", type=_port, default=0, help="OPC UA port on 127.0.0.1; 0 takes a free one")
    args.add_argument("--fifo", type=Path, help="send the traffic as a pcap stream through this FIFO")
    args.add_argument("--pcap", type=Path, help="write the traffic to this capture file")
    args.add_argument("--interface", help="send the traffic on this veth, TAP or dummy interface")
    args.add_argument("--labels", type=Path, help="write the labelled incidents to this JSON file")
    args.add_argument("--security", default="none", choices=("none", "basic256sha256"))
    args.add_argument("--user", default="", help="the only user name that is let in")
    args.add_argument(
        "--password-env", default="", metavar="VAR", help="environment variable with the password"
    )
    args.add_argument("--cert-dir", type=Path, help="folder for the self-signed certificate")
    args.add_argument(
        "--duration-hint", type=float, metavar="S", help="length of the run; open labels end there"
    )
    args.add_argument("--speed", type=float, default=1.0, help="replay: divide the file's time step by this")
    args.add_argument("--commission-rows", type=int, default=400, help="replay: rows that count as benign")
    args.add_argument("--plc", default="PLC1", help="replay: name of the PLC")
    return args


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; use 0..65535")
    return int(text)


def main(argv: list[str] | None = None) -> int:
    """Run; returns the exit code."""
    args = parser().parse_args(argv)
    try:
        seeds.check_seed(args.seed, training=False)
        password = os.environ.get(args.password_env, "") if args.password_env else ""
        security = server.Security(args.security, args.user, password, args.cert_dir)
        security.check()
        options = live.Options(args.seed, args.port, args.labels, args.duration_hint, security)
        if args.replay is not None:
            table = read_table(args.replay)
            for warning in table.warnings:
                print(f"warning: {warning}", file=sys.stderr)
            replay = Replay(table, args.plc, args.speed, args.commission_rows)
            options.sinks = sinks.open_sinks(args.fifo, args.pcap, args.interface)
            asyncio.run(live.run_replay(replay, options))
        else:
            plan = scenario.load(args.scenario)
            options.sinks = sinks.open_sinks(args.fifo, args.pcap, args.interface)
            asyncio.run(live.run_cell(plan, options))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
