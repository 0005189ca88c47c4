"""The plant: the units of a site and what passes between them.

    unit 400 --air--> valves of unit 200, robot of unit 300
    unit 200: T201 --> P101 of unit 100 --> T101 --> E201, T202 of unit 200 --> filling nozzle of unit 300

Pure: `initial(rng)` and `transition(state, action, rng, params)`. What one unit gives in a step is what the
other takes in the same step, to the last digit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from cellwatch.plc_sim.sites import Site
from cellwatch.plc_sim.units import compressed_air, conveyor, heated_tank, tank_farm
from cellwatch.plc_sim.units.draws import Gaussian

UNITS = {
    "heated_tank": heated_tank,
    "tank_farm": tank_farm,
    "conveyor": conveyor,
    "compressed_air": compressed_air,
}


@dataclass(frozen=True, slots=True)
class Params:
    """Size and condition of all units."""

    heated_tank: heated_tank.Params = field(default_factory=heated_tank.Params)
    tank_farm: tank_farm.Params = field(default_factory=tank_farm.Params)
    conveyor: conveyor.Params = field(default_factory=conveyor.Params)
    compressed_air: compressed_air.Params = field(default_factory=compressed_air.Params)


class State(NamedTuple):
    """State of the units; a site has the first one or all."""

    heated_tank: heated_tank.State
    tank_farm: tank_farm.State | None = None
    conveyor: conveyor.State | None = None
    compressed_air: compressed_air.State | None = None


class Action(NamedTuple):
    """What the PLCs' outputs ask for, held during one step."""

    heated_tank: heated_tank.Action = heated_tank.Action()
    tank_farm: tank_farm.Action = tank_farm.Action()
    conveyor: conveyor.Action = conveyor.Action()
    compressed_air: compressed_air.Action = compressed_air.Action()


def initial(rng: np.random.Generator, site: Site, params: Params | None = None) -> State:
    """Draw a start near the steady state, unit by unit in the order of the site."""
    p = params or Params()
    return State(**{unit: UNITS[unit].initial(rng, getattr(p, unit)) for unit in site.units})


def changed(params: Params, changes: Mapping[str, float], site: Site) -> Params:
    """Parameters with `changes` ("unit.parameter": value); KeyError for what the site does not have."""
    for name, value in changes.items():
        unit, _, parameter = name.partition(".")
        if unit not in site.units or not hasattr(getattr(params, unit), parameter):
            raise KeyError(f"{name} is no parameter of {site.name}")
        params = replace(params, **{unit: replace(getattr(params, unit), **{parameter: value})})
    return params


def transition(state: State, action: Action, rng: Gaussian, params: Params, dt: float = 0.1) -> State:
    """State after `dt` seconds."""
    tank, farm, belt, air = state
    if farm is None or belt is None or air is None:
        return State(heated_tank.transition(tank, action.heated_tank, rng, params.heated_tank, dt))
    main = compressed_air.main_pressure(air, params.compressed_air)
    feed = heated_tank.Feed(farm.temp1, tank_farm.suction(farm))
    new_tank = heated_tank.transition(tank, action.heated_tank, rng, params.heated_tank, dt, feed)
    new_farm = tank_farm.transition(
        farm,
        action.tank_farm,
        rng,
        params.tank_farm,
        dt,
        tank_farm.Inputs(new_tank.drawn, new_tank.drained, tank.temp, action.conveyor.nozzle, main),
    )
    new_belt = conveyor.transition(
        belt, action.conveyor, rng, params.conveyor, dt, conveyor.Inputs(new_farm.filled, main)
    )
    draw = (new_farm.air + new_belt.air) / dt
    new_air = compressed_air.transition(air, action.compressed_air, rng, params.compressed_air, dt, draw)
    return State(new_tank, new_farm, new_belt, new_air)


def readings(state: State, action: Action, params: Params) -> tuple[tuple[float, ...], ...]:
    """Noise-free readings of the transmitters, unit by unit."""
    tank, farm, belt, air = state
    if farm is None or belt is None or air is None:
        return (heated_tank.readings(tank, action.heated_tank, params.heated_tank),)
    of_tank = heated_tank.readings(tank, action.heated_tank, params.heated_tank, tank_farm.suction(farm))
    nozzle = action.conveyor.nozzle
    of_farm = tank_farm.readings(farm, action.tank_farm, params.tank_farm, nozzle)
    of_air = compressed_air.readings(air, action.compressed_air, params.compressed_air)
    product = of_farm.header
    flow = tank_farm.nozzle_flow(1000.0 * product, nozzle, params.tank_farm) if nozzle else 0.0
    of_belt = conveyor.readings(belt, action.conveyor, params.conveyor, flow, product, of_air.main)
    return (of_tank, of_farm, of_belt, of_air)
