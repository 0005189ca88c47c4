"""Offline runs: the whole cell at full speed, into arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cellwatch.plc_sim import scenario as scenarios
from cellwatch.plc_sim.cell import SCAN_NS, Cell
from cellwatch.plc_sim.frames import Frames, concat
from cellwatch.plc_sim.incidents import Incident
from cellwatch.plc_sim.network import DEVICES
from cellwatch.plc_sim.seeds import check_seed
from cellwatch.plc_sim.tags import TAGS, TagSpec


@dataclass(frozen=True, slots=True)
class Recording:
    """Everything that a run shows: n scans of m tags, and the frames between them."""

    scenario: str
    seed: int
    time_ns: NDArray[np.int64]  # (n,) source time of each scan
    values: NDArray[np.float64]  # (n, m), booleans and modes as numbers
    status: NDArray[np.uint32]  # (n, m) OPC UA StatusCode
    tags: tuple[TagSpec, ...]  # m
    frames: Frames
    incidents: tuple[Incident, ...]
    devices: dict[str, str]  # MAC -> name


def simulate(
    scenario: str | Path | scenarios.Scenario,
    seed: int,
    duration_s: float,
    start_ns: int = 1_700_000_000_000_000_000,
    *,
    training: bool = False,
    network: bool = True,
) -> Recording:
    """Run a scenario for `duration_s` seconds of plant time, its time zero at `start_ns`.

    The same arguments give the same bytes. Raises ValueError for a seed outside its range (`seeds`) and
    ScenarioError for a scenario that cannot be used.
    """
    check_seed(seed, training)
    plan = scenario if isinstance(scenario, scenarios.Scenario) else scenarios.load(scenario)
    n = round(duration_s * 1e9 / SCAN_NS)
    if n < 1:
        raise ValueError(
            f"duration_s is {duration_s}; it must cover at least one scan of {SCAN_NS * 1e-9:g} s"
        )
    cell = Cell(plan, seed, start_ns, network)
    cell.start(start_ns)
    times = start_ns + SCAN_NS * np.arange(1, n + 1, dtype=np.int64)
    values = np.empty((n, len(TAGS)))
    blocks: list[Frames] = []
    for i, time_ns in enumerate(times.tolist()):
        step = cell.scan(time_ns)
        values[i] = step.values
        blocks.append(step.frames)
        if step.entered_safe:
            cell.keep_fault_open(time_ns)
    end_ns = int(times[-1]) + 1
    cell.close_labels(end_ns)
    return Recording(
        scenario=plan.name,
        seed=seed,
        time_ns=times,
        values=values,
        status=np.zeros(values.shape, np.uint32),
        tags=TAGS,
        frames=concat(blocks),
        incidents=tuple(label for label in cell.labels if label.onset_ns < end_ns),
        devices=dict(DEVICES),
    )
