"""Unit 400: compressor C401 fills receiver V401; filter F401 and the air main feed valves and gripper.

    C401 --> [ V401  PIT401 ] --> F401 --> PIT402, FIT401 --> consumers (and leaks)

Pure: `initial(rng)` and `transition(state, action, rng, params)` hold no other state. The states are

| name     | unit | range      | meaning                                                        |
|----------|------|------------|----------------------------------------------------------------|
| pressure | Pa   | 1e5 .. 1e6 | absolute pressure in V401                                      |
| load     | 1    | 0 .. 1     | opening of C401's inlet valve                                  |
| head     | degC | 0 .. 200   | temperature of C401's head, where TIT401 sits                  |
| demand   | kg/s | >= 0       | what the consumers outside units 200 and 300 draw              |

Balances:

    mass      V / (R T) dp/dt = m_c - m_use - m_leak - m_relief    (air at room temperature: small receiver)
    delivery  m_c = load m_0 (1 - wear) (1 - c ((p / p_atm)^(1/n) - 1))      (clearance of a piston machine)
    leak      isentropic nozzle flow, choked above p / p_atm = 1.89
    energy    C dT/dt = x P_el - U (T - T_amb)
              P_el = m_c / (1 - wear) c_p T_1 ((p / p_atm)^((g-1)/g) - 1) / eta + P_0    (isentropic work)
    momentum  p - p_main = k (m / (1 - clogged))^2                  (turbulent flow through F401)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cellwatch.plc_sim.units.constants import GAMMA, P_ATM, R_AIR, RHO_NORMAL
from cellwatch.plc_sim.units.draws import Gaussian

STARVED = 20_000.0  # Pa gauge, at which consumers get half of what they draw
NL_PER_MIN = RHO_NORMAL / 60_000.0  # kg/s in one normal litre per minute
CP_AIR = GAMMA * R_AIR / (GAMMA - 1.0)  # J/(kg K)
_CRITICAL = math.pow(2.0 / (GAMMA + 1.0), GAMMA / (GAMMA - 1.0))  # 0.528, pressure ratio at which flow chokes
_CHOKED = math.sqrt(GAMMA / R_AIR) * math.pow(2.0 / (GAMMA + 1.0), (GAMMA + 1.0) / (2.0 * (GAMMA - 1.0)))


@dataclass(frozen=True, slots=True)
class Params:
    """Size and condition of the unit. Sizes are our own design for a small workshop compressor of 1.5 kW."""

    volume: float = 0.050  # m3, V401 with the air main
    gas_temp: float = 293.15  # K
    ambient: float = 22.0  # degC
    capacity: float = 300.0 * NL_PER_MIN  # kg/s, swept flow of C401
    clearance: float = 0.04  # clearance volume / swept volume, typical 0.03-0.06 (Bloch & Hoefner 1996)
    polytropic: float = 1.3  # exponent of re-expansion
    compressor_wear: float = 0.0  # 0..1, share of the delivery lost (valves, rings)
    load_lag: float = 0.5  # s, inlet valve
    eta: float = 0.60  # isentropic efficiency with motor, small piston machine
    idle_power: float = 300.0  # W, running unloaded
    volt: float = 400.0  # V, three-phase
    power_factor: float = 0.85
    heat_share: float = 0.35  # of the power that stays in the head
    head_capacity: float = 1200.0  # J/K, about 2.5 kg of cast iron
    head_u: float = 14.0  # W/K, head to air with its fan
    filter_k: float = 6.25e8  # Pa/(kg/s)^2, F401: 10 kPa at 200 NL/min
    filter_clogged: float = 0.0  # 0..1, share of its area
    leak_base: float = 0.15e-6  # m2, leaks that every air main has: about 8 NL/min
    leak_area: float = 0.0  # m2, further leaks
    leak_cd: float = 0.65  # discharge coefficient of a small hole (ISO 5167 orifice: 0.60-0.65)
    relief_pressure: float = 950_000.0 + P_ATM  # Pa, safety valve on V401
    relief_k: float = 8.0e-8  # kg/(s Pa), its lift
    demand_mean: float = 70.0 * NL_PER_MIN  # kg/s
    demand_sd: float = 5.0 * NL_PER_MIN  # kg/s
    demand_tau: float = 8.0  # s (Ornstein-Uhlenbeck)


class State(NamedTuple):
    """State of the unit, see the module's table; and what crossed its border in the last step."""

    pressure: float
    load: float
    head: float
    demand: float
    made: float = 0.0  # kg, delivered by C401
    used: float = 0.0  # kg, through F401: consumers and leaks
    blown: float = 0.0  # kg, through the safety valve
    flow: float = 0.0  # kg/s, through F401 at the end of the step


class Action(NamedTuple):
    """What the PLC's outputs ask for."""

    run: bool = True  # motor of C401
    load: float = 0.0  # 0..1, inlet valve


