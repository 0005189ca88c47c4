"""The measured fitness, against the fusion's own formula and a loop."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.evaluation.dimensions import detection_quality
from cellwatch.models.evaluation.metrics import confusion
from cellwatch.models.fusion.formulas import posterior
from cellwatch.models.selection import measured
from cellwatch.models.selection.measured import Answers, Tabulated, fused_quality, measured_fitness
from cellwatch.models.selection.subsets import enumerate_all, top_k_means


def answers(classes, seed=0, models=4, n=60):
    rng = np.random.default_rng(seed)
    y = rng.integers(classes, size=n)
    p = rng.random((models, n, classes)) + 0.7 * (np.arange(classes) == y[:, None])
    p[0] = np.eye(classes)[(y + 1) % classes]  # one that is always wrong
    return Answers((p / p.sum(axis=2, keepdims=True)).astype(np.float32), rng.random(models) + 0.1, y)


@pytest.mark.parametrize("classes", [2, 5])
def test_against_the_fusion_and_the_metrics(classes, monkeypatch):
    monkeypatch.setattr(measured, "_CELLS", 1000)  # several pieces
    given = answers(classes)
    z = enumerate_all(4, (1, 4))
    expected = []
    for row in z:
        fused = posterior(given.p[row].transpose(1, 0, 2).astype(float), given.weights[row])
        said = detection_quality(confusion(given.y, fused.argmax(axis=1), classes))
        expected.append(np.mean([said["accuracy"], said["f1"], max(said["mcc"], 0.0)]))
    assert fused_quality(z, given) == pytest.approx(expected)
    assert min(expected) == 0


def test_only_quality_is_measured():
    given, values = answers(3), np.random.default_rng(1).random((4, 4))
    z = enumerate_all(4, (1, 3))
    found = measured_fitness(z, values, 3, given)
    assert np.array_equal(found[:, 1:], top_k_means(z, values, 3)[:, 1:])
    assert found[:, 0] == pytest.approx(fused_quality(z, given))


def test_a_table_gives_back_what_it_holds():
    z = enumerate_all(9, (1, 4))
    f = np.random.default_rng(2).random((len(z), 4))
    some = np.random.default_rng(3).permutation(len(z))[:30]
    assert np.array_equal(Tabulated(z, f)(z[some]), f[some])
