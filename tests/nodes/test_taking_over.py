"""Models that come into service while the cell runs: rules and fusion follow, and no window is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
m = pytest.importorskip("cellwatch_msgs.msg")

from rclpy.parameter import Parameter  # noqa: E402

from cellwatch.models.features.schema import default_schema  # noqa: E402
from cellwatch.models.features.tags import TAG_COLUMNS  # noqa: E402
from cellwatch.models.fusion.budget import Budget  # noqa: E402
from cellwatch.models.fusion.calibration import Calibration  # noqa: E402
from cellwatch.models.fusion.fit import FusionFit  # noqa: E402
from cellwatch.models.registry.keys import Keys  # noqa: E402
from cellwatch.models.registry.manifest import Manifest  # noqa: E402
from cellwatch.models.registry.registry import Registry  # noqa: E402
from cellwatch.models.rules.profile_builder import ProfileBuilder  # noqa: E402
from cellwatch.models.types import (  # noqa: E402
    FeatureWindow,
    FusedVerdict,
    FusedWindow,
    Level,
    LevelScores,
    Screening,
    Verdicts,
)
from cellwatch.nodes.fusion_node import FusionNode  # noqa: E402
from cellwatch.nodes.ros import convert  # noqa: E402
from cellwatch.nodes.ros.node import OK, WARN  # noqa: E402
from cellwatch.nodes.rule_node import RuleNode  # noqa: E402

NAMES = default_schema().names
PACKETS = NAMES.index("network_packets_all_count")
S = 1_000_000_000
DEVICES = ("PLC1", "PLC2")


def window(i: int, packets: float = 100.0) -> FeatureWindow:
    values = np.full((2, len(NAMES)), np.nan, np.float32)
    values[:, PACKETS] = packets
    return FeatureWindow(
        i, i * S, (i + 1) * S, (i + 1) * S, default_schema().schema_id, DEVICES, values, (),
        np.zeros(0, np.uint32), np.zeros((0, len(TAG_COLUMNS)), np.float32),
    )  # fmt: skip


def profile(packets: float) -> bytes:
    builder = ProfileBuilder(NAMES, TAG_COLUMNS, 0.5)
    for i in range(60):
        builder.add(window(i, packets + i % 5))
    return builder.build().to_json().encode()


def fit(threshold: float) -> bytes:
    budget = Budget(threshold, 1.0, 0, 1.0)
    return FusionFit({"L1/XGB": 1.0}, Calibration(), "weighted", budget, 100).to_json().encode()


def manifest(seed: int) -> Manifest:
    schema_id, scaler = default_schema().schema_id, {"centre": [0.0], "scale": [1.0]}
    return Manifest("bench", schema_id, 1.0, {"1": ["benign", "attack"]}, scaler, [], {"1": {"XGB": 1.0}},
                    lineage={"seed": seed})  # fmt: skip


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> Registry:
    folder = tmp_path_factory.mktemp("models")
    return Registry(folder / "r", Keys(folder / "keys"))


@pytest.fixture(scope="module")
def versions(registry) -> tuple[str, str]:
    """Of few packets and a low threshold, of many and a high one."""
    first, second = (
        registry.add(manifest(seed), {"profile.json": profile(packets), "fusion.json": fit(threshold)})
        for seed, packets, threshold in ((1, 100.0, 0.5), (2, 5000.0, 0.9))
    )
    return first, second


Start = Callable[..., SimpleNamespace]


@pytest.fixture
def start(monkeypatch, registry, versions) -> Iterator[Start]:
    """An active node of the first version, with what it says."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF")
    rclpy.init()
    made = []

    def call(kind, **given):
        node = kind()
        made.append(node)
        served = {"models": str(registry.folder), "keys": str(registry.keys.folder), "version": versions[0]}
        given = {**served, **given}
        node.set_parameters([Parameter(name, value=value) for name, value in given.items()])
        node.trigger_configure()
        node.trigger_activate()
        return node

    yield call
    for node in made:
        node.end()
        node.destroy_node()
    rclpy.try_shutdown()