def initial(rng: np.random.Generator, params: Params | None = None) -> State:
    """Draw a start inside the control band around 650 kPa, C401 loaded."""
    p = params or Params()
    jitter = rng.standard_normal(3)
    return State(
        pressure=650_000.0 + P_ATM + 8_000.0 * float(jitter[0]),
        load=1.0,
        head=53.0 + 0.5 * float(jitter[1]),
        demand=max(p.demand_mean + p.demand_sd * float(jitter[2]), 0.0),
        flow=p.demand_mean,
    )


def delivery(pressure: float, load: float, p: Params) -> float:
    """Mass flow of C401 in kg/s.

    >>> round(delivery(P_ATM, 1.0, Params()) / NL_PER_MIN, 6)
    300.0
    """
    filled = 1.0 - p.clearance * (math.pow(pressure / P_ATM, 1.0 / p.polytropic) - 1.0)
    return load * p.capacity * (1.0 - p.compressor_wear) * (max(0.0, filled))


def leakage(pressure: float, p: Params) -> float:
    """Mass flow through the leaks in kg/s at an absolute pressure of the main (nozzle flow, ISO 6358)."""
    ratio = P_ATM / pressure
    if ratio >= 1.0:
        return 0.0
    area = p.leak_cd * (p.leak_base + p.leak_area)
    if ratio <= _CRITICAL:
        return area * pressure * _CHOKED / math.sqrt(p.gas_temp)
    drop = math.pow(ratio, 2.0 / GAMMA) - math.pow(ratio, (GAMMA + 1.0) / GAMMA)
    return area * pressure * math.sqrt(2.0 * GAMMA / ((GAMMA - 1.0) * R_AIR * p.gas_temp) * drop)


def main_pressure(state: State, params: Params) -> float:
    """Gauge pressure of the air main behind F401 in Pa, >= 0."""
    drop = params.filter_k * (state.flow / (1.0 - params.filter_clogged)) ** 2
    main = state.pressure - P_ATM - drop
    return max(0.0, main)


def power(pressure: float, made: float, running: bool, p: Params) -> float:
    """Electrical power of C401 in W while it makes `made` kg/s; what wear loses has been compressed too."""
    if not running:
        return 0.0
    work = CP_AIR * p.gas_temp * (math.pow(pressure / P_ATM, (GAMMA - 1.0) / GAMMA) - 1.0)
    return made / (1.0 - p.compressor_wear) * work / p.eta + p.idle_power


def transition(
    state: State, action: Action, rng: Gaussian, params: Params, dt: float = 0.1, draw: float = 0.0
) -> State:
    """State after `dt` seconds; units 200 and 300 draw `draw` kg/s; `rng` moves the demand.

    Flows are those at the middle of the step, which the last step's flows foretell (second order).
    """
    p = params
    pressure, load, head, demand, last_made, last_used, last_blown, _ = state
    wanted = action.load if action.run else 0.0
    half = math.exp(-0.5 * dt / p.load_lag)
    half_load = wanted + (load - wanted) * half
    stiffness = R_AIR * p.gas_temp / p.volume  # Pa/kg
    middle = pressure + 0.5 * stiffness * (last_made - last_used - last_blown)
    made = dt * delivery(middle, half_load, p)
    main = main_pressure(state, p)
    flow = (draw + demand) * main / (main + STARVED) + leakage(main + P_ATM, p)
    over = middle - p.relief_pressure
    blown = dt * p.relief_k * over if over > 0.0 else 0.0
    pressure += stiffness * (made - dt * flow - blown)
    settled = p.ambient + p.heat_share * power(middle, made / dt, action.run, p) / p.head_u
    decay = math.exp(-dt / p.demand_tau)
    noise = p.demand_sd * math.sqrt(1.0 - decay * decay) * rng.standard_normal()
    demand = p.demand_mean + (demand - p.demand_mean) * decay + noise
    return State(
        pressure,
        wanted + (load - wanted) * half * half,
        settled + (head - settled) * math.exp(-dt * p.head_u / p.head_capacity),
        max(0.0, demand),
        made,
        dt * flow,
        blown,
        flow,
    )


class Readings(NamedTuple):
    """What the transmitters read, in the units of their tags."""

    receiver: float  # kPa gauge
    main: float  # kPa gauge
    flow: float  # L/min (normal)
    head: float  # degC
    current: float  # A


# One standard deviation of the noise: 0.1-0.25 % of span, as the data sheets of such transmitters state.
NOISE = Readings(receiver=1.0, main=1.0, flow=1.0, head=0.1, current=0.03)


def readings(state: State, action: Action, params: Params) -> Readings:
    """Noise-free readings of the transmitters."""
    p = params
    electric = power(state.pressure, delivery(state.pressure, state.load, p), action.run, p)
    return Readings(
        (state.pressure - P_ATM) / 1000.0,
        main_pressure(state, p) / 1000.0,
        state.flow / NL_PER_MIN,
        state.head,
        electric / (math.sqrt(3.0) * p.volt * p.power_factor),
    )
