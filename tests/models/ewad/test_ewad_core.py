"""An EWAD keeps its promises: order of scores, NaN, the served graph, seeds, a member that diverges."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

from cellwatch.models.ewad import training
from cellwatch.models.ewad.ewad import Ewad
from cellwatch.models.ewad.gan import Gan
from cellwatch.models.ewad.settings import EwadSettings

QUICK = EwadSettings(epochs=2, hidden=16, latent=4, batch=64, critic_steps=2, rate=3e-3)
NAMES = tuple(f"s{k}" for k in range(12))


def normal_rows(n, seed):
    """Twelve columns that hang on three causes; the last never moves."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(0).normal(size=(3, 12))
    x = rng.normal(size=(n, 3)) @ mix + 0.1 * rng.normal(size=(n, 12))
    x[:, 11] = 7.0
    return x.astype(np.float32)


def gaps(x, seed, share=0.1):
    x = x.copy()
    x[np.random.default_rng(seed).random(x.shape) < share] = np.nan
    return x


@pytest.fixture(scope="module")
def rows():
    return gaps(normal_rows(500, 1), 2)


@pytest.fixture(scope="module")
def model(rows):
    """Learnt for long enough to know the pattern, every member on all columns."""
    return Ewad(replace(QUICK, epochs=60, hidden=32, overlap=1.0), seed=3).fit(rows, NAMES)


def test_what_breaks_the_pattern_scores_higher(model):
    good = normal_rows(300, 5)
    bad = good.copy()
    bad[:, 2] = np.random.default_rng(6).permutation(bad[:, 2])  # each value usual, the row not
    low, high = model.score(good), model.score(bad)
    assert low.dtype == np.float64
    assert (high[:, None] > low[None]).mean() > 0.7
    assert np.abs(model.judge(bad).features).mean(axis=0).argmax() == 2


def test_features_say_how_far(model):
    row = normal_rows(200, 8)
    high, low = row.copy(), row.copy()
    high[:, 4] += 8
    low[:, 4] -= 8
    assert np.median(model.judge(high).features[:, 4]) > 2
    assert np.median(model.judge(low).features[:, 4]) < -2
    assert not model.judge(row).features[:, 11].any()  # never moved in training, so dropped


def test_parts_add_up_and_scores_are_standardised(model, rows):
    found = model.judge(rows)
    np.testing.assert_allclose(found.parts.sum(axis=1), found.score, atol=1e-5)
    held = model.score(rows[-100:])  # what the calibration has seen
    assert abs(held.mean()) < 1e-4
    assert abs(held.std() - 1) < 1e-4


def test_p_values_of_normal_rows_are_uniform(model):
    p = model.p_value(gaps(normal_rows(4000, 9), 10))
    assert ((p > 0) & (p <= 1)).all()
    for share in (0.1, 0.5):
        assert abs((p <= share).mean() - share) < 0.12  # 100 rows calibrated it
    order = np.argsort(model.score(normal_rows(300, 9)))
    assert (np.diff(model.p_value(normal_rows(300, 9))[order]) <= 1e-6).all()


def test_the_threshold_is_the_score_of_its_p_value(model):
    rows = normal_rows(3000, 11)
    beyond = model.score(rows) >= model.threshold
    assert (beyond == (model.p_value(rows) <= model.settings.false_alarms)).mean() > 0.999


def test_a_row_without_a_number_is_judged_usual_by_all(model):
    found = model.judge(np.full((2, 12), np.nan, np.float32))
    assert np.isfinite(found.score).all()
    assert not found.features.any()


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"partition": "cluster", "imputation": "knn", "combination": "min", "residual": "plain"},
        {"partition": "random", "inverse": "latent", "latent_steps": 3, "reconstruction": 0.0},
        {"members": 1, "depths": (3,), "kind": "gan", "constant": "keep", "imputation": "mean"},
        {"members": 3, "kind": "wgan", "optimiser": "rmsprop", "categorical": ("s3",), "scaling": "none"},
    ],
)
def test_the_graph_and_the_stored_model_say_the_same(rows, more):
    x = rows.copy()
    if "categorical" in more:
        x[:, 3] = np.rint(x[:, 3])
    made = Ewad(replace(QUICK, **more), seed=4).fit(x, NAMES)
    odd = np.concatenate([x[:37], 50 * x[:5], np.full((1, 12), np.nan, np.float32)])
    odd[3, 2] = np.inf
    expected = made.judge(odd)
    served = onnxruntime.InferenceSession(made.to_onnx())
    assert [o.name for o in served.get_outputs()] == ["score", "p_value", "parts", "features"]
    for part, truth in zip(served.run(None, {"x": odd}), expected, strict=True):
        np.testing.assert_allclose(part, truth, rtol=2e-3, atol=2e-3)
    again = Ewad.from_tensors(made.tensors(), json.loads(json.dumps(made.card())))
    np.testing.assert_array_equal(again.score(odd), expected.score)
    assert again.threshold == made.threshold
    assert again.columns == NAMES


