"""Fusion of all verdicts on a window (DeepSense, section 3.4).

L1: p = sum(w_i s_i) / sum(w_i), attack if p >= tau.  L2: v(c) = sum of w_i with c_i = c, argmax.
A source that is late or abstains has no weight in either sum, and the verdict names it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from cellwatch.models.types import Contribution, FusedVerdict, FusedWindow, Level, Screening, Violation

if TYPE_CHECKING:
    from cellwatch.models.types import Verdicts


@dataclass(frozen=True, slots=True)
class FusionSettings:
    """How verdicts become a decision."""

    sources: tuple[str, ...] = ("rules", "ensemble")
    threshold: float = 0.5  # tau, 0..1
    budget_s: float = 0.25  # how long a window waits for a late source
    confirm_windows: int = 2  # agreeing windows in a row before BLOCK when two sources agree
    confirm_alone: int = 4  # the same when one source has to decide alone
    weights: dict[str, float] = field(default_factory=dict)  # detector -> weight > 0, 1 if absent


@dataclass(slots=True)
class _Pending:
    first_ns: int
    verdicts: dict[str, Verdicts] = field(default_factory=dict)


class Fusion:
    """Pairs verdicts by window and decides. At most `MAX_PENDING` windows wait."""

    MAX_PENDING = 64

    def __init__(self, settings: FusionSettings | None = None) -> None:
        self.settings = settings or FusionSettings()
        self.late = 0  # verdicts that came after their window was fused
        self._pending: OrderedDict[int, _Pending] = OrderedDict()
        self._fused_to = -1
        self._streak: dict[str, int] = {}

    def offer(self, verdicts: Verdicts, now_ns: int) -> None:
        """Stage one source's verdicts."""
        if verdicts.window_id <= self._fused_to:
            self.late += 1
            return
        pending = self._pending.setdefault(verdicts.window_id, _Pending(now_ns))
        pending.verdicts[verdicts.source] = verdicts

    def step(self, now_ns: int) -> list[FusedWindow]:
        """Windows that are complete, or whose budget is spent, in order."""
        out = []
        for window_id in sorted(self._pending):
            pending = self._pending[window_id]
            complete = all(s in pending.verdicts for s in self.settings.sources)
            spent = now_ns - pending.first_ns >= self.settings.budget_s * 1e9
            if not (complete or spent or len(self._pending) > self.MAX_PENDING):
                break  # later windows wait for this one: decisions are made in order
            del self._pending[window_id]
            self._fused_to = max(self._fused_to, window_id)
            out.append(self._fuse(pending.verdicts))
        return out

    def _fuse(self, by_source: dict[str, Verdicts]) -> FusedWindow:
        first = next(iter(by_source.values()))
        missing = [f"{s}: late" for s in self.settings.sources if s not in by_source]
        missing += [f"{s}: {v.abstained}" for s, v in by_source.items() if v.abstained]
        devices = list(dict.fromkeys(d for v in by_source.values() for d in v.devices))
        return FusedWindow(
            first.window_id,
            first.end_ns,
            first.closed_ns,
            tuple(self._judge(d, by_source, tuple(missing)) for d in devices),
            tuple(s for s in by_source if not by_source[s].abstained),
            tuple(missing),
        )

    def _judge(self, device: str, by_source: dict[str, Verdicts], missing: tuple[str, ...]) -> FusedVerdict:
        contributions: list[Contribution] = []
        votes: dict[str, float] = {}
        screening = Screening.UNKNOWN
        violations: tuple[Violation, ...] = ()
        for verdicts in by_source.values():
            if device not in verdicts.devices:
                continue
            i = verdicts.devices.index(device)
            screening = max(screening, Screening(int(verdicts.screening[i])))
            violations += tuple(v for v in verdicts.violations if v.device == device)
            for level in verdicts.levels:
                p = level.probabilities[i]
                for k, detector in enumerate(level.detectors):
                    weight = self.settings.weights.get(detector, 1.0)
                    if level.level == Level.L1:
                        contributions.append(Contribution(detector, float(p[k, 1]), weight))
                    elif level.level == Level.L2 and np.isfinite(p[k]).all():
                        c = level.classes[int(np.argmax(p[k]))]
                        votes[c] = votes.get(c, 0.0) + weight
        probability = fuse_binary(contributions)
        decision = self._decide(device, probability, screening, contributions)
        category = "benign" if decision == Screening.ALLOW else _category(votes, violations)
        return FusedVerdict(
            device,
            decision,
            probability,
            self.settings.threshold,
            category,
            "",
            tuple(contributions),
            violations,
            explain(device, decision, probability, category, violations, missing),
        )

    def _decide(
        self, device: str, probability: float, screening: Screening, contributions: list[Contribution]
    ) -> Screening:
        """BLOCK needs agreement: two sources for `confirm_windows`, or one alone for `confirm_alone`."""
        attack = probability >= self.settings.threshold
        suspicious = screening >= Screening.SUSPICIOUS
        models = [c.score for c in contributions if c.detector != "rulesense" and np.isfinite(c.score)]
        if models:
            agreed = attack and suspicious
            needed = self.settings.confirm_windows
        else:
            agreed = screening == Screening.BLOCK
            needed = self.settings.confirm_alone
        self._streak[device] = self._streak.get(device, 0) + 1 if agreed else 0
        if self._streak[device] >= needed:
            return Screening.BLOCK
        return Screening.SUSPICIOUS if attack or suspicious else Screening.ALLOW


def fuse_binary(contributions: list[Contribution]) -> float:
    """P = sum(w_i s_i) / sum(w_i) over the detectors that do not abstain; 0 if all do.

    >>> fuse_binary([Contribution("a", 0.9, 1.0), Contribution("b", 0.3, 1.0)])
    0.6
    """
    heard = [c for c in contributions if np.isfinite(c.score)]
    total = sum(c.weight for c in heard)
    return round(sum(c.weight * c.score for c in heard) / total, 6) if total else 0.0


def _category(votes: dict[str, float], violations: tuple[Violation, ...]) -> str:
    """The models' weighted vote; where they see nothing, what the violations hint at."""
    named = {c: v for c, v in votes.items() if c != "benign"}
    if named and max(named.values()) >= votes.get("benign", 0.0):
        return max(named, key=lambda c: named[c])
    hints = [v.category for v in violations if v.category]
    return max(set(hints), key=hints.count) if hints else "unknown"


def explain(
    device: str,
    decision: Screening,
    probability: float,
    category: str,
    violations: tuple[Violation, ...],
    missing: tuple[str, ...] = (),
) -> str:
    """One sentence in plain words; empty for ALLOW."""
    if decision == Screening.ALLOW:
        return ""
    if not violations:
        why = "the models agree although no single limit is broken"
    elif violations[0].rule == "unknown-device":
        why = "this device is not in the profile of the cell"
    else:
        v = violations[0]
        bound, word = (v.high, "above") if v.observed > v.high else (v.low, "below")
        why = f"{v.feature} is {v.observed:.4g}, {word} its normal limit {bound:.4g}"
        if len(violations) > 1:
            why += f" (and {len(violations) - 1} more)"
    text = f"{device}: {decision.name}, {category}, p={probability:.2f}: {why}"
    return text + (f"; without {', '.join(missing)}" if missing else "")
