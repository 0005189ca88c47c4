"""Industrial protocols: one file each, one line each in `CATALOGUE`.

A file names its protocol (`NAME`, `TCP_PORTS`, `UDP_PORTS`) and offers four things to the compiled code; m is
what there is of a message, from its first byte on:

- `size(m)`: bytes of the message that begins at m[0]; 0 = too few bytes to tell, -1 = none begins here
- `signature(m)`: whether the first bytes tell it apart where the port says nothing, or after lost bytes;
  `STRONG` where that alone is proof (else the messages have to fill the payload exactly)
- `describe(m, server, memory, out)`: fills the row of a message (`codes.MESSAGE`); `server`: sent by the
  server's side; `memory`: a number kept for the stream, 0 at its start; returns the new one
"""

from __future__ import annotations

from cellwatch.models.features.protocols import (
    ads,
    bacnet,
    dnp3,
    enip,
    hartip,
    iec104,
    modbus,
    mqtt,
    opcua,
    synphasor,
    tpkt,
)

CATALOGUE = (opcua, tpkt, iec104, dnp3, bacnet, modbus, mqtt, enip, ads, hartip, synphasor)
