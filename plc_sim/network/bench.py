"""Habits of the bench: eight devices around one PLC.

The HMI polls PLC1 over OPC UA, sensors publish by MQTT, everyone refreshes ARP and asks for the time, some
ask for names, and the engineering station connects now and then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cellwatch.plc_sim.network import services
from cellwatch.plc_sim.network.control import engineering, opcua_poll
from cellwatch.plc_sim.network.hosts import ROLES
from cellwatch.plc_sim.network.services import S
from cellwatch.plc_sim.network.telemetry import Reading, Sensor, sensor

if TYPE_CHECKING:
    from cellwatch.plc_sim.network.network import Habit, Network

SENSORS = {
    name: Sensor(
        period_s,
        64240,
        ((Reading(topic, f'{{"id":"{name}","value":#}}', 950, 1050),),),
        jitter=0.05,
        ping_s=15.0,
    )
    for name, topic, period_s in (
        ("steam-sensor", b"iiot/steam", 1.0),
        ("water-sensor", b"iiot/water", 1.0),
        ("vibration-sensor", b"iiot/vibration", 0.5),
    )
}
POLL_S = 0.5  # the HMI reads all values twice a second
ARP_S, NTP_S, DNS_S, SESSION_S = 20.0, 16.0, 30.0, 25.0


def habits(net: Network, start: int) -> Iterator[Habit]:
    """All habits, each first due within its period."""

    def due(within_s: float) -> int:
        return start + int((0.2 + net.uniform() * within_s) * S)

    router = net.hosts["router"]
    yield opcua_poll(net, "HMI1", "PLC1", net.tags["PLC1"], POLL_S, 0.02, start, channel=1)
    for name, spec in SENSORS.items():
        yield sensor(net, name, spec, start)
    for name in net.site.hosts:
        if name != "router":
            peer = {"sensor": "mqtt-broker", "hmi": "PLC1", "engineering": "PLC1"}.get(ROLES[name], "router")
            yield services.arp(net, name, peer, ARP_S, 0.3, due(ARP_S))
            yield services.ntp(net, name, router, NTP_S, 0.1, due(NTP_S))
    for name in (*SENSORS, "ENG1", "HMI1"):
        yield services.dns(net, name, router, b"pool.ntp.org", DNS_S, 0.3, due(DNS_S))
    yield engineering(net, "ENG1", ["PLC1"], SESSION_S, due(SESSION_S))