def test_tensors_of_another_model_are_refused(model, rows):
    other = Ewad(replace(QUICK, hidden=8), seed=1).fit(rows, NAMES)
    with pytest.raises(ValueError, match="do not fit"):
        Ewad.from_tensors(other.tensors(), model.card())
    with pytest.raises(ValueError, match="do not fit"):
        Ewad.from_tensors({}, model.card())


def test_a_seed_gives_the_same_model(rows):
    a, b, c = (Ewad(QUICK, seed=s).fit(rows, NAMES).score(rows) for s in (5, 5, 6))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_rows_with_a_label_are_not_learnt(rows):
    x = np.concatenate([rows, 30 + rows[:50]])
    order = np.random.default_rng(0).permutation(len(x))
    rank = np.argsort(order)
    labels = np.repeat([0, 1], [len(rows), 50])[order]
    assert (order[rank] == np.arange(len(x))).all()
    kept = x[order][labels == 0]
    a = Ewad(QUICK).fit(x[order], NAMES, labels=labels)
    np.testing.assert_array_equal(a.score(rows), Ewad(QUICK).fit(kept, NAMES).score(rows))


def poisoned(monkeypatch, member, attempts):
    """Weights of one member that are no numbers, on its first attempts."""
    honest = Gan.start

    def start(self, at, generator):
        honest(self, at, generator)
        here = generator.initial_seed()
        if here in bad:
            self.critic.weights[0].data[at] = float("nan")

    bad = {training._generator(3, member, k).initial_seed() for k in range(attempts)}
    monkeypatch.setattr(Gan, "start", start)


def test_a_member_that_diverges_starts_again(monkeypatch, rows):
    sound = Ewad(QUICK, seed=3).fit(rows, NAMES)
    poisoned(monkeypatch, member=4, attempts=1)
    mended = Ewad(QUICK, seed=3).fit(rows, NAMES)
    assert mended.report.attempts == (1, 1, 1, 1, 2)
    assert mended.report.diverged == ()
    assert np.isfinite(mended.report.critic).all()
    assert np.isfinite(mended.score(rows)).all()
    np.testing.assert_allclose(mended.report.critic[:, :4], sound.report.critic[:, :4], rtol=1e-4, atol=1e-5)


def test_a_member_that_keeps_diverging_is_left_out_and_named(monkeypatch, rows):
    poisoned(monkeypatch, member=1, attempts=training.ATTEMPTS)
    left = Ewad(QUICK, seed=3).fit(rows, NAMES)
    assert left.report.diverged == (1,)
    assert left.report.depths == (4, 4, 6, 6)
    assert left.judge(rows).parts.shape == (len(rows), 4)
    assert left.card()["report"]["diverged"] == (1,)
    json.dumps(left.card(), allow_nan=False)
    again = Ewad.from_tensors(left.tensors(), json.loads(json.dumps(left.card())))
    np.testing.assert_array_equal(again.score(rows), left.score(rows))


def test_when_all_diverge_it_says_so(rows):
    with pytest.raises(ValueError, match="every member diverged"):
        Ewad(replace(QUICK, rate=1e30, members=2)).fit(rows, NAMES)


def test_what_cannot_be_learnt_is_refused(rows):
    with pytest.raises(ValueError, match="too few"):
        Ewad(QUICK).fit(rows[:10], NAMES)
    with pytest.raises(ValueError, match="no column varies"):
        Ewad(QUICK).fit(np.ones((100, 12), np.float32), NAMES)
    with pytest.raises(ValueError, match="names"):
        Ewad(QUICK).fit(rows, NAMES[:3])
    with pytest.raises(ValueError, match="kind is one of"):
        EwadSettings(kind="vae")


def test_a_new_row_must_have_the_columns(model):
    with pytest.raises(ValueError, match="12 columns"):
        model.score(np.zeros((3, 5), np.float32))
