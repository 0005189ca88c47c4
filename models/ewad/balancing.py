"""More rows of the rare class (EWAD-IIoT, section 3.4): SMOTE first, then a WGAN-GP trained on what is there.

Only ever for training rows: a test row's neighbours made before the split would be known in training.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from cellwatch.models.ewad.partitions import Partitions
from cellwatch.models.ewad.settings import EwadSettings
from cellwatch.models.ewad.training import train
from cellwatch.models.types import F32, I64, Bool

NEIGHBOURS = 5


def smote(x: F32, y: I64 | Bool, rate: float, seed: int) -> tuple[F32, I64]:
    """Complete rows (n, w) and labels (n,), 0 normal and 1 rare, with made-up rare rows behind them.

    x_i + lambda (x_j - x_i), x_j one of the 5 nearest rare rows (Chawla et al., JAIR 2002), until there are
    `rate` rare rows for each normal one. Nothing is added where there are as many already; ValueError for
    fewer than two rare rows.
    """
    from imblearn.over_sampling import SMOTE

    y = np.asarray(y, dtype=np.int64)
    rare = int(y.sum())
    if rare < 2:
        raise ValueError(f"{rare} rare rows: SMOTE needs two to mix")
    if rare >= rate * (len(y) - rare):
        return x, y
    made = SMOTE(sampling_strategy=rate, random_state=seed, k_neighbors=min(NEIGHBOURS, rare - 1))
    more, labels = made.fit_resample(x, y)
    return np.asarray(more, dtype=np.float32), np.asarray(labels, dtype=np.int64)


def synthesise(rare: F32, count: int, settings: EwadSettings, seed: int) -> F32:
    """`count` new rows (count, w) by one WGAN-GP that learnt from complete rare rows (n, w)."""
    one = replace(settings, members=1, depths=settings.depths[:1], kind="wgan-gp")
    n, w = rare.shape
    trained = train(rare, Partitions((np.arange(n),), np.arange(w)[None], np.array([w])), one, seed)
    noise = torch.randn(1, count, one.latent, generator=torch.Generator().manual_seed(seed))
    generator = trained.gan.generator
    with torch.no_grad():
        made: F32 = generator(noise.to(generator.weights[0].device))[0].cpu().numpy()
    return made


def balance(x: F32, y: I64 | Bool, rate: float, settings: EwadSettings, seed: int) -> tuple[F32, I64]:
    """SMOTE up to half of `rate`, then a WGAN-GP on real and mixed rare rows for the other half."""
    x, y = smote(x, y, rate / 2, seed)
    missing = round(rate * int((y == 0).sum())) - int(y.sum())
    if missing <= 0:
        return x, y
    made = synthesise(x[y == 1], missing, settings, seed)
    return np.concatenate([x, made]), np.concatenate([y, np.ones(missing, dtype=np.int64)])
