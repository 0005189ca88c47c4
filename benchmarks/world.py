"""Is the simulated factory's benign traffic like the real one? Distances to DataSense's benign hour.

    python benchmarks/world.py [--seconds 3600] [--half second] [--json FILE] [--markdown]

Simulates the factory's benign network, makes 10 s windows with the suite's own feature code (empty: 0, as
DataSense writes them) and compares, device by device and column by column, with one half of the real hour.
The capture is whole, with the PLCs, the HMI, the engineering station and the Modbus device, which DataSense
has not; rows are the 38 devices that both have.

The distance of a column is the Wasserstein distance between the simulated and the real values, divided by the
column's scale for this device in the real hour: the larger of its standard deviation and its interquartile
range / 1.349, at least 5 % of the column's standard deviation over all devices. 1 = one standard deviation
off on average. The reference is the same distance between the two halves of the real hour. Habits were tuned
on the first half.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import wasserstein_distance

from cellwatch.models.features.columns import LOG_COLUMNS, NETWORK_COLUMNS
from cellwatch.models.features.traffic import TrafficWindows
from cellwatch.nodes.simulated import packets as parsed
from cellwatch.plc_sim.frames import IDENT, SEQ, SPORT, SYN, Traffic, concat, put16, put32, stamp, tcp_frame
from cellwatch.plc_sim.network import DEVICES, Network
from cellwatch.plc_sim.network.hosts import ROLES
from cellwatch.plc_sim.sites import SITES

WINDOW_S = 10
START_NS = 1_700_000_000_000_000_000
WARM_UP_S = 60  # connections open; not counted
FLOOR = 0.05  # of a column's standard deviation over all devices
CAP = 5.0  # in the table of means: a constant that differs is no better than any other difference
OTHERS = {"plc", "modbus", "hmi", "engineering", "cloud"}  # roles without a row in DataSense
COLUMNS = list(NETWORK_COLUMNS + LOG_COLUMNS)
DATA = Path(os.environ.get("CELLWATCH_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
GROUPS = {
    "rate": ("packets", "interval"),
    "addresses": ("ips", "macs"),
    "multiplexing": ("ports", "protocols"),
    "flags": ("tcp-flags", "ip-flags"),
    "size": ("header", "ip-length", "packet-size", "payload", "mss", "fragment"),
    "timing": ("time-delta", "ttl", "window"),
    "messages": ("log_",),
}


def group_of(column: str) -> str:
    name = column.removeprefix("network_")
    return next(group for group, starts in GROUPS.items() if name.startswith(starts))


def real_windows() -> pd.DataFrame:
    """The real hour: device, start, and the columns."""
    archive = DATA / "datasense" / "benign_samples_10sec.csv.tar.xz"
    if not archive.exists():
        sys.exit(f"{archive} is not there; set CELLWATCH_DATA to the folder that holds datasense/")
    with tarfile.open(archive) as tar:
        member = next(m for m in tar.getmembers() if m.name.endswith(".csv") and "/._" not in f"/{m.name}")
        raw = tar.extractfile(member).read()
    return pd.read_csv(io.BytesIO(raw), usecols=["device_name", "timestamp_start", *COLUMNS])


def simulated_windows(seconds: int, seed: int) -> tuple[pd.DataFrame, dict[str, float]]:
    """The same columns for the simulated factory, and how fast it was made."""
    site = SITES["factory"]
    net = Network(np.random.default_rng(seed), START_NS - WARM_UP_S * 10**9, site)
    for k in range(-WARM_UP_S * 10, 0):
        net.tick(START_NS + k * 10**8, START_NS + (k + 1) * 10**8)
    windows = TrafficWindows(WINDOW_S, DEVICES)
    spent, packets, rows = 0.0, 0, []
    steps = seconds * 10 // 100
    for chunk in track(range(steps), "simulating", transient=True, console=Console(stderr=True)):
        began = time.process_time()
        ticks = range(chunk * 100, chunk * 100 + 100)  # 10 of 0.1 s a second
        frames = concat([net.tick(START_NS + k * 10**8, START_NS + (k + 1) * 10**8) for k in ticks])
        spent += time.process_time() - began
        packets += len(frames)
        windows.add(parsed(frames))
        rows += windows.close(START_NS + (chunk + 1) * WINDOW_S * 10**9)
    names = [name for name in site.hosts if ROLES[name] not in OTHERS]
    table = []
    for number, batch in enumerate(rows):
        place = [batch.columns.index(column) for column in COLUMNS]
        shown = np.nan_to_num(batch.values[:, place])  # noqa: PD011
        values = dict(zip(batch.devices, shown, strict=True))
        empty = np.zeros(len(COLUMNS))
        table += [(name, number, *values.get(name, empty)) for name in names]
    speed = {"packets": packets, "cpu_s": round(spent, 2), "plant_s_per_cpu_s": round(seconds / spent)}
    made = pd.DataFrame(table, columns=["device_name", "timestamp_start", *COLUMNS])
    made["network_macs_dst_count"] = made["network_macs_src_count"]  # as in every row of DataSense
    return made, speed


def flood_speed(ticks: int = 20, n: int = 5000) -> float:
    """SYN segments made, merged with benign life and sealed, per CPU second."""
    net = Network(np.random.default_rng(1), START_NS, SITES["factory"])
    attacker, target = net.hosts["attacker1"], net.hosts["PLC1"]
    began = time.process_time()
    for k in range(ticks):
        at = START_NS + k * 10**8 + np.sort(net.rng.integers(10**8, size=n))
        block = stamp(tcp_frame(attacker, target, (0, 4840), 0, 0, SYN), at)
        put16(block.rows, IDENT, np.arange(n))
        put16(block.rows, SPORT, 1024 + np.arange(n))
        put32(block.rows, SEQ, net.rng.integers(1 << 32, size=n))
        net.tick(START_NS + k * 10**8, START_NS + (k + 1) * 10**8, Traffic([block]))
    return ticks * n / (time.process_time() - began)


def halves(table: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    starts = sorted(table["timestamp_start"].unique())
    middle = starts[len(starts) // 2]
    return table[table["timestamp_start"] < middle], table[table["timestamp_start"] >= middle]


def scales(real: pd.DataFrame) -> pd.DataFrame:
    """Scale of each column (columns) for each device (index)."""
    by = real.groupby("device_name")[COLUMNS]
    spread = np.maximum(by.std(ddof=0), (by.quantile(0.75) - by.quantile(0.25)) / 1.349)
    floor = FLOOR * real[COLUMNS].std(ddof=0)
    return spread.clip(lower=floor.where(floor > 0, 1.0), axis=1)


def distances(one: pd.DataFrame, other: pd.DataFrame, scale: pd.DataFrame) -> pd.DataFrame:
    """Scaled Wasserstein distances, devices by columns."""
    a, b = dict(list(one.groupby("device_name"))), dict(list(other.groupby("device_name")))
    found = {
        device: [
            wasserstein_distance(a[device][column], b[device][column]) / scale.loc[device, column]
            for column in COLUMNS
        ]
        for device in scale.index
    }
    table = pd.DataFrame(found, index=COLUMNS).T
    quiet = [name for name in table.index if ROLES[name] != "sensor"]
    table.loc[quiet, list(LOG_COLUMNS)] = np.nan  # they publish nothing
    return table


def long(table: pd.DataFrame) -> pd.Series:
    """All cells in one column, without those that do not apply."""
    return table.stack().dropna()  # noqa: PD013


def by_group(table: pd.DataFrame) -> pd.DataFrame:
    """Mean of each group of columns; a column more than CAP off counts as CAP."""
    table = table.clip(upper=CAP)
    grouped = table.T.groupby(group_of).mean().T[list(GROUPS)]
    grouped.insert(0, "all", table.mean(axis=1))
    return grouped


def cell(ours: float, noise: float) -> str:
    return "" if np.isnan(ours) else f"{ours:.2f} ({noise:.2f})"


def show(ours: pd.DataFrame, noise: pd.DataFrame, rows: int, markdown: bool) -> None:
    """Mean distance per device and group, the real halves in brackets; then the worst cells."""
    one, other = by_group(ours), by_group(noise)
    order = one["all"].sort_values(ascending=False).index
    head = ["device", *one.columns]
    body = [
        [device, *(cell(one.loc[device, c], other.loc[device, c]) for c in one.columns)] for device in order
    ]
    body.append(["**mean**", *(cell(one[c].mean(), other[c].mean()) for c in one.columns)])
    cells = long(ours).sort_values(ascending=False).head(rows)
    worst = [[d, c, f"{v:.2f}", f"{noise.loc[d, c]:.2f}"] for (d, c), v in cells.items()]
    for title, names, lines in (
        ("mean distance", head, body),
        ("worst", ["device", "column", "distance", "real halves"], worst),
    ):
        if markdown:
            print("| " + " | ".join(names) + " |\n|" + "---|" * len(names))
            print("".join("| " + " | ".join(line) + " |\n" for line in lines))
        else:
            table = Table(*names, title=title)
            for line in lines:
                table.add_row(*line)
            Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=3600, help="plant time, default 3600")
    parser.add_argument("--half", choices=("first", "second"), default="second", help="of the real hour")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--worst", type=int, default=20, help="single columns to list")
    parser.add_argument("--json", type=Path, help="write all distances to FILE")
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args()
    real = real_windows()
    sim, speed = simulated_windows(given.seconds, given.seed)
    speed["flood_packets_per_cpu_s"] = round(flood_speed(), -3)
    which = 0 if given.half == "first" else 1
    ours = distances(halves(sim)[which], halves(real)[which], scale := scales(real))
    noise = distances(*halves(real), scale)
    show(ours, noise, given.worst, given.markdown)
    median, own = long(ours).median(), long(noise).median()
    print(f"{given.half} half; median over all cells {median:.3f} (real halves {own:.3f}); {speed}")
    if given.json:
        cells = {
            d: {c: [round(ours.loc[d, c], 4), round(noise.loc[d, c], 4)] for c in ours} for d in ours.index
        }
        given.json.write_text(json.dumps({"half": given.half, "speed": speed, "distances": cells}, indent=1))


if __name__ == "__main__":
    main()
