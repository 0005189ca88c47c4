"""Candidates for a small made-up site that has drifted, made in this process and in one of their own."""

import contextlib
import json
import os
import shutil
import signal
import time
from dataclasses import replace

import numpy as np
import psutil
import pytest
from cellwatch_msgs.msg import FeatureWindow as FeatureWindowMsg  # noqa: F401 - compiled, or nothing here works
from rclpy.serialization import serialize_message
from typer.testing import CliRunner

from cellwatch.models.datasets.sessions import SessionWindows
from cellwatch.models.detectors.decision_tree import DecisionTree
from cellwatch.models.drift.adaptation import AdaptationSet
from cellwatch.models.drift.finds import NONE
from cellwatch.models.drift.held_out_gate import GateSettings
from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.tags import TAG_COLUMNS
from cellwatch.models.registry.bundle import write
from cellwatch.models.registry.keys import Keys
from cellwatch.models.registry.registry import Registry
from cellwatch.models.rules.profile import Profile
from cellwatch.models.rules.profile_builder import ProfileBuilder
from cellwatch.models.types import FeatureWindow, SettledLabels
from cellwatch.nodes.bundling import bundle
from cellwatch.nodes.candidate_maker import CandidateMaker
from cellwatch.nodes.cli import app
from cellwatch.nodes.data_sources import of_sessions
from cellwatch.nodes.drivers.sample_store import SampleStore
from cellwatch.nodes.judging import Judge
from cellwatch.nodes.rehearsal import rehearse
from cellwatch.nodes.retrain_order import Order, RefusedError
from cellwatch.nodes.retrain_process import RetrainProcess
from cellwatch.nodes.ros import convert
from cellwatch.nodes.trainer import fit_one, scaler_of

CLASSES = ("benign", "dos/syn-flood", "recon/os-scan")
LABELS = (*CLASSES, "dos/new-flood")
DEVICES = ("PLC1", "HMI1", "CAM1", "ENG1")
SCHEMA = default_schema()
PACKETS, SYN, PORTS = (
    SCHEMA.names.index(name)
    for name in ("network_packets_all_count", "network_tcp-flags-syn_count", "network_ports_all_count")
)
S = 1_000_000_000
BEGIN = 1_700_000_000  # number of the first live window
GROWN = 200.0  # packets more, in a benign window that has drifted


def values(rng, y, shift=0.0):
    """Windows (w, d, f) of classes (w, d); benign traffic grows by `shift`; nobody knows class 3."""
    x = np.full((*y.shape, len(SCHEMA.names)), np.nan, np.float32)
    x[..., PACKETS] = 100 + 5 * rng.normal(size=y.shape) + shift * (y == 0) - 60 * (y == 3)
    x[..., SYN] = 5 + rng.normal(size=y.shape) + 200 * (y == 1)
    x[..., PORTS] = 4 + rng.normal(size=y.shape) + 60 * (y == 2)
    return x


def session(split, seed, n=120):
    rng = np.random.default_rng(seed)
    y = np.zeros((n, len(DEVICES)), np.int16)
    for d in range(len(DEVICES)):
        for k, first in enumerate(rng.choice(8, 2, replace=False) * 15):
            y[first : first + 8, d] = k + 1
    which = np.where(y > 0, y - 1, -1).astype(np.int16)
    start = S * np.arange(n, dtype=np.int64)
    return SessionWindows(
        f"tiny-{split}-{seed}", split, seed, DEVICES, start, values(rng, y), y, np.ones(y.shape, bool), which,
        np.array([0.2, 0.8], np.float32),
    )  # fmt: skip


def windows(y, seed, shift=0.0):
    """Live windows of classes (w, d)."""
    for k, row in enumerate(values(np.random.default_rng(seed), y, shift)):
        end = (BEGIN + k) * S
        yield FeatureWindow(
            BEGIN + k, end - S, end, end, SCHEMA.schema_id, DEVICES, row, (), np.zeros(0, np.uint32),
            np.zeros((0, len(TAG_COLUMNS)), np.float32),
        )  # fmt: skip


