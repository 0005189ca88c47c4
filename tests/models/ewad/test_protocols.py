"""The four protocols: what is learnt from is never judged, except in the one that shows why that matters."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from cellwatch.models.evaluation.anomalies import ranking
from cellwatch.models.ewad import protocols
from cellwatch.models.ewad.protocols import DAY_NS, Fold


@pytest.fixture
def rows():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(400, 6)).astype(np.float32)
    x[rng.random(x.shape) < 0.05] = np.nan
    return x, rng.random(400) < 0.1  # labels that nothing can know


def test_honest_folds_judge_every_row_once_and_keep_the_share(rows):
    x, y = rows
    folds = list(protocols.honest(x, y))
    assert sorted(np.concatenate([f.test for f in folds]).tolist()) == list(range(400))
    for fold in folds:
        assert not {*fold.train.tolist()} & {*fold.test.tolist()}
        assert abs(y[fold.test].mean() - y.mean()) < 0.02
        assert fold.train_y() is not None
        assert fold.train_y().tolist() == y[fold.train].tolist()


def test_groups_stay_together(rows):
    x, y = rows
    group = np.array([f"g{i // 8}" for i in range(400)])
    for fold in protocols.honest(x, y, group):
        assert not {*group[fold.train]} & {*group[fold.test]}


def test_too_few_anomalies_are_refused(rows):
    x, _ = rows
    with pytest.raises(ValueError, match="3 anomalies"):
        list(protocols.honest(x, np.arange(400) < 3))


def test_time_learns_from_the_past_alone(rows):
    x, y = rows
    time_ns = np.random.default_rng(1).permutation(400) * DAY_NS
    (fold,) = protocols.by_time(x, y, time_ns)
    assert len(fold.train) == 280
    assert time_ns[fold.train].max() < time_ns[fold.test].min()


def test_prequential_labels_come_late(rows):
    x, y = rows
    time_ns = np.random.default_rng(1).permutation(400) * (DAY_NS // 10)
    blocks = list(protocols.prequential(x, y, time_ns))
    (whole,) = protocols.by_time(x, y, time_ns)
    assert np.concatenate([b.test for b in blocks]).tolist() == whole.test.tolist()
    sizes = [len(b.train) for b in blocks]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    for block in blocks:
        assert time_ns[block.train].max() <= time_ns[block.test].min() - DAY_NS


def test_balanced_tests_hold_as_many_anomalies_and_real_rows_only(rows):
    x, y = rows
    for fold, before in zip(protocols.balanced(protocols.honest(x, y)), protocols.honest(x, y), strict=True):
        counted = fold.test[fold.counted]
        assert y[counted].mean() == 0.5
        assert y[counted].sum() == y[before.test].sum()
        assert len({*counted.tolist()}) == len(counted)
        assert fold.test.tolist() == before.test.tolist()
        assert fold.train.tolist() == before.train.tolist()
        assert fold.x is x


def test_no_balance_without_one_class(rows):
    x, y = rows
    fold = Fold("fold 1", x, y, np.flatnonzero(y), np.flatnonzero(~y))
    with pytest.raises(ValueError, match="fold 1: 0 anomalies among"):
        next(protocols.balanced([fold]))


def nearest_neighbour(fold: Fold) -> float:
    x = np.nan_to_num(fold.x)
    near = KNeighborsClassifier(3).fit(x[fold.train], fold.y[fold.train])
    return ranking(fold.y[fold.test], near.predict_proba(x[fold.test])[:, 1]).auc


def test_leaky_knows_labels_that_nothing_can_know(rows):
    x, y = rows
    honest = np.mean([nearest_neighbour(f) for f in protocols.honest(x, y)])
    leaky = np.mean([nearest_neighbour(f) for f in protocols.leaky(x, y)])
    assert honest < 0.6
    assert leaky > 0.9


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_leaky_makes_up_rows_of_the_rarer_side(rows, share):
    x, _ = rows
    y = np.random.default_rng(2).random(400) < share
    fold = next(protocols.leaky(x, y))
    assert fold.y.mean() == 0.5
    assert len(fold.x) == 2 * max(y.sum(), (~y).sum())
    assert np.isfinite(fold.x).all()
