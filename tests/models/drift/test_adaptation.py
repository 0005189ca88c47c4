"""D_benign and D_attack: disjoint, stored under their fingerprint."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.drift.adaptation import AdaptationSet


def adaptation(**changed):
    parts = {
        "x": np.arange(10, dtype=np.float32).reshape(5, 2),
        "y": np.array([0, 3, 0, 1, 0]),
        "ids": np.array(["1/PLC1", "1/PLC2", "2/PLC1", "2/PLC2", "3/PLC1"]),
    }
    return AdaptationSet.of(**(parts | changed))


def test_the_sets_are_disjoint_and_whole():
    found = adaptation()
    assert found.benign.ids.tolist() == ["1/PLC1", "2/PLC1", "3/PLC1"]
    assert found.attack.ids.tolist() == ["1/PLC2", "2/PLC2"]
    assert found.attack.y.tolist() == [3, 1]
    assert found.attack.x.tolist() == [[2, 3], [6, 7]]
    assert (len(found.benign), len(found.attack)) == (3, 2)


def test_a_sample_cannot_be_in_both():
    with pytest.raises(ValueError, match="'1/PLC1' occurs twice"):
        adaptation(ids=np.array(["1/PLC1", "1/PLC1", "2/PLC1", "2/PLC2", "3/PLC1"]))


def test_parts_that_do_not_belong_together():
    with pytest.raises(ValueError, match="do not belong together"):
        adaptation(y=np.array([0, 1]))


def test_it_comes_back_as_it_was(tmp_path):
    before = adaptation(x=np.array([[1, np.nan]] * 5, np.float32))
    path = before.save(tmp_path / "sets")
    after = AdaptationSet.load(path)
    assert path.stem == before.fingerprint == after.fingerprint
    assert np.array_equal(after.benign.x, before.benign.x, equal_nan=True)
    assert after.attack.ids.tolist() == before.attack.ids.tolist()
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("part", ["x", "y", "ids"])
def test_every_change_changes_the_fingerprint(part):
    changed = {
        "x": np.zeros((5, 2), np.float32),
        "y": np.array([0, 2, 0, 1, 0]),
        "ids": np.array(list("abcde")),
    }
    assert adaptation(**{part: changed[part]}).fingerprint != adaptation().fingerprint


def test_an_empty_side_is_kept(tmp_path):
    found = AdaptationSet.load(adaptation(y=np.zeros(5, np.int64)).save(tmp_path))
    assert (len(found.benign), len(found.attack)) == (5, 0)


def test_damage_is_noticed(tmp_path):
    path = adaptation().save(tmp_path)
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="was changed"):
        AdaptationSet.load(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        AdaptationSet.load(tmp_path / "none.npz")


def test_a_file_that_is_something_else(tmp_path):
    import hashlib

    path = tmp_path / f"{hashlib.sha256(b'text').hexdigest()}.npz"
    path.write_bytes(b"text")
    with pytest.raises(ValueError, match="not an adaptation set"):
        AdaptationSet.load(path)
