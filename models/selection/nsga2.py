"""NSGA-II over ensembles (DeepSense, section 4.8.2), on pymoo; fitness sees a whole population at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pymoo.algorithms.moo.nsga2 import NSGA2
from pymoo.core.crossover import Crossover
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mating import Mating
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.sampling import Sampling
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.optimize import minimize

from cellwatch.models.selection.pareto import Front, front
from cellwatch.models.types import F64, I64, Bool

Fitness = Callable[[Bool], F64]  # (B, N) ensembles -> (B, d) objectives, high = good


@dataclass(frozen=True, slots=True)
class Search:
    """Size of a search."""

    population: int = 150
    generations: int = 30
    crossover: float = 0.9  # probability
    mutation: float = 1.0


def search(fitness: Fitness, models: int, sizes: tuple[int, int], seed: int, settings: Search) -> Front:
    """The front of everything that one run of NSGA-II looked at; the same seed gives the same front.

    Ensembles have sizes[0]..sizes[1] of the `models`.
    """
    problem = _Subsets(fitness, models, sizes)
    mating = Mating(
        TournamentSelection(func_comp=_binary_tournament),
        _Uniform(n_parents=2, n_offsprings=2, prob=settings.crossover),
        _AddRemoveSwap(prob=settings.mutation),
        eliminate_duplicates=_Once(),
        n_max_iterations=1,  # to mate again for each child that exists already takes twice as long
    )
    algorithm = NSGA2(
        pop_size=settings.population, sampling=_Draw(), mating=mating, eliminate_duplicates=_Once()
    )
    minimize(problem, algorithm, ("n_gen", settings.generations), seed=seed, copy_algorithm=False)
    z, first = np.unique(np.concatenate(problem.seen), axis=0, return_index=True)
    return front(z, np.concatenate(problem.objectives)[first])


class _Subsets(Problem):  # type: ignore[misc]
    """What pymoo minimises; it remembers all that it evaluated, for no good ensemble shall be crowded out."""

    def __init__(self, fitness: Fitness, models: int, sizes: tuple[int, int]) -> None:
        smallest = np.arange(models)[None] < sizes[0]
        super().__init__(n_var=models, n_obj=fitness(smallest).shape[1], vtype=bool)
        self.fitness = fitness
        self.sizes = sizes
        self.seen: list[Bool] = []
        self.objectives: list[F64] = []

    def _evaluate(self, x: Bool, out: dict[str, F64], *_: object, **__: object) -> None:
        z = x.astype(np.bool_)
        self.seen.append(z)
        self.objectives.append(self.fitness(z))
        out["F"] = -self.objectives[-1]


def within(z: Bool, sizes: tuple[int, int], random_state: np.random.Generator) -> Bool:
    """The ensembles with members dropped or added at random until their size is allowed."""
    size = z.sum(axis=1, keepdims=True).clip(*sizes)
    keys = z + random_state.random(z.shape)  # members before others
    rank = np.argsort(np.argsort(-keys, axis=1), axis=1)
    return np.asarray(rank < size)


class _Draw(Sampling):  # type: ignore[misc]
    """Ensembles of random size."""

    def _do(self, problem: _Subsets, n_samples: int, random_state: np.random.Generator, **_: object) -> Bool:
        low, high = problem.sizes
        size = random_state.integers(low, high + 1, size=(n_samples, 1))
        rank = np.argsort(random_state.random((n_samples, problem.n_var)), axis=1)
        return np.asarray(rank < size)


class _Uniform(Crossover):  # type: ignore[misc]
    """Two children share out what their parents have between them, model by model."""

    def _do(self, problem: _Subsets, x: Bool, random_state: np.random.Generator, **_: object) -> Bool:
        swap = random_state.random(x.shape[1:]) < 0.5
        children = np.stack([np.where(swap, x[1], x[0]), np.where(swap, x[0], x[1])])
        return within(children.reshape(-1, x.shape[2]), problem.sizes, random_state).reshape(x.shape)


class _AddRemoveSwap(Mutation):  # type: ignore[misc]
    """One model comes, goes, or takes the place of another; K_max and the least size hold."""

    def _do(self, problem: _Subsets, x: Bool, random_state: np.random.Generator, **_: object) -> Bool:
        z = x.astype(np.bool_)
        kind = random_state.integers(3, size=len(z))  # add, remove, swap
        (low, high), size, rows = problem.sizes, z.sum(axis=1), np.arange(len(z))
        comes = (kind != 1) & (size < np.where(kind == 0, high, z.shape[1]))
        goes = (kind != 0) & ((kind == 2) & comes | (kind == 1) & (size > low))
        newcomer = np.where(z, -1.0, random_state.random(z.shape)).argmax(axis=1)
        leaver = np.where(z, random_state.random(z.shape), -1.0).argmax(axis=1)
        changed = z.copy()
        changed[rows[comes], newcomer[comes]] = True
        changed[rows[goes], leaver[goes]] = False
        return changed


class _Once(DuplicateElimination):  # type: ignore[misc]
    """No ensemble twice in a population."""

    def _do(self, pop: Population, other: Population | None, is_duplicate: Bool) -> Bool:
        ours = _keys(pop)
        if other is not None:
            return np.isin(ours, _keys(other)) | is_duplicate
        _, first = np.unique(ours, return_index=True)
        again = np.ones(len(pop), dtype=np.bool_)
        again[first] = False
        return again | is_duplicate


def _keys(pop: Population) -> np.ndarray[tuple[int], np.dtype[np.bytes_]]:
    packed = np.packbits(np.array([one.X for one in pop], dtype=np.bool_), axis=1)
    padded = np.concatenate([packed, np.ones((len(packed), 1), np.uint8)], axis=1)  # S drops trailing zeros
    return np.ascontiguousarray(padded).view(f"S{padded.shape[1]}").ravel()


def _binary_tournament(pop: Population, pairs: I64, random_state: np.random.Generator, **_: object) -> I64:
    """Winners (n, 1) of pairs (n, 2): the lower rank, then the greater crowding distance, then either."""
    rank, crowding = (np.array(pop.get(what), dtype=np.float64)[pairs] for what in ("rank", "crowding"))
    (rank_a, rank_b), (crowding_a, crowding_b) = rank.T, crowding.T
    level = rank_a == rank_b
    second = (rank_b < rank_a) | (level & (crowding_b > crowding_a))
    even = level & (crowding_a == crowding_b)
    second ^= even & (random_state.random(len(pairs)) < 0.5)
    return np.where(second, pairs[:, 1], pairs[:, 0])[:, None]
