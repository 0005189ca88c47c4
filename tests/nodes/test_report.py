"""The ledger: counting, detection, false alarms."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.types import (
    CommandResult,
    CommandStatus,
    DriftEvent,
    DriftState,
    FusedVerdict,
    FusedWindow,
    Gap,
    Incident,
    Level,
    Screening,
    TagBatch,
)
from cellwatch.nodes.latency import LatencyHistogram
from cellwatch.nodes.report import Ledger

S = 1_000_000_000


def fused(end_s, decision, device="PLC1", category="fault"):
    return FusedWindow(end_s, end_s * S, end_s * S, (FusedVerdict(device, decision, 0.9, 0.5, category),))


def incident(onset_s, end_s, devices=("PLC1",), name="i"):
    return Incident(name, "fault", "fault", "leak", devices[0], onset_s * S, end_s * S, devices)


@pytest.fixture
def ledger():
    return Ledger(start_ns=100 * S)


def test_detection_takes_the_first_alarm_and_the_gravest_decision(ledger):
    for t, d in ((111, Screening.ALLOW), (112, Screening.SUSPICIOUS), (113, Screening.BLOCK)):
        ledger.on_fused(fused(t, d), t * S + S // 10)
    row = ledger.report(end_ns=160 * S, incidents=[incident(110, 120)])["incidents"][0]
    assert (row["onset"], row["detected_at"], row["latency_s"], row["decision"], row["category"]) == (
        10.0,
        12.1,
        2.1,
        "BLOCK",
        "fault",
    )


def test_missed_incident_has_nulls(ledger):
    ledger.on_fused(fused(105, Screening.BLOCK), 105 * S)
    row = ledger.report(end_ns=160 * S, incidents=[incident(110, 120)])["incidents"][0]
    assert row["detected_at"] is row["decision"] is None


def test_false_alarms_are_outside_every_incident_and_device(ledger):
    for t in (105, 112, 121, 122, 130):  # before, inside, within grace, on the edge, after
        ledger.on_fused(fused(t, Screening.SUSPICIOUS), t * S)
    ledger.on_fused(fused(113, Screening.SUSPICIOUS, device="HMI1"), 113 * S)
    found = ledger.false_alarms([incident(110, 120)])
    assert [(a.end_ns // S, a.device) for a in found] == [
        (105, "PLC1"),
        (122, "PLC1"),
        (130, "PLC1"),
        (113, "HMI1"),
    ]


def test_without_ground_truth_false_alarms_are_unknown(ledger):
    ledger.on_fused(fused(105, Screening.BLOCK), 105 * S)
    assert ledger.report(end_ns=160 * S, incidents=None)["false_alarms"] is None


def test_lost_batches_bad_quality_and_gaps_are_counted(ledger):
    def batch(sequence, status=(0, 0x80340000), **more):
        n = len(status)
        times = np.full(n, 101 * S, np.int64)
        return TagBatch(
            "PLC1",
            sequence,
            np.zeros(n, np.uint32),
            np.ones(n),
            np.array(status, np.uint32),
            times,
            times,
            0,
            **more,
        )

    ledger.on_tags(batch(1), 101 * S)
    ledger.on_tags(batch(4, dropped=3, gaps=(Gap(0, 1, "outage"),)), 101 * S)
    ledger.on_tags(batch(1, replayed=True), 101 * S)  # a restarted link counts from one
    tags = ledger.report(end_ns=160 * S, incidents=[])["tags"]
    assert tags == {"received": 6, "bad_quality": 3, "dropped": 5, "replayed": 2, "gaps": 1}


def test_the_last_word_on_drift():
    ledger = Ledger()
    assert ledger.report(end_ns=1, incidents=[])["drift"] == {"state": None, "scenario": None}
    ledger.on_drift(DriftEvent(1, DriftState.DRIFT, Level.L1, "v1", "B"))
    assert ledger.report(end_ns=1, incidents=[])["drift"] == {"state": "DRIFT", "scenario": "B"}
    ledger.on_drift(DriftEvent(2, DriftState.CALM, Level.L1, "v2"))
    assert ledger.report(end_ns=1, incidents=[])["drift"] == {"state": "CALM", "scenario": None}


def test_nothing_counts_before_the_start():
    ledger = Ledger()
    ledger.on_fused(fused(105, Screening.BLOCK), 105 * S)
    ledger.on_command()
    body = ledger.report(end_ns=160 * S, incidents=[])
    assert body["verdicts"]["fused"] == body["commands"]["issued"] == 0


def test_command_latencies(ledger):
    ledger.on_command()
    ledger.on_result(
        CommandResult(
            "a",
            1,
            "T",
            1.0,
            CommandStatus.ACCEPTED,
            "",
            1.0,
            105 * S + 40_000_000,
            105 * S + 10_000_000,
            105 * S,
        )
    )
    body = ledger.report(end_ns=160 * S, incidents=[])
    assert body["commands"] == {"issued": 1, "accepted": 1, "refused": 0, "withheld": 0}
    assert body["latency_ms"]["verdict_to_write"]["p50"] == pytest.approx(30, rel=0.02)
    assert body["latency_ms"]["window_to_command"]["p99"] == pytest.approx(40, rel=0.02)


def test_histogram_matches_numpy():
    rng = np.random.default_rng(0)
    values = rng.lognormal(-5, 1, 5000)
    h = LatencyHistogram()
    for v in values:
        h.add(v)
    for q in (50, 99):
        assert h.percentile_ms(q) == pytest.approx(np.percentile(values, q) * 1000, rel=0.03)
    assert LatencyHistogram().percentile_ms(50) is None
