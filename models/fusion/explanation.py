"""A decision in words and as the JSON of DeepSense, Appendix B."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from cellwatch.models.types import Screening

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from cellwatch.models.types import Contribution, Violation

_JSON = json.JSONEncoder(allow_nan=False, ensure_ascii=False)
_NAMED = 3  # abstaining models that a sentence names before it counts


def sentence(
    device: str,
    decision: Screening,
    probability: float,
    label: str,
    violations: Sequence[Violation],
    agreeing: Sequence[str] = (),
    missing: Sequence[str] = (),
) -> str:
    """One sentence in plain words; empty for ALLOW.

    `label` is the category or the attack type, `agreeing` the sources that call it not benign, `missing`
    those that are late or abstain, with the reason.
    """
    if decision == Screening.ALLOW:
        return ""
    if violations:
        why = reason(violations[0])
        if len(violations) > 1:
            why += f" (and {len(violations) - 1} more)"
    else:
        why = "the models agree although no single limit is broken"
    text = f"{device}: {decision.name}, {label}, p={probability:.2f}: {why}"
    if agreeing:
        text += f"; says {' and '.join(agreeing)}"
    return text + (f"; without {', '.join(missing)}" if missing else "")


def reason(v: Violation) -> str:
    """What one violation says, in words.

    >>> from cellwatch.models.types import Violation
    >>> reason(Violation("PLC1", "LIT101/avg", 9.0, 1.0, 5.0, "limit", "fault"))
    'LIT101/avg is 9, above its normal limit 5'
    """
    if v.message:
        return v.message
    if v.rule == "unknown-device":
        return "this device is not in the profile of the cell"
    technique = f" (ATT&CK {v.attack_id})" if v.attack_id else ""
    if not math.isfinite(v.observed):
        return f"{v.rule}: {v.feature}{technique}"
    bound = threshold(v)
    seen = f"{v.feature} is {v.observed:.4g}"
    if bound is None:
        return f"{v.rule}: {seen}{technique}"
    return f"{seen}, {'above' if v.observed > v.high else 'below'} its normal limit {bound:.4g}{technique}"


def threshold(v: Violation) -> float | None:
    """The end of the normal range that was passed, None where the rule has no number."""
    if v.observed > v.high:
        return v.high if math.isfinite(v.high) else None
    return v.low if v.observed < v.low and math.isfinite(v.low) else None


def abstentions(contributions: Sequence[Contribution]) -> str:
    """The models that gave no score, in words; "" if all did, or none (then the source itself is named)."""
    silent = [c.detector for c in contributions if math.isnan(c.score)]
    if not silent or len(silent) == len(contributions):
        return ""
    named = ", ".join(silent[:_NAMED])
    return named + (f" and {len(silent) - _NAMED} more" if len(silent) > _NAMED else "") + ": no score"


def appendix_b(
    device: str,
    sample_id: str,
    label: str,
    rules_confidence: float,
    violations: Sequence[Violation],
    contributions: Sequence[Contribution],
    probability: float,
    rules: Collection[str] = (),
) -> str:
    """The explanation of one decision: exactly the keys of Appendix B, as RFC 8259 JSON.

    A number that does not exist is null. Of a feature with several violations the gravest (the first) counts.
    `rules` names the detectors that are rules: their confidence has a key of its own.
    """
    triggered: dict[str, dict[str, float | None]] = {}
    for v in violations:
        triggered.setdefault(v.feature, {"observed": _number(v.observed), "normal_threshold": threshold(v)})
    return _JSON.encode(
        {
            "device_id": device,
            "sample_id": sample_id,
            "predicted_label": label,
            "rulesense_confidence": _number(rules_confidence),
            "triggered_features": triggered,
            "model_confidence": {
                c.detector: round(c.score, 4)
                for c in contributions
                if c.detector not in rules and not math.isnan(c.score)
            },
            "ensemble_confidence": _number(probability),
        }
    )


def _number(value: float) -> float | None:
    """Six significant digits: what was measured has no more."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
