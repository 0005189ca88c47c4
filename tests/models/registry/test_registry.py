"""Versions: added, promoted, rolled back, removed; and nothing half done when the process is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cellwatch.models.registry.bundle import BundleError, read, write
from cellwatch.models.registry.candidate_file import CandidateFile
from cellwatch.models.registry.keys import Keys
from cellwatch.models.registry.model_set import open_set
from cellwatch.models.registry.registry import POINTER, Registry


@pytest.fixture
def registry(tmp_path, keys):
    return Registry(tmp_path / "r", keys)


@pytest.fixture
def three(registry, manifest, files):
    return [registry.add(replace(manifest, lineage={"seed": i}), files) for i in range(3)]


def test_promote_and_roll_back(registry, three):
    a, b, c = three
    assert registry.current == ""
    with pytest.raises(BundleError, match="no version was promoted"):
        registry.load()
    for version in (a, b, c, b):
        registry.promote(version)
    assert registry.load().version == b
    assert [registry.rollback(), registry.rollback()] == [c, a]
    assert registry.current == a
    with pytest.raises(BundleError, match="no earlier"):
        registry.rollback()


def test_the_same_models_are_the_same_version(registry, manifest, files):
    assert registry.add(manifest, files) == registry.add(manifest, files)
    assert len(registry.versions()) == 1


def test_a_damaged_version_is_mended_by_adding_it_again(registry, three, manifest, files):
    (registry.path(three[0]) / "profile.json").write_text("[1]")
    assert registry.add(replace(manifest, lineage={"seed": 0}), files) == three[0]
    assert registry.load(three[0]).files == files
    assert [v.state for v in registry.versions()] == ["idle"] * 3
    assert all(p.name.isalnum() for p in (registry.folder / "versions").iterdir())


def test_what_is_no_registry_is_left_as_it_is(tmp_path, keys, manifest, files):
    alone, nowhere = Registry(tmp_path / "b", keys), Registry(tmp_path / "n", keys)
    write(alone.folder, manifest, files, keys)
    for place, word in ((alone, "one bundle"), (nowhere, "not a registry")):
        for act in (lambda p: p.promote("abc"), Registry.rollback, Registry.gc):
            with pytest.raises(BundleError, match=word):
                act(place)
        assert place.versions() == []
    with pytest.raises(BundleError, match="one bundle"):
        alone.add(manifest, files)
    assert not nowhere.folder.exists()
    assert read(alone.folder, keys).files == files


def test_nothing_is_added_without_a_key(tmp_path, manifest, files):
    with pytest.raises(BundleError, match="without a key"):
        Registry(tmp_path / "r", None).add(manifest, files)
    assert not (tmp_path / "r").exists()


def test_what_the_asker_refuses_is_not_promoted(registry, three):
    def never(bundle) -> None:
        raise ValueError(f"not {bundle.version}")

    registry.promote(three[0])
    registry.promote(three[1])
    with pytest.raises(ValueError, match=f"not {three[2]}"):
        registry.promote(three[2], never)
    with pytest.raises(ValueError, match=f"not {three[0]}"):
        registry.rollback(never)
    assert registry.current == three[1]


def test_gc_before_the_first_promotion_removes_nothing(registry, three):
    assert registry.gc(keep=0) == []
    assert len(registry.versions()) == 3


def test_the_list_says_what_each_is(registry, three):
    a, b, c = three
    registry.promote(a)
    registry.promote(b)
    (registry.path(c) / "profile.json").write_text("[1]")
    found = {v.version: v for v in registry.versions()}
    assert [v.version for v in registry.versions()][:2] == [b, a]
    assert (found[b].state, found[a].state, found[c].state) == ("current", "previous", "refused")
    assert "sha256" in found[c].why
    assert found[b].models == 1
    assert found[b].site == "bench"
    assert found[b].size_bytes > 0


def test_what_cannot_be_loaded_is_not_promoted(registry, three):
    a, b, _ = three
    registry.promote(a)
    (registry.path(b) / "L1-XGB.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match="sha256"):
        registry.promote(b)
    assert registry.current == a
    for name in ("nothing", "../r", "", "."):
        with pytest.raises(BundleError, match="no version"):
            registry.path(name)


def test_what_is_unwanted_is_dropped_unless_it_was_served_or_is_a_candidate(registry, manifest, files):
    versions = [registry.add(replace(manifest, lineage={"seed": i}), files) for i in range(6)]
    for version in versions[:2]:
        registry.promote(version)
    CandidateFile(registry).propose(versions[2], registry.load(), 0)
    (registry.path(versions[5]) / "manifest.json").write_text("{")
    assert registry.drop(lambda m: m.lineage["seed"] != 9, but=versions[3]) == [versions[4]]
    assert sorted(v.version for v in registry.versions()) == sorted(set(versions) - {versions[4]})


def test_gc_keeps_what_is_served_and_what_was(registry, three):
    a, b, c = three
    registry.promote(a)
    registry.promote(b)
    assert registry.gc(keep=1) == [c]
    assert registry.gc(keep=0) == [a]
    assert registry.current == b
    with pytest.raises(BundleError, match="no earlier"):
        registry.rollback()


def test_a_damaged_pointer_is_said_and_mended_by_promoting(registry, three):
    registry.promote(three[0])
    (registry.folder / POINTER).write_text("{")
    with pytest.raises(BundleError, match="promote a version anew"):
        registry.load()
    registry.promote(three[1])
    assert registry.load().version == three[1]


def test_a_version_under_another_name_is_refused(registry, three):
    registry.path(three[0]).rename(registry.folder / "versions" / "abc")
    with pytest.raises(BundleError, match="holds version"):
        registry.load("abc")


def test_open_set_takes_a_registry_or_a_bundle(registry, three, keys):
    registry.promote(three[1])
    served = open_set(registry.folder, keys, "s1", 1.0, "bench")
    assert (served.folder, served.path) == (registry.folder, registry.path(three[1]))
    alone = open_set(registry.path(three[2]), keys, "s1", None)
    assert alone.folder == alone.path
    assert alone.bundle.version == three[2]
    with pytest.raises(BundleError, match="factory"):
        open_set(registry.folder, keys, "s1", 1.0, "factory")


CHILD = """
import sys
from dataclasses import replace
from pathlib import Path
from cellwatch.models.registry.bundle import read
from cellwatch.models.registry.keys import Keys
from cellwatch.models.registry.registry import Registry

