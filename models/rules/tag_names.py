"""What a rule may call a tag: by its name, or with the PLC or device that owns it, as in PLC1:LIT101."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cellwatch.models.types import FeatureWindow

NONE, MANY = -1, -2  # in place of a tag's index


def forms(tag: str, *owners: str) -> frozenset[str]:
    """All names of a tag.

    >>> sorted(forms("LIT101", "PLC1")), sorted(forms("PLC1:LIT101", "PLC1"))
    (['LIT101', 'PLC1:LIT101'], ['LIT101', 'PLC1:LIT101'])
    """
    prefix, colon, rest = tag.partition(":")
    bare = rest if colon and prefix else tag
    return frozenset({tag, bare, *(f"{owner}:{bare}" for owner in owners)})


def matches(names: frozenset[str], pattern: str) -> bool:
    """Whether one of a tag's names fits a pattern with * and ?."""
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


class TagNames:
    """The tags of a window by all their names."""

    def __init__(self, window: FeatureWindow) -> None:
        self._forms = [
            forms(tag, window.devices[d]) for tag, d in zip(window.tags, window.tag_device, strict=True)
        ]
        self._at: dict[str, int] = {}
        for i, names in enumerate(self._forms):
            for name in names:
                self._at[name] = MANY if name in self._at else i
        self._at |= {tag: i for i, tag in enumerate(window.tags)}

    def at(self, name: str) -> int:
        """Index of the one tag that is called so, else NONE or MANY."""
        return self._at.get(name, NONE)

    def fitting(self, patterns: Sequence[str]) -> tuple[list[int], list[str]]:
        """Tags that fit any of the patterns, each once, and the patterns that fit none."""
        fits = {p: [i for i, names in enumerate(self._forms) if matches(names, p)] for p in patterns}
        return sorted({i for found in fits.values() for i in found}), [p for p in fits if not fits[p]]


def missing(name: str, at: int) -> str:
    """Why there is no one tag of a name: `at` is NONE or MANY."""
    if at == MANY:
        return f"more than one tag is called '{name}': write it with its PLC, as in PLC1:{name}"
    return f"no tag is called '{name}'"
