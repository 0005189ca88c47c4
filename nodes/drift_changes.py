"""What changes in the simulated plant without being an incident: a season, a transmitter that ages."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from cellwatch.models.datasets.sessions import SessionWindows
from cellwatch.models.features.baseline import TagBaseline
from cellwatch.nodes.simulated import RECIPES, Plan, classes_of, fresh_plans, play
from cellwatch.plc_sim.faults import FAULTS, Disturbance, Fault, ReadingError
from cellwatch.plc_sim.schedule import Slot, hittable

SITE = "bench"
TEST_SEED = 9  # of sessions that nobody has seen


def _summer(amount: float, _elapsed: float) -> Disturbance:
    """Warmer feed water and air, and more demand; 1.0 is midsummer."""
    return Disturbance(
        params={
            "heated_tank.feed_temp": 18.0 + 6.0 * amount,
            "heated_tank.ambient": 22.0 + 8.0 * amount,
            "heated_tank.demand_mean": 0.66 * (1 + 0.2 * amount),
        }
    )


def _old_meter(amount: float, _elapsed: float) -> Disturbance:
    """FIT102 reads too low; 1.0 is 2.4 L/min of some 15."""
    return Disturbance(readings={"FIT102": ReadingError("bias", -2.4 * amount)})


CHANGES: Mapping[str, Fault] = {
    "summer": Fault("FIT101", "PLC1", 0.0, 1.0, _summer, "feed +6 degC, air +8 degC, demand +20 %", (SITE,)),
    "old_meter": Fault("FIT102", "PLC1", 0.0, 1.0, _old_meter, "FIT102 -2.4 L/min", (SITE,)),
}


@contextmanager
def _also(name: str) -> Iterator[None]:
    """The plant knows this change as well, for a time."""
    FAULTS[name] = CHANGES[name]
    try:
        yield
    finally:
        del FAULTS[name]


def changed(
    name: str, sizes: Sequence[float], plans: Sequence[Plan], baseline: TagBaseline
) -> list[SessionWindows]:
    """Sessions under a change of these sizes, 0..1, one a session, as many as there are sizes.

    What the change touches is benign. A sample that an incident touches as well is not clear-cut.
    """
    with _also(name):
        number = classes_of(SITE).index(f"fault/{name}")
        sessions = []
        for plan, size in zip(plans, sizes, strict=False):
            whole = Slot("fault", (name,), (plan.seconds, plan.seconds), (size, size), (0.0, 0.0))
            sessions.append(_benign(_play(plan, (whole,), baseline), number))
    return sessions


def attacked(
    types: Sequence[str], every_s: float, plans: Sequence[Plan], baseline: TagBaseline, seed: int = 0
) -> list[SessionWindows]:
    """Sessions with further attacks of these types, in turn, from onset to onset `every_s`."""
    recipe, rng, found = RECIPES[SITE], np.random.default_rng(seed), []
    for plan in plans:
        slots = []
        for i, at in enumerate(np.arange(every_s, plan.seconds - every_s, every_s)):
            name, size = types[i % len(types)], float(rng.uniform())
            target = str(rng.choice(hittable(name, SITE)))
            slots.append(Slot("attack", (name,), recipe.duration_s, (size, size), (at, at), (target,)))
        found.append(_play(plan, slots, baseline))
    return found


def fresh(folder: Path) -> tuple[list[Plan], TagBaseline]:
    """Test sessions of the site that nobody has seen, to be played, and the baseline of its data set."""
    data = json.loads((folder / "baseline.json").read_text())
    return fresh_plans(RECIPES[SITE], TEST_SEED), TagBaseline.from_dict(data)


def _play(plan: Plan, slots: Sequence[Slot], baseline: TagBaseline) -> SessionWindows:
    scenario = replace(plan.scenario, incidents=(*plan.scenario.incidents, *slots))
    return play(RECIPES[SITE], replace(plan, scenario=scenario), baseline)


def _benign(session: SessionWindows, number: int) -> SessionWindows:
    """What has the class of the change is as it should be."""
    mine = session.y == number
    return replace(
        session,
        y=np.where(mine, 0, session.y).astype(np.int16),
        incident=np.where(mine, -1, session.incident).astype(np.int16),
    )
