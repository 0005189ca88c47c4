"""The formulas of section 3.3.4 against a plain reading of them, one row and one model at a time."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cellwatch.models.fusion import formulas as module
from cellwatch.models.fusion.formulas import attack_probability, posterior, weighted_vote, winner

NAN = float("nan")


def some(seed, n=7, m=5, c=4, silent=0.3):
    """Probabilities, with detectors that abstain."""
    random = np.random.default_rng(seed)
    p = random.random((n, m, c)).astype(np.float32)
    p /= p.sum(axis=2, keepdims=True)
    p[random.random((n, m)) < silent] = NAN
    return p, random.integers(0, 4, m).astype(float)


def test_doctests():
    assert doctest.testmod(module).failed == 0


@given(st.integers(0, 10_000))
def test_l1_is_the_weighted_mean_of_those_who_speak(seed):
    p, weights = some(seed)
    scores = p[:, :, 1].astype(float)
    for row, got in zip(scores, attack_probability(scores, weights), strict=True):
        heard = [(w, s) for w, s in zip(weights, row, strict=True) if not math.isnan(s)]
        total = sum(w for w, _ in heard)
        assert got == pytest.approx(sum(w * s for w, s in heard) / total if total else 0.0)


@given(st.integers(0, 10_000))
def test_a_vote_counts_the_weights_behind_each_class(seed):
    p, weights = some(seed)
    for row, got in zip(p, weighted_vote(p, weights), strict=True):
        votes = [0.0] * p.shape[2]
        for w, q in zip(weights, row, strict=True):
            if not np.isnan(q).any():
                votes[int(np.argmax(q))] += w
        total = sum(votes)
        assert got.tolist() == pytest.approx([v / total if total else 0.0 for v in votes])


@given(st.integers(0, 10_000))
def test_the_posterior_form_weighs_probabilities(seed):
    p, weights = some(seed)
    for row, got in zip(p, posterior(p, weights), strict=True):
        mass = sum((w * q for w, q in zip(weights, row, strict=True) if not np.isnan(q).any()), np.zeros(4))
        total = mass.sum()
        assert got.tolist() == pytest.approx((mass / total if total else mass).tolist(), abs=1e-6)


def test_several_weightings_at_once_are_the_single_ones():
    p, weights = some(3)
    scores = p[:, :, 1].astype(float)
    matrix = np.stack([weights, np.ones(5)], axis=1)
    both = attack_probability(scores, matrix)
    for k in range(2):
        assert both[:, k].tolist() == pytest.approx(attack_probability(scores, matrix[:, k]).tolist())


def test_a_tie_goes_to_the_greater_posterior():
    p = np.array([[[0.45, 0.55, 0.0], [0.9, 0.0, 0.1]]], np.float32)
    weights = np.ones(2)
    assert weighted_vote(p, weights).tolist() == [[0.5, 0.5, 0.0]]
    best, share = winner(weighted_vote(p, weights), posterior(p, weights))
    assert (best.tolist(), share.tolist()) == ([0], [0.5])
    best, _ = winner(weighted_vote(p[:, :, ::-1], weights), posterior(p[:, :, ::-1], weights))
    assert best.tolist() == [2]  # not merely the first of the tied


def test_nobody_speaks():
    p = np.full((2, 3, 4), NAN, np.float32)
    best, share = winner(weighted_vote(p, np.ones(3)), posterior(p, np.ones(3)))
    assert (best.tolist(), share.tolist()) == ([-1, -1], [0.0, 0.0])
    assert attack_probability(np.zeros((2, 0)), np.zeros(0)).tolist() == [0.0, 0.0]
