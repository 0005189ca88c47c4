"""Whether windows still come."""

from __future__ import annotations


class WindowWatch:
    """How long no window came, against the length of the windows that came before. Monotonic nanoseconds."""

    LENGTHS = 3  # so many may fail to come
    FIRST_S = 60.0  # for the first ones; the length is not known yet
    LEAST_S = 3.0  # shorter gaps say nothing

    def __init__(self, monotonic_ns: int) -> None:
        self._seen_ns = monotonic_ns
        self._last: tuple[int, int] | None = None  # number and end of the newest window
        self._allowed_ns = self.FIRST_S * 1e9

    def see(self, window_id: int, end_ns: int, monotonic_ns: int) -> None:
        """A window came; `end_ns` of the wall clock."""
        if self._last is not None and window_id > self._last[0] and end_ns > self._last[1]:
            length_ns = (end_ns - self._last[1]) / (window_id - self._last[0])
            self._allowed_ns = max(self.LENGTHS * length_ns, self.LEAST_S * 1e9)
        self._last, self._seen_ns = (window_id, end_ns), monotonic_ns

    def silent_s(self, monotonic_ns: int) -> float:
        """Seconds since the last window if that is too long, else 0."""
        gap_ns = monotonic_ns - self._seen_ns
        return gap_ns / 1e9 if gap_ns > self._allowed_ns else 0.0
