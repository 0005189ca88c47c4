"""Where the shadow stands among the names of a cell."""

from __future__ import annotations

HEARD = (
    "features",
    "tags",
    "tag_catalog",
    "tag_snapshot",
    "command_results",
    "heartbeat",
    "verdicts/ewad",  # it is no part of a version of the models
)
SAID = {"verdicts/fused": "verdicts/shadow"}


def space(namespace: str) -> str:
    """Namespace of its nodes.

    >>> space("/line3")
    '/line3/shadow'
    """
    return f"{namespace.rstrip('/')}/shadow"


def remaps(namespace: str) -> list[str]:
    """Rules that let out of it what its nodes hear of the cell, and the one topic that the cell hears."""
    own = namespace.rstrip("/")
    return [f"{topic}:={own}/{there}" for topic, there in (*zip(HEARD, HEARD, strict=True), *SAID.items())]