def follow(node, version: str) -> None:
    """The version is in service now; step until it was read."""
    node.follower.hear(version)
    deadline = time.monotonic() + 20
    while node.follower._next is not None:
        assert time.monotonic() < deadline
        node.step()


@pytest.fixture
def rules(start, tmp_path, registry, versions):
    place = tmp_path / "profile.json"
    place.write_bytes(registry.load(versions[0]).files["profile.json"])
    node = start(RuleNode, profile_file=str(place))
    said: list[Verdicts] = []
    node.pub = SimpleNamespace(publish=lambda msg: said.append(convert.verdicts(msg)))

    def fine(i: int, packets: float) -> bool:
        node._judge(convert.features_msg(window(i, packets)))
        assert said[-1].window_id == i
        assert not said[-1].abstained
        return bool(said[-1].screening[0] == Screening.ALLOW)

    return node, fine


def test_the_rules_take_the_profile_of_the_models_in_service(rules, versions):
    node, fine = rules
    node.follower.hear(versions[0])  # what it was started with
    assert node.follower.take() is None
    assert (fine(100, 100.0), fine(101, 5000.0)) == (True, False)
    checks, physics = node.crosschecks, node.physics
    node.follower.hear(versions[1])
    i = 102
    while not node.follower.taken:  # windows go on coming while it is read
        assert fine(i, 100.0)
        node.step()
        i += 1
    assert (fine(i, 100.0), fine(i + 1, 5000.0)) == (False, True)
    assert (node.crosschecks, node.physics) == (checks, physics)  # what they have seen goes on
    assert node.health()[:2] == (OK, "judging")
    follow(node, versions[0])  # rolled back
    assert fine(i + 2, 100.0)
    assert node.health()[2]["taken_over"] == 2


def test_a_version_that_cannot_be_read_is_said_and_the_old_profile_stays(rules, registry, versions):
    node, fine = rules
    damaged = registry.add(manifest(3), {"profile.json": profile(7000.0)})
    (registry.path(damaged) / "profile.json").write_bytes(profile(8000.0))
    for version, words in ((damaged, "sha256 does not fit"), ("abc123", "it is not in")):
        follow(node, version)
        level, text, _ = node.health()
        assert level == WARN
        assert text.startswith(f"version {version} is not taken over: ")
        assert words in text
        assert fine(100, 100.0)
        follow(node, versions[0])
        assert node.health()[0] == OK
    foreign = registry.add(manifest(4), {"profile.json": b"{}"})
    follow(node, foreign)
    assert node.health()[0] == WARN
    bare = registry.add(manifest(5), {})
    follow(node, bare)
    assert (node.health()[0], fine(101, 100.0)) == (OK, True)  # it brings none


def test_the_bundle_that_the_cell_was_started_with_need_not_be_in_the_registry(
    start, tmp_path, registry, versions
):
    place = tmp_path / "profile.json"
    place.write_bytes(registry.load(versions[1]).files["profile.json"])
    empty = tmp_path / "r"
    node = start(RuleNode, profile_file=str(place), models=str(empty), version=versions[1],
                 fallback=str(registry.path(versions[0])))  # fmt: skip
    follow(node, versions[0])
    assert node.follower.version == versions[0]
    alone = start(RuleNode, profile_file=str(place), models="")
    alone.follower.hear(versions[1])
    assert alone.follower.take() is None


def test_a_node_that_still_learns_takes_the_profile_afterwards(start, versions):
    node = start(RuleNode, commissioning_s=60.0)
    node.follower.hear(versions[1])
    node.follower._next.result(20)
    node.step()
    assert node.rules is None
    assert node.follower.version == versions[0]


# Fusion --------------------------------------------------------------------------


