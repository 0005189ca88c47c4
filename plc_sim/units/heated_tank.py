"""Unit 100: tank T101 fed by pump P101, heated by H101, drained through a demand valve.

    sump --P101--> FIT101 --> [ T101: level h, temperature T, heater H101 ] --demand valve--> FIT102

Pure: `initial(rng)` and `transition(state, action, rng, params)` hold no other state. The states are

| name   | unit | range       | meaning                                             |
|--------|------|-------------|-----------------------------------------------------|
| level  | m    | 0 .. 0.5    | liquid height in T101                               |
| temp   | degC | 0 .. 100    | liquid temperature, ideally mixed                   |
| speed  | 1    | 0 .. 1      | speed of P101 / its rated speed                     |
| element| degC | 0 .. 300    | temperature of the heating element                  |
| demand | 1    | 0.3 .. 1    | opening that the consumer asks of the outlet valve  |

Balances (SI units inside):

    mass      A dh/dt = Q_in - Q_out - Q_leak
    energy    rho c A h dT/dt = rho c Q_in (T_feed - T) + U_e (T_e - T) - U_l (T - T_amb)
              C_e dT_e/dt = P_el - U_e (T_e - T)
    momentum  w (H_0 s^2 - k_p Q_in^2) = H_static + k_f Q_in^2     (quasi-steady: the pipe's own inertia
              settles in about 0.1 s, below one scan); pump speed s follows its command with a lag
    outlet    Q_out = x C_d a sqrt(2 g (h + h_drop))               (Torricelli)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cellwatch.plc_sim.units.constants import CP, L_PER_MIN, RHO, G
from cellwatch.plc_sim.units.draws import Gaussian


@dataclass(frozen=True, slots=True)
class Params:
    """Size and condition of the unit. Sizes are our own design for a bench-top cell, not a real plant."""

    area: float = 0.010  # m2, cross-section of T101 (113 mm bore)
    height: float = 0.50  # m, top of T101, 100 % level
    pump_head: float = 14.0  # m, shut-off head of P101 at rated speed (small 24 V DC pump)
    pump_k: float = 1.6e7  # m/(m3/s)^2, inner loss: head falls by 4 m at 30 L/min
    pump_lag: float = 0.3  # s, speed lag of motor and drive
    pump_wear: float = 0.0  # 0..1, share of head lost by a worn impeller
    pump_eta: float = 0.35  # hydraulic power / electrical power, typical of small centrifugal pumps
    pump_volt: float = 24.0  # V, DC supply
    pump_idle: float = 0.3  # A, no-load current at rated speed
    static_head: float = 3.0  # m, lift from the sump to the inlet of T101
    pipe_k: float = 2.8e7  # m/(m3/s)^2, friction of feed pipe and fittings: 7 m at 30 L/min
    outlet_area: float = 1.77e-4  # m2, DN15 bore
    outlet_cd: float = 0.62  # discharge coefficient of a sharp-edged orifice (Perry, 8th ed., 10-16)
    outlet_drop: float = 0.30  # m, outlet lies this far below the bottom of the tank
    leak_area: float = 0.0  # m2, hole at the bottom of T101
    heater_power: float = 18_000.0  # W, three elements of 6 kW
    heater_open: float = 0.0  # 0..1, share of the elements' power lost
    element_capacity: float = 1500.0  # J/K, heat capacity of element and sheath (about 3 kg of steel)
    element_u: float = 1500.0  # W/K, element to liquid
    loss_u: float = 6.0  # W/K, tank wall to air (about 0.2 m2 at 30 W/(m2 K))
    feed_temp: float = 18.0  # degC, water in the sump
    ambient: float = 22.0  # degC
    demand_mean: float = 0.66  # valve opening
    demand_sd: float = 0.02  # its standard deviation
    demand_tau: float = 20.0  # s, how slowly it varies (Ornstein-Uhlenbeck)


class State(NamedTuple):
    """State of the process, see the module's table; and what crossed its border in the last step."""

    level: float
    temp: float
    speed: float
    element: float
    demand: float
    drawn: float = 0.0  # m3, from the sump
    drained: float = 0.0  # m3, through the outlet


class Action(NamedTuple):
    """What the PLC's outputs ask for, held during one step."""

    pump: float = 0.0  # 0..1 speed command of P101
    heater: float = 0.0  # 0..1 power command of H101
    outlet_open: bool = True  # False: shut-off valve closed


class Feed(NamedTuple):
    """What P101 draws from."""

    temp: float  # degC
    suction: float = 1.0  # 0..1, share of the flow that the level in the sump allows


def initial(rng: np.random.Generator, params: Params | None = None) -> State:
    """Draw a start near the steady state at 60 % level and 30 degC."""
    p = params or Params()
    jitter = rng.standard_normal(3)
    return State(
        level=0.6 * p.height + 0.002 * float(jitter[0]),
        temp=30.0 + 0.2 * float(jitter[1]),
        speed=0.64,
        element=37.0,
        demand=p.demand_mean + p.demand_sd * float(jitter[2]),
    )


def inflow(speed: float, p: Params) -> float:
    """Flow through P101 in m3/s, >= 0 (a check valve stops backflow).

    >>> round(inflow(1.0, Params()) / L_PER_MIN, 2)
    30.0
    """
    health = 1.0 - p.pump_wear
    spare = health * p.pump_head * speed * speed - p.static_head
    if spare <= 0.0:
        return 0.0
    return math.sqrt(spare / (health * p.pump_k + p.pipe_k))


def outflow(level: float, demand: float, outlet_open: bool, p: Params) -> float:
    """Flow out of T101 in m3/s; it dies away over the last 10 mm of level."""
    if not outlet_open or level <= 0.0:
        return 0.0
    fill = level / 0.010 if level < 0.010 else 1.0
    return fill * demand * p.outlet_cd * p.outlet_area * math.sqrt(2.0 * G * (level + p.outlet_drop))


