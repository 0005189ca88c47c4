"""RuleSense on real Modbus attacks: Lemay's captures in windows of 10 s, against the labels of their packets.

    CELLWATCH_DATA=FOLDER python benchmarks/lemay.py [--json]

The two captures that hold benign stretches are judged. Each window is judged by a profile of the benign
windows of all stretches but its own (windows of one capture that follow one another without an attack in
between), so nothing is judged by what was learned from it or from its neighbours. A window is malicious when
one of its packets is; it is called so when a device in it is not ALLOW. Beside it: who always calls an alarm,
and who never does.

A. Lemay, J. M. Fernandez: Providing SCADA network data sets for intrusion detection research, CSET 2016.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from cellwatch.models.evaluation.metrics import confusion, mcc
from cellwatch.models.features.columns import TRAFFIC_COLUMNS
from cellwatch.models.features.packets import parse
from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.tags import TAG_COLUMNS
from cellwatch.models.features.traffic import TrafficWindows
from cellwatch.models.rules.profile_builder import ProfileBuilder
from cellwatch.models.rules.protocol import ProtocolRules
from cellwatch.models.rules.rulesense import RuleSense
from cellwatch.models.types import FeatureWindow, PacketBlock, Screening, TrafficBatch
from cellwatch.nodes.drivers.capture import FileCapture
from cellwatch.nodes.features_file import read_labels

CAPTURES = ("CnC_uploading_exe_modbus_6RTU_with_operate", "moving_two_files_modbus_6RTU")
WINDOW_S = 10.0


def blocks(capture: Path) -> list[PacketBlock]:
    """Every packet."""
    found: list[PacketBlock] = []
    with closing(FileCapture(capture)) as source:
        while not source.exhausted:
            found += source.read()
    return found


def read(folder: Path) -> tuple[list[FeatureWindow], list[bool], list[int]]:
    """Windows of both captures, whether each is malicious, and the stretch that it belongs to."""
    captures = [(folder / f"{name}.pcap", folder / f"{name}_labeled.csv") for name in CAPTURES]
    packets = [blocks(capture) for capture, _ in captures]
    # The inventory: whoever speaks in benign packets has a name; an address without one is a stranger.
    speakers: set[str] = set()
    for parts, (_, labels) in zip(packets, captures, strict=True):
        truth = read_labels(labels).packets
        assert truth is not None
        sources = np.concatenate([_senders(block) for block in parts])
        speakers |= set(sources[~truth].tolist())
    names = {mac: f"host{i}" for i, mac in enumerate(sorted(speakers), 1)}
    windows: list[FeatureWindow] = []
    malicious: list[bool] = []
    stretch: list[int] = []
    number = 0
    for parts, (_, labels) in zip(packets, captures, strict=True):
        number += 1
        truth = read_labels(labels).packets
        assert truth is not None
        times = np.concatenate([block.time_ns for block in parts])
        traffic = TrafficWindows(WINDOW_S, names)
        bad = set((times[truth] // traffic.window_ns + 1).tolist())
        for block in parts:
            traffic.add(parse(block))
        for batch in traffic.close(None):
            hit = batch.window_id in bad
            number += hit
            windows.append(_window(batch))
            malicious.append(hit)
            stretch.append(number)
            number += hit
    return windows, malicious, stretch


def _senders(block: PacketBlock) -> np.ndarray:  # type: ignore[type-arg]
    """Source MAC of each packet (n,)."""
    rows = block.data[block.offset[:, None] + np.arange(6, 12)]
    return np.array([":".join(f"{b:02x}" for b in row) for row in rows.tolist()], dtype=object)


def _window(batch: TrafficBatch) -> FeatureWindow:
    """Traffic alone: nobody reads tags here."""
    names = default_schema().names
    values = np.full((len(batch.devices), len(names)), np.nan, dtype=np.float32)
    values[:, [names.index(c) for c in TRAFFIC_COLUMNS]] = batch.values[
        :, [batch.columns.index(c) for c in TRAFFIC_COLUMNS]
    ]
    nobody, nothing = np.zeros(0, np.uint32), np.zeros((0, len(TAG_COLUMNS)), np.float32)
    return FeatureWindow(
        batch.window_id, batch.start_ns, batch.end_ns, batch.end_ns, default_schema().schema_id,
        batch.devices, values, (), nobody, nothing, conversations=batch.conversations,
    )  # fmt: skip


def judge(windows: list[FeatureWindow], malicious: list[bool], stretch: list[int]) -> list[Screening]:
    """Gravest verdict of each window, learned from the other benign stretches."""
    verdicts = []
    for i, window in enumerate(windows):
        builder = ProfileBuilder(default_schema().names, TAG_COLUMNS)
        for other, hit, part in zip(windows, malicious, stretch, strict=True):
            if not hit and part != stretch[i]:
                builder.add(other)
        profile = builder.build()
        rules = RuleSense(profile, rules=(ProtocolRules(profile.habits),))
        verdicts.append(Screening(int(rules.judge(window).screening.max())))
    return verdicts


def figures(malicious: list[bool], called: list[bool]) -> dict[str, float]:
    """Quality of calling windows malicious."""
    m = confusion(np.array(malicious, dtype=np.int64), np.array(called, dtype=np.int64), 2)
    (_, false), (missed, hit) = m.tolist()
    return {
        "called": hit + false,
        "precision": round(hit / max(1, hit + false), 3),
        "recall": round(hit / max(1, hit + missed), 3),
        "f1": round(2 * hit / max(1, 2 * hit + false + missed), 3),
        "mcc": round(mcc(m), 3),
    }


def main() -> None:
    """Judge and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    data = Path(os.environ.get("CELLWATCH_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
    folder = data / "lemay_modbus"
    if not folder.is_dir():
        sys.exit(f"no captures at {folder}: set CELLWATCH_DATA")
    windows, malicious, stretch = read(folder)
    verdicts = judge(windows, malicious, stretch)
    found = {
        "windows": len(windows),
        "malicious": sum(malicious),
        "rulesense": figures(malicious, [v > Screening.ALLOW for v in verdicts]),
        "rulesense BLOCK": figures(malicious, [v == Screening.BLOCK for v in verdicts]),
        "always": figures(malicious, [True] * len(windows)),
        "never": figures(malicious, [False] * len(windows)),
    }
    if options.json:
        json.dump(found, sys.stdout, indent=1)
        print()
        return
    table = Table("", "called", "precision", "recall", "F1", "MCC", box=None, padding=(0, 2, 0, 0))
    for name in ("rulesense", "rulesense BLOCK", "always", "never"):
        one = found[name]
        table.add_row(name, *(f"{one[k]:g}" for k in ("called", "precision", "recall", "f1", "mcc")))  # type: ignore[index]
    Console().print(f"{len(windows)} windows, {sum(malicious)} of them malicious")
    Console().print(table)


if __name__ == "__main__":
    main()