def kept(place, scenario, n=200):
    """A store of labelled samples: in A benign traffic has grown, in B there is an attack of a new type."""
    y = np.zeros((n, len(DEVICES)), int)
    for k, first in enumerate(range(10, n - 10, 15)):
        y[first : first + 10, k % len(DEVICES)] = 3 if scenario == "B" else 1
    store = SampleStore(place)
    for window in windows(y, 7, GROWN if scenario == "A" else 0.0):
        store.append_window(window.window_id, window.end_ns, serialize_message(convert.features_msg(window)))
    row, device = np.divmod(np.arange(y.size), len(DEVICES))
    said = SettledLabels((BEGIN + n) * S, DEVICES, LABELS, BEGIN + row, device, y.ravel())
    store.append_labels(said.at_ns, serialize_message(convert.settled_msg(said)))
    store.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """What the models learnt from, a registry that serves them, and stores of both scenarios."""
    place = tmp_path_factory.mktemp("site")
    sessions = [session(s, i) for i, s in enumerate(["train"] * 3 + ["validation"] * 2 + ["test"])]
    (place / "set").mkdir()
    (place / "cache").mkdir()
    for one in sessions:
        one.save(place / "set" / f"{one.name}.npz")
    about = {
        "site": "tiny", "window_s": 1.0, "classes": CLASSES, "fingerprint": "f", "sha256": "x",
        "sessions": [{"name": one.name, "seed": one.seed} for one in sessions],
    }  # fmt: skip
    (place / "set" / "dataset.json").write_text(json.dumps(about))
    data = of_sessions(place / "set")
    builder = ProfileBuilder(SCHEMA.names, TAG_COLUMNS)
    for window in windows(np.zeros((60, len(DEVICES)), int), 99):
        builder.add(window)
    profile, scaler = builder.build(), scaler_of(data)
    models = [
        fit_one(
            DecisionTree, level, data.classes[level], 0,
            *((scaler.transform(p.pool), p.before, p.y[level]) for p in (data.train, data.validation)),
        )
        for level in (1, 2, 3)
    ]  # fmt: skip
    manifest, files = bundle(
        data, models, Judge(data, models, scaler, profile), seed=0, serve_all=True,
        beside={"baseline.json": b"{}", "profile.json": profile.to_json().encode()},
    )  # fmt: skip
    registry = Registry(place / "registry", Keys(place / "keys"))
    registry.promote(registry.add(manifest, files))
    for scenario in "AB":
        kept(place / f"store-{scenario}", scenario)
    return place


@pytest.fixture
def site(made, tmp_path):
    """A copy of it, to be changed; what was trained once is kept."""
    copy = shutil.copytree(made, tmp_path / "site", ignore=shutil.ignore_patterns("cache"))
    (copy / "cache").symlink_to(made / "cache")
    return copy


def order_of(site, scenario, **more):
    return {
        "registry": str(site / "registry"), "keys": str(site / "keys"), "scenario": scenario,
        "store": str(site / f"store-{scenario}"), "replay": str(site / "set"), "cache": str(site / "cache"),
        "levels": [1], "idle": False, **more,
    }  # fmt: skip


def maker(site, scenario, settings=None, **more):
    return CandidateMaker(Order.of(order_of(site, scenario, **more)), lambda *_, **__: None, settings)


def registry_of(site):
    return Registry(site / "registry", Keys(site / "keys"))


def test_objections_of_a_device_in_a_row_are_one_run(site):
    y = np.zeros((60, len(DEVICES)), int)
    y[5:15, 0] = y[30:40, 0] = y[30:40, 1] = 1
    ids = BEGIN + np.arange(60)
    said = rehearse(registry_of(site).load(), list(windows(y, 3)))
    run = np.stack([said.of([(int(i), name) for i in ids])[1] for name in DEVICES], axis=1)
    assert ((run != NONE) == (y > 0)).mean() > 0.98
    numbers = [
        np.unique(run[rows, d]) for rows, d in ((slice(7, 14), 0), (slice(32, 39), 0), (slice(32, 39), 1))
    ]
    assert all(len(one) == 1 for one in numbers)
    assert len({int(one[0]) for one in numbers}) == 3
    with pytest.raises(KeyError):
        said.of([(BEGIN - 1, "PLC1")])


def test_false_alarms_are_answered_by_what_is_normal_now(site):
    registry = registry_of(site)
    parent = registry.load()
    one = maker(site, "A")
    said = one.keep(one.make())
    assert (said["passed"], said["why"], said["parent"]) == (True, [], parent.version)
    assert said["made"] == "recalibrated"
    assert said["after"]["fpr"] < 0.1 * said["before"]["fpr"]
    assert said["before"]["fpr"] > 0.5
    assert registry.current == parent.version  # nothing is in service that nobody promoted
    candidate = registry.load(said["version"])
    graphs = [m.file for m in parent.manifest.models]
    assert [candidate.files[name] for name in graphs] == [parent.files[name] for name in graphs]
    assert candidate.manifest.surroundings() == parent.manifest.surroundings()
    assert candidate.manifest.serve == parent.manifest.serve
    before, after = (
        Profile.parse(b.files["profile.json"].decode()).devices["PLC1"][0].features.high[PACKETS]
        for b in (parent, candidate)
    )
    assert before < 100 + GROWN < after


