"""The simulated cell: process, PLC, network and scenario, advanced one PLC scan at a time.

Both the offline `simulate` and the live process drive this one class; it reads no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cellwatch.plc_sim import plant, plc
from cellwatch.plc_sim.attacks import ATTACKS, first_contact
from cellwatch.plc_sim.faults import FAULTS, readings_with
from cellwatch.plc_sim.frames import EMPTY, Block, Frames
from cellwatch.plc_sim.incidents import OPEN_END_NS, Incident
from cellwatch.plc_sim.network import MS, Network
from cellwatch.plc_sim.scenario import TARGET, Planned, Scenario, draw

WARM_UP_SCANS = 300  # from `plant.initial` to the steady state; also opens the connections
SCAN_NS = round(plc.SCAN_S * 1e9)


@dataclass(frozen=True, slots=True)
class Step:
    """What one scan brought."""

    values: tuple[float, ...]  # one a tag, in the order of `tags.TAGS`
    frames: Frames  # of the time since the previous scan
    entered_safe: bool  # the PLC went to its safe state in this scan


class Cell:
    """A cell in its steady state, just after a scan at `time_ns`."""

    def __init__(self, scenario: Scenario, seed: int, time_ns: int, network: bool = True) -> None:
        """Draw the scenario and warm up."""
        streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(5)]
        rng_plan, self._rng_plant, self._rng_noise, rng_network, self._rng_attack = streams
        self.planned: tuple[Planned, ...] = draw(scenario, rng_plan)
        self.params = plant.Params()
        self.state = plant.initial(self._rng_plant, self.params)
        self.plc = plc.PlcState()
        self.action = plant.Action(self.plc.level_cv / 100.0, self.plc.temp_cv / 100.0)
        self.zero_ns: int | None = None
        self.labels: list[Incident] = []
        self._was_safe = False
        self._sent = [0] * len(self.planned)  # packets of each attack so far
        self.time_ns = time_ns - WARM_UP_SCANS * SCAN_NS
        self.network = Network(rng_network, self.time_ns) if network else None
        for _ in range(WARM_UP_SCANS):
            self.scan(self.time_ns + SCAN_NS)

    def start(self, zero_ns: int) -> None:
        """Scenario time zero; fixes all labels."""
        self.zero_ns = zero_ns
        self.labels = [planned.label(zero_ns) for planned in self.planned]

    def write(self, tag: str, value: float) -> plc.Refusal:
        """Take a write from the network; it takes effect at the next scan."""
        self.plc, refusal = plc.write(self.plc, tag, value)
        return refusal

    def scan(self, time_ns: int) -> Step:
        """Advance the process by one cycle; the scan is stamped `time_ns`."""
        params, level_error = self._faults(time_ns)
        true = plant.readings(self.state, self.action, params)
        noise = self._rng_noise.standard_normal(len(true)).tolist()
        noisy = plant.Readings(*[x + s * z for x, s, z in zip(true, plant.NOISE, noise, strict=True)])
        seen = readings_with(noisy, level_error)
        self.plc, self.action = plc.scan(self.plc, seen)
        self.state = plant.transition(self.state, self.action, self._rng_plant, params, plc.SCAN_S)
        values = (
            *seen,
            self.plc.level_sp,
            self.plc.temp_sp,
            self.plc.level_cv,
            self.plc.temp_cv,
            float(self.plc.mode),
            float(self.plc.mode == plc.Mode.SAFE),
            float(self.plc.lock),
        )
        frames = self._traffic(time_ns, values)
        is_safe = self.plc.mode == plc.Mode.SAFE
        entered_safe, self._was_safe = is_safe and not self._was_safe, is_safe
        self.time_ns = time_ns
        return Step(values, frames, entered_safe)

    def keep_fault_open(self, time_ns: int) -> bool:
        """Keep the label of a fault open to the end of the run, after a safe state; true if one changed."""
        changed = False
        for i, label in enumerate(self.labels):
            if label.kind == "fault" and label.onset_ns <= time_ns < label.end_ns < OPEN_END_NS:
                self.labels[i] = replace(label, end_ns=OPEN_END_NS)
                changed = True
        return changed

    def close_labels(self, end_ns: int) -> None:
        """End the labels that were open to the end of the run."""
        self.labels = [
            replace(label, end_ns=max(end_ns, label.onset_ns)) if label.end_ns == OPEN_END_NS else label
            for label in self.labels
        ]

    def _faults(self, time_ns: int) -> tuple[plant.Params, float]:
        params, level_error = self.params, 0.0
        if self.zero_ns is None:
            return params, level_error
        now = (time_ns - self.zero_ns) * 1e-9
        for planned in self.planned:
            if planned.kind == "fault" and planned.onset_s <= now < planned.removal_s:
                fault = FAULTS[planned.type]
                params, error = fault.effect(params, fault.amount(planned.size), now - planned.onset_s)
                level_error += error
        return params, level_error

    def _traffic(self, time_ns: int, values: tuple[float, ...]) -> Frames:
        if self.network is None:
            return EMPTY
        net = self.network
        net.values = (*values[:7], values[9], values[10])
        net.delay_ns = 0
        extra: list[Block] = []
        if self.zero_ns is not None:
            for i, planned in enumerate(self.planned):
                if planned.kind != "attack":
                    continue
                onset = self.zero_ns + round(planned.onset_s * 1e9)
                begin = max(self.time_ns, onset)
                end = min(time_ns, self.zero_ns + round(planned.removal_s * 1e9))
                if begin < end:
                    extra += self._attack(net, i, planned, begin, end, first=begin == onset)
        return net.tick(self.time_ns, time_ns, extra)

    def _attack(
        self, net: Network, i: int, planned: Planned, begin: int, end: int, first: bool
    ) -> list[Block]:
        attack = ATTACKS[planned.type]
        attacker, target = net.hosts[planned.attacker], net.hosts[TARGET]
        if first:
            net.queue += first_contact(attacker, target, begin)
        n = int(self._rng_attack.poisson(attack.rate(planned.size) * (end - begin) * 1e-9))
        at = np.sort(self._rng_attack.integers(begin, end, size=n))
        net.delay_ns = int(attack.delay_ms * MS * (0.5 + planned.size))
        blocks = attack.make(self._rng_attack, attacker, target, at, self._sent[i])
        self._sent[i] += n
        return blocks
