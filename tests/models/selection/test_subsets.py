"""Ensembles, their fitness, fronts and hypervolumes, against what a loop says."""

from __future__ import annotations

import pickle
from itertools import combinations

import numpy as np
import pytest

from cellwatch.models.selection.pareto import front, hypervolume
from cellwatch.models.selection.subsets import count, enumerate_all, top_k_means


def loop_fitness(z, values, k):
    members = np.flatnonzero(z)
    return [np.mean(sorted(values[members, d], reverse=True)[:k]) for d in range(values.shape[1])]


def test_all_subsets_once():
    z = enumerate_all(6, (2, 4))
    assert len(z) == count(6, (2, 4)) == 15 + 20 + 15
    assert {tuple(np.flatnonzero(row)) for row in z} == {
        c for n in (2, 3, 4) for c in combinations(range(6), n)
    }
    assert len(enumerate_all(3, (1, 5))) == count(3, (1, 5)) == 7


@pytest.mark.parametrize("k", [1, 2, 3, 9])
def test_top_k_means_against_a_loop(k):
    values = np.random.default_rng(k).integers(5, size=(7, 4)) / 4  # with ties
    z = enumerate_all(7, (1, 7))
    expected = [loop_fitness(row, values, k) for row in z]
    assert top_k_means(z, values, k) == pytest.approx(np.array(expected), abs=1e-12)


def test_front_against_a_loop():
    rng = np.random.default_rng(2)
    z = enumerate_all(7, (1, 4))
    f = rng.integers(6, size=(len(z), 3)).astype(float)
    best = {}
    for row, value in zip(z, f, strict=True):
        if not any((other >= value).all() and (other > value).any() for other in f):
            best.setdefault(tuple(value), []).append(tuple(row))
    expected = {
        (value, row) for value, rows in best.items() for row in rows if sum(row) == min(map(sum, rows))
    }
    found = front(z, f)
    assert {(tuple(v), tuple(row)) for row, v in zip(found.z, found.objectives, strict=True)} == expected
    assert len(found) == len(expected)
    assert (np.diff(found.objectives[:, 0]) <= 0).all()


def test_hypervolume_by_hand():
    points = np.array([[1.0, 0.5, 1, 1], [0.5, 1.0, 1, 1], [0.5, 0.5, 1, 1]])
    assert hypervolume(points, np.zeros(4)) == pytest.approx(0.75)
    assert hypervolume(points, np.array([0.5, 0, 0, 0])) == pytest.approx(0.25)
    assert hypervolume(points, np.ones(4)) == 0


def test_hypervolume_leaves_its_numbers_alone():
    points = pickle.loads(pickle.dumps(np.random.default_rng(0).random((9, 4))))
    before = points.copy()
    hypervolume(points, np.zeros(4))
    front(np.eye(9, dtype=bool), points)
    assert np.array_equal(points, before)