def source(name: str, i: int, attack: float, screening=Screening.ALLOW) -> Verdicts:
    end = i * S
    p = np.array([[[1 - attack, attack]]] * 2, np.float32)
    detector = "rulesense" if name == "rules" else "XGB"
    scores = LevelScores(Level.L1, (detector,), ("benign", "attack"), p)
    screened, confidence = np.full(2, screening, np.uint8), np.full(2, attack, np.float32)
    return Verdicts(name, i, end, end, DEVICES, screened, confidence, (scores,))


@pytest.fixture
def fusion(start, tmp_path, registry, versions):
    place = tmp_path / "fusion.json"
    place.write_bytes(registry.load(versions[0]).files["fusion.json"])
    node = start(FusionNode, fit=str(place), weights='{"XGB": 1.0, "rulesense": 0.0}', budget_s=0.25)
    said: dict[str, list[FusedWindow]] = {"pub": [], "displaced": []}
    for name, list_ in said.items():
        setattr(node, name, SimpleNamespace(publish=lambda msg, to=list_: to.append(convert.fused(msg))))

    def judge(i: int, attack: float, screening=Screening.ALLOW) -> None:
        for name in ("rules", "ensemble"):
            node._offer(convert.verdicts_msg(source(name, i, attack, screening)))

    return node, judge, said


def test_the_fusion_takes_threshold_and_weights_and_keeps_what_was_confirmed(fusion, versions):
    node, judge, said = fusion
    judge(1, 0.7, Screening.SUSPICIOUS)
    assert said["pub"][-1].verdicts[0].decision == Screening.SUSPICIOUS
    assert said["pub"][-1].verdicts[0].threshold == 0.5
    follow(node, versions[1])
    judge(2, 0.95, Screening.SUSPICIOUS)
    assert said["pub"][-1].verdicts[0].threshold == 0.9
    assert said["pub"][-1].verdicts[0].decision == Screening.BLOCK  # two in a row, over the change
    follow(node, versions[0])
    judge(3, 0.7)
    assert said["pub"][-1].verdicts[0].threshold == 0.5
    assert [w.window_id for w in said["pub"]] == [1, 2, 3]
    assert node.health()[:2] == (OK, "fusing")


def candidate(stage: int, devices=("PLC2",)):
    return m.CandidateState(stage=stage, version="1f0c5a2b77d1", devices=list(devices))


def test_a_canary_decides_for_its_devices_only(fusion):
    node, judge, said = fusion
    heard = m.CandidateState
    node._candidate(candidate(heard.SHADOW))
    assert node._shadow is None
    node._candidate(candidate(heard.CANARY))
    assert node._shadow in node._subs
    judge(1, 0.1)
    assert said["pub"] == []  # the candidate is waited for
    theirs = FusedWindow(1, S, S, (FusedVerdict("PLC2", Screening.BLOCK, 0.9, 0.5, explanation="PLC2: BLOCK"),
                                   FusedVerdict("PLC1", Screening.BLOCK, 0.9, 0.5)),
                         ("rules", "ensemble"))  # fmt: skip
    node._hear_shadow(convert.fused_msg(theirs, S))
    (found,), (displaced,) = said["pub"], said["displaced"]
    assert [(v.device, v.decision) for v in found.verdicts] == [
        ("PLC2", Screening.BLOCK), ("PLC1", Screening.ALLOW),
    ]  # fmt: skip
    assert found.verdicts[0].explanation == "PLC2: BLOCK; judged by version 1f0c5a2b77d1 (canary)"
    assert [(v.device, v.decision) for v in displaced.verdicts] == [("PLC2", Screening.ALLOW)]
    assert displaced.window_id == 1
    node._candidate(candidate(heard.ACTIVE))
    assert node._shadow is None
    judge(2, 0.1)
    assert len(said["pub"]) == 2
    assert (len(said["displaced"]), node.health()[2]["canary_judged"]) == (1, 1)
