"""The choice of ensembles on all cores of this machine: `cellwatch select`."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial

from joblib import Parallel, delayed

from cellwatch.models.selection.level import Chosen, Settings, choose, exact_front, one_run
from cellwatch.models.selection.nsga2 import Fitness
from cellwatch.models.selection.pareto import Front
from cellwatch.models.selection.scores import Scores
from cellwatch.models.selection.subsets import top_k_means

_AT_ONCE = 5  # runs in one job: few enough for a moving bar

Told = Callable[[str, int, int], None]


def choose_all(
    scores: Mapping[int, Scores],
    settings: Settings,
    runs: int,
    seed: int,
    workers: int | None,
    told: Told,
) -> dict[int, Chosen]:
    """For each level the exact front and `runs` runs of NSGA-II with seeds seed, seed + 1, ...

    `told` hears what is done, how far, and of how much. The result does not depend on `workers`.
    """
    fitness = {level: partial(top_k_means, values=one.values, k=settings.k) for level, one in scores.items()}
    fronts = many_runs(scores, fitness, settings, runs, seed, workers, told)
    return {
        level: choose(
            one.models,
            level,
            exact_front(fitness[level], len(one.models), settings.sizes),
            fronts[level],
            settings,
        )
        for level, one in scores.items()
    }


def many_runs(
    scores: Mapping[int, Scores],
    fitness: Mapping[int, Fitness],
    settings: Settings,
    runs: int,
    seed: int,
    workers: int | None,
    told: Told,
) -> dict[int, list[Front]]:
    """The fronts of all runs of NSGA-II by level, in the order of their seeds."""
    jobs = [
        (level, range(first, min(first + _AT_ONCE, seed + runs)))
        for level in scores
        for first in range(seed, seed + runs, _AT_ONCE)
    ]
    what, done, of = "runs of NSGA-II", 0, runs * len(scores)
    told(what, done, of)
    found: dict[int, dict[int, Front]] = defaultdict(dict)
    pool = Parallel(n_jobs=min(workers or os.cpu_count() or 1, len(jobs)), return_as="generator_unordered")
    for level, fronts in pool(
        delayed(_some_runs)(level, fitness[level], len(scores[level].models), settings, seeds)
        for level, seeds in jobs
    ):
        found[level] |= fronts
        done += len(fronts)
        told(what, done, of)
    return {level: [front for _, front in sorted(by_seed.items())] for level, by_seed in found.items()}


def _some_runs(
    level: int, fitness: Fitness, models: int, settings: Settings, seeds: range
) -> tuple[int, dict[int, Front]]:
    return level, {seed: one_run(fitness, models, settings, seed) for seed in seeds}
