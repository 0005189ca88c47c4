"""Training of detectors: one job a model and level, side by side, on this machine or on a cluster.

What is finished lies in a cache, by the content of the data, the code of the detectors and the libraries: a
training that was broken off goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import cellwatch
from cellwatch.models.datasets.dataset import DataSet, Part, digest
from cellwatch.models.detectors.detector import Detector
from cellwatch.models.detectors.scaler import Scaler
from cellwatch.models.evaluation.metrics import confusion, quality
from cellwatch.models.evaluation.resources import size_mb
from cellwatch.models.evaluation.speed import inference_time, processing_rate
from cellwatch.models.features.schema import Schema, default_schema
from cellwatch.models.types import F32, I64
from cellwatch.nodes import measuring
from cellwatch.nodes.measuring import measured, side_by_side, watched
from cellwatch.nodes.own_detector import OwnKind
from cellwatch.nodes.sources import code_digest, write_whole

LIBRARIES = ("numpy", "scikit-learn", "xgboost", "xgboost-cpu", "torch", "onnx", "onnxruntime")
MEASURED, AT_A_TIME = 4096, 256  # rows whose answers are timed, and how many are asked at a time
WARM = 4  # rows of each class
AT_ONCE = 3  # models for each worker of a Ray cluster before what is finished is kept


class TrainingError(RuntimeError):
    """Training that cannot be done; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Trained:
    """One finished model."""

    detector: str
    level: int
    kind: str  # "window" | "sequence"
    graph: bytes
    card: dict[str, Any]
    costs: Mapping[str, float] = field(default_factory=dict)  # of training, by METRICS; {}: not known
    pickled: bool = False  # instead of a graph: a detector of somebody else without one


@dataclass(frozen=True, slots=True)
class Failed:
    """A model that could not be trained."""

    detector: str
    level: int
    error: str


Job = tuple[str, int]  # detector, level
Told = Callable[[str, int, int], None]  # what was finished, done, of how many


def train(
    data: DataSet,
    jobs: Sequence[Job],
    cache: Path,
    *,
    seed: int = 0,
    engine: str = "local",
    workers: int | None = None,
    told: Told = lambda *_: None,
    own: Sequence[OwnKind] = (),
    failed: list[Failed] | None = None,
    scaler: Scaler | None = None,
) -> list[Trained]:
    """Train what `cache` does not hold yet; the models in the order of `jobs`.

    `engine`: "local", "dask://HOST:PORT" or "ray://HOST:PORT". On this machine each model is trained in a
    process of its own, and what that takes is kept. `own`: detectors beside those of the catalog, by their
    names in `jobs`; they are not kept. Models that fail are put into `failed`; without it TrainingError
    is raised for the first. `scaler`: another than that of the training rows. Rows whose class a level does
    not know (-1) are left out there.
    """
    from cellwatch.models.detectors.catalog import DETECTORS

    kinds: dict[str, type[Detector] | OwnKind] = {**DETECTORS, **{one.NAME: one for one in own}}
    mine = {one.NAME for one in own}
    place = place_of(data, cache, seed, scaler)
    scaler = scaler or scaler_of(data)
    place.mkdir(parents=True, exist_ok=True)
    found = {job: kept for job in jobs if job[0] not in mine and (kept := _kept(place, job))}
    todo = [job for job in jobs if job not in found]
    done = len(found)
    told("kept from before" if done else "training", done, len(jobs))
    if todo:
        pool, vpool = scaler.transform(data.train.pool), scaler.transform(data.validation.pool)
        tasks = [
            (
                kinds[name], level, data.classes[level], seed,
                (pool, *_known(data.train, level)),
                (vpool, *_known(data.validation, level)),
            )
            for name, level in todo
        ]  # fmt: skip
        for made in _here(tasks, workers) if engine == "local" else _on_cluster(tasks, engine):
            done += 1
            told(f"{made.detector}, L{made.level}", done, len(jobs))
            if isinstance(made, Trained):
                found[made.detector, made.level] = made
                if made.detector not in mine:
                    _keep(place, made)
            elif failed is None:
                raise TrainingError(f"{made.detector}, level {made.level}: {made.error}")
            else:
                failed.append(made)
    about = _about(data, seed)
    return [_with_card(found[job], about) for job in jobs if job in found]


Task = tuple[type[Detector] | OwnKind, int, tuple[str, ...], int, tuple[F32, I64, I64], tuple[F32, I64, I64]]


def _here(tasks: Sequence[Task], workers: int | None) -> Iterator[Trained | Failed]:
    """Each in a process of its own."""
    for k, made, usage in side_by_side([(fit_one, task) for task in tasks], workers):
        kind, level = tasks[k][:2]
        if usage is None:
            yield Failed(kind.NAME, level, made)
            continue
        costs = {
            "training_time_s": made.card["seconds"],
            "ram_train_mb": usage.ram_mb,
            "cpu_train": usage.cpu,
        }
        yield replace(made, costs={name: round(value, 4) for name, value in costs.items()})


