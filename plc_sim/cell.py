"""The simulated cell: process, PLCs, network and scenario, advanced one PLC scan at a time.

Both the offline `simulate` and the live process drive this one class; it reads no clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellwatch.plc_sim.attacks import ATTACKS, Effects, Running
from cellwatch.plc_sim.faults import FAULTS, Disturbance
from cellwatch.plc_sim.frames import EMPTY, Frames, Traffic
from cellwatch.plc_sim.incidents import OPEN_END_NS, Incident
from cellwatch.plc_sim.network.network import Network
from cellwatch.plc_sim.plcs.alarms import AlarmEvent
from cellwatch.plc_sim.plcs.parts import SAFE, SCAN_S, Refusal
from cellwatch.plc_sim.process import Process
from cellwatch.plc_sim.schedule import Event, Planned, Scenario, draw, draw_events
from cellwatch.plc_sim.sites import SITES

WARM_UP_SCANS = 300  # from `initial` to the steady state; also opens the connections
SCAN_NS = round(SCAN_S * 1e9)


@dataclass(frozen=True, slots=True)
class Step:
    """What one scan brought."""

    values: tuple[float, ...]  # what clients are shown, one a tag, in the order of `Cell.tags`
    status: tuple[int, ...]  # OPC UA StatusCode of each
    frames: Frames  # of the time since the previous scan
    alarms: tuple[AlarmEvent, ...]
    entered_safe: tuple[str, ...]  # PLCs that went to their safe state in this scan
    relabelled: tuple[int, ...] = ()  # labels that a safe state left open or a reset gave an end


class Cell:
    """A cell in its steady state, just after a scan at `time_ns`."""

    def __init__(self, scenario: Scenario, seed: int, time_ns: int, network: bool = True) -> None:
        """Draw the scenario and warm up."""
        streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(6)]
        rng_plan, rng_plant, rng_noise, rng_network, self._rng_attack, rng_events = streams
        self.scenario = scenario
        self.site = SITES[scenario.site]
        self.planned: tuple[Planned, ...] = draw(scenario, rng_plan)
        self.activities: tuple[Event, ...] = draw_events(scenario.activities, rng_events)
        self.chaos: tuple[Event, ...] = draw_events(scenario.chaos, rng_events)
        self.process = Process(self.site, rng_plant, rng_noise)
        self.tags = self.process.tags
        self._names = tuple(tag.name for tag in self.tags)
        self._mode = {tag.device: i for i, tag in enumerate(self.tags) if tag.name.endswith("_MODE")}
        self._shown: dict[str, float] = dict.fromkeys(self._names, 0.0)
        self.zero_ns: int | None = None
        self.labels: list[Incident] = []
        self._runs: dict[int, Running] = {}  # attacks under way, by their place in `planned`
        self._over: set[int] = set()
        self._stopped: frozenset[str] = frozenset()
        self._safe: dict[str, int] = {}  # PLC -> since when it is in its safe state
        self.time_ns = time_ns - WARM_UP_SCANS * SCAN_NS
        self.network = Network(rng_network, self.time_ns, self.site) if network else None
        for _ in range(WARM_UP_SCANS):
            self.scan(self.time_ns + SCAN_NS)

    def start(self, zero_ns: int) -> None:
        """Scenario time zero; fixes all labels."""
        self.zero_ns = zero_ns
        self.labels = [planned.label(zero_ns) for planned in self.planned]

    def write(self, plc: str, tag: str, value: float) -> Refusal:
        """Take a write from the network; it takes effect at the next scan."""
        return self.process.write(plc, tag, value)

    def scan(self, time_ns: int) -> Step:
        """Advance the cell by one cycle; the scan is stamped `time_ns`."""
        traffic, effects = self._attacks(time_ns)
        for plc, tag, value in effects.writes:
            self.process.write(plc, tag, value)
        self._stop(effects.stopped)
        self._reset_after_a_while(time_ns)
        skipped = {plc for plc, share in effects.skipped.items() if self._rng_attack.random() < share}
        seen = self.process.scan([*self._faults(time_ns), *effects.disturbances], skipped)
        relabelled: list[int] = []
        if self._safe:
            relabelled += self._close_reset(seen.values, time_ns)
        if seen.entered_safe:
            relabelled += self._keep_open(seen.entered_safe, time_ns)
        self._shown = dict(zip(self._names, seen.values, strict=True)) | effects.shown
        values = tuple(self._shown.values()) if effects.shown else seen.values
        frames = self._frames(time_ns, traffic, effects)
        self.time_ns = time_ns
        return Step(values, seen.status, frames, seen.alarms, seen.entered_safe, tuple(relabelled))

    def close_labels(self, end_ns: int) -> None:
        """End the labels that were open to the end of the run."""
        self.labels = [
            replace(label, end_ns=max(end_ns, label.onset_ns)) if label.end_ns == OPEN_END_NS else label
            for label in self.labels
        ]

    def _faults(self, time_ns: int) -> list[Disturbance]:
        if self.zero_ns is None:
            return []
        now = (time_ns - self.zero_ns) * 1e-9
        return [
            FAULTS[each.type].disturbance(each.size, now - each.onset_s)
            for each in self.planned
            if each.kind == "fault" and each.onset_s <= now < each.removal_s
        ]

    def _attacks(self, time_ns: int) -> tuple[Traffic, Effects]:
        """Frames and effects of all attacks between the last scan and this one."""
        traffic, effects = Traffic(), Effects()
        if self.zero_ns is None or self.network is None:
            return traffic, effects
        for i, each in enumerate(self.planned):
            if each.kind != "attack" or i in self._over:
                continue
            onset = self.zero_ns + round(each.onset_s * 1e9)
            if onset >= time_ns:
                break  # in order of onset
            removal = self.zero_ns + round(each.removal_s * 1e9)
            begin, end = max(self.time_ns, onset), min(time_ns, removal)
            if i not in self._runs:
                self._runs[i] = ATTACKS[each.type].start(
                    self.network, self._rng_attack, each.attackers, each.target, each.size
                )
            if begin < end:
                _add(traffic, effects, *self._runs[i].tick(begin, end, self._shown))
            if removal <= time_ns:
                _add(traffic, effects, *self._runs.pop(i).end(max(begin, removal), self._shown))
                self._over.add(i)
        return traffic, effects

    def _frames(self, time_ns: int, traffic: Traffic, effects: Effects) -> Frames:
        net = self.network
        if net is None:
            return EMPTY
        net.values = self._shown
        net.delay_ms, net.loss, net.relay = effects.delay_ms, effects.loss, effects.relay
        if self.zero_ns is not None:
            for event in self.activities:
                at = self.zero_ns + round(event.at_s * 1e9)
                if self.time_ns <= at < time_ns:
                    net.activity(event.name, at)
        return net.tick(self.time_ns, time_ns, traffic)

    def _stop(self, stopped: frozenset[str]) -> None:
        if stopped != self._stopped:
            for plc in stopped - self._stopped:
                self.process.stop_plc(plc)
            for plc in self._stopped - stopped:
                self.process.start_plc(plc)
            self._stopped = stopped

    def _reset_after_a_while(self, time_ns: int) -> None:
        """Let the operator of the scenario, if there is one, take PLCs out of their safe state."""
        if self.scenario.reset_s is None or self.zero_ns is None:
            return
        patience = round(self.scenario.reset_s * 1e9)
        for plc, since in self._safe.items():
            if time_ns - since >= patience:
                self.process.call(plc, "Reset")

    def _keep_open(self, entered_safe: Sequence[str], time_ns: int) -> list[int]:
        """Keep open the labels of faults on PLCs that just went to their safe state; returns those labels."""
        self._safe |= dict.fromkeys(entered_safe, time_ns)
        opened: list[int] = []
        for i, label in enumerate(self.labels):
            struck = label.kind == "fault" and label.device in entered_safe
            if struck and label.onset_ns <= time_ns < label.end_ns < OPEN_END_NS:
                self.labels[i] = replace(label, end_ns=OPEN_END_NS)
                opened.append(i)
        return opened

    def _close_reset(self, values: Sequence[float], time_ns: int) -> list[int]:
        """End the labels of PLCs that somebody took out of their safe state; returns those labels."""
        reset = [plc for plc in self._safe if values[self._mode[plc]] != SAFE]
        for plc in reset:
            del self._safe[plc]
        ended: list[int] = []
        for i, (label, planned) in enumerate(zip(self.labels, self.planned, strict=False)):
            if label.end_ns == OPEN_END_NS and label.device in reset:
                drawn = label.onset_ns + round((planned.end_s - planned.onset_s) * 1e9)
                recovered = time_ns + round((planned.end_s - planned.removal_s) * 1e9)
                self.labels[i] = replace(label, end_ns=max(drawn, recovered))
                ended.append(i)
        return ended


def _add(traffic: Traffic, effects: Effects, more: Traffic, also: Effects) -> None:
    """Add what one attack does in a tick to what the others do."""
    traffic.blocks += more.blocks
    traffic.singles += more.singles
    for device, delay in also.delay_ms.items():
        effects.delay_ms[device] = effects.delay_ms.get(device, 0.0) + delay
    _most(effects.loss, also.loss)
    _most(effects.skipped, also.skipped)
    effects.relay |= also.relay
    effects.disturbances += also.disturbances
    effects.shown |= also.shown
    effects.writes += also.writes
    effects.stopped |= also.stopped


def _most(shares: dict[str, float], others: Mapping[str, float]) -> None:
    for name, share in others.items():
        shares[name] = max(shares.get(name, 0.0), share)
