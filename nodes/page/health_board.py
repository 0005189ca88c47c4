"""What the nodes say of themselves on /diagnostics."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cellwatch.nodes.page.values import LossView, NodeView

if TYPE_CHECKING:
    from collections.abc import Mapping

LEVELS = ("ok", "warn", "error")
LOSSES = frozenset({"dropped", "lost", "late", "malformed", "unread"})
SILENCE_NS = 4_000_000_000  # a node speaks once a second
MOST_NODES = 100


@dataclass
class _Node:
    level: int = 0
    message: str = ""
    values: dict[str, str] = field(default_factory=dict)
    earlier: Counter[str] = field(default_factory=Counter)  # losses of former lives
    heard_ns: int = 0
    restarts: int = 0


class HealthBoard:
    """The last word of each node, and its losses over all lives that were heard."""

    def __init__(self) -> None:
        self._nodes: dict[str, _Node] = {}

    def hear(self, name: str, level: int, message: str, values: Mapping[str, str], now_ns: int) -> None:
        """One node's word; `values` as they were published, "pid" among them."""
        if name not in self._nodes and len(self._nodes) >= MOST_NODES:
            return
        node = self._nodes.setdefault(name, _Node())
        if node.values.get("pid", values.get("pid")) != values.get("pid"):
            node.restarts += 1
            node.earlier.update({k: int(v) for k, v in _numbers(node.values).items() if _is_loss(k)})
        node.level, node.message, node.values, node.heard_ns = level, message, dict(values), now_ns

    def nodes(self, now_ns: int) -> tuple[NodeView, ...]:
        return tuple(
            NodeView(
                name, self._level(node, now_ns), node.message,
                {k: v + node.earlier[k] for k, v in _numbers(node.values).items() if k != "pid"},
                max(now_ns - node.heard_ns, 0) / 1e9, node.restarts,
            )
            for name, node in sorted(self._nodes.items())
        )  # fmt: skip

    def losses(self) -> tuple[LossView, ...]:
        return tuple(
            LossView(name, what, count)
            for name, node in sorted(self._nodes.items())
            for what, value in _numbers(node.values).items()
            if _is_loss(what) and (count := int(value) + node.earlier[what]) > 0
        )

    def armed(self, now_ns: int) -> dict[str, bool | None]:
        """By link: the nodes that say whether they are armed."""
        return {
            name: None if now_ns - node.heard_ns > SILENCE_NS else node.values["armed"] == "1"
            for name, node in sorted(self._nodes.items())
            if "armed" in node.values
        }

    @staticmethod
    def _level(node: _Node, now_ns: int) -> str:
        return "silent" if now_ns - node.heard_ns > SILENCE_NS else LEVELS[min(max(node.level, 0), 2)]


def _is_loss(name: str) -> bool:
    return not LOSSES.isdisjoint(name.split("_"))


def _numbers(values: Mapping[str, str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, text in values.items():
        try:
            number = float(text)
        except ValueError:
            continue
        if math.isfinite(number):
            found[name] = number
    return found