def leakage(level: float, p: Params) -> float:
    """Flow through a hole at the bottom in m3/s."""
    return p.outlet_cd * p.leak_area * math.sqrt(2.0 * G * level) if level > 0.0 else 0.0


def derivative(
    level: float, temp: float, element: float, q_in: float, q_out: float, electric: float, feed_temp: float,
    p: Params,
) -> tuple[float, float, float]:  # fmt: skip
    """d(level, temp, element)/dt in m/s, K/s, K/s, from flows in m3/s and the heater's power in W."""
    to_liquid = p.element_u * (element - temp)
    capacity = RHO * CP * p.area * (max(0.005, level))
    d_level = (q_in - q_out - (leakage(level, p) if p.leak_area else 0.0)) / p.area
    if level >= p.height and d_level > 0.0:
        d_level = 0.0  # overflow weir
    return (
        d_level,
        (RHO * CP * q_in * (feed_temp - temp) + to_liquid - p.loss_u * (temp - p.ambient)) / capacity,
        (electric - to_liquid) / p.element_capacity,
    )


def transition(
    state: State, action: Action, rng: Gaussian, params: Params, dt: float = 0.1, feed: Feed | None = None
) -> State:
    """State after `dt` seconds (third-order Runge-Kutta); `rng` moves the demand only.

    Without `feed`, P101 draws from a sump that is never empty, at `params.feed_temp`.
    """
    p = params
    after = _step(state, action, p, dt, feed)
    if (inflow(state.speed, p) == 0.0) != (inflow(after.speed, p) == 0.0):
        # the check valve opened or shut, where the flow has a square-root corner: in four short steps
        after, drawn, drained = state, 0.0, 0.0
        for _ in range(4):
            after = _step(after, action, p, 0.25 * dt, feed)
            drawn += after.drawn
            drained += after.drained
        after = after._replace(drawn=drawn, drained=drained)
    level, temp, speed, element, demand, drawn, drained = after
    decay = math.exp(-dt / p.demand_tau)
    spread = p.demand_sd * math.sqrt(1.0 - decay * decay)
    demand = p.demand_mean + (demand - p.demand_mean) * decay + spread * rng.standard_normal()
    return State(level, temp, speed, element, min(max(demand, 0.3), 1.0), drawn, drained)


def _step(state: State, action: Action, p: Params, dt: float, feed: Feed | None) -> State:
    """One step: the pump's speed exactly, everything else by Kutta's third-order rule."""
    level, temp, speed, element, demand, _, _ = state
    feed_temp, suction = feed or (p.feed_temp, 1.0)
    opened = action.outlet_open
    electric = action.heater * p.heater_power * (1.0 - p.heater_open)
    decay = math.exp(-0.5 * dt / p.pump_lag)
    gap = speed - action.pump
    end_speed = action.pump + gap * decay * decay
    a_in = inflow(speed, p) * suction
    b_in = inflow(action.pump + gap * decay, p) * suction
    c_in = inflow(end_speed, p) * suction

    a_out = outflow(level, demand, opened, p)
    a0, a1, a2 = derivative(level, temp, element, a_in, a_out, electric, feed_temp, p)
    h = 0.5 * dt
    mid = level + h * a0
    b_out = outflow(mid, demand, opened, p)
    b0, b1, b2 = derivative(mid, temp + h * a1, element + h * a2, b_in, b_out, electric, feed_temp, p)
    end = level + dt * (2.0 * b0 - a0)
    c_out = outflow(end, demand, opened, p)
    c0, c1, c2 = derivative(
        end, temp + dt * (2.0 * b1 - a1), element + dt * (2.0 * b2 - a2), c_in, c_out, electric, feed_temp, p
    )
    w = dt / 6.0
    level += w * (a0 + 4.0 * b0 + c0)
    return State(
        (min(p.height, level)) if level > 0.0 else 0.0,
        temp + w * (a1 + 4.0 * b1 + c1),
        end_speed,
        element + w * (a2 + 4.0 * b2 + c2),
        demand,
        w * (a_in + 4.0 * b_in + c_in),
        w * (a_out + 4.0 * b_out + c_out),
    )


class Readings(NamedTuple):
    """What the transmitters read, in the units of their tags."""

    level: float  # %
    temp: float  # degC
    inflow: float  # L/min
    outflow: float  # L/min
    pressure: float  # kPa gauge, pump discharge
    current: float  # A
    power: float  # kW


# One standard deviation of the transmitters' noise, in the units of `Readings`: about the 0.1-0.25 % of span
# that data sheets of level, Pt100, electromagnetic flow and pressure transmitters state.
NOISE = Readings(level=0.08, temp=0.03, inflow=0.10, outflow=0.10, pressure=0.4, current=0.02, power=0.03)


def readings(state: State, action: Action, params: Params, suction: float = 1.0) -> Readings:
    """Noise-free readings of the transmitters."""
    p = params
    speed = state.speed
    q = inflow(speed, p) * suction
    ideal_head = max(p.pump_head * speed * speed - p.pump_k * q * q, 0.0)
    shaft = RHO * G * q * ideal_head  # a worn impeller still takes the power of a good one
    return Readings(
        100.0 * state.level / p.height,
        state.temp,
        q / L_PER_MIN,
        outflow(state.level, state.demand, action.outlet_open, p) / L_PER_MIN,
        RHO * G * (p.static_head + p.pipe_k * q * q) / 1000.0 if q > 0.0 else 0.0,
        p.pump_idle * speed + shaft / (p.pump_eta * p.pump_volt),
        action.heater * p.heater_power * (1.0 - p.heater_open) / 1000.0,
    )
