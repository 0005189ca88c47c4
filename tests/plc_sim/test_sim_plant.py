"""The process: conservation, an independent integrator, and what its limits do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from cellwatch.plc_sim.units import heated_tank as plant
from cellwatch.plc_sim.units.heated_tank import Action, Params, State

STILL = replace(Params(), demand_sd=0.0)  # demand stays where it is

states = st.builds(
    State,
    level=st.floats(0.05, 0.45),
    temp=st.floats(15.0, 60.0),
    speed=st.floats(0.55, 1.0),  # the check valve opens at 0.46
    element=st.floats(20.0, 90.0),
    demand=st.just(STILL.demand_mean),
)
actions = st.builds(Action, pump=st.floats(0.55, 1.0), heater=st.floats(0.0, 1.0), outlet_open=st.booleans())


def rates(y, demand, action, p=STILL):
    """The balances of the unit's docstring, written down a second time."""
    level, temp, speed, element = y
    lift = p.pump_head * speed**2 - p.static_head
    q_in = np.sqrt(lift / (p.pump_k + p.pipe_k)) if lift > 0 else 0.0
    q_out = 0.0
    if action.outlet_open and level > 0:
        q_out = demand * p.outlet_cd * p.outlet_area * np.sqrt(2 * 9.80665 * (level + p.outlet_drop))
        q_out *= min(1.0, level / 0.01)
    heat = p.element_u * (element - temp)
    feed = 997.0 * 4181.0 * q_in * (p.feed_temp - temp)
    return [
        (q_in - q_out) / p.area,
        (feed + heat - p.loss_u * (temp - p.ambient)) / (997.0 * 4181.0 * p.area * level),
        (action.pump - speed) / p.pump_lag,
        (action.heater * p.heater_power - heat) / p.element_capacity,
    ]


def reference(state, action):
    """State after 0.1 s by scipy's DOP853."""
    found = solve_ivp(
        lambda _t, y: rates(y, state.demand, action),
        (0.0, 0.1),
        state[:4],
        method="DOP853",
        rtol=1e-9,
        atol=1e-10,
        max_step=0.02,
    )
    return found.y[:, -1]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(states, actions)
def test_step_agrees_with_scipy(state, action):
    ours = plant.transition(state, action, np.random.default_rng(0), STILL, dt=0.1)
    theirs = reference(state, action)
    assert np.allclose(ours[:4], theirs, rtol=1e-4, atol=1e-5)
    assert abs(ours.level - theirs[0]) < 2e-6  # 0.0004 % of the height


def test_step_through_the_opening_check_valve():
    """There the flow has a square-root corner; the error stays below 0.01 % of the height."""
    state, action = State(0.25, 15.0, 0.375, 20.0, 0.66), Action(pump=1.0, outlet_open=False)
    ours = plant.transition(state, action, np.random.default_rng(0), STILL, dt=0.1)
    assert abs(ours.level - reference(state, action)[0]) < 5e-5


def run(state, action, params, seconds, dt=0.1):
    rng = np.random.default_rng(1)
    rows = [state]
    for _ in range(round(seconds / dt)):
        rows.append(plant.transition(rows[-1], action, rng, params, dt))
    return rows


def test_mass_is_conserved():
    action = Action(pump=0.7, heater=0.5)
    rows = run(State(0.2, 30.0, 0.64, 37.0, 0.66), action, Params(), 20.0, dt=0.02)
    flow_in = [plant.inflow(s.speed, Params()) for s in rows]
    flow_out = [plant.outflow(s.level, s.demand, True, Params()) for s in rows]
    net = np.trapezoid(flow_in, dx=0.02) - np.trapezoid(flow_out, dx=0.02)
    stored = Params().area * (rows[-1].level - rows[0].level)
    assert stored == pytest.approx(net, rel=1e-3)
    assert abs(stored) > 1e-4  # the level did move


def test_energy_is_conserved():
    p, action = Params(), Action(pump=0.6, heater=0.9)
    rows = run(State(0.3, 25.0, 0.6, 30.0, 0.66), action, p, 30.0, dt=0.02)

    def enthalpy(s):
        return plant.RHO * plant.CP * p.area * s.level * s.temp + p.element_capacity * s.element

    power = []
    for s in rows:
        hot = plant.RHO * plant.CP * plant.inflow(s.speed, p) * p.feed_temp
        cold = plant.RHO * plant.CP * plant.outflow(s.level, s.demand, True, p) * s.temp
        power.append(hot - cold + action.heater * p.heater_power - p.loss_u * (s.temp - p.ambient))
    gained = enthalpy(rows[-1]) - enthalpy(rows[0])
    assert gained == pytest.approx(np.trapezoid(power, dx=0.02), rel=2e-3)
    assert abs(gained) > 1e4


def test_steady_state_balances_heat_and_flow():
    p = STILL
    action = Action(pump=0.64, heater=0.6)
    end = run(State(0.3, 25.0, 0.6, 30.0, p.demand_mean), action, p, 300.0)[-1]
    q = plant.inflow(end.speed, p)
    assert q == pytest.approx(plant.outflow(end.level, end.demand, True, p), rel=1e-3)
    rise = (0.6 * p.heater_power - p.loss_u * (end.temp - p.ambient)) / (plant.RHO * plant.CP * q)
    assert end.temp - p.feed_temp == pytest.approx(rise, rel=1e-3)


def test_pump_follows_affinity_law_without_lift():
    flat = replace(Params(), static_head=0.0)
    assert plant.inflow(0.8, flat) == pytest.approx(2.0 * plant.inflow(0.4, flat))


def test_level_stays_between_bottom_and_weir():
    full = run(State(0.49, 30.0, 1.0, 30.0, 0.3), Action(pump=1.0), STILL, 20.0)
    empty = run(State(0.02, 30.0, 0.0, 30.0, 1.0), Action(pump=0.0), STILL, 20.0)
    assert max(s.level for s in full) == STILL.height
    assert 0.0 <= min(s.level for s in empty) < 0.004
    assert all(np.isfinite(s).all() for s in full + empty)


def test_same_generator_same_path():
    paths = []
    for _ in range(2):
        rng = np.random.default_rng(7)
        s = plant.initial(rng)
        for _ in range(50):
            s = plant.transition(s, Action(0.6, 0.6), rng, Params())
        paths.append(s)
    assert paths[0] == paths[1]


def test_demand_has_the_stated_spread():
    rng = np.random.default_rng(3)
    s = State(0.3, 30.0, 0.6, 36.0, Params().demand_mean)
    seen = []
    for _ in range(30_000):  # 50 minutes
        s = s._replace(level=0.3)
        s = plant.transition(s, Action(0.6, 0.6), rng, Params())
        seen.append(s.demand)
    assert np.std(seen) == pytest.approx(Params().demand_sd, rel=0.2)
    assert np.mean(seen) == pytest.approx(Params().demand_mean, abs=0.004)


def test_worn_pump_takes_its_power_for_less_flow():
    good, worn = Params(), replace(Params(), pump_wear=0.3)
    speed = 0.7
    assert plant.inflow(speed, worn) < 0.8 * plant.inflow(speed, good)
    need = plant.inflow(speed, good)
    speeds = np.linspace(0.3, 1.0, 2000)
    faster = next(s for s in speeds if plant.inflow(s, worn) >= need)
    state = State(0.3, 30.0, faster, 36.0, 0.66)
    nominal = plant.readings(state._replace(speed=speed), Action(), good).current
    assert plant.readings(state, Action(), worn).current > 1.2 * nominal
