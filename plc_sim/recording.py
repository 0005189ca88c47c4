"""Offline runs: the whole cell at full speed, scan by scan or into arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cellwatch.plc_sim import scenario as scenarios
from cellwatch.plc_sim.cell import SCAN_NS, Cell, Step
from cellwatch.plc_sim.chaos import BAD_NO_COMMUNICATION
from cellwatch.plc_sim.frames import Frames, concat
from cellwatch.plc_sim.incidents import Incident
from cellwatch.plc_sim.network.hosts import devices_of
from cellwatch.plc_sim.plcs.alarms import AlarmEvent
from cellwatch.plc_sim.plcs.parts import SCAN_S
from cellwatch.plc_sim.seeds import check_seed
from cellwatch.plc_sim.tags import TagSpec

START_NS = 1_700_000_000_000_000_000  # time zero unless the caller has another


@dataclass(frozen=True, slots=True)
class Recording:
    """Everything that a run shows: n scans of m tags, and the frames between them."""

    scenario: str
    seed: int
    time_ns: NDArray[np.int64]  # (n,) source time of each scan
    values: NDArray[np.float64]  # (n, m), what clients are shown; booleans and modes as numbers
    status: NDArray[np.uint32]  # (n, m) OPC UA StatusCode
    tags: tuple[TagSpec, ...]  # m
    frames: Frames
    incidents: tuple[Incident, ...]
    devices: dict[str, str]  # MAC -> name
    alarms: tuple[tuple[int, AlarmEvent], ...] = ()  # time_ns of the scan, what changed


class Playback:
    """One offline run, to be iterated once: the steps of `n` scans. Holds nothing but the cell."""

    def __init__(
        self,
        scenario: str | Path | scenarios.Scenario,
        seed: int,
        duration_s: float,
        start_ns: int = START_NS,
        *,
        training: bool = False,
        network: bool = True,
    ) -> None:
        """Raise ValueError for a seed outside its range (`seeds`), ScenarioError for a scenario of no use."""
        check_seed(seed, training)
        self.plan = scenario if isinstance(scenario, scenarios.Scenario) else scenarios.load(scenario)
        self.n = round(duration_s * 1e9 / SCAN_NS)
        if self.n < 1:
            raise ValueError(
                f"duration_s is {duration_s}; it must cover at least one scan of {SCAN_NS * 1e-9:g} s"
            )
        self.seed = seed
        self.start_ns = start_ns
        self.end_ns = start_ns + self.n * SCAN_NS + 1  # just after the last scan
        self.cell = Cell(self.plan, seed, start_ns, network)

    def __iter__(self) -> Iterator[Step]:
        cell = self.cell
        cell.start(self.start_ns)
        bursts = [each for each in cell.chaos if each.name == "bad_quality_burst"]  # the rest acts on servers
        for k in range(1, self.n + 1):
            step = cell.scan(self.start_ns + k * SCAN_NS)
            lost = [burst.plc for burst in bursts if burst.at_s <= k * SCAN_S < burst.at_s + burst.duration_s]
            yield replace(step, status=self._bad(step.status, lost)) if lost else step

    def _bad(self, status: Sequence[int], plcs: Sequence[str]) -> tuple[int, ...]:
        return tuple(
            BAD_NO_COMMUNICATION if tag.device in plcs else code
            for tag, code in zip(self.cell.tags, status, strict=True)
        )

    def incidents(self) -> tuple[Incident, ...]:
        """Labels of what has begun, cut to the run; final when the iteration is over."""
        self.cell.close_labels(self.end_ns)
        return tuple(
            replace(label, end_ns=min(label.end_ns, self.end_ns))
            for label in self.cell.labels
            if label.onset_ns < self.end_ns
        )


def simulate(
    scenario: str | Path | scenarios.Scenario,
    seed: int,
    duration_s: float,
    start_ns: int = START_NS,
    *,
    training: bool = False,
    network: bool = True,
) -> Recording:
    """Run a scenario for `duration_s` seconds of plant time, its time zero at `start_ns`.

    The same arguments give the same bytes. Raises as `Playback` does. Frames are kept in memory: a long run
    with floods is better written by `dataset.write`.
    """
    run = Playback(scenario, seed, duration_s, start_ns, training=training, network=network)
    tags = run.cell.tags
    values = np.empty((run.n, len(tags)))
    status = np.zeros(values.shape, np.uint32)
    blocks: list[Frames] = []
    alarms: list[tuple[int, AlarmEvent]] = []
    for i, step in enumerate(run):
        values[i] = step.values
        status[i] = step.status
        blocks.append(step.frames)
        alarms += [(run.cell.time_ns, alarm) for alarm in step.alarms]
    return Recording(
        scenario=run.plan.name,
        seed=seed,
        time_ns=start_ns + SCAN_NS * np.arange(1, run.n + 1, dtype=np.int64),
        values=values,
        status=status,
        tags=tags,
        frames=concat(blocks),
        incidents=run.incidents(),
        devices=devices_of(run.cell.site),
        alarms=tuple(alarms),
    )