folder, first = Path(sys.argv[1]), sys.argv[2]
registry = Registry(folder, Keys(folder.parent / "keys"))
bundle = registry.load(first)
print("ready", flush=True)
seed = 0
while True:
    seed += 1
    version = registry.add(replace(bundle.manifest, lineage={"seed": seed}), bundle.files)
    registry.promote(version)
    if seed % 3 == 0:
        registry.rollback()
        registry.gc(keep=2)
"""


def test_kill_9_leaves_the_old_or_the_new(registry, three, keys):
    registry.promote(three[0])
    child = None
    for i in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(registry.folder), registry.current], stdout=subprocess.PIPE
        )
        assert child.stdout.readline() == b"ready\n"
        time.sleep(0.03 + 0.037 * i)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
        assert registry.load().version == registry.current
        assert [v.why for v in registry.versions() if v.state == "refused"] == []
    registry.gc(keep=1)
    names = [p.name for p in (registry.folder / "versions").iterdir()]
    assert all(n.isalnum() for n in names)
    assert registry.current in names


def test_two_at_once_make_one_key(tmp_path):
    code = "import sys; from pathlib import Path; from cellwatch.models.registry.keys import Keys; "
    code += "print(Keys(Path(sys.argv[1])).sign(b'x'))"
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "k")], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    first, second = (p.communicate()[0].strip() for p in both)
    assert first == second
    assert Keys(Path(tmp_path / "k")).signed(b"x", first)


def test_what_a_crash_left_half_removed_is_swept_away(registry, three):
    a, b, c = three
    registry.promote(c)
    rest = registry.folder / "versions" / f".gone-{a}"
    rest.mkdir()
    (rest / "manifest.json").write_text("{}")
    assert sorted(registry.gc(keep=0)) == sorted([a, b])
    assert [v.version for v in registry.versions()] == [c]
    assert not list((registry.folder / "versions").glob(".*"))
