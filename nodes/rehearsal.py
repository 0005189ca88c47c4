"""What a version would have said of windows of the past: rules, models and fusion as a cell runs them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cellwatch.models.drift.finds import NONE
from cellwatch.models.fusion.fit import FusionFit
from cellwatch.models.fusion.fusion import Fusion
from cellwatch.models.fusion.settings import FusionSettings
from cellwatch.models.registry.bundle import Bundle
from cellwatch.models.registry.model_set import ensemble_of
from cellwatch.models.rules.profile import Profile
from cellwatch.models.rules.protocol import ProtocolRules
from cellwatch.models.rules.rulesense import RuleSense, RuleSettings
from cellwatch.models.types import F64, I64, FeatureWindow, Screening

NO_HURRY_S = 3600.0


@dataclass(frozen=True, slots=True)
class Rehearsed:
    """Fused verdicts by (window, device)."""

    said: dict[tuple[int, str], tuple[float, int]]  # P(attack), and the run of SUSPICIOUS or BLOCK, or NONE
    threshold: float  # of P(attack)

    def of(self, samples: Sequence[tuple[int, str]]) -> tuple[F64, I64]:
        """P(attack) and run of objections (n,), see `finds`. KeyError for a sample that was not rehearsed."""
        said = [self.said[one] for one in samples]
        return np.array([p for p, _ in said], np.float64), np.array([run for _, run in said], np.int64)


def rehearse(
    bundle: Bundle,
    windows: Sequence[FeatureWindow],
    rules: RuleSettings | None = None,
    seen: Callable[[int], None] = lambda _: None,
) -> Rehearsed:
    """Judge windows in the order of time; `seen` is told how many are done.

    Of the rules those that come with the bundle judge: limits and habits. What a cell declares beside them,
    and EWAD, is the same for every version and is left out.
    """
    models = ensemble_of(bundle, NO_HURRY_S, lambda: 0.0)  # no model is late here
    text = bundle.files.get("profile.json")
    rulesense = _rules(text.decode(), rules or RuleSettings()) if text else None
    fusion = Fusion(_settings(bundle, with_rules=rulesense is not None))
    found: dict[tuple[int, str], tuple[float, int]] = {}
    standing: dict[str, int] = {}  # runs by device
    runs = itertools.count()
    for done, window in enumerate(windows, 1):
        said = [models.judge(window)]
        if rulesense is not None:
            said.append(rulesense.judge(window))
        for verdicts in said:
            fusion.offer(verdicts, window.end_ns)
        for fused in fusion.step(window.end_ns):
            for verdict in fused.verdicts:
                run = standing.get(verdict.device, NONE)
                if verdict.decision <= Screening.ALLOW:
                    run = NONE
                elif run == NONE:
                    run = next(runs)
                standing[verdict.device] = run
                found[fused.window_id, verdict.device] = verdict.probability, run
        seen(done)
    return Rehearsed(found, fusion.settings.threshold)


def answer_times(
    bundles: Sequence[Bundle], windows: Sequence[FeatureWindow], clock: Callable[[], float]
) -> list[float]:
    """Median time of the models of each bundle for one window, s. `clock` gives seconds.

    All of them judge a window before the next one comes: what else the machine does hits them alike.
    """
    models = [ensemble_of(bundle, NO_HURRY_S, lambda: 0.0) for bundle in bundles]
    took = np.zeros((len(windows), len(models)))
    for i, window in enumerate(windows):
        for k, one in enumerate(models):
            begun = clock()
            one.judge(window)
            took[i, k] = clock() - begun
    return [float(value) for value in np.median(took, axis=0)]


def _rules(text: str, settings: RuleSettings) -> RuleSense:
    profile = Profile.parse(text, "profile.json")
    return RuleSense(profile, settings, (ProtocolRules(profile.habits, settings.block_points),))


def _settings(bundle: Bundle, *, with_rules: bool) -> FusionSettings:
    sources = ("rules", "ensemble") if with_rules else ("ensemble",)
    base = FusionSettings(sources=sources, weights=bundle.manifest.fusion_weights())
    fit = bundle.files.get("fusion.json")
    return FusionFit.from_json(fit.decode()).settings(base) if fit else base
