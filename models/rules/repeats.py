"""Does a measured value repeat an old stretch? Noise does not come twice, a recording does.

Each tag's changes are compared with its older ones, sample by sample. A repetition is believed when it is
`RUN` changes long, and these are irregular like a measurement: many different values, steps that turn often.
Switches, counters, ramps and coarse readings repeat by nature and are never judged.
"""

from __future__ import annotations

import numpy as np

from cellwatch.models.types import F64, I64, Bool, TagBatch, severity

MEMORY = 512  # changes that are remembered: 51 s of a tag that moves every 100 ms
RUN = 12  # changes in a row
_START = 3  # that begin a run
_OFTEN = 4  # changes between two searches for a beginning
_VALUES, _TURNS = 0.6, 0.3  # least shares of different values, and of steps that turn


class RepeatWatch:
    """Follows the samples of the m tags of one PLC, in the order in which they come.

    Recovered samples (`TagBatch.replayed`) and those older than the tag's newest are passed over.
    """

    def __init__(self, tags: int) -> None:
        self._ring = np.full((tags, MEMORY), np.nan)
        self._count: I64 = np.zeros(tags, dtype=np.int64)  # changes seen
        self._lag: I64 = np.zeros(tags, dtype=np.int64)  # of the run, 0 = none
        self._run: I64 = np.zeros(tags, dtype=np.int64)
        self._told: I64 = np.zeros(tags, dtype=np.int64)  # `_count` when it was last told
        self._newest: I64 = np.full(tags, np.iinfo(np.int64).min)

    def add(self, batch: TagBatch) -> None:
        """Take samples in. Tags beyond the catalogue are passed over."""
        tag = batch.tag.astype(np.int64)
        fine = (tag < len(self._count)) & np.isfinite(batch.value) & (severity(batch.status) < 2)
        if batch.replayed or not fine.any():
            return
        tag, value, time_ns = tag[fine], batch.value[fine], batch.source_ns[fine]
        order = np.argsort(tag, kind="stable")
        rank = np.empty(len(tag), dtype=np.int64)
        rank[order] = np.arange(len(tag)) - np.searchsorted(tag[order], tag[order])
        for step in range(int(rank.max()) + 1):  # the first sample of every tag, the second of every tag ...
            now = np.flatnonzero(rank == step)
            self._change(tag[now], value[now], time_ns[now])

    def repeating(self) -> tuple[I64, I64]:
        """Tags that repeat now and have changed since the last call, and for how many changes they repeat."""
        tag = np.flatnonzero((self._run >= RUN) & (self._count > self._told))
        self._told[:] = self._count
        tag = tag[self._irregular(tag)] if len(tag) else tag
        return tag, self._run[tag]

    def _change(self, tag: I64, value: F64, time_ns: I64) -> None:
        last = self._ring[tag, (self._count[tag] - 1) % MEMORY]
        pick = (time_ns > self._newest[tag]) & (value != last)
        tag, value = tag[pick], value[pick]
        self._newest[tag] = time_ns[pick]
        at = self._count[tag]
        expected = self._ring[tag, (at - self._lag[tag]) % MEMORY]
        goes_on = (self._lag[tag] > 0) & (expected == value)
        self._run[tag] = np.where(goes_on, self._run[tag] + 1, 0)
        self._lag[tag[~goes_on]] = 0
        self._ring[tag, at % MEMORY] = value
        self._count[tag] = at + 1
        self._search(tag[~goes_on & (at % _OFTEN == 0)])

    def _search(self, tag: I64) -> None:
        """Where the newest `_START` changes came before, the latest such place."""
        ring, end = self._ring[tag], self._count[tag]
        same: Bool = np.ones(ring.shape, dtype=bool)
        for back in range(_START):
            newest = self._ring[tag, (end - 1 - back) % MEMORY]
            same &= np.roll(ring == newest[:, None], back, axis=1)
        lag = (end[:, None] - 1 - np.arange(MEMORY)) % MEMORY  # of each place of the ring
        lag = np.where(same & (lag >= _START) & (lag <= MEMORY - _START), lag, MEMORY).min(
            axis=1, initial=MEMORY
        )
        found = lag < MEMORY
        self._lag[tag[found]], self._run[tag[found]] = lag[found], _START

    def _irregular(self, tag: I64) -> Bool:
        """Whether the newest `RUN` changes look measured."""
        x = self._ring[tag[:, None], (self._count[tag][:, None] - RUN + np.arange(RUN)) % MEMORY]
        values = 1 + (np.diff(np.sort(x, axis=1), axis=1) > 0).sum(axis=1)
        steps = np.sign(np.diff(x, axis=1))
        turns = (steps[:, 1:] != steps[:, :-1]).mean(axis=1)
        measured: Bool = (values >= _VALUES * RUN) & (turns >= _TURNS)
        return measured