def test_the_lineage_says_what_it_was_made_of_and_nothing_held_out_was_learnt(site):
    one, again = (maker(site, "A", since_ns=(BEGIN + 20) * S) for _ in range(2))
    stages = []
    one.say = lambda stage, *_, **__: stages.append(stage)
    candidate = one.make()
    said = one.keep(candidate)
    assert list(dict.fromkeys(stages)) == [
        "reading", "replay", "profiles", "judging", "calibration", "keeping"
    ]  # fmt: skip
    assert again.keep(again.make())["version"] == said["version"]
    lineage = registry_of(site).load(said["version"]).manifest.lineage
    assert lineage["parents"] == [said["parent"]]
    assert (lineage["scenario"], lineage["since_ns"], lineage["seed"]) == ("A", (BEGIN + 20) * S, 0)
    assert lineage["held_out"]["candidate"]["errors"] == said["after"]["errors"]
    both = AdaptationSet.load(site / "registry" / "adaptation" / f"{lineage['adaptation']}.npz")
    learnt = {*both.benign.ids, *both.attack.ids}
    held = {
        f"{w}/{d}"
        for w, d in zip(candidate.live.held.window_id, candidate.live.held.part.device, strict=True)
    }
    assert len(learnt) + len(held) == 180 * len(DEVICES)
    assert not learnt & held
    assert sum(lineage["learnt"].values()) == len(learnt)


def test_misses_are_answered_by_models_that_know_the_new_attack(site):
    registry = registry_of(site)
    parent = registry.load()
    one = maker(site, "B", GateSettings(factor=5.0))  # a tree of a few nodes grows by more than half
    said = one.keep(one.make())
    assert (said["made"], said["passed"], said["why"]) == ("retrained", True, [])
    assert said["before"]["fnr"] > 0.5 > said["after"]["fnr"]
    candidate = registry.load(said["version"])
    assert candidate.manifest.scaler == parent.manifest.scaler
    same = {m.file for m in parent.manifest.models if candidate.files[m.file] == parent.files[m.file]}
    assert {name[:2] for name in same} == {"L2", "L3"}  # that were not to be trained
    assert len(same) == 2


def test_the_next_candidate_learns_again_what_the_last_one_learnt(site):
    registry = registry_of(site)
    first = maker(site, "B")
    registry.promote(first.keep(first.make())["version"])
    promoted = registry.load().manifest.lineage
    second = maker(site, "A")
    said = second.keep(second.make())
    lineage = registry.load(said["version"]).manifest.lineage
    assert said["parent"] == registry.current == lineage["parents"][0]
    first, last = (one["set"] for one in lineage["adaptations"])
    assert (first, last) == (promoted["adaptation"], lineage["adaptation"])
    (site / "registry" / "adaptation" / f"{first}.npz").unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        maker(site, "A").make()


def test_a_candidate_that_does_not_pass_its_gate_is_kept_and_says_why(site):
    parent = registry_of(site).load()
    failed = replace(parent.manifest, lineage={"held_out": {"against": ["too slow"]}})
    earlier = registry_of(site).add(failed, parent.files)
    one = maker(site, "B", GateSettings(factor=0.5))
    said = one.keep(one.make())
    assert not said["passed"]
    known = {v.version for v in registry_of(site).versions()}
    assert {parent.version, said["version"]} <= known  # of those that failed, the last one
    assert earlier not in known
    assert any("its size is" in why for why in said["why"])
    lineage = registry_of(site).load(said["version"]).manifest.lineage
    assert lineage["held_out"]["against"] == said["why"]


def test_models_of_the_release_become_the_first_version(site):
    registry = registry_of(site)
    parent = registry.load()
    write(site / "shipped", parent.manifest, parent.files, Keys(site / "keys"))
    shutil.rmtree(site / "registry")
    with pytest.raises(RefusedError, match="serves no version"):
        maker(site, "A")
    one = maker(site, "A", fallback=str(site / "shipped"))
    candidate = one.make()
    assert not (site / "registry").exists()
    said = one.keep(candidate)
    assert registry.current == parent.version
    assert {v.version for v in registry.versions()} == {parent.version, said["version"]}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"replay": ""}, "name the table or folder with --replay"),
        ({"replay": "keys"}, "no dataset.json"),
        ({"since_ns": (BEGIN + 195) * S}, "10 are needed"),
        ({"store": "nowhere"}, "no store of samples"),
    ],
)
def test_what_is_missing_is_said(made, more, said):
    more = {k: str(made / v) if isinstance(v, str) and v else v for k, v in more.items()}
    with pytest.raises((RefusedError, ValueError), match=said):
        maker(made, "A", **more).make()


