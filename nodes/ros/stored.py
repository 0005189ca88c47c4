"""Messages as they lie in a store of samples."""

from __future__ import annotations

from collections.abc import Iterable

import cellwatch_msgs.msg as m
from rclpy.serialization import deserialize_message

from cellwatch.models import types as t
from cellwatch.nodes.ros import convert


def windows(stored: Iterable[bytes]) -> list[t.FeatureWindow]:
    """Of serialised FeatureWindow."""
    return [convert.features(deserialize_message(data, m.FeatureWindow)) for data in stored]


def labels(stored: Iterable[bytes]) -> list[t.SettledLabels]:
    """Of serialised SettledLabels."""
    return [convert.settled(deserialize_message(data, m.SettledLabels)) for data in stored]
