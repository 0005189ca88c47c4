"""What the page keeps of a cell, with numbers worked out by hand."""

from __future__ import annotations

import threading
from math import isnan

import numpy as np
import pytest

from cellwatch.models.types import CommandStatus, Contribution, Screening, TagCatalog, TrafficBatch, Verdicts
from cellwatch.nodes.page import verdict_board
from cellwatch.nodes.page.live_cell import LiveCell
from cellwatch.nodes.page.trend_ring import SLOTS, STEP_NS, TrendRing
from cellwatch.nodes.page.values import CommentView

S = 10**9
GOOD, BAD = 0, 0x80000000


@pytest.fixture
def cell(clock):
    return LiveCell("demo", ["PLC1", "HMI1"], window_s=1.0, clock=clock.read)


def test_an_empty_cell_has_its_devices_and_nothing_else(cell):
    assert [(d.name, d.kind, d.decision, d.at_ns) for d in cell.devices()] == [
        ("PLC1", "network", Screening.UNKNOWN, 0),
        ("HMI1", "network", Screening.UNKNOWN, 0),
    ]
    assert cell.tags() == cell.commands() == cell.nodes() == cell.models() == ()
    assert cell.alarms() == ((), 0)
    assert cell.drift() is cell.candidate() is cell.explanation("PLC1/dos") is None
    assert cell.trend(["LIT101"]) == {}
    assert cell.version == 0


# Tags --------------------------------------------------------------------------
def test_tags_have_the_last_value_with_quality_and_age(cell, made, clock):
    cell.on_tags(made.batch([0], [9.0], [clock.now]))  # before the catalogue: nobody knows what it is
    cell.on_catalog(made.catalog())
    assert [(t.name, t.quality, isnan(t.value), isnan(t.age_s)) for t in cell.tags()] == [
        ("LIT101", "", True, True),
        ("FIT101", "", True, True),
    ]
    cell.on_tags(made.batch([0, 0], [2.0, 1.0], [clock.now, clock.now - S]))  # the older came later
    cell.on_tags(made.batch([1], [3.0], [clock.now], status=BAD))
    clock.now += 2 * S
    first, second = cell.tags()
    assert (first.value, first.quality, first.age_s, first.unit, first.high) == (2.0, "good", 2.0, "m", 5.0)
    assert (second.value, second.quality) == (3.0, "bad")


def test_a_tag_that_is_in_no_catalogue_is_left_out(cell, made, clock):
    cell.on_catalog(made.catalog())
    cell.on_tags(made.batch([7, 1], [1.0, 2.0], [clock.now] * 2))
    assert [t.value for t in cell.tags()][1] == 2.0


def test_trends_are_the_least_and_greatest_of_each_stretch(cell, made, clock):
    clock.now = 1_700_000_000 * S
    cell.on_catalog(made.catalog())
    times = [clock.now - 4 * S, clock.now - 4 * S + 1, clock.now - S, clock.now - S]
    cell.on_tags(made.batch([0, 0, 0, 1], [1.0, 3.0, 5.0, 7.0], times, clock.now))
    found = cell.trend(["LIT101", "FIT101", "nobody"], span_s=10, points=10)
    assert found.keys() == {"LIT101", "FIT101"}
    times, low, high = found["LIT101"]
    assert times.tolist() == [1_700_000_000 - 9 + i + 0.5 for i in range(10)]
    assert [(t, a, b) for t, a, b in zip(times, low, high, strict=True) if not isnan(a)] == [
        (1_699_999_996.5, 1.0, 3.0),
        (1_699_999_999.5, 5.0, 5.0),
    ]


def test_bad_quality_is_no_point_of_a_trend(cell, made, clock):
    cell.on_catalog(made.catalog())
    cell.on_tags(made.batch([0], [1.0], [clock.now], status=BAD))
    assert np.isnan(cell.trend(["LIT101"], 5)["LIT101"][1]).all()


def test_a_plc_whose_clock_is_off_still_has_a_trend(cell, made, clock):
    cell.on_catalog(made.catalog())
    for off_s in (-86_400, 86_400):
        cell.on_tags(made.batch([0], [float(off_s)], [clock.now + off_s * S], clock.now))
    assert sorted(x for x in cell.trend(["LIT101"], 2, 1)["LIT101"][1:]) == [-86_400, 86_400]


def test_what_was_recovered_keeps_its_own_time(cell, made, clock):
    cell.on_catalog(made.catalog())
    cell.on_tags(made.batch([0], [1.0], [clock.now - 120 * S], clock.now, replayed=True))
    assert np.isnan(cell.trend(["LIT101"], 60)["LIT101"][1]).all()
    assert np.nanmax(cell.trend(["LIT101"], 180)["LIT101"][1]) == 1.0


