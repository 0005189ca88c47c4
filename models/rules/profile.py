"""What is normal for a cell: limits of every device in every operating mode, and its habits.

A profile is text, JSON or YAML, that a person can read, edit and compare. Its checksum is over the content,
not over the layout, and shows a change that was not made on purpose (`cellwatch profile edit` signs anew).
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import yaml

from cellwatch.models.rules.habits import Habits
from cellwatch.models.rules.limits import STALENESS, Limits

VERSION = 2
_KEYS = ("version", "checksum", "schema_id", "window_s", "windows", "features", "tag_columns", "devices")
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_Dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


@dataclass(frozen=True, slots=True)
class ModeProfile:
    """A device in one operating mode."""

    windows: int  # benign windows it was learned from
    features: Limits  # (features,)
    tags: Mapping[str, Limits] = field(default_factory=dict)  # tag -> (tag columns,)


@dataclass(frozen=True, slots=True)
class Profile:
    """Limits and habits of a cell, bound to one feature schema and one window length."""

    schema_id: str
    features: tuple[str, ...]
    tag_columns: tuple[str, ...]
    window_s: float
    windows: int  # benign windows it was learned from
    devices: Mapping[str, Mapping[int, ModeProfile]]  # name -> operating mode -> normal
    habits: Mapping[str, Habits] = field(default_factory=dict)  # of those whose traffic was watched

    def with_network(self, other: Profile) -> Profile:
        """Return this process on the traffic of `other`: features and habits of the network come from there.

        Raises ValueError when the two have other features.
        """
        if other.schema_id != self.schema_id:
            raise ValueError(
                f"profiles of schemas {self.schema_id} and {other.schema_id} do not fit together"
            )
        network = np.array([not name.startswith("sensor_") for name in self.features])
        blank = Limits(*np.full((3, len(self.features)), np.nan))
        devices: dict[str, dict[int, ModeProfile]] = {}
        for name in dict.fromkeys([*other.devices, *self.devices]):
            new, old = dict(other.devices.get(name, {})), dict(self.devices.get(name, {}))
            traffic = Limits.union([mode.features for mode in new.values()] or [blank])
            devices[name] = {
                mode: ModeProfile(
                    (new.get(mode) or old[mode]).windows,
                    _mixed(network, new[mode].features if mode in new else traffic,
                           old[mode].features if mode in old else blank),
                    old[mode].tags if mode in old else {},
                )
                for mode in sorted(new | old)
            }  # fmt: skip
        return replace(self, devices=devices, habits=other.habits)

    def widened(self, other: Profile) -> Profile:
        """Return this profile with what was normal in another benign period added: nothing narrows.

        Limits become the union of both, and habits too. What is not judged stays so: a column, a tag, a
        device whose traffic nobody had watched. Of a mode that is new the traffic is added, to that of all
        other modes. A device that is new is taken as `other` has it. ValueError when the two have other
        features or another window length.
        """
        if (other.schema_id, other.window_s) != (self.schema_id, self.window_s):
            raise ValueError(
                f"profiles of schemas {self.schema_id} and {other.schema_id}, of windows of "
                f"{self.window_s:g} s and {other.window_s:g} s, do not fit together"
            )
        devices = dict(other.devices) | {
            name: self._widened(old, other.devices.get(name, {})) for name, old in self.devices.items()
        }
        habits = {name: said for name, said in other.habits.items() if name not in self.devices}
        for name, said in self.habits.items():
            habits[name] = said.joined(other.habits[name]) if name in other.habits else said
        return replace(self, windows=self.windows + other.windows, devices=devices, habits=habits)

    def _widened(
        self, old: Mapping[int, ModeProfile], new: Mapping[int, ModeProfile]
    ) -> dict[int, ModeProfile]:
        """One device."""
        stale, tag_stale = (
            np.array([name in STALENESS for name in names]) for names in (self.features, self.tag_columns)
        )
        modes = dict(old)
        for mode, one in new.items():
            if mode not in old:
                traffic = Limits.union([each.features for each in old.values()])
                network = np.array([not name.startswith("sensor_") for name in self.features])
                blank = Limits(*np.full((3, len(self.features)), np.nan))
                modes[mode] = ModeProfile(
                    one.windows, _mixed(network, traffic.widened(one.features, stale), blank)
                )
                continue
            tags = {
                tag: limits.widened(one.tags[tag], tag_stale) if tag in one.tags else limits
                for tag, limits in old[mode].tags.items()
            }
            features = old[mode].features.widened(one.features, stale)
            modes[mode] = ModeProfile(old[mode].windows + one.windows, features, tags)
        return modes

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and YAML, unsigned. Limits are [low, high, scale], None = open."""
        return {
            "version": VERSION,
            "schema_id": self.schema_id,
            "window_s": self.window_s,
            "windows": self.windows,
            "features": list(self.features),
            "tag_columns": list(self.tag_columns),
            "devices": {name: self._device(name) for name in sorted({*self.devices, *self.habits})},
        }

    def _device(self, name: str) -> dict[str, Any]:
        modes = {
            str(mode): {
                "windows": one.windows,
                "features": one.features.to_dict(self.features),
                "tags": {tag: limits.to_dict(self.tag_columns) for tag, limits in sorted(one.tags.items())},
            }
            for mode, one in sorted(self.devices.get(name, {}).items())
        }
        habits = self.habits.get(name)
        return {"modes": modes} | ({} if habits is None else {"habits": habits.to_dict()})

    def to_json(self) -> str:
        """JSON text with version and checksum."""
        return json.dumps(_signed(self.to_dict()), indent=1) + "\n"

    def to_yaml(self) -> str:
        """YAML text with version and checksum."""
        text: str = yaml.dump(
            _signed(self.to_dict()), Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110
        )
        return text

    @classmethod
    def parse(cls, text: str, name: str = "profile", *, edited: bool = False) -> Profile:
        """Read JSON or YAML. ValueError names `name`, the place and the fault.

        `edited`: a person changed it on purpose, the checksum is not asked.
        """
        body = _read(text, name)
        if body["version"] != VERSION:
            raise ValueError(
                f"{name}: profile version {body['version']}, this release reads {VERSION}: commission anew"
            )
        checksum = body.pop("checksum")
        if not edited and not _fits(checksum, body):
            raise ValueError(
                f"{name}: checksum does not fit: the file was changed or damaged "
                "(`cellwatch profile edit` signs a change made on purpose)"
            )
        try:
            return _profile(body, name)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{name}: not a whole profile: {error!r}") from None


