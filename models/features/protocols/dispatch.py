"""The catalogue as compiled functions of a protocol's place in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from cellwatch.models.features.protocols import CATALOGUE
from cellwatch.models.features.protocols.codes import CODE, PROTOCOLS
from cellwatch.models.features.protocols.compiled import compiled
from cellwatch.models.types import U8

N = len(CATALOGUE)
STRONG = np.array([protocol.STRONG for protocol in CATALOGUE])
CODES = np.array([CODE[protocol.NAME] for protocol in CATALOGUE], dtype=np.uint8)
PLACE = np.full(len(PROTOCOLS), -1, dtype=np.int64)  # of a code in the catalogue, -1 = not there
PLACE[CODES] = np.arange(N)
for _name in ("s7comm", "s7comm-plus", "mms"):  # inside TPKT
    PLACE[CODE[_name]] = PLACE[CODE["tpkt"]]
_ON = np.array([[bool(protocol.UDP_PORTS), bool(protocol.TCP_PORTS)] for protocol in CATALOGUE])
_ENOUGH = 64  # messages in a row that prove a protocol


def _by_place(functions: list[Callable[..., Any]], arguments: str) -> Callable[..., Any]:
    """call(i, ...) = functions[i](...).

    Numba keeps no table of functions on disk and unrolls none, so this is written out as a chain of tests;
    one flat function, because each level of calls is optimised again with all below it.
    """
    lines = [f"def call(place, {arguments}):"]
    for i in range(1, len(functions)):
        lines += [f"    if place == {i}:", f"        return f{i}({arguments})"]
    lines += [f"    return f0({arguments})"]
    scope: dict[str, Any] = {f"f{i}": function for i, function in enumerate(functions)}
    exec("\n".join(lines), scope)  # noqa: S102
    return compiled(cast("Callable[..., Any]", scope["call"]))


size = _by_place([protocol.size for protocol in CATALOGUE], "m")
signature = _by_place([protocol.signature for protocol in CATALOGUE], "m")
describe = _by_place([protocol.describe for protocol in CATALOGUE], "m, server, memory, out")


@compiled
def tiles(place: int, m: U8, length: int) -> bool:
    """Whether whole messages fill `length` bytes exactly, of which m was captured."""
    at = 0
    for _ in range(_ENOUGH):
        if at >= len(m):
            return bool(at == length)
        step = size(place, m[at:])
        if step <= 0:
            return False
        at += step
    return True


@compiled
def recognise(m: U8, length: int, tcp: bool) -> int:
    """Place of the protocol that a payload of `length` bytes, of which m was captured, must be; -1 = none."""
    for place in range(N):
        if _ON[place, 1 if tcp else 0] and signature(place, m) and (STRONG[place] or tiles(place, m, length)):
            return place
    return -1
