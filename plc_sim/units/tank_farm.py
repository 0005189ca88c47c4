"""Unit 200: raw water tank T201, cooler E201, product tank T202 with pump P202; pneumatic control valves.

    mains --FCV201--> [ T201 ] --> P101 (unit 100)
    T101 (unit 100) --> [ E201 ] --> [ T202 ] --P202--> header --FCV202--> customer
                     cooling water --TCV203--^            '----> filling nozzle (unit 300)

Pure: `initial(rng)` and `transition(state, action, rng, params)` hold no other state. The states are

| name            | unit | range   | meaning                                                  |
|-----------------|------|---------|----------------------------------------------------------|
| level1, level2  | m    | 0 .. 1  | liquid height in T201, T202                              |
| temp1, temp2    | degC | 0 .. 60 | their temperatures, ideally mixed                        |
| product         | degC | 0 .. 60 | product behind E201                                      |
| coolant         | degC | 0 .. 60 | cooling water behind E201                                |
| speed           | 1    | 0 .. 1  | speed of P202 / its rated speed                          |
| valves          | 1    | 0 .. 1  | positions of FCV201, FCV202, TCV203                      |
| moving          |      |         | which of them move: one that rests sticks                |
| mains           | Pa   | > 0     | gauge pressure of the water mains                        |

Balances:

    mass      A dh/dt = sum of flows; valves by IEC 60534-2-1: Q = Kv x sqrt(dp / 1 bar) m3/h (linear trim)
    energy    rho c A h dT/dt = rho c Q_in (T_in - T) - U (T - T_amb)
              rho c V_e dT_p/dt = rho c Q (T_101 - T_p) - eps C_min (T_101 - T_w)
              eps of a counter-flow exchanger, NTU = UA (1 - fouling) / C_min (VDI Heat Atlas, C1)
    momentum  header: H_0 s^2 + h - k_p Q^2 = h_header (quasi-steady); P202 follows its command with a lag;
              a valve strokes at a speed that the air pressure limits, sticks until its command has moved by
              more than its stiction (He et al. 2007), and shuts by its spring when the air fails
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cellwatch.plc_sim.units.constants import CP, L_PER_MIN, RHO, RHO_NORMAL, G
from cellwatch.plc_sim.units.draws import Gaussian

BAR = 1.0e5  # Pa
KV = 1.0 / 3600.0 / math.sqrt(BAR)  # m3/s and Pa from Kv in m3/h at 1 bar
HEAD = RHO * G  # Pa per m of water


@dataclass(frozen=True, slots=True)
class Params:
    """Size and condition of the unit. Sizes are our own design, matched to unit 100 (15 L/min)."""

    area: float = 0.030  # m2, cross-section of T201 and of T202 (195 mm bore)
    height: float = 1.0  # m, 100 % level; more overflows
    loss_u: float = 8.0  # W/K, tank wall to air (about 0.6 m2 at 13 W/(m2 K))
    ambient: float = 22.0  # degC
    mains_temp: float = 18.0  # degC
    mains_pressure: float = 300_000.0  # Pa gauge, mean
    mains_sd: float = 8_000.0  # Pa
    mains_tau: float = 15.0  # s (Ornstein-Uhlenbeck)
    mains_kv: float = 1.2  # m3/h, FCV201: 35 L/min at 3 bar
    customer_kv: float = 1.2  # m3/h, FCV202
    coolant_kv: float = 1.0  # m3/h, TCV203
    coolant_pressure: float = 200_000.0  # Pa across TCV203 and E201
    coolant_temp: float = 12.0  # degC, chilled water
    exchanger_ua: float = 900.0  # W/K, E201 clean: small brazed plate exchanger, 0.45 m2 at 2 kW/(m2 K)
    exchanger_volume: float = 1.0e-3  # m3, product side with its pipes
    coolant_lag: float = 3.0  # s, cooling-water side
    fouling: float = 0.0  # 0..1, share of UA lost
    pump_head: float = 18.0  # m, shut-off head of P202
    pump_k: float = 1.0e7  # m/(m3/s)^2, inner loss: 2.5 m at 30 L/min
    pump_lag: float = 0.5  # s, motor and drive
    pump_eta: float = 0.40  # hydraulic / electrical power
    pump_volt: float = 24.0  # V
    pump_idle: float = 0.5  # A
    nozzle_kv: float = 0.55  # m3/h, filling nozzle of unit 300: 10 L/min at 1.2 bar
    leak_area: float = 0.0  # m2, hole in the header
    leak_cd: float = 0.62  # sharp-edged orifice (Perry, 8th ed., 10-16)
    stroke: float = 4.0  # s, full stroke of a valve at `air_full`
    air_full: float = 500_000.0  # Pa gauge, from here valves have their full speed ...
    air_low: float = 200_000.0  # Pa gauge, ... and below this the spring shuts them
    stick: float = 0.003  # share of the stroke, stiction of a sound valve (smart positioner: < 0.5 %)
    valve_stiction: float = 0.0  # further stiction of FCV201
    bleed: float = 5.0 * RHO_NORMAL / 60_000.0  # kg/s, steady air of each positioner: 5 NL/min
    stroke_air: float = 1.5e-3 * RHO_NORMAL  # kg, air of one full stroke: 1.5 NL


class State(NamedTuple):
    """State of the unit, see the module's table; and what crossed its border in the last step."""

    level1: float
    temp1: float
    level2: float
    temp2: float
    product: float
    coolant: float
    speed: float
    valves: tuple[float, float, float]
    moving: tuple[bool, bool, bool]
    mains: float
    filled: float = 0.0  # m3, through the filling nozzle
    sold: float = 0.0  # m3, to the customer
    taken: float = 0.0  # m3, from the mains
    heat: float = 0.0  # J, into the cooling water
    air: float = 0.0  # kg, of the valve actuators