def _mixed(network: np.ndarray[Any, Any], traffic: Limits, process: Limits) -> Limits:
    return Limits(
        np.where(network, traffic.low, process.low),
        np.where(network, traffic.high, process.high),
        np.where(network, traffic.scale, process.scale),
    )


def _signed(body: dict[str, Any]) -> dict[str, Any]:
    return {"version": body["version"], "checksum": _checksum(body), **body}


def _checksum(body: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _fits(checksum: object, body: dict[str, Any]) -> bool:
    try:
        return checksum == _checksum(body)
    except TypeError:  # what YAML made of a hand's edit (a date, a key of another kind) was never signed
        return False


def _read(text: str, name: str) -> dict[str, Any]:
    try:
        body = json.loads(text) if text.lstrip().startswith("{") else yaml.load(text, Loader=_Loader)  # noqa: S506
    except json.JSONDecodeError as error:
        raise ValueError(f"{name}: not a Cellwatch profile ({error})") from None
    except yaml.YAMLError as error:
        raise ValueError(f"{name}: not a Cellwatch profile ({' '.join(str(error).split())})") from None
    except ValueError as error:  # 2026-13-01 is no date
        raise ValueError(f"{name}: not a Cellwatch profile ({error})") from None
    if not isinstance(body, dict) or "version" not in body or "checksum" not in body:
        raise ValueError(f"{name}: not a Cellwatch profile")
    unknown = [key for key in body if key not in _KEYS]
    if unknown and body["version"] == VERSION:
        raise ValueError(f"{name}: unknown key {unknown[0]!r}; allowed: {', '.join(_KEYS)}")
    return body


def _profile(body: dict[str, Any], name: str) -> Profile:
    features, columns = (tuple(str(c) for c in body[key]) for key in ("features", "tag_columns"))
    devices: dict[str, dict[int, ModeProfile]] = {}
    habits: dict[str, Habits] = {}
    for key, data in body["devices"].items():
        device = str(key)
        modes: dict[int, ModeProfile] = {}
        for mode, one in data.get("modes", {}).items():
            where = f"{name}: {device}: mode {mode}"
            number = _whole(mode, where)
            if number in modes:
                raise ValueError(f"{where}: is there twice")
            modes[number] = ModeProfile(
                _whole(one["windows"], f"{where}: windows"),
                Limits.from_dict(one["features"], features, where),
                {
                    str(tag): Limits.from_dict(limits, columns, f"{where}: {tag}")
                    for tag, limits in one.get("tags", {}).items()
                },
            )
        if modes:
            devices[device] = modes
        if "habits" in data:
            try:
                habits[device] = Habits.from_dict(data["habits"])
            except ValueError as error:
                raise ValueError(f"{name}: {device}: {error}") from None
    return Profile(
        str(body["schema_id"]), features, columns, _length(body["window_s"], f"{name}: window_s"),
        _whole(body["windows"], f"{name}: windows"), devices, habits,
    )  # fmt: skip


def _whole(value: object, where: str) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise ValueError(f"{where}: {value!r} is no whole number") from None


def _length(value: object, where: str) -> float:
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"{where}: {value!r} is no number above 0")
    return seconds
