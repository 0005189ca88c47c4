"""The label-aware head of EWAD."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.evaluation.anomalies import ranking
from cellwatch.models.ewad import head
from cellwatch.models.ewad.head import Forests, LabelAware, out_of_fold
from cellwatch.models.ewad.settings import EwadSettings
from cellwatch.models.types import F32, Bool

COLUMNS = tuple("abcdef")
SMALL = EwadSettings(epochs=1, members=3, hidden=8, latent=2)


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "TREES", 20)


def rows(seed: int, n: int = 300) -> tuple[F32, Bool]:
    """Anomalies lie inside the usual range: `a` and `b` high together. Column f never varies."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(size=(n, 6)).astype(np.float32)
    x[:, 5] = 3.0
    y: Bool = (x[:, 0] > 0.6) & (x[:, 1] > 0.6)
    x[rng.random(x.shape) < 0.05] = np.nan
    return x, y


def test_labels_find_what_no_normal_model_can_see() -> None:
    x, y = rows(0)
    new, truth = rows(1)
    with_labels, without = LabelAware(SMALL), LabelAware(SMALL)
    with_labels.fit(x, y, COLUMNS)
    without.fit(x, None, COLUMNS)
    aware = ranking(truth, with_labels.score(new)).auc
    assert aware > 0.9 > ranking(truth, without.score(new)).auc


def test_threshold_is_that_of_rows_nobody_learnt_from() -> None:
    x, y = rows(0)
    model = LabelAware(SMALL)
    model.fit(x, y, COLUMNS)
    new, truth = rows(1)
    alarm = model.score(new) > model.threshold
    assert alarm[truth].mean() > 0.6
    assert alarm[~truth].mean() < 0.2


def test_without_labels_or_with_too_few_it_is_ewad_alone() -> None:
    x, _ = rows(0)
    few = np.arange(len(x)) < head.LEAST_KNOWN - 1
    for y in (None, few):
        model = LabelAware(SMALL)
        model.fit(x, y, COLUMNS)
        np.testing.assert_array_equal(model.score(x), model.ewad.score(x))
        assert model.threshold == model.ewad.threshold


def test_it_can_be_fitted_again_without_labels() -> None:
    x, y = rows(0)
    model = LabelAware(SMALL)
    model.fit(x, y, COLUMNS)
    model.fit(x, None, COLUMNS)
    np.testing.assert_array_equal(model.score(x), model.ewad.score(x))


def test_the_same_seed_gives_the_same_scores() -> None:
    x, y = rows(0)
    first, again = LabelAware(SMALL, seed=3), LabelAware(SMALL, seed=3)
    first.fit(x, y, COLUMNS)
    again.fit(x, y, COLUMNS)
    np.testing.assert_array_equal(first.score(x), again.score(x))


def test_gaps_alone_can_tell() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4)).astype(np.float32)
    y: Bool = rng.random(300) < 0.2
    x[y, 2] = np.nan
    usual = np.zeros((1, 4), dtype=np.float32)
    gap = usual.copy()
    gap[0, 2] = np.nan
    forests = Forests(x, y, 0)
    assert forests(gap) > 0 > forests(usual)


def test_scores_out_of_fold_do_not_know_their_labels() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 5)).astype(np.float32)
    y: Bool = rng.random(300) < 0.3
    assert abs(ranking(y, out_of_fold(x, y, 0)).auc - 0.5) < 0.1
    assert ranking(y, Forests(x, y, 0)(x)).auc > 0.8


def test_a_column_without_any_number_is_no_hindrance() -> None:
    x, y = rows(0)
    x[:, 3] = np.nan
    forests = Forests(x, y, 0)
    assert np.isfinite(forests(x)).all()
    assert np.isfinite(forests(np.ones_like(x))).all()
    assert np.isfinite(forests(np.full_like(x, np.nan))).all()
