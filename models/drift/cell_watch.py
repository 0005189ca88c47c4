"""The drift watch of a running cell: windows, verdicts and labels in, one event out."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cellwatch.models.drift.decision import LOSS
from cellwatch.models.drift.history import History
from cellwatch.models.drift.label_free import Shift
from cellwatch.models.drift.labels import Labelled, Labels, Receipt
from cellwatch.models.drift.loss_monitor import OPEN
from cellwatch.models.drift.losses import by_window, log_loss
from cellwatch.models.drift.name_watch import NameWatch
from cellwatch.models.drift.reference import Reference
from cellwatch.models.drift.truth import Truth
from cellwatch.models.drift.watch import DriftSettings, DriftWatch
from cellwatch.models.types import (
    F32,
    I64,
    DriftEvent,
    DriftFigure,
    DriftState,
    FeatureWindow,
    FusedWindow,
    Incident,
    Level,
    Screening,
    SettledLabels,
    Verdicts,
)

WAITING = 64  # windows that wait for their verdicts, as many as fusion pairs at a time
ORDERS = 256  # of devices that are remembered: fusion names the gravest first
HISTORY = 8_192  # windows in which the onset of a drift is looked for
NAMED = {Level.L2: "loss_category", Level.L3: "loss_type"}  # monitors of what attacks are called
AT_ONCE = 2_000  # labelled samples learnt with one window; the others wait for the next


@dataclass(slots=True)
class _Window:
    """What has come of a window so far."""

    features: FeatureWindow | None = None
    scores: list[Verdicts] = field(default_factory=list)  # one a replica


class CellWatch:
    """Watches the models of a cell: the fused P(attack), the scores it is made of, and the names of attacks.

    A window is complete with its fused verdict. A device that is blocked there does not count for the
    monitors without labels: an attack that rules and models agree on is no drift. Other models begin anew;
    those that come while labels say DRIFT are to be as good as it was before: what was too much then is too
    much for them, and the samples from before stay what they are compared with.
    """

    def __init__(
        self,
        columns: Sequence[str],
        settings: DriftSettings | None = None,
        *,
        windows: int = 86_400,
        settle_ns: int = 0,
        truth: Truth | None = None,
        reference: Reference | None = None,
    ) -> None:
        """`columns`: names of the features; `windows`: kept for labels; `truth`: of a plant that tells it.

        `reference`: of an earlier watch; models of its version are held to it.
        """
        self.reference = reference or Reference("")  # what is normal; in a drift, what was before it
        self._columns = tuple(columns)
        self._settings = settings or DriftSettings()
        self.labels = Labels(windows, settle_ns)
        self._truth = truth
        self._waiting: OrderedDict[int, _Window] = OrderedDict()
        self._model: tuple[str, tuple[str, ...]] | None = None
        self._settled: list[Labelled] = []  # that nobody asked for yet
        self._names: dict[Level, NameWatch] = {}  # of the models that judge now
        self.watched = self.unpaired = self.alarms = 0  # over all
        self._begin()

    def _begin(self) -> None:
        self.devices: tuple[str, ...] = ()  # of the first window; others come and go
        self._row: dict[str, int] = {}
        self._places: dict[tuple[str, ...], tuple[I64, I64]] = {}  # of orders of names seen before
        self._watch: DriftWatch | None = None
        self._names = {}
        self._history = History()
        self._ceilings: dict[int, tuple[float, float]] = {}
        self._figures: dict[str, DriftFigure] = {}
        self._origin = ("", 0)  # scenario and onset of the last alarm
        it = self._settings
        self._starts: deque[int] = deque(maxlen=it.consecutive * it.block)  # of windows
        self._windows = self._labelled = 0
        self._held_back = self.labels.held_back
        self.labels.begin(0)
        if self._truth is not None:
            self._truth.forget()
        self._news = True

    @property
    def state(self) -> DriftState:
        """What the monitors come to."""
        every = [self._watch, *self._names.values()]
        return max((watch.state for watch in every if watch is not None), default=DriftState.CALM)

    # What is heard -----------------------------------------------------------
    def model(self, version: str, detectors: Sequence[str]) -> None:
        """What is served: version, and the detectors of level 1. Others than before are watched anew."""
        if self._model != (version, tuple(detectors)):
            self._model = version, tuple(detectors)
            bound, history = self._bound(), self._history
            self._begin()
            if 1 in bound:
                self._history = history
            elif self.reference.version == version:
                bound, self._history = self.reference.limits, History(before=self.reference.rates)
            self._ceilings = bound
            self.reference = Reference(version, bound, self._history.rates)

    def _bound(self) -> dict[int, tuple[float, float]]:
        """Limits by level that hold on where labels say DRIFT; the history is cut to what came before it."""
        bound: dict[int, tuple[float, float]] = {}
        watch = self._watch
        if watch is not None and watch.state == DriftState.DRIFT and LOSS in watch.reasons:
            bound[1] = watch.limits
            self._history.cut(self._origin[1])
        drifting = [one for one in self._names.values() if one.state == DriftState.DRIFT]
        return bound | {int(one.level): one.limits for one in drifting}

    def features(self, window: FeatureWindow) -> None:
        """What the models saw."""
        self._of(window.window_id).features = window

    def scores(self, verdicts: Verdicts) -> None:
        """What they said, or a replica's share of it."""
        self._of(verdicts.window_id).scores.append(verdicts)

    def incident(self, incident: Incident) -> None:
        """The plant's own word; without a `truth` it is not heard."""
        if self._truth is not None:
            self._truth.incident(incident)

    def fused(self, fused: FusedWindow) -> None:
        """What came of it: the window is complete."""
        parts = self._waiting.pop(fused.window_id, _Window())
        window = parts.features
        if window is None or self._model is None:
            self.unpaired += 1
            return
        if window.commissioning:  # nobody judges yet
            return
        if self._watch is None:
            self.devices = window.devices
            self._row = {name: i for i, name in enumerate(window.devices)}
            d, ceiling = len(self.devices), self._ceilings.get(1, OPEN)
            self._watch = DriftWatch(self._settings, devices=d, ceiling=ceiling)
            if not len(self._history):
                self._history = History(HISTORY * max(d, 1), self._history.rates)
            self.labels.begin(len(self.devices))
        self._judge(self._watch, window, parts.scores, fused)

    def label(self, windows: I64, devices: Sequence[str], name: str) -> Receipt:
        """What each of the devices was in each of the windows (k,), by id: "benign", "dos/syn-flood"."""
        place = np.array([self._row.get(each, -1) for each in dict.fromkeys(devices)], np.int64)
        every, each = np.repeat(windows, len(place)), np.tile(place, len(windows))
        return self._join(every, each, np.full(len(every), self.labels.number(name)))

    def settled(self, now_ns: int) -> list[SettledLabels]:
        """Labels that have begun to count since this was asked last."""
        found, self._settled = self._settled, []
        return [
            SettledLabels(now_ns, self.devices, tuple(self.labels.names), one.windows, one.devices, one.label)
            for one in found
        ]

    # What is said ------------------------------------------------------------
    def news(self, now_ns: int) -> DriftEvent | None:
        """The present event if it tells more than the last one."""
        if not self._news:
            return None
        self._news = False
        return self.event(now_ns)

    def since(self, start_ns: int) -> int:
        """Windows that were judged since then, of the last `windows`."""
        return len(self.labels.within(start_ns, 2**62)[0])

    def event(self, now_ns: int) -> DriftEvent:
        """How it stands."""
        state, reasons = self.state, list[str]()
        if self._watch is not None and self._watch.state == DriftState.DRIFT:
            reasons += self._watch.reasons
        reasons += [NAMED[one.level] for one in self._names.values() if one.state == DriftState.DRIFT]
        held_back = self.labels.held_back - self._held_back
        if held_back:
            reasons.append(f"{held_back} labels held back: they contradict others")
        scenario, since_ns = self._origin if state == DriftState.DRIFT else ("", 0)
        return DriftEvent(
            now_ns,
            state,
            Level.L1,
            self._model[0] if self._model else "",
            scenario,
            since_ns,
            tuple(self._figures.values()),
            tuple(reasons),
            self._windows,
            self._labelled,
            held_back,
        )

    # Windows -----------------------------------------------------------------
    def _of(self, window_id: int) -> _Window:
        if window_id not in self._waiting and len(self._waiting) == WAITING:
            self._waiting.popitem(last=False)
            self.unpaired += 1
        return self._waiting.setdefault(window_id, _Window())

    def _judge(
        self, watch: DriftWatch, window: FeatureWindow, parts: list[Verdicts], fused: FusedWindow
    ) -> None:
        d = len(self.devices)
        values = np.full((1, d, window.values.shape[1]), np.nan, np.float32)
        mine, rows = self._rows(window.devices)
        values[0, rows] = window.values[mine]
        scores = self._scores(parts)
        probability, objected = np.full(d, np.nan, np.float32), np.zeros(d, np.bool_)
        mine, rows = self._rows(tuple([v.device for v in fused.verdicts]))
        probability[rows] = np.array([v.probability for v in fused.verdicts], np.float32)[mine]
        decision = np.array([v.decision for v in fused.verdicts], np.uint8)[mine]
        objected[rows] = decision != Screening.ALLOW
        blocked = rows[decision == Screening.BLOCK]
        values[0, blocked] = scores[0, blocked] = np.nan
        if objected.any():
            self._name(window.window_id, np.flatnonzero(objected), parts)
        before = self.state
        self.watched += 1
        self._windows += 1
        self._starts.append(window.start_ns)
        if watch.unlabelled(values, scores):
            self._alarm(before, "", self._starts[0])
        for block in watch.blocks:
            self._figures |= {shift.monitor: self._figure(shift) for shift in block.shifts}
        self._news |= bool(watch.blocks)
        self.labels.see(window.window_id, window.start_ns, window.end_ns, probability, objected)
        if self._truth is not None:
            self._truth.see(window.window_id, window.start_ns, window.end_ns)
            for window_id, names, certain in self._truth.due(self.devices):
                at = np.flatnonzero(certain)
                label = np.array([self.labels.number(name) for name in names[at]], np.int64)
                self._join(np.full(len(at), window_id), at, label)
        if self.labels.due:
            self._learn(watch)
        self._news |= self.state != before

    def _alarm(self, before: DriftState, scenario: str, since_ns: int) -> None:
        """One alarm for one drift, whatever else comes to the same."""
        if before != DriftState.DRIFT:
            self.alarms += 1
            self._origin = scenario, since_ns

    def _name(self, window_id: int, rows: I64, parts: list[Verdicts]) -> None:
        """Keep what the models call the devices (k,) that were objected to, until labels come."""
        for level in NAMED:
            said = [(v, one) for v in parts for one in v.levels if one.level == level]
            if not said:
                continue
            first = said[0][1]
            posteriors = np.full((len(self.devices), *first.probabilities.shape[1:]), np.nan, np.float32)
            for verdicts, one in said:
                if (one.detectors, one.classes) == (first.detectors, first.classes):
                    mine, places = self._rows(verdicts.devices)
                    posteriors[places] = one.probabilities[mine]
            if level not in self._names:
                ceiling = self._ceilings.get(int(level), OPEN)
                self._names[level] = NameWatch(
                    level, first.classes, len(self.devices), self._settings, ceiling=ceiling
                )
            self._names[level].see(window_id, rows, posteriors[rows])

    def _scores(self, parts: list[Verdicts]) -> F32:
        """P(attack) (1, d, m) of the models; one column of NaN if there are none."""
        detectors = self._model[1] if self._model else ()
        scores = np.full((1, len(self.devices), max(len(detectors), 1)), np.nan, np.float32)
        for verdicts in parts:
            mine, rows = self._rows(verdicts.devices)
            for level in verdicts.levels:
                if level.level == Level.L1:
                    known = [k for k, name in enumerate(level.detectors) if name in detectors]
                    columns = [detectors.index(level.detectors[k]) for k in known]
                    attack = 1 - level.probabilities[:, :, 0]
                    scores[0, rows[:, None], columns] = attack[mine[:, None], known]
        return scores

    def _rows(self, names: tuple[str, ...]) -> tuple[I64, I64]:
        """Places among `names` of the devices that are watched, and their rows here."""
        found = self._places.get(names)
        if found is None:
            if len(self._places) >= ORDERS:
                self._places.clear()
            rows = np.array([self._row.get(name, -1) for name in names], np.int64)
            found = self._places[names] = np.flatnonzero(rows >= 0), rows[rows >= 0]
        return found

    def _figure(self, shift: Shift) -> DriftFigure:
        names = {"features": self._columns, "scores": self._model[1] if self._model else ()}
        known = names.get(shift.monitor, ())
        column = known[shift.column] if 0 <= shift.column < len(known) else ""
        place = f"{self.devices[shift.device]} {column}".rstrip()
        return DriftFigure(shift.monitor, shift.value, shift.limit, place)

    # Labels ------------------------------------------------------------------
    def _join(self, windows: I64, devices: I64, label: I64) -> Receipt:
        before = self.labels.held_back
        receipt = self.labels.join(windows, devices, label)
        self._news |= self.labels.held_back != before
        return receipt

    def _learn(self, watch: DriftWatch) -> None:
        """Give the monitors the labels that nobody has contradicted."""
        found = self.labels.settled(AT_ONCE)
        loss, wrong = log_loss(found.probability, found.attack), found.objected != found.attack
        if watch.state != DriftState.DRIFT:  # what was before it must not be crowded out
            self._history.add(found.end_ns, loss, wrong, found.attack)
        self._labelled += len(loss)
        if len(loss):
            self._settled.append(found)
        mean_loss, mean_wrong = by_window(found.windows, loss), by_window(found.windows, wrong)
        before, done = self.state, 0
        while done < len(mean_loss):
            taken = watch.labelled(mean_loss[done:], mean_wrong[done:])
            for one in watch.windows:
                self._figures["loss"] = DriftFigure("loss", one.loss, one.limit)
                self._figures["errors"] = DriftFigure("errors", one.errors, one.errors_limit)
            self._news |= bool(watch.windows)
            if taken is None:
                break
            done += taken
            since_ns, kind = self._history.origin()
            self._alarm(before, kind.scenario, since_ns)
            before = self.state
        if watch.windows and self._model is not None and watch.state == DriftState.CALM:
            limits = {1: watch.limits} | {int(one.level): one.limits for one in self._names.values()}
            self.reference = Reference(self._model[0], limits, self._history.rates)
        for level, names in self._names.items():
            before = self.state
            if names.labelled(found, self.labels.names):
                self._alarm(before, "", names.onset_ns)
            for one in names.windows:
                self._figures[NAMED[level]] = DriftFigure(NAMED[level], one.loss, one.limit)
            self._news |= bool(names.windows)
