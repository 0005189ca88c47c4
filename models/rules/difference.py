"""What two profiles say differently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cellwatch.models.rules.profile import Profile


@dataclass(frozen=True, slots=True)
class Change:
    """One entry that differs; None where one of the two lacks it."""

    place: str  # "PLC1", "PLC1/mode 0/network_ttl_avg", "features" (those the other lacks) ...
    before: Any
    after: Any


def differences(before: Profile, after: Profile) -> list[Change]:
    """Entries that differ, in the order of their place; devices and modes that one lacks are one entry."""
    a, b = before.to_dict(), after.to_dict()
    found = [Change(key, a[key], b[key]) for key in ("schema_id", "window_s", "windows") if a[key] != b[key]]
    for key in ("features", "tag_columns"):
        if a[key] != b[key]:
            lost, new = ([c for c in x if c not in y] for x, y in ((a[key], b[key]), (b[key], a[key])))
            found.append(Change(key, lost, new) if lost or new else Change(key, a[key], b[key]))
    _compare(a["devices"], b["devices"], "", found)
    return found


def _compare(a: dict[str, Any], b: dict[str, Any], place: str, found: list[Change]) -> None:
    for key in sorted({*a, *b}):
        here = f"{place}/{key}" if place else str(key)
        here = here.replace("/modes/", "/mode ").replace("/features/", "/").replace("/tags/", "/")
        x, y = a.get(key), b.get(key)
        if x == y:
            continue
        if isinstance(x, dict) and isinstance(y, dict):
            _compare(x, y, here, found)
        else:
            found.append(Change(here, _short(x), _short(y)))


def _short(value: Any) -> Any:
    """A whole device or mode is only said to be there."""
    return "present" if isinstance(value, dict) else value