def test_constant_tags_are_known_and_a_line_while_their_plc_speaks(cell, made, clock):
    begin = clock.now = 1_700_000_000 * S
    cell.on_catalog(made.catalog())
    cell.on_snapshot(made.batch([0, 1, 7], [1.0, 2.0, 3.0], [begin - 3600 * S] * 3, begin))
    assert [(t.value, t.quality, t.age_s) for t in cell.tags()] == [
        (1.0, "good", 3600.0),
        (2.0, "good", 3600.0),
    ]
    for second in range(1, 21):
        clock.now = begin + second * S
        if second <= 10:  # FIT101 changes, LIT101 does not; then the PLC is gone
            cell.on_tags(made.batch([1], [20.0 + second], [clock.now]))
        cell.on_snapshot(made.batch([0, 1], [9.0, 9.0], [begin] * 2, clock.now))  # what is known is newer
    times, _, high = cell.trend(["LIT101"], 30, 30)["LIT101"]
    drawn = [round(t - begin / S - 0.5) for t, v in zip(times, high, strict=True) if v == 1.0]
    assert drawn == list(range(1, 16))  # five seconds beyond the last that was heard
    assert cell.tags()[1].value == 30.0
    assert cell.tags()[1].age_s == 10.0


def test_another_catalogue_begins_anew_and_the_same_does_not(cell, made, clock):
    for names, kept in ((("LIT101", "FIT101"), 1.0), (("NEW", "LIT101"), float("nan"))):
        cell.on_catalog(made.catalog("PLC1", *names))
        if names[0] == "LIT101":
            cell.on_tags(made.batch([0], [1.0], [clock.now]))
            cell.on_catalog(made.catalog("PLC1", *names))
        value = next(t.value for t in cell.tags() if t.name == "LIT101")
        assert value == kept or (isnan(value) and isnan(kept))


def read(ring, now_ns, span_s=600):
    times, low, _ = ring.read(np.array([0]), now_ns, span_s, 1200)
    return [(t, v) for t, v in zip(times, low[0], strict=True) if not isnan(v)]


def add(ring, value, time_ns, now_ns):
    ring.add(np.array([0], np.uint32), np.array([value]), np.array([time_ns], np.int64), now_ns)


def test_the_ring_forgets_after_ten_minutes():
    ring = TrendRing(1)
    begin = 1_000_000 * STEP_NS
    add(ring, 1.0, begin, begin)
    add(ring, 2.0, begin + (SLOTS - 1) * STEP_NS, begin + (SLOTS - 1) * STEP_NS)
    assert [v for _, v in read(ring, begin + (SLOTS - 1) * STEP_NS)] == [1.0, 2.0]
    add(ring, 3.0, begin + SLOTS * STEP_NS, begin + SLOTS * STEP_NS)  # takes the place of the first
    assert [v for _, v in read(ring, begin + SLOTS * STEP_NS)] == [2.0, 3.0]
    add(ring, 4.0, begin, begin + SLOTS * STEP_NS)  # too old
    assert [v for _, v in read(ring, begin + SLOTS * STEP_NS)] == [2.0, 3.0]


def test_the_ring_begins_anew_when_the_clock_is_set_back():
    ring = TrendRing(1)
    now = 1_000_000 * STEP_NS
    add(ring, 1.0, now, now)
    add(ring, 2.0, now - SLOTS * STEP_NS, now - SLOTS * STEP_NS)
    assert [v for _, v in read(ring, now - SLOTS * STEP_NS)] == [2.0]
    assert read(ring, now) == []


# Verdicts -----------------------------------------------------------------------
def test_devices_know_since_when_they_are_what_they_are(cell, made, clock):
    for i, decision in enumerate((Screening.ALLOW, Screening.BLOCK, Screening.BLOCK)):
        category = "benign" if decision == Screening.ALLOW else "dos"
        cell.on_fused(made.window(clock.now + i * S, made.verdict("PLC1", decision, category)))
    device = cell.devices()[0]
    assert (device.decision, device.category, device.since_ns, device.at_ns) == (
        Screening.BLOCK, "dos", clock.now, clock.now + 2 * S,
    )  # fmt: skip
    assert [(b.start_s, b.end_s, b.decision) for b in cell.bands("PLC1")] == [
        (clock.now / 1e9, clock.now / 1e9 + 2, Screening.BLOCK)
    ]
    assert cell.bands("HMI1") == cell.bands("nobody") == ()


