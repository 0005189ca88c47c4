"""Rules of the demonstration cell on its simulated process: silent on what is well, not on what is not."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.window import FeatureAssembler, windows_from_recording
from cellwatch.models.rules.physics import Physics
from cellwatch.models.rules.rule_file import RuleFile
from cellwatch.models.rules.tag_limits import LimitRules
from cellwatch.models.rules.user_rules import UserRules
from cellwatch.nodes.simulated import tag_batches
from cellwatch.plc_sim.recording import Playback
from cellwatch.plc_sim.schedule import Scenario, Slot

ONSET_S = 20.0


def fired(scenario: Scenario, seconds: float, writes: dict[int, tuple[str, float]] | None = None) -> set[str]:
    """Every rule that fires in a run of PLC1; `writes` are tags written after so many scans."""
    file = RuleFile.parse((Path(str(resources.files("cellwatch"))) / "config/rules/bench.yaml").read_text())
    run = Playback(scenario, 3, seconds, network=False)
    times = np.zeros(run.n, dtype=np.int64)
    values = np.zeros((run.n, len(run.cell.tags)))
    status = np.zeros(values.shape, dtype=np.uint32)
    for i, step in enumerate(run):
        times[i], values[i], status[i] = run.cell.time_ns, step.values, step.status
        if writes and i in writes:
            run.cell.write("PLC1", *writes[i])
    (catalog,), batches = tag_batches(run.cell.tags, times, values, status)
    assembler = FeatureAssembler(default_schema(), 1.0, 0.5, ("PLC1",))
    physics, user, limits = Physics(file.physics), UserRules(file.rules), LimitRules(catalog, file.limits)
    names = {v.rule for b in batches if (said := limits.judge(b)) is not None for v in said.violations}
    for window in windows_from_recording(assembler, [catalog], batches, []):
        names |= {f.violation.rule for f in (*physics.judge(window), *user.judge(window))}
    assert physics.unknown == user.unknown == ()
    return names


def faulty(name: str, size: float) -> Scenario:
    slot = Slot("fault", (name,), (40.0, 40.0), (size, size))
    return Scenario("one", onset_s=(ONSET_S, ONSET_S), incidents=(slot,))


def test_nothing_fires_while_all_is_well() -> None:
    assert fired(Scenario("quiet"), 120.0) == set()


def test_nothing_fires_in_the_safe_state_nor_after_it() -> None:
    writes = {300: ("XS101_SAFE", 1.0), 700: ("XS101_SAFE", 0.0), 701: ("XS101_MODE", 0.0)}
    assert fired(Scenario("quiet"), 120.0, writes) == set()


@pytest.mark.parametrize(
    ("fault", "size", "rule"),
    [
        ("tank_leak", 0.0, "physics-balance"),
        ("level_sensor_drift", 0.0, "physics-balance"),
        ("level_sensor_stuck", 0.0, "physics-stuck"),
        ("heater_element_open", 0.0, "user:heater-weak"),
    ],
)
def test_faults_are_found_though_mild(fault: str, size: float, rule: str) -> None:
    assert rule in fired(faulty(fault, size), 70.0)
