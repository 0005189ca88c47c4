"""The parts of an EWAD by themselves: nets, penalty, partitions, preprocessing, calibration, balancing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import genpareto

from cellwatch.models.ewad import weighting
from cellwatch.models.ewad.balancing import balance, smote, synthesise
from cellwatch.models.ewad.calibration import Calibration
from cellwatch.models.ewad.ewad import Ewad
from cellwatch.models.ewad.gan import Gan
from cellwatch.models.ewad.layers import Stack
from cellwatch.models.ewad.partitions import Partitions, partition
from cellwatch.models.ewad.preprocessing import Preprocessing
from cellwatch.models.ewad.settings import EwadSettings
from cellwatch.models.ewad.training import train

QUICK = EwadSettings(epochs=3, hidden=8, latent=3, batch=32, critic_steps=2)


@pytest.fixture
def stack():
    made = Stack((2, 4, 4, 6), inputs=5, hidden=7, outputs=3, slope=0.2)
    for member in range(4):
        made.start(member, torch.Generator().manual_seed(member))
    return made


def one_by_one(stack, member, x):
    """A member as separate layers."""
    hidden = [k for k, start in enumerate(stack.first) if member >= start]
    for k in hidden:
        at = member - stack.first[k]
        x = torch.nn.functional.leaky_relu(x @ stack.weights[k][at] + stack.biases[k][at], stack.slope)
    return x @ stack.weights[-1][member] + stack.biases[-1][member], len(hidden) + 1


def test_stacked_nets_are_their_members(stack):
    x = torch.randn(4, 11, 5, generator=torch.Generator().manual_seed(9))
    y = stack(x)
    for member, depth in enumerate(stack.depths):
        alone, layers = one_by_one(stack, member, x[member])
        assert layers == depth
        torch.testing.assert_close(y[member], alone)
    torch.testing.assert_close(stack.select([0, 2])(x[[0, 2]]), y[[0, 2]])
    other = Stack((2, 4, 4, 6), 5, 7, 3, 0.2)
    other.put(stack.select([1, 3]), [1, 3])
    torch.testing.assert_close(other(x)[[1, 3]], y[[1, 3]])


def test_the_penalty_and_its_gradient_are_autograds(stack):
    critic = Stack((3, 5), 6, 8, 1, 0.2)
    for member in range(2):
        critic.start(member, torch.Generator().manual_seed(member))
    draw = torch.Generator().manual_seed(4)
    a, b = torch.randn(2, 2, 9, 6, generator=draw)
    share = torch.rand(2, 9, 1, generator=draw)
    mask = torch.ones(2, 1, 6)
    mask[1, 0, 4:] = 0
    y_a, y_b, squared = critic.between(a, b, share, mask)
    x = torch.lerp(a, b, share).requires_grad_()
    g = torch.autograd.grad(critic(x).sum(), x, create_graph=True)[0]
    expected = ((g * mask) ** 2).sum(dim=2)
    torch.testing.assert_close(squared, expected)
    torch.testing.assert_close((y_a, y_b), (critic(a), critic(b)))
    ours, theirs = (
        torch.autograd.grad(((s.sqrt() - 1) ** 2).sum(), list(critic.weights)) for s in (squared, expected)
    )
    for mine, right in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, right)
    y, g = stack.with_gradient(z := torch.randn(4, 3, 5, generator=draw, requires_grad=True), lambda y: y)
    torch.testing.assert_close(g, torch.autograd.grad((y**2 / 2).sum(), z)[0])


def test_trained_together_or_alone_is_the_same():
    x = np.random.default_rng(0).random((100, 9), dtype=np.float32)
    how = replace(QUICK, members=3, depths=(4, 6), partition="columns", overlap=0.2)
    parts = partition(x, how, seed=0)
    together = train(x, parts, how, seed=7)
    cut = replace(parts, rows=parts.rows[:1], columns=parts.columns[:1], widths=parts.widths[:1])
    alone = train(x, cut, replace(how, members=1, depths=(4,)), seed=7)
    np.testing.assert_allclose(together.critic[:, :1], alone.critic, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(together.reconstruction[:, :1], alone.reconstruction, rtol=1e-3, atol=1e-5)


def test_a_critic_prefers_real_rows_and_keeps_its_slope():
    rng = np.random.default_rng(0)
    x = (0.5 + 0.05 * rng.normal(size=(400, 4))).astype(np.float32)
    how = replace(QUICK, epochs=1, critic_steps=60, rate=3e-3, members=1, depths=(3,))
    parts = Partitions((np.arange(400),), np.arange(4)[None], np.array([4]))
    critic = train(x, parts, how, seed=1).gan.critic
    far = torch.from_numpy(x + 2.0)[None]
    real = torch.from_numpy(x)[None]
    assert critic(real).mean() > critic(far).mean()


def test_latent_optimisation_never_rebuilds_worse():
    how = replace(QUICK, inverse="latent", latent_steps=15, members=2)
    gan = Gan([4, 6], 9, how)
    for member in range(2):
        gan.start(member, torch.Generator().manual_seed(member))
    x, mask = torch.rand(2, 20, 9), torch.ones(2, 1, 9)
    with torch.no_grad():
        plain, better = (
            ((gan.generator(z) - x) ** 2).sum(dim=2) for z in (gan.encoder(x), gan.invert(x, mask))
        )
    assert (better <= plain + 1e-6).all()
    assert better.mean() < 0.9 * plain.mean()


@pytest.mark.parametrize("kind", ["columns", "cluster", "random"])
@pytest.mark.parametrize("overlap", [0.0, 0.4, 1.0])
def test_partitions_hold_everything(kind, overlap):
    x = np.random.default_rng(1).random((90, 13), dtype=np.float32)
    parts = partition(x, replace(QUICK, partition=kind, overlap=overlap, members=4), seed=2)
    columns = [set(c[:w]) for c, w in zip(parts.columns, parts.widths, strict=True)]
    assert set.union(*columns) == set(range(13))
    assert set(np.concatenate(parts.rows)) == set(range(90))
    held = columns if kind == "columns" else [set(r) for r in parts.rows]
    total = 13 if kind == "columns" else 90
    if overlap == 0:
        assert sum(map(len, held)) == total
    if overlap == 1:
        assert all(len(h) == total for h in held)
    assert (parts.mask.sum(axis=1) == parts.widths).all()


def test_groups_stay_together_and_clusters_are_found():
    x = np.random.default_rng(1).random((60, 6), dtype=np.float32)
    groups = ("t", "p", "t", "f", "p", "t")
    parts = partition(x, replace(QUICK, members=3, overlap=0.0), 0, groups)
    held = {frozenset(c[:w].tolist()) for c, w in zip(parts.columns, parts.widths, strict=True)}
    assert held == {frozenset({0, 2, 5}), frozenset({1, 4}), frozenset({3})}
    few = partition(x, replace(QUICK, members=5, overlap=0.0), 0, groups)
    assert len(few.widths) == 5
    x[20:40] += 5
    x[40:] -= 5
    rows = partition(x, replace(QUICK, members=3, partition="cluster", overlap=0.0), 0).rows
    assert {frozenset(r.tolist()) for r in rows} == {frozenset(range(k, k + 20)) for k in (0, 20, 40)}


def test_columns_that_go_together_are_one_partition():
    rng = np.random.default_rng(3)
    causes = rng.normal(size=(200, 2))
    x = np.repeat(causes, 4, axis=1)[:, [0, 4, 1, 5, 2, 6, 3, 7]] + 0.1 * rng.normal(size=(200, 8))
    parts = partition(x.astype(np.float32), replace(QUICK, members=2, overlap=0.0), 0)
    assert sorted(map(sorted, parts.columns.tolist())) == [[0, 2, 4, 6], [1, 3, 5, 7]]


def raw():
    """Numbers with gaps, an empty column, a constant one, a category and one wild row."""
    rng = np.random.default_rng(0)
    x = rng.normal(5, 2, size=(200, 6))
    x[:, 1] = np.nan
    x[:, 2] = 4.0
    x[:, 3] = rng.choice([1, 2, 9], 200, p=[0.2, 0.7, 0.1])
    x[rng.random(x.shape) < 0.1] = np.nan
    x[17] = 1e6
    return x.astype(np.float32)


@pytest.mark.parametrize(("imputation", "middle"), [("mean", np.nanmean), ("median", np.nanmedian)])
def test_preprocessing_by_the_formula(imputation, middle):
    x, names = raw(), tuple("abcdef")
    how = replace(QUICK, imputation=imputation, categorical=("d",))
    prepare, usual = Preprocessing.fit(x, names, how)
    assert prepare.kept.tolist() == [0, 3, 4, 5]
    assert not usual[17]
    assert usual.sum() == 199
    new = np.array([[4, 0, 0, np.nan, np.nan, 1e9], [np.inf, 0, 0, 2, -1e9, 5]], dtype=np.float32)
    scaled, present = prepare(torch.from_numpy(new))
    assert present.tolist() == [[1, 0, 0, 1], [0, 1, 1, 1]]
    good = np.delete(x, 17, axis=0).astype(np.float64)
    far = np.abs(x - np.nanmean(x.astype(np.float64), axis=0)) > 3 * np.nanstd(x.astype(np.float64), axis=0)
    good[np.delete(far, 17, axis=0)] = np.nan
    good[:, 1] = 0.0  # the empty column
    low, high = np.nanmin(good, axis=0), np.nanmax(good, axis=0)
    unit = (good - low) / (high - low + (high == low))
    fill = middle(unit[:, [0, 4]], axis=0)
    np.testing.assert_allclose(scaled[0], [(4 - low[0]) / (high[0] - low[0]), 1 / 8, fill[1], 2], rtol=1e-5)
    np.testing.assert_allclose(scaled[1, :3], [fill[0], 1 / 8, -1], rtol=1e-5)


def test_knn_fills_in_what_the_neighbours_have():
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 2, 300)
    x = (10 * kind[:, None] + rng.normal(0, 0.1, (300, 4))).astype(np.float32)
    x[:, 3] = 5 + kind  # a category
    x[rng.random(x.shape) < 0.05] = np.nan
    prepare, _ = Preprocessing.fit(x, tuple("abcd"), replace(QUICK, imputation="knn", categorical=("d",)))
    filled = prepare(torch.tensor([[0.0, np.nan, 0, np.nan], [10, 10, np.nan, np.nan]]))[0].numpy()
    np.testing.assert_allclose(filled[0], [0, 0, 0, 0], atol=0.06)
    np.testing.assert_allclose(filled[1], [1, 1, 1, 1], atol=0.06)
    assert set(filled[:, 3]) == {0.0, 1.0}


def test_empty_columns_are_dropped_even_if_constant_ones_are_kept():
    prepare, _ = Preprocessing.fit(raw(), tuple("abcdef"), replace(QUICK, constant="keep"))
    assert prepare.kept.tolist() == [0, 2, 3, 4, 5]
    rows = torch.zeros(1, 6)
    rows[0, 2] = 4.5
    assert prepare(rows)[0][0, 1] == 0.5


def test_the_filter_never_leaves_out_more_than_a_tenth():
    x = np.random.default_rng(0).standard_t(2, size=(300, 200)).astype(np.float32)
    _, usual = Preprocessing.fit(x, tuple(map(str, range(200))), replace(QUICK, outlier_share=0.0))
    assert usual.sum() >= 270


def test_p_values_follow_the_tail():
    draw = genpareto(0.2).rvs(20_000, random_state=1)
    found = Calibration.fit(draw)
    for share in (0.5, 0.1, 0.01, 0.001):
        assert found.p_value(np.array([genpareto(0.2).isf(share)]))[0] == pytest.approx(share, rel=0.3)
        assert found.p_value(np.array([found.score(share)]))[0] == pytest.approx(share, rel=1e-3)
    p = found.p_value(np.linspace(-5, 500, 2000))
    assert (np.diff(p) <= 1e-7).all()
    assert p[-1] > 0
    assert p[0] == pytest.approx(1, abs=1e-3)
    assert np.isfinite(Calibration.fit(np.zeros(30)).p_value(np.array([-1.0, 0, 1]))).all()


def test_scores_tied_with_the_last_knot_are_not_a_tail():
    scores = np.append(np.linspace(0, 0.7, 20), np.full(20, 0.7))  # 0.7 as float32 is less
    scores = np.append(scores, [1.7, 2.7])
    found = Calibration.fit(scores)
    assert found.tail[1] > 0.5  # of the two scores beyond, not of what rounding leaves
    assert found.p_value(np.array([0.8]))[0] > 0.02


def test_alpha_picks_the_term_that_tells_rows_apart():
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(2, 500, 3))
    odd = rng.normal(size=(2, 500, 3))
    odd[0] += 0.5
    assert weighting.alpha(normal, odd) >= 0.8
    assert weighting.alpha(normal[::-1], odd[::-1]) == weighting.LEAST  # the critic never counts for more


def test_alpha_sees_members_as_they_are_joined():
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(2, 400, 2))
    odd = rng.normal(size=(2, 400, 2))
    odd[0, :, 0] += 20  # one member alone: the mean sees it, the least one does not
    odd[1] += 1
    assert weighting.alpha(normal, odd, "mean") > weighting.alpha(normal, odd, "min")


def test_noisy_rows_are_as_far_off_as_normal_rows_vary():
    x = np.random.default_rng(0).normal(size=(4000, 3)).astype(np.float32) * [1, 10, 0] + 5
    x[::2, 0] = np.nan
    made = weighting.noisy(x.astype(np.float32), seed=1)
    off = made - x
    assert np.nanstd(off, axis=0)[:2] == pytest.approx([1, 10], rel=0.05)
    assert (off[:, 2] == 0).all()
    assert (np.isnan(made) == np.isnan(x)).all()


def test_a_given_alpha_is_kept():
    rows = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    model = Ewad(EwadSettings(epochs=1, members=2, alpha=0.25)).fit(rows, ("a", "b", "c"))
    assert (model.report.alpha, model.report.beta) == (0.25, 0.75)
    with pytest.raises(ValueError, match="alpha lies in"):
        EwadSettings(alpha=1.5)


def test_smote_mixes_rare_rows_only():
    rng = np.random.default_rng(0)
    x = rng.random((120, 5), dtype=np.float32)
    y = np.repeat([0, 1], [100, 20])
    x[y == 1] += 10
    more, labels = smote(x, y, 0.5, seed=1)
    assert labels.sum() == 50
    np.testing.assert_array_equal(more[:120], x)
    made = more[120:]
    assert ((made >= x[y == 1].min(axis=0)) & (made <= x[y == 1].max(axis=0))).all()
    assert smote(x, y, 0.1, seed=1)[1].sum() == 20
    with pytest.raises(ValueError, match="two"):
        smote(x, np.arange(120) == 3, 0.5, seed=1)


def test_made_rare_rows_look_like_rare_rows():
    rng = np.random.default_rng(0)
    rare = (0.8 + 0.02 * rng.normal(size=(60, 4))).astype(np.float32)
    how = replace(QUICK, epochs=150, rate=2e-3, hidden=16)  # long enough to get there
    made = synthesise(rare, 40, how, seed=2)
    assert made.shape == (40, 4)
    assert np.abs(made.mean(axis=0) - 0.8).max() < 0.15
    x = np.concatenate([rng.random((200, 4), dtype=np.float32) / 2, rare[:20]])
    more, labels = balance(x, np.repeat([0, 1], [200, 20]), 0.5, replace(how, epochs=2), seed=3)
    assert labels.sum() == 100
    assert len(more) == 300
