"""MB401, the compressor controller, as a Modbus TCP device: the tags of PLC4 in holding registers.

Register k (address k, 40001 + k on paper) is the k-th tag of PLC4: a number times ten, a switch or mode as it
is; input registers (30001 + k) show the same. Function codes 3, 4, 6, 16, 22, 23; unit identifier 1.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from cellwatch.plc_sim.plcs.parts import Refusal
from cellwatch.plc_sim.servers.opcua import claim_port
from cellwatch.plc_sim.tags import TagSpec

UNIT = 1  # unit identifier
FACTOR = 10.0
_EXCEPTION: dict[
    int, ExcCodes
] = {  # refusals of the PLC in the words of Modbus (application protocol 1.1b3, section 7)
    Refusal.NOT_WRITABLE: ExcCodes.ILLEGAL_ADDRESS,
    Refusal.OUT_OF_RANGE: ExcCodes.ILLEGAL_VALUE,
}


def register_of(spec: TagSpec, value: float) -> int:
    """Content of a tag's register, 0..65535.

    >>> register_of(TagSpec("PIT401", "kPa", 0, 1000), 652.34)
    6523
    """
    scaled = value * FACTOR if spec.kind == "float" else value
    return 0 if math.isnan(scaled) else min(max(round(scaled), 0), 0xFFFF)


def value_of(spec: TagSpec, register: int) -> float:
    """Value of a tag for a register's content; the inverse of `register_of`."""
    return register / FACTOR if spec.kind == "float" else float(register)


class ModbusServer:
    """The device's TCP server; values come from `publish`, writes go to the PLC."""

    def __init__(self, tags: Sequence[TagSpec], take_write: Callable[[str, float], int]) -> None:
        """`take_write(tag, value)` returns 0 or the StatusCode of the refusal."""
        self.tags = tuple(tags)
        self.endpoint = ""
        self._take = take_write
        self._registers = [0] * len(self.tags)
        self._server: ModbusTcpServer | None = None

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> str:
        """Listen and return `host:port`; `port` 0 takes a free one. OSError if it is taken."""
        port = claim_port(host, port)
        logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # refusals reach the client as exceptions
        memory = SimData(address=0, values=list(self._registers), datatype=DataType.REGISTERS)
        device = SimDevice(UNIT, [memory], action=self._access)
        server = ModbusTcpServer(device, address=(host, port))
        await server.serve_forever(background=True)
        self._server = server
        self.endpoint = f"{host}:{port}"
        return self.endpoint

    def publish(self, values: Sequence[float]) -> None:
        """Show these values, one a tag."""
        self._registers = [register_of(spec, value) for spec, value in zip(self.tags, values, strict=True)]

    async def stop(self) -> None:
        """Close all connections and the socket."""
        server, self._server = self._server, None
        if server is not None:
            await server.shutdown()  # type: ignore[no-untyped-call]

    async def _access(
        self,
        function_code: int,
        start_address: int,
        address: int,
        count: int,
        current_registers: list[int],
        set_values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """pymodbus asks before it reads or writes; addresses are those of the device."""
        del start_address
        if function_code in {1, 2, 5, 15}:
            return ExcCodes.ILLEGAL_FUNCTION
        if set_values is not None:
            specs = self.tags[address : address + count]
            if not all(spec.writable for spec in specs):
                return ExcCodes.ILLEGAL_ADDRESS
            for k, (spec, register) in enumerate(zip(specs, set_values, strict=True)):
                code = self._take(spec.name, value_of(spec, int(register)))
                if code:
                    return _EXCEPTION.get(code, ExcCodes.DEVICE_FAILURE)
                self._registers[address + k] = int(register)  # read back before the next scan
        current_registers[: len(self._registers)] = self._registers
        return None
