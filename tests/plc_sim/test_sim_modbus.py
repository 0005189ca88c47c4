"""MB401 and pymodbus's client: values, writes with read-back, every exception."""

from __future__ import annotations

import asyncio
import contextlib

from pymodbus.client import AsyncModbusTcpClient

from cellwatch.plc_sim.plcs.parts import Refusal
from cellwatch.plc_sim.servers.modbus import UNIT, ModbusServer
from cellwatch.plc_sim.tags import PLC_TAGS

TAGS = PLC_TAGS["PLC4"]
SET_POINT = [tag.name for tag in TAGS].index("PIC401_SP")
LOCK = [tag.name for tag in TAGS].index("XS402_LOCK")
VALUES = [652.34 if tag.kind == "float" else 1.0 for tag in TAGS]


class Device:
    """A server whose PLC takes what it is told, or refuses."""

    def __init__(self):
        self.writes = []
        self.refusal = Refusal.NONE

    def take(self, tag, value):
        if not self.refusal:
            self.writes.append((tag, value))
        return int(self.refusal)

    @contextlib.asynccontextmanager
    async def serve(self):
        server = ModbusServer(TAGS, self.take)
        host, port = (await server.start()).split(":")
        server.publish(VALUES)
        client = AsyncModbusTcpClient(host, port=int(port), timeout=2, retries=0)
        try:
            assert await client.connect()
            yield server, client
        finally:
            client.close()
            await server.stop()
        again = AsyncModbusTcpClient(host, port=int(port), timeout=1, retries=0, reconnect_delay=0)
        assert not await again.connect()


def test_registers_show_the_tags_in_order():
    async def talk():
        async with Device().serve() as (server, client):
            for read in (client.read_holding_registers, client.read_input_registers):
                got = await read(0, count=len(TAGS), device_id=UNIT)
                assert got.registers == [6523 if tag.kind == "float" else 1 for tag in TAGS]
            server.publish([-5.0, float("nan"), 1e9, *VALUES[3:]])  # no register holds these
            got = await client.read_holding_registers(0, count=3, device_id=UNIT)
            assert got.registers == [0, 0, 65535]
            got = await client.read_holding_registers(2, count=2, device_id=UNIT)
            assert got.registers == [65535, 6523]

    asyncio.run(talk())


def test_writes_go_through_the_plc_and_read_back():
    async def talk():
        device = Device()
        async with device.serve() as (server, client):
            assert not (await client.write_register(SET_POINT, 6105, device_id=UNIT)).isError()
            assert device.writes == [("PIC401_SP", 610.5)]
            got = await client.read_holding_registers(SET_POINT, count=1, device_id=UNIT)
            assert got.registers == [6105]
            assert not (await client.write_registers(LOCK - 1, [0, 1], device_id=UNIT)).isError()
            assert device.writes[1:] == [("XS401_SAFE", 0.0), ("XS402_LOCK", 1.0)]
            server.publish(VALUES)  # what the PLC has made of it
            got = await client.read_holding_registers(SET_POINT, count=1, device_id=UNIT)
            assert got.registers == [6523]

    asyncio.run(talk())


def test_exceptions():
    async def talk():
        device = Device()
        async with device.serve() as (_, client):
            n = len(TAGS)
            unit = {"device_id": UNIT}
            for call, code in (
                (client.read_holding_registers(n, count=1, **unit), 2),
                (client.read_holding_registers(n - 2, count=3, **unit), 2),
                (client.read_input_registers(200, count=1, **unit), 2),
                (client.write_register(0, 1, **unit), 2),  # a measurement
                (client.write_registers(SET_POINT, [6000, 1], **unit), 2),  # the second one is not writable
                (client.read_coils(0, count=1, **unit), 1),
                (client.write_coil(LOCK, True, **unit), 1),
            ):
                got = await call
                assert got.isError()
                assert got.exception_code == code, got
            for refusal, code in ((Refusal.OUT_OF_RANGE, 3), (Refusal.LOCKED, 4), (Refusal.INVALID_STATE, 4)):
                device.refusal = refusal
                assert (await client.write_register(SET_POINT, 60000, **unit)).exception_code == code
            got = await client.read_holding_registers(SET_POINT, count=1, **unit)
            assert got.registers == [6523]
            assert device.writes == []

    asyncio.run(talk())
