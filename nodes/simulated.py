"""Labelled windows of the simulated sites: sessions drawn, played and kept, to train on and to judge with.

Every type of attack and fault of a site comes in several incidents, mild to severe, while benign life goes
on, also the kind that looks like trouble. A session is one run with a seed of its own and belongs to ONE
split. Training and validation use training seeds, tests use seeds of runs (`cellwatch.plc_sim.seeds`): no
test session can ever have been trained on. The same recipe gives the same windows.

A folder of windows holds `baseline.json`, one `.npz` a session and, when it is whole, `dataset.json`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from cellwatch.models.datasets.sessions import SessionWindows, label_windows
from cellwatch.models.features.baseline import TagBaseline
from cellwatch.models.features.packets import Packets, parse
from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.traffic import TrafficWindows
from cellwatch.models.features.window import FeatureAssembler, windows_from_recording
from cellwatch.models.types import (
    F64,
    I64,
    U32,
    FeatureWindow,
    PacketBlock,
    TagBatch,
    TagCatalog,
    TagInfo,
    TrafficBatch,
)
from cellwatch.nodes.sources import code_digest, write_whole
from cellwatch.plc_sim.attacks import ATTACKS
from cellwatch.plc_sim.faults import FAULTS
from cellwatch.plc_sim.frames import Frames, concat
from cellwatch.plc_sim.incidents import Incident
from cellwatch.plc_sim.network.activities import ACTIVITIES
from cellwatch.plc_sim.network.hosts import devices_of
from cellwatch.plc_sim.plcs.parts import SAFE
from cellwatch.plc_sim.recording import Playback
from cellwatch.plc_sim.schedule import Moment, Scenario, Slot, hittable
from cellwatch.plc_sim.seeds import TRAINING_FIRST
from cellwatch.plc_sim.sites import SITES
from cellwatch.plc_sim.tags import TagSpec

SPLITS = ("train", "validation", "test")
EPOCH_NS = 1_700_000_000_000_000_000
LEAD_S = 40.0  # quiet at the start of a session
SETTLE_S = 60.0  # after a safe state the process is neither safe nor as it was
MOST_TEST_SEEDS = 800  # the seeds of a site's sessions lie within a million
CHUNK = 100  # scans whose frames are folded at once


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a site's data set is made of."""

    site: str
    window_s: float
    session_s: float  # about
    duration_s: tuple[float, float]  # of an incident, without recovery
    spacing_s: float  # from onset to onset
    gap_s: float  # a device is left alone for at least so long between two incidents
    incidents: tuple[int, int, int]  # of each type, by split
    quiet: tuple[int, int, int]  # sessions without any, by split
    commission_s: float
    reset_s: float  # the operator takes a PLC out of its safe state so long after
    first_seed: int  # added to the first seed of its kind