class Action(NamedTuple):
    """What the PLC's outputs ask for: 0..1."""

    fcv201: float = 0.0
    fcv202: float = 0.0
    tcv203: float = 0.0
    pump: float = 0.0


class Inputs(NamedTuple):
    """What the neighbours do during the step."""

    drawn: float = 0.0  # m3, by P101
    drained: float = 0.0  # m3, from T101 ...
    drained_temp: float = 30.0  # degC, ... at this temperature
    nozzle: float = 0.0  # 0..1, opening of the filling nozzle
    air: float = 600_000.0  # Pa gauge, instrument air


def initial(rng: np.random.Generator, params: Params | None = None) -> State:
    """Draw a start near the steady state at 15 L/min, header at 120 kPa."""
    p = params or Params()
    jitter = rng.standard_normal(3)
    return State(
        level1=0.60 + 0.004 * float(jitter[0]),
        temp1=18.1,
        level2=0.50 + 0.004 * float(jitter[1]),
        temp2=24.0,
        product=24.0,
        coolant=26.5,
        speed=0.83,
        valves=(0.43, 0.44, 0.26),
        moving=(False, False, False),
        mains=p.mains_pressure + p.mains_sd * float(jitter[2]),
    )


def suction(state: State) -> float:
    """Share of P101's flow that T201 can give: it dies away over the last 20 mm."""
    return state.level1 / 0.020 if state.level1 < 0.020 else 1.0


def header(speed: float, level: float, opening: float, nozzle: float, p: Params) -> tuple[float, float]:
    """Head of the header in m, and its whole outflow in m3/s; P202 loses its suction over the last 20 mm.

    >>> header(1.0, 0.5, 0.0, 0.0, Params())
    (18.5, 0.0)
    """
    k = (KV * (p.customer_kv * opening + p.nozzle_kv * nozzle)) * math.sqrt(HEAD)
    if p.leak_area:
        k += p.leak_cd * p.leak_area * math.sqrt(2.0 * G)
    primed = level / 0.020 if level < 0.020 else 1.0
    head = primed * (p.pump_head * speed * speed + level) / (1.0 + p.pump_k * k * k)
    return head, k * math.sqrt(head)


def nozzle_flow(pressure: float, nozzle: float, p: Params) -> float:
    """Flow through the filling nozzle in m3/s at a header pressure in Pa gauge."""
    return KV * p.nozzle_kv * nozzle * math.sqrt(pressure)


def exchanged(q_hot: float, q_cold: float, hot: float, p: Params) -> float:
    """Heat flow of E201 in W from `q_hot` m3/s at `hot` degC to `q_cold` m3/s of cooling water."""
    if q_hot <= 0.0 or q_cold <= 0.0:
        return 0.0
    small = min(q_hot, q_cold)
    ratio = small / max(q_hot, q_cold)
    ntu = p.exchanger_ua * (1.0 - p.fouling) / (RHO * CP * small)
    if ratio > 0.999:
        share = ntu / (1.0 + ntu)
    else:
        e = math.exp(-ntu * (1.0 - ratio))
        share = (1.0 - e) / (1.0 - ratio * e)
    return share * RHO * CP * small * (hot - p.coolant_temp)


def stroke(position: float, moving: bool, command: float, stick: float, reach: float) -> tuple[float, bool]:
    """New position of a valve that can travel `reach` in this step, and whether it still moves."""
    gap = command - position
    if not moving and abs(gap) <= stick:
        return position, False
    if abs(gap) <= reach:
        return command, False
    return position + math.copysign(reach, gap), True