def test_a_device_without_verdicts_is_no_longer_what_it_was(cell, made, clock, monkeypatch):
    monkeypatch.setattr(verdict_board, "MOST_DEVICES", 4)
    scan = made.verdict("aa:bb", Screening.BLOCK, "recon")
    cell.on_fused(made.window(clock.now, made.verdict("PLC1", Screening.ALLOW), scan))
    for i in range(1, verdict_board.GONE):
        cell.on_fused(made.window(clock.now + i * S, made.verdict("PLC1", Screening.ALLOW)))
    assert {d.name: d.decision for d in cell.devices()}["aa:bb"] == Screening.BLOCK
    end = clock.now + verdict_board.GONE * S
    cell.on_fused(made.window(end, made.verdict("PLC1", Screening.ALLOW)))
    decided = {d.name: d.decision for d in cell.devices()}
    assert (decided["aa:bb"], decided["PLC1"]) == (Screening.UNKNOWN, Screening.ALLOW)
    assert cell.bands("aa:bb")  # what it did is not forgotten
    cell.on_fused(made.window(end + S, *(made.verdict(name) for name in ("aa:cc", "aa:dd", "aa:ee"))))
    assert "aa:bb" not in {d.name for d in cell.devices()}  # it makes room


def test_a_gap_or_another_decision_begins_another_band(cell, made, clock):
    for at, decision in ((0, Screening.BLOCK), (1, Screening.SUSPICIOUS), (5, Screening.SUSPICIOUS)):
        cell.on_fused(made.window(clock.now + at * S, made.verdict("PLC1", decision)))
    assert [round(b.start_s - clock.now / 1e9) for b in cell.bands("PLC1")] == [-1, 0, 4]
    clock.now += 300 * S
    assert [round(b.end_s - clock.now / 1e9 + 300) for b in cell.bands("PLC1", 297)] == [5]


def test_kinds_of_devices(cell, made):
    cell.on_catalog(TagCatalog("PLC1", (*made.catalog().tags, made.catalog("MB401", "PIT401").tags[0])))
    cell.on_fused(made.window(S, made.verdict("aa:bb"), made.verdict("HMI1")))
    assert {d.name: d.kind for d in cell.devices()} == {
        "PLC1": "plc", "HMI1": "network", "MB401": "process", "aa:bb": "stranger",
    }  # fmt: skip


def test_a_flood_of_strangers_finds_an_end(cell, made, monkeypatch):
    monkeypatch.setattr(verdict_board, "MOST_DEVICES", 4)
    monkeypatch.setattr(verdict_board, "MOST_EXPLANATIONS", 3)
    cell.on_fused(made.window(S, *(made.verdict(f"aa:{i}") for i in range(50))))
    cell.on_attribution(1, S, "aa:49", {"x": 1.0}, "")
    assert len(cell.devices()) == 4
    cell.on_fused(made.window(2 * S, *(made.verdict("PLC1", category=f"c{i}") for i in range(50))))
    kept = [i for i in range(50) if cell.explanation(f"PLC1/c{i}")]
    assert kept == [47, 48, 49]


def test_the_gravest_window_of_an_occurrence_explains_an_alarm(cell, made, clock):
    says = [
        (0, Screening.SUSPICIOUS, 0.6),
        (1, Screening.BLOCK, 0.97),
        (2, Screening.SUSPICIOUS, 0.7),
        (3, Screening.BLOCK, 0.98),
    ]
    for at, decision, probability in says:
        cell.on_fused(
            made.window(clock.now + at * S, made.verdict("PLC1", decision, probability=probability))
        )
    view = cell.explanation("PLC1/dos")
    assert (view.probability, view.end_ns, view.first_ns) == (0.98, clock.now + 3 * S, clock.now)
    assert view.sentence == "PLC1: BLOCK, dos"
    assert view.violations[0].attack_id == "T0814"
    assert view.contributions[0] == Contribution("rules", 1.0, 2.0)
    later = clock.now + 3600 * S  # it comes anew: the old one explains nothing any more
    cell.on_fused(made.window(later, made.verdict("PLC1", Screening.SUSPICIOUS, probability=0.6)))
    assert (cell.explanation("PLC1/dos").probability, cell.explanation("PLC1/dos").first_ns) == (0.6, later)


def test_what_moved_the_models_goes_to_the_occurrence_it_belongs_to(cell, made, clock):
    cell.on_attribution(1, clock.now - 100 * S, "PLC1", {"old": 0.5}, "old")
    cell.on_fused(made.window(clock.now))
    assert cell.explanation("PLC1/dos").shares == ()
    cell.on_attribution(2, clock.now, "PLC1", {"b": 0.31, "a": -0.02}, "the models go by b")
    cell.on_fused(made.window(clock.now + S))
    view = cell.explanation("PLC1/dos")
    assert (view.shares, view.shares_in_words) == ((("b", 0.31), ("a", -0.02)), "the models go by b")


