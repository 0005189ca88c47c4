"""Network against process: set-points that move by themselves, and values that repeat an old stretch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cellwatch.models.features.conversations import NOBODY
from cellwatch.models.features.tags import TAG_COLUMNS
from cellwatch.models.rules.crosscheck import CrossChecks
from cellwatch.models.rules.habits import Habit, Habits, Key
from cellwatch.models.rules.repeats import MEMORY, RUN, RepeatWatch
from cellwatch.models.types import (
    CommandResult,
    CommandStatus,
    FeatureWindow,
    Role,
    TagBatch,
    TagCatalog,
    TagInfo,
)

MS = 1_000_000
ASKED = Key("HMI1", Role.SERVER, "opcua", "opcua:Read", 4840)
WRITES = Key("HMI1", Role.SERVER, "opcua", "opcua:Write", 4840)
HABITS = {"PLC1": Habits(100, {ASKED: Habit(100, 0.5, 0), WRITES: Habit(9, 0.5, 40, writes=9)})}
TAGS = (
    TagInfo("LIC101_SP", "n1", "PLC1", writable=True),
    TagInfo("LIT101", "n2", "PLC1"),
    TagInfo("XS101_SAFE", "n3", "PLC1", writable=True, role="command"),
)


def wrote(count: int, by: str = "HMI1", refused: int = 0):
    """Conversations of a window in which the HMI asked, with so many writes."""
    one = np.zeros(1, np.uint32)
    return replace(
        NOBODY, names=(by, "opcua", "opcua:Write"), device=one, peer=one, role=one + Role.SERVER,
        protocol=one + 1, service=one + 2, port=one + 4840, packets=one + 1, writes=one + count,
        refused=one + refused, peers=one + 1, low=one.astype(np.int64) - 1, high=one.astype(np.int64) - 1,
    )  # fmt: skip


def window(number: int, spoken, *ranges: tuple[float, float], **more) -> FeatureWindow:
    """Least and largest value of each tag of TAGS."""
    values = np.full((len(TAGS), len(TAG_COLUMNS)), np.nan, np.float32)
    for k, (low, high) in enumerate(ranges):
        values[k, [TAG_COLUMNS.index("min"), TAG_COLUMNS.index("max")]] = low, high
    end = number * 1_000_000_000
    return FeatureWindow(
        number, end - 1_000_000_000, end, end, "x", ("PLC1", "HMI1"), np.zeros((2, 0), np.float32),
        tuple(tag.name for tag in TAGS), np.zeros(len(TAGS), np.uint32), values, conversations=spoken, **more,
    )  # fmt: skip


def checks(habits=HABITS) -> CrossChecks:
    made = CrossChecks(habits)
    made.catalog(TagCatalog("PLC1", TAGS))
    made.judge(window(1, NOBODY, (50, 50), (1, 2), (0, 0)))
    return made


def rules(found) -> list[tuple[int, float, str, str]]:
    return [(row, points, v.rule, v.feature) for row, points, v in found]


MOVED = [(0, 2.0, "set-point-without-write", "LIC101_SP/avg")]


def test_a_set_point_that_moves_with_no_write_seen():
    made = checks()
    # Measurements and what the cell itself commands move as they like.
    assert made.judge(window(2, NOBODY, (50, 50), (3, 9), (0, 1))) == []
    found = made.judge(window(3, NOBODY, (55, 55), (3, 9), (0, 1)))
    assert rules(found) == MOVED
    violation = found[0][2]
    assert (violation.observed, violation.low, violation.attack_id) == (55.0, 50.0, "T0836")
    assert made.judge(window(4, NOBODY, (55, 55))) == []
    assert rules(made.judge(window(5, NOBODY, (55, 60)))) == MOVED  # moved within the window


def test_a_write_explains_it_in_its_window_and_the_next():
    made = checks()
    assert made.judge(window(2, wrote(1), (55, 55))) == []
    assert made.judge(window(3, NOBODY, (60, 60))) == []  # what was written late shows in the next window
    assert rules(made.judge(window(4, NOBODY, (65, 65)))) == MOVED
    made = checks()
    assert rules(made.judge(window(2, wrote(0), (55, 55)))) == MOVED


def test_a_write_that_was_refused_or_of_a_stranger_explains_nothing():
    step = (55, 55)
    assert rules(checks().judge(window(2, wrote(1, by="02:00:00:00:00:04"), step))) == MOVED
    assert rules(checks().judge(window(2, wrote(2, refused=2), step))) == MOVED
    assert checks().judge(window(2, wrote(2, refused=1), step)) == []
    made = checks()
    made.command(CommandResult("c", 1, "LIC101_SP", 55.0, CommandStatus.REFUSED, decided_ns=1_900_000_000))
    assert rules(made.judge(window(2, NOBODY, step))) == MOVED


def test_other_habits_are_adopted_and_what_was_seen_goes_on():
    made = checks()
    stranger = "02:00:00:00:00:04"
    known = HABITS["PLC1"].conversations | {WRITES._replace(peer=stranger): Habit(9, 0.5, 40, writes=9)}
    made.adopt({"PLC1": Habits(100, known)})
    assert rules(made.judge(window(2, wrote(0), (55, 55)))) == MOVED  # it stood at 50 before
    assert made.judge(window(3, wrote(1, by=stranger), (60, 60))) == []


def test_what_moved_while_nobody_looked_is_taken_as_it_is():
    made = checks()
    assert made.judge(window(9, NOBODY, (55, 55))) == []  # windows were lost
    assert rules(made.judge(window(10, NOBODY, (60, 60)))) == MOVED
    assert made.judge(window(11, None, (65, 65))) == []
    assert made.judge(window(12, NOBODY, (70, 70))) == []  # written late in the window before, it may be
    assert rules(made.judge(window(13, NOBODY, (75, 75)))) == MOVED


def test_where_a_write_cannot_be_seen_the_rule_is_silent():
    step = window(2, NOBODY, (55, 55))
    assert checks().judge(replace(step, conversations=None)) == []
    assert checks().judge(replace(step, held=("PLC1",))) == []
    assert checks({}).judge(step) == []
    hidden = Key("HMI1", Role.SERVER, "opcua", "opcua:Message", 4840)  # encrypted
    assert checks({"PLC1": Habits(100, {ASKED: Habit(9, 1, 0), hidden: Habit(9, 1, 0)})}).judge(step) == []
    assert rules(checks().judge(step)) == MOVED


def test_what_the_cell_itself_wrote_is_no_mystery():
    made = checks()
    made.command(CommandResult("c", 1, "LIC101_SP", 55.0, CommandStatus.ACCEPTED, decided_ns=1_900_000_000))
    assert made.judge(window(2, NOBODY, (55, 55))) == []
    assert made.judge(window(3, NOBODY, (55, 57))) == []  # it may show a window later
    assert rules(made.judge(window(4, NOBODY, (60, 60)))) == MOVED


def test_a_gap_in_the_tag_is_no_move():
    made = checks()
    assert made.judge(window(2, NOBODY, (np.nan, np.nan))) == []
    assert made.judge(window(3, NOBODY, (50, 50))) == []
    assert rules(made.judge(window(4, NOBODY, (51, 51)))) == MOVED


# ---------------------------------------------------------------- repeated stretches
def batches(values: np.ndarray, *, start: int = 0, scans: int = 10, **more):
    """Rows of `values` (n, m) as samples every 100 ms, some rows a batch."""
    for first in range(0, len(values), scans):
        part = values[first : first + scans]
        row, tag = np.nonzero(np.isfinite(part))
        at = (start + first + row + 1).astype(np.int64) * 100 * MS
        yield TagBatch(
            "PLC1", first + 1, tag.astype(np.uint32), part[row, tag], np.zeros(len(row), np.uint32), at, at,
            int(at[-1]), **more,
        )  # fmt: skip


def fed(values: np.ndarray) -> RepeatWatch:
    watch = RepeatWatch(values.shape[1])
    for batch in batches(values):
        watch.add(batch)
    return watch


def noise(n: int, tags: int = 3) -> np.ndarray:
    return np.random.default_rng(7).normal(50, 1, (n, tags))


@pytest.mark.parametrize("period", [20, 80, 333])
def test_a_recording_that_is_played_again_is_found(period: int):
    x = noise(400)
    assert fed(x).repeating()[0].tolist() == []
    loop = np.concatenate([x, x[-period:]])
    loop[:, 2] = noise(len(loop), 1)[:, 0]  # one tag is not replayed
    tags, runs = fed(loop).repeating()
    assert tags.tolist() == [0, 1]
    assert (runs > period - 10).all()
    live = np.concatenate([loop, noise(430)[-8:]])
    assert fed(live).repeating()[0].tolist() == []


def test_a_few_samples_prove_nothing_and_the_memory_ends():
    x = noise(400)
    assert fed(np.concatenate([x, x[-50 : -50 + RUN // 2]])).repeating()[0].tolist() == []
    long_ago = noise(MEMORY + 60)
    assert fed(np.concatenate([long_ago, long_ago[:40]])).repeating()[0].tolist() == []


@pytest.mark.parametrize(
    "natural",
    [
        np.arange(600) % 2,  # a switch
        np.arange(600) % 50,  # a counter, a sawtooth
        np.sin(np.arange(600) * 2 * np.pi / 40).round(6),  # a clean oscillation
        np.round(np.random.default_rng(1).normal(0, 1, 600)),  # a coarse reading
        np.full(600, 3.0),
    ],
    ids=["switch", "counter", "sine", "coarse", "constant"],
)
def test_what_repeats_by_nature_is_not_judged(natural: np.ndarray):
    assert fed(natural[:, None].astype(float)).repeating()[0].tolist() == []


def test_batches_cut_anywhere_and_late_samples_change_nothing():
    x = noise(300)
    loop = np.concatenate([x, x[-100:]])
    whole, pieces, disturbed = RepeatWatch(3), RepeatWatch(3), RepeatWatch(3)
    for batch in batches(loop, scans=400):
        whole.add(batch)
    for batch in batches(loop, scans=7):
        pieces.add(batch)
        disturbed.add(batch)
    for batch in batches(noise(50), start=20, replayed=True):  # recovered from the past
        disturbed.add(batch)
    for batch in batches(noise(50), start=20):  # older than what came
        disturbed.add(batch)
    bad = next(batches(noise(1), start=500))
    disturbed.add(replace(bad, status=np.full(3, 0x80000000, np.uint32)))
    disturbed.add(replace(bad, tag=bad.tag + 10))
    expected = [part.tolist() for part in whole.repeating()]
    assert expected[0] == [0, 1, 2]
    assert [part.tolist() for part in pieces.repeating()] == expected
    assert [part.tolist() for part in disturbed.repeating()] == expected


def test_a_repetition_becomes_one_violation_of_the_device():
    made = checks()
    x = noise(300)
    made.tags(TagBatch("PLC9", 1, *(np.zeros(1, t) for t in (np.uint32, float, np.uint32, int, int)), 1))
    for batch in batches(np.concatenate([x, x[-60:]])):
        made.tags(batch)
    ((row, points, violation),) = made.judge(window(2, NOBODY))
    assert (row, points, violation.rule) == (0, 4.0, "repeated-stretch")
    assert violation.feature in {"LIC101_SP/repeats", "LIT101/repeats", "XS101_SAFE/repeats"}
    assert violation.observed > violation.high == RUN - 1


def test_a_repetition_is_told_as_long_as_it_goes_on():
    made = checks()
    x = noise(300)
    loop = list(batches(np.concatenate([x, x[-60:]])))
    for batch in loop[:-1]:
        made.tags(batch)
    assert len(made.judge(window(2, NOBODY))) == 1
    made.tags(loop[-1])
    assert len(made.judge(window(3, NOBODY))) == 1
    assert made.judge(window(4, NOBODY)) == []  # the tags say nothing any more
