"""Series of values as a rule test writes them: `50 60..90x4 95x3 _ bad`."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from cellwatch.models.types import F64, Bool

MAX_VALUES = 100_000
_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_TOKEN = re.compile(rf"(?:(_|bad)|({_NUMBER})(?:\.\.({_NUMBER}))?)(?:x(\d+))?")


@dataclass(frozen=True, slots=True)
class Series:
    """Values in turn; all of one length."""

    value: F64  # NaN where no sample comes, or one of Bad quality
    bad: Bool  # a sample of Bad quality

    @classmethod
    def parse(cls, data: object) -> Series:
        """From a text, or a list of its words. ValueError if a word is none.

        `95` one value, `95x3` three, `60..90x4` a ramp of four; `_` no sample, `bad` a sample of Bad quality.

        >>> Series.parse("50 60..90x4 _x2").value.tolist()
        [50.0, 60.0, 70.0, 80.0, 90.0, nan, nan]
        """
        words = (
            [str(d) if d is not None else "_" for d in data] if isinstance(data, list) else str(data).split()
        )
        values: list[F64] = []
        bad: list[Bool] = []
        total = 0
        for word in words:
            match = _TOKEN.fullmatch(word)
            if match is None:
                raise ValueError(f"'{word}' is no value: write 95, 95x3, 60..90x4, _ or bad")
            special, first, last, times = match.groups()
            n = int(times or 1)
            total += n
            if total > MAX_VALUES:
                raise ValueError(f"more than {MAX_VALUES} values")
            ends = (np.nan, np.nan) if special else (float(first), float(last or first))
            values.append(np.linspace(*ends, n))
            bad.append(np.full(n, special == "bad"))
        if not total:
            raise ValueError("has no value")
        return cls(np.concatenate(values), np.concatenate(bad))
