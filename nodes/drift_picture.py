"""The drift of a cell as one picture: loss, monitors, alarms with their scenario, versions and candidates."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cellwatch.models.types import DriftState, Stage
from cellwatch.nodes.drift_record import LABELLED, Curve, DriftRecord
from cellwatch.nodes.drivers.record_schema import MONITORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

UNITS = {"loss": "loss, nats", "errors": "share judged\nwrongly"}
KINDS = {"A": "DRIFT A: false alarms", "B": "DRIFT B: misses", "": "DRIFT"}
HEADROOM = 1.3  # of the greatest value: the legend stands above the curves
STATES = {DriftState.WARNING.name: "#ffe9b0", DriftState.DRIFT.name: "#f4b8ae"}
STAGES = {Stage.SHADOW.name: "#c9d6e8", Stage.CANARY.name: "#86a8d0", Stage.ACTIVE.name: "#3f6fa8"}
SERVED = ("#d9d9d9", "#bdbdbd")  # in turn
BARE: dict[str, Any] = {"edgecolor": "none", "framealpha": 0.8, "borderaxespad": 0.2}
NARROW = 0.05  # share of the width below which a bar has no name


def draw(found: DriftRecord, path: Path) -> None:
    """Into a file; its suffix says which kind of picture. ValueError if there is nothing to draw. OSError."""
    if not found.curves and not found.versions:
        raise ValueError("nothing of drift is recorded there: nothing to draw")
    import matplotlib as mpl
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    if path.suffix.lstrip(".") not in Figure().canvas.get_supported_filetypes():
        raise ValueError(f"{path}: a picture ends in .svg, .png or .pdf")
    with mpl.rc_context({"svg.hashsalt": "cellwatch", "font.size": 8}):
        figure = Figure(figsize=(9.6, 7.2), layout="constrained")
        panels = figure.subplots(4, 1, sharex=True, height_ratios=(3, 2, 3, 2))
        for axes, monitor in zip(panels, LABELLED, strict=False):
            _labelled(axes, [c for c in found.curves if c.monitor == monitor], UNITS[monitor])
        _others(panels[2], found.curves)
        for axes in panels[:3]:
            _shade(axes, found)
            axes.spines[["top", "right"]].set_visible(False)
        _name(panels[0], found)
        onset = Line2D([], [], color="0.4", linewidth=1, linestyle=":", label="since, as estimated")
        shades = [Patch(color=colour, label=name.lower()) for name, colour in STATES.items()]
        panels[1].legend(handles=[*shades, onset], ncols=3, loc="upper left", **BARE)
        _bars(panels[3], found)
        locator = AutoDateLocator(tz=UTC)  # type: ignore[no-untyped-call]
        panels[3].xaxis.set_major_locator(locator)
        panels[3].xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]
        panels[3].set_xlabel("time, UTC")
        panels[3].set_xlim(_time(found.first_ns), _time(max(found.last_ns, found.first_ns + 1_000_000_000)))
        figure.align_ylabels(panels)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)


def _time(at_ns: int) -> datetime:
    return datetime.fromtimestamp(at_ns / 1e9, tz=UTC)


def _times(at_ns: Iterable[int]) -> list[datetime]:
    return [_time(at) for at in at_ns]


def _labelled(axes: Axes, curves: Sequence[Curve], unit: str) -> None:
    """The figure as a line, its limit dashed."""
    for i, curve in enumerate(curves):
        at = _times(curve.at_ns)
        axes.plot(at, curve.value, color="#1f4e79", linewidth=1.2, marker=".", markersize=3)  # type: ignore[arg-type]
        label = None if i else "limit"
        axes.plot(at, curve.limit, color="#b03a2e", linewidth=1, linestyle="--", label=label)  # type: ignore[arg-type]
    axes.set_ylabel(unit)
    if curves:
        axes.legend(loc="upper left", **BARE)
    else:
        _nothing(axes, "no labels came")


def _others(axes: Axes, curves: Sequence[Curve]) -> None:
    """Monitors without labels, each as a share of its own limit."""
    named: set[str] = set()
    for curve in curves:
        if curve.monitor in LABELLED or not np.isfinite(curve.limit).any():
            continue
        share = np.divide(curve.value, curve.limit)
        label = None if curve.monitor in named else curve.monitor
        named.add(curve.monitor)
        colour = f"C{MONITORS.index(curve.monitor)}"
        at = _times(curve.at_ns)
        axes.plot(at, share, color=colour, linewidth=1, marker=".", markersize=3, label=label)  # type: ignore[arg-type]
    axes.set_ylabel("other monitors:\nshare of the limit")
    if named:
        axes.axhline(1, color="#b03a2e", linewidth=1, linestyle="--")
        axes.legend(ncols=4, loc="upper left", **BARE)
    else:
        _nothing(axes, "no reference yet")


def _nothing(axes: Axes, text: str) -> None:
    axes.set_yticks([])
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color="0.5")


def _shade(axes: Axes, found: DriftRecord) -> None:
    """What the state was, and dotted, since when."""
    axes.set_ylim(0, HEADROOM * axes.get_ylim()[1])
    for onset in found.onsets:
        axes.axvline(_time(onset), color="0.4", linewidth=1, linestyle=":")  # type: ignore[arg-type]
    for span in found.states:
        axes.axvspan(_time(span.since_ns), _time(span.until_ns), color=STATES[span.what], lw=0)  # type: ignore[arg-type]


def _name(axes: Axes, found: DriftRecord) -> None:
    """Scenarios above the uppermost panel."""
    for span in found.states:
        if span.what == DriftState.DRIFT.name:
            axes.text(
                _time(span.since_ns), 1.02, KINDS[span.detail], transform=axes.get_xaxis_transform(),  # type: ignore[arg-type]
                ha="left", va="bottom", fontweight="bold", color="#b03a2e",
            )  # fmt: skip


def _bars(axes: Axes, found: DriftRecord) -> None:
    """What was in service, and below it the candidate's stages."""
    whole = max(found.last_ns - found.first_ns, 1)
    rows = [(1, span, SERVED[i % 2], span.what[:12] or "none") for i, span in enumerate(found.versions)]
    rows += [(0, span, STAGES[span.what], span.what.lower()) for span in found.stages]
    for y, span, colour, text in rows:
        begin, end = _time(span.since_ns), _time(span.until_ns)
        axes.barh(y, end - begin, 0.7, begin, color=colour, edgecolor="white")  # type: ignore[arg-type]
        if (span.until_ns - span.since_ns) / whole > NARROW:
            ink = "white" if colour == STAGES[Stage.ACTIVE.name] else "black"
            axes.text(begin + (end - begin) / 2, y, text, ha="center", va="center", color=ink, clip_on=True)  # type: ignore[arg-type]
    axes.set_yticks([0, 1], ["candidate", "in service"])
    axes.set_ylim(-0.5, 1.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
