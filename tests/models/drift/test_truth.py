"""What the plant tells, window by window."""

from __future__ import annotations

from cellwatch.models.drift.truth import Truth
from cellwatch.models.types import Incident

S = 1_000_000_000
OPEN = 2**63 - 1


def incident(name, onset_s, end_s, *devices, kind="attack"):
    end_ns = OPEN if end_s is None else round(end_s * S)
    return Incident(name, kind, "dos", "x", devices[0], round(onset_s * S), end_ns, devices)


def told(truth, upto, devices=("A", "B")):
    for i in range(1, upto + 1):
        truth.see(i, (i - 1) * S, i * S)
    return {i: (names.tolist(), certain.tolist()) for i, names, certain in truth.due(devices)}


def test_within_an_incident_outside_and_at_its_edge():
    truth = Truth(2 * S)
    truth.incident(incident("x", 1.5, 3, "A"))
    assert told(truth, 6) == {
        1: (["benign", "benign"], [True, True]),
        2: (["benign", "benign"], [False, True]),  # in part
        3: (["dos/x", "benign"], [True, True]),
        4: (["benign", "benign"], [True, True]),
    }  # 5 and 6 wait


def test_the_last_word_on_an_incident_counts():
    truth = Truth(0)
    truth.incident(incident("x", 0, None, "A"))
    truth.incident(incident("y", 0, 9, "B", kind="normal"))
    truth.see(1, 0, S)
    assert [a.tolist() for _, a, _ in truth.due(("A", "B"))] == [["dos/x", "benign"]]
    truth.incident(incident("x", 0, 1, "A"))
    truth.see(2, S, 2 * S)
    assert [a.tolist() for _, a, _ in truth.due(("A", "B"))] == [["benign", "benign"]]


def test_two_incidents_on_one_device():
    truth = Truth(0)
    truth.incident(incident("x", 0.0, 0.5, "A"))
    truth.incident(incident("y", 0.0, 2.0, "A"))
    truth.see(1, 0, S)
    ((_, names, certain),) = truth.due(("A",))
    assert (names.tolist(), certain.tolist()) == (["dos/x"], [True])


def test_windows_are_forgotten_and_incidents_are_not():
    truth = Truth(0)
    truth.incident(incident("x", 0, None, "A"))
    truth.see(1, 0, S)
    truth.forget()
    assert list(truth.due(("A",))) == []
    truth.see(2, S, 2 * S)
    assert [a.tolist() for _, a, _ in truth.due(("A",))] == [["dos/x"]]
