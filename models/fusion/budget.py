"""The threshold tau for a stated budget of false alarms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from cellwatch.models.types import F64


_ABOVE = 1e-6  # how far above a score the threshold is that it does not reach


@dataclass(frozen=True, slots=True)
class Budget:
    """A threshold and what it costs on benign windows."""

    threshold: float  # tau: an alarm from here on
    per_hour: float  # the budget: false alarms an hour of the whole cell
    alarms: int  # on the benign validation windows with this threshold
    hours: float  # of benign validation

    @property
    def upper_per_hour(self) -> float:
        """95 % upper limit of the true rate (Poisson, exact: Garwood 1936): few hours prove little."""
        from scipy.stats import chi2

        return float(chi2.ppf(0.95, 2 * (self.alarms + 1)) / 2 / self.hours)

    def to_dict(self) -> dict[str, Any]:
        return {
            "threshold": self.threshold,
            "per_hour": self.per_hour,
            "alarms": self.alarms,
            "hours": self.hours,
        }


def threshold_for_budget(
    probability: F64,
    stream: ArrayLike,
    hours: float,
    per_hour: float,
    floor: float = 0.0,
    ceiling: float = 1.0,
) -> Budget:
    """The lowest tau >= `floor` above which benign windows raise at most `per_hour` alarms an hour.

    It is not above `ceiling` (or `floor`, if that is higher), also where the budget is not kept there.

    `probability` (n,): fused P(attack) of benign validation windows, in order of time within each `stream`,
    (n,) of any kind (one device in one session). An alarm is a rise to tau or above, so windows in a row are
    one; NaN is none. ValueError if no threshold up to 1 keeps the budget, or there are no benign windows.
    """
    p, s = np.asarray(probability, float), np.asarray(stream)
    if not len(p) or hours <= 0:
        raise ValueError("a false-alarm budget needs benign windows and the hours they span")
    p = np.where(np.isnan(p), -np.inf, p)
    first = np.ones(len(p), bool)
    first[1:] = s[1:] != s[:-1]
    before = np.where(first, -np.inf, np.roll(p, 1))
    rises = p > before  # an alarm for each tau in (before, p]
    ends, starts = np.sort(p[rises]), np.sort(before[rises])
    above = np.minimum(np.unique(p[np.isfinite(p)]) + _ABOVE, 1.0)  # only there the number of alarms changes
    taus = np.unique(np.concatenate([[floor], above[above > floor]]))
    alarms = np.searchsorted(starts, taus, side="left") - np.searchsorted(ends, taus, side="left")
    over = np.flatnonzero(alarms > per_hour * hours)
    k = int(over[-1]) + 1 if len(over) else 0  # from here on every tau keeps it
    if k == len(taus):
        raise ValueError(f"no threshold up to 1 keeps {per_hour:g} false alarms an hour")
    if taus[k] > max(floor, ceiling):
        tau = max(floor, ceiling)
        return Budget(tau, per_hour, int((ends >= tau).sum() - (starts >= tau).sum()), hours)
    return Budget(float(taus[k]), per_hour, int(alarms[k]), hours)
