"""Modbus TCP (Modbus application protocol 1.1b3; messaging on TCP/IP 1.0b)."""

from __future__ import annotations

import struct
from collections.abc import Sequence

READ_COILS, READ_HOLDING, READ_INPUT, WRITE_ONE, WRITE_MANY = 1, 3, 4, 6, 16
ILLEGAL_FUNCTION, ILLEGAL_ADDRESS, ILLEGAL_VALUE, BUSY = 1, 2, 3, 6


def read_request(
    transaction: int, unit: int, address: int, count: int, function: int = READ_HOLDING
) -> bytes:
    """Read `count` registers from `address`."""
    return _adu(transaction, unit, struct.pack(">BHH", function, address, count))


def read_response(transaction: int, unit: int, values: Sequence[int], function: int = READ_HOLDING) -> bytes:
    """Registers, 0..65535 each."""
    n = len(values)
    return _adu(transaction, unit, struct.pack(f">BB{n}H", function, 2 * n, *values))


def write_one(transaction: int, unit: int, address: int, value: int) -> bytes:
    """Write one register; the response is the same."""
    return _adu(transaction, unit, struct.pack(">BHH", WRITE_ONE, address, value))


def write_many(transaction: int, unit: int, address: int, values: Sequence[int]) -> bytes:
    """Write several registers."""
    n = len(values)
    return _adu(transaction, unit, struct.pack(f">BHHB{n}H", WRITE_MANY, address, n, 2 * n, *values))


def wrote_many(transaction: int, unit: int, address: int, count: int) -> bytes:
    """Answer to `write_many`."""
    return _adu(transaction, unit, struct.pack(">BHH", WRITE_MANY, address, count))


def refusal(transaction: int, unit: int, function: int, code: int) -> bytes:
    """Exception response."""
    return _adu(transaction, unit, bytes([function | 0x80, code]))


def _adu(transaction: int, unit: int, pdu: bytes) -> bytes:
    return struct.pack(">HHHB", transaction & 0xFFFF, 0, 1 + len(pdu), unit) + pdu
