"""Figures of detectors of anomalies against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.evaluation.anomalies import (
    best_f1_threshold,
    called,
    precision_recall,
    ranking,
    roc,
)


def drawn(seed: int, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores with many ties."""
    rng = np.random.default_rng(seed)
    y = rng.random(n) < 0.3
    y[:2] = True, False
    return y, np.round(rng.normal(size=n) + y, 1)


@pytest.mark.parametrize("seed", range(4))
def test_auc_is_the_share_of_pairs_in_order(seed: int) -> None:
    y, score = drawn(seed)
    above = score[y][:, None] - score[~y][None, :]
    assert ranking(y, score).auc == pytest.approx(((above > 0) + (above == 0) / 2).mean())


@pytest.mark.parametrize("seed", range(4))
def test_figures_follow_from_counts(seed: int) -> None:
    y, score = drawn(seed)
    alarm = score > 0.8
    tp, fp = int((alarm & y).sum()), int((alarm & ~y).sum())
    fn, tn = int((~alarm & y).sum()), int((~alarm & ~y).sum())
    found = called(y, alarm)
    assert found.precision == pytest.approx(tp / (tp + fp))
    assert found.recall == pytest.approx(tp / (tp + fn))
    assert found.missed_rate == pytest.approx(fn / (tp + fn))
    assert found.specificity == pytest.approx(tn / (tn + fp))
    assert found.false_alarm_rate == pytest.approx(fp / (tn + fp))
    assert found.accuracy == pytest.approx((tp + tn) / len(y))
    harmonic = 2 * found.precision * found.recall / (found.precision + found.recall)
    assert found.f1 == pytest.approx(harmonic)
    assert found.g_mean == pytest.approx((found.recall * found.specificity) ** 0.5)


def test_nothing_right_is_zero_and_one_class_has_no_ranking() -> None:
    y = np.array([True, False])
    assert set(called(y, np.array([False, False])).to_dict().values()) <= {0.0, 0.5, 1.0}
    assert called(y, ~y).f1 == called(y, ~y).precision == called(y, ~y).g_mean == 0.0
    assert np.isnan(ranking(np.array([True, True]), np.arange(2.0)).auc)
    with pytest.raises(ValueError, match="no rows"):
        called(y[:0], y[:0])


def test_the_papers_f1_does_not_follow_from_its_precision_and_recall() -> None:
    tp, fp, fn = 9470, round(9470 * (1 / 0.916 - 1)), 530
    y = np.repeat([True, False, True], [tp, fp, fn])
    found = called(y, np.repeat([True, True, False], [tp, fp, fn]))
    assert (round(found.precision, 3), round(found.recall, 3)) == (0.916, 0.947)
    assert round(found.f1, 3) == 0.931  # printed: .958


@pytest.mark.parametrize("seed", range(6))
def test_no_other_threshold_has_a_better_f1(seed: int) -> None:
    y, score = drawn(seed)
    best = called(y, score > best_f1_threshold(y, score)).f1
    every = [called(y, score > cut).f1 for cut in [score.min() - 1, *np.unique(score)]]
    assert best == pytest.approx(max(every))


def test_threshold_without_a_choice() -> None:
    assert best_f1_threshold(np.array([False, False]), np.array([1.0, 3.0])) == 3.0


def test_curves_begin_and_end_where_they_must() -> None:
    y, score = drawn(0, 2000)
    false, true = roc(y, score)
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(true, false) == pytest.approx(ranking(y, score).auc, abs=0.01)
    recall, precision = precision_recall(y, score)
    assert (np.diff(recall) >= 0).all()
    assert precision[0] == 1
    assert precision[-1] == pytest.approx(y.mean())
