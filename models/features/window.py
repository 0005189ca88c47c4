"""Tags and traffic become one synchronised window per period: a row for each device.

The same code runs live (one window at a time) and over recordings (thousands at once): `step` and
`windows_from_recording` end in the same vectorised close, so that offline equals online.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from cellwatch.models.features.baseline import TagBaseline
from cellwatch.models.features.columns import COUNT_COLUMNS, TRAFFIC_COLUMNS
from cellwatch.models.features.conversations import moved
from cellwatch.models.features.schema import SENSOR_COLUMNS, Schema
from cellwatch.models.features.tags import (
    AVG,
    GOOD_RATIO,
    MAX,
    MIN,
    SAMPLES,
    STALENESS,
    TagState,
    newest,
    tag_windows,
)
from cellwatch.models.types import (
    F32,
    F64,
    I64,
    U32,
    Bool,
    Conversations,
    FeatureWindow,
    TagBatch,
    TagCatalog,
    TagInfo,
    TrafficBatch,
)

MAX_BURST = 5  # windows that one step emits; a clock that jumps ahead must not flood the detectors
MAX_UNKNOWN = 64  # rows of unknown devices in a window
CHUNK = 1024  # windows closed at once over recordings
PROVISIONAL = 0.6  # share of the commissioning after which z-scores from a first baseline are shown
_NEVER = -(1 << 60)


@dataclass(frozen=True, slots=True)
class _Tags:
    """The tags of all PLCs in one numbering; m tags, d devices."""

    names: tuple[str, ...]
    devices: tuple[str, ...]  # all known devices, d
    owner: I64  # (m,) index into devices
    low: F64
    high: F64
    mode_tag: I64  # (d,) index of the device's mode tag, -1 = none
    command: Bool  # (m,) tags with role "command"
    place: dict[str, I64]  # PLC -> catalogue index to tag index
    keys: tuple[tuple[str, str], ...]  # (PLC, name) of each tag


class FeatureAssembler:
    """Closes windows by event time with a watermark and fills them.

    `window_s` > 0; `lateness_s` is how long a window waits for late input; `devices` have a row in every
    window, those of catalogues are added. `baseline` judges the tags; with `commissioning_s` > 0 one is
    learnt from the first windows, which are flagged. A device whose operating mode changed within
    `settle_s` is held. Clocks that differ by more than `skew_s` from ours are shifted to ours.

    `counters` counts what was not taken as it came; `status` says in words where the baseline stands.
    """

    def __init__(
        self,
        schema: Schema,
        window_s: float,
        lateness_s: float = 0.5,
        devices: Sequence[str] = (),
        baseline: TagBaseline | None = None,
        commissioning_s: float = 0.0,
        *,
        settle_s: float = 10.0,
        skew_s: float = 5.0,
        max_samples: int = 2_000_000,
    ) -> None:
        known = set(TRAFFIC_COLUMNS + SENSOR_COLUMNS)
        foreign = [name for name in schema.names if name not in known]
        if foreign:
            raise ValueError(f"schema {schema.schema_id}: no feature is called {foreign[0]!r}")
        if not window_s > 0:
            raise ValueError(f"window of {window_s} s: must be longer than 0")
        self.schema = schema
        self.window_ns = round(window_s * 1e9)
        self.lateness_ns = round(lateness_s * 1e9)
        self.settle_ns = round(settle_s * 1e9)
        self.skew_ns = round(skew_s * 1e9)
        self.max_samples = max_samples
        self.counters: Counter[str] = Counter(
            dict.fromkeys(
                ("late_samples", "late_traffic", "skipped_windows", "clock_steps", "shifted_batches",
                 "overflow", "unknown_tags", "unlisted_devices"), 0,
            )
        )  # fmt: skip
        self.baseline = baseline
        self._given = tuple(devices)
        self._catalogs: dict[str, TagCatalog] = {}
        self._lay_out()
        self._state = TagState.empty(0)
        self._buffer: list[tuple[I64, F64, U32, I64]] = []
        self._buffered = 0
        self._traffic: dict[int, TrafficBatch] = {}
        self._next: int | None = None  # window to close next
        self._now = 0
        self._newest: dict[str, int] = {}  # PLC -> newest source time
        self._newest_traffic = 0
        self._mode: I64 = np.zeros(len(self._tags.devices), dtype=np.int64)
        self._mode_known: Bool = np.zeros(len(self._tags.devices), dtype=bool)
        self._changed: I64 = np.full(len(self._tags.devices), _NEVER, dtype=np.int64)
        self._commissioning = round(commissioning_s / window_s) if baseline is None else 0  # windows
        self._learnt: list[tuple[F64, I64, Bool]] = []
        self._learnt_windows = 0
        self._provisional: TagBaseline | None = None
        self._why = ""

    # ------------------------------------------------------------------ what it knows
    @property
    def devices(self) -> tuple[str, ...]:
        """Devices that have a row in every window."""
        return self._tags.devices

    @property
    def commissioning(self) -> bool:
        """Whether the benign learning period still runs."""
        return self._learnt_windows < self._commissioning

    @property
    def status(self) -> str:
        """One line: where the baseline stands."""
        if self.commissioning:
            return f"commissioning: {self._learnt_windows} of {self._commissioning} windows"
        if self._why:
            return self._why
        if self.baseline is None:
            return "no tag baseline: z-scores are missing"
        return f"baseline of {len(self.baseline.modes)} device modes"

    # ------------------------------------------------------------------ input
    def catalog(self, catalog: TagCatalog) -> None:
        """Take a PLC's catalogue, new or again; what is known of tags that stay is kept."""
        if self._catalogs.get(catalog.plc) == catalog:
            return
        before = self._tags
        self._catalogs[catalog.plc] = catalog
        self._lay_out()
        now = self._tags
        new = {key: i for i, key in enumerate(now.keys)}
        moved = np.array([new.get(key, -1) for key in before.keys], dtype=np.int64)
        self._buffer = [(moved[tag], value, status, at) for tag, value, status, at in self._buffer]
        kept = moved >= 0
        state = TagState.empty(len(now.names))
        for old_array, new_array in (
            (self._state.value, state.value),
            (self._state.time_ns, state.time_ns),
            (self._state.good, state.good),
        ):
            new_array[moved[kept]] = old_array[kept]
        self._state = state
        row = {name: i for i, name in enumerate(before.devices)}
        of = np.array([row.get(name, -1) for name in now.devices], dtype=np.int64)
        self._mode = np.where(of >= 0, np.append(self._mode, 0)[of], 0)
        self._mode_known = np.where(of >= 0, np.append(self._mode_known, False)[of], False)
        self._changed = np.where(of >= 0, np.append(self._changed, _NEVER)[of], _NEVER)
        if self._learnt and (moved.tolist() != list(range(len(now.names))) or before.devices != now.devices):
            # What was learnt so far lacks the new tags: begin again.
            self._learnt, self._learnt_windows, self._provisional = [], 0, None

    def tags(self, batch: TagBatch) -> None:
        """Stage samples; a batch of a PLC without a catalogue is counted as unknown."""
        n = len(batch.tag)
        if not n:
            return
        place = self._tags.place.get(batch.plc)
        if place is None or not len(place):
            self.counters["unknown_tags"] += n
            return
        local = batch.tag.astype(np.int64)
        inside = local < len(place)
        tag = place[np.minimum(local, len(place) - 1)]
        if not inside.all():
            self.counters["unknown_tags"] += int(n - inside.sum())
        time_ns = self._aligned(batch)
        value, status = np.asarray(batch.value, dtype=np.float64), np.asarray(batch.status, dtype=np.uint32)
        if not inside.all():
            tag, value, status, time_ns = tag[inside], value[inside], status[inside], time_ns[inside]
        if not len(tag):
            return
        if not batch.replayed:  # what was recovered from the past says nothing of the present
            self._newest[batch.plc] = max(self._newest.get(batch.plc, 0), int(time_ns.max()))
        if self._next is not None:
            opened = (self._next - 1) * self.window_ns
            old = time_ns < opened
            if old.any():
                self._hold_old(tag[old], value[old], status[old], time_ns[old], first=batch.sequence <= 1)
                tag, value, status, time_ns = tag[~old], value[~old], status[~old], time_ns[~old]
                if not len(tag):
                    return
        self._buffer.append((tag, value, status, time_ns))
        self._buffered += len(tag)
        while self._buffered > self.max_samples and len(self._buffer) > 1:
            lost = len(self._buffer.pop(0)[0])
            self._buffered -= lost
            self.counters["overflow"] += lost

    def hold(self, batch: TagBatch) -> None:
        """Take a snapshot of last values: it only fills in tags that were never seen.

        Tags report on change, so who comes late would not know a constant tag, such as a mode, otherwise.
        """
        place = self._tags.place.get(batch.plc)
        if place is None or not len(batch.tag) or int(batch.tag.max()) >= len(place):
            return
        tag = place[batch.tag.astype(np.int64)]
        new = np.isnan(self._state.value[tag]) & ~np.isin(tag, self._samples()[0])
        self._state = newest(self._state, tag[new], batch.value[new], batch.status[new], batch.source_ns[new])

    def traffic(self, batch: TrafficBatch) -> None:
        """Stage the traffic of one window."""
        self._newest_traffic = max(self._newest_traffic, batch.window_id)
        if self._next is not None and batch.window_id < self._next:
            self.counters["late_traffic"] += 1
            return
        self._traffic[batch.window_id] = batch
        while len(self._traffic) > 4096:
            del self._traffic[min(self._traffic)]
            self.counters["overflow"] += 1

    # ------------------------------------------------------------------ output
    def step(self, now_ns: int) -> list[FeatureWindow]:
        """Windows that are complete at `now_ns`, oldest first, at most `MAX_BURST`."""
        back = self._now - now_ns
        self._now = now_ns
        if self._next is None or back > max(self.lateness_ns, self.window_ns):
            # The start, or a clock set back: the window that is running is seen in part only, begin with
            # the next.
            if self._next is not None:
                self.counters["clock_steps"] += 1
                self._traffic.clear()
                self._newest.clear()
                self._newest_traffic = 0
            self._begin(now_ns // self.window_ns + 2)
            return []
        assert self._next is not None
        due = (now_ns - self.lateness_ns) // self.window_ns
        # A window whose traffic has come and whose PLCs have all sent later tags lacks nothing: waiting on
        # would only cost latency. A sample that still comes for it is counted as late, like any other.
        # Never ahead of the clock, so that a PLC in the future cannot pull windows.
        whole = now_ns // self.window_ns
        sources = [at // self.window_ns for at in self._newest.values()]
        if len(sources) == len(self._catalogs) and self._newest_traffic:
            due = max(due, min(whole, self._newest_traffic, *sources))
        if due < self._next:
            return []
        last = due
        if due - self._next >= MAX_BURST:
            # The clock jumped ahead, or we slept: the first windows hold what is buffered, the rest is
            # skipped.
            last = self._next + MAX_BURST - 1
        windows = self._close(last - self._next + 1, now_ns)
        if due > last:
            self.counters["skipped_windows"] += due - last
            self.counters["clock_steps"] += 1
            self._begin(due + 1)
        return windows

    def _begin(self, window_id: int) -> None:
        """Make `window_id` the next; older samples only set what the tags hold."""
        self._next = window_id
        opened = (window_id - 1) * self.window_ns
        self._traffic = {key: batch for key, batch in self._traffic.items() if key >= window_id}
        tag, value, status, time_ns = self._samples()
        old = time_ns < opened
        self._state = newest(self._state, tag[old], value[old], status[old], time_ns[old])
        self._put_back(tag[~old], value[~old], status[~old], time_ns[~old])

    # ------------------------------------------------------------------ inside
    def _lay_out(self) -> None:
        names: list[str] = []
        keys: list[tuple[str, str]] = []
        infos: list[TagInfo] = []
        place: dict[str, I64] = {}
        taken = Counter(tag.name for catalog in self._catalogs.values() for tag in catalog.tags)
        devices = dict.fromkeys(self._given)
        for plc, catalog in self._catalogs.items():
            place[plc] = np.arange(len(names), len(names) + len(catalog.tags), dtype=np.int64)
            for tag in catalog.tags:
                names.append(tag.name if taken[tag.name] == 1 else f"{plc}:{tag.name}")
                keys.append((plc, tag.name))
                infos.append(tag)
                devices.setdefault(tag.device)
        index = {name: i for i, name in enumerate(devices)}
        mode = np.full(len(index), -1, dtype=np.int64)
        for i, tag in enumerate(infos):
            if tag.role == "mode":
                mode[index[tag.device]] = i
        self._tags = _Tags(
            tuple(names),
            tuple(index),
            np.array([index[tag.device] for tag in infos], dtype=np.int64),
            np.array([tag.low for tag in infos], dtype=np.float64),
            np.array([tag.high for tag in infos], dtype=np.float64),
            mode,
            np.array([tag.role == "command" for tag in infos], dtype=bool),
            place,
            tuple(keys),
        )

    def _aligned(self, batch: TagBatch) -> I64:
        """Source times on our clock.

        A stamp ahead of the arrival by more than `skew_s`, or a whole live batch behind it, shows a clock
        that is off: the batch is shifted so that its newest sample came now. The first batch of a link is
        exempt: it reports values that may have changed long ago; so is a replayed one.
        """
        source = np.asarray(batch.source_ns, dtype=np.int64)
        ahead = int(source.max()) - batch.received_ns
        if ahead > self.skew_ns or (-ahead > self.skew_ns and batch.sequence > 1 and not batch.replayed):
            self.counters["shifted_batches"] += 1
            return source - ahead
        return source

    def _hold_old(self, tag: I64, value: F64, status: U32, time_ns: I64, *, first: bool) -> None:
        """Take samples of closed windows: they count as late, but the value is still the newest known."""
        if not first:
            self.counters["late_samples"] += len(tag)
        order = np.argsort(time_ns, kind="stable")
        self._state = newest(self._state, tag[order], value[order], status[order], time_ns[order])

    def _samples(self) -> tuple[I64, F64, U32, I64]:
        if not self._buffer:
            empty = np.zeros(0, dtype=np.int64)
            return empty, np.zeros(0), np.zeros(0, dtype=np.uint32), empty
        if len(self._buffer) > 1:
            tag, value, status, at = (np.concatenate(part) for part in zip(*self._buffer, strict=True))
        else:
            tag, value, status, at = self._buffer[0]
        kept = tag >= 0  # of tags that left the catalogue
        return (tag, value, status, at) if kept.all() else (tag[kept], value[kept], status[kept], at[kept])

    def _put_back(self, tag: I64, value: F64, status: U32, time_ns: I64) -> None:
        self._buffer = [(tag, value, status, time_ns)] if len(tag) else []
        self._buffered = len(tag)

    def _close(self, count: int, now_ns: int) -> list[FeatureWindow]:
        """Close the next `count` windows."""
        windows: list[FeatureWindow] = []
        while count > 0:
            # The baseline changes at these places only: do not run over one.
            borders = [round(PROVISIONAL * self._commissioning), self._commissioning]
            left = min([b - self._learnt_windows for b in borders if b > self._learnt_windows], default=count)
            step = min(count, left, CHUNK)
            windows += self._close_some(step, now_ns)
            count -= step
        return windows

    def _close_some(self, count: int, now_ns: int) -> list[FeatureWindow]:
        assert self._next is not None
        first, t = self._next, self._tags
        self._next += count
        end_ns = (first + count - 1) * self.window_ns
        tag, value, status, time_ns = self._samples()
        past = time_ns < end_ns
        self._put_back(tag[~past], value[~past], status[~past], time_ns[~past])
        before = self._state.value
        statistics, self._state = tag_windows(
            tag[past],
            value[past],
            status[past],
            time_ns[past],
            first_id=first,
            windows=count,
            window_ns=self.window_ns,
            state=self._state,
        )
        modes, settled = self._modes(statistics, first)
        # A tag that came to be known in the midst of this window shows only a part of it.
        came = np.isnan(before) & np.isfinite(statistics[0, :, AVG])
        settled[0, t.owner[came]] = False
        has_tags = np.isin(np.arange(len(t.devices)), t.owner)
        learning = self.commissioning
        baseline = self.baseline or self._provisional
        judged = np.zeros_like(settled)
        if baseline is not None:
            names = tuple(t.devices[i] for i in t.owner)
            baseline = baseline.aligned(t.names, names)
            judged = settled & baseline.known(t.devices, modes)
            scores = baseline.score(statistics, modes, judged, devices=t.devices)
        else:
            scores = np.full((*statistics.shape[:2], 4), np.nan)
        # What the cell itself sets in response is no evidence about the process.
        scores[:, t.command] = np.nan
        tags32 = np.concatenate([statistics, scores], axis=2).astype(np.float32)
        tags32[:, t.command] = np.nan
        sensors = self._sensors(statistics, scores)
        held = has_tags & ~judged
        windows = []
        owner = t.owner.astype(np.uint32)
        for i in range(count):
            devices, values, conversations = self._rows(first + i, sensors[i])
            windows.append(
                FeatureWindow(
                    first + i,
                    (first + i - 1) * self.window_ns,
                    (first + i) * self.window_ns,
                    now_ns,
                    self.schema.schema_id,
                    devices,
                    values,
                    t.names,
                    owner,
                    tags32[i],
                    commissioning=learning,
                    held=tuple(t.devices[d] for d in np.flatnonzero(held[i])),
                    modes=(*modes[i].tolist(), *[0] * (len(devices) - len(t.devices))),
                    conversations=conversations,
                )
            )
        if learning:
            self._learn(statistics, modes, settled)
        return windows

    def _modes(self, statistics: F64, first: int) -> tuple[I64, Bool]:
        """Mode of each device (w, d), and whether it is settled; a device without mode tag is in mode 0."""
        w = len(statistics)
        d = len(self._tags.devices)
        modes, settled = np.zeros((w, d), dtype=np.int64), np.ones((w, d), dtype=bool)
        where = np.flatnonzero(self._tags.mode_tag >= 0)
        if not len(where):
            return modes, settled
        tag = self._tags.mode_tag[where]
        low, high = statistics[:, tag, MIN], statistics[:, tag, MAX]
        ok = np.isfinite(high) & (statistics[:, tag, GOOD_RATIO] > 0)
        # Within a window the mode is known when it did not change.
        current = np.where(ok, np.rint(np.clip(high, -(2**31), 2**31)), 0).astype(np.int64)
        previous = np.concatenate([self._mode[None, where], current[:-1]])
        seen = np.concatenate([self._mode_known[None, where], np.ones((w - 1, len(where)), dtype=bool)])
        change = (low != high) & np.isfinite(high)
        change |= seen & (current != previous) & ok
        end_ns = (first + np.arange(w, dtype=np.int64)) * self.window_ns
        changed = np.maximum.accumulate(
            np.concatenate([self._changed[None, where], np.where(change, end_ns[:, None], _NEVER)]), axis=0
        )[1:]
        modes[:, where] = current
        settled[:, where] = ok & (
            end_ns[:, None] - changed >= np.where(changed == _NEVER, 0, max(self.settle_ns, 1))
        )
        self._mode[where], self._changed[where] = current[-1], changed[-1]
        self._mode_known[where] |= ok[-1]
        return modes, settled

    def _sensors(self, statistics: F64, scores: F64) -> F64:
        """SENSOR_COLUMNS (w, d, 12) of each device over its tags; NaN for devices without tags."""
        t = self._tags
        w, d = len(statistics), len(t.devices)
        out = np.full((w, d, len(SENSOR_COLUMNS)), np.nan)
        out[..., -1] = np.bincount(t.owner, minlength=d)
        if not len(t.owner):
            return out
        order = np.argsort(t.owner, kind="stable")
        owners, starts = np.unique(t.owner[order], return_index=True)

        def over(how: np.ufunc, values: F64) -> F64:
            return np.asarray(how.reduceat(values[:, order], starts, axis=1))

        def mean(values: F64) -> F64:
            ok = np.isfinite(values)
            with np.errstate(invalid="ignore", divide="ignore"):
                return over(np.add, np.where(ok, values, 0.0)) / over(np.add, ok.astype(np.float64))

        with np.errstate(invalid="ignore"):
            samples = statistics[..., SAMPLES]
            bad = 1.0 - statistics[..., GOOD_RATIO]
            outside = (statistics[..., MIN] < t.low) | (statistics[..., MAX] > t.high)
            size = np.abs(scores)
        columns = (
            over(np.add, samples),
            mean(bad),
            over(np.fmax, statistics[..., STALENESS]),
            over(np.add, outside.astype(np.float64)),
            over(np.fmax, size[..., 0]),
            mean(size[..., 0]),
            over(np.fmax, size[..., 1]),
            mean(size[..., 1]),
            over(np.fmax, size[..., 2]),
            over(np.fmin, scores[..., 2]),
            over(np.fmax, size[..., 3]),
        )
        for i, column in enumerate(columns):
            out[:, owners, i] = column
        return out

    def _rows(self, window_id: int, sensors: F64) -> tuple[tuple[str, ...], F32, Conversations | None]:
        """Devices, their rows of the schema, and what they said: known devices always, others when seen."""
        known = self._tags.devices
        names, index = known, self._device_index
        batch = self._traffic.pop(window_id, None)
        at: I64 | None = None
        if batch is not None:
            strangers = [name for name in batch.devices if name not in index]
            if strangers:
                if len(strangers) > MAX_UNKNOWN:
                    self.counters["unlisted_devices"] += len(strangers) - MAX_UNKNOWN
                    strangers = strangers[:MAX_UNKNOWN]
                index = index | {name: len(known) + i for i, name in enumerate(strangers)}
                names = known + tuple(strangers)
            at = np.array([index.get(name, -1) for name in batch.devices], dtype=np.int64)
        values = np.full((len(names), len(TRAFFIC_COLUMNS) + len(SENSOR_COLUMNS)), np.nan, dtype=np.float32)
        if batch is not None and at is not None:
            values[:, _COUNTS] = 0.0  # the tap watched and saw nothing
            taken = at >= 0
            if batch.columns == TRAFFIC_COLUMNS:
                values[at[taken], : len(TRAFFIC_COLUMNS)] = batch.values[taken]
            else:
                for j, column in enumerate(batch.columns):
                    if column in _COLUMN:
                        values[at[taken], _COLUMN[column]] = batch.values[taken, j]
        values[: len(known), len(TRAFFIC_COLUMNS) :] = sensors
        values[len(known) :, -1] = 0.0
        said = None
        if batch is not None and at is not None and batch.conversations is not None:
            said = moved(batch.conversations, at)
        pick = self._pick
        return names, values if pick is None else values[:, pick], said

    @property
    def _device_index(self) -> dict[str, int]:
        if getattr(self, "_indexed", None) is not self._tags:
            self._indexed = self._tags
            self._index = {name: i for i, name in enumerate(self._tags.devices)}
        return self._index

    @property
    def _pick(self) -> I64 | None:
        if not hasattr(self, "_picked"):
            full = TRAFFIC_COLUMNS + SENSOR_COLUMNS
            same = self.schema.names == full
            self._picked = (
                None if same else np.array([full.index(n) for n in self.schema.names], dtype=np.int64)
            )
        return self._picked

    def _learn(self, statistics: F64, modes: I64, settled: Bool) -> None:
        self._learnt.append((statistics, modes, settled))
        self._learnt_windows += len(statistics)
        provisional = self._learnt_windows == round(PROVISIONAL * self._commissioning)
        if not provisional and self.commissioning:
            return
        values, all_modes, ok = (np.concatenate(part) for part in zip(*self._learnt, strict=True))
        t = self._tags
        baseline = TagBaseline.fit(
            values,
            all_modes,
            ok,
            tags=t.names,
            tag_device=tuple(t.devices[i] for i in t.owner),
            devices=t.devices,
            span=t.high - t.low,
            window_s=self.window_ns / 1e9,
        )
        if self.commissioning:
            # Windows that the first baseline has not seen show honest z-scores to those who learn from them.
            self._provisional = baseline
            return
        self._learnt, self._provisional = [], None
        self.baseline = baseline
        missing = [
            n for n in dict.fromkeys(baseline.tag_device) if n not in {device for device, _ in baseline.modes}
        ]
        self._why = f"commissioned, but too few settled windows for {', '.join(missing)}" if missing else ""


_COUNTS = [i for i, name in enumerate(TRAFFIC_COLUMNS) if name in COUNT_COLUMNS]
_COLUMN = {name: i for i, name in enumerate(TRAFFIC_COLUMNS)}


def windows_from_recording(
    assembler: FeatureAssembler,
    catalogs: Iterable[TagCatalog] = (),
    tags: Iterable[TagBatch] = (),
    traffic: Iterable[TrafficBatch] = (),
) -> list[FeatureWindow]:
    """Every whole window of a recording that is there from start to end, in event time.

    The first window is dropped, as live, because it is seen in part only; so is the last unless traffic
    closed it. `closed_ns` is the end of the window. Nothing is late in a recording.
    """
    for catalog in catalogs:
        assembler.catalog(catalog)
    batches = list(tags)
    assembler.max_samples = max(assembler.max_samples, sum(len(batch.tag) for batch in batches) + 1)
    flows = sorted(traffic, key=lambda batch: batch.window_id)
    newest_tag = oldest = None
    for batch in batches:
        assembler.tags(batch)
    samples = assembler._samples()[3]  # noqa: SLF001
    if len(samples):
        newest_tag = int(samples.max())
        # The first values that a server reports may have changed long before the recording began.
        oldest = max(min(batch.received_ns for batch in batches), int(samples.min()))
    if flows:
        oldest = flows[0].start_ns if oldest is None else min(oldest, flows[0].start_ns)
    if oldest is None:
        return []
    w = assembler.window_ns
    last = max(newest_tag // w if newest_tag is not None else 0, flows[-1].window_id if flows else 0)
    first = oldest // w + 2
    assembler._begin(first)  # noqa: SLF001
    assembler._traffic = {b.window_id: b for b in flows if b.window_id >= first}  # noqa: SLF001
    windows = assembler._close(last - first + 1, 0) if last >= first else []  # noqa: SLF001
    return [replace(window, closed_ns=window.end_ns) for window in windows]
