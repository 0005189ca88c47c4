"""Two fitnesses compared: the mean of the members' quality, and the quality of the ensemble itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from cellwatch.models.evaluation.significance import mcnemar
from cellwatch.models.fusion.calibration import Calibration
from cellwatch.models.fusion.weights import validation_weights
from cellwatch.models.selection.level import Chosen, Settings, choose, exact_front
from cellwatch.models.selection.measured import (
    Answers,
    Tabulated,
    fused,
    fused_quality,
    measured_fitness,
)
from cellwatch.models.selection.nsga2 import Fitness
from cellwatch.models.selection.scores import Scores
from cellwatch.models.selection.subsets import count, enumerate_all, top_k_means
from cellwatch.models.types import F32, I64, Bool
from cellwatch.nodes.choosing import Told, many_runs
from cellwatch.nodes.judging import Judge

MOST_SUBSETS = 100_000  # each is measured
_CELLS = 100_000  # validation rows x classes that an ensemble is measured on
_LEAST_WEIGHT = 1e-3
_AT_ONCE = 2000  # ensembles between two news


@dataclass(frozen=True, slots=True)
class Duel:
    """What both fitnesses choose at one level, `by_mean` first; qualities: mean of accuracy, F1 and MCC.

    `test` maps each test to (quality of the first, of the second, p of McNemar's test between them).
    """

    by_mean: Chosen
    measured: Chosen
    validation: tuple[float, float]
    test: dict[str, tuple[float, float, float]]
    rows: int  # of validation

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the best ensemble of both with its figures."""
        best = {"mean": self.by_mean.ranked[0], "measured": self.measured.ranked[0]}
        return {
            name: {
                **{key: asdict(one)[key] for key in ("models", "objectives", "score")},
                "validation": self.validation[i],
                "test": {test: figures[i] for test, figures in self.test.items()},
            }
            for i, (name, one) in enumerate(best.items())
        } | {"mcnemar_p": {test: figures[2] for test, figures in self.test.items()}}


def duel(
    judge: Judge, scores: Scores, settings: Settings, runs: int, seed: int, workers: int | None, told: Told
) -> Duel:
    """Both choices for one level among the models that are in `scores` and were trained.

    Quality is measured on validation rows for both; the other dimensions are those of `scores`. The test rows
    are used once, for the best ranked ensemble of each.
    """
    level = scores.level
    there = {name.casefold(): name for name, of in judge.on_validation if of == level}
    known = [i for i, model in enumerate(scores.models) if model.casefold() in there]
    if len(known) < 2:
        raise ValueError(f"level {level}: fewer than two of the models with scores were trained")
    models = tuple(scores.models[i] for i in known)
    if count(len(models), settings.sizes) > MOST_SUBSETS:
        raise ValueError(f"level {level}: too many ensembles to measure each; choose smaller --sizes")
    names = [there[model.casefold()] for model in models]
    answers = _on_validation(judge, level, names, seed)
    values = scores.values[known].copy()
    values[:, 0] = fused_quality(np.eye(len(models), dtype=np.bool_), answers)
    mine = replace(scores, models=models, values=values)
    table = _table(mine, settings, answers, told)

    def chosen(fitness: Fitness) -> Chosen:
        fronts = many_runs({level: mine}, {level: fitness}, settings, runs, seed, workers, told)
        return choose(
            models, level, exact_front(fitness, len(models), settings.sizes), fronts[level], settings
        )

    by_mean, measured = chosen(partial(top_k_means, values=values, k=settings.k)), chosen(table)
    best = np.stack([np.isin(models, one.ranked[0].models) for one in (by_mean, measured)])
    a, b = fused_quality(best, answers)
    return Duel(by_mean, measured, (a, b), _on_tests(judge, level, names, best, answers), len(answers.y))


def _table(scores: Scores, settings: Settings, answers: Answers, told: Told) -> Tabulated:
    """The measured fitness of every allowed ensemble."""
    z = enumerate_all(len(scores.models), settings.sizes)
    found = []
    for done in range(0, len(z), _AT_ONCE):
        told(f"level {scores.level}: ensembles measured", done, len(z))
        found.append(measured_fitness(z[done : done + _AT_ONCE], scores.values, settings.k, answers))
    return Tabulated(z, np.concatenate(found))


def _on_tests(
    judge: Judge, level: int, names: list[str], best: Bool, answers: Answers
) -> dict[str, tuple[float, float, float]]:
    """Quality of both ensembles `best` (2, N) on each test with attacks, and McNemar's p between them."""
    found = {}
    for test, part in judge.data.tests.items():
        if level not in part.y:
            continue
        y = part.y[level]
        rows = np.flatnonzero(y >= 0)
        if not (y[rows] > 0).any():
            continue
        said = judge.said(part, {(name, level) for name in names})
        given = Answers(_stack(judge.calibration, level, names, said, rows), answers.weights, y[rows])
        right = fused(best, given) == given.y
        a, b = fused_quality(best, given)
        found[test] = (float(a), float(b), mcnemar(right[1], right[0]).p)
    return found


def _on_validation(judge: Judge, level: int, names: list[str], seed: int) -> Answers:
    """What the models say of half of the validation sessions, at most _CELLS of rows x classes, at random.

    Calibration and weights are those of the other half: on their own rows they would look too good.
    """
    part = judge.data.validation
    y = part.y[level]
    sessions, session = np.unique(part.group, return_inverse=True)
    learn = (session if len(sessions) > 1 else np.arange(len(y))) % 2 == 0
    rows = np.flatnonzero((y >= 0) & ~learn)
    most = max(1, _CELLS // len(judge.data.classes[level]))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))
    learn = learn & (y >= 0)
    calibration = judge.calibration_on(np.flatnonzero(learn)) if level == 1 else judge.calibration
    before, p = (_stack(calibration, level, names, judge.on_validation, some) for some in (learn, rows))
    weights = validation_weights(y[learn], before.argmax(axis=2).T, p.shape[2])
    return Answers(p, weights.clip(_LEAST_WEIGHT), y[rows])


def _stack(
    calibration: Calibration,
    level: int,
    names: list[str],
    said: Mapping[tuple[str, int], F32],
    rows: I64 | Bool,
) -> F32:
    """Probabilities (models, n, classes); those of level 1 calibrated, as the fusion has them."""
    found = []
    for name in names:
        p = said[name, level][rows]
        key = f"L1/{name}"
        if level == 1 and key in calibration.by_name:
            attack = calibration.apply(key, p[:, 1].astype(np.float64))
            p = np.stack([1.0 - attack, attack], axis=1)
        found.append(p.astype(np.float32))
    return np.stack(found)
