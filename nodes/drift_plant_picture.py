"""The drift of the simulated plant as one picture: shares seen in training, and what changes, over time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellwatch.nodes.drift_plant import BLOCK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES: dict[str, dict[str, Any]] = {
    "static": {"color": "#b03a2e", "marker": "s"},
    "adaptive": {"color": "#1f4e79", "marker": "o"},
    "full": {"color": "0.45", "linestyle": "--"},
}
NAMES = {"full": "trained on everything"}


def draw(shares: Mapping[str, Any], changes: Mapping[str, Any], path: Path) -> None:
    """What `drift_plant.shares` and `drift_plant.changes` found, into a file."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "cellwatch", "font.size": 8}):
        figure = Figure(figsize=(9.6, 6.4), layout="constrained")
        above, below = figure.subfigures(2, 1, squeeze=False)[:, 0]
        for axes, (part, title) in zip(
            above.subplots(1, 2, sharey=True),
            (("whole", "all test sessions"), ("late", "their last third")),
            strict=True,
        ):
            _shares(axes, shares, part)
            axes.set_title(title, fontsize=9)
        cases = changes["cases"]
        for axes, (name, case) in zip(below.subplots(1, len(cases), sharey=True), cases.items(), strict=True):
            _course(axes, case, changes["window_s"])
            axes.set_title(name, fontsize=9)
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
        above.axes[0].set_ylabel("F1")
        above.axes[0].legend(frameon=False)
        below.axes[0].set_ylabel("share judged wrongly")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _shares(axes: Axes, found: Mapping[str, Any], part: str) -> None:
    x = [100 * one["share"] for one in found["shares"]]
    axes.axhline(found["full"][part]["f1"], label=NAMES["full"], **LINES["full"])
    for name in ("static", "adaptive"):
        axes.plot(x, [one[name][part]["f1"] for one in found["shares"]], label=name, **LINES[name])
    axes.set(xlabel="devices and classes seen in training, %", xticks=x, ylim=(0, 1))


def _course(axes: Axes, case: Mapping[str, Any], window_s: float) -> None:
    """Errors over time; the grey line is where it begins, the dotted ones are alarms."""
    for name, errors in case["errors"].items():
        style = {k: v for k, v in LINES[name].items() if k != "marker"}
        at = (np.arange(len(errors)) + 0.5) * BLOCK * window_s / 60
        axes.plot(at, errors, label=NAMES.get(name, name), linewidth=1.2, **style)
    axes.axvline(case["onset"] * window_s / 60, color="0.7", linewidth=3, zorder=0)
    for alarm in case["alarms"]:
        at = (case["onset"] + alarm["window"] + 1) * window_s / 60
        axes.axvline(at, color="0.3", linewidth=1, linestyle=":")
        name, ends = f" {alarm['scenario'] or '?'}", axes.get_xaxis_transform()
        axes.text(at, 1.0, name, transform=ends, va="top", fontweight="bold")
    axes.set(xlabel="minutes", ylim=(0, None))
