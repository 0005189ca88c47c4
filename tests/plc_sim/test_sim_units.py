"""The factory's units: an independent integrator, conservation, and what couples them."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from cellwatch.plc_sim import plant
from cellwatch.plc_sim.sites import SITES
from cellwatch.plc_sim.units import compressed_air, conveyor, tank_farm
from cellwatch.plc_sim.units.draws import Draws

RHO, CP, G, P_ATM, R_AIR = 997.0, 4181.0, 9.80665, 101_325.0, 287.05
BAR = 1e5


class Still:
    """No randomness."""

    @staticmethod
    def standard_normal():
        return 0.0


def steps(unit, state, action, params, seconds, **inputs):
    for _ in range(round(seconds / 0.1)):
        state = unit.transition(state, action, Still(), params, 0.1, **inputs)
    return state


# ---------------------------------------------------------------- unit 200


def farm_rates(p, action, inputs, dt=0.1):
    """The balances of unit 200 written a second time: levels, temperatures, speed and valves."""

    def rates(_t, y):
        h1, t1, h2, t2, product, coolant, speed, x1, x2, x3 = y

        def kv(value, x, dp):
            return value * x * math.sqrt(max(dp, 0.0) / BAR) / 3600.0

        def valve(x, command):
            return np.clip((command - x) / 1e-2, -1.0, 1.0) / p.stroke

        def header(head):  # pump curve minus what leaves the header
            pump = math.sqrt(max(p.pump_head * speed**2 + h2 - head, 0.0) / p.pump_k)
            dp = RHO * G * head
            return pump - kv(p.customer_kv, x2, dp) - kv(p.nozzle_kv, inputs.nozzle, dp)

        low, high = 0.0, p.pump_head * speed**2 + h2
        for _ in range(60):
            mid = 0.5 * (low + high)
            low, high = (mid, high) if header(mid) > 0 else (low, mid)
        dp = RHO * G * low
        q_out = kv(p.customer_kv, x2, dp) + kv(p.nozzle_kv, inputs.nozzle, dp)
        q_mains = kv(p.mains_kv, x1, p.mains_pressure)
        q_cold = kv(p.coolant_kv, x3, p.coolant_pressure)
        q_hot = inputs.drained / dt
        c_hot, c_cold = RHO * CP * q_hot, RHO * CP * q_cold
        c_min, c_max = min(c_hot, c_cold), max(c_hot, c_cold)
        ntu, c = p.exchanger_ua * (1 - p.fouling) / c_min, c_min / c_max
        eps = (1 - math.exp(-ntu * (1 - c))) / (1 - c * math.exp(-ntu * (1 - c)))
        heat = eps * c_min * (inputs.drained_temp - p.coolant_temp)

        def tank(h, t, q_in, t_in, q_from):
            loss = p.loss_u * (t - p.ambient) / (RHO * CP)
            return (q_in - q_from) / p.area, (q_in * (t_in - t) - loss) / (p.area * h)

        d1, e1 = tank(h1, t1, q_mains, p.mains_temp, inputs.drawn / dt)
        d2, e2 = tank(h2, t2, q_hot, product, q_out)
        d_product = (q_hot * (inputs.drained_temp - product) - heat / (RHO * CP)) / p.exchanger_volume
        d_coolant = (p.coolant_temp + heat / c_cold - coolant) / p.coolant_lag
        return [
            d1, e1, d2, e2, d_product, d_coolant, (action.pump - speed) / p.pump_lag,
            valve(x1, action.fcv201), valve(x2, action.fcv202), valve(x3, action.tcv203),
        ]  # fmt: skip

    return rates


@pytest.mark.parametrize(
    ("action", "nozzle", "fouling"),
    [((0.6, 0.3, 0.5, 0.9), 0.0, 0.0), ((0.2, 0.8, 0.2, 0.7), 1.0, 0.5)],
)
def test_tank_farm_agrees_with_scipy(action, nozzle, fouling):
    p = replace(tank_farm.Params(), mains_sd=0.0, fouling=fouling)
    act = tank_farm.Action(*action)
    inputs = tank_farm.Inputs(drawn=2.4e-5, drained=2.5e-5, drained_temp=33.0, nozzle=nozzle)
    start = tank_farm.initial(np.random.default_rng(1), p)._replace(mains=p.mains_pressure)
    end = steps(tank_farm, start, act, p, 60.0, inputs=inputs)
    begin = [*start[:7], *start.valves]
    found = solve_ivp(farm_rates(p, act, inputs), (0, 60), begin, rtol=1e-8, atol=1e-10, max_step=0.5).y[
        :, -1
    ]
    assert np.allclose([*end[:7], *end.valves], found, rtol=2e-3, atol=1e-4)
    assert end.level1 == pytest.approx(found[0], abs=2e-4)
    assert abs(end.level1 - start.level1) > 0.02  # it did move


def test_tank_farm_conserves_mass_and_energy():
    p = replace(tank_farm.Params(), mains_sd=0.0, leak_area=2e-5)
    action = tank_farm.Action(0.5, 0.4, 0.4, 0.85)
    inputs = tank_farm.Inputs(drawn=2.0e-5, drained=2.6e-5, drained_temp=35.0, nozzle=0.5)
    state = tank_farm.initial(np.random.default_rng(2), p)
    wet0 = p.area * (state.level1 + state.level2)
    heat0 = p.area * (state.level1 * state.temp1 + state.level2 * state.temp2)
    heat0 += p.exchanger_volume * state.product
    came = went = gain = 0.0
    for _ in range(1200):
        before = state
        state = tank_farm.transition(state, action, Still(), p, 0.1, inputs)
        leak = p.leak_cd * p.leak_area * math.sqrt(2 * G * head_of(before, state, p))
        out = state.sold + state.filled + 0.1 * leak
        came += state.taken + inputs.drained
        went += inputs.drawn + out
        gain += state.taken * p.mains_temp + inputs.drained * inputs.drained_temp - state.heat / (RHO * CP)
        gain -= inputs.drawn * before.temp1 + out * before.temp2
        gain -= 0.1 * p.loss_u * (before.temp1 + before.temp2 - 2 * p.ambient) / (RHO * CP)
    assert p.area * (state.level1 + state.level2) - wet0 == pytest.approx(came - went, rel=1e-6)
    heat = (
        p.area * (state.level1 * state.temp1 + state.level2 * state.temp2)
        + p.exchanger_volume * state.product
    )
    assert heat - heat0 == pytest.approx(gain, rel=1e-6)
    assert abs(heat - heat0) > 1e-2


def head_of(before, after, p):
    """Head of the header in the middle of the step, from what was sold."""
    opening = 0.5 * (before.valves[1] + after.valves[1])
    return (after.sold / 0.1 * 3600.0 / (p.customer_kv * opening)) ** 2 * BAR / (RHO * G)


def test_sticking_valve_stays_until_its_command_has_left_it():
    p = replace(tank_farm.Params(), valve_stiction=0.1)
    state = tank_farm.initial(np.random.default_rng(0), p)
    x = state.valves[0]
    assert steps(tank_farm, state, tank_farm.Action(x + 0.09), p, 5.0).valves[0] == x
    assert steps(tank_farm, state, tank_farm.Action(x + 0.12), p, 5.0).valves[0] == pytest.approx(x + 0.12)


def test_low_air_slows_valves_and_no_air_shuts_them():
    p, action = tank_farm.Params(), tank_farm.Action(1.0, 1.0, 1.0, 0.8)
    start = tank_farm.initial(np.random.default_rng(0), p)
    moved = [
        steps(tank_farm, start, action, p, 1.0, inputs=tank_farm.Inputs(air=air)).valves[0] - start.valves[0]
        for air in (6e5, 3.5e5, 2.5e5)
    ]
    assert moved[0] == pytest.approx(0.25) and moved[1] == pytest.approx(0.125) and 0 < moved[2] < 0.06
    assert steps(tank_farm, start, action, p, 5.0, inputs=tank_farm.Inputs(air=1e5)).valves == (0, 0, 0)


def test_exchanger_stays_within_the_second_law():
    p, rng = tank_farm.Params(), np.random.default_rng(4)
    for _ in range(300):
        hot, cold, temp = rng.uniform(1e-6, 1e-3), rng.uniform(1e-6, 1e-3), rng.uniform(15, 60)
        heat = tank_farm.exchanged(hot, cold, temp, p)
        assert 0 <= heat <= RHO * CP * min(hot, cold) * (temp - p.coolant_temp) * (1 + 1e-9)
        assert tank_farm.exchanged(hot, cold, temp, replace(p, fouling=0.5)) < heat or heat < 1e-6


# ---------------------------------------------------------------- unit 400


def air_rates(p, action, draw, demand):
    def rates(_t, y):
        pressure, load, head = y
        filled = 1 - p.clearance * ((pressure / P_ATM) ** (1 / p.polytropic) - 1)
        made = load * p.capacity * (1 - p.compressor_wear) * filled
        area = p.leak_cd * (p.leak_base + p.leak_area)

        def leak(main):  # isentropic nozzle flow from its definition: mass flux at the throat pressure
            throat = max(P_ATM, main * (2 / 2.4) ** 3.5)
            temp = p.gas_temp * (throat / main) ** (0.4 / 1.4)
            speed = math.sqrt(max(2 * 1.4 / 0.4 * R_AIR * (p.gas_temp - temp), 0.0))
            return area * throat / (R_AIR * temp) * speed

        main, flow = pressure, draw + demand
        for _ in range(30):  # pressure drop of the filter by fixed point
            flow = (draw + demand) * (main - P_ATM) / (main - P_ATM + 20_000.0) + leak(main)
            main = pressure - p.filter_k * (flow / (1 - p.filter_clogged)) ** 2
        rise = (pressure / P_ATM) ** (0.4 / 1.4) - 1
        electric = made / (1 - p.compressor_wear) * 3.5 * R_AIR * p.gas_temp * rise / p.eta + p.idle_power
        heat = p.heat_share * electric - p.head_u * (head - p.ambient)
        return [
            R_AIR * p.gas_temp / p.volume * (made - flow),
            (action.load - load) / p.load_lag,
            heat / p.head_capacity,
        ]

    return rates


@pytest.mark.parametrize(
    ("load", "changes"),
    [(1.0, {}), (0.0, {}), (1.0, {"leak_area": 1.5e-6, "filter_clogged": 0.5, "compressor_wear": 0.4})],
)
def test_compressed_air_agrees_with_scipy(load, changes):
    p = replace(compressed_air.Params(), demand_sd=0.0, **changes)
    action = compressed_air.Action(run=True, load=load)
    start = compressed_air.initial(np.random.default_rng(3), p)._replace(demand=p.demand_mean, load=0.5)
    end = steps(compressed_air, start, action, p, 30.0, draw=6e-4)
    rates = air_rates(p, action, 6e-4, p.demand_mean)
    found = solve_ivp(rates, (0, 30), start[:3], rtol=1e-9, atol=1e-6).y[:, -1]
    assert end.pressure == pytest.approx(found[0], abs=0.004 * abs(found[0] - start.pressure) + 200.0)
    assert end.load == pytest.approx(found[1], abs=1e-6)
    assert end.head == pytest.approx(found[2], abs=0.02)
    assert abs(end.pressure - start.pressure) > 10_000


def test_air_mass_is_conserved_and_the_safety_valve_holds():
    p = compressed_air.Params()
    action = compressed_air.Action(run=True, load=1.0)  # nobody idles it
    rng = Draws(np.random.default_rng(1))
    start = state = compressed_air.initial(np.random.default_rng(2), p)
    net = blown = 0.0
    for _ in range(3000):
        state = compressed_air.transition(state, action, rng, p)
        net += state.made - state.used - state.blown
        blown += state.blown
    stored = (state.pressure - start.pressure) * p.volume / (R_AIR * p.gas_temp)
    assert stored == pytest.approx(net, rel=1e-9)
    assert blown > 0.0
    assert state.pressure < p.relief_pressure + 60_000


def test_receiver_runs_empty_without_its_compressor():
    p, action = compressed_air.Params(), compressed_air.Action(run=False)
    state = steps(compressed_air, compressed_air.initial(np.random.default_rng(2), p), action, p, 900.0)
    assert P_ATM - 1.0 < state.pressure < P_ATM + 20_000
    assert compressed_air.readings(state, action, p).current == 0.0


def test_leak_is_choked_above_the_critical_ratio():
    p = replace(compressed_air.Params(), leak_area=1e-6)
    above, twice = (compressed_air.leakage(x * P_ATM, p) for x in (3.0, 6.0))
    assert twice == pytest.approx(2 * above)  # choked: in proportion to the pressure
    critical = P_ATM / (2 / 2.4) ** 3.5
    assert compressed_air.leakage(0.999999 * critical, p) == pytest.approx(
        compressed_air.leakage(1.000001 * critical, p), rel=1e-4
    )
    assert compressed_air.leakage(P_ATM, p) == 0.0


# ---------------------------------------------------------------- unit 300


def test_belt_agrees_with_scipy():
    p = replace(conveyor.Params(), roughness_sd=0.0, bearing_damage=0.4)
    start = conveyor.initial(np.random.default_rng(0), p)._replace(
        speed=0.0, reference=0.0, places=(), masses=(), gap=99.0
    )
    action = conveyor.Action(drive=0.8)

    def rates(t, y):
        reference = min(p.drive_ramp * t, 0.8 * p.top_speed)
        force = p.drive_slip * (reference - y[0])
        drag = G * p.rolling * p.belt_mass + p.damage_force * p.bearing_damage
        heat = 3 * p.winding * (p.magnetising**2 + (force / p.force_per_amp) ** 2)
        heat += p.damage_power * p.bearing_damage * y[0] / p.nominal_speed
        net = force - drag if y[0] > 0 or force > drag else 0.0
        return [net / p.belt_mass, y[0], (heat - p.bearing_u * (y[2] - p.ambient)) / p.bearing_capacity]

    for seconds in (0.3, 0.4, 0.8, 20.0):
        end = steps(conveyor, start, action, p, seconds)
        found = solve_ivp(
            rates, (0, seconds), [0.0, 0.0, start.bearing], rtol=1e-8, atol=1e-10, max_step=0.005
        )
        speed, way, bearing = found.y[:, -1]
        assert end.speed == pytest.approx(speed, abs=2e-3)
        assert start.gap - end.gap == pytest.approx(way, abs=2e-3)
        assert end.bearing == pytest.approx(bearing, abs=0.1)


def line(seconds, params=None, air=6e5, rate=1.67e-4, seed=1):
    """Unit 300 alone with a plain filler: 0.25 kg in each container."""
    p = params or conveyor.Params()
    rng = Draws(np.random.default_rng(seed))
    rows = [conveyor.initial(np.random.default_rng(seed), p)]
    for _ in range(round(seconds / 0.1)):
        s = rows[-1]
        i = conveyor.at_gate(s)
        full = i >= 0 and s.masses[i] > 0.245
        nozzle = float(i >= 0 and not full)
        action = conveyor.Action(0.6, nozzle, full, pick=True)
        rows.append(conveyor.transition(s, action, rng, p, 0.1, conveyor.Inputs(nozzle * rate * 0.1, air)))
    return rows


def test_product_on_the_belt_is_conserved():
    rows = line(120.0, replace(conveyor.Params(), grip_leak=0.42))
    on = [sum(s.masses) + max(s.held, 0.0) for s in rows]
    came = gone = 0.0
    for before, after in itertools.pairwise(rows):
        i = conveyor.at_gate(before)
        filling = i >= 0 and before.masses[i] <= 0.245
        came += RHO * 1.67e-5 * filling
        gone += after.removed + after.spilt
    assert on[-1] - on[0] == pytest.approx(came - gone, abs=1e-9)
    assert gone > 5.0
    assert rows[-1].dropped > 0.0
    assert rows[-1].picked > 0.0


def test_containers_keep_their_distance_and_their_order():
    p = conveyor.Params()
    rows = line(60.0)
    for s in rows:
        assert len(s.places) == len(s.masses)
        assert all(a - b >= p.spacing - 1e-9 for a, b in zip(s.places, s.places[1:], strict=False))
        assert not s.places or (s.places[0] <= conveyor.END and s.places[-1] >= 0.0)
    assert max(len(s.places) for s in rows) <= 1 + conveyor.END / p.spacing


def test_belt_holds_containers_back_when_nobody_picks():
    p = conveyor.Params()
    state = conveyor.initial(np.random.default_rng(1), p)
    rng = Draws(np.random.default_rng(1))
    for _ in range(1200):
        state = conveyor.transition(state, conveyor.Action(0.6, 0.0, release=True), rng, p)
    free = conveyor.initial(np.random.default_rng(1), p)
    currents = [conveyor.readings(s, conveyor.Action(0.6), p).current for s in (free, state)]
    assert state.blocked > 0.2
    assert currents[1] > 1.05 * currents[0]  # they rub on the belt


def test_low_air_drops_containers_and_slows_the_robot():
    good, weak, weaker = (line(60.0, air=air)[-1] for air in (6e5, 4.2e5, 2.5e5))
    assert good.dropped == 0.0
    assert good.pick_s == pytest.approx(conveyor.Params().cycle, abs=0.1)
    assert weak.pick_s > 1.1 * good.pick_s
    assert weaker.dropped > 3 * weaker.picked


def test_bearing_damage_shakes_heats_and_brakes():
    good, bad = conveyor.Params(), replace(conveyor.Params(), bearing_damage=0.5)
    a, b = line(200.0, good)[-1], line(200.0, bad)[-1]
    act = conveyor.Action(0.6)
    ra, rb = conveyor.readings(a, act, good), conveyor.readings(b, act, bad)
    assert rb.vibration > 4.5 > 1.8 > ra.vibration  # ISO 10816-1 class I: zone D against A/B
    assert rb.bearing > ra.bearing + 20
    assert rb.current > ra.current


@pytest.mark.parametrize(
    ("unit", "field", "mean", "sd", "tau"),
    [
        (tank_farm, "mains", "mains_pressure", "mains_sd", "mains_tau"),
        (compressed_air, "demand", "demand_mean", "demand_sd", "demand_tau"),
        (conveyor, "roughness", None, "roughness_sd", "roughness_tau"),
    ],
)
def test_random_parts_have_their_stated_spread_and_pace(unit, field, mean, sd, tau):
    p, rng = unit.Params(), Draws(np.random.default_rng(6))
    state = unit.initial(np.random.default_rng(6), p)
    seen = []
    for _ in range(12_000):
        state = unit.transition(state, unit.Action(), rng, p)
        seen.append(getattr(state, field))
    seen = np.array(seen) - (getattr(p, mean) if mean else 0.0)
    assert seen.std() == pytest.approx(getattr(p, sd), rel=0.2)
    lag = round(getattr(p, tau) / 0.1)
    assert np.corrcoef(seen[:-lag], seen[lag:])[0, 1] == pytest.approx(math.exp(-1.0), abs=0.2)


# ---------------------------------------------------------------- coupling


def factory_run(seconds, action, seed=5, params=None, state=None):
    p = params or plant.Params()
    rng = Draws(np.random.default_rng(seed))
    rows = [state or plant.initial(np.random.default_rng(seed), SITES["factory"], p)]
    for _ in range(round(seconds / 0.1)):
        rows.append(plant.transition(rows[-1], action, rng, p))
    return rows


OPEN = plant.Action(
    plant.heated_tank.Action(0.64, 0.68, True),
    tank_farm.Action(0.43, 0.44, 0.26, 0.83),
    conveyor.Action(0.57, 0.5, True, True),
    compressed_air.Action(True, 1.0),
)


def test_water_of_the_whole_factory_is_conserved():
    p = plant.Params()
    rows = factory_run(300.0, OPEN)

    def stored(s):
        on_belt = (sum(s.conveyor.masses) + max(s.conveyor.held, 0.0)) / RHO
        tanks = p.heated_tank.area * s.heated_tank.level + p.tank_farm.area * (
            s.tank_farm.level1 + s.tank_farm.level2
        )
        return tanks + on_belt

    came = sum(s.tank_farm.taken for s in rows[1:])
    went = sum(s.tank_farm.sold + (s.conveyor.removed + s.conveyor.spilt) / RHO for s in rows[1:])
    assert stored(rows[-1]) - stored(rows[0]) == pytest.approx(came - went, abs=1e-9)
    assert came > 0.05
    assert max(s.heated_tank.level for s in rows) < p.heated_tank.height  # nothing ran over


def test_empty_raw_water_tank_runs_the_pump_dry():
    shut = OPEN._replace(tank_farm=OPEN.tank_farm._replace(fcv201=0.0))
    end = factory_run(180.0, shut)[-1]
    assert end.tank_farm.level1 < 0.01
    assert end.heated_tank.drawn < 1e-6
    assert plant.readings(end, shut, plant.Params())[0][2] < 1.0  # FIT101


def test_raw_water_temperature_reaches_the_heated_tank():
    start = factory_run(0.0, OPEN)[0]
    warm = start._replace(tank_farm=start.tank_farm._replace(temp1=30.0))
    a, b = (factory_run(30.0, OPEN, state=s)[-1].heated_tank.temp for s in (start, warm))
    assert b > a + 2.0


def test_empty_product_tank_stops_the_filling():
    start = factory_run(0.0, OPEN)[0]
    empty = start._replace(tank_farm=start.tank_farm._replace(level2=0.0))
    no_flow = OPEN._replace(heated_tank=OPEN.heated_tank._replace(outlet_open=False))
    end = factory_run(2.0, no_flow, state=empty)[-1]
    assert end.tank_farm.filled == 0.0
    assert factory_run(2.0, no_flow, state=start)[-1].tank_farm.filled > 0.0
