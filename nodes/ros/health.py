"""Whose health is told on /diagnostics: all cells of a machine share the topic."""

from __future__ import annotations

from collections.abc import Iterator

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus


def hardware_id(namespace: str) -> str:
    """What the nodes of a cell call themselves there."""
    return f"cellwatch:{namespace}"


def statuses(msg: DiagnosticArray, namespace: str) -> Iterator[tuple[DiagnosticStatus, dict[str, str]]]:
    """Those of the nodes of one cell, each with its values."""
    for status in msg.status:
        if status.hardware_id == hardware_id(namespace):
            yield status, {v.key: v.value for v in status.values}
