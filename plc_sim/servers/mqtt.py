"""The DataSense sensors as MQTT clients of a real mosquitto, which ends with this process.

Topics, texts and periods are those of the simulated traffic (`network.telemetry.SENSORS`) without its bursts.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion

from cellwatch.plc_sim.network.telemetry import SENSORS
from cellwatch.plc_sim.servers.opcua import claim_port

HOST = "127.0.0.1"
START_S = 5.0  # for the broker to listen
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_libc = ctypes.CDLL(None)


class BrokerError(RuntimeError):
    """There is no broker; the message says why and what to do."""


class Broker:
    """mosquitto on a free port of the loopback interface, for anybody on this machine."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> str:
        """Start it and return its URL. BrokerError if it is not installed or does not listen."""
        process = self._process = self._spawn()
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                _, writer = await asyncio.open_connection(HOST, self.port)
            except OSError:
                await asyncio.sleep(0.02)
                continue
            writer.close()
            return f"mqtt://{HOST}:{self.port}"
        self.stop()
        raise BrokerError(f"mosquitto does not listen on {HOST}:{self.port}, so the sensors publish nothing")

    def _spawn(self) -> subprocess.Popen[bytes]:
        program = shutil.which("mosquitto", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")
        if program is None:
            raise BrokerError(
                "mosquitto is not installed, so the sensors publish nothing: apt install mosquitto"
            )
        self.port = claim_port(HOST, 0)
        # Not as root: it would change its user, and so lose the order to end with its parent.
        user: dict[str, Any] = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid, "extra_groups": []}
        return subprocess.Popen(
            [program, "-p", str(self.port)],  # without a file it serves this machine only
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM),  # noqa: PLW1509  (no lock in it)
            **(user if os.geteuid() == 0 else {}),
        )

    def stop(self) -> None:
        """End it and wait."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(2.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@dataclass(slots=True)
class _Moment:
    """What a sensor's text is made of: the values of the process, and chance."""

    values: Mapping[str, float]
    rng: np.random.Generator

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))


class MqttSensors:
    """The sensors of a site, one client each, behind a broker of their own."""

    def __init__(self, hosts: tuple[str, ...], rng: np.random.Generator) -> None:
        """`hosts` names those of the site; others than sensors are left out."""
        self.broker = Broker()
        self._names = [name for name in hosts if name in SENSORS]
        self._moment = _Moment({}, rng)
        self._clients: dict[str, Client] = {}
        self._due = {name: float(rng.uniform(0.0, SENSORS[name].period_s)) for name in self._names}

    async def start(self) -> str:
        """Start the broker and connect; returns its URL. BrokerError if there is none."""
        url = await self.broker.start()
        await asyncio.to_thread(self._connect)
        return url

    def publish(self, elapsed_s: float, values: Mapping[str, float]) -> int:
        """Publish what is due `elapsed_s` after the start; how many messages."""
        self._moment.values = values
        told: Any = self._moment
        count = 0
        for name, client in self._clients.items():
            if self._due[name] > elapsed_s:
                continue
            spec = SENSORS[name]
            self._due[name] = max(self._due[name] + spec.period_s, elapsed_s)
            for reading in (reading for group in spec.segments for reading in group):
                client.publish(reading.topic.decode(), reading.payload(told))
                count += 1
        return count

    async def stop(self) -> None:
        """Disconnect and end the broker."""
        await asyncio.to_thread(self._disconnect)
        self.broker.stop()

    def _connect(self) -> None:
        for name in self._names:
            client = Client(CallbackAPIVersion.VERSION2, client_id=name)
            client.connect(HOST, self.broker.port, keepalive=60)
            client.loop_start()
            self._clients[name] = client

    def _disconnect(self) -> None:
        for client in self._clients.values():
            client.disconnect()
        for client in self._clients.values():
            client.loop_stop()
        self._clients.clear()
