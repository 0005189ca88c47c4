"""A candidate on its way: real registry, real gate; the process that judges beside is stood in for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from cellwatch.models.drift.promotion_gate import GateSettings
from cellwatch.models.registry.candidate_file import CandidateFile
from cellwatch.models.registry.registry import Registry
from cellwatch.models.types import FusedVerdict, FusedWindow, Screening, SettledLabels, Stage
from cellwatch.nodes.candidate_watch import SILENT, CandidateWatch

S = 1_000_000_000
DEVICES = ("A", "B", "C", "D")
EASY = GateSettings(windows=20, labelled=40, probation_windows=20, lost=1.0, behind=1)


class Beside:
    """Whom the watch wants to judge beside; it runs until it is stopped or dies."""

    def __init__(self):
        self.version, self.running, self.died, self.starts = "", False, False, []

    def start(self, registry, version):
        self.version, self.running, self.died = version, True, False
        self.starts.append(version)

    def stop(self):
        self.running = False

    def poll(self):
        pass

    def die(self):
        self.running, self.died = False, True

    def last_words(self):
        return "no memory"


def fused(i, objected=()):
    verdicts = tuple(
        FusedVerdict(d, Screening.BLOCK if d in objected else Screening.ALLOW, 0.1, 0.5) for d in DEVICES
    )
    return FusedWindow(i, i * S, i * S, verdicts)


class Cell:
    """Time, windows and labels for a watch."""

    def __init__(self, folder, keys, manifest, files, *, promote=True):
        self.registry = Registry(folder, keys)
        self.old, self.new = (
            self.registry.add(replace(manifest, lineage={"seed": i}), files) for i in range(2)
        )
        self.registry.promote(self.old)
        self.beside, self.news, self.now, self.window = Beside(), [], S, 0
        self.file = CandidateFile(self.registry)
        self.watch = CandidateWatch(
            self.file, self.beside, window_s=1.0, promote=promote, share=0.25, news=self.news.append,
            settings=EASY,
        )  # fmt: skip
        self.watch.model(self.old)
        self.watch.propose(self.new, self.registry.load(self.old), self.now, "A", "drift", {})

    def step(self, seconds=6):
        self.now += seconds * S
        self.watch.model(self.registry.current)
        self.watch.step(self.now)

    @property
    def state(self):
        return self.watch.state(self.now)

    def windows(self, count, *, served=(), beside=(), labels=True):
        """So many windows; the devices named are objected to by what is in service, or by the other."""
        for _ in range(count):
            self.window += 1
            for hear, objected in ((self.watch.served, served), (self.watch.beside, beside)):
                hear(fused(self.window, objected), 0.01)
        if labels:
            ids = np.repeat(np.arange(self.window - count + 1, self.window + 1), len(DEVICES))
            each = np.tile(np.arange(len(DEVICES)), count)
            self.watch.labels(SettledLabels(0, DEVICES, ("benign",), ids, each, np.zeros_like(each)))


@pytest.fixture
def made(tmp_path, keys, manifest, files):
    return lambda **options: Cell(tmp_path / "r", keys, manifest, files, **options)


def test_from_shadow_to_service_by_itself(made):
    cell = made()
    seen = []
    for _ in range(4):
        cell.step()
        cell.step()  # the process that judged beside has ended
        seen.append((cell.state.stage, cell.beside.version, cell.registry.current))
        cell.windows(25)
        cell.step()
    cell.step()
    assert seen == [
        (Stage.SHADOW, cell.new, cell.old),
        (Stage.CANARY, cell.new, cell.old),
        (Stage.ACTIVE, cell.old, cell.new),  # its parent judges beside now
        (Stage.ACCEPTED, cell.old, cell.new),
    ]
    assert not cell.beside.running
    assert not cell.watch.busy
    assert len(cell.news) == 4


def test_the_canary_has_a_share_of_the_devices(made):
    cell = made()
    cell.step()
    cell.windows(25)
    cell.step()
    cell.step()
    assert (cell.state.stage, len(cell.state.devices)) == (Stage.CANARY, 1)
    assert cell.state.figures.windows == 0  # of this stage


def test_without_leave_it_stays_in_shadow_and_is_promoted_by_hand(made):
    cell = made(promote=False)
    cell.step()
    cell.windows(25)
    cell.step()
    cell.step()
    assert (cell.state.stage, cell.state.figures.labelled) == (Stage.SHADOW, 96)  # the first one began it
    cell.watch.move("promote", cell.now, "anna: looks good")
    cell.step()
    assert (cell.state.stage, cell.state.reason) == (Stage.CANARY, "anna: looks good")


def test_more_false_alarms_are_sent_away_unless_it_is_held(made):
    cell = made()
    cell.step()
    cell.watch.move("hold", cell.now, "anna: let me see")
    for k in range(40):  # each a stretch of its own
        cell.windows(1, beside=("A",) if k % 2 else ())
    cell.step()
    cell.step()
    assert (cell.state.stage, cell.state.held, cell.state.figures.false_alarms) == (Stage.SHADOW, True, 20)
    cell.watch.move("release", cell.now, "")
    cell.step()
    cell.step()
    assert cell.state.stage == Stage.REJECTED
    assert "more false alarms" in cell.state.reason
    assert not cell.beside.running
    assert cell.registry.current == cell.old


def test_what_is_worse_in_service_is_rolled_back(made):
    cell = made(promote=False)
    cell.step()
    cell.windows(1)
    for _ in range(2):
        cell.watch.move("promote", cell.now, "anna")
        cell.step()
    assert cell.registry.current == cell.new
    cell.step()
    for k in range(40):
        cell.windows(1, served=("A",) if k % 2 else ())
    cell.step()
    cell.step()
    assert cell.state.stage == Stage.ROLLED_BACK
    assert cell.registry.current == cell.old


def test_a_process_that_dies_is_started_again_but_not_for_ever(made):
    cell = made()
    cell.step()
    for _ in range(4):
        cell.beside.die()
        cell.step()
    assert cell.beside.starts == [cell.new] * 3
    cell.step()
    assert cell.state.stage == Stage.REJECTED
    assert cell.state.reason == f"version {cell.new} cannot judge beside: no memory"


def test_deaths_are_forgotten_after_a_while(made):
    cell = made()
    cell.step()
    for _ in range(5):
        cell.step(601)
        cell.beside.die()
        cell.step()
    assert cell.beside.starts == [cell.new] * 6
    assert cell.state.stage == Stage.SHADOW


@pytest.mark.parametrize("promote", [True, False])
def test_a_parent_that_cannot_judge_beside_ends_the_probation(made, promote):
    cell = made(promote=promote)
    cell.step()
    for _ in range(2):
        cell.watch.served(fused(1), 0.01)
        cell.watch.move("promote", cell.now, "anna")
        cell.step()
    assert (cell.state.stage, cell.registry.current) == (Stage.ACTIVE, cell.new)
    for _ in range(5):
        cell.beside.die()
        cell.step()
    cell.step()
    if promote:
        assert (cell.state.stage, cell.registry.current) == (Stage.ROLLED_BACK, cell.old)
    else:  # who promoted it by hand decides
        assert "promote, reject or roll it back" in cell.watch.trouble
        assert cell.registry.current == cell.new


def test_a_candidate_that_says_nothing_is_sent_away(made):
    cell = made()
    cell.step()
    for i in range(1, SILENT + 1):
        cell.watch.served(fused(i), 0.01)
    cell.step()
    assert cell.state.stage == Stage.SHADOW
    cell.watch.served(fused(SILENT + 1), 0.01)
    cell.step()
    cell.step()
    assert cell.state.stage == Stage.REJECTED
    assert cell.state.reason == "601 windows without a word of the version that judges beside"


def test_a_version_that_the_cell_does_not_take_is_taken_out(made):
    cell = made()
    cell.step()
    cell.watch.served(fused(1), 0.01)
    for _ in range(2):
        cell.watch.move("promote", cell.now, "anna")
        cell.step()
    for i in range(SILENT + 1):
        cell.watch.served(fused(i), 0.01)
    for _ in range(2):
        cell.now += 6 * S
        cell.watch.model(cell.old)  # the ensemble has refused it
        cell.watch.step(cell.now)
    assert (cell.state.stage, cell.registry.current) == (Stage.ROLLED_BACK, cell.old)
    assert cell.state.reason == f"the cell serves {cell.old}, not {cell.new}"


def test_moves_that_cannot_be(made):
    cell = made()
    with pytest.raises(ValueError, match="not in service"):
        cell.watch.move("roll_back", cell.now, "")


def test_a_damaged_file_means_that_there_is_no_candidate(made):
    cell = made()
    cell.step()
    cell.windows(25)
    cell.step()
    cell.step()
    assert cell.state.stage == Stage.CANARY
    (cell.registry.folder / "candidate.json").write_text("{")
    cell.step()
    assert (cell.state.stage, cell.watch.busy, cell.beside.running) == (Stage.NONE, False, False)
    assert "candidate" in cell.watch.trouble


def test_no_candidate(tmp_path, keys):
    watch = CandidateWatch(
        CandidateFile(Registry(tmp_path / "r", keys)), Beside(), window_s=1.0, promote=True, share=0.25,
        news=[].append,
    )  # fmt: skip
    watch.step(S)
    assert (watch.state(S).stage, watch.busy, watch.trouble) == (Stage.NONE, False, "")
