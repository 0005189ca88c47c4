import numpy as np
import pytest
from sklearn import metrics as sk

from cellwatch.models.evaluation.metrics import confusion, mcc, quality, recall_by_class


def test_figures_agree_with_scikit_learn():
    rng = np.random.default_rng(3)
    y = rng.integers(0, 5, 400)
    called = np.where(rng.random(400) < 0.7, y, rng.integers(0, 5, 400))
    found = quality(confusion(y, called, 5))
    assert found.accuracy == pytest.approx(sk.accuracy_score(y, called))
    assert found.mcc == pytest.approx(sk.matthews_corrcoef(y, called))
    for kind in ("macro", "weighted"):
        p, r, f, _ = sk.precision_recall_fscore_support(y, called, average=kind, zero_division=0)
        got = [getattr(found, f"{name}_{kind}") for name in ("precision", "recall", "f1")]
        assert got == pytest.approx([p, r, f])


def test_a_class_that_neither_occurs_nor_is_called_does_not_count():
    y, called = np.array([0, 0, 1]), np.array([0, 1, 1])
    assert quality(confusion(y, called, 9)) == quality(confusion(y, called, 2))


def test_a_class_that_is_only_called_counts_as_wrong():
    m = confusion(np.array([0, 0]), np.array([0, 2]), 3)
    assert quality(m).f1_macro == pytest.approx((2 / 3 + 0) / 2)


def test_undefined_figures_are_zero():
    nothing_right = confusion(np.array([0, 1]), np.array([1, 0]), 2)
    assert quality(nothing_right).f1_macro == 0.0
    one_class = confusion(np.array([0, 0, 1]), np.array([0, 0, 0]), 2)
    assert mcc(one_class) == 0.0
    with pytest.raises(ValueError, match="no rows"):
        quality(np.zeros((2, 2), dtype=np.int64))


def test_recall_of_a_class_that_does_not_occur_is_missing():
    r = recall_by_class(confusion(np.array([0, 0, 2]), np.array([0, 1, 2]), 3))
    np.testing.assert_array_equal(r, [0.5, np.nan, 1.0])
