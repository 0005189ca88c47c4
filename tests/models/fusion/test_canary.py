"""The canary: for its devices the candidate's verdict stands, and nobody waits for it for long."""

from __future__ import annotations

import pytest

from cellwatch.models.fusion.canary import Canary, canary_devices
from cellwatch.models.types import FusedVerdict, FusedWindow, Screening

MS = 1_000_000
A, S, B = Screening.ALLOW, Screening.SUSPICIOUS, Screening.BLOCK


def window(i: int, sources=("rules", "ensemble"), **decisions: Screening) -> FusedWindow:
    verdicts = [
        FusedVerdict(name, s, s / 4, 0.5, explanation="" if s == A else f"{name}: {s.name}")
        for name, s in decisions.items()
    ]
    return FusedWindow(i, i, i, tuple(verdicts), sources)


def decisions(found: FusedWindow) -> dict[str, Screening]:
    return {v.device: v.decision for v in found.verdicts}


@pytest.fixture
def canary() -> Canary:
    made = Canary(0.25)
    made.assign("1f0c", ["PLC1"])
    return made


def test_its_devices_are_judged_by_the_candidate(canary):
    own = window(1, PLC2=S, PLC1=A)
    canary.offer(own, 0)
    assert canary.ready(200 * MS) == []
    canary.hear(window(1, PLC2=B, PLC1=B), 200 * MS)
    ((found, displaced),) = canary.ready(200 * MS)
    assert list(decisions(found).items()) == [("PLC1", B), ("PLC2", S)]  # the gravest first
    assert found.verdicts[0].explanation == "PLC1: BLOCK; judged by version 1f0c (canary)"
    assert found.verdicts[1] == own.verdicts[0]
    assert displaced == (own.verdicts[1],)
    assert (canary.judged, canary.missed) == (1, 0)
    canary.hear(window(2, PLC1=A), 0)  # here before its own
    canary.offer(window(2, PLC1=B), 0)
    ((found, _),) = canary.ready(0)
    assert (found.verdicts[0].decision, found.verdicts[0].explanation) == (A, "")


def test_one_that_is_late_or_lacks_a_source_does_not_count(canary):
    canary.offer(window(1, PLC1=A), 0)
    canary.offer(window(2, PLC1=A), 100 * MS)
    canary.hear(window(2, ("rules",), PLC1=B), 120 * MS)
    assert canary.ready(249 * MS) == []  # in order
    found = canary.ready(250 * MS)
    assert [f.window.window_id for f in found] == [1, 2]
    assert [decisions(f.window) for f in found] == [{"PLC1": A}] * 2
    assert [f.displaced for f in found] == [(), ()]
    assert canary.missed == 2


def test_a_silent_candidate_is_not_waited_for_until_it_is_in_time_again(canary):
    for i in range(Canary.PATIENCE):
        canary.offer(window(i, PLC1=A), i * 1000 * MS)
        assert canary.ready(i * 1000 * MS) == []
        assert len(canary.ready((i * 1000 + 250) * MS)) == 1
    canary.offer(window(10, PLC1=A), 10_000 * MS)
    assert len(canary.ready(10_000 * MS)) == 1
    canary.hear(window(10, PLC1=B), 10_300 * MS)  # over its budget
    canary.offer(window(11, PLC1=A), 11_000 * MS)
    assert len(canary.ready(11_000 * MS)) == 1
    canary.hear(window(11, PLC1=B), 11_010 * MS)
    canary.offer(window(12, PLC1=A), 12_000 * MS)
    assert canary.ready(12_000 * MS) == []


def test_without_devices_nothing_waits_and_nothing_is_kept(canary):
    canary.hear(window(1, PLC1=B), 0)
    canary.assign("", [])
    canary.hear(window(1, PLC1=B), 0)
    own = window(1, PLC1=A)
    canary.offer(own, 0)
    assert canary.ready(0) == [(own, ())]
    assert (canary.judged, canary.missed) == (0, 0)


def test_a_canary_takes_a_share_that_differs_between_versions():
    names = [f"d{i}" for i in range(8)]
    taken = {canary_devices(names, f"v{i}") for i in range(20)}
    assert {len(t) for t in taken} == {2}
    assert len(taken) > 5
    assert canary_devices(names[::-1], "v1") == canary_devices(names, "v1")
    assert canary_devices((), "v1") == ()
    assert len(canary_devices(names, "v1", 0.01)) == 1
