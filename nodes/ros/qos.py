"""Named QoS profiles: one line for each topic of the cell."""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy


def _profile(
    depth: int, *, reliable: bool = True, latched: bool = False, lifespan_s: float = 0.0
) -> QoSProfile:
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        lifespan=Duration(nanoseconds=int(lifespan_s * 1e9)),
    )


TAGS = _profile(50)
TRAFFIC = _profile(10, reliable=False)
FEATURES = _profile(20)
VERDICTS = _profile(50)
LATCHED = _profile(1, latched=True)
# Who listens takes the last word of each publisher: a cell has several PLCs and replicas.
LATCHED_HEARD = _profile(16, latched=True)
DIAGNOSTICS = _profile(20)
# Volatile on purpose: a restarted writer must never replay an old command.
COMMANDS = _profile(20, lifespan_s=5.0)
RESULTS = _profile(50)
HEARTBEAT = _profile(1)

TOPICS = {
    "tags": TAGS,
    "traffic": TRAFFIC,
    "tag_catalog": LATCHED,
    "tag_snapshot": LATCHED,
    "feature_schema": LATCHED,
    "features": FEATURES,
    "verdicts/rules": VERDICTS,
    "verdicts/ensemble": VERDICTS,
    "verdicts/ewad": VERDICTS,
    "verdicts/limits": VERDICTS,
    "verdicts/fused": VERDICTS,
    "attributions": VERDICTS,
    "model_state": LATCHED,
    "commands": COMMANDS,
    "command_results": RESULTS,
    "labels": VERDICTS,
    "alarms": LATCHED,
    "response_state": LATCHED,
    "drift": LATCHED,
    "labels/settled": VERDICTS,
    "candidate": LATCHED,
    # What the candidate says; of these, "verdicts/shadow" alone is heard outside of its process.
    "verdicts/shadow": VERDICTS,
    "verdicts/displaced": VERDICTS,
    "heartbeat": HEARTBEAT,
}


def heard(topic: str) -> QoSProfile:
    """Profile to subscribe with."""
    return LATCHED_HEARD if TOPICS[topic] is LATCHED else TOPICS[topic]


def text(profile: QoSProfile) -> str:
    """A profile as rosbag2 writes it beside a topic, so that a replay offers what was offered."""
    endless = "{sec: 9223372036, nsec: 854775807}"
    lifespan = profile.lifespan.nanoseconds
    span = f"{{sec: {lifespan // 10**9}, nsec: {lifespan % 10**9}}}" if lifespan else endless
    return "\n  ".join(
        (
            f"- history: {profile.history.name.lower()}",
            f"depth: {profile.depth}",
            f"reliability: {profile.reliability.name.lower()}",
            f"durability: {profile.durability.name.lower()}",
            f"deadline: {endless}",
            f"lifespan: {span}",
            "liveliness: automatic",
            f"liveliness_lease_duration: {endless}",
            "avoid_ros_namespace_conventions: false",
        )
    )
