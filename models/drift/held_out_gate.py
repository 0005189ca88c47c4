"""Whether a candidate may judge beside the models in service, by labelled samples that neither has learnt."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.drift.attribution import rise
from cellwatch.models.drift.finds import NONE, found
from cellwatch.models.drift.losses import log_loss
from cellwatch.models.evaluation.metrics import confusion, mcc
from cellwatch.models.types import F64, I64, Bool

A, B = "A", "B"  # scenarios: false alarms, misses
AGAIN = 60  # windows after which an alarm that stands counts once more


@dataclass(frozen=True, slots=True)
class GateSettings:
    """What a candidate may cost, and what is too little to judge it by."""

    least: int = 10  # held-out samples of the class that the scenario is about
    loss: float = 0.01  # nats by which the mean loss may be higher
    errors: float = 0.002  # by which the share of errors may be higher
    factor: float = 1.5  # of the parent's size, and of its time to answer
    chance: float = 0.05  # with which models inside the budget of false alarms are refused
    cured: float = 0.5  # of the parent's false alarms: with more of them a drift of scenario A is not cured


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Figures of one version on the held-out samples; NaN = not known."""

    samples: int
    benign: int
    loss: float  # mean log loss of the fused P(attack), nats
    errors: float  # share judged wrongly: benign not ALLOW, or an attack not found
    fpr: float  # of the benign ones, share that is not ALLOW
    fnr: float  # of the attacks, share that is not found
    mcc: float  # Matthews' correlation of the decision, -1..1
    alarms: int  # P(attack) of a benign device rises to the threshold, or stays there: of the budget
    hours: float  # of the cell, behind the benign samples
    size_bytes: int  # of the graphs that are served
    answer_s: float  # median time of the models for one window

    def to_dict(self) -> dict[str, float | None]:
        """For JSON: None instead of NaN."""
        return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(self).items()}

    @property
    def right(self) -> float:
        """Share judged rightly, 0..1."""
        return 1.0 - self.errors


def held_out(
    probability: F64,
    run: I64,
    attack: Bool,
    device: NDArray[np.str_],
    window_id: I64,
    *,
    threshold: float,
    hours: float,
    size_bytes: int,
    answer_s: float = math.nan,
) -> HeldOut:
    """Figures of n samples: fused P(attack), run of objections or NONE, an attack in truth, where and when.

    An attack is found by an objection that did not stand before, see `finds`. Windows of a device in a row at
    the threshold or above are one alarm, and one more after each AGAIN of them: if one that always stands
    were but one, no candidate could better it.
    """
    order = np.lexsort((window_id, device))
    run, attack, probability, device = run[order], attack[order], probability[order], device[order]
    judged = np.where(attack, found(attack, run), run != NONE)
    wrong = judged != attack
    high = (probability >= threshold) & ~attack
    edges = np.ones(len(order) + 1, np.bool_)  # where an alarm may begin or end
    edges[1:-1] = (high[1:] != high[:-1]) | (device[1:] != device[:-1]) | (np.diff(window_id[order]) != 1)
    begins = np.flatnonzero(edges)
    lasts = np.diff(begins)[high[begins[:-1]]]
    return HeldOut(
        len(attack),
        int((~attack).sum()),
        _mean(log_loss(probability, attack)),
        _mean(wrong),
        _mean(wrong[~attack]),
        _mean(wrong[attack]),
        mcc(confusion(attack.astype(np.int64), judged.astype(np.int64), 2)),
        int((1 + (lasts - 1) // AGAIN).sum()),
        hours,
        size_bytes,
        answer_s,
    )


def judge(
    parent: HeldOut,
    candidate: HeldOut,
    scenario: str,
    per_hour: float,
    settings: GateSettings | None = None,
) -> list[str]:
    """What speaks against the candidate, one sentence each; nothing: it passes.

    `per_hour`: the budget of false alarms of the whole cell. As many are let pass as come with a probability
    of `chance` where it is kept (Poisson); more where the parent is outside of it: in scenario B as many as
    it raises, in A, which is about them, `cured` of that.
    """
    it = settings or GateSettings()
    about = parent.benign if scenario == A else parent.samples - parent.benign
    if about < it.least:
        kind = "benign samples" if scenario == A else "samples of attacks"
        return [f"only {about} {kind} are held out, {it.least} are needed"]
    why = []
    if candidate.loss > parent.loss + it.loss:
        why.append(f"the loss rises from {parent.loss:.4f} to {candidate.loss:.4f}")
    if candidate.errors > parent.errors + it.errors:
        why.append(f"the share of errors rises from {parent.errors:.4f} to {candidate.errors:.4f}")
    for made, name, before, after in (
        (A, "false alarms", parent.fpr, candidate.fpr),
        (B, "misses", parent.fnr, candidate.fnr),
    ):
        if scenario == made and after >= before > 0:
            why.append(f"it was made against {name}: their rate goes from {before:.4f} to {after:.4f}")
    attacks = parent.samples - parent.benign
    for name, n, before, after in (
        ("false alarms", parent.benign, parent.fpr, candidate.fpr),
        ("misses", attacks, parent.fnr, candidate.fnr),
    ):
        if n and rise(round(before * n), n, round(after * n), n) > 0:
            why.append(f"more {name}: their rate rises from {before:.4f} to {after:.4f}")
    allowed = false_alarms_allowed(per_hour * candidate.hours, it.chance)
    allowed = max(allowed, parent.alarms if scenario == B else int(it.cured * parent.alarms))
    if candidate.alarms > allowed:
        why.append(
            f"{candidate.alarms} false alarms in {candidate.hours:.2f} h, {allowed} are let pass "
            f"({per_hour:g} an hour)"
        )
    for name, before, after in (
        ("size", parent.size_bytes, candidate.size_bytes),
        ("time to answer", parent.answer_s, candidate.answer_s),
    ):
        if after > it.factor * before:
            why.append(f"its {name} is {after / before:.2f} times the parent's, {it.factor:g} is let pass")
    return why


def false_alarms_allowed(expected: float, chance: float) -> int:
    """The most alarms that come with a probability above `chance`, where `expected` are to be expected.

    >>> [false_alarms_allowed(x, 0.05) for x in (0.0, 0.04, 1.0, 10.0)]
    [0, 0, 3, 15]
    """
    from scipy.stats import poisson

    return int(poisson.ppf(1 - chance, expected)) if expected > 0 else 0


def _mean(values: F64 | Bool) -> float:
    return float(values.mean()) if len(values) else math.nan
