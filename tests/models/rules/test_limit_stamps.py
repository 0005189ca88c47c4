"""The stamps of limit verdicts when the clock of a PLC is wrong."""

from __future__ import annotations

import numpy as np

from cellwatch.models.rules.tag_limits import Limit, LimitRules
from cellwatch.models.types import TagBatch, TagCatalog, TagInfo

S = 1_000_000_000
CATALOG = TagCatalog("PLC1", (TagInfo("LIT101", "a", "TANK"), TagInfo("FIT101", "b", "PUMP")))


def batch(tag, value, source_ns, received_ns):
    at = np.array([source_ns])
    return TagBatch(
        "PLC1", 2, np.array([tag], np.uint32), np.array([float(value)]), np.zeros(1, np.uint32), at, at,
        received_ns, False,
    )  # fmt: skip


def test_one_sample_of_the_future_stamps_nothing_after_it():
    rules = LimitRules(CATALOG, [Limit(("*",), high=80)])
    ahead = rules.judge(batch(0, 99, 3600 * S, 10 * S))
    assert ahead.end_ns == 10 * S
    assert rules.judge(batch(1, 99, 11 * S, 12 * S)).end_ns == 11 * S
    assert rules.state().end_ns == 11 * S
