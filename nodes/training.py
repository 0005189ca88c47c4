"""First training of a simulated cell: profile, tag baseline and ensemble from what the plant produces.

Training seeds lie where no run can reach (see `cellwatch.plc_sim.seeds`). Runs are split by session:
profile runs, training runs and validation runs never share a seed.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cellwatch.models.features.baseline import TagBaseline
from cellwatch.models.features.packets import Packets, parse
from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.tags import TAG_COLUMNS
from cellwatch.models.features.traffic import TrafficWindows
from cellwatch.models.features.window import FeatureAssembler, windows_from_recording
from cellwatch.models.types import F32, I64, FeatureWindow, PacketBlock, TagBatch, TagCatalog, TagInfo
from cellwatch.plc_sim.seeds import TRAINING_FIRST

if TYPE_CHECKING:
    from rich.console import Console

    from cellwatch.plc_sim.frames import Frames
    from cellwatch.plc_sim.recording import Recording

SITE = "bench"
WINDOW_S = 1.0
COMMISSION_S = 900.0  # one quiet run that fits the tag baseline
PROFILE_RUNS, PROFILE_S = 24, 90.0  # many short runs: how habits lie on the window grid changes slowly
TRAIN_RUNS, VALIDATION_RUNS, INCIDENT_S = 30, 10, 75.0
L1 = ("benign", "attack")  # attack: anything that is not benign, as in the paper's binary task
L2 = ("benign", "fault", "dos", "recon")
FIRST_MODELS = ("XGB", "RandomForest")  # what a first start can wait for
MARGIN = 0.5
BATCH_SCANS = 10


@dataclass(frozen=True)
class Session:
    """One simulated run to learn from."""

    scenario: str
    seed: int
    seconds: float
    use: str  # profile | train | validate


@dataclass(frozen=True)
class Labelled:
    """Device windows with their category index into L2; rows of one session share its seed."""

    x: F32
    y: I64
    windows: list[FeatureWindow]


def ensure_trained(folder: Path, console: Console) -> Path:
    """The trained folder for this release, made now if it is not there (under a minute on two cores)."""
    target = folder / fingerprint()
    if not (target / "manifest.json").is_file():
        train(target, console)
    return target


def fingerprint() -> str:
    """Hash of everything that decides what is learnt: the simulator, the features, the models, this file."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256()
    for part in ("plc_sim", "models", "nodes/training.py", "config/scenarios"):
        base = root / part
        for file in sorted(base.rglob("*") if base.is_dir() else [base]):
            if file.suffix in {".py", ".yaml"}:
                digest.update(file.relative_to(root).as_posix().encode() + file.read_bytes())
    return digest.hexdigest()[:12]


def train(target: Path, console: Console) -> None:
    """Simulate, learn, judge on unseen sessions, and write `target`, all or nothing."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    begun = time.monotonic()
    console.print("first start: learning the simulated cell (once, under a minute)")
    steps = 1 + PROFILE_RUNS + TRAIN_RUNS + VALIDATION_RUNS + 2 * len(FIRST_MODELS)
    columns = (
        TextColumn("{task.description:<28}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("commissioning", total=steps)
        baseline = commission(Session("quiet", TRAINING_FIRST, COMMISSION_S, "profile"))
        bar.advance(task)
        found: dict[str, list[Labelled]] = {"profile": [], "train": [], "validate": []}
        text = json.dumps(baseline.to_dict())
        with ProcessPoolExecutor(os.cpu_count() or 1, mp_context=get_context("spawn")) as pool:
            bar.update(task, description="simulating")
            for session, labelled in zip(
                sessions(), pool.map(_learnable, sessions(), [text] * len(sessions())), strict=True
            ):
                found[session.use].append(labelled)
                bar.advance(task)
        profile = learn_profile(w for part in found["profile"] for w in part.windows)
        files = {"baseline.json": text.encode(), "profile.json": profile.encode()}

        def step(text: str) -> None:
            bar.update(task, description=text)
            bar.advance(task)

        figures = _fit(target, files, found, step)
    console.print(
        f"learnt in {time.monotonic() - begun:.0f} s; on unseen sessions: {figures}", highlight=False
    )


def sessions() -> list[Session]:
    """Every session, each with a seed of its own."""
    plan = [("quiet", PROFILE_S, "profile")] * PROFILE_RUNS
    plan += [("quiet" if i % 6 == 5 else "demo", INCIDENT_S, "train") for i in range(TRAIN_RUNS)]
    plan += [("demo", INCIDENT_S, "validate")] * VALIDATION_RUNS
    return [
        Session(name, TRAINING_FIRST + 1 + i, seconds, use) for i, (name, seconds, use) in enumerate(plan)
    ]


def learn_profile(windows: Iterable[FeatureWindow]) -> str:
    """RuleSense's profile as JSON text."""
    from cellwatch.models.rules.profile_builder import ProfileBuilder

    builder = ProfileBuilder(default_schema().names, TAG_COLUMNS, MARGIN)
    for window in windows:
        builder.add(window)
    return builder.build().to_json()


def commission(session: Session) -> TagBaseline:
    """The tag baseline of a quiet run."""
    assembler, recording = _assembler(session, None, session.seconds * 0.95)
    windows_from_recording(assembler, *streams(recording))
    if assembler.baseline is None:
        raise ValueError(f"no tag baseline could be learnt: {assembler.status}")
    return assembler.baseline


