"""NSGA-II: operators keep to the rules, fronts are reproducible and part of the exact one."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("pymoo")

from cellwatch.models.selection.level import exact_front
from cellwatch.models.selection.nsga2 import Search, _AddRemoveSwap, _binary_tournament, _Draw, search, within
from cellwatch.models.selection.pareto import hypervolume
from cellwatch.models.selection.scores import parse
from cellwatch.models.selection.subsets import enumerate_all, top_k_means

SMALL = Search(population=40, generations=15)


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def level_2(root):
    return parse((root / "config/selection/deepsense_table1.csv").read_text(), "table")[2]


def test_sizes_are_kept_and_allowed_ensembles_stay_as_they_are():
    z = rng().random((300, 12)) < rng(1).random((300, 1))
    kept = within(z, (2, 5), rng(2))
    size = z.sum(axis=1)
    assert (kept.sum(axis=1) == size.clip(2, 5)).all()
    assert (kept[(size >= 2) & (size <= 5)] == z[(size >= 2) & (size <= 5)]).all()
    assert (kept[size > 5] <= z[size > 5]).all()
    assert (kept[size < 2] >= z[size < 2]).all()


def test_first_ensembles_have_all_sizes():
    problem = SimpleNamespace(sizes=(2, 5), n_var=9)
    assert {*_Draw()._do(problem, 200, random_state=rng()).sum(axis=1).tolist()} == {2, 3, 4, 5}


def test_mutation_adds_removes_or_swaps_one():
    problem = SimpleNamespace(sizes=(2, 5))
    z = enumerate_all(8, (2, 5))
    found = _AddRemoveSwap()._do(problem, z, random_state=rng())
    before, after = z.sum(axis=1), found.sum(axis=1)
    assert (after >= 2).all()
    assert (after <= 5).all()
    moved = (z != found).sum(axis=1)
    assert {*zip((after - before).tolist(), moved.tolist(), strict=True)} == {
        (0, 0), (1, 1), (-1, 1), (0, 2),
    }  # fmt: skip


def test_mutation_of_an_ensemble_of_everybody():
    everybody = np.ones((50, 4), bool)
    found = _AddRemoveSwap()._do(SimpleNamespace(sizes=(1, 4)), everybody, random_state=rng())
    assert {*found.sum(axis=1).tolist()} == {3, 4}


def test_tournament_prefers_rank_then_crowding_then_chance():
    what = {"rank": [0, 1, 0, 0, 0], "crowding": [1.0, 9.0, 2.0, np.inf, np.inf]}
    pop = SimpleNamespace(
        get=lambda *names: [what[name] for name in names] if len(names) > 1 else what[names[0]]
    )
    pairs = np.array([[0, 1], [1, 0], [0, 2], [2, 3]] + [[3, 4]] * 100)
    won = _binary_tournament(pop, pairs, random_state=rng())[:, 0]
    assert won[:4].tolist() == [0, 0, 2, 3]
    assert {*won[4:].tolist()} == {3, 4}


def test_the_front_is_part_of_the_exact_front(level_2):
    fitness = partial(top_k_means, values=level_2.values, k=3)
    exact = exact_front(fitness, 22, (1, 5))
    found = search(fitness, 22, (1, 5), 7, Search())
    ours = {(tuple(z), tuple(f)) for z, f in zip(found.z, found.objectives, strict=True)}
    assert ours <= {(tuple(z), tuple(f)) for z, f in zip(exact.z, exact.objectives, strict=True)}
    ratio = hypervolume(found.objectives, np.zeros(4)) / hypervolume(exact.objectives, np.zeros(4))
    assert ratio > 0.999


def test_a_short_search_finds_less_and_never_more_than_there_is(level_2):
    fitness = partial(top_k_means, values=rng(4).random((22, 4)), k=3)
    exact = hypervolume(exact_front(fitness, 22, (1, 5)).objectives, np.zeros(4))
    short, longer = (
        hypervolume(search(fitness, 22, (1, 5), 0, Search(20, n)).objectives, np.zeros(4)) for n in (1, 12)
    )
    assert short < longer <= exact


def test_the_same_seed_gives_the_same_front(level_2):
    fitness = partial(top_k_means, values=level_2.values, k=3)
    a, b = (search(fitness, 22, (1, 5), 3, SMALL) for _ in range(2))
    assert np.array_equal(a.z, b.z)
    assert np.array_equal(a.objectives, b.objectives)


def test_sizes_hold_in_a_search(level_2):
    found = search(partial(top_k_means, values=level_2.values, k=3), 22, (4, 5), 0, SMALL)
    assert {*found.z.sum(axis=1).tolist()} <= {4, 5}


def test_fewer_ensembles_than_a_population():
    values = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0]])
    found = search(partial(top_k_means, values=values, k=3), 2, (1, 2), 0, Search())
    assert sorted(map(tuple, found.z.tolist())) == [(False, True), (True, False), (True, True)]