def transition(
    state: State,
    action: Action,
    rng: Gaussian,
    params: Params,
    dt: float = 0.1,
    inputs: Inputs = Inputs(),  # noqa: B008 - immutable
) -> State:
    """State after `dt` seconds: flows at the middle of the step, exact lags; `rng` moves the mains."""
    p = params
    level1, temp1, level2, temp2, product, coolant, speed, valves, moving, mains, *_ = state
    drawn, drained, drained_temp, nozzle, air = inputs
    x1, x2, x3 = valves
    c1, c2, c3 = action[:3] if air > p.air_low else (0.0, 0.0, 0.0)
    power = (air - p.air_low) / (p.air_full - p.air_low) if p.air_low < air < p.air_full else 1.0
    reach = power * dt / p.stroke
    n1, m1 = stroke(x1, moving[0], c1, p.stick + p.valve_stiction, reach)
    n2, m2 = stroke(x2, moving[1], c2, p.stick, reach)
    n3, m3 = stroke(x3, moving[2], c3, p.stick, reach)
    half_speed = action.pump + (speed - action.pump) * math.exp(-0.5 * dt / p.pump_lag)

    taken = dt * KV * p.mains_kv * 0.5 * (x1 + n1) * math.sqrt(mains)
    head, out = header(half_speed, level2, 0.5 * (x2 + n2), nozzle, p)
    root = math.sqrt(HEAD * head)
    filled = dt * nozzle_flow(HEAD * head, nozzle, p) if nozzle else 0.0
    sold = dt * KV * p.customer_kv * 0.5 * (x2 + n2) * root
    q_cold = KV * p.coolant_kv * 0.5 * (x3 + n3) * math.sqrt(p.coolant_pressure)

    heat = dt * exchanged(drained / dt, q_cold, drained_temp, p)
    mixed = product
    if drained > 0.0:
        settled = drained_temp - heat / (RHO * CP * drained)
        product = settled + (product - settled) * math.exp(-drained / p.exchanger_volume)
        mixed = settled - p.exchanger_volume * (product - mixed) / drained  # mean of the step
    warmed = p.coolant_temp + heat / (RHO * CP * q_cold * dt) if q_cold > 1e-7 else product
    coolant = warmed + (coolant - warmed) * math.exp(-dt / p.coolant_lag)

    new1, temp1 = _tank(level1, temp1, taken, p.mains_temp, drawn, dt, p)
    new2, temp2 = _tank(level2, temp2, drained, mixed, out * dt, dt, p)
    decay = math.exp(-dt / p.mains_tau)
    noise = p.mains_sd * math.sqrt(1.0 - decay * decay) * rng.standard_normal()
    travel = abs(n1 - x1) + abs(n2 - x2) + abs(n3 - x3)
    return State(
        new1,
        temp1,
        new2,
        temp2,
        product,
        coolant,
        action.pump + (half_speed - action.pump) * math.exp(-0.5 * dt / p.pump_lag),
        (n1, n2, n3),
        (m1, m2, m3),
        max(p.mains_pressure + (mains - p.mains_pressure) * decay + noise, 0.0),
        filled,
        sold,
        taken,
        heat,
        3.0 * p.bleed * dt + travel * p.stroke_air,
    )


def _tank(
    level: float, temp: float, came: float, came_temp: float, left: float, dt: float, p: Params
) -> tuple[float, float]:
    """New level and temperature of a mixed tank; what is over its rim overflows."""
    new = level + (came - left) / p.area
    loss = p.loss_u * (temp - p.ambient) * dt / (RHO * CP)
    wet = max(new, 0.005) * p.area
    gained = came * (came_temp - temp) - loss
    return min(max(new, 0.0), p.height), temp + gained / wet


class Readings(NamedTuple):
    """What the transmitters read, in the units of their tags."""

    level1: float  # %
    temp1: float  # degC
    mains: float  # L/min
    level2: float  # %
    temp2: float  # degC
    product: float  # degC
    coolant: float  # degC
    coolant_flow: float  # L/min
    customer: float  # L/min
    header: float  # kPa gauge
    current: float  # A
    fcv201: float  # %
    fcv202: float  # %
    tcv203: float  # %


# One standard deviation of the noise: 0.1-0.25 % of span, as the data sheets of such transmitters state.
NOISE = Readings(
    level1=0.08,
    temp1=0.03,
    mains=0.10,
    level2=0.08,
    temp2=0.03,
    product=0.03,
    coolant=0.03,
    coolant_flow=0.10,
    customer=0.10,
    header=0.5,
    current=0.03,
    fcv201=0.1,
    fcv202=0.1,
    tcv203=0.1,
)


def readings(state: State, action: Action, params: Params, nozzle: float = 0.0) -> Readings:
    """Noise-free readings of the transmitters."""
    del action
    p = params
    x1, x2, x3 = state.valves
    speed = state.speed
    head, out = header(speed, state.level2, x2, nozzle, p)
    hydraulic = HEAD * out * max(p.pump_head * speed * speed - p.pump_k * out * out, 0.0)
    return Readings(
        100.0 * state.level1 / p.height,
        state.temp1,
        KV * p.mains_kv * x1 * math.sqrt(state.mains) / L_PER_MIN,
        100.0 * state.level2 / p.height,
        state.temp2,
        state.product,
        state.coolant,
        KV * p.coolant_kv * x3 * math.sqrt(p.coolant_pressure) / L_PER_MIN,
        KV * p.customer_kv * x2 * math.sqrt(HEAD * head) / L_PER_MIN,
        HEAD * head / 1000.0,
        p.pump_idle * speed + hydraulic / (p.pump_eta * p.pump_volt),
        100.0 * x1,
        100.0 * x2,
        100.0 * x3,
    )
