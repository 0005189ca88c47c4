"""Who is on the network: names, addresses and the look of their IP stacks.

Names, MACs, addresses and roles of the DataSense cast are those of its testbed (CIC IIoT 2025, devices.csv);
PLCs, the Modbus controller, HMI1 and ENG1 have locally administered addresses. TTL and TCP window are those
of the real benign hour (network_ttl_*, network_window-size_*); of the others those of Linux (64, 64240),
Windows (128, 64240) and small embedded stacks (64, 8192).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellwatch.plc_sim.frames import Host, host, mac_text

if TYPE_CHECKING:
    from cellwatch.plc_sim.sites import Site

# name, role, MAC, IPv4, TTL, TCP window
_TABLE = (
    ("PLC1", "plc", "02:00:00:00:01:01", "192.168.1.120", 64, 8192),
    ("HMI1", "hmi", "02:00:00:00:01:02", "192.168.1.110", 128, 64240),
    ("ENG1", "engineering", "02:00:00:00:01:03", "192.168.1.111", 128, 64240),
    ("PLC2", "plc", "02:00:00:00:01:04", "192.168.1.121", 64, 8192),
    ("PLC3", "plc", "02:00:00:00:01:05", "192.168.1.122", 64, 8192),
    ("PLC4", "plc", "02:00:00:00:01:06", "192.168.1.123", 64, 8192),
    ("MB401", "modbus", "02:00:00:00:01:07", "192.168.1.124", 64, 4096),
    ("router", "router", "28:87:ba:bd:c6:6c", "192.168.1.1", 64, 29200),
    ("mqtt-broker", "mqtt-broker", "dc:a6:32:dc:28:46", "192.168.1.193", 64, 64240),
    ("edge1", "edge", "dc:a6:32:dc:27:d4", "192.168.1.195", 64, 64240),
    ("switch", "switch", "e0:46:ee:21:56:18", "192.168.1.200", 64, 5840),
    ("ap", "ap", "30:de:4b:e2:13:4e", "192.168.1.205", 64, 29200),
    ("weather-sensor", "sensor", "08:b6:1f:82:12:30", "192.168.1.10", 255, 5744),
    ("water-sensor", "sensor", "08:b6:1f:84:66:78", "192.168.1.11", 255, 5744),
    ("soil-sensor", "sensor", "f0:08:d1:ce:cf:0c", "192.168.1.12", 255, 5744),
    ("steam-sensor", "sensor", "08:b6:1f:81:d2:cc", "192.168.1.13", 255, 5744),
    ("gas-sensor", "sensor", "08:b6:1f:83:25:98", "192.168.1.14", 255, 5744),
    ("sound-sensor", "sensor", "f0:08:d1:ce:cf:c8", "192.168.1.15", 255, 5744),
    ("vibration-sensor", "sensor", "08:b6:1f:82:27:d0", "192.168.1.16", 255, 5744),
    ("ultrasonic-sensor", "sensor", "08:b6:1f:82:ee:c4", "192.168.1.17", 255, 5744),
    ("light-sensor", "sensor", "8c:aa:b5:8a:a9:b4", "192.168.1.18", 255, 5744),
    ("accelerometer-sensor", "sensor", "08:b6:1f:82:ee:44", "192.168.1.19", 255, 5744),
    ("proximity-collision-sensor", "sensor", "08:b6:1f:82:ef:30", "192.168.1.20", 255, 5744),
    ("motion-sensor", "sensor", "08:b6:1f:82:1c:3c", "192.168.1.21", 255, 5744),
    ("rfid-sensor", "sensor", "08:b6:1f:82:2b:1c", "192.168.1.22", 255, 5744),
    ("flame-sensor", "sensor", "08:b6:1f:82:ee:cc", "192.168.1.23", 255, 5744),
    ("yi-camera", "camera", "7c:94:9f:84:71:7e", "192.168.1.50", 64, 29200),
    ("blurams-camera", "camera", "14:c9:cf:45:3e:ba", "192.168.1.52", 64, 12271),
    ("dekco-camera", "camera", "44:29:1e:5c:de:12", "192.168.1.53", 64, 15008),
    ("myq-camera", "camera", "20:50:e7:f0:0a:04", "192.168.1.54", 64, 6908),
    ("geeni-camera", "camera", "dc:29:19:95:3a:79", "192.168.1.55", 64, 7468),
    ("wisenet-camera", "camera", "00:09:18:6d:73:b9", "192.168.1.57", 64, 14600),
    ("plug-all-cameras", "smart-plug", "c4:dd:57:15:5c:2c", "192.168.1.80", 255, 2920),
    ("plug-all-rpb", "smart-plug", "c4:dd:57:0d:f2:76", "192.168.1.81", 255, 2920),
    ("plug-mqtt", "smart-plug", "d4:a6:51:1f:f6:7c", "192.168.1.82", 255, 2920),
    ("plug-rfid", "smart-plug", "d4:a6:51:1d:c0:ed", "192.168.1.83", 255, 2920),
    ("plug-edge1", "smart-plug", "d4:a6:51:22:03:99", "192.168.1.84", 255, 2920),
    ("plug-motion", "smart-plug", "d4:a6:51:1d:74:3a", "192.168.1.85", 255, 2920),
    ("plug-flame", "smart-plug", "d4:a6:51:20:91:f7", "192.168.1.86", 255, 2920),
    ("plug-proximity", "smart-plug", "d4:a6:51:20:0e:3f", "192.168.1.87", 255, 2920),
    ("plug-vibration", "smart-plug", "d4:a6:51:79:68:75", "192.168.1.88", 255, 2920),
    ("plug-cameras-yi", "smart-plug", "50:02:91:10:ac:d8", "192.168.1.90", 255, 2920),
    ("plug-cameras-geeni", "smart-plug", "50:02:91:10:09:8f", "192.168.1.91", 255, 2920),
    ("plug-cameras-dekco-blurams", "smart-plug", "50:02:91:11:05:8c", "192.168.1.92", 255, 2920),
    ("plug-all-sensors", "smart-plug", "d4:a6:51:82:98:a8", "192.168.1.93", 255, 2920),
    ("attacker0", "attacker", "e4:5f:01:55:90:c1", "192.168.1.100", 64, 64240),
    ("attacker1", "attacker", "dc:a6:32:c9:e6:f3", "192.168.1.101", 64, 64240),
    ("attacker2", "attacker", "dc:a6:32:c9:e5:a3", "192.168.1.102", 64, 64240),
    ("attacker3", "attacker", "dc:a6:32:c9:e4:c5", "192.168.1.103", 64, 64240),
    ("attacker4", "attacker", "dc:a6:32:c9:e5:01", "192.168.1.104", 64, 64240),
    ("attacker5", "attacker", "dc:a6:32:c9:e4:aa", "192.168.1.105", 64, 64240),
    ("iot-cloud", "cloud", "18:66:da:9f:87:4d", "192.168.230.7", 61, 660),
)

ROLES: dict[str, str] = {name: role for name, role, *_ in _TABLE}
HOSTS: tuple[str, ...] = tuple(ROLES)
# MAC -> name of everything that belongs here; the cloud lies behind the router, under whose MAC it is seen.
DEVICES: dict[str, str] = {mac: name for name, role, mac, *_ in _TABLE if role not in {"attacker", "cloud"}}
# Not in the plant's inventory. Where the site is the factory they sit there idle, as in the real benign hour.
ATTACKERS: dict[str, str] = {mac: name for name, role, mac, *_ in _TABLE if role == "attacker"}


def devices_of(site: Site) -> dict[str, str]:
    """MAC -> name of the devices of a site, attackers not among them, in the order of the site."""
    macs = {name: mac for mac, name in DEVICES.items()}
    return {macs[name]: name for name in site.hosts if name in macs}


def make_hosts(site: Site) -> dict[str, Host]:
    """Interfaces of the site's hosts and of all attackers, by name."""
    made = {name: host(name, mac, ip, ttl, window) for name, _, mac, ip, ttl, window in _TABLE}
    for one in made.values():
        one.fragile = one.ttl != 255  # lwIP does not discover path MTUs
    gateway = made["router"].mac
    made["iot-cloud"].mac = gateway
    here = {*site.hosts, *ATTACKERS.values(), "router", "iot-cloud"}
    return {name: one for name, one in made.items() if name in here}


def remote(name: str, ip: str, gateway: Host, ttl: int = 53, window: int = 501) -> Host:
    """Make a server on the Internet: its frames carry the router's MAC."""
    return host(name, mac_text(gateway.mac), ip, ttl, window)
