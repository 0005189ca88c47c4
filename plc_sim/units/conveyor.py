"""Unit 300: belt with motor M301, filling nozzle, and robot R301 that picks the full containers.

    infeed --> belt --> [ gate: nozzle, FIT301, ZS301 ] --> belt --> [ end stop: ZS302 ] --> R301

Pure: `initial(rng)` and `transition(state, action, rng, params)` hold no other state. The states are

| name      | unit | range    | meaning                                                          |
|-----------|------|----------|------------------------------------------------------------------|
| speed     | m/s  | 0 .. 0.5 | belt speed                                                       |
| reference | m/s  | 0 .. 0.5 | speed that the drive asks for, behind its ramp                   |
| bearing   | degC | 0 .. 200 | temperature of M301's bearing                                    |
| roughness | 1    | about 0  | slow random part of the vibration (log)                          |
| places    | m    | 0 .. 2   | containers on the belt, the foremost first                       |
| masses    | kg   | 0 .. 0.5 | what is in each of them                                          |
| gap       | m    | 0 .. 1   | belt that runs until the infeed sets the next container          |
| grip      | Pa   | 0 .. 1e6 | gauge pressure in the gripper                                    |
| phase     | s    | -1 .. 3  | how far R301 is in its cycle; -1: it waits                       |
| held      | kg   | -1 .. 1  | product in the container that R301 holds; -1: none               |
| slip      | 1    | about 1  | how firmly this container sits, drawn at each pick               |

Balances:

    momentum  m dv/dt = k (v_ref - v) - F, with F = mu g (m_belt + m_load) + mu_s g m_held_back + F_bearing
              (the drive's slip k settles in 40 ms; the step is the exact solution)
    energy    C dT/dt = 3 I^2 R + P_bearing v / v_n - U (T - T_amb)
    mass      what leaves the nozzle is in a container, or spilt
    grip      2 mu A p >= m (g + a) s, or the container falls (friction grip, VDI 2740)
    vibration v_rms = v / v_n sqrt(v_0^2 + (k_d d)^2), d: size of the spall
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from cellwatch.plc_sim.units.constants import L_PER_MIN, RHO, RHO_NORMAL, G
from cellwatch.plc_sim.units.draws import Gaussian

GATE, END = 0.8, 2.0  # m from the infeed: nozzle with its gate, end stop at the pick point
IDLE = -1.0  # phase of R301 while it waits
NEAR = 0.01  # m, reach of the switches


@dataclass(frozen=True, slots=True)
class Params:
    """Size and condition of the unit. Sizes are our own design for a bench-top line of 20 containers/min."""

    drive_ramp: float = 0.5  # m/s2, ramp of the drive
    drive_slip: float = 600.0  # N/(m/s), how stiffly the motor follows the drive
    top_speed: float = 0.30  # m/s at 100 %
    nominal_speed: float = 0.15  # m/s, for vibration and bearing
    belt_mass: float = 25.0  # kg, belt, rollers and rotor as seen at the belt
    rolling: float = (
        0.05  # friction coefficient of a belt on a slider bed with rollers (DIN 22101: 0.02-0.06)
    )
    sliding: float = 0.30  # plastic container held back on a PVC belt
    tare: float = 0.030  # kg, empty container
    volume: float = 0.45e-3  # m3 in a container; more is spilt
    pitch: float = 0.45  # m, mean distance at which the infeed sets containers
    pitch_sd: float = 0.03  # m
    spacing: float = 0.12  # m, length of a container: they cannot come closer
    magnetising: float = 0.8  # A, motor without load
    force_per_amp: float = 25.0  # N/A, belt force per torque-forming current
    winding: float = 8.0  # ohm, one phase
    bearing_u: float = 0.8  # W/K, motor end shield to air
    bearing_capacity: float = 80.0  # J/K: follows within 100 s
    ambient: float = 22.0  # degC
    bearing_damage: float = 0.0  # 0..1, size of the spall
    damage_power: float = 60.0  # W at nominal speed for damage 1
    damage_force: float = 20.0  # N for damage 1
    vibration: float = 0.6  # mm/s at nominal speed: zone A of a small machine (ISO 10816-1, annex B, class I)
    damage_vibration: float = 10.0  # mm/s at nominal speed for damage 1: zone D
    roughness_sd: float = 0.04  # of the logarithm
    roughness_tau: float = 2.0  # s
    grip_lag: float = 0.08  # s, filling of the gripper
    grip_leak: float = 0.0  # 0..1, share of the pressure that a worn seal loses
    grip_area: float = 1.2e-5  # m2, 2 mu A of the gripper with its lever
    grip_slip: float = 0.05  # spread of the friction from container to container
    aim_sd: float = 0.02  # s, spread of the time that R301 needs to aim
    lift: float = 5.0  # m/s2, acceleration of R301
    grasp: float = 0.4  # s from the start of a pick until the container leaves the belt ...
    place: float = 1.5  # s ... until it is set down ...
    cycle: float = 2.2  # s ... until R301 is back, at full air pressure
    air_full: float = 500_000.0  # Pa gauge: below this R301's slides are slower in proportion
    slide_air: float = 0.6e-3 * RHO_NORMAL  # kg/s while R301 moves: 36 NL/min
    leak_air: float = 0.5e-3 * RHO_NORMAL  # kg/s through a worn seal for a leak of 1: 30 NL/min
    rate_tau: float = 30.0  # s, averaging of the counts per minute


class State(NamedTuple):
    """State of the unit, see the module's table; its counts; what crossed its border in the last step."""

    speed: float
    reference: float
    bearing: float
    roughness: float
    places: tuple[float, ...]
    masses: tuple[float, ...]
    gap: float
    grip: float = 0.0
    phase: float = IDLE
    held: float = -1.0
    slip: float = 1.0
    blocked: float = 0.0  # kg, containers held back by gate, end stop or each other
    weight: float = 0.25  # kg, net weight of the last container that left the gate
    pick_s: float = 2.2  # s, time of the last pick
    clock: float = 0.0  # s, time of this pick so far
    picked: float = 1.0 / 3.0  # 1/s, averaged
    dropped: float = 0.0  # 1/s, averaged
    spilt: float = 0.0  # kg, beside containers
    removed: float = 0.0  # kg, product in containers that R301 set down or let fall
    air: float = 0.0  # kg, for R301