def _learnable(session: Session, baseline: str) -> Labelled:
    assembler, recording = _assembler(session, TagBaseline.from_dict(json.loads(baseline)), 0.0)
    windows = windows_from_recording(assembler, *streams(recording))
    x = np.concatenate([w.values for w in windows])
    y = np.concatenate([_labels(w, recording) for w in windows])
    return Labelled(x, y, windows if session.use == "profile" else [])


def _assembler(
    session: Session, baseline: TagBaseline | None, commissioning_s: float
) -> tuple[FeatureAssembler, Recording]:
    from cellwatch.plc_sim.recording import simulate

    zero = start(session.seed)
    recording = simulate(session.scenario, session.seed, session.seconds, zero, training=True)
    devices = tuple(dict.fromkeys(recording.devices.values()))
    return FeatureAssembler(default_schema(), WINDOW_S, 0.5, devices, baseline, commissioning_s), recording


def start(seed: int) -> int:
    """Time zero of a run, ns: scans stand anywhere against the window grid, so each seed has a phase."""
    return 1_700_000_000_000_000_000 + int(np.random.default_rng(seed).integers(1_000_000_000))


def streams(recording: Recording) -> tuple[list[TagCatalog], list[TagBatch], list]:  # type: ignore[type-arg]
    """A recording as the nodes would publish it: samples on change only, traffic per window."""
    catalog = TagCatalog(
        "PLC1",
        tuple(
            TagInfo(t.name, t.name, t.device, t.unit, t.low, t.high, writable=t.writable, role=t.role)
            for t in recording.tags
        ),
    )
    values = recording.values
    changed = np.ones(values.shape, dtype=bool)
    changed[1:] = values[1:] != values[:-1]
    batches: list[TagBatch] = []
    for first in range(0, len(values), BATCH_SCANS):
        part = slice(first, first + BATCH_SCANS)
        row, tag = np.nonzero(changed[part])
        times = recording.time_ns[part][row]
        batches.append(
            TagBatch(
                "PLC1",
                len(batches) + 1,
                tag.astype(np.uint32),
                values[part][row, tag],
                recording.status[part][row, tag],
                times,
                times,
                int(recording.time_ns[part][-1]),
            )
        )
    traffic = TrafficWindows(WINDOW_S, recording.devices)
    traffic.add(packets(recording.frames))
    return [catalog], batches, traffic.close(None)


def packets(frames: Frames) -> Packets:
    """Simulated frames, parsed."""
    length = np.diff(frames.offset).astype(np.uint32)
    return parse(PacketBlock(frames.data, frames.offset[:-1], length, length, frames.time_ns, 1))


def _labels(window: FeatureWindow, recording: Recording) -> I64:
    """Category of each device: that of an incident that touches it for at least half of the window."""
    y = np.zeros(len(window.devices), dtype=np.int64)
    half = (window.end_ns - window.start_ns) / 2
    for incident in recording.incidents:
        overlap = min(window.end_ns, incident.end_ns) - max(window.start_ns, incident.onset_ns)
        if overlap < half:
            continue
        touched = {incident.device, *incident.devices}
        y[[d in touched for d in window.devices]] = L2.index(incident.category)
    return y


def _fit(
    target: Path, files: dict[str, bytes], found: dict[str, list[Labelled]], tick: Callable[[str], None]
) -> str:
    from sklearn.metrics import matthews_corrcoef

    from cellwatch.models.detectors.catalog import DETECTORS
    from cellwatch.models.detectors.scaler import Scaler
    from cellwatch.models.registry.bundle import write
    from cellwatch.models.registry.keys import Keys
    from cellwatch.models.registry.manifest import Manifest, ModelEntry

    train = found["train"]
    x = np.concatenate([p.x for p in train])
    y = np.concatenate([p.y for p in train])
    xv = np.concatenate([p.x for p in found["validate"]])
    yv = np.concatenate([p.y for p in found["validate"]])
    scaler = Scaler.fit(x)
    z, zv = scaler.transform(x), scaler.transform(xv)
    entries, said = [], []
    weights: dict[str, dict[str, float]] = {"1": {}, "2": {}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # converters warn about their own future
        for level, classes in ((1, L1), (2, L2)):
            t, tv = (np.minimum(y, 1), np.minimum(yv, 1)) if level == 1 else (y, yv)
            for name in FIRST_MODELS:
                tick(f"training {name}, L{level}")
                model = DETECTORS[name](classes, seed=level)  # type: ignore[call-arg]
                model.fit(z, t)
                mcc = float(matthews_corrcoef(tv, model.predict_proba(zv).argmax(axis=1)))
                file = f"L{level}-{name}.onnx"
                files[file] = model.to_onnx()
                entries.append(ModelEntry(name, level, "window", file, {"mcc": round(mcc, 4)}))
                weights[str(level)][name] = round(max(mcc, 0.01), 4)
                if level == 1:
                    said.append(f"{name} MCC {mcc:.3f}")
    # The rules have no validation figure yet: they weigh as much as the mean model.
    weights["1"]["rulesense"] = round(sum(weights["1"].values()) / len(weights["1"]), 4)
    manifest = Manifest(
        SITE,
        default_schema().schema_id,
        WINDOW_S,
        {"1": list(L1), "2": list(L2)},
        scaler.to_dict(),
        entries,
        weights,
        lineage={
            "data": fingerprint(),
            "sessions": [asdict(s) for s in sessions()],
            "rows": {"train": len(y), "validate": len(yv)},
        },
    )
    write(target, manifest, files, Keys(home_of(target) / "keys"))
    return ", ".join(said)


def home_of(target: Path) -> Path:
    """The folder that holds models/, and beside it keys/."""
    return target.parent.parent
