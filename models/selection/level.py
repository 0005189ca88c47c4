"""The choice of ensembles for one level: exact front, many runs of NSGA-II, ranking, the most frequent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cellwatch.models.selection.nsga2 import Fitness, Search, search
from cellwatch.models.selection.pareto import Front, front, hypervolume
from cellwatch.models.selection.ranking import order
from cellwatch.models.selection.subsets import count, enumerate_all
from cellwatch.models.types import F64

MOST = 5_000_000  # subsets that are enumerated; beyond, the front is what the runs found together
_CHUNK = 1 << 16  # of them at a time

Members = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Settings:
    """How ensembles are chosen; `weights` by level (4,), order as DIMENSIONS, sum 1."""

    weights: dict[int, F64]
    k: int = 3  # best members that count in each dimension
    sizes: tuple[int, int] = (1, 5)  # least and greatest number of members (K_max)
    reference: tuple[float, ...] = (0.0, 0.0, 0.0, 0.0)  # of the hypervolume
    frequent: int = 3  # ensembles to keep
    search: Search = field(default_factory=Search)


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Members, objectives in 0..1; `score` is TOPSIS within the front, `runs` says how many runs kept it."""

    models: Members
    objectives: tuple[float, ...]
    score: float
    runs: int = 0


@dataclass(frozen=True, slots=True)
class Chosen:
    """What the choice for one level came to.

    `front` is in the order of the first objective, `ranked` the same by TOPSIS. `hypervolume_ratio` is the
    least of the runs, NSGA-II / exact; None if the exact front is not known (more than MOST subsets) or
    has no point beyond the reference. `whole` counts the runs that found every point of the exact front.
    """

    front: list[Ensemble]
    ranked: list[Ensemble]
    frequent: list[Ensemble]
    hypervolume_ratio: float | None
    whole: int
    subsets: int


def exact_front(fitness: Fitness, models: int, sizes: tuple[int, int]) -> Front | None:
    """The Pareto front of every allowed subset; None if there are more than MOST."""
    if count(models, sizes) > MOST:
        return None
    z = enumerate_all(models, sizes)
    parts = [front(part, fitness(part)) for part in np.array_split(z, 1 + len(z) // _CHUNK)]
    return merged(parts)


def merged(parts: Sequence[Front]) -> Front:
    """One front of several."""
    z, first = np.unique(np.concatenate([part.z for part in parts]), axis=0, return_index=True)
    return front(z, np.concatenate([part.objectives for part in parts])[first])


def one_run(fitness: Fitness, models: int, settings: Settings, seed: int) -> Front:
    """The front of one run of NSGA-II."""
    low, high = settings.sizes
    return search(fitness, models, (low, min(high, models)), seed, settings.search)


def choose(
    models: Sequence[str], level: int, exact: Front | None, runs: Sequence[Front], settings: Settings
) -> Chosen:
    """Ranks the front, compares the runs with it and counts which ensembles they recommend.

    A run recommends the `settings.frequent` best of its own ranked list; of those recommended equally often
    the better ranked comes first.
    """
    weights = settings.weights[level]
    whole = exact if exact is not None else merged(runs)
    score, best_first = order(whole.objectives, weights)
    recommended: Counter[bytes] = Counter()
    objectives: dict[bytes, F64] = {}
    for run in runs:
        top = order(run.objectives, weights)[1][: settings.frequent]
        recommended.update(run.z[i].tobytes() for i in top)
        objectives |= {run.z[i].tobytes(): run.objectives[i] for i in top}
    place = {whole.z[i].tobytes(): rank for rank, i in enumerate(best_first)}
    scores = {whole.z[i].tobytes(): float(score[i]) for i in range(len(whole))}

    def ensemble(key: bytes, values: F64) -> Ensemble:
        members = np.flatnonzero(np.frombuffer(key, dtype=np.bool_))
        names = tuple(models[i] for i in members.tolist())
        return Ensemble(names, tuple(map(float, values)), scores.get(key, float("nan")), recommended[key])

    kept = sorted(recommended, key=lambda key: (-recommended[key], place.get(key, len(whole)), key))
    listed = [ensemble(z.tobytes(), values) for z, values in zip(whole.z, whole.objectives, strict=True)]
    return Chosen(
        front=listed,
        ranked=[listed[i] for i in best_first],
        frequent=[ensemble(key, objectives[key]) for key in kept[: settings.frequent]],
        hypervolume_ratio=None if exact is None else _least_ratio(exact, runs, np.array(settings.reference)),
        whole=0 if exact is None else sum(_same(exact, run) for run in runs),
        subsets=count(len(models), settings.sizes),
    )


def _least_ratio(exact: Front, runs: Sequence[Front], reference: F64) -> float | None:
    volume = hypervolume(exact.objectives, reference)
    return min(hypervolume(run.objectives, reference) / volume for run in runs) if volume else None


def _same(exact: Front, run: Front) -> bool:
    return np.array_equal(np.unique(exact.objectives, axis=0), np.unique(run.objectives, axis=0))