RECIPES = {
    "factory": Recipe(
        "factory", 10.0, 1200.0, (30.0, 90.0), 36.0, 30.0, (20, 5, 8), (6, 2, 3), 7200.0, 60.0, 1_000_000
    ),
    "bench": Recipe(
        "bench", 1.0, 600.0, (6.0, 24.0), 18.0, 6.0, (20, 5, 8), (6, 2, 3), 1800.0, 20.0, 2_000_000
    ),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """One session to play."""

    name: str
    split: str
    seed: int
    seconds: float
    scenario: Scenario

    @property
    def training(self) -> bool:
        """Whether its seed is one of training."""
        return self.split != "test"


def classes_of(site: str) -> tuple[str, ...]:
    """Classes of level 3: "benign", each attack that can hit the site, each fault that it can have."""
    attacks = [name for name in ATTACKS if hittable(name, site)]
    faults = [f"fault/{name}" for name, fault in FAULTS.items() if site in fault.sites]
    return ("benign", *attacks, *faults)


def fingerprint(site: str) -> str:
    """Hash of what decides the windows: recipe, columns, the code that plays, labels and makes features."""
    made_by = code_digest("plc_sim", "models/features", "models/datasets/sessions.py", "nodes/simulated.py")
    said = json.dumps([asdict(RECIPES[site]), default_schema().schema_id, made_by])
    return hashlib.sha256(said.encode()).hexdigest()[:12]


# ---------------------------------------------------------------------- what to play
def plans(recipe: Recipe) -> list[Plan]:
    """Every session of the data set, splits in turn, so that the first ones already hold some of each."""
    found = []
    for k in range(len(SPLITS)):
        sessions = list(_split(recipe, k))
        found += [((i + 0.5) / len(sessions), plan) for i, plan in enumerate(sessions)]
    return [plan for _, plan in sorted(found, key=lambda item: item[0])]


def fresh_plans(recipe: Recipe, test_seed: int) -> list[Plan]:
    """Test sessions that nobody has seen: the same recipe, drawn and played with seeds of their own."""
    if not 1 <= test_seed <= MOST_TEST_SEEDS:
        raise ValueError(f"test seed {test_seed}: allowed: 1 to {MOST_TEST_SEEDS}")
    return list(_split(recipe, SPLITS.index("test"), test_seed))


def _split(recipe: Recipe, k: int, test_seed: int = 0) -> Iterator[Plan]:
    rng = np.random.default_rng([recipe.first_seed, k, test_seed] if test_seed else [recipe.first_seed, k])
    sessions = _schedule(recipe, _incidents(recipe, recipe.incidents[k], rng))
    sessions += [[]] * recipe.quiet[k]
    first = recipe.first_seed + 10_000 * k + (0 if SPLITS[k] == "test" else TRAINING_FIRST)
    first += test_seed and 100_000 + 1_000 * test_seed
    for i, slots in enumerate(sessions):
        ends = [_ends(slot) for slot in slots]
        seconds = max([recipe.session_s, *(end + recipe.gap_s for end in ends)])
        name = f"{recipe.site}-{SPLITS[k]}{test_seed or ''}-{i:03d}"
        activities = tuple(
            Moment(str(rng.choice(sorted(ACTIVITIES))), (at, at))
            for at in rng.uniform(LEAD_S, seconds - LEAD_S, int(rng.integers(0, 4)))
        )
        scenario = Scenario(
            name, site=recipe.site, duration_s=seconds, reset_s=recipe.reset_s,
            incidents=tuple(slots), activities=activities,
        )  # fmt: skip
        yield Plan(name, SPLITS[k], first + i, seconds, scenario)


def _incidents(recipe: Recipe, each: int, rng: np.random.Generator) -> list[Slot]:
    """`each` incidents of every type: sizes spread evenly over 0..1, targets in turn, in any order."""
    slots = []
    for name in classes_of(recipe.site)[1:]:
        kind, of = ("fault", name.removeprefix("fault/")) if name.startswith("fault/") else ("attack", name)
        targets = [FAULTS[of].device] if kind == "fault" else list(hittable(of, recipe.site))
        targets = [targets[i] for i in rng.permutation(len(targets))]
        sizes = (rng.permutation(each) + rng.uniform(size=each)) / each
        durations = rng.uniform(*recipe.duration_s, size=each)
        for i in range(each):
            size, duration = float(sizes[i]), float(durations[i])
            aim = () if kind == "fault" else (targets[i % len(targets)],)
            slots.append(Slot(kind, (of,), (duration, duration), (size, size), None, aim))
    return [slots[i] for i in rng.permutation(len(slots))]


def _schedule(recipe: Recipe, waiting: list[Slot]) -> list[list[Slot]]:
    """Sessions of incidents, `spacing_s` apart, none on a device that another one still touches."""
    sessions: list[list[Slot]] = []
    while waiting:
        at, free, slots = LEAD_S, dict[str, float](), list[Slot]()
        while waiting and at < recipe.session_s - recipe.duration_s[1]:
            pick = next((s for s in waiting if _is_free(free, s, recipe.site, at)), None)
            if pick is not None:
                waiting.remove(pick)
                slots.append(_at(pick, at))
                end = _ends(slots[-1]) + recipe.gap_s
                free |= dict.fromkeys(_touched(pick, recipe.site), end)
            at += recipe.spacing_s
        sessions.append(slots)
    return sessions


def _is_free(until: Mapping[str, float], slot: Slot, site: str, at_s: float) -> bool:
    return all(until.get(device, 0.0) <= at_s for device in _touched(slot, site))


def _touched(slot: Slot, site: str) -> tuple[str, ...]:
    if slot.kind == "fault":
        return (FAULTS[slot.choices[0]].device,)
    return ATTACKS[slot.choices[0]].victims(slot.targets[0], SITES[site])


def _at(slot: Slot, at_s: float) -> Slot:
    return Slot(slot.kind, slot.choices, slot.duration_s, slot.size, (at_s, at_s), slot.targets)


def _ends(slot: Slot) -> float:
    """When its label ends, seconds from the start."""
    assert slot.at_s is not None
    duration, name = slot.duration_s[0], slot.choices[0]
    if slot.kind == "fault":
        recovery = FAULTS[name].recovers_in(duration)
    else:
        recovery = ATTACKS[name].recovers_in(slot.targets[0], duration, slot.size[0])
    return slot.at_s[0] + duration + recovery


# ---------------------------------------------------------------------- play it
def generate(
    site: str,
    folder: Path,
    workers: int | None = None,
    seen: Callable[[int, int], None] = lambda *_: None,
    *,
    test_seed: int = 0,
    like: Path | None = None,
) -> Path:
    """Make the data set of a site in `folder`, or what is missing of it; `seen` is told (done, sessions).

    With `test_seed` only new test sessions are made, with the tag baseline of the data set in `like`.
    """
    recipe = RECIPES[site]
    todo = fresh_plans(recipe, test_seed) if test_seed else plans(recipe)
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "dataset.json").is_file():
        return folder
    baseline = folder / "baseline.json"
    if like is not None:
        write_whole(baseline, (like / "baseline.json").read_bytes())
    elif not baseline.is_file():
        write_whole(baseline, json.dumps(commission(recipe)).encode())
    with ProcessPoolExecutor(workers or os.cpu_count() or 1, mp_context=get_context("spawn")) as pool:
        missing = [plan for plan in todo if not (folder / f"{plan.name}.npz").is_file()]
        done = len(todo) - len(missing)
        seen(done, len(todo))
        for future in [pool.submit(_play_into, folder, recipe, plan) for plan in missing]:
            future.result()
            done += 1
            seen(done, len(todo))
    digest = hashlib.sha256()
    for plan in todo:
        digest.update((folder / f"{plan.name}.npz").read_bytes())
    about = {
        "site": site,
        "fingerprint": fingerprint(site),
        "sha256": digest.hexdigest(),
        "schema_id": default_schema().schema_id,
        "window_s": recipe.window_s,
        "classes": list(classes_of(site)),
        "recipe": asdict(recipe),
        "sessions": [{"name": p.name, "split": p.split, "seed": p.seed, "seconds": p.seconds} for p in todo],
    }
    write_whole(folder / "dataset.json", json.dumps(about, indent=1).encode())
    return folder


