"""The candidate: where it may go, and what a crash or a hand at the registry leaves of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from cellwatch.models.registry.bundle import BundleError, read
from cellwatch.models.registry.candidate import Candidate
from cellwatch.models.registry.candidate_file import CandidateFile
from cellwatch.models.registry.registry import CANDIDATE, Registry
from cellwatch.models.types import Stage

SHADOW = Candidate("b1", "a1", since_ns=1, scenario="A", reason="false alarms", figures={"errors": 0.1})
CANARY = SHADOW.promote(2, ("PLC1",), "gate")
ACTIVE = CANARY.promote(3)
ACCEPTED = ACTIVE.promote(4)


def test_the_way_into_service():
    assert (CANARY.stage, CANARY.devices, CANARY.since_ns, CANARY.reason) == (
        Stage.CANARY, ("PLC1",), 2, "gate",
    )  # fmt: skip
    assert (ACTIVE.stage, ACTIVE.devices, ACCEPTED.stage) == (Stage.ACTIVE, ("PLC1",), Stage.ACCEPTED)
    assert [c.judging for c in (SHADOW, CANARY, ACTIVE)] == [True, True, False]
    assert [c.open for c in (SHADOW, CANARY, ACTIVE, ACCEPTED)] == [True, True, True, False]
    held = SHADOW.hold("wait for the shift to end")
    assert (held.held, held.stage, held.since_ns, held.reason) == (
        True, Stage.SHADOW, 1, "wait for the shift to end",
    )  # fmt: skip
    assert held.release().held is False
    assert held.promote(5, ("PLC1",)).held is False  # by hand, whoever held it
    assert SHADOW.reject(6, "slow").stage == CANARY.reject(6).stage == Stage.REJECTED
    assert ACTIVE.roll_back(7).stage == ACCEPTED.roll_back(7).stage == Stage.ROLLED_BACK


@pytest.mark.parametrize(
    ("candidate", "move", "words"),
    [
        (SHADOW, lambda c: c.promote(1), "needs a device"),
        (SHADOW, lambda c: c.release(), "is not held"),
        (SHADOW, lambda c: c.roll_back(1), "not in service: SHADOW"),
        (ACTIVE, lambda c: c.reject(1), "roll it back"),
        (ACCEPTED, lambda c: c.promote(1), "was accepted"),
        (ACCEPTED, lambda c: c.hold(), "was accepted"),
        (SHADOW.reject(1), lambda c: c.promote(1), "was rejected"),
        (ACTIVE.roll_back(1), lambda c: c.roll_back(1), "not in service: ROLLED_BACK"),
    ],
)
def test_what_cannot_be_is_refused(candidate, move, words):
    with pytest.raises(ValueError, match=words):
        move(candidate)


@pytest.mark.parametrize(
    ("candidate", "current", "stage"),
    [
        (SHADOW, "a1", Stage.SHADOW),
        (CANARY, "b1", Stage.ACTIVE),
        (SHADOW, "b1", Stage.ACTIVE),
        (CANARY, "c1", Stage.REJECTED),
        (ACTIVE, "b1", Stage.ACTIVE),
        (ACTIVE, "a1", Stage.ROLLED_BACK),
        (ACTIVE, "c1", Stage.ROLLED_BACK),
        (ACCEPTED, "a1", Stage.ROLLED_BACK),
        (ACCEPTED, "c1", Stage.ACCEPTED),  # another one came after it
    ],
)
def test_what_is_in_service_says_where_it_stands(candidate, current, stage):
    assert candidate.beside(current, 9).stage == stage
    assert candidate.beside(current, 9).beside(current, 10) == candidate.beside(current, 9)


@pytest.mark.parametrize("candidate", [SHADOW, CANARY.hold("x"), ACCEPTED])
def test_text_and_back(candidate):
    assert Candidate.from_json(candidate.to_json()) == candidate


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"format": 1}', SHADOW.to_json().replace("SHADOW", "SHADE"),
     SHADOW.to_json().replace('"since_ns": 1', '"since_ns": 1e28'),
     SHADOW.to_json().replace('"since_ns": 1', f'"since_ns": {2**63}'),
     SHADOW.to_json().replace('"A"', '"C"'), SHADOW.to_json().replace('"held": false', '"held": 0'),
     SHADOW.to_json().replace('"devices": []', '"devices": [1]'),
     SHADOW.to_json().replace('"devices": []', '"devices": "PLC1"'),
     SHADOW.to_json().replace('"false alarms"', "null"),
     SHADOW.to_json().replace('"b1"', '"../b"'), SHADOW.to_json().replace('"format": 1', '"format": 9')],
)  # fmt: skip
def test_another_text_is_no_candidate(text):
    with pytest.raises(ValueError):
        Candidate.from_json(text)


# The file ------------------------------------------------------------------------


@pytest.fixture
def registry(tmp_path, keys):
    return Registry(tmp_path / "r", keys)


@pytest.fixture
def versions(registry, manifest, files):
    return [registry.add(replace(manifest, lineage={"seed": i}), files) for i in range(3)]


@pytest.fixture
def file(registry, versions):
    """A candidate in shadow beside the version in service."""
    registry.promote(versions[2])
    registry.promote(versions[0])
    made = CandidateFile(registry)
    made.propose(versions[1], registry.load(), 1, scenario="B", reason="misses")
    return made


def test_into_service_and_back_to_its_parent(file, registry, versions):
    parent, version, older = versions
    assert file.read() == Candidate(version, parent, since_ns=1, scenario="B", reason="misses")
    with pytest.raises(ValueError, match="is on its way: SHADOW"):
        file.propose(older, registry.load(), 2)
    file.promote(2, devices=("PLC1",))
    assert registry.current == parent
    file.promote(3, reason="gate")
    assert registry.current == version
    assert file.settle(4) == file.read()
    file.promote(5)
    assert file.roll_back(6, "worse").stage == Stage.ROLLED_BACK
    assert registry.current == parent
    assert registry.rollback() == older  # and not to the one that was rolled back
    with pytest.raises(ValueError, match="not in service"):
        file.roll_back(7)


def test_what_the_cell_cannot_serve_stays_a_canary(file, registry, versions):
    def never(bundle) -> None:
        raise ValueError(f"not {bundle.version}")

    file.promote(2, devices=("PLC1",))
    with pytest.raises(ValueError, match=f"not {versions[1]}"):
        file.promote(3, check=never)
    assert (file.read().stage, registry.current) == (Stage.CANARY, versions[0])


def test_models_of_the_release_are_kept_so_that_there_is_a_way_back(tmp_path, keys, registry, versions):
    shipped = Registry(tmp_path / "elsewhere", keys)
    shipped.promote(shipped.add(replace(registry.load(versions[0]).manifest, lineage={"seed": 9}),
                                registry.load(versions[0]).files))  # fmt: skip
    parent = shipped.load()
    file = CandidateFile(registry)
    file.propose(versions[1], parent, 1)
    assert registry.current == parent.version
    file.promote(2, devices=("PLC1",))
    file.promote(3)
    file.roll_back(4)
    assert registry.load().version == parent.version


def test_a_crash_between_the_two_writes_is_mended(file, registry, versions):
    file.promote(2, devices=("PLC1",))
    registry.promote(versions[1])  # the first of the two writes; then kill -9
    assert file.read().stage == Stage.ACTIVE
    assert file.settle(3).stage == Stage.ACTIVE
    registry.rollback()  # the first of two again, or an operator's own
    assert file.settle(4).stage == Stage.ROLLED_BACK
    assert CandidateFile(registry).read().reason == f"{versions[0]} is in service instead"


def test_a_damaged_file_is_said_and_means_none(file, registry, versions):
    (registry.folder / CANDIDATE).write_text('{"format": 1, "vers')
    for ask in (file.read, lambda: file.settle(1), lambda: file.hold(1)):
        with pytest.raises(BundleError, match=r"candidate.json: cannot be read .*: no candidate"):
            ask()
    assert file.propose(versions[1], registry.load(), 5).since_ns == 5


def test_without_a_candidate_there_is_nothing_to_move(registry, versions, tmp_path, keys):
    for place in (registry, Registry(tmp_path / "nowhere", keys)):
        file = CandidateFile(place)
        assert file.read() is None
        assert file.settle(1) is None
        with pytest.raises(ValueError, match="there is no candidate"):
            file.reject(1)
    assert not (tmp_path / "nowhere").exists()


def test_gc_spares_the_candidate_and_its_parent(file, registry, versions):
    assert registry.gc(keep=0) == [versions[2]]
    file.promote(2, devices=("PLC1",))
    file.promote(3)
    assert registry.gc(keep=0) == []
    file.roll_back(4)
    assert registry.current == versions[0]
    assert registry.gc(keep=0) == [versions[1]]


def test_of_a_bundle_only_some_files_are_read(registry, versions, keys):
    place = registry.path(versions[0])
    (place / "L1-XGB.onnx").write_bytes(b"not looked at")
    found = read(place, keys, only=("profile.json", "fusion.json"))
    assert (found.version, list(found.files)) == (versions[0], ["profile.json"])
    (place / "profile.json").write_text("[1]")
    with pytest.raises(BundleError, match="sha256"):
        read(place, keys, only=("profile.json",))


CHILD = """
import sys
from pathlib import Path
from cellwatch.models.registry.candidate_file import CandidateFile
from cellwatch.models.registry.keys import Keys
from cellwatch.models.registry.registry import Registry

folder, parent, version = Path(sys.argv[1]), *sys.argv[2:]
file = CandidateFile(Registry(folder, Keys(folder.parent / "keys")))
there = file.settle(1)
if there is not None and there.open:
    file.roll_back(1) if not there.judging else file.reject(1)
now = 1
while True:
    now += 1
    file.propose(version, file.registry.load(parent), now, reason="x" * (now % 5000))
    file.promote(now, devices=("PLC1",))
    file.hold(now)
    file.promote(now)
    file.roll_back(now)
    if now == 2:
        print("ready", flush=True)
"""


def test_kill_9_leaves_a_whole_candidate_that_fits_what_is_served(registry, versions):
    parent, version, _ = versions
    registry.promote(parent)
    for i in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(registry.folder), parent, version], stdout=subprocess.PIPE
        )
        assert child.stdout.readline() == b"ready\n"
        time.sleep(0.01 + 0.053 * i)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        found = CandidateFile(registry).settle(5)
        in_service = version if found.stage in (Stage.ACTIVE, Stage.ACCEPTED) else parent
        assert registry.load().version == in_service
