"""The rule node says a broken limit as soon as the tag comes, and says it again while it lasts."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")
pytest.importorskip("cellwatch_msgs")

from rclpy.parameter import Parameter  # noqa: E402

from cellwatch.models.types import Screening, TagBatch, TagCatalog, TagInfo  # noqa: E402
from cellwatch.nodes.ros import convert  # noqa: E402
from cellwatch.nodes.rule_node import RuleNode  # noqa: E402

CATALOG = TagCatalog("PLC1", (TagInfo("LIT101", "a", "PLC1"), TagInfo("FIT101", "b", "PLC1")))
RULES = "limits:\n  - {tags: LIT101, high: 85, message: too full}\nrules:\n  - {name: a, when: X > 1}\n"


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch, tmp_path) -> Iterator[RuleNode]:
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF")
    rclpy.init()
    made = RuleNode()
    (tmp_path / "rules.yaml").write_text(RULES)
    made.set_parameters([Parameter("rules_file", value=str(tmp_path / "rules.yaml"))])
    yield made
    made.destroy_node()
    rclpy.try_shutdown()


def batch(*samples: tuple[int, float]):
    tag, value = zip(*samples, strict=True)
    n, now = len(tag), 1_700_000_000_000_000_000
    times = np.full(n, now, np.int64)
    return convert.tags_msg(
        TagBatch(
            "PLC1", 2, np.array(tag, np.uint32), np.array(value), np.zeros(n, np.uint32), times, times, now
        )
    )


def up(node: RuleNode) -> list:
    """Start it; what it says on verdicts/limits."""
    said: list = []
    node.trigger_configure()
    node.limits_pub = SimpleNamespace(publish=lambda msg: said.append(convert.verdicts(msg)))
    node.trigger_activate()
    return said


def test_a_broken_limit_is_said_at_once_and_again(node: RuleNode) -> None:
    said = up(node)
    node._tags(batch((0, 99.0)))  # nobody knows yet what tag 0 is
    node._catalog(convert.catalog_msg(CATALOG, 1))
    node._tags(batch((0, 60.0), (1, 999.0)))
    assert said == []
    node._tags(batch((0, 90.0)))
    (first,) = said
    assert (first.source, first.devices, first.screening.tolist()) == (
        "limits",
        ("PLC1",),
        [Screening.SUSPICIOUS],
    )
    assert (first.violations[0].observed, first.violations[0].message) == (90.0, "too full")
    node._catalog(convert.catalog_msg(CATALOG, 2))  # a link that comes back
    node.limits_told = 0.0
    node.step()
    assert [v.screening.tolist() for v in said[1:]] == [[Screening.SUSPICIOUS]]
    node._tags(batch((0, 60.0)))
    node.limits_told = 0.0
    node.step()
    assert [v.screening.tolist() for v in said[2:]] == [[Screening.ALLOW]]


def test_a_snapshot_tells_of_what_stood_before_the_node_came(node: RuleNode) -> None:
    said = up(node)
    node._catalog(convert.catalog_msg(CATALOG, 1))
    node._snapshot(batch((0, 90.0)))
    node._snapshot(batch((0, 60.0)))
    assert [v.screening.tolist() for v in said] == [[Screening.SUSPICIOUS]]


def test_a_rule_file_that_is_not_in_order_keeps_the_node_down(node: RuleNode, tmp_path) -> None:
    (tmp_path / "rules.yaml").write_text("rules: [{name: a}]\n")
    node.trigger_configure()
    assert not hasattr(node, "limits_pub")
