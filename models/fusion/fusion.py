"""Fusion of all verdicts on a window (DeepSense, section 3.3.4), for all its devices at once.

L1 decides whether; only devices that L1, EWAD or the rules object to are voted on at L2 (category), and only
those with a category at L3 (type, among the types of that category). A source or model that is late or
abstains has no weight in any sum, and the verdict names it. EWAD learns what is normal from the same windows
as the rules, so that the two agree is no proof: they BLOCK together only if a fit gave EWAD a weight.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cellwatch.models.fusion import explanation, formulas
from cellwatch.models.fusion.confirmation import Confirmation
from cellwatch.models.fusion.evidence import gather
from cellwatch.models.fusion.limit_states import LIMITS
from cellwatch.models.fusion.naming import Name, hint, names
from cellwatch.models.fusion.pairing import Pairing
from cellwatch.models.fusion.settings import EWAD, FUSED, MODELS, FusionSettings
from cellwatch.models.types import Contribution, FusedVerdict, FusedWindow, Level, Screening

if TYPE_CHECKING:
    from cellwatch.models.fusion.calibration import Columns
    from cellwatch.models.fusion.evidence import Evidence
    from cellwatch.models.fusion.pairing import Pending
    from cellwatch.models.types import F64, I64, Bool, Verdicts

__all__ = ["Fusion", "FusionSettings"]

RULES = "rules"
_LAYOUTS = 64  # arrangements of detectors that are remembered
_ALL, _MODELS, _RULES = 0, 1, -1  # columns of weights
_ALLOW, _SUSPICIOUS, _BLOCK = map(int, (Screening.ALLOW, Screening.SUSPICIOUS, Screening.BLOCK))


@dataclass(frozen=True, slots=True)
class _Layout:
    """What depends on the detectors of L1 only, and stays from window to window."""

    detectors: tuple[str, ...]  # m
    each: list[float]  # (m,) weight of each
    weights: F64  # (m, k): all sources, all but the rules, each of these if they are several, the rules
    counts: Bool  # (m, k) where the weight is not 0
    calibrators: Columns
    column: dict[str, int]  # source -> its column of k
    rules: frozenset[str]  # detectors that are rules


@dataclass(frozen=True, slots=True)
class _Judged:
    """L1 of one window; all arrays have a row for each device."""

    scores: F64  # (n, m) calibrated P(attack)
    probability: F64
    decision: I64  # Screening
    says: dict[str, Bool]  # source -> it calls the device not benign
    conflict: Bool


class Fusion:
    """Pairs verdicts by window and decides."""

    def __init__(self, settings: FusionSettings | None = None) -> None:
        self.settings = settings or FusionSettings()
        self._pairing = Pairing(self.settings.sources, self.settings.budget_s)
        self._confirmation = Confirmation(self.settings.confirm_windows, self.settings.confirm_alone)
        self._layouts: dict[tuple[tuple[str, ...], tuple[str, ...]], _Layout] = {}
        self.adopt(self.settings)

    def adopt(self, settings: FusionSettings) -> None:
        """Weigh and calibrate by other settings from the next window on; what was confirmed stays.

        Sources, budget and the numbers of confirming windows are those that it was made with.
        """
        now = self.settings
        self.settings = replace(
            settings,
            sources=now.sources,
            budget_s=now.budget_s,
            confirm_windows=now.confirm_windows,
            confirm_alone=now.confirm_alone,
        )
        self._layouts.clear()
        self._fused = self.settings.calibration.columns((FUSED, MODELS))

    @property
    def late(self) -> int:
        """Verdicts that came after their window was fused."""
        return self._pairing.late

    @property
    def refused(self) -> int:
        """Verdicts that were refused because their window lies in the future."""
        return self._pairing.refused

    @property
    def restarts(self) -> int:
        """How often the numbers of windows went back: the clock was set back, or a number was wrong."""
        return self._pairing.restarts

    @property
    def limits_dropped(self) -> int:
        """Limit states that were lost because too many waited for a window."""
        return self._pairing.limits_dropped

    def offer(self, verdicts: Verdicts, now_ns: int, monotonic_ns: int | None = None) -> None:
        """Stage one source's verdicts, or a replica's share of them.

        `now_ns` is of the wall clock; waiting goes by `monotonic_ns`, or by `now_ns` without it.
        """
        restarts = self.restarts
        self._pairing.offer(verdicts, now_ns, monotonic_ns)
        if self.restarts != restarts:
            self._confirmation.clear()

    def step(self, now_ns: int, monotonic_ns: int | None = None) -> list[FusedWindow]:
        """Windows that are complete, or whose budget is spent, in order; in each the gravest device first."""
        return [self._fuse(pending) for pending in self._pairing.ready(now_ns, monotonic_ns)]

    def _fuse(self, pending: Pending) -> FusedWindow:
        evidence = gather(pending, self.settings.sources)
        detectors, sources, raw = evidence.attack_scores()
        layout = self._layout(detectors, sources)
        first = pending.first
        judged = self._judge(first.window_id, evidence, layout, layout.calibrators.apply(raw))
        return FusedWindow(
            first.window_id,
            first.end_ns,
            first.closed_ns,
            self._verdicts(first.window_id, evidence, layout, judged),
            tuple(s for s, parts in pending.parts.items() if not all(p.abstained for p in parts)),
            evidence.missing,
        )

    def _judge(self, window_id: int, evidence: Evidence, layout: _Layout, scores: F64) -> _Judged:
        mean = formulas.attack_probability(scores, layout.weights)
        spoke = ~np.isnan(scores) @ layout.counts
        # Each mean has the calibrator of those who are in it; of the rules alone that is their own.
        mean[:, :2] = self._fused.apply(mean[:, :2])  # _ALL, _MODELS
        mean[:, _ALL] = np.where(
            spoke[:, _RULES],
            np.where(spoke[:, _MODELS], mean[:, _ALL], mean[:, _RULES]),
            mean[:, _MODELS],
        )
        attack = (spoke & (mean >= self.settings.threshold))[:, :_RULES]
        models = attack[:, _MODELS]
        silent = np.zeros(len(scores), np.uint8)
        rules, limits = evidence.screening.get(RULES, silent), evidence.screening.get(LIMITS, silent)
        odd = evidence.screening.get(EWAD, silent) >= _SUSPICIOUS
        says = {RULES: rules >= _SUSPICIOUS, LIMITS: limits >= _SUSPICIOUS}
        objected = says[RULES] | says[LIMITS]
        certain = (rules == _BLOCK) | (limits == _BLOCK)
        unsaid = evidence.silent(RULES)
        block = self._confirmation.step(
            window_id,
            evidence.devices,
            (models & objected, certain),
            ((spoke[:, _MODELS] & ~models) | ~(objected | unsaid), ~(certain | unsaid)),
        )
        return _Judged(
            scores,
            np.where(spoke[:, _ALL], mean[:, _ALL], 0.0),
            np.where(block, _BLOCK, np.where(objected | odd | attack.any(axis=1), _SUSPICIOUS, _ALLOW)),
            says | {s: attack[:, k] for s, k in layout.column.items()} | {EWAD: odd},
            spoke[:, _MODELS] & (rules > 0) & (models != says[RULES]),
        )

    def _verdicts(
        self, window_id: int, evidence: Evidence, layout: _Layout, judged: _Judged
    ) -> tuple[FusedVerdict, ...]:
        """A verdict for each device, the gravest first."""
        found = names(evidence, np.flatnonzero(judged.decision > _ALLOW), self.settings)
        order = np.lexsort((-judged.probability, -judged.decision)).tolist()
        decisions, probabilities = judged.decision.tolist(), judged.probability.tolist()
        conflicts, scores = judged.conflict.tolist(), judged.scores.tolist()
        confidence = evidence.confidence.get(RULES, np.full(len(scores), np.nan)).tolist()
        out = []
        for i in order:
            device = evidence.devices[i]
            contributions = tuple(
                map(Contribution._make, zip(layout.detectors, scores[i], layout.each, strict=True))
            )
            if decisions[i] == _ALLOW:
                out.append(
                    FusedVerdict(
                        device,
                        Screening.ALLOW,
                        probabilities[i],
                        self.settings.threshold,
                        contributions=contributions,
                        rules_confidence=confidence[i],
                        conflict=conflicts[i],
                    )
                )
                continue
            decision = Screening(decisions[i])
            violations = evidence.violations.get(device, ())
            name = found.get(i) or Name(hint(violations))
            label = name.attack_type or name.category
            agreeing = tuple(s for s, bad in judged.says.items() if bad[i])
            missing = [text for _, rows, text in evidence.absent if rows[i]]
            silent = explanation.abstentions(contributions)
            out.append(
                FusedVerdict(
                    device,
                    decision,
                    probabilities[i],
                    self.settings.threshold,
                    name.category,
                    name.attack_type,
                    contributions,
                    violations,
                    explanation.sentence(
                        device,
                        decision,
                        probabilities[i],
                        label,
                        violations,
                        agreeing,
                        [*missing, silent] if silent else missing,
                    ),
                    name.category_confidence,
                    name.type_confidence,
                    confidence[i],
                    agreeing,
                    conflicts[i],
                    explanation.appendix_b(
                        device,
                        f"{window_id}/{device}",
                        label,
                        confidence[i],
                        violations,
                        contributions,
                        probabilities[i],
                        layout.rules,
                    ),
                )
            )
        return tuple(out)

    def _layout(self, detectors: tuple[str, ...], sources: tuple[str, ...]) -> _Layout:
        key = (detectors, sources)
        if key not in self._layouts:
            if len(self._layouts) >= _LAYOUTS:  # models come and go: forget the arrangements of old
                self._layouts.clear()
            by_source = [s for s in dict.fromkeys(sources) if s != RULES]
            masks = [[True] * len(sources), [s != RULES for s in sources]]
            if len(by_source) > 1:
                masks += [[s == one for s in sources] for one in by_source]
            masks.append([s == RULES for s in sources])
            weights = self.settings.weight(Level.L1, detectors)
            matrix = np.array(masks, bool).T * weights[:, None]
            self._layouts[key] = _Layout(
                detectors,
                weights.tolist(),
                matrix,
                matrix > 0,
                self.settings.calibration.columns(tuple(f"L1/{d}" for d in detectors)),
                {s: _MODELS if len(by_source) == 1 else 2 + k for k, s in enumerate(by_source)},
                frozenset(d for d, s in zip(detectors, sources, strict=True) if s == RULES),
            )
        return self._layouts[key]
