"""Ensembles that somebody named, beside the front: are they on it, where would they rank, what beats them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cellwatch.models.evaluation.pool import TABLE_2
from cellwatch.models.selection.level import Chosen, Members
from cellwatch.models.selection.ranking import topsis_of_front
from cellwatch.models.selection.scores import Scores
from cellwatch.models.selection.subsets import top_k_means
from cellwatch.models.types import F64


@dataclass(frozen=True, slots=True)
class Compared:
    """A named ensemble.

    `rank` is the place it would have in the ranked list. `beaten_by` is the best ranked ensemble of the front
    that is at least as good in everything and better in something, () if there is none.
    """

    name: str
    models: Members
    objectives: tuple[float, ...]
    score: float  # TOPSIS among the front and itself
    rank: int
    beaten_by: Members
    by_how_much: tuple[float, ...]  # objectives of that one less its own


def of_the_paper(scores: Scores) -> dict[str, Members]:
    """The ensembles of DeepSense's Table 2 of this level whose members are all among the models."""
    known = {model.casefold(): model for model in scores.models}
    return {
        name: tuple(known[m.casefold()] for m in members)
        for name, members in TABLE_2[scores.level].items()
        if all(m.casefold() in known for m in members)
    }


def compare(
    named: Mapping[str, Sequence[str]], scores: Scores, chosen: Chosen, k: int, weights: F64
) -> list[Compared]:
    """Each named ensemble beside the ranked list."""
    front = np.array([one.objectives for one in chosen.ranked])
    found = []
    for name, members in named.items():
        z = np.isin(scores.models, list(members))[None]
        own = top_k_means(z, scores.values, k)[0]
        score = topsis_of_front(np.concatenate([front, own[None]]), weights)
        better = np.flatnonzero((front >= own).all(axis=1) & (front > own).any(axis=1))
        found.append(
            Compared(
                name,
                tuple(members),
                tuple(map(float, own)),
                float(score[-1]),
                1 + int((score[:-1].round(12) > score[-1].round(12)).sum()),
                chosen.ranked[better[0]].models if len(better) else (),
                tuple(map(float, front[better[0]] - own)) if len(better) else (),
            )
        )
    return found
