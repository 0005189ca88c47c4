"""What attackers find on a device: open ports, how much it bears, and who it depends on.

Ports are those that the attacks of DataSense use (22, 23, 80, 443, 554, 1883, 6668, 8000, 9595), given to the
devices that they were used on, and the ports of the plant's own protocols.
"""

from __future__ import annotations

from cellwatch.plc_sim.attacks.attack import Effects
from cellwatch.plc_sim.network.hosts import ROLES
from cellwatch.plc_sim.network.sessions import OPEN_PORTS
from cellwatch.plc_sim.sites import SITES

SSH, TELNET, HTTP, HTTPS, RTSP, MQTT, MODBUS, OPCUA = 22, 23, 80, 443, 554, 1883, 502, 4840

# Open for the attacks, beside what benign life uses.
_ROLE_ALSO: dict[str, tuple[int, ...]] = {
    "router": (SSH,),
    "mqtt-broker": (TELNET,),
    "edge": (TELNET, HTTP),
    "switch": (SSH,),
    "ap": (TELNET, HTTPS),
    "smart-plug": (HTTP,),
}
_NAME_ALSO = {"wisenet-camera": (HTTPS, 8000), "geeni-camera": (6668,), "plug-all-rpb": (9595,)}
# What floods and scans go for first, where it is not the web server.
_FAVOURITE = {"plc": OPCUA, "modbus": MODBUS, "mqtt-broker": MQTT, "sensor": MQTT}

# All devices by site.
EVERYWHERE = {
    name: tuple(host for host in site.hosts if ROLES[host] != "cloud") for name, site in SITES.items()
}
# Packets per second at which half of a device's time goes into the flood.
_CAPACITY = {"sensor": 1_500, "smart-plug": 1_500, "modbus": 3_000, "plc": 5_000, "camera": 8_000}
_STRONG = 20_000
_BUSY = 0.25  # share of its time that a device can give away without losing anything


def open_ports(device: str) -> tuple[int, ...]:
    """TCP ports that answer."""
    role = ROLES[device]
    return (*OPEN_PORTS[role], *_ROLE_ALSO.get(role, ()), *_NAME_ALSO.get(device, ()))


def main_port(device: str) -> int:
    """TCP port that floods of this device go for."""
    return _FAVOURITE.get(ROLES[device], HTTP)


def with_port(port: int) -> dict[str, tuple[str, ...]]:
    """Devices on which a port is open, by site."""
    found = {site: tuple(d for d in devices if port in open_ports(d)) for site, devices in EVERYWHERE.items()}
    return {site: devices for site, devices in found.items() if devices}


def overload(device: str, pps: float) -> float:
    """Share of the device's time that a flood takes, 0..1: a queue with a fixed cost a packet."""
    return pps / (pps + _CAPACITY.get(ROLES[device], _STRONG))


def flood_effects(effects: Effects, device: str, pps: float) -> None:
    """Slow answers, lost answers and, on a PLC, missed scans while `pps` packets per second come in.

    At 400 and 1500 packets per second a PLC answers 30 and 90 ms late; it misses scans from about 1700 on.
    """
    busy = overload(device, pps)
    effects.delay_ms[device] = effects.delay_ms.get(device, 0.0) + 390.0 * busy
    excess = max(0.0, busy - _BUSY) / (1.0 - _BUSY)
    if excess:
        effects.loss[device] = 0.9 * excess
        if ROLES[device] == "plc":
            effects.skipped[device] = 0.6 * excess


def peer_of(device: str) -> str:
    """Who a device talks to most: its other end for an attacker in the middle."""
    role = ROLES[device]
    if role in {"plc", "modbus"}:
        return "HMI1"
    if role in {"hmi", "engineering"}:
        return "PLC1"
    return "mqtt-broker" if role in {"sensor", "router", "edge"} else "router"
