"""The rule node learns only from a whole commissioning, says where it stands, and survives a restart."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("cellwatch_msgs")

from rclpy.parameter import Parameter  # noqa: E402

from cellwatch.models.features.schema import default_schema  # noqa: E402
from cellwatch.models.features.tags import TAG_COLUMNS  # noqa: E402
from cellwatch.models.rules.profile import Profile  # noqa: E402
from cellwatch.models.rules.profile_builder import ProfileBuilder, least_windows  # noqa: E402
from cellwatch.models.types import FeatureWindow, Screening, TagCatalog, TagInfo  # noqa: E402
from cellwatch.nodes.ros import convert  # noqa: E402
from cellwatch.nodes.ros.node import ERROR, OK, WARN  # noqa: E402
from cellwatch.nodes.rule_node import RuleNode  # noqa: E402

NAMES = default_schema().names
PACKETS = NAMES.index("network_packets_all_count")
S = 1_000_000_000


def window(i: int, packets: float = 100.0, *, learning: bool = False, schema_id: str = "") -> FeatureWindow:
    values = np.full((1, len(NAMES)), np.nan, np.float32)
    values[0, PACKETS] = packets
    return FeatureWindow(
        i,
        i * S,
        (i + 1) * S,
        (i + 1) * S,
        schema_id or default_schema().schema_id,
        ("PLC1",),
        values,
        ("LIT101",),
        np.zeros(1, np.uint32),
        np.full((1, len(TAG_COLUMNS)), np.nan, np.float32),
        commissioning=learning,
    )


Start = Callable[..., tuple[RuleNode, Callable]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start a node with parameters: the node, and what says its verdict of a window."""
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF")
    rclpy.init()
    made: list[RuleNode] = []

    def call(**given):
        node = RuleNode()
        made.append(node)
        node.set_parameters([Parameter(name, value=value) for name, value in given.items()])
        node.trigger_configure()
        if not hasattr(node, "pub"):
            return node, None
        said: list = []
        node.pub = SimpleNamespace(publish=lambda msg: said.append(convert.verdicts(msg)))
        node.trigger_activate()

        def judge(one: FeatureWindow):
            node._judge(convert.features_msg(one))
            return said[-1]

        return node, judge

    yield call
    for node in made:
        node.destroy_node()
    rclpy.try_shutdown()


def learnt(names=NAMES, tag_columns=TAG_COLUMNS) -> Profile:
    """Of another schema, when it has other `names`."""
    builder = ProfileBuilder(names, tag_columns)
    for i in range(40):
        one = window(i, schema_id="" if names == NAMES else "another")
        builder.add(replace(one, values=one.values[:, : len(names)]))
    return builder.build()


@pytest.mark.parametrize(
    ("asked", "least"), [(1, 1), (3, 2), (5, 4), (20, 16), (25, 20), (40, 20), (360, 180)]
)
def test_how_many_windows_are_enough(asked, least):
    assert least_windows(asked) == least


def test_a_whole_commissioning_makes_a_profile_and_forgets_its_windows(start: Start, tmp_path):
    file = tmp_path / "profile.json"
    node, judge = start(profile_file=str(file), commissioning_s=30.0)
    for i in range(30):
        assert judge(window(i, learning=True)).screening.tolist() == [Screening.ALLOW]
    assert node.health()[:2] == (OK, "commissioning: 30 windows learned")
    assert judge(window(30)).abstained == ""
    assert node.health()[:2] == (OK, "judging")
    assert Profile.parse(file.read_text()).windows == 30
    assert len(node.builder) == 0


def test_a_short_commissioning_still_works(start: Start, tmp_path):
    _, judge = start(profile_file=str(tmp_path / "p.json"), commissioning_s=5.0)
    for i in range(5):
        judge(window(i, learning=True))
    assert judge(window(5)).abstained == ""


@pytest.mark.parametrize("left", [0, 1, 19, 29])
def test_what_a_restart_left_of_a_commissioning_makes_no_profile(start: Start, tmp_path, left):
    file = tmp_path / "profile.json"
    node, judge = start(profile_file=str(file), commissioning_s=60.0)
    for i in range(60 - left, 60):
        judge(window(i, learning=True))
    for i in (60, 61):
        assert judge(window(i)).abstained.startswith(f"commissioning was interrupted: {left} of 60")
    assert not file.exists()
    level, text, _ = node.health()
    assert level == ERROR
    assert text.startswith("commissioning was interrupted")


def test_without_profile_and_commissioning_it_says_so(start: Start):
    node, judge = start()
    assert judge(window(0)).abstained == "no profile"
    level, text, _ = node.health()
    assert level == WARN
    assert text.startswith("no profile")


def test_a_limit_on_a_tag_that_no_plc_has_is_told(start: Start, tmp_path):
    (tmp_path / "p.json").write_text(learnt().to_json())
    (tmp_path / "r.yaml").write_text("limits:\n  - {tags: LIT999, high: 1}\n  - {tags: LIT201, high: 1}\n")
    node, _ = start(profile_file=str(tmp_path / "p.json"), rules_file=str(tmp_path / "r.yaml"))
    for plc, tag in (("PLC1", "LIT101"), ("PLC2", "LIT201")):
        node._catalog(convert.catalog_msg(TagCatalog(plc, (TagInfo(tag, "a", plc),)), 1))
    level, text, _ = node.health()
    assert level == WARN
    assert "LIT999" in text
    assert "LIT201" not in text


def test_traffic_learned_anew_outlives_a_restart(start: Start, tmp_path):
    file, traffic = tmp_path / "profile.json", tmp_path / "profile.traffic.json"
    file.write_text(learnt().to_json())
    given = {"profile_file": str(file), "traffic_file": str(traffic), "network_commissioning_s": 30.0}
    node, judge = start(**given)
    for i in range(31):
        judge(window(i, 9000.0))
    assert node.health()[1].startswith("learning the traffic: ")
    assert judge(window(31, 9000.0)).screening.tolist() == [Screening.ALLOW]
    assert node.health()[1] == "judging"
    before = file.read_text()

    _, judge = start(**given)
    for i in range(40, 80):  # an attack that runs on must not become normal
        verdicts = judge(window(i, 1e6))
        assert verdicts.screening.tolist() == [Screening.SUSPICIOUS]
    assert judge(window(80, 9000.0)).screening.tolist() == [Screening.ALLOW]
    assert file.read_text() == before


def test_a_profile_of_another_schema_is_told_also_while_traffic_is_learnt(start: Start, tmp_path):
    file = tmp_path / "profile.json"
    file.write_text(learnt(NAMES[:10]).to_json())
    node, judge = start(profile_file=str(file), network_commissioning_s=30.0)
    assert "another" in judge(window(0)).abstained
    assert node.health()[0] == ERROR


def test_a_profile_of_other_tag_columns_keeps_the_node_down(start: Start, tmp_path):
    file = tmp_path / "profile.json"
    file.write_text(learnt(tag_columns=(*TAG_COLUMNS[:-1], "older")).to_json())
    _, judge = start(profile_file=str(file))
    assert judge is None