class Action(NamedTuple):
    """What the PLC's outputs ask for."""

    drive: float = 0.0  # 0..1, speed
    nozzle: float = 0.0  # 0..1, opening of the filling valve
    release: bool = False  # let the container at the gate pass
    pick: bool = False  # R301 may begin a pick


class Inputs(NamedTuple):
    """What the neighbours do during the step."""

    filled: float = 0.0  # m3, through the nozzle
    air: float = 600_000.0  # Pa gauge, instrument air


def initial(rng: np.random.Generator, params: Params | None = None) -> State:
    """Draw a running line: containers on the belt, those behind the gate are full."""
    p = params or Params()
    jitter = rng.standard_normal(2)
    places = [END - 0.40 + 0.02 * float(jitter[0])]
    while places[-1] > p.pitch:
        places.append(places[-1] - p.pitch)
    return State(
        speed=p.nominal_speed,
        reference=p.nominal_speed + 0.02,
        bearing=49.0,
        roughness=p.roughness_sd * float(jitter[1]),
        places=tuple(places),
        masses=tuple(0.25 if place > GATE else 0.0 for place in places),
        gap=p.pitch - places[-1],
    )


def at_gate(state: State) -> int:
    """Which container is under the nozzle; -1 if none."""
    for i, place in enumerate(state.places):
        if place <= GATE + NEAR:
            return i if place >= GATE - NEAR else -1
    return -1


def drag(state: State, p: Params) -> float:
    """Force that holds the running belt back, in N."""
    load = p.belt_mass + len(state.places) * p.tare + sum(state.masses) - state.blocked
    return G * (p.rolling * load + p.sliding * state.blocked) + p.damage_force * p.bearing_damage


def transition(
    state: State,
    action: Action,
    rng: Gaussian,
    params: Params,
    dt: float = 0.1,
    inputs: Inputs = Inputs(),  # noqa: B008 - immutable
) -> State:
    """State after `dt` seconds; `rng` moves the roughness, the infeed and the grip."""
    p = params
    filled, air = inputs
    speed, reference, travel = _drive(state, action.drive * p.top_speed, p, dt)
    force = p.drive_slip * (reference - speed)
    heat = _copper(reference, force, p) + p.damage_power * p.bearing_damage * speed / p.nominal_speed
    warm = p.ambient + heat / p.bearing_u
    decay = math.exp(-dt / p.roughness_tau)
    noise = p.roughness_sd * math.sqrt(1.0 - decay * decay) * rng.standard_normal()

    masses, spilt = _fill(state, filled, p) if filled > 0.0 else (state.masses, 0.0)
    places, masses, blocked, weight, gap = _move(state, masses, travel, action.release, p)
    if gap <= 0.0 and (not places or places[-1] >= p.spacing):
        gap += max(p.pitch + p.pitch_sd * rng.standard_normal(), p.spacing)
        places, masses = (*places, 0.0), (*masses, 0.0)

    phase, clock, slip, pick_s = state.phase, state.clock, state.slip, state.pick_s
    held, removed, picked, dropped = state.held, 0.0, 0, 0
    if phase == IDLE and action.pick and places and places[0] >= END - NEAR:
        phase, clock = p.aim_sd * rng.standard_normal(), 0.0
        slip = 1.0 + p.grip_slip * rng.standard_normal()
    moves = phase > IDLE
    closed = moves and phase < p.place
    pressed = air * (1.0 - p.grip_leak) if closed else 0.0
    grip = pressed + (state.grip - pressed) * math.exp(-dt / p.grip_lag)
    used = 0.0
    if moves:
        before = phase
        pace = air / p.air_full if air < p.air_full else 1.0
        phase += dt * pace
        clock += dt
        used = dt * pace * (p.slide_air + (p.leak_air * p.grip_leak if closed else 0.0))
        if before < p.grasp <= phase and places and places[0] >= END - NEAR:
            held, places, masses = masses[0], places[1:], masses[1:]
        if held >= 0.0 and grip * p.grip_area * slip < (p.tare + held) * (G + p.lift) and phase < p.place:
            removed, held, dropped = held, -1.0, 1
        if held >= 0.0 and phase >= p.place:
            removed, held, picked = held, -1.0, 1
        if phase >= p.cycle:
            phase, pick_s = IDLE, clock - (phase - p.cycle) / pace
    fade = math.exp(-dt / p.rate_tau)
    return State(
        speed,
        reference,
        warm + (state.bearing - warm) * math.exp(-dt * p.bearing_u / p.bearing_capacity),
        state.roughness * decay + noise,
        places,
        masses,
        gap,
        grip,
        phase,
        held,
        slip,
        blocked,
        weight,
        pick_s,
        clock,
        state.picked * fade + picked / p.rate_tau,
        state.dropped * fade + dropped / p.rate_tau,
        spilt,
        removed,
        used,
    )