def commission(recipe: Recipe) -> dict[str, object]:
    """The tag baseline of one long benign run, as JSON."""
    rng = np.random.default_rng([recipe.first_seed, len(SPLITS)])
    activities = tuple(
        Moment(str(name), (at, at))
        for at, name in zip(
            rng.uniform(LEAD_S, recipe.commission_s - 200.0, 12),
            rng.permutation(sorted(ACTIVITIES) * 3),
            strict=True,
        )
    )
    scenario = Scenario(
        "commissioning", site=recipe.site, duration_s=recipe.commission_s, activities=activities
    )
    plan = Plan(
        scenario.name, "train", TRAINING_FIRST + recipe.first_seed + 30_000, recipe.commission_s, scenario
    )
    learner = assembler(recipe, None, 0.95 * recipe.commission_s)
    feature_windows(learner, recipe, plan)
    if learner.baseline is None:
        raise ValueError(f"no tag baseline could be learnt: {learner.status}")
    return learner.baseline.to_dict()


def profile(site: str, folder: Path) -> str:
    """RuleSense's profile of a site as JSON, from the training sessions in which nothing goes wrong."""
    from cellwatch.models.features.tags import TAG_COLUMNS
    from cellwatch.models.rules.profile_builder import ProfileBuilder

    recipe = RECIPES[site]
    baseline = TagBaseline.from_dict(json.loads((folder / "baseline.json").read_text()))
    builder = ProfileBuilder(default_schema().names, TAG_COLUMNS)
    for plan in plans(recipe):
        if plan.split == "train" and not plan.scenario.incidents:
            for window in feature_windows(assembler(recipe, baseline, 0.0), recipe, plan)[0]:
                builder.add(window)
    return builder.build().to_json()


def _play_into(folder: Path, recipe: Recipe, plan: Plan) -> None:
    baseline = TagBaseline.from_dict(json.loads((folder / "baseline.json").read_text()))
    session = play(recipe, plan, baseline)
    part = folder / f"{plan.name}.{os.getpid()}.part.npz"
    session.save(part)
    part.replace(folder / f"{plan.name}.npz")


def play(recipe: Recipe, plan: Plan, baseline: TagBaseline) -> SessionWindows:
    """Play one session and label its windows."""
    windows, run, safe = feature_windows(assembler(recipe, baseline, 0.0), recipe, plan)
    devices = tuple(devices_of(SITES[recipe.site]).values())
    rows = [windows[0].devices.index(name) for name in devices]
    start_ns = np.array([w.start_ns for w in windows], dtype=np.int64)
    incidents = run.incidents()
    classes = classes_of(recipe.site)
    y, clear, which = label_windows(
        start_ns,
        round(recipe.window_s * 1e9),
        devices,
        [
            (_class_of(each, classes), each.onset_ns, each.end_ns, {each.device, *each.devices})
            for each in incidents
        ],
    )
    for name, since, until in safe:  # benign, but not as it was commissioned
        here = (start_ns < until + round(SETTLE_S * 1e9)) & (start_ns + round(recipe.window_s * 1e9) > since)
        column = devices.index(name)
        clear[here & (y[:, column] == 0), column] = False
    return SessionWindows(
        plan.name,
        plan.split,
        plan.seed,
        devices,
        start_ns,
        np.stack([w.values[rows] for w in windows]),
        y,
        clear,
        which,
        np.array([each.size for each in run.cell.planned], dtype=np.float32),
    )


