"""Training of detectors: one job a model and level, side by side, on this machine or on a cluster.

What is finished lies in a cache, by the content of the data, the code of the detectors and the libraries: a
training that was broken off goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

import cellwatch
from cellwatch.models.datasets.dataset import DataSet, Part, digest
from cellwatch.models.detectors.scaler import Scaler
from cellwatch.models.evaluation.metrics import confusion, quality
from cellwatch.models.features.schema import Schema, default_schema
from cellwatch.models.types import F32, I64
from cellwatch.nodes.sources import code_digest, write_whole

LIBRARIES = ("numpy", "scikit-learn", "xgboost", "xgboost-cpu", "torch", "onnx", "onnxruntime")
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
) -> list[Trained]:
    """Train what `cache` does not hold yet; the models in the order of `jobs`.

    `engine`: "local", "dask://HOST:PORT" or "ray://HOST:PORT". Raises TrainingError.
    """
    scaler = scaler_of(data)
    place = place_of(data, cache, seed)
    place.mkdir(parents=True, exist_ok=True)
    todo = [job for job in jobs if _kept(place, job) is None]
    done = len(jobs) - len(todo)
    told("kept from before" if done else "training", done, len(jobs))
    if todo:
        pool, vpool = scaler.transform(data.train.pool), scaler.transform(data.validation.pool)
        with _engine(engine):
            from joblib import Parallel, delayed, effective_n_jobs

            tasks = [
                delayed(fit_one)(
                    name, level, data.classes[level], seed,
                    (pool, data.train.before, data.train.y[level]),
                    (vpool, data.validation.before, data.validation.y[level]),
                )
                for name, level in todo
            ]  # fmt: skip
            count = (workers or os.cpu_count() or 1) if engine == "local" else -1
            if engine.startswith("ray"):  # its backend gives results only when all are there
                run = Parallel(n_jobs=count)
                some = AT_ONCE * effective_n_jobs(count)
                results = (made for k in range(0, len(tasks), some) for made in run(tasks[k : k + some]))
            else:
                ahead = "2*n_jobs" if engine == "local" else "all"
                results = Parallel(n_jobs=count, return_as="generator_unordered", pre_dispatch=ahead)(tasks)
            for made in results:
                done += 1
                _keep(place, made)
                told(f"{made.detector}, L{made.level}", done, len(jobs))
    found = [_kept(place, job) for job in jobs]
    about = _about(data, seed)
    return [_with_card(each, about) for each in found if each is not None]


def place_of(data: DataSet, cache: Path, seed: int) -> Path:
    """Folder in `cache` of what is trained on this data with this seed, code and libraries."""
    made_with = {name: v for name, v in versions().items() if name != "cellwatch"}
    said = json.dumps([code_digest("models/detectors"), made_with], sort_keys=True)
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
    name: str,
    level: int,
    classes: tuple[str, ...],
    seed: int,
    train: tuple[F32, I64, I64],
    validation: tuple[F32, I64, I64],
) -> Trained:
    """Train one model on (scaled pool, places, classes), judge it on validation, and write its graph."""
    from cellwatch.models.detectors.catalog import DETECTORS

    begun = time.perf_counter()
    kind = DETECTORS[name]
    model = kind(classes, seed=seed)  # type: ignore[call-arg]
    x, xv = (_gather(pool, before, kind.KIND) for pool, before, _ in (train, validation))
    y, yv = train[2], validation[2]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries warn about their own future
        model.fit(x, y, validation=(xv, yv) if len(yv) else None)
        graph = model.to_onnx()
    seconds = time.perf_counter() - begun
    called = model.predict_proba(xv).argmax(axis=1) if len(yv) else np.zeros(0, dtype=np.int64)
    known = yv >= 0
    m = confusion(yv[known], called[known], len(classes))
    true, said = np.nonzero(m)
    card = {
        "detector": name,
        "level": level,
        "kind": kind.KIND,
        "about": (kind.__doc__ or "").strip().split("\n")[0],
        "classes": list(classes),
        "seed": seed,
        "rows": {"train": len(y), "validation": len(yv)},
        "seconds": round(seconds, 1),
        "size_bytes": len(graph),
        "validation": {k: round(v, 5) for k, v in quality(m).to_dict().items()} if m.sum() else {},
        # of the validation rows: [true class, called class, rows], zeros left out
        "confusion": [[int(i), int(j), int(m[i, j])] for i, j in zip(true, said, strict=True)],
        "versions": versions(),
    }
    return Trained(name, level, kind.KIND, graph, card)


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


def probabilities(graph: bytes, part: Part, pool: F32, kind: str) -> F32:
    """What a graph says of the rows of a part, whose pool is given scaled: (n, classes)."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    said = [
        np.asarray(session.run(["probabilities"], {"x": x})[0], dtype=np.float32)
        for x in part.batches(pool, sequence=kind == "sequence")
    ]
    return np.concatenate(said)


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
    write_whole(place / f"{stem}.card.json", json.dumps(made.card).encode())


def _kept(place: Path, job: Job) -> Trained | None:
    stem = f"L{job[1]}-{job[0]}"
    try:
        card = json.loads((place / f"{stem}.card.json").read_text())
        return Trained(*job, card["kind"], (place / f"{stem}.onnx").read_bytes(), card)
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
