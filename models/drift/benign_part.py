"""The part of a window that is known to be benign."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from cellwatch.models.types import Bool, Conversations, FeatureWindow


def benign_part(window: FeatureWindow, devices: Collection[str]) -> FeatureWindow:
    """The window with these devices alone: their features, tags, conversations, and what they heard."""
    keep = np.array([name in devices for name in window.devices], dtype=np.bool_)
    if keep.all():
        return window
    place = np.cumsum(keep) - 1
    tags = keep[window.tag_device]
    names = tuple(name for name, kept in zip(window.devices, keep, strict=True) if kept)
    spoken = window.conversations
    return replace(
        window,
        devices=names,
        values=window.values[keep],
        tags=tuple(tag for tag, kept in zip(window.tags, tags, strict=True) if kept),
        tag_device=place[window.tag_device[tags]].astype(np.uint32),
        tag_values=window.tag_values[tags],
        held=tuple(name for name in window.held if name in names),
        modes=tuple(m for m, kept in zip(window.modes, keep, strict=True) if kept) if window.modes else (),
        conversations=None if spoken is None else _spoken(spoken, keep),
    )


def _spoken(spoken: Conversations, keep: Bool) -> Conversations:
    place = (np.cumsum(keep) - 1).astype(np.uint32)
    rows, claims = keep[spoken.device], keep[spoken.claim_device]
    columns = (
        "peer",
        "role",
        "protocol",
        "service",
        "port",
        "packets",
        "writes",
        "refused",
        "peers",
        "low",
        "high",
    )
    return replace(
        spoken,
        device=place[spoken.device[rows]],
        claim_device=place[spoken.claim_device[claims]],
        **{name: getattr(spoken, name)[rows] for name in columns},
        **{name: getattr(spoken, name)[claims] for name in ("claim_ip", "claim_owner", "claim_packets")},
    )