def _class_of(incident: Incident, classes: Sequence[str]) -> int:
    name = f"fault/{incident.type}" if incident.kind == "fault" else f"{incident.category}/{incident.type}"
    return classes.index(name)


def assembler(recipe: Recipe, baseline: TagBaseline | None, commissioning_s: float) -> FeatureAssembler:
    """What makes the windows of a site; with `commissioning_s` it learns the tag baseline first."""
    devices = tuple(devices_of(SITES[recipe.site]).values())
    return FeatureAssembler(default_schema(), recipe.window_s, 0.5, devices, baseline, commissioning_s)


def feature_windows(
    learner: FeatureAssembler, recipe: Recipe, plan: Plan
) -> tuple[list[FeatureWindow], Playback, list[tuple[str, int, int]]]:
    """Windows of a session, its run, and when which PLC was in its safe state."""
    window_ns = round(recipe.window_s * 1e9)
    phase = int(np.random.default_rng(plan.seed).integers(window_ns))  # scans stand anywhere on the grid
    run = Playback(plan.scenario, plan.seed, plan.seconds, EPOCH_NS + phase, training=plan.training)
    traffic = TrafficWindows(recipe.window_s, devices_of(run.cell.site))
    flows: list[TrafficBatch] = []
    frames: list[Frames] = []
    times = np.zeros(run.n, dtype=np.int64)
    values = np.zeros((run.n, len(run.cell.tags)))
    status = np.zeros(values.shape, dtype=np.uint32)
    for i, step in enumerate(run):
        times[i], values[i], status[i] = run.cell.time_ns, step.values, step.status
        frames.append(step.frames)
        if len(frames) == CHUNK or i + 1 == run.n:
            traffic.add(packets(concat(frames)))
            frames.clear()
            flows += traffic.close(run.cell.time_ns)
    catalogs, batches = tag_batches(run.cell.tags, times, values, status)
    windows = windows_from_recording(learner, catalogs, batches, flows)
    safe = []
    for j, tag in enumerate(run.cell.tags):
        if tag.role == "mode":
            inside = np.flatnonzero(
                np.diff(np.concatenate([[False], values[:, j] == SAFE, [False]]).astype(np.int8))
            )
            stamps = np.append(times, times[-1])[inside].reshape(-1, 2)
            safe += [(tag.device, int(a), int(b)) for a, b in stamps]
    return windows, run, safe


def packets(frames: Frames) -> Packets:
    """Simulated frames, parsed."""
    length = np.diff(frames.offset).astype(np.uint32)
    return parse(PacketBlock(frames.data, frames.offset[:-1], length, length, frames.time_ns, 1))


def tag_batches(
    tags: Sequence[TagSpec], time_ns: I64, values: F64, status: U32, scans: int = 10
) -> tuple[list[TagCatalog], list[TagBatch]]:
    """A recording as the OPC UA clients would publish it: one catalogue a PLC, samples on change only."""
    catalogs, batches = [], []
    for plc in dict.fromkeys(tag.device for tag in tags):
        mine = np.array([j for j, tag in enumerate(tags) if tag.device == plc])
        catalogs.append(
            TagCatalog(
                plc,
                tuple(
                    TagInfo(t.name, t.name, t.device, t.unit, t.low, t.high, writable=t.writable, role=t.role)
                    for t in (tags[j] for j in mine)
                ),
            )
        )
        shown, code = values[:, mine], status[:, mine]
        changed = np.ones(shown.shape, dtype=bool)
        changed[1:] = (shown[1:] != shown[:-1]) | (code[1:] != code[:-1])
        for number, first in enumerate(range(0, len(shown), scans), start=1):
            part = slice(first, first + scans)
            row, tag = np.nonzero(changed[part])
            stamps = time_ns[part][row]
            batches.append(
                TagBatch(
                    plc, number, tag.astype(np.uint32), shown[part][row, tag], code[part][row, tag],
                    stamps, stamps, int(time_ns[part][-1]),
                )
            )  # fmt: skip
    return catalogs, batches
