"""Detectors of anomalies on folds: each is trained and judged once, what is finished lies in a cache."""

from __future__ import annotations

import hashlib
import io
import json
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cellwatch.models.datasets.dataset import digest
from cellwatch.models.ewad.catalog import CLASSIC, Make
from cellwatch.models.ewad.noise import Noise
from cellwatch.models.ewad.protocols import Fold
from cellwatch.models.types import F64, I64, Bool
from cellwatch.nodes.sources import code_digest, write_whole
from cellwatch.nodes.trainer import versions

CLEAN = ""  # name of the scores of rows without added noise
CODE = ("models/ewad", "models/evaluation/anomalies.py")
CLASSIC_CODE = (
    "models/ewad/baselines", "models/ewad/preprocessing.py", "models/ewad/settings.py",
    "models/ewad/noise.py", "models/evaluation/anomalies.py",
)  # fmt: skip
Told = Callable[[str, int, int], None]  # what was finished, done, of how many


@dataclass(frozen=True, slots=True)
class Result:
    """What one detector said of one fold."""

    method: str
    fold: str
    seed: int
    y: Bool  # (n,) of the test rows
    scores: Mapping[str, F64]  # CLEAN and every noise -> (n,)
    threshold: float
    train_s: float
    ms_per_sample: float  # all test rows at once
    report: Mapping[str, Any]  # of an EWAD's training; {} for others
    why: str = ""  # why there is no result: the method cannot learn from this fold

    def take(self, places: I64) -> Result:
        """Some of the rows."""
        return replace(self, y=self.y[places], scores={k: v[places] for k, v in self.scores.items()})


def run(
    folds: Iterator[Fold],
    count: int,
    methods: Mapping[str, Make],
    columns: tuple[str, ...],
    cache: Path,
    *,
    seeds: Sequence[int] = (0,),
    noises: Sequence[Noise] = (),
    told: Told = lambda *_: None,
) -> list[Result]:
    """Every method on every fold from every seed; what `cache` holds is not done again."""
    cache.mkdir(parents=True, exist_ok=True)
    found: list[Result] = []
    total = count * len(methods) * len(seeds)
    for fold in folds:
        place = digest(fold.x, fold.y, fold.train, fold.test)
        for name, make in methods.items():
            for seed in seeds:
                told(f"{name}, {fold.name}", len(found), total)
                path = cache / f"{_key(place, fold, name, seed, noises, columns)}.npz"
                made = _kept(path)
                if made is None:
                    made = judge(name, make, fold, columns, seed, noises)
                    write_whole(path, _bytes(made))
                found.append(made if fold.counted is None else made.take(fold.counted))
    told("judged", total, total)
    return found


def judge(
    name: str, make: Make, fold: Fold, columns: tuple[str, ...], seed: int, noises: Sequence[Noise] = ()
) -> Result:
    """Train a method on a fold and score its test rows, as they are and with noise."""
    train, test, y = fold.x[fold.train], fold.x[fold.test], fold.y[fold.test]
    method = make(seed)
    begun = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # libraries warn about their own future
            method.fit(train, fold.train_y(), columns)
    except ValueError as error:
        nothing = {CLEAN: np.full(len(y), np.nan)}
        return Result(name, fold.name, seed, y, nothing, 0.0, 0.0, 0.0, {}, str(error))
    trained = time.perf_counter()
    scores = {CLEAN: method.score(test)}
    judged = time.perf_counter()
    for noise in noises:
        scores[str(noise)] = method.score(noise.add(test, train, seed))
    report = {} if method.report is None else method.report.to_json()
    each = 1e3 * (judged - trained) / max(len(test), 1)
    return Result(name, fold.name, seed, y, scores, method.threshold, trained - begun, each, report)


def _key(
    place: str,
    fold: Fold,
    name: str,
    seed: int,
    noises: Sequence[Noise],
    columns: tuple[str, ...],
) -> str:
    made_with = {library: v for library, v in versions().items() if library != "cellwatch"}
    code = code_digest(*(CLASSIC_CODE if name in CLASSIC else CODE))
    said = [place, fold.labelled, name, seed, [str(n) for n in noises], columns, code, made_with]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:24]


def _bytes(result: Result) -> bytes:
    names = list(result.scores)
    about = {
        "method": result.method, "fold": result.fold, "seed": result.seed, "threshold": result.threshold,
        "train_s": result.train_s, "ms_per_sample": result.ms_per_sample, "report": result.report,
        "why": result.why, "scores": names,
    }  # fmt: skip
    out = io.BytesIO()
    scores = np.stack([result.scores[name] for name in names])
    np.savez_compressed(out, y=result.y, scores=scores, about=np.array(json.dumps(about)))
    return out.getvalue()


def _kept(path: Path) -> Result | None:
    try:
        with np.load(path) as held:
            about = json.loads(str(held["about"]))
            scores = dict(zip(about.pop("scores"), held["scores"], strict=True))
            return Result(y=held["y"], scores=scores, **about)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        return None
