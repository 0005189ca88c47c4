"""What a candidate version of the models is to be made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from cellwatch.models.drift.held_out_gate import A, B


class RefusedError(RuntimeError):
    """Nothing can be made of an order; the message says why."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made of what. Folders are texts, so that an order is plain JSON."""

    registry: str  # its version in service is the parent
    keys: str
    store: str  # of samples, see `sample_store`; or a table of windows with `label1`
    scenario: str  # "A" false alarms | "B" misses
    cache: str  # of data sets and finished models
    fallback: str = ""  # bundle that is the parent while the registry serves none
    since_ns: int = 0  # onset of the drift; what came before is not learnt from
    until_ns: int = 0  # 0 = to the end
    replay: str = ""  # table or folder that the parent learnt from; "" = by its name
    label: str = ""  # label column of such a table
    levels: tuple[int, ...] = (1, 2, 3)  # that may be trained
    suspicious_points: float = 1.0  # of the cell's rules
    block_points: float = 6.0
    cores: int = 1
    idle: bool = True  # run only where nobody else wants to
    seed: int = 0

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Order:
        """From JSON. RefusedError names what is unknown, missing or wrong."""
        unknown = sorted({*data} - {f.name for f in fields(cls)})
        if unknown:
            raise RefusedError(f"order: unknown key {unknown[0]!r}")
        try:
            order = cls(**{**data, "levels": tuple(data.get("levels", (1, 2, 3)))})
        except TypeError as error:
            raise RefusedError(f"order: {error}") from None
        if order.scenario not in (A, B) or order.cores < 1:
            raise RefusedError(
                f"order: scenario {order.scenario!r} on {order.cores} cores: A or B, on 1 or more"
            )
        return order
