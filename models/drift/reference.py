"""What was normal for one version of the models, kept: after a restart a drift is not taken as normal."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from cellwatch.models.drift.attribution import NONE, Rates

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Reference:
    """Limits and rates from before any drift."""

    version: str  # of the models
    limits: dict[int, tuple[float, float]] = field(default_factory=dict)  # level -> of loss and errors
    rates: Rates = NONE

    def to_json(self) -> str:
        """JSON without what is not known yet."""
        known = {str(k): list(v) for k, v in self.limits.items() if all(map(math.isfinite, v))}
        whole = {"format": FORMAT, "version": self.version, "limits": known, "rates": asdict(self.rates)}
        return json.dumps(whole, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Reference:
        """ValueError for what is not such a text."""
        try:
            data: dict[str, Any] = json.loads(text)
            if data["format"] != FORMAT:
                raise ValueError(f"format {data['format']} is not {FORMAT}")
            limits = {int(k): (float(loss), float(errors)) for k, (loss, errors) in data["limits"].items()}
            rates = Rates(**{name: int(n) for name, n in data["rates"].items()})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a reference of the drift watch: {error!r}") from None
        if not all(math.isfinite(v) and v >= 0 for pair in limits.values() for v in pair):
            raise ValueError("limits must be finite, 0 or above")
        if min(asdict(rates).values()) < 0:
            raise ValueError("counts must be 0 or above")
        return cls(str(data["version"]), limits, rates)
