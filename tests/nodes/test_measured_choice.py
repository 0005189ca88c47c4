"""Two fitnesses against each other, on models whose answers are made up."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("pymoo")

from cellwatch.models.fusion.calibration import Calibration
from cellwatch.models.selection.level import Settings
from cellwatch.models.selection.nsga2 import Search
from cellwatch.models.selection.scores import Scores
from cellwatch.nodes.measured_choice import duel

SETTINGS = Settings({2: np.array([1.0, 0, 0, 0])}, sizes=(1, 3), search=Search(20, 5))
NAMES = ("twin", "Other", "third", "untrained")


def said(y, seed):
    """`twin` is right on 80 %, the others on 75 %: elsewhere, and unsure where they err."""
    rng = np.random.default_rng(seed)
    place = rng.permutation(len(y)) / len(y)

    def answers(wrong, sure):
        called = np.where(wrong, (y + 1) % 3, y)
        p = np.full((len(y), 3), (1 - sure) / 2)
        p[np.arange(len(y)), called] = sure
        p[wrong] = 0.3
        p[wrong, called[wrong]] = 0.4
        return p.astype(np.float32)

    return {
        ("twin", 2): answers(place < 0.2, 0.45),
        ("other", 2): answers((place >= 0.2) & (place < 0.45), 0.9),
        ("third", 2): answers((place >= 0.45) & (place < 0.7), 0.9),
    }


def judge():
    y = {
        name: np.random.default_rng(i).integers(3, size=1200) for i, name in enumerate(("val", "new", "calm"))
    }
    y["calm"][:] = 0
    parts = {
        name: SimpleNamespace(y={2: labels}, group=np.full(1200, ""), name=name) for name, labels in y.items()
    }
    data = SimpleNamespace(
        validation=parts["val"], classes={2: "abc"}, tests={name: parts[name] for name in ("new", "calm")}
    )
    return SimpleNamespace(
        data=data,
        on_validation=said(y["val"], 5),
        calibration=Calibration(),
        said=lambda part, only: {key: p for key, p in said(part.y[2], 6).items() if key in only},
    )


@pytest.fixture(scope="module")
def found():
    scores = Scores(2, NAMES, np.full((4, 4), 0.5))
    return duel(judge(), scores, SETTINGS, 2, 0, 1, lambda *_: None)


def test_the_mean_takes_the_best_member_and_the_measured_one_the_best_team(found):
    assert found.by_mean.ranked[0].models == ("twin",)
    assert len(found.measured.ranked[0].models) > 1
    assert found.validation[1] > found.validation[0]


def test_tests_with_attacks_are_judged(found):
    assert list(found.test) == ["new"]
    by_mean, measured, p = found.test["new"]
    assert measured > by_mean
    assert p < 0.01


def test_the_search_finds_what_enumeration_finds(found):
    assert (found.by_mean.hypervolume_ratio, found.measured.hypervolume_ratio) == (1, 1)
    assert found.measured.subsets == 7


def test_json(found):
    said = found.to_dict()
    assert list(said) == ["mean", "measured", "mcnemar_p"]
    assert said["mean"]["models"] == ("twin",)
    assert said["measured"]["test"]["new"] == found.test["new"][1]


def test_models_must_have_been_trained():
    with pytest.raises(ValueError, match="fewer than two of the models"):
        duel(judge(), Scores(2, ("x", "twin"), np.ones((2, 4))), SETTINGS, 1, 0, 1, lambda *_: None)
