"""One decision out of all monitors."""

from __future__ import annotations

from collections.abc import Collection

from cellwatch.models.types import DriftState

LOSS = "loss"  # the monitor that labels are for


class Decision:
    """States by what the monitors say, with one alarm for one drift.

    Labels decide where there are any, for a distribution may change and the model stay right. The alarm is
    raised by M consecutive windows whose loss is over the limit (the paper's rule), or by one such window
    while at least two of the sequential detectors have fired within the last 2 M windows. Without labels it
    is raised by M consecutive blocks in which at least two label-free monitors are over theirs.

    Hysteresis: it takes M consecutive calm windows to leave WARNING or DRIFT again, and in DRIFT no further
    alarm is raised.
    """

    VOTES = 2  # monitors that must agree where none of them would do alone

    def __init__(self, consecutive: int) -> None:
        """`consecutive`: M. ValueError below 1."""
        if consecutive < 1:
            raise ValueError("it takes one window at least")
        self._m = consecutive
        self.state = DriftState.CALM
        self.reasons: tuple[str, ...] = ()  # monitors that raised the last alarm
        self._over = self._calm = self._blocks = 0  # consecutive windows and blocks
        self._windows = 0
        self._fired: dict[str, int] = {}  # detector -> window in which it last fired
        self._silent = 0  # blocks since the last labelled window

    def labelled(self, over: bool, fired: Collection[str] = ()) -> bool:
        """One window of labelled samples: its loss is over the limit or not, and who fired in it.

        True if this window raises the alarm.
        """
        self._windows += 1
        self._silent = self._blocks = 0
        self._fired.update(dict.fromkeys(fired, self._windows))
        votes = sorted(name for name, at in self._fired.items() if self._windows - at < 2 * self._m)
        self._over = self._over + 1 if over else 0
        self._calm = 0 if over or fired else self._calm + 1
        if self._over >= self._m or (over and len(votes) >= self.VOTES):
            return self._raise((LOSS, *votes))
        self._settle(moved=over or bool(fired))
        return False

    def unlabelled(self, over: Collection[str]) -> bool:
        """One block of samples without regard to labels: the label-free monitors that are over their limit.

        True if this block raises the alarm, which it may only when M blocks have passed without labels.
        """
        self._silent += 1
        self._blocks = self._blocks + 1 if len(over) >= self.VOTES else 0
        alone = self._silent > self._m
        if alone and self._blocks >= self._m:
            return self._raise(tuple(over))
        if alone:
            self._calm = 0 if over else self._calm + 1
            self._settle(moved=bool(over))
        elif over and self.state == DriftState.CALM:
            self.state = DriftState.WARNING
        return False

    def _raise(self, reasons: tuple[str, ...]) -> bool:
        if self.state == DriftState.DRIFT:
            return False
        self.state, self.reasons = DriftState.DRIFT, reasons
        return True

    def _settle(self, *, moved: bool) -> None:
        if self._calm >= self._m:
            self.state = DriftState.CALM
        elif moved and self.state == DriftState.CALM:
            self.state = DriftState.WARNING
