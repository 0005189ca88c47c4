"""Which command answers which verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cellwatch.models.types import Command, Screening

if TYPE_CHECKING:
    from cellwatch.models.types import FusedWindow


@dataclass(frozen=True, slots=True)
class ResponseRule:
    """When a device is BLOCKed in one of `categories` ("*": any), set `tag` to `value`."""

    categories: tuple[str, ...]
    devices: tuple[str, ...]
    tag: str
    value: float
    hold_s: float = 10.0  # not again within this time
    valid_for_s: float = 2.0


class ResponsePolicy:
    """Turns fused windows into commands; a rule that fired rests for its hold time."""

    def __init__(self, rules: tuple[ResponseRule, ...]) -> None:
        self.rules = rules
        self._last_ns: dict[int, int] = {}
        self._count = 0

    def step(self, window: FusedWindow, now_ns: int) -> list[Command]:
        """Commands for `window`; at most one for each rule."""
        out = []
        for index, rule in enumerate(self.rules):
            rested = now_ns - self._last_ns.get(index, -(10**18)) >= rule.hold_s * 1e9
            verdict = next(
                (
                    v
                    for v in window.verdicts
                    if v.decision == Screening.BLOCK and _fits(rule, v.device, v.category)
                ),
                None,
            )
            if verdict is None or not rested:
                continue
            self._last_ns[index] = now_ns
            self._count += 1
            out.append(
                Command(
                    f"{window.window_id}-{self._count}",
                    window.window_id,
                    verdict.device,
                    rule.tag,
                    rule.value,
                    now_ns,
                    rule.valid_for_s,
                    verdict.explanation,
                    window.closed_ns,
                )
            )
        return out


def _fits(rule: ResponseRule, device: str, category: str) -> bool:
    return ("*" in rule.categories or category in rule.categories) and (
        "*" in rule.devices or device in rule.devices
    )
