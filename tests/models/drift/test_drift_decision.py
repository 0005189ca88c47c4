"""One alarm for one drift."""

from __future__ import annotations

import pytest

from cellwatch.models.drift.decision import Decision, DriftState


def told(decision, text):
    """o: over the limit, .: not; places of the alarms."""
    return [i for i, letter in enumerate(text, 1) if decision.labelled(letter == "o")]


@pytest.mark.parametrize(
    ("text", "alarms"),
    [("oo.oo.oo", []), (".ooo", [4]), ("oooooooooooo", [3]), ("ooo..ooo", [3]), ("ooo...ooo", [3, 9])],
)
def test_consecutive_windows_and_hysteresis(text, alarms):
    assert told(Decision(3), text) == alarms


def test_states():
    decision = Decision(2)
    seen = []
    for letter in "o.o.." + "oo.o..":
        decision.labelled(letter == "o")
        seen.append(decision.state.name[0])
    assert "".join(seen) == "WWWWC" + "WDDDDC"


def test_two_detectors_hasten_the_alarm_one_does_not():
    assert not Decision(3).labelled(over=True, fired=("ADWIN",))
    decision = Decision(3)
    assert decision.labelled(over=True, fired=("ADWIN", "KSWIN"))
    assert decision.reasons == ("loss", "ADWIN", "KSWIN")


def test_detectors_alone_only_warn():
    decision = Decision(3)
    assert not any(decision.labelled(over=False, fired=("ADWIN", "KSWIN", "Page-Hinkley")) for _ in range(9))
    assert decision.state == DriftState.WARNING


def test_what_fired_is_forgotten():
    decision = Decision(3)
    decision.labelled(over=False, fired=("ADWIN", "KSWIN"))
    for _ in range(5):
        decision.labelled(over=False)
    assert not decision.labelled(over=True)
    recent = Decision(3)
    recent.labelled(over=False, fired=("ADWIN", "KSWIN"))
    assert recent.labelled(over=True)


def test_without_labels_two_monitors_must_agree_for_long():
    decision = Decision(3)
    both, one = ("features", "scores"), ("features",)
    assert not any(decision.unlabelled(one) for _ in range(20))
    assert decision.state == DriftState.WARNING
    assert [decision.unlabelled(both) for _ in range(5)] == [False, False, True, False, False]
    assert decision.reasons == both


def test_where_there_are_labels_the_others_only_warn():
    decision = Decision(2)
    for _ in range(10):
        assert not decision.unlabelled(("features", "scores"))
        assert not decision.labelled(over=False)
        assert not decision.unlabelled(("features", "scores"))
        assert decision.state == DriftState.WARNING


def test_m_is_one_at_least():
    with pytest.raises(ValueError, match="one window"):
        Decision(0)
