"""The recorded windows of a stress test: whole test sessions of a simulated site, and their truth."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cellwatch.models.datasets.dataset import DataError
from cellwatch.models.datasets.sessions import I16, SessionWindows
from cellwatch.models.types import F32, I64, SEQUENCE, Bool, Incident
from cellwatch.nodes.data_sources import SIMULATED, simulated_folder

CELLS = {"sim:factory": "factory", "sim:bench": "demo"}  # shipped cell files
WINDOWS = 240  # of a recording
GAP = 16  # window numbers between two sessions: more than any detector or confirmation looks back


@dataclass(frozen=True, slots=True)
class Recording:
    """w windows of d devices, session after session; played longer than that, it begins again."""

    devices: tuple[str, ...]  # d
    window_ns: int
    values: F32  # (w, d, f), NaN = missing
    y: I16  # (w, d) index of `classes`, 0 = benign
    clear: Bool  # (w, d) see `SessionWindows`
    first: Bool  # (w,) of a session
    classes: tuple[str, ...]  # "benign", "CATEGORY/TYPE", ...

    def numbers(self, start: int, count: int) -> tuple[I64, I64]:
        """Places (count,) in the recording, from its beginning, and rising window numbers after `start`.

        Numbers jump by `GAP` where a session begins, so that no detector carries one into the next, and each
        play finds the cell as the one before.
        """
        place = np.arange(count) % len(self.first)
        return place, start + np.cumsum(np.where(self.first[place], GAP, 1))

    def incidents(self, place: I64, number: I64) -> list[tuple[int, Incident]]:
        """What a plant would have told during a play, each with the place in the play where it is told.

        One for each stretch in which a device is attacked. A window that an incident touches for less than
        half is benign in `y`, but not for sure: there the stretch begins, or ends, in the middle of it.
        """
        attack, touched = self.y[place] > 0, (self.y[place] > 0) | ~self.clear[place]
        apart = np.diff(number, prepend=number[0] - 2) != 1
        follows = np.append(apart[1:], True)
        begins = touched & (apart[:, None] | ~np.vstack([touched[:1], touched[:-1]]))
        ends = touched & (follows[:, None] | ~np.vstack([touched[1:], touched[-1:]]))
        found, half = [], self.window_ns // 2
        for d, name in enumerate(self.devices):
            for i, j in zip(np.flatnonzero(begins[:, d]), np.flatnonzero(ends[:, d]), strict=True):
                kind = int(self.y[place[i : j + 1], d].max())
                category, _, what = self.classes[kind].partition("/") if kind else ("", "", "")
                found.append(
                    (
                        int(i),
                        Incident(
                            f"{name} {number[i]}",
                            "fault" if category == "fault" else "attack",
                            category,
                            what,
                            name,
                            int(number[i]) * self.window_ns + (0 if attack[i, d] else half),
                            (int(number[j]) + 1) * self.window_ns - (0 if attack[j, d] else half),
                            (name,),
                        ),
                    )
                )
        return sorted(found, key=lambda each: each[0])


def open_recording(
    spec: str, cache: Path, told: Callable[[int, int], None], windows: int = WINDOWS
) -> Recording:
    """Test sessions of a simulated site, made in `cache` if they are not there. DataError for another `spec`.

    Sessions come in their order and with all windows, so attacks are as rare as they are there; each begins
    `SEQUENCE` windows before its first incident. `windows` in all, or as many as there are.
    """
    if spec not in CELLS:
        raise DataError(f"--data {spec}: a stress test plays {' or '.join(SIMULATED)}")
    from cellwatch.nodes.simulated import generate

    site = spec.removeprefix("sim:")
    folder = generate(site, simulated_folder(site, cache), seen=told)
    about = json.loads((folder / "dataset.json").read_text())
    tests = [s["name"] for s in about["sessions"] if s["split"] == "test"]
    parts: list[SessionWindows] = []
    begins: list[int] = []
    count = 0
    for name in tests:
        one = SessionWindows.load(folder / f"{name}.npz")
        touched = np.flatnonzero((one.y > 0).any(axis=1))
        begins.append(max(0, int(touched[0]) - SEQUENCE) if len(touched) else 0)
        parts.append(one)
        count += len(one.values) - begins[-1]
        if count >= windows:
            break
    return joined(parts, begins, tuple(about["classes"]), round(about["window_s"] * 1e9), windows)


def joined(
    sessions: list[SessionWindows],
    begins: list[int],
    classes: tuple[str, ...],
    window_ns: int,
    windows: int = WINDOWS,
) -> Recording:
    """Sessions of the same devices, each from a window on, at most `windows` in all."""
    cut = list(zip(sessions, begins, strict=True))
    values = np.concatenate([s.values[b:] for s, b in cut])[:windows]
    y = np.concatenate([s.y[b:] for s, b in cut])[:windows]
    clear = np.concatenate([s.clear[b:] for s, b in cut])[:windows]
    first = np.concatenate([np.arange(len(s.y) - b) == 0 for s, b in cut])
    return Recording(sessions[0].devices, window_ns, values, y, clear, first[:windows], classes)
