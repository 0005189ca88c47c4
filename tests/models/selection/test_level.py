"""The choice for a level: ranking, the most frequent, ratios, comparison, sensitivity."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

pytest.importorskip("pymoo")

from cellwatch.models.selection import level as level_module
from cellwatch.models.selection.compared import compare, of_the_paper
from cellwatch.models.selection.level import Settings, choose, exact_front, merged, one_run
from cellwatch.models.selection.nsga2 import Search
from cellwatch.models.selection.pareto import Front, front
from cellwatch.models.selection.ranking import WEIGHTS, topsis_of_front
from cellwatch.models.selection.scores import Scores, parse
from cellwatch.models.selection.sensitivity import SETTINGS, sensitivity
from cellwatch.models.selection.subsets import enumerate_all, top_k_means

EQUAL = np.full(4, 0.25)
MODELS = ("A", "B", "C")
VALUES = np.array([[0.9, 0.2, 0.5, 0.5], [0.2, 0.9, 0.5, 0.5], [0.1, 0.1, 0.5, 0.1]])


def settings(**more):
    return Settings({1: EQUAL, 2: EQUAL, 3: EQUAL}, **more)


def part(whole: Front, *places: int) -> Front:
    return Front(whole.z[list(places)], whole.objectives[list(places)])


@pytest.fixture
def abc():
    """The exact front of three models: A, A + B and B."""
    found = exact_front(partial(top_k_means, values=VALUES, k=3), 3, (1, 3))
    assert [row.tolist() for row in found.z] == [
        [True, False, False],
        [True, True, False],
        [False, True, False],
    ]
    return found


def test_topsis_within_a_front_by_hand():
    f = np.array([[0.9, 0.2], [0.5, 0.6], [0.8, 0.4]])  # normalised (1, 0), (0, 1), (.75, .5)
    w = np.array([0.5, 0.5])
    near, far = np.hypot(0.25, 0.5), np.hypot(0.75, 0.5)
    assert topsis_of_front(f, w) == pytest.approx([0.5, 0.5, far / (near + far)])
    assert topsis_of_front(f, np.array([0.8, 0.2]))[:2] == pytest.approx([0.8, 0.2])
    assert topsis_of_front(f[:1], w).tolist() == [1]


def test_levels_put_quality_first_and_resources_last():
    for weights in WEIGHTS.values():
        quality, resources, speed, coverage = weights
        assert quality > coverage > speed > resources
        assert sum(weights) == pytest.approx(1)


def test_ranked_and_frequent(abc):
    # within A and A + B both are best in one thing: the first of the front is recommended
    runs = [part(abc, 0, 1), part(abc, 0), part(abc, 1, 2), part(abc, 2)]
    found = choose(MODELS, 1, abc, runs, settings(frequent=1))
    assert [one.models for one in found.front] == [("A",), ("A", "B"), ("B",)]
    # normalised: A (1, 0, 1, 1), A + B (.5, .5, 1, 1), B (0, 1, 1, 1)
    assert [one.models for one in found.ranked] == [("A", "B"), ("A",), ("B",)]
    assert found.ranked[0].score == pytest.approx(np.sqrt(2.5) / (np.sqrt(0.5) + np.sqrt(2.5)))
    assert found.ranked[1].score == pytest.approx(np.sqrt(3) / (1 + np.sqrt(3)))
    assert [(one.models, one.runs) for one in found.frequent] == [(("A",), 2)]
    assert [one.runs for one in found.front] == [2, 1, 1]
    assert (found.whole, found.subsets) == (0, 7)


def test_of_equally_frequent_ones_the_better_ranked_comes_first(abc):
    weights = {1: np.array([0.1, 0.7, 0.1, 0.1])}
    found = choose(
        MODELS, 1, abc, [part(abc, 0), part(abc, 2), part(abc, 0, 2)], Settings(weights, frequent=3)
    )
    assert [(one.models, one.runs) for one in found.frequent] == [(("B",), 2), (("A",), 2)]
    assert found.ranked[0].models == ("B",)


def test_the_worst_ratio_counts(abc):
    found = choose(MODELS, 1, abc, [abc, part(abc, 0)], settings())
    # A alone holds .9 x .2 of quality and resources, the front .9 x .2 + .55 x .35 + .2 x .35
    assert found.hypervolume_ratio == pytest.approx(0.18 / (0.18 + 0.55 * 0.35 + 0.2 * 0.35))
    assert found.whole == 1
    assert choose(MODELS, 1, abc, [abc, abc], settings()).hypervolume_ratio == 1


def test_a_reference_that_nothing_exceeds_gives_no_ratio(abc):
    assert choose(MODELS, 1, abc, [abc], settings(reference=(1.0,) * 4)).hypervolume_ratio is None


def test_too_many_subsets_to_enumerate(abc, monkeypatch):
    monkeypatch.setattr(level_module, "MOST", 6)
    assert exact_front(partial(top_k_means, values=VALUES, k=3), 3, (1, 3)) is None
    found = choose(MODELS, 1, None, [part(abc, 0), part(abc, 1, 2)], settings())
    assert [one.models for one in found.front] == [("A",), ("A", "B"), ("B",)]
    assert found.hypervolume_ratio is None


def test_chunks_do_not_change_the_exact_front(monkeypatch):
    values = np.random.default_rng(0).random((9, 4))
    fitness = partial(top_k_means, values=values, k=3)
    z = enumerate_all(9, (1, 5))
    whole = front(z, fitness(z))
    monkeypatch.setattr(level_module, "_CHUNK", 50)
    assert np.array_equal(exact_front(fitness, 9, (1, 5)).z, whole.z)
    assert np.array_equal(merged([whole, part(whole, 0)]).z, whole.z)


def test_a_run_may_allow_more_members_than_there_are_models():
    search = Search(population=10, generations=3)
    found = one_run(partial(top_k_means, values=VALUES, k=3), 3, settings(search=search), 0)
    assert len(found) == 3


def test_comparison_by_hand(abc):
    scores = Scores(1, MODELS, VALUES)
    chosen = choose(MODELS, 1, abc, [abc], settings())
    on_front, beaten = compare({"x": ("B", "A"), "y": ("C",)}, scores, chosen, 3, EQUAL)
    assert on_front.objectives == pytest.approx((0.55, 0.55, 0.5, 0.5))
    assert on_front.beaten_by == ()
    assert beaten.beaten_by == chosen.ranked[0].models
    assert beaten.rank == 4
    assert beaten.by_how_much == pytest.approx(np.array(chosen.ranked[0].objectives) - VALUES[2])


def test_ensembles_of_the_paper_need_their_members():
    values = np.random.default_rng(1).random((5, 4))
    some = Scores(3, ("XGB", "RandomForest", "CNN", "decisiontree", "KNN"), values)
    assert of_the_paper(some) == {"L3_Ens1": ("XGB", "RandomForest", "CNN", "decisiontree")}
    assert of_the_paper(Scores(3, tuple("abcde"), values)) == {}


def test_sensitivity_of_a_model_that_is_best_in_everything():
    scores = Scores(1, MODELS, np.array([[0.5] * 4, [0.9] * 4, [0.1] * 4]))
    found = sensitivity(scores)
    assert {tuple(r) for by in found.ranked.values() for r in by.values()} == {("B", "A", "C")}
    assert {tau for by in found.between_weights.values() for tau in by.values()} == {1.0}
    assert {tau for by in found.between_methods.values() for tau in by.values()} == {1.0}


def test_sensitivity_by_hand():
    # quality against resources: W3 (.55 / .15) prefers A, W4 (.2 / .3) prefers B
    scores = Scores(1, ("A", "B"), np.array([[1.0, 0.0, 0.5, 0.5], [0.0, 1.0, 0.5, 0.5]]))
    found = sensitivity(scores)
    assert {name: found.ranked[name]["TOPSIS"][0] for name in ("W1", "W3", "W4")} == {
        "W1": "A",
        "W3": "A",
        "W4": "B",
    }
    assert found.between_weights["TOPSIS"]["W1-W4"] == -1
    assert np.isnan(found.between_weights["TOPSIS"]["W1-W2"])  # W2 weighs both alike


def test_the_settings_are_those_of_the_paper(root):
    assert SETTINGS["W4"] == (0.20, 0.30, 0.30, 0.20)
    assert all(sum(w) == pytest.approx(1) for w in SETTINGS.values())
    table = parse((root / "config/selection/deepsense_table1.csv").read_text(), "table")
    found = sensitivity(table[2])
    assert {name: len(by) for name, by in found.ranked.items()} == dict.fromkeys(SETTINGS, 3)
    assert len(found.between_weights["VIKOR"]) == 6
    assert len(found.between_methods["W1"]) == 3
