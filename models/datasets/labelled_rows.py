"""Rows of sensors, some of them anomalous: what a detector of anomalies learns from and is judged by."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.datasets.dataset import DataError, digest
from cellwatch.models.types import F32, I64, Bool


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """n rows of f numbers in the order of their publisher."""

    name: str
    about: str
    columns: tuple[str, ...]  # f
    x: F32  # (n, f), NaN = missing
    label: I64  # (n,) 0 = normal; MNIST: the digit
    group: NDArray[np.str_]  # (n,) run, "" where there is none
    time_ns: I64 | None = None  # (n,)
    test: Bool | None = None  # (n,) test rows by the publisher's own split

    def __len__(self) -> int:
        return len(self.x)

    @property
    def y(self) -> Bool:
        """(n,) anomalous."""
        return np.asarray(self.label != 0)

    @property
    def fingerprint(self) -> str:
        """Hash of rows and labels."""
        return digest(self.x, self.label)

    def take(self, rows: I64 | Bool) -> LabelledRows:
        """Some of the rows."""
        return replace(
            self,
            x=self.x[rows],
            label=self.label[rows],
            group=self.group[rows],
            time_ns=None if self.time_ns is None else self.time_ns[rows],
            test=None if self.test is None else self.test[rows],
        )


def absent(name: str, path: object) -> DataError:
    """The error for a file that is not there."""
    return DataError(f"{name}: data absent ({path})")
