"""Conversations travel in messages as they are."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

pytest.importorskip("cellwatch_msgs.msg")

from cellwatch.models.features.conversations import NOBODY
from cellwatch.models.types import Conversations, FeatureWindow, TrafficBatch
from cellwatch.nodes.ros import convert


def spoken() -> Conversations:
    rng = np.random.default_rng(3)
    columns = {}
    for field in fields(Conversations):
        if field.name in {"names", "more"}:
            continue
        kind = getattr(NOBODY, field.name).dtype
        size = 2 if field.name.startswith("claim_") else 5
        low = -1 if kind == np.int64 else 0
        columns[field.name] = rng.integers(low, np.iinfo(kind).max, size, dtype=kind, endpoint=True)
    return Conversations(names=("", "PLC1", "opcua:Write"), more=7, **columns)


def assert_equal(a: Conversations | None, b: Conversations | None) -> None:
    assert a is not None and b is not None
    for field in fields(Conversations):
        one, other = getattr(a, field.name), getattr(b, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype, field.name
            one, other = one.tolist(), other.tolist()
        assert one == other, field.name


@pytest.mark.parametrize("said", [None, NOBODY, spoken()], ids=["unwatched", "nobody", "some"])
def test_there_and_back(said: Conversations | None):
    batch = TrafficBatch(5, 4, 5, ("a",), ("PLC1",), np.ones((1, 1), np.float32), 3, conversations=said)
    window = FeatureWindow(
        5, 4, 5, 6, "s", ("PLC1",), np.ones((1, 1), np.float32), (), np.zeros(0, np.uint32),
        np.zeros((0, 0), np.float32), conversations=said,
    )  # fmt: skip
    for back in (convert.traffic(convert.traffic_msg(batch)), convert.features(convert.features_msg(window))):
        if said is None:
            assert back.conversations is None
        else:
            assert_equal(said, back.conversations)
