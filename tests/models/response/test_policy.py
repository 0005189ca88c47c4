"""Which verdict asks for which command."""

from __future__ import annotations

from cellwatch.models.response.policy import ResponsePolicy, ResponseRule
from cellwatch.models.types import FusedVerdict, FusedWindow, Screening

RULES = (
    ResponseRule(("fault",), ("PLC1",), "XS101_SAFE", 1.0, hold_s=10),
    ResponseRule(("*",), ("*",), "XS102_LOCK", 1.0, hold_s=10),
)


def fused(decision, category="fault", device="PLC1", window_id=1):
    return FusedWindow(
        window_id, 0, 5, (FusedVerdict(device, decision, 0.9, 0.5, category, explanation="why"),)
    )


def test_only_block_asks_for_a_command():
    policy = ResponsePolicy(RULES)
    for decision in (Screening.UNKNOWN, Screening.ALLOW, Screening.SUSPICIOUS):
        assert policy.step(fused(decision), 0) == []
    commands = policy.step(fused(Screening.BLOCK), 0)
    assert [c.tag for c in commands] == ["XS101_SAFE", "XS102_LOCK"]
    assert commands[0].reason == "why"
    assert len({c.command_id for c in commands}) == 2


def test_category_and_device_select_the_rule():
    assert [c.tag for c in ResponsePolicy(RULES).step(fused(Screening.BLOCK, "dos"), 0)] == ["XS102_LOCK"]
    assert [c.tag for c in ResponsePolicy(RULES).step(fused(Screening.BLOCK, device="HMI1"), 0)] == [
        "XS102_LOCK"
    ]


def test_a_rule_rests_for_its_hold_time():
    policy = ResponsePolicy(RULES[:1])
    times = [t for t in range(25) if policy.step(fused(Screening.BLOCK), t * 10**9)]
    assert times == [0, 10, 20]