def _on_cluster(tasks: Sequence[Task], engine: str) -> Iterator[Trained | Failed]:
    with _engine(engine):
        from joblib import Parallel, delayed, effective_n_jobs

        if engine.startswith("ray"):  # its backend gives results only when all are there
            run = Parallel(n_jobs=-1)
            some = AT_ONCE * effective_n_jobs(-1)
            for k in range(0, len(tasks), some):
                yield from run(delayed(_tried)(task) for task in tasks[k : k + some])
        else:
            run = Parallel(n_jobs=-1, return_as="generator_unordered", pre_dispatch="all")
            yield from run(delayed(_tried)(task) for task in tasks)


def _tried(task: Task) -> Trained | Failed:
    try:
        return fit_one(*task)
    except Exception as error:  # a detector may raise anything; the others go on
        return Failed(task[0].NAME, task[1], f"{type(error).__name__}: {error}")


def place_of(data: DataSet, cache: Path, seed: int, scaler: Scaler | None = None) -> Path:
    """Folder in `cache` of what is trained on this data with this seed, code, libraries, and scaler."""
    made_with = {name: v for name, v in versions().items() if name != "cellwatch"}
    given = [] if scaler is None else [digest(scaler.centre, scaler.scale)]
    said = json.dumps([code_digest("models/detectors"), made_with, *given], sort_keys=True)
    return cache / f"{data_digest(data)}-{seed}-{hashlib.sha256(said.encode()).hexdigest()[:12]}"


def scaler_of(data: DataSet) -> Scaler:
    """The scaler of a data set: that of its training rows alone."""
    return Scaler.fit(data.train.x)


def data_digest(data: DataSet) -> str:
    """Hash of what is learnt from: rows, sequences, labels."""
    parts = (data.train, data.validation)
    return digest(
        *(p.pool for p in parts),
        *(p.before for p in parts),
        *(p.y[level] for p in parts for level in sorted(p.y)),
        np.array([name for level in sorted(data.classes) for name in data.classes[level]]),
    )