def test_verdicts_are_told_newest_first(cell, made):
    for i in (1, 2, 3):
        cell.on_fused(made.window(i * S, made.verdict("PLC1"), made.verdict("HMI1", Screening.ALLOW)))
    assert [(w, v.device) for w, _, v in cell.verdicts(limit=3)] == [(3, "PLC1"), (3, "HMI1"), (2, "PLC1")]
    assert [w for w, _, _ in cell.verdicts("HMI1")] == [3, 2, 1]


def test_each_source_has_its_word(cell):
    for source, end_ns in (("rules", 1), ("ewad", 2), ("rules", 3)):
        screening, confidence = np.array([3], np.uint8), np.array([0.5], np.float32)
        cell.on_verdicts(Verdicts(source, 1, end_ns, 0, ("PLC1",), screening, confidence, abstained=""))
    assert [(s.source, s.screening, s.at_ns) for s in cell.sources("PLC1")] == [
        ("rules", 3, 3),
        ("ewad", 3, 2),
    ]


# Commands, alarms, health ---------------------------------------------------------
def test_commands_say_what_became_of_them(cell, made, clock):
    cell.on_command(made.command("waits"))
    cell.on_result(made.result("first"))  # its command comes later
    cell.on_command(made.command("first"))
    cell.on_command(made.command("written"))
    cell.on_result(made.result("written", CommandStatus.ACCEPTED, ""))
    clock.now += S
    assert [(c.command_id, c.status, c.words) for c in cell.commands()] == [
        ("written", "ACCEPTED", "written"),
        ("first", "WITHHELD", "advised, not written: the cell is not armed"),
        ("waits", "PENDING", "on its way"),
    ]
    assert cell.commands()[1].device == "PLC1"
    clock.now += 10 * S
    assert cell.commands()[2].status == "LAPSED"


def test_only_the_last_commands_are_kept(cell, made):
    for i in range(250):
        cell.on_command(made.command(f"c{i}"))
    assert len(cell.commands()) == 200
    assert cell.commands()[0].command_id == "c249"


def test_comments_lie_beside_their_alarm(cell):
    cell.on_comment("PLC1/dos", CommentView(1, "anna", "seen"))
    cell.on_comment("PLC1/web", CommentView(2, "anna", "other"))
    assert [c.text for c in cell.comments("PLC1/dos")] == ["seen"]


def test_health_counts_losses_over_all_lives_of_a_node(cell, clock):
    cell.on_health("link", 0, "connected", {"pid": "1", "dropped": "3", "late_samples": "0", "armed": "1"})
    cell.on_health(
        "link", 1, "reconnecting", {"pid": "2", "dropped": "1", "state": "CONNECTING", "armed": "1"}
    )
    cell.on_health("tap", 2, "blind", {"pid": "5", "latency": "7", "malformed": "2"})
    assert [(x.node, x.what, x.count) for x in cell.losses()] == [
        ("link", "dropped", 4),
        ("tap", "malformed", 2),
    ]
    link = cell.nodes()[0]
    assert (link.level, link.message, link.restarts, link.counters) == (
        "warn", "reconnecting", 1, {"dropped": 4.0, "armed": 1.0},
    )  # fmt: skip
    assert cell.armed() == {"link": True}
    clock.now += 5 * S
    assert [n.level for n in cell.nodes()] == ["silent", "silent"]
    assert cell.armed() == {"link": None}


def test_traffic_adds_up_what_was_lost(cell):
    columns = ("network_packets_all_count",)
    values = np.array([[8.0], [np.nan]], np.float32)
    for _ in range(2):
        cell.on_traffic(TrafficBatch(1, 0, 2 * S, columns, ("PLC1", "HMI1"), values, 10, 1, 2, 3))
    found = cell.traffic()
    assert (found.packets_per_s, found.devices) == (5.0, {"PLC1": 4.0, "HMI1": 0.0})
    assert (found.malformed, found.dropped, found.late) == (2, 4, 6)


def test_versions_grow_with_what_changed_only(cell, made, clock):
    cell.on_alarms((made.alarm(),), 0)
    before = dict(cell.versions)
    cell.on_command(made.command())
    assert cell.versions == before | {"commands": 1}
    assert cell.heard_ns["commands"] == clock.now
    assert cell.version == 2


def test_reading_while_writing_never_sees_half_of_it(cell, made, clock):
    """Each batch sets both tags alike: no reader may see them differ."""
    cell.on_catalog(made.catalog())
    stop, seen = threading.Event(), []

    def look():
        while not stop.is_set():
            first, second = cell.tags()
            if first.value != second.value and not isnan(first.value):
                seen.append((first.value, second.value))

    reader = threading.Thread(target=look)
    reader.start()
    for i in range(300):
        cell.on_tags(made.batch([0, 1], [float(i)] * 2, [clock.now + i] * 2))
    stop.set()
    reader.join()
    assert seen == []
