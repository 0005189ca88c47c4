"""The whole training: preprocessing, partitions, GANs, and what the scores of normal rows look like."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from cellwatch.models.ewad import weighting
from cellwatch.models.ewad.calibration import Calibration
from cellwatch.models.ewad.gan import TINY
from cellwatch.models.ewad.partitions import Partitions, partition
from cellwatch.models.ewad.preprocessing import Preprocessing
from cellwatch.models.ewad.report import Report
from cellwatch.models.ewad.scoring import FLOOR, Scoring
from cellwatch.models.ewad.settings import EwadSettings
from cellwatch.models.ewad.training import device, train
from cellwatch.models.types import F32, F64

CHUNK = 1024  # validation rows looked at at once


def fit(
    normal: F32,
    validation: F32,
    columns: tuple[str, ...],
    groups: tuple[str, ...] | None,
    settings: EwadSettings,
    seed: int,
    progress: Callable[[float], None] | None,
) -> tuple[Scoring, Calibration, Report]:
    """From raw normal rows (n, f) and (m, f). ValueError if no column varies or every member diverged."""
    prepare, usual = Preprocessing.fit(normal, columns, settings)
    with torch.no_grad():
        rows = prepare(torch.from_numpy(normal[usual]))[0].numpy()
    kept = prepare.kept.numpy()
    parts = partition(rows, settings, seed, None if groups is None else tuple(groups[k] for k in kept))
    trained = train(rows, parts, settings, seed, progress)
    members = list(trained.members)
    width = parts.columns.shape[1]
    mask = torch.from_numpy(parts.mask[members]).unsqueeze(1)
    scoring = (
        Scoring(
            settings,
            prepare,
            trained.gan,
            columns=torch.from_numpy(parts.columns[members]),
            mask=mask,
            slots=torch.from_numpy(_slots(parts, members, kept, len(columns))),
            error=torch.ones(len(members), 1, width),
            weight=mask.clone(),
            usual=torch.tensor([[0.0], [1.0]]).repeat(2, 1, 1).expand(2, 2, len(members)).clone(),
            share=torch.full((2,), 0.5),
            whole=torch.tensor([0.0, 1.0]),
            knots=torch.arange(2.0),
            shares=torch.tensor([1.0, 0.5]),
            tail=torch.ones(2),
        )
        .to(device())
        .eval()
    )
    with torch.no_grad():
        calibration = _calibrate(scoring, validation, seed)
    alpha, beta = scoring.share.tolist()
    report = Report(
        diverged=tuple(i for i in range(settings.members) if i not in members),
        attempts=trained.attempts,
        depths=trained.gan.generator.depths,
        alpha=alpha,
        beta=beta,
        rows=len(normal),
        outliers=int((~usual).sum()),
        training_bytes=trained.bytes,
        bytes=sum(t.numel() * t.element_size() for t in scoring.state_dict().values()),
        critic=trained.critic,
        generator=trained.generator,
        reconstruction=trained.reconstruction,
    )
    return scoring, calibration, report


def _slots(parts: Partitions, members: list[int], kept: np.ndarray, columns: int) -> np.ndarray:
    """For each raw column (f, m) the places in the members' columns (I * w) that hold it; I * w: none."""
    shape = (len(members), parts.columns.shape[1])
    counts = np.flatnonzero((np.arange(shape[1]) < parts.widths[members, None]).ravel())
    raw = kept[parts.columns[members].ravel()[counts]]
    order = np.argsort(raw, kind="stable")
    held = np.bincount(raw, minlength=columns)
    slots = np.full((columns, held.max()), shape[0] * shape[1], dtype=np.int64)
    turn = np.arange(len(raw)) - np.repeat(np.cumsum(held) - held, held)
    slots[raw[order], turn] = counts[order]
    return slots


def _calibrate(scoring: Scoring, validation: F32, seed: int) -> Calibration:
    """Learn from normal rows that nothing was trained on: errors, terms, alpha and beta, and the p-value."""
    here = scoring.mask.device

    def look(judge: Callable[[Tensor], Tensor], rows: F32) -> F64:
        parts = torch.split(torch.from_numpy(np.ascontiguousarray(rows, dtype=np.float32)), CHUNK)
        return torch.cat([judge(part.to(here)) for part in parts], dim=-2).cpu().double().numpy()

    def learnt(value: F64 | F32) -> Tensor:
        return torch.from_numpy(value.astype(np.float32)).to(here)

    def deviation(values: F64, axis: int | None) -> F64:
        spread = np.nanstd(values, axis=axis)
        return np.where(spread > 0, spread, 1.0)

    columns = scoring.columns.cpu().numpy()
    # rivals for a row are all measured by what is usual for the one that wins it
    rivals = scoring.settings.combination == "min" and bool((columns == columns[0]).all())

    residual = look(lambda part: scoring.raw(part)[1], validation)
    residual[residual == 0] = np.nan  # was missing
    if rivals:
        winner = _mean(residual**2, axis=2).argmin(axis=0)
        residual = np.take_along_axis(residual, winner[None, :, None], axis=0)
    error = np.sqrt(_mean(residual**2, axis=1, keepdims=True))
    mask = scoring.mask.cpu().numpy()
    typical = (error * mask).sum(axis=2, keepdims=True) / mask.sum(axis=2, keepdims=True)
    floored = np.maximum(np.maximum(error, FLOOR * typical), TINY)
    scoring.error = learnt(np.broadcast_to(floored, mask.shape))
    plain = scoring.settings.residual == "plain"
    scoring.weight = scoring.mask * (scoring.error**2 if plain else 1.0)

    raw = look(lambda part: scoring.raw(part)[0], validation)
    known = np.where(raw[2] > 0, raw[:2], np.nan)
    if rivals:
        known = np.take_along_axis(known, raw[0].argmin(axis=1)[None, :, None], axis=2)
    usual = np.stack([_mean(known, axis=1), deviation(known, 1)], axis=1)
    scoring.usual = learnt(np.broadcast_to(usual, (2, 2, len(columns))))

    alpha = scoring.settings.alpha
    if alpha is None:
        normal, odd = (
            look(lambda part: scoring.terms(part)[0], rows)
            for rows in (validation, weighting.noisy(validation, seed))
        )
        alpha = weighting.alpha(normal, odd, scoring.settings.combination)
    scoring.share = learnt(np.array([alpha, 1 - alpha]))

    score = look(lambda part: scoring(part).score[:, None], validation)[:, 0]
    scoring.whole = learnt(np.array([score.mean(), deviation(score, None)]))
    score = look(lambda part: scoring(part).score[:, None], validation)[:, 0]
    found = Calibration.fit(score)
    scoring.knots, scoring.shares, scoring.tail = map(learnt, (found.knots, found.shares, found.tail))
    return found


def _mean(values: F64, axis: int, *, keepdims: bool = False) -> F64:
    """Without NaN; 0 where there is nothing else."""
    known = ~np.isnan(values)
    count = known.sum(axis=axis, keepdims=keepdims)
    return np.asarray(np.where(known, values, 0.0).sum(axis=axis, keepdims=keepdims) / np.maximum(count, 1))
