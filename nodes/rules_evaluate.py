"""RuleSense over a table of windows: how many it lets pass, and how right it is where labels tell."""

from __future__ import annotations

from typing import Any

import numpy as np

from cellwatch.models.evaluation.metrics import confusion, mcc
from cellwatch.models.features.schema import default_schema
from cellwatch.models.rules.profile import Profile
from cellwatch.models.rules.rulesense import RuleSense, RuleSettings
from cellwatch.models.types import U8, Bool, Screening
from cellwatch.nodes.window_table import WindowTable, WindowTableError


def evaluate(
    profile: Profile,
    table: WindowTable,
    settings: RuleSettings | None = None,
    apart: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Counts by verdict, and accuracy, F1 and MCC of "not ALLOW" against the labels; None without labels.

    Only what a table of windows holds is judged: limits of features. Rows that name an address of `apart`
    are counted apart, under that key. WindowTableError when profile and table do not fit together.
    """
    if profile.schema_id != default_schema().schema_id:
        raise WindowTableError(
            f"the profile has schema {profile.schema_id}, tables have {default_schema().schema_id}: "
            "commission anew"
        )
    if not np.isclose(profile.window_s, table.window_s):
        raise WindowTableError(
            f"the profile is of windows of {profile.window_s:g} s, {table.name} has {table.window_s:g} s"
        )
    rules = RuleSense(profile, settings)
    place, index = np.unique(table.devices.astype(str), return_inverse=True)
    rows = rules.rows(place.tolist())[index]
    _, screening, _ = rules.judge_many(table.values, rows)
    if not apart:
        return _figures(screening, table.attack)
    aside = table.carrying(apart)
    attack = table.attack
    return {
        **_figures(screening[~aside], None if attack is None else attack[~aside]),
        "apart": _figures(screening[aside], None if attack is None else attack[aside]),
    }


def _figures(screening: U8, attack: Bool | None) -> dict[str, Any]:
    counts = {
        name.name.lower(): int((screening == name).sum())
        for name in (Screening.ALLOW, Screening.SUSPICIOUS, Screening.BLOCK)
    }
    found: dict[str, Any] = {"windows": len(screening), **counts}
    if attack is None or not len(attack):
        return found | {"accuracy": None, "f1": None, "mcc": None}
    m = confusion(attack.astype(np.int64), (screening > Screening.ALLOW).astype(np.int64), 2)
    (_, false_alarms), (missed, hit) = m.tolist()
    return found | {
        "accuracy": round(float(np.trace(m) / m.sum()), 6),
        "f1": round(2 * hit / (2 * hit + false_alarms + missed), 6) if hit else 0.0,
        "mcc": round(mcc(m), 6),
    }
