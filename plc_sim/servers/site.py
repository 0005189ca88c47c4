"""All servers of a site: OPC UA for each PLC, and in a site that has them Modbus TCP and the MQTT sensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cellwatch.plc_sim.plcs.alarms import AlarmEvent
from cellwatch.plc_sim.servers.opcua import PlcServer
from cellwatch.plc_sim.servers.security import Security
from cellwatch.plc_sim.sites import Site
from cellwatch.plc_sim.tags import PLC_TAGS, tags_of

if TYPE_CHECKING:
    from cellwatch.plc_sim.servers.modbus import ModbusServer
    from cellwatch.plc_sim.servers.mqtt import MqttSensors

HISTORIZED = ("LIT101", "TIT101", "LIT201", "LIT202", "PIT202", "VIT301", "WIT301", "PIT401")
MODBUS_DEVICE, MODBUS_PLC = "MB401", "PLC4"  # the device, and the PLC whose tags it shows
Write = Callable[[str, str, float], int]  # plc, tag, value -> StatusCode, 0 = taken
Call = Callable[[str, str, Sequence[float]], int]  # plc, method, arguments -> StatusCode


class SiteServers:
    """Servers that show the values of each scan; `take_write` and `take_call` get what clients ask for."""

    def __init__(
        self, site: Site, take_write: Write, take_call: Call, security: Security, rng: np.random.Generator
    ) -> None:
        self.site = site
        self.plcs: dict[str, PlcServer] = {
            plc: PlcServer(
                plc,
                PLC_TAGS[plc],
                lambda tag, value, plc=plc: take_write(plc, tag, value),  # type: ignore[misc]
                security,
                lambda method, arguments, plc=plc: take_call(plc, method, arguments),  # type: ignore[misc]
                HISTORIZED,
            )
            for plc in site.plcs
        }
        self.modbus: ModbusServer | None = None
        self.mqtt: MqttSensors | None = None
        if MODBUS_DEVICE in site.hosts:  # a site without them need not wait for the imports
            from cellwatch.plc_sim.servers.modbus import ModbusServer
            from cellwatch.plc_sim.servers.mqtt import MqttSensors

            self.modbus = ModbusServer(
                PLC_TAGS[MODBUS_PLC], lambda tag, value: take_write(MODBUS_PLC, tag, value)
            )
            self.mqtt = MqttSensors(site.hosts, rng)
        self.missing = ""  # why there are no MQTT sensors where there should be
        self._names = [tag.name for tag in tags_of(site)]
        self._span: dict[str, slice] = {}
        end = 0
        for plc in site.plcs:
            begin, end = end, end + len(PLC_TAGS[plc])
            self._span[plc] = slice(begin, end)

    async def start(self, port: int, values: Sequence[float]) -> dict[str, Any]:
        """Listen, the first PLC on `port`; returns what the ready message says of it.

        OSError if the port is taken.
        """
        for plc, server in self.plcs.items():
            await server.start(port if plc == self.site.plcs[0] else 0, values[self._span[plc]])
        first = self.plcs[self.site.plcs[0]]
        ready: dict[str, Any] = {
            "endpoints": {plc: server.endpoint for plc, server in self.plcs.items()},
            "certificate": str(first.certificate) if first.certificate else None,
        }
        if self.modbus is not None:
            self.modbus.publish(values[self._span[MODBUS_PLC]])
            ready["modbus"] = await self.modbus.start()
        if self.mqtt is not None:
            ready["mqtt"] = await self._start_mqtt(self.mqtt)
        return ready

    async def publish(
        self,
        time_ns: int,
        elapsed_s: float,
        values: Sequence[float],
        status: Sequence[int],
        alarms: Sequence[AlarmEvent],
    ) -> None:
        """Show the values of a scan at `time_ns`, which is `elapsed_s` after the start."""
        for plc, server in self.plcs.items():
            span = self._span[plc]
            await server.publish(time_ns, values[span], status[span])
            changes = [each for each in alarms if each.plc == plc]
            if changes:
                await server.alarm(changes)
        if self.modbus is not None:
            self.modbus.publish(values[self._span[MODBUS_PLC]])
        if self.mqtt is not None:
            self.mqtt.publish(elapsed_s, dict(zip(self._names, values, strict=True)))

    async def stop(self) -> None:
        """Stop all of them."""
        if self.mqtt is not None:
            await self.mqtt.stop()
        if self.modbus is not None:
            await self.modbus.stop()
        for server in self.plcs.values():
            await server.stop()

    async def _start_mqtt(self, sensors: MqttSensors) -> str | None:
        from cellwatch.plc_sim.servers.mqtt import BrokerError

        try:
            return await sensors.start()
        except BrokerError as error:
            self.missing, self.mqtt = str(error), None
            return None
