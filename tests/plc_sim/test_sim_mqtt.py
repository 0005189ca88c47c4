"""The sensors behind a real mosquitto, heard by a subscriber; the broker ends with its parent."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from cellwatch.plc_sim.network.telemetry import SENSORS
from cellwatch.plc_sim.servers.mqtt import Broker, BrokerError, MqttSensors
from cellwatch.plc_sim.sites import SITES

PATH = os.environ.get("PATH", "") + ":/usr/sbin"
real = pytest.mark.skipif(
    shutil.which("mosquitto", path=PATH) is None, reason="mosquitto is not installed: apt install mosquitto"
)
HOSTS = SITES["factory"].hosts


@real
def test_a_subscriber_hears_every_sensor_with_the_values_of_the_process():
    async def talk():
        sensors = MqttSensors(HOSTS, np.random.default_rng(1))
        heard = []
        listener = Client(CallbackAPIVersion.VERSION2)
        listener.on_message = lambda *args: heard.append((args[2].topic, args[2].payload))
        ready = asyncio.Event()
        loop = asyncio.get_running_loop()
        listener.on_subscribe = lambda *_: loop.call_soon_threadsafe(ready.set)
        url = await sensors.start()
        try:
            listener.connect("127.0.0.1", int(url.rsplit(":", 1)[1]))
            listener.subscribe("iiot/#")
            listener.loop_start()
            await asyncio.wait_for(ready.wait(), 5)
            values = {"LIT201": 50.0, "LIT202": 40.0, "VIT301": 2.5}
            sent = sum(sensors.publish(elapsed_s, values) for elapsed_s in np.arange(0.0, 22.0, 0.1))
            for _ in range(100):
                await asyncio.sleep(0.05)
                if len(heard) == sent:
                    break
        finally:
            listener.disconnect()
            listener.loop_stop()
            await sensors.stop()
        assert len(heard) == sent
        topics = {r.topic.decode() for spec in SENSORS.values() for group in spec.segments for r in group}
        assert {topic for topic, _ in heard} == topics
        rounds = [payload for topic, payload in heard if topic == "iiot/water"]
        assert 20 <= len(rounds) <= 23  # one a second
        assert set(rounds) == {b"512"}  # 50 % of 1023
        assert dict(heard)["iiot/vibration"] == b"25"
        assert dict(heard)["iiot/ultrasonic"] == b"36"
        assert sensors.publish(100.0, values) == 0  # stopped
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", sensors.broker.port)

    asyncio.run(talk())


CHILD = """
import asyncio, time
from cellwatch.plc_sim.servers.mqtt import Broker
async def main():
    broker = Broker()
    await broker.start()
    print(broker.port, broker._process.pid, flush=True)
    time.sleep(60)
asyncio.run(main())
"""


@real
def test_the_broker_does_not_outlive_a_killed_parent():
    with subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True) as parent:
        try:
            port, pid = map(int, parent.stdout.readline().split())
            parent.send_signal(signal.SIGKILL)
            parent.wait(5)
            deadline = time.monotonic() + 5
            while _lives(pid):
                assert time.monotonic() < deadline
                time.sleep(0.02)
        finally:
            parent.kill()

    async def knock():
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", port)

    asyncio.run(knock())


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    except FileNotFoundError:
        return False


def test_without_mosquitto_the_message_says_what_to_do(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(BrokerError, match=r"mosquitto is not installed.*apt install mosquitto"):
        asyncio.run(Broker().start())
