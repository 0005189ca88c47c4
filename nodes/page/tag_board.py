"""The tags as they are now, and their last ten minutes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from cellwatch.models.types import severity
from cellwatch.nodes.page.trend_ring import TrendRing
from cellwatch.nodes.page.values import TagView

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cellwatch.models.types import F64, TagBatch, TagCatalog

QUALITIES = ("good", "uncertain", "bad")  # by Severity
BAD = 2
OFF_NS = 60_000_000_000  # a clock of a PLC that is further off is not believed
SPEAKS_NS = 5_000_000_000  # a PLC of which nothing was heard for longer may be away
CONSTANT_S = 1.0


class _Plc:
    """The tags of one PLC; arrays have shape (n,), NaN = nothing heard yet."""

    def __init__(self, catalog: TagCatalog) -> None:
        n = len(catalog.tags)
        self.catalog = catalog
        self.ring = TrendRing(n)
        self.value, self.quality, self.at_s = (np.full(n, np.nan) for _ in range(3))
        self.heard_ns = 0  # a live batch

    def take(self, b: TagBatch) -> None:
        if not b.replayed:
            self.heard_ns = b.received_ns
        stamp = np.minimum(b.source_ns, b.received_ns)
        if not b.replayed:
            stamp = np.where(b.received_ns - stamp > OFF_NS, b.received_ns, stamp)
        quality = severity(b.status)
        self.ring.add(b.tag, np.where(quality < BAD, b.value, np.nan), stamp, b.received_ns)
        order = np.argsort(stamp, kind="stable")  # where a tag comes twice, the last assignment counts
        order = order[b.tag[order] < len(self.value)]
        order = order[~(stamp[order] / 1e9 < self.at_s[b.tag[order]])]
        tag = b.tag[order]
        self.value[tag], self.quality[tag], self.at_s[tag] = (
            b.value[order],
            quality[order],
            stamp[order] / 1e9,
        )

    def hold(self, b: TagBatch) -> None:
        """Fill in what was never seen; while the PLC speaks, a value that does not change is a line."""
        tag = b.tag[b.tag < len(self.value)]
        value, quality, at_s = (
            x[b.tag < len(self.value)] for x in (b.value, severity(b.status), b.source_ns / 1e9)
        )
        new = np.isnan(self.at_s[tag])
        self.value[tag[new]], self.quality[tag[new]], self.at_s[tag[new]] = (
            value[new],
            quality[new],
            at_s[new],
        )
        if b.received_ns - self.heard_ns <= SPEAKS_NS:
            still = b.received_ns / 1e9 - self.at_s[tag] > CONSTANT_S
            good = np.where(self.quality[tag] < BAD, self.value[tag], np.nan)[still]
            self.ring.add(tag[still], good, np.full(len(good), b.received_ns), b.received_ns)

    def views(self, now_s: float) -> list[TagView]:
        rows = zip(
            self.catalog.tags, self.value.tolist(), self.quality.tolist(), self.at_s.tolist(), strict=True
        )
        return [
            TagView(
                i.name, i.device, i.unit, i.low, i.high, value,
                "" if math.isnan(at_s) else QUALITIES[int(quality)],
                at_s if math.isnan(at_s) else max(0.0, now_s - at_s), self.catalog.plc, i.writable,
            )
            for i, value, quality, at_s in rows
        ]  # fmt: skip


class TagBoard:
    """The tags of all PLCs; one name stands for one tag."""

    def __init__(self) -> None:
        self._plcs: dict[str, _Plc] = {}
        self._places: dict[str, tuple[str, int]] = {}  # of each tag: PLC, index

    def catalog(self, catalog: TagCatalog) -> None:
        """Batches of this PLC can be read from now on."""
        if catalog.plc in self._plcs and self._plcs[catalog.plc].catalog == catalog:
            return
        self._plcs[catalog.plc] = _Plc(catalog)
        self._places = {
            info.name: (name, i)
            for name, plc in self._plcs.items()
            for i, info in enumerate(plc.catalog.tags)
        }

    def take(self, batch: TagBatch) -> None:
        """Samples; those before the catalogue are left out."""
        if batch.plc in self._plcs and len(batch.tag):
            self._plcs[batch.plc].take(batch)

    def hold(self, snapshot: TagBatch) -> None:
        """Last values of a PLC, of which tags that report on change say nothing for long."""
        if snapshot.plc in self._plcs:
            self._plcs[snapshot.plc].hold(snapshot)

    def plcs(self) -> frozenset[str]:
        return frozenset(self._plcs)

    def devices(self) -> frozenset[str]:
        """All that have tags."""
        return frozenset(info.device for plc in self._plcs.values() for info in plc.catalog.tags)

    def views(self, now_ns: int) -> tuple[TagView, ...]:
        return tuple(view for plc in self._plcs.values() for view in plc.views(now_ns / 1e9))

    def trend(
        self, tags: Iterable[str], end_ns: int, span_s: float, points: int
    ) -> dict[str, tuple[F64, F64, F64]]:
        """See `LiveCell.trend`."""
        found: dict[str, tuple[F64, F64, F64]] = {}
        wanted = list(tags)
        for name, plc in self._plcs.items():
            here = [t for t in wanted if self._places.get(t, ("",))[0] == name]
            rows = np.array([self._places[t][1] for t in here], np.int64)
            times, low, high = plc.ring.read(rows, end_ns, span_s, points)
            found |= {t: (times, low[i], high[i]) for i, t in enumerate(here)}
        return found
