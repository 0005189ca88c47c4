"""The process: tank T101 fed by pump P101, heated by H101, drained through a demand valve.

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

    mass      A dh/dt = Q_in - Q_out
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

G = 9.80665  # m/s2, standard gravity (CGPM 1901)
RHO = 997.0  # kg/m3, water at 25 degC (IAPWS-95)
CP = 4181.0  # J/(kg K), water at 25 degC (IAPWS-95)
L_PER_MIN = 1.0 / 60_000.0  # m3/s in one L/min


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
    """State of the process; see the module's table."""

    level: float
    temp: float
    speed: float
    element: float
    demand: float


class Action(NamedTuple):
    """What the PLC's outputs ask for, held during one step."""

    pump: float = 0.0  # 0..1 speed command of P101
    heater: float = 0.0  # 0..1 power command of H101
    outlet_open: bool = True  # False: shut-off valve closed


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
    fill = min(1.0, level / 0.010)
    return fill * demand * p.outlet_cd * p.outlet_area * math.sqrt(2.0 * G * (level + p.outlet_drop))


def derivative(
    y: tuple[float, float, float, float], demand: float, action: Action, p: Params
) -> tuple[float, float, float, float]:
    """d(level, temp, speed, element)/dt in m/s, K/s, 1/s, K/s."""
    level, temp, speed, element = y
    q_in = inflow(speed, p)
    q_out = outflow(level, demand, action.outlet_open, p)
    to_liquid = p.element_u * (element - temp)
    capacity = RHO * CP * p.area * max(level, 0.005)
    electric = action.heater * p.heater_power * (1.0 - p.heater_open)
    d_level = (q_in - q_out) / p.area
    if level >= p.height and d_level > 0.0:
        d_level = 0.0  # overflow weir
    return (
        d_level,
        (RHO * CP * q_in * (p.feed_temp - temp) + to_liquid - p.loss_u * (temp - p.ambient)) / capacity,
        (action.pump - speed) / p.pump_lag,
        (electric - to_liquid) / p.element_capacity,
    )


def transition(
    state: State, action: Action, rng: np.random.Generator, params: Params, dt: float = 0.1, substeps: int = 2
) -> State:
    """State after `dt` seconds (classical Runge-Kutta); `rng` moves the demand only."""
    p = params
    h = dt / substeps
    y = (state.level, state.temp, state.speed, state.element)
    for _ in range(substeps):
        k1 = derivative(y, state.demand, action, p)
        k2 = derivative(_along(y, k1, h / 2), state.demand, action, p)
        k3 = derivative(_along(y, k2, h / 2), state.demand, action, p)
        k4 = derivative(_along(y, k3, h), state.demand, action, p)
        y = (
            y[0] + h / 6 * (k1[0] + 2 * (k2[0] + k3[0]) + k4[0]),
            y[1] + h / 6 * (k1[1] + 2 * (k2[1] + k3[1]) + k4[1]),
            y[2] + h / 6 * (k1[2] + 2 * (k2[2] + k3[2]) + k4[2]),
            y[3] + h / 6 * (k1[3] + 2 * (k2[3] + k3[3]) + k4[3]),
        )
    decay = math.exp(-dt / p.demand_tau)
    spread = p.demand_sd * math.sqrt(1.0 - decay * decay)
    demand = p.demand_mean + (state.demand - p.demand_mean) * decay + spread * float(rng.standard_normal())
    return State(
        level=min(max(y[0], 0.0), p.height),
        temp=y[1],
        speed=y[2],
        element=y[3],
        demand=min(max(demand, 0.3), 1.0),
    )


def _along(
    y: tuple[float, float, float, float], k: tuple[float, float, float, float], h: float
) -> tuple[float, float, float, float]:
    return (y[0] + h * k[0], y[1] + h * k[1], y[2] + h * k[2], y[3] + h * k[3])


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


def readings(state: State, action: Action, params: Params) -> Readings:
    """Noise-free readings of the transmitters."""
    p = params
    q = inflow(state.speed, p)
    ideal_head = max(p.pump_head * state.speed**2 - p.pump_k * q * q, 0.0)
    shaft = RHO * G * q * ideal_head  # a worn impeller still takes the power of a good one
    return Readings(
        level=100.0 * state.level / p.height,
        temp=state.temp,
        inflow=q / L_PER_MIN,
        outflow=outflow(state.level, state.demand, action.outlet_open, p) / L_PER_MIN,
        pressure=RHO * G * (p.static_head + p.pipe_k * q * q) / 1000.0 if q > 0.0 else 0.0,
        current=p.pump_idle * state.speed + shaft / (p.pump_eta * p.pump_volt),
        power=action.heater * p.heater_power * (1.0 - p.heater_open) / 1000.0,
    )
