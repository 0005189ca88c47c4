"""Making a candidate version of the models from what was labelled since a drift began, and judging it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cellwatch.models.datasets.dataset import DataSet, Part, concat
from cellwatch.models.drift.benign_part import benign_part
from cellwatch.models.drift.finds import found
from cellwatch.models.drift.held_out_gate import A, B, GateSettings, HeldOut, held_out, judge
from cellwatch.models.drift.live_rows import LiveRows, live_rows, parted
from cellwatch.models.fusion.fit import FusionFit, Hold
from cellwatch.models.registry.bundle import Bundle, read
from cellwatch.models.registry.keys import Keys
from cellwatch.models.registry.manifest import Manifest
from cellwatch.models.registry.model_set import graphs_of
from cellwatch.models.registry.registry import Registry
from cellwatch.models.rules.profile import Profile
from cellwatch.models.rules.profile_builder import ProfileBuilder
from cellwatch.models.rules.rulesense import RuleSettings
from cellwatch.models.types import F64, I64, FeatureWindow
from cellwatch.nodes.bundling import BUDGETS, bundle, trained_of
from cellwatch.nodes.judging import Judge
from cellwatch.nodes.live_samples import live_samples
from cellwatch.nodes.rehearsal import answer_times, rehearse
from cellwatch.nodes.replay_store import ADAPTATION, LEARNT, learnt_since, replay_of
from cellwatch.nodes.retrain_order import Order, RefusedError
from cellwatch.nodes.trainer import Trained, train

LEARN = 0.7  # share of the live rows, by time; the rest is held out
FIT = 5 / 7  # of these, where models are trained: the rest calibrates them
WARM_UP = 30  # windows before the held-out ones, so that sequences and rules know what came before
TIMED = 100  # windows by which the time to answer is measured
RECALIBRATED, RETRAINED = "recalibrated", "retrained"


class Say(Protocol):
    """Hears how far it has come; `steps` 0: nobody knows."""

    def __call__(
        self, stage: str, step: int = 0, steps: int = 0, loss: float | None = None, about: str = ""
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class _Live:
    """What the cell has seen since the drift began."""

    windows: Sequence[FeatureWindow]  # each once, in the order of time
    learn: LiveRows
    held: LiveRows
    devices: int

    def hours(self, rows: LiveRows) -> float:
        """Running time of the cell behind the benign rows, h."""
        return int((~rows.attack).sum()) / self.devices * rows.window_ns / 3.6e12


@dataclass(frozen=True, slots=True)
class Made:
    """A candidate, as yet in memory."""

    how: str  # RECALIBRATED | RETRAINED
    bundle: Bundle
    live: _Live  # what it was made of
    before: HeldOut  # figures of the parent
    after: HeldOut
    why: list[str]  # that speaks against it


class CandidateMaker:
    """One candidate from one order. RefusedError, or ValueError and its like for what cannot be used."""

    def __init__(self, order: Order, say: Say, settings: GateSettings | None = None) -> None:
        self.order, self.say = order, say
        self.settings = settings or GateSettings()
        self.rules = RuleSettings(order.suspicious_points, order.block_points)
        self.registry = Registry(Path(order.registry), Keys(Path(order.keys)))
        self.parent = self._parent()
        fit = self.parent.files.get("fusion.json")
        self.per_hour = FusionFit.from_json(fit.decode()).budget.per_hour if fit else BUDGETS[0]

    def make(self) -> Made:
        """Make it and judge it. Of two the one that passes, or with fewer errors.

        In scenario A the models are trained too, where new profiles and a new calibration are not enough.
        """
        order = self.order
        self.say("reading")
        live = self._live()
        self.say("replay")
        base = replay_of(
            self.parent, Path(order.cache), order.replay, order.label,
            told=lambda done, of: self.say("replay", done, of, about="simulating"),
        )  # fmt: skip
        past = learnt_since(self.parent, self.registry.folder, base)
        profile = self._profile(live)
        before = self._figures(self.parent, live, "parent")
        made = []
        if order.scenario == A:
            made.append(self._recalibrated(live, base, past, profile, before))
        if not made or made[0].why or made[0].after.fpr > self.settings.cured * before.fpr:
            made.append(self._retrained(live, base, past, profile, before))
        return min(made, key=lambda one: (len(one.why) > 0, one.after.errors))

    def keep(self, made: Made) -> dict[str, Any]:
        """Put it into the registry; what there is to say of it. A parent that is in none comes first."""
        self.say("keeping")
        order, learn = self.order, made.live.learn
        adaptation = learn.adaptation().save(self.registry.folder / ADAPTATION).stem
        lineage = made.bundle.manifest.lineage | {
            "parents": [self.parent.version],
            "scenario": order.scenario,
            "made": made.how,
            "since_ns": order.since_ns,
            "until_ns": order.until_ns,
            "adaptation": adaptation,
            LEARNT: [
                *self.parent.manifest.lineage.get(LEARNT, []),
                {"set": adaptation, "names": list(learn.names)},
            ],
            "learnt": _counts(learn),
            "held_out": {
                "samples": _counts(made.live.held),
                "parent": _lasting(made.before),
                "candidate": _lasting(made.after),
                "against": made.why,
            },
        }
        if not self.registry.current:
            self.registry.promote(self.registry.add(self.parent.manifest, self.parent.files))
        version = self.registry.add(replace(made.bundle.manifest, lineage=lineage), made.bundle.files)
        if made.why:  # one of those is enough
            self.registry.drop(_failed, but=version)
        return {
            "version": version,
            "parent": self.parent.version,
            "scenario": order.scenario,
            "made": made.how,
            "passed": not made.why,
            "why": made.why,
            "adaptation": adaptation,
            "before": made.before.to_dict(),
            "after": made.after.to_dict(),
        }

    # What there is --------------------------------------------------------------
    def _parent(self) -> Bundle:
        if self.registry.current:
            return self.registry.load()
        if not self.order.fallback:
            raise RefusedError(
                f"{self.registry.folder}: serves no version, so there is nothing to make another of"
            )
        return read(Path(self.order.fallback), self.registry.keys)

    def _live(self) -> _Live:
        m = self.parent.manifest
        windows, labels = live_samples(self.order)
        for window in windows[:1]:
            length_s = (window.end_ns - window.start_ns) / 1e9
            if (window.schema_id, length_s) != (m.schema_id, m.window_s):
                raise RefusedError(
                    f"{self.order.store}: windows of {length_s:g} s with schema {window.schema_id}, "
                    f"the models know {m.window_s:g} s and {m.schema_id}"
                )
        rows = live_rows(windows, labels, {int(level): c for level, c in m.classes.items()})
        about_attacks = self.order.scenario == B
        learn, held = parted(rows, LEARN, attacks=about_attacks)
        for part, name in ((learn, "to learn from"), (held, "to be held out")):
            count = int((part.attack == about_attacks).sum())
            if count < self.settings.least:
                kind = "samples of attacks" if about_attacks else "benign samples"
                raise RefusedError(
                    f"{len(rows)} samples with labels since then, but only {count} {kind} {name}: "
                    f"{self.settings.least} are needed"
                )
        once = {w.window_id: w for w in windows}
        return _Live([once[number] for number in sorted(once)], learn, held, len(np.unique(rows.part.device)))

    def _profile(self, live: _Live) -> Profile | None:
        """The parent's, with what is normal now; None if it has none."""
        text = self.parent.files.get("profile.json")
        if text is None:
            return None
        self.say("profiles")
        profile = Profile.parse(text.decode(), "profile.json")
        builder = ProfileBuilder(profile.features, profile.tag_columns)
        benign: dict[int, list[str]] = {}
        quiet = live.learn.take(~live.learn.attack)
        for number, device in zip(quiet.window_id.tolist(), quiet.part.device.tolist(), strict=True):
            benign.setdefault(number, []).append(device)
        for window in live.windows:
            if window.window_id in benign:
                builder.add(benign_part(window, frozenset(benign[window.window_id])))
        return profile.widened(builder.build()) if len(builder) else profile

    # What is made ---------------------------------------------------------------
    def _recalibrated(
        self, live: _Live, base: DataSet, past: list[Part], profile: Profile | None, before: HeldOut
    ) -> Made:
        """The parent's graphs with a new profile, weights, calibration and threshold."""
        models, _ = trained_of(self.parent)
        data = self._with(base, [], [*past, live.learn.part], live.hours(live.learn))
        return self._judged(RECALIBRATED, data, models, live, profile, before, live.learn)

    def _retrained(
        self, live: _Live, base: DataSet, past: list[Part], profile: Profile | None, before: HeldOut
    ) -> Made:
        """As `_recalibrated`, with models that have learnt what is new; others keep their graphs."""
        fit, check = parted(live.learn, FIT, attacks=self.order.scenario == B)
        data = self._with(base, [*past, fit.part], [check.part], live.hours(check))
        models, scaler = trained_of(self.parent)
        levels = [
            level
            for level in base.classes
            if level in self.order.levels
            and (level == 1 or (self.order.scenario == B and (fit.part.y[level] > 0).any()))
        ]
        jobs = [(m.detector, m.level) for m in self.parent.manifest.served() if m.level in levels]
        new = train(
            data, jobs, Path(self.order.cache) / "trained", seed=self.order.seed, workers=self.order.cores,
            told=lambda about, done, of: self.say("training", done, of, about=about), scaler=scaler,
        )  # fmt: skip
        kept = [one for one in models if one.level not in levels]
        order = {(m.level, m.detector): i for i, m in enumerate(self.parent.manifest.models)}
        everyone = sorted([*kept, *new], key=lambda one: order[one.level, one.detector])
        return self._judged(RETRAINED, data, everyone, live, profile, before, check)

    def _with(self, base: DataSet, learn: list[Part], check: list[Part], hours: float) -> DataSet:
        """`base` with more rows to learn from and to calibrate on; `hours` of benign running behind these."""
        running = base.running if base.running is not None else base.validation
        m = self.parent.manifest
        if "benign_hours" in base.facts:
            hours += float(base.facts["benign_hours"])  # type: ignore[arg-type]
        else:  # a table: as many devices as it names
            devices = max(len(np.unique(running.device)), 1)
            hours += int((running.y[1] == 0).sum()) / devices * m.window_s / 3600
        return replace(
            base,
            train=concat([base.train, *learn]),
            validation=concat([base.validation, *check]),
            running=concat([running, *check]),
            facts={**base.facts, "window_s": m.window_s, "benign_hours": hours},
        )

    def _judged(
        self,
        how: str,
        data: DataSet,
        models: Sequence[Trained],
        live: _Live,
        profile: Profile | None,
        before: HeldOut,
        check: LiveRows,
    ) -> Made:
        """`check`: rows of the cell that calibrate, the last ones of `data.running`."""
        hold = self._hold(live, check, len(data.running) if data.running is not None else 0)
        self.say("calibration")
        _, scaler = trained_of(self.parent)
        judged_by = Judge(data, models, scaler, profile, lambda about: self.say("calibration", about=about))
        parent = self.parent.manifest
        beside = {name: self.parent.files[name] for name in ("baseline.json",) if name in self.parent.files}
        if profile is not None:
            beside["profile.json"] = profile.to_json().encode()
        serve: dict[str, list[str]] = {str(level): [] for level in data.classes}
        for one in parent.served():
            serve[str(one.level)].append(one.detector)
        manifest, files = bundle(
            data, models, judged_by, seed=self.order.seed, serve_all=False, beside=beside, serve=serve,
            budgets=(self.per_hour, *(b for b in BUDGETS if b > self.per_hour)), hold=hold,
        )  # fmt: skip
        manifest = replace(
            manifest, site=parent.site, schema_id=parent.schema_id, window_s=parent.window_s,
            sequence=parent.sequence,
        )  # fmt: skip
        candidate = Bundle("", manifest, files)
        after = self._figures(candidate, live, how)
        some = live.windows[-TIMED:]
        times = answer_times([self.parent, candidate], some, time.process_time)
        before, after = (
            replace(one, answer_s=took) for one, took in zip((before, after), times, strict=True)
        )
        why = judge(before, after, self.order.scenario, self.per_hour, self.settings)
        return Made(how, candidate, live, before, after, why)

    def _hold(self, live: _Live, check: LiveRows, n: int) -> Hold | None:
        """No more attacks of `check`, the last of n rows, are missed than the parent misses of them.

        A parent that raises false alarms finds attacks by the way (not those before which its alarm stood,
        see `finds`): a budget that was kept by a higher threshold alone would be paid by those.
        """
        if not check.attack.any() or n < len(check):
            return None
        _, run, _ = self._said(self.parent, live, check, "parent")
        rows = np.zeros(n, np.bool_)
        rows[n - len(check) :] = True
        return Hold(rows, int((check.attack & ~found(check.attack, run)).sum()))

    def _said(self, version: Bundle, live: _Live, rows: LiveRows, about: str) -> tuple[F64, I64, float]:
        """P(attack) and run of objections (n,) of a version to rows by time, and its threshold."""
        first, last = int(rows.window_id.min()) - WARM_UP, int(rows.window_id.max())
        windows = [w for w in live.windows if first <= w.window_id <= last and not w.commissioning]
        every = max(len(windows) // 20, 1)

        def seen(done: int) -> None:
            if done % every == 0 or done == len(windows):
                self.say("judging", done, len(windows), about=about)

        said = rehearse(version, windows, self.rules, seen)
        samples = list(zip(rows.window_id.tolist(), rows.part.device.tolist(), strict=True))
        return *said.of(samples), said.threshold

    def _figures(self, version: Bundle, live: _Live, about: str) -> HeldOut:
        """Of a version, on what was held out."""
        held = live.held
        probability, run, threshold = self._said(version, live, held, about)
        figures = held_out(
            probability, run, held.attack, held.part.device, held.window_id,
            threshold=threshold,
            hours=live.hours(held),
            size_bytes=sum(len(graph.content) for graph in graphs_of(version)),
        )  # fmt: skip
        self.say("judging", loss=figures.loss, about=about)
        return figures


def _failed(manifest: Manifest) -> bool:
    """It did not pass the gate of those held out."""
    judged = manifest.lineage.get("held_out")
    return isinstance(judged, dict) and bool(judged.get("against"))


def _counts(rows: LiveRows) -> dict[str, int]:
    """Rows by the name of their class."""
    return dict(sorted(Counter(rows.names[k] for k in rows.label.tolist()).items()))


def _lasting(figures: HeldOut) -> dict[str, float | None]:
    """Without what another run would measure differently: the same order gives the same version."""
    return {name: value for name, value in figures.to_dict().items() if name != "answer_s"}
