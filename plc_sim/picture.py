"""A time-lapse picture of a run: process values by unit, what went wrong shaded and named, packets below."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cellwatch.plc_sim.cell import SCAN_NS
from cellwatch.plc_sim.recording import Playback
from cellwatch.plc_sim.tags import TagSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg")
# What a panel shows of a unit: title, and the tags that tell its story.
UNITS = {
    "heated_tank": ("100  heated tank", ("LIT101", "TIT101", "FIT101", "EIT101")),
    "tank_farm": ("200  tank farm", ("LIT201", "LIT202", "TIT203", "PIT202")),
    "conveyor": ("300  conveyor, filling, robot", ("VIT301", "WIT301", "QIT301", "TIT301")),
    "compressed_air": ("400  compressed air", ("PIT401", "PIT402", "FIT401", "TIT401")),
}
INK, FAINT = "#1f2933", "#9aa5b1"
LINES = ("#2f6db5", "#d1662f", "#3a8f6b", "#8b6fb8")
COLOURS = {
    "fault": "#e3a008",
    "dos": "#d64545",
    "ddos": "#a61b1b",
    "recon": "#2680c2",
    "web": "#0e9aa7",
    "mitm": "#7b4fb5",
    "malware": "#8f1d4f",
    "bruteforce": "#8d5524",
    "ics": "#d6409f",
    "benign life": "#7a9a4a",
    "chaos": "#52606d",
}
POINTS = 480  # drawn per line; each is the mean of its stretch, the band around it the extremes
WIDTH_IN, LEFT, RIGHT = 13.0, 0.055, 0.865
INSIDE_IN = WIDTH_IN * (RIGHT - LEFT)
CHAR_IN, NAME_PT = 0.058, 7.5  # size of a name in the strip of events


@dataclass(frozen=True, slots=True)
class Bar:
    """Something that went on, in seconds from the start."""

    name: str
    kind: str  # a key of COLOURS
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Film:
    """What is drawn of a run."""

    title: str
    caption: str
    seconds: float
    tags: tuple[TagSpec, ...]
    values: NDArray[np.float32]  # (scans, tags)
    packets: NDArray[np.int64]  # (seconds,)
    bars: tuple[Bar, ...]
    safe: tuple[tuple[float, str], ...]  # when, which PLC went to its safe state
    units: tuple[str, ...]


def picture(run: Playback, path: Path, seen: Callable[[int], None]) -> None:
    """Play `run` and draw it to a .png or .svg file; `seen` is told the scans done so far.

    Raises ValueError for another ending and OSError where the file cannot be written.
    """
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"{path}: a picture ends in {' or '.join(FORMATS)}")
    if not path.resolve().parent.is_dir():
        raise FileNotFoundError(f"{path}: its folder does not exist")
    film = record(run, seen)
    import matplotlib as mpl

    mpl.use("Agg")
    with mpl.rc_context(
        {
            "font.family": "DejaVu Sans",
            "font.size": 8.5,
            "text.color": INK,
            "axes.edgecolor": FAINT,
            "axes.labelcolor": INK,
            "xtick.color": FAINT,
            "ytick.color": FAINT,
            "xtick.labelcolor": INK,
            "ytick.labelcolor": INK,
            "axes.linewidth": 0.6,
            "svg.hashsalt": "cellwatch",  # the same run gives the same file
            "svg.fonttype": "none",
            "path.simplify_threshold": 0.5,
        }
    ):
        figure = draw(film)
        if path.suffix.lower() == ".svg":
            figure.savefig(path, facecolor="white", metadata={"Date": None})
            return
        from PIL import Image

        drawn = io.BytesIO()
        figure.savefig(drawn, format="png", facecolor="white", dpi=120)
        few = Image.open(drawn).convert("RGB").quantize(256)  # a third of the bytes, to the eye the same
        few.save(path, optimize=True)


def record(run: Playback, seen: Callable[[int], None]) -> Film:
    """Play a run and keep what the picture needs."""
    tags = run.cell.tags
    seconds = run.n * SCAN_NS * 1e-9
    values = np.empty((run.n, len(tags)), np.float32)
    packets = np.zeros(int(np.ceil(seconds)), np.int64)
    safe: list[tuple[float, str]] = []
    for i, step in enumerate(run):
        values[i] = step.values
        at = (step.frames.time_ns - run.start_ns) // 1_000_000_000
        packets += np.bincount(np.clip(at, 0, len(packets) - 1), minlength=len(packets))
        safe += [((i + 1) * SCAN_NS * 1e-9, plc) for plc in step.entered_safe]
        seen(i + 1)

    def since(time_ns: int) -> float:
        return (time_ns - run.start_ns) * 1e-9

    bars = [
        Bar(each.name, each.category, since(each.onset_ns), since(each.end_ns)) for each in run.incidents()
    ]
    for kind, events in (("benign life", run.cell.activities), ("chaos", run.cell.chaos)):
        bars += [Bar(e.name, kind, e.at_s, e.at_s + e.duration_s) for e in events if e.at_s < seconds]
    plan = run.plan
    length = f"{seconds / 60:g} min" if seconds >= 180 else f"{seconds:g} s"
    return Film(
        plan.name,
        f"{plan.about}  ·  {plan.site}, seed {run.seed}, {length}",
        seconds,
        tags,
        values,
        packets,
        tuple(sorted(bars, key=lambda each: each.begin)),
        tuple(safe),
        run.cell.site.units,
    )


def draw(film: Film) -> Figure:
    """Lay the picture out: strip of names, one panel per unit, packets per second."""
    from matplotlib.figure import Figure

    unit_s = 60.0 if film.seconds >= 180 else 1.0
    rows = stack(film.bars, film.seconds)
    strip = 0.19 * max(len(rows), 1) + 0.1
    panels = [2.0 if len(film.units) == 1 else 1.35] * len(film.units)
    heights = [strip, *panels, 1.1]
    total = sum(heights) + 0.2 * len(heights) + 1.15
    figure = Figure(figsize=(WIDTH_IN, total))
    grid = figure.add_gridspec(
        len(heights), 1, height_ratios=heights, hspace=0.2,
        left=LEFT, right=RIGHT, top=1 - 0.72 / total, bottom=0.45 / total,
    )  # fmt: skip
    axes: list[Axes] = []
    for i in range(len(heights)):
        axes.append(figure.add_subplot(grid[i], sharex=axes[0] if axes else None))
    figure.text(LEFT, 1 - 0.30 / total, film.title, fontsize=15, fontweight="bold", va="center")
    figure.text(LEFT, 1 - 0.54 / total, film.caption, fontsize=9, color="#52606d", va="center")
    _strip(axes[0], rows, film.seconds, unit_s)
    for ax, unit in zip(axes[1:-1], film.units, strict=True):
        _unit(ax, film, unit, unit_s)
    _packets(axes[-1], film, unit_s)
    for ax in axes[1:]:
        _shade(ax, film.bars, unit_s)
        for at, _ in film.safe:
            ax.axvline(at / unit_s, color=INK, linewidth=0.7, linestyle=(0, (2, 2)), alpha=0.6)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    for ax in axes[:-1]:
        ax.tick_params(axis="x", which="both", length=0, labelbottom=False)
    axes[-1].set_xlim(0, film.seconds / unit_s)
    axes[-1].set_xlabel("minutes" if unit_s == 60.0 else "seconds")
    return figure


def stack(bars: Sequence[Bar], seconds: float) -> list[list[Bar]]:
    """Sort bars into as few rows as their names allow."""
    rows: list[list[Bar]] = []
    free: list[float] = []  # where each row is free again, inches
    for bar in bars:
        begin, end = _reach(bar, seconds)
        row = next((i for i, at in enumerate(free) if at <= begin), len(rows))
        if row == len(rows):
            rows.append([])
            free.append(0.0)
        rows[row].append(bar)
        free[row] = end + 0.1
    return rows


def _reach(bar: Bar, seconds: float) -> tuple[float, float]:
    """From where to where a bar and its name go, inches; near the right edge the name stands left of it."""
    begin, end = (INSIDE_IN * t / seconds for t in (bar.begin, min(bar.end, seconds)))
    name = CHAR_IN * len(bar.name) + 0.1
    if begin + name > WIDTH_IN * (1 - LEFT):
        return begin - name, end
    return begin, max(end, begin + name)


def _strip(ax: Axes, rows: Sequence[Sequence[Bar]], seconds: float, unit_s: float) -> None:
    ax.set_ylim(max(len(rows), 1), 0)
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)
    if not rows:
        ax.text(0.0, 0.5, "nothing goes wrong", va="center", color="#52606d", fontsize=NAME_PT)
    inch = seconds / unit_s / INSIDE_IN
    for i, row in enumerate(rows):
        for bar in row:
            begin, end = bar.begin / unit_s, min(bar.end, seconds) / unit_s
            colour = COLOURS[bar.kind]
            ax.barh(i + 0.5, end - begin, left=begin, height=0.82, color=colour, alpha=0.35, linewidth=0)
            ax.barh(i + 0.5, 0.03 * inch, left=begin, height=0.82, color=colour, linewidth=0)
            before = _reach(bar, seconds)[0] * inch < begin - 1e-9
            at = begin - 0.04 * inch if before else begin + 0.06 * inch
            side = "right" if before else "left"
            ax.text(at, i + 0.52, bar.name, va="center", ha=side, fontsize=NAME_PT, clip_on=False)


def _shade(ax: Axes, bars: Sequence[Bar], unit_s: float) -> None:
    for bar in bars:
        if bar.end > bar.begin:
            ax.axvspan(
                bar.begin / unit_s,
                bar.end / unit_s,
                color=COLOURS[bar.kind],
                alpha=0.13,
                linewidth=0,
                zorder=0,
            )


def _unit(ax: Axes, film: Film, unit: str, unit_s: float) -> None:
    """Values of one unit in % of their range, named at the right edge."""
    title, wanted = UNITS[unit]
    index = {tag.name: i for i, tag in enumerate(film.tags)}
    ends: list[tuple[float, str, str]] = []
    low, high = 100.0, 0.0
    for colour, name in zip(LINES, wanted, strict=True):
        tag, values = film.tags[index[name]], film.values[:, index[name]]
        scaled = 100.0 * (values - tag.low) / (tag.high - tag.low)
        x, mean, least, most = thin(scaled, film.seconds / unit_s)
        ax.fill_between(x, least, most, color=colour, alpha=0.18, linewidth=0, zorder=2)
        ax.plot(x, mean, color=colour, linewidth=1.1, zorder=3)
        low, high = min(low, float(least.min())), max(high, float(most.max()))
        text = f"{name}  {values.min():.3g} … {values.max():.3g} {spelled(tag.unit)}"
        ends.append((float(mean[-1]), text, colour))
    edge = 0.08 * (high - low) + 1.0
    low, high = low - edge, high + edge
    ax.set_ylim(low, high)
    ax.locator_params(axis="y", nbins=4)
    ax.set_ylabel("% of range")
    ax.set_title(title, loc="left", fontsize=9, pad=3, fontweight="bold")
    heights = apart([100.0 * (y - low) / (high - low) for y, _, _ in ends], 15.0)
    for y, (_, text, colour) in zip(heights, ends, strict=True):
        ax.text(1.006, y / 100.0, text, transform=ax.transAxes, color=colour, fontsize=7.5, va="center")


def _packets(ax: Axes, film: Film, unit_s: float) -> None:
    """Packets per second; where the run is long, the busiest second of each stretch."""
    x, _, _, rate = thin(np.maximum(film.packets, 1).astype(np.float32), film.seconds / unit_s)
    ax.set_yscale("log")
    ax.fill_between(x, 1, rate, step="mid", color="#829ab1", alpha=0.55, linewidth=0, zorder=2)
    ax.step(x, rate, where="mid", color="#486581", linewidth=0.7, zorder=3)
    ax.set_ylim(10 ** np.floor(np.log10(rate.min())), 10 ** np.ceil(np.log10(rate.max() * 1.2)))
    ax.set_ylabel("packets / s")


def thin(
    values: NDArray[np.float32], length: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Place, mean, least and most of at most POINTS stretches of a line over [0, length]."""
    edges = np.unique(np.linspace(0, len(values), min(POINTS, len(values)) + 1).astype(int))
    starts = edges[:-1]
    mean = np.add.reduceat(values.astype(np.float64), starts) / np.diff(edges)
    centre = (edges[:-1] + edges[1:]) / 2 / len(values) * length
    return centre, mean, np.minimum.reduceat(values, starts), np.maximum.reduceat(values, starts)


def apart(heights: Sequence[float], gap: float) -> list[float]:
    """Move labels up and down until they are `gap` apart, inside 3..97, in their order."""
    order = np.argsort(heights, kind="stable")
    placed = np.clip(np.asarray(heights, float)[order], 3, 97)
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    for i in range(len(placed) - 1, -1, -1):
        ceiling = 97.0 if i == len(placed) - 1 else placed[i + 1] - gap
        placed[i] = min(placed[i], ceiling)
    found = np.empty(len(placed))
    found[order] = placed
    return [float(y) for y in found]


def spelled(unit: str) -> str:
    """A UCUM unit as people write it.

    >>> spelled("Cel"), spelled("L/min")
    ('°C', 'L/min')
    """
    return {"Cel": "°C", "m3": "m³", "1": ""}.get(unit, unit)