def fit_one(
    kind: type[Detector] | OwnKind,
    level: int,
    classes: tuple[str, ...],
    seed: int,
    train: tuple[F32, I64, I64],
    validation: tuple[F32, I64, I64],
) -> Trained:
    """Train one model on (scaled pool, places, classes), judge it on validation, and write its graph."""
    x, xv = (_gather(pool, before, kind.KIND) for pool, before, _ in (train, validation))
    y, yv = train[2], validation[2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries warn about their own future
        if isinstance(kind, type):  # ours load libraries as they need them
            _warm(kind, classes, x, y)
        model: Any = kind(classes, seed=seed)  # type: ignore[call-arg]
        begun = time.perf_counter()
        with measured():
            model.fit(x, y, validation=(xv, yv) if len(yv) else None)
        seconds = time.perf_counter() - begun
        graph = model.to_onnx()
    called = model.predict_proba(xv).argmax(axis=1) if len(yv) else np.zeros(0, dtype=np.int64)
    known = yv >= 0
    m = confusion(yv[known], called[known], len(classes))
    true, said = np.nonzero(m)
    card = {
        "detector": kind.NAME,
        "level": level,
        "kind": kind.KIND,
        "about": (kind.__doc__ or "").strip().split("\n")[0],
        "classes": list(classes),
        "seed": seed,
        "rows": {"train": len(y), "validation": len(yv)},
        "seconds": round(seconds, 3),
        "size_bytes": len(graph),
        "validation": {k: round(v, 5) for k, v in quality(m).to_dict().items()} if m.sum() else {},
        # of the validation rows: [true class, called class, rows], zeros left out
        "confusion": [[int(i), int(j), int(m[i, j])] for i, j in zip(true, said, strict=True)],
        "versions": versions(),
    }
    return Trained(kind.NAME, level, kind.KIND, graph, card, pickled=getattr(model, "PICKLED", False))


def _warm(kind: type[Detector], classes: tuple[str, ...], x: F32, y: I64) -> None:
    """Fit another one on a few rows of each class: loading libraries is no part of what is measured."""
    if measuring.unwatched():
        return
    order = np.argsort(y, kind="stable")
    place = np.arange(len(y)) - np.searchsorted(y[order], y[order])
    few = np.sort(order[place < WARM])
    with suppress(Exception):  # too few for some
        kind(classes, seed=0).fit(x[few], y[few])  # type: ignore[call-arg]


def versions() -> dict[str, str]:
    """What a model was made with."""
    found = {"cellwatch": cellwatch.__version__, "python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def schema_of(data: DataSet) -> Schema:
    """The feature schema of a data set; a table's own columns are plain numbers."""
    ours = default_schema()
    return ours if data.columns == ours.names else Schema(data.columns, ("1",) * len(data.columns))


def probabilities(one: Trained, part: Part, pool: F32) -> F32:
    """What a model says of the rows of a part, whose pool is given scaled: (n, classes).

    WorkError if somebody else's fails.
    """
    from cellwatch.nodes.inference import answers

    batches = list(part.batches(pool, sequence=one.kind == "sequence"))
    if not one.pickled:
        return answers(one.graph, False, batches)
    found, _ = watched(answers, one.graph, True, batches)  # somebody else's: it may do anything
    return np.asarray(found, dtype=np.float32)


def costs_of_answers(
    models: Sequence[Trained], part: Part, pool: F32, workers: int | None = None
) -> tuple[dict[Job, dict[str, float]], list[Failed]]:
    """What each model costs on at most MEASURED rows of a part (pool scaled), with what its training did.

    Named as in METRICS; each in a process of its own. A model whose process fails has its training's alone.
    """
    from cellwatch.nodes.inference import time_to_answer

    some = part.take(np.linspace(0, len(part) - 1, min(len(part), MEASURED)).round().astype(np.int64))
    rows = {
        kind: list(some.batches(pool, sequence=kind == "sequence", size=AT_A_TIME))
        for kind in {one.kind for one in models}
    }
    found = {(one.detector, one.level): dict(one.costs) for one in models}
    jobs = [(time_to_answer, (one.graph, one.pickled, rows[one.kind])) for one in models]
    failed = []
    for k, seconds, usage in side_by_side(jobs, workers):
        if usage is None:
            failed.append(Failed(models[k].detector, models[k].level, f"asked: {seconds}"))
        else:
            found[models[k].detector, models[k].level] |= {
                "ram_infer_mb": usage.ram_mb, "cpu_infer": usage.cpu,
                "size_mb": size_mb(len(models[k].graph)),
                "inference_time_s": inference_time(seconds, len(some)),
                "processing_rate": processing_rate(seconds, len(some)),
            }  # fmt: skip
    return found, failed


def _known(part: Part, level: int) -> tuple[I64, I64]:
    """Places of the rows whose class is known, and the classes."""
    y = part.y[level]
    known = y >= 0
    return (part.before, y) if known.all() else (part.before[known], y[known])


def _gather(pool: F32, before: I64, kind: str) -> F32:
    return pool[before] if kind == "sequence" else pool[before[:, -1]]


def _about(data: DataSet, seed: int) -> dict[str, Any]:
    return {
        "data": {
            "name": data.name, "about": data.about, "split": data.split,
            "fingerprint": data.fingerprint, "digest": data_digest(data),
            **{name: fact for name, fact in data.facts.items() if name != "folder"},
        },
        "schema_id": schema_of(data).schema_id,
        "seed": seed,
    }  # fmt: skip


def _with_card(made: Trained, about: dict[str, Any]) -> Trained:
    """With the card that goes into a bundle: nothing on it is of one machine or one run."""
    card = {name: value for name, value in made.card.items() if name != "seconds"}
    return replace(made, card=card | about)


def _keep(place: Path, made: Trained) -> None:
    """The card last: a model without one is not finished."""
    stem = f"L{made.level}-{made.detector}"
    write_whole(place / f"{stem}.onnx", made.graph)
    write_whole(place / f"{stem}.card.json", json.dumps(made.card | {"costs": dict(made.costs)}).encode())


def _kept(place: Path, job: Job) -> Trained | None:
    stem = f"L{job[1]}-{job[0]}"
    try:
        card = json.loads((place / f"{stem}.card.json").read_text())
        costs = card.pop("costs", {})
        return Trained(*job, card["kind"], (place / f"{stem}.onnx").read_bytes(), card, costs)
    except (FileNotFoundError, ValueError):
        return None


@contextmanager
def _engine(name: str) -> Iterator[None]:
    """joblib's backend of that name, connected."""
    if name == "local":
        yield
        return
    from joblib import parallel_config

    kind, _, address = name.partition("://")
    if kind not in {"dask", "ray"} or not address:
        raise TrainingError(f"--engine {name}: allowed: local, dask://HOST:PORT, ray://HOST:PORT")
    with ExitStack() as stack:
        try:
            if kind == "dask":
                from distributed import Client

                client: Any = Client  # joblib's backend finds it
                stack.enter_context(client(f"tcp://{address}", timeout="10s"))
            else:
                import ray
                from ray.util.joblib import register_ray

                stack.enter_context(ray.init(address=f"ray://{address}"))
                register: Any = register_ray  # has no types, where it is installed
                register()
        except ImportError:
            package = "distributed" if kind == "dask" else "ray"
            raise TrainingError(f"--engine {name}: install `{package}` first") from None
        except (OSError, ConnectionError) as error:
            raise TrainingError(f"--engine {name}: cannot reach the cluster: {error}") from None
        stack.enter_context(parallel_config(kind))
        yield


def job_list(detectors: Sequence[str], levels: Sequence[int]) -> Iterator[Job]:
    """Every model at every level, the slow ones (by experience: networks, L3) first."""
    for level in sorted(levels, reverse=True):
        for name in reversed(detectors):
            yield name, level
