"""MQTT: what the sensors publish, how often, over which connection, and who listens.

The factory's sensors are fitted to the real benign hour of DataSense (benign_samples_10sec.csv, its first
half): cadence from log_interval-messages, segments a round from network_tcp-flags-psh_count, sizes from
network_payload-length_*, the broker's window from network_window-size_max.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

from cellwatch.plc_sim.network.tcp import MS, Tcp
from cellwatch.plc_sim.wire import mqtt

if TYPE_CHECKING:
    from cellwatch.plc_sim.network.network import Habit, Network

S = 1_000 * MS
MQTT_PORT = 1883
WINDOW, WINDOW_STEP = 5652, 2  # bytes; lwIP's receive window shrinks by each PINGRESP it has read


@dataclass(frozen=True, slots=True)
class Reading:
    """One topic; `#` becomes a number of `low..high`, or a tag of the process times `factor`."""

    topic: bytes
    pattern: str
    low: float = 0.0
    high: float = 0.0
    digits: int = 0  # after the point
    tag: str = ""
    factor: float = 1.0

    def payload(self, net: Network) -> bytes:
        """Text of a new value."""
        if "#" not in self.pattern:
            return self.pattern.encode()
        shown = net.values.get(self.tag)
        number = net.between(self.low, self.high) if shown is None else self.factor * shown
        return self.pattern.replace("#", f"{number:.{self.digits}f}").encode()


@dataclass(frozen=True, slots=True)
class Bursts:
    """Events: every `every_s` on average, for `lasts_s`, at `rate` messages a second."""

    every_s: float
    lasts_s: tuple[float, float]
    rate: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Sensor:
    """One MQTT client: each round publishes some segments, each of them with one or more messages."""

    period_s: float
    window: int  # of the broker's side
    segments: tuple[tuple[Reading, ...], ...]
    acks: int = 1  # of the broker for each segment
    spread_s: float = 0.0  # between the segments of a round
    split: float = 0.0  # odds that a segment of several messages is cut, and the rest of it again
    bursts: Bursts | None = None
    jitter: float = 0.004
    ping_s: float = 60.0  # MQTT keep-alive; network_protocols_dst holds mqtt in 1 window of 6


def _weather(name: str) -> Reading:
    return Reading(b"iiot/weather/" + name.encode(), "#", 22.0, 22.9, 2)


_WEATHER = tuple(
    _weather(name) for name in ("humidity", "pressure", "altitude", "dew-point", "heat-index", "illumination")
)
SENSORS: dict[str, Sensor] = {
    "weather-sensor": Sensor(1.0965, 65535, ((_weather("temp"),), _WEATHER), split=0.5),
    "light-sensor": Sensor(
        1.0385,
        64056,
        (
            (Reading(b"iiot/light/light", "#", 905, 925),),
            (
                Reading(b"iiot/light/names", '["r","g","b"]'),
                Reading(b"iiot/light/level", "#", 905, 925),
            ),
        ),
        spread_s=0.01,
    ),
    "sound-sensor": Sensor(
        1.0044,
        64061,
        ((Reading(b"iiot/sound/big", "#", 113, 150),), (Reading(b"iiot/sound/small", "#", 113, 150),)),
        spread_s=0.01,
    ),
    "gas-sensor": Sensor(
        1.0052,
        64071,
        ((Reading(b"iiot/gas/gas", "#", 205, 214),), (Reading(b"iiot/gas/alcohol", "#", 205, 214),)),
        spread_s=0.01,
    ),
    "accelerometer-sensor": Sensor(
        1.0056, 64031, ((Reading(b"iiot/acceleration/xyz", "[0.01,0.02,#]", 0.70, 0.78, 2),),), acks=2
    ),
    "steam-sensor": Sensor(1.0034, 64062, ((Reading(b"iiot/steam", "#", 0, 14),),)),
    "soil-sensor": Sensor(1.0029, 64062, ((Reading(b"iiot/soil", "#", 2.0, 4.5, 2),),)),
    "ultrasonic-sensor": Sensor(
        1.0057, 64062, ((Reading(b"iiot/ultrasonic", "#", 10, 15, 0, "LIT202", 0.9),),)
    ),
    "water-sensor": Sensor(1.0034, 64070, ((Reading(b"iiot/water", "#", 1023, 1023, 0, "LIT201", 10.23),),)),
    "vibration-sensor": Sensor(
        10.0,
        64075,
        ((Reading(b"iiot/vibration", "#", 0, 5, 0, "VIT301", 10.0),),),
        bursts=Bursts(3600.0, (800.0, 1000.0), (7.0, 7.5)),
    ),
    "motion-sensor": Sensor(
        10.28,
        64067,
        ((Reading(b"iiot/motion", "#", 0, 0.6),),),
        bursts=Bursts(300.0, (20.0, 55.0), (1.4, 2.4)),
    ),
    "flame-sensor": Sensor(
        10.08, 64062, ((Reading(b"iiot/flame", "#", 0, 0.51),),), bursts=Bursts(900.0, (1.0, 4.0), (0.8, 1.2))
    ),
    "proximity-collision-sensor": Sensor(
        10.0,
        64059,
        (
            (Reading(b"iiot/proximity/level", "#", 0, 0.51),),
            (
                Reading(b"iiot/proximity/distance", '["l","m","r"]'),
                Reading(b"iiot/proximity/collision", "#", 0, 0.51),
                Reading(b"iiot/proximity/hit", "#", 0, 0.51),
            ),
        ),
        spread_s=0.01,
    ),
    "rfid-sensor": Sensor(10.0, 64067, ((Reading(b"iiot/rfid/check", ""),),), acks=2),
}


def mqtt_open(net: Network, tcp: Tcp, at: int) -> int:
    """Handshake, CONNECT and CONNACK; returns when the connection is up."""
    gap = net.gap()
    net.send(tcp.handshake(at, gap))
    hello = mqtt.connect(tcp.ends[0].name.encode())
    net.send(tcp.say(at + 3 * gap, 0, hello))
    net.send(tcp.ack(at + 4 * gap, 1))
    net.send(tcp.say(at + 5 * gap, 1, mqtt.CONNECTED))
    net.send(tcp.ack(at + 6 * gap, 0))
    return at + 7 * gap


def sensor(net: Network, name: str, spec: Sensor, at: int) -> Habit:
    """Publish round by round for good, and ping the broker; more often while something happens.

    After a restart (`Network.restarts`) the device connects anew.
    """
    tcp, at = _connected(net, name, spec, at)
    at += int(net.uniform() * spec.period_s * S)
    ping_at = at + int(net.uniform() * spec.ping_s * S)
    happens = _episodes(net, spec.bursts, at)
    begin, end, rate = next(happens)
    while True:
        yield at
        if name in net.restarts:
            yield max(at, net.restarts.pop(name))
            tcp, at = _connected(net, name, spec, max(at, net.now_ns))
            yield at
        if at >= ping_at:
            ping_at += int(spec.ping_s * S)
            _ping(net, tcp, at)
            at += 5 * MS
            yield at
        for segment in _segments(net, spec):
            _publish(net, tcp, segment, at, spec.acks)
            at += int(spec.spread_s * S)
        if at >= end:
            begin, end, rate = next(happens)
        if begin <= at < end:
            at += net.wobble(1 / rate, 0.2)
        else:
            rest = spec.period_s - spec.spread_s * len(spec.segments)
            at = max(min(at + net.wobble(rest, spec.jitter), begin), at + MS)


def _connected(net: Network, name: str, spec: Sensor, at: int) -> tuple[Tcp, int]:
    tcp = net.connect(name, "mqtt-broker", MQTT_PORT, windows=(WINDOW, spec.window))
    return tcp, mqtt_open(net, tcp, at)


def _episodes(net: Network, bursts: Bursts | None, at: int) -> Iterator[tuple[int, int, float]]:
    """Begin, end and rate of one burst after the other."""
    while bursts is not None:
        begin = at + int(-bursts.every_s * S * log(max(net.uniform(), 1e-9)))
        at = begin + int(net.between(*bursts.lasts_s) * S)
        yield begin, at, net.between(*bursts.rate)
    while True:
        yield 1 << 62, 1 << 62, 1.0


def _segments(net: Network, spec: Sensor) -> Iterator[tuple[Reading, ...]]:
    for group in spec.segments:
        rest = group
        while len(rest) > 1 and net.uniform() < spec.split:
            cut = 1 + int(net.uniform() * (len(rest) - 1))
            yield rest[:cut]
            rest = rest[cut:]
        yield rest


def _publish(net: Network, tcp: Tcp, readings: tuple[Reading, ...], at: int, acks: int) -> None:
    messages = [mqtt.publish(reading.topic, reading.payload(net)) for reading in readings]
    net.send(tcp.say(at, 0, b"".join(messages)))
    answer = net.answer(tcp.ends[0].name, "mqtt-broker", at)
    for _ in range(acks):
        net.send(tcp.ack(answer, 1))
    for listener in net.listeners:
        for message in messages:
            net.send(listener.say(answer, 1, message))
            net.send(listener.ack(answer + net.gap(), 0))


def _ping(net: Network, tcp: Tcp, at: int) -> None:
    answer = net.answer(tcp.ends[0].name, "mqtt-broker", at)
    net.send(tcp.say(at, 0, mqtt.PING_REQUEST))
    net.send(tcp.ack(answer, 1))
    net.send(tcp.say(answer, 1, mqtt.PING_RESPONSE))
    net.send(tcp.ack(answer + MS, 0))
    tcp.windows[0] = max(tcp.windows[0] - WINDOW_STEP, WINDOW - 512)


def listener(net: Network, name: str, period_s: float, lasts_s: tuple[float, float], at: int) -> Habit:
    """Subscribe to everything for a while, now and then, as an operator with `mosquitto_sub` does."""
    while True:
        yield at
        tcp = net.connect(name, "mqtt-broker", MQTT_PORT, stamps=True, windows=(502, 509))
        ready = mqtt_open(net, tcp, at)
        request = mqtt.subscribe(1, b"iiot/#")
        ready = net.exchange(tcp, ready, request, mqtt.subscribed(1), 0)
        net.listeners.append(tcp)
        at = ready + int(net.between(*lasts_s) * S)
        yield at
        net.listeners.remove(tcp)
        net.send(tcp.say(at + 50 * MS, 0, mqtt.DISCONNECT))
        net.send(tcp.close(at + 51 * MS, net.gap()))
        at += net.wobble(period_s, 0.1)