def test_replayed_rows_of_other_classes_are_refused(site):
    about = json.loads((site / "set" / "dataset.json").read_text())
    (site / "set" / "dataset.json").write_text(json.dumps(about | {"classes": (*CLASSES[:2], "web/xss")}))
    with pytest.raises(ValueError, match="other classes at level"):
        maker(site, "A").make()


@pytest.mark.parametrize(
    ("change", "said"),
    [({"speed": 1}, "unknown key 'speed'"), ({"scenario": "C"}, "A or B"), ({"cores": 0}, "on 1 or more")],
)
def test_a_wrong_order_is_refused(made, change, said):
    with pytest.raises(RefusedError, match=said):
        Order.of({**order_of(made, "A"), **change})
    with pytest.raises(RefusedError, match="registry"):
        Order.of({"scenario": "A"})


# ---------------------------------------------------------------------- in a process of its own
def alive(group):
    """Processes of a group that run."""
    found = []
    for one in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.Error):
            if os.getpgid(one.pid) == group and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
    return found


def until(process, stage):
    """Wait for a stage; what was said."""
    said = []
    end = time.monotonic() + 120
    while process.running and time.monotonic() < end:
        said += process.poll()
        if any(line.get("stage") == stage for line in said):
            break
        time.sleep(0.02)
    return said


def ended(process):
    end = time.monotonic() + 120
    while process.running and time.monotonic() < end:
        time.sleep(0.02)
    return process.poll()


@pytest.mark.parametrize("how", ["cancelled", "killed"])
def test_a_run_that_is_broken_off_leaves_everything_as_it_was(site, tmp_path, how):
    registry = registry_of(site)
    before = registry.versions()
    process = RetrainProcess(order_of(site, "B", cache=str(tmp_path / "cache")), tmp_path / "log")
    process.start()
    said = until(process, "training")
    assert said[-1]["stage"] == "training", (said, process.last_words())
    if how == "cancelled":
        process.cancel()
        last = ended(process)[-1]
        assert (last["kind"], process.returncode) == ("cancelled", 1)
    else:
        os.kill(process._popen.pid, signal.SIGKILL)
        ended(process)
        assert process.returncode == -signal.SIGKILL
    end = time.monotonic() + 30
    while alive(process._popen.pid) and time.monotonic() < end:
        time.sleep(0.02)
    assert not alive(process._popen.pid)  # nor does anybody that it started live on
    assert registry.versions() == before


def command(site, *more):
    return CliRunner().invoke(
        app,
        ["drift", "retrain", "--registry", str(site / "registry"), "--replay", str(site / "set"), "--cache",
         str(site / "cache"), *more],
    )  # fmt: skip


def test_the_command_makes_a_candidate(site, monkeypatch):
    monkeypatch.setenv("CELLWATCH_HOME", str(site))
    done = command(site, "--store", str(site / "store-A"), "--scenario", "A")
    assert done.exit_code == 0, done.output
    (new,) = (v for v in registry_of(site).versions() if v.state == "idle")
    words = " ".join(done.output.split())
    assert "recalibrated, judged by" in words
    assert f"cellwatch registry promote {new.version} --registry {site / 'registry'}" in words
    errors = registry_of(site).load(new.version).manifest.lineage["held_out"]
    assert f"errors {errors['parent']['errors']:.4f} {errors['candidate']['errors']:.4f}" in words


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--scenario", "A", "--since", "soon"), "--since soon"),
        (("--scenario", "A", "--level", "4"), "--level 4"),
        (("--scenario", "C"), "--scenario C: A or B"),
    ],
)
def test_the_command_says_what_it_cannot_do(site, more, said):
    done = command(site, "--store", str(site / "store-A"), *more)
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())


def test_an_order_that_cannot_be_is_refused_by_the_process(tmp_path):
    process = RetrainProcess({"scenario": "A"}, tmp_path / "log")
    process.start()
    (last,) = ended(process)
    assert (last["kind"], process.returncode) == ("refused", 1)