def _drive(state: State, wanted: float, p: Params, dt: float) -> tuple[float, float, float]:
    """Speed, reference and travel after a step in which the reference moves evenly."""
    ramp = p.drive_ramp * dt
    reference = min(max(wanted, state.reference - ramp), state.reference + ramp)
    lag = p.belt_mass / p.drive_slip
    slope = (reference - state.reference) / dt
    settled = reference - drag(state, p) / p.drive_slip - slope * lag
    begun = state.speed - settled + slope * dt
    decay = math.exp(-dt / lag)
    travel = (settled - 0.5 * slope * dt) * dt + begun * lag * (1.0 - decay)
    return max(settled + begun * decay, 0.0), reference, max(travel, 0.0)


def _copper(reference: float, force: float, p: Params) -> float:
    """Heat of the windings in W; the drive is off at reference 0."""
    if reference <= 0.0:
        return 0.0
    return 3.0 * p.winding * (p.magnetising**2 + (force / p.force_per_amp) ** 2)


def _fill(state: State, filled: float, p: Params) -> tuple[tuple[float, ...], float]:
    """Masses after `filled` m3 left the nozzle, and what was spilt."""
    came = RHO * filled
    i = at_gate(state)
    if i < 0:
        return state.masses, came
    mass = min(state.masses[i] + came, RHO * p.volume)
    return (*state.masses[:i], mass, *state.masses[i + 1 :]), state.masses[i] + came - mass


def _move(
    state: State, masses: tuple[float, ...], travel: float, release: bool, p: Params
) -> tuple[tuple[float, ...], tuple[float, ...], float, float, float]:
    """Places, masses, weight held back, net weight at the gate, and gap after the belt ran `travel` m."""
    weight, blocked, ahead = state.weight, 0.0, END
    places = []
    for place, mass in zip(state.places, masses, strict=True):
        if place <= GATE and not release:
            ahead = min(ahead, GATE)
        new = place + travel
        if new > ahead:
            new = ahead
            blocked += p.tare + mass
        if new > GATE + NEAR >= place:
            weight = mass
        if place <= GATE + NEAR:
            release = False  # one at a time
        ahead = new - p.spacing
        places.append(new)
    return tuple(places), masses, blocked, weight, state.gap - travel


class Readings(NamedTuple):
    """What the transmitters and switches read, in the units of their tags."""

    speed: float  # m/s
    current: float  # A
    vibration: float  # mm/s
    bearing: float  # degC
    flow: float  # L/min
    weight: float  # g
    grip: float  # kPa gauge
    product: float  # kPa gauge
    air: float  # kPa gauge
    pick_s: float  # s
    picked: float  # 1/min
    dropped: float  # 1/min
    at_gate: float  # 0 or 1
    at_end: float  # 0 or 1


# One standard deviation of the noise: 0.1-0.5 % of span; counts, times and switches have none.
NOISE = Readings(
    speed=0.001,
    current=0.02,
    vibration=0.03,
    bearing=0.1,
    flow=0.05,
    weight=0.4,
    grip=1.5,
    product=0.5,
    air=1.0,
    pick_s=0.0,
    picked=0.0,
    dropped=0.0,
    at_gate=0.0,
    at_end=0.0,
)


def readings(
    state: State, action: Action, params: Params, flow: float = 0.0, product: float = 0.0, air: float = 0.0
) -> Readings:
    """Noise-free readings; `flow` m3/s through the nozzle, `product` and `air` kPa gauge at the unit."""
    del action
    p = params
    force = p.drive_slip * (state.reference - state.speed)
    shaking = math.sqrt(p.vibration**2 + (p.damage_vibration * p.bearing_damage) ** 2)
    return Readings(
        state.speed,
        math.hypot(p.magnetising, force / p.force_per_amp) if state.reference > 0.0 else 0.0,
        state.speed / p.nominal_speed * shaking * math.exp(state.roughness),
        state.bearing,
        flow / L_PER_MIN,
        1000.0 * state.weight,
        state.grip / 1000.0,
        product,
        air,
        state.pick_s,
        60.0 * state.picked,
        60.0 * state.dropped,
        float(at_gate(state) >= 0),
        float(bool(state.places) and state.places[0] >= END - NEAR),
    )
