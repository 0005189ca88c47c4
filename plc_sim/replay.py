"""A recorded table in place of the simulated cell."""

from __future__ import annotations

import numpy as np

from cellwatch.plc_sim.incidents import Incident
from cellwatch.plc_sim.plcs.parts import Refusal
from cellwatch.plc_sim.table import Table
from cellwatch.plc_sim.tags import STATUS_BAD_NO_DATA, TagSpec


class Replay:
    """Rows of a table, `step_s` seconds of wall time apart."""

    def __init__(
        self, table: Table, plc: str = "PLC1", speed: float = 1.0, commission_rows: int = 400
    ) -> None:
        """`speed` divides the file's own time step; the first `commission_rows` rows count as benign."""
        if not speed > 0.0:
            raise ValueError(f"--speed is {speed:g}; it must be above 0")
        if commission_rows < 0:
            raise ValueError(f"--commission-rows is {commission_rows}; it must not be negative")
        self.table = table
        self.plc = plc
        self.step_s = table.step_s / speed
        self.commission_s = min(commission_rows, len(table)) * self.step_s
        self.duration_s = len(table) * self.step_s
        self.tags = tuple(TagSpec(name, device=plc) for name in table.names)
        self._rows: list[list[float]] = table.values.tolist()
        self._status: list[list[int]] = np.where(np.isnan(table.values), STATUS_BAD_NO_DATA, 0).tolist()

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, i: int) -> tuple[list[float], list[int]]:
        """Values and status codes of row i; a missing cell is Bad and 0."""
        status = self._status[i]
        return [0.0 if code else value for value, code in zip(self._rows[i], status, strict=True)], status

    def labels(self, zero_ns: int) -> list[Incident]:
        """Stretches of anomaly = 1, when row 0 leaves at `zero_ns`."""
        step_ns = self.step_s * 1e9
        return [
            Incident(
                name=f"anomaly {k}",
                kind="fault",
                category="fault",
                type="anomaly",
                device=self.plc,
                onset_ns=zero_ns + round(first * step_ns),
                end_ns=zero_ns + round(end * step_ns),
                devices=(self.plc,),
            )
            for k, (first, end) in enumerate(self.table.anomalies, start=1)
        ]

    @staticmethod
    def write(tag: str, value: float) -> Refusal:
        """Refuse: a recording cannot be changed."""
        del tag, value
        return Refusal.NOT_WRITABLE
