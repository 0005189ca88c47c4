"""Which features to keep: quality against their number and their cost, by NSGA-II.

After the multi-objective feature selection of DataSense (Firouzi et al., Electronics 2025, 14, 4095), with
the search of Deb et al. (IEEE Trans. Evol. Comput. 2002, 6, 182) as in pymoo. What the paper leaves open is
ours:

- quality is the macro F1 score of a decision tree, the mean over folds that share no session (or, without
  sessions, a stretch of time);
- cost is what must be computed once for any of a group of columns: reading headers 1, telling apart what is
  distinct 2, dissecting application messages 4, judging tags against a baseline 2;
- the choice is the one-standard-error rule (Breiman et al., 1984): of all sets on the front whose quality is
  within one standard error of the best, the cheapest, and of these the smallest;
- a quarter of the sessions is set aside before the search begins; the quality on it is what to believe.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.features.columns import SETS
from cellwatch.models.types import F64, I64, Bool

POPULATION = 40
FOLDS = 4
BLOCKS = 24  # stretches of time, where there are no sessions
MAX_ROWS = 4_000  # rows that a tree learns from
DEPTH = 10
_COSTS = (("network_", 1.0), ("distinct", 2.0), ("log_", 4.0), ("industrial_", 4.0), ("sensor_", 2.0))


@dataclass(frozen=True, slots=True)
class Candidate:
    """One set of features."""

    names: tuple[str, ...]
    quality: float  # macro F1, mean over the folds
    error: float  # its standard error
    cost: float
    held_out: float  # macro F1 on sessions that the search has not seen


@dataclass(frozen=True, slots=True)
class Front:
    """Sets of which none is better than another in quality, number and cost at once; by number."""

    candidates: tuple[Candidate, ...]
    chosen: int
    everything: Candidate  # all features, for comparison
    rows: int
    classes: tuple[str, ...]

    @property
    def choice(self) -> Candidate:
        """The set that the one-standard-error rule picks."""
        return self.candidates[self.chosen]


def group_of(name: str) -> str:
    """What must be computed for a column."""
    if any(name.startswith(f"network_{one}_") for one in SETS) or name == "industrial_new-peers_count":
        return "distinct"
    return next((start for start, _ in _COSTS if name.startswith(start)), name)


def cost(names: tuple[str, ...]) -> float:
    """Cost of a set: each group is paid for once, a column of an unknown group costs 1.

    >>> cost(("network_ttl_avg", "network_ttl_max", "network_ips_all_count"))
    3.0
    """
    known = dict(_COSTS)
    return float(sum(known.get(group, 1.0) for group in {group_of(name) for name in names}))


def select(
    x: F64,
    labels: NDArray[np.str_],
    names: tuple[str, ...],
    *,
    sessions: NDArray[Any] | None = None,
    generations: int = 25,
    seed: int = 0,
    told: Callable[[int], None] = lambda _generation: None,
) -> Front:
    """Search the sets of the columns of `x` (rows, features), NaN missing; rows in the order of time.

    `sessions` (rows,) says which rows belong together. Raises ValueError when there is nothing to tell apart.
    """
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.ux import UniformCrossover
    from pymoo.operators.mutation.bitflip import BitflipMutation
    from pymoo.optimize import minimize

    classes, y = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"all rows are {classes[0]!r}: there is nothing to tell apart")
    groups = (
        np.unique(sessions, return_inverse=True)[1]
        if sessions is not None
        else np.arange(len(y)) * BLOCKS // max(len(y), 1)
    )
    judge = _Judge(np.asarray(x, dtype=np.float32), y, groups, seed)
    several = tuple(names)

    class Sets(Problem):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(n_var=len(several), n_obj=3, n_ieq_constr=1, vtype=bool)

        def _evaluate(self, masks: Bool, out: dict[str, Any], *_: Any, **__: Any) -> None:
            rows = []
            for mask in masks:
                chosen = tuple(several[i] for i in np.flatnonzero(mask))
                rows.append((1.0 - judge(mask)[0], len(chosen), cost(chosen)))
            out["F"] = np.array(rows)
            out["G"] = 1 - masks.sum(axis=1, keepdims=True)

    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, max(2, min(len(several), 24)), size=POPULATION)
    first = rng.random((POPULATION, len(several))).argsort(axis=1) < sizes[:, None]
    algorithm = NSGA2(
        pop_size=POPULATION,
        sampling=first,
        crossover=UniformCrossover(),
        mutation=BitflipMutation(prob=1.0, prob_var=1.5 / len(several)),
        eliminate_duplicates=True,
    )
    result = minimize(
        Sets(), algorithm, ("n_gen", generations), seed=seed, callback=lambda a: told(int(a.n_gen))
    )

    def candidate(mask: Bool) -> Candidate:
        chosen = tuple(several[i] for i in np.flatnonzero(mask))
        quality, error = judge(mask)
        return Candidate(chosen, quality, error, cost(chosen), judge.held_out(mask))

    found = sorted(
        (candidate(mask) for mask in np.atleast_2d(result.X).astype(bool)),
        key=lambda c: (len(c.names), c.cost),
    )
    best = max(found, key=lambda c: c.quality)
    near = [i for i, c in enumerate(found) if c.quality >= best.quality - best.error]
    chosen = min(near, key=lambda i: (found[i].cost, len(found[i].names)))
    everything = candidate(np.ones(len(several), dtype=bool))
    return Front(tuple(found), chosen, everything, len(y), tuple(map(str, classes)))


class _Judge:
    """Quality of a set of features, remembered by set."""

    def __init__(self, x: NDArray[np.float32], y: I64, groups: I64, seed: int) -> None:
        from sklearn.model_selection import StratifiedGroupKFold

        self._x, self._y, self._seed = x, y, seed
        self._known: dict[bytes, tuple[float, float]] = {}
        rows = np.arange(len(y))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a class with fewer sessions than folds is missing in some
            outer = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed)
            kept, self._apart = next(iter(outer.split(rows, y, groups)))
            inner = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=seed + 1)
            self._folds = [
                (kept[a], kept[b]) for a, b in inner.split(kept, y[kept], groups[kept]) if len(a) and len(b)
            ]
        self._kept = kept
        if len(np.unique(y[kept])) < 2 or not self._folds:
            raise ValueError("too few sessions: each class must be in several of them")

    def __call__(self, mask: Bool) -> tuple[float, float]:
        """Mean over the folds, and its standard error."""
        key = np.packbits(mask).tobytes()
        if key not in self._known:
            scores = [self._score(train, test, mask) for train, test in self._folds]
            self._known[key] = (float(np.mean(scores)), float(np.std(scores) / np.sqrt(len(scores))))
        return self._known[key]

    def held_out(self, mask: Bool) -> float:
        """Quality on the sessions set aside."""
        return self._score(self._kept, self._apart, mask)

    def _score(self, train: I64, test: I64, mask: Bool) -> float:
        from sklearn.tree import DecisionTreeClassifier

        if not mask.any():
            return 0.0
        if len(train) > MAX_ROWS:
            train = np.random.default_rng(self._seed).choice(train, MAX_ROWS, replace=False)
        tree = DecisionTreeClassifier(max_depth=DEPTH, class_weight="balanced", random_state=self._seed)
        tree.fit(self._x[train][:, mask], self._y[train])
        return _macro_f1(self._y[test], tree.predict(self._x[test][:, mask]))


def _macro_f1(y: I64, said: I64) -> float:
    """Mean F1 over the classes that are there or were said."""
    n = int(max(y.max(), said.max())) + 1
    table = np.bincount(y * n + said, minlength=n * n).reshape(n, n)
    all_of = table.sum(axis=0) + table.sum(axis=1)
    there = all_of > 0
    return float((2 * np.diag(table)[there] / all_of[there]).mean())
