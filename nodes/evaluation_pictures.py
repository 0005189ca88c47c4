"""Pictures of a report as inline SVG: they take their colours from the page, in the light and in the dark.

Each gives the text of one `<svg>` ("" if there is nothing to draw) and uses the classes of
evaluation_report.html: `grid`, `soft`, `line`, `area`, `dot`, `ring`, `right`, `wrong`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from cellwatch.nodes.markup import percent, safe

Point = tuple[float, float]

_ASIDE = ((-9, -8), (11, -8), (0, 18))  # where the numbers of neighbours stand
_SHADES = 8
_MOST_PRINTED = 12  # classes whose shares are printed in the cells of a confusion matrix
_LONGEST = 26  # letters of a class's name


def radar(values: Sequence[float], typical: Sequence[float], axes: Sequence[str]) -> str:
    """One model's scores (0..1, clockwise from the top) over the typical ones of all, dashed."""
    if len(values) < 3:
        return ""
    x0, y0, r = 130.0, 96.0, 62.0
    turns = [2 * math.pi * i / len(values) for i in range(len(values))]

    def ring(lengths: Sequence[float]) -> str:
        return " ".join(
            f"{x0 + r * length * math.sin(turn):.1f},{y0 - r * length * math.cos(turn):.1f}"
            for length, turn in zip(lengths, turns, strict=True)
        )

    parts = [
        f'<polygon class="grid" points="{ring([part] * len(values))}"/>' for part in (0.25, 0.5, 0.75, 1)
    ]
    for turn, name, value in zip(turns, axes, values, strict=True):
        sin, cos = math.sin(turn), math.cos(turn)
        parts.append(f'<path class="grid" d="M{x0} {y0}L{x0 + r * sin:.1f} {y0 - r * cos:.1f}"/>')
        anchor = "middle" if abs(sin) < 0.3 else "start" if sin > 0 else "end"
        x, y = x0 + (r + 7) * sin, y0 - (r + (10 if cos > 0 else 16)) * cos
        parts.append(_text(x, y, f"{name} {value:.2f}" if abs(sin) < 0.3 else name, anchor))
        if abs(sin) >= 0.3:
            parts.append(_text(x, y + 13, f"{value:.2f}", anchor))
    if len(typical) == len(values):
        parts.append(f'<polygon class="soft dashed" points="{ring(typical)}"/>')
    parts.append(f'<polygon class="line area" points="{ring(values)}"/>')
    said = ", ".join(f"{name} {value:.2f}" for name, value in zip(axes, values, strict=True))
    return _svg(260, 186, parts, said)


def front(
    ensembles: Sequence[tuple[float, float, str]],
    models: Sequence[tuple[float, float, str]],
    numbered: Sequence[Point],
    x_name: str,
    y_name: str,
) -> str:
    """Ensembles of a Pareto front (x, y, name) as dots, single models as rings, the best in both joined.

    `numbered` are the points of the most frequent ensembles, first to last.
    """
    every = [(x, y) for x, y, _ in (*ensembles, *models)] + list(numbered)
    if not every:
        return ""
    width, height, left, low = 310.0, 250.0, 46.0, 208.0
    parts, to_x, to_y = _plane(every, (left, width - 12), (low, 10.0))
    best: list[Point] = []
    for x, y, _ in sorted(ensembles, key=lambda each: (-each[0], -each[1])):
        if not best or y > best[-1][1]:
            best.append((x, y))
    if len(best) > 1:
        steps = [f"M{to_x(best[0][0]):.1f} {to_y(best[0][1]):.1f}"]
        steps += [f"V{to_y(y):.1f}H{to_x(x):.1f}" for x, y in best[1:]]
        parts.append(f'<path class="soft" d="{"".join(steps)}"/>')
    for kind, points in (("ring", models), ("dot", ensembles)):
        parts += [
            f'<circle class="{kind}" cx="{to_x(x):.1f}" cy="{to_y(y):.1f}" r="3.2">'
            f"<title>{safe(name)}: {x_name} {x:.3f}, {y_name} {y:.3f}</title></circle>"
            for x, y, name in points
        ]
    for place, (x, y) in enumerate(numbered):
        dx, dy = _ASIDE[place % len(_ASIDE)]
        parts.append(f'<circle class="ring strong" cx="{to_x(x):.1f}" cy="{to_y(y):.1f}" r="6"/>')
        parts.append(_text(to_x(x) + dx, to_y(y) + dy, str(place + 1), kind="strong"))
    parts.append(_text((left + width) / 2, height - 6, x_name))
    parts.append(_text(11, low / 2, y_name, turned=True))
    return _svg(width, height, parts, f"{y_name} against {x_name}: {len(ensembles)} ensembles of the front")


def reliability(bins: Sequence[Mapping[str, Any]]) -> str:
    """Share that was an attack over the probability that was said; large dots stand for many rows."""
    dots = [
        (float(each["predicted"]), float(each["observed"]), float(each.get("rows") or 0))
        for each in bins
        if each.get("predicted") is not None and each.get("observed") is not None
    ]
    if not dots:
        return ""
    size, left, low, top = 176.0, 30.0, 146.0, 8.0
    span = low - top
    most = max(rows for *_, rows in dots) or 1.0
    parts = [f'<rect class="grid" x="{left}" y="{top}" width="{span}" height="{span}"/>']
    for at in (0.0, 0.5, 1.0):
        parts.append(_text(left + span * at, low + 13, f"{at:g}"))
        parts.append(_text(left - 5, low - span * at + 4, f"{at:g}", "end"))
    parts.append(f'<path class="soft dashed" d="M{left} {low}L{left + span} {top}"/>')
    places = [(left + span * p, low - span * o, rows) for p, o, rows in sorted(dots)]
    joined = "L".join(f"{x:.1f} {y:.1f}" for x, y, _ in places)
    parts.append(f'<path class="line" d="M{joined}"/>')
    parts += [
        f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{1.5 + 4.5 * math.sqrt(rows / most):.1f}"/>'
        for x, y, rows in places
    ]
    return _svg(size, size - 4, parts, "observed share over predicted probability")


def confusion(matrix: Sequence[Sequence[float | None]], classes: Sequence[str]) -> str:
    """Share of each true class (row) that was called each class (column): the darker, the more.

    What is right is blue, what is wrong orange. Few classes have their shares printed, very many no names.
    """
    n = len(matrix)
    if not n:
        return ""
    cell = 40.0 if n <= _MOST_PRINTED else max(4.0, min(16.0, 780 // n))
    names = [_short(classes[i] if i < len(classes) else str(i)) for i in range(n)]
    printed, named = n <= _MOST_PRINTED, cell >= 9
    letter = 6.4 if printed else 4.6
    margin = (max(map(len, names)) * letter + 10 if named else 4.0) + 16
    by_shade: dict[tuple[str, int], list[str]] = {}
    texts = []
    for i, row in enumerate(shares(matrix)):
        for j, share in enumerate(row[:n]):
            if share <= 0:
                continue
            key = ("right" if i == j else "wrong", math.ceil(share * _SHADES))
            x, y = margin + j * cell, margin + i * cell
            by_shade.setdefault(key, []).append(f"M{j} {i}h1v1h-1z")  # in cells
            if printed:
                texts.append(_text(x + cell / 2, y + cell / 2 + 4, percent(share)))
    parts = [f'<rect class="grid" x="{margin:g}" y="{margin:g}" width="{n * cell:g}" height="{n * cell:g}"/>']
    parts.append(f'<g transform="translate({margin:g} {margin:g}) scale({cell:g})">')
    parts += [
        f'<path class="{kind}" fill-opacity="{0.14 + 0.56 * shade / _SHADES:.2f}" d="{"".join(cells)}"/>'
        for (kind, shade), cells in by_shade.items()
    ]
    parts += ["</g>", *texts]
    if named:
        kind = "" if printed else "tiny"
        for i, name in enumerate(names):
            at = margin + (i + 0.5) * cell
            parts.append(_text(margin - 4, at + 3, name, "end", kind))
            parts.append(_text(at + 3, margin - 4, name, "start", kind, turned=True))
    whole = margin + n * cell
    parts.append(_text(margin + n * cell / 2, 11, "called"))
    parts.append(_text(11, margin + n * cell / 2, "truth", turned=True))
    return _svg(whole + 4, whole + 4, parts, f"confusion matrix of {n} classes")


def shares(matrix: Sequence[Sequence[float | None]]) -> list[list[float]]:
    """Rows of counts as shares of their sum, 0 where a row has none.

    >>> shares([[1, 3], [0, None]])
    [[0.25, 0.75], [0.0, 0.0]]
    """
    whole = [[float(value or 0) for value in row] for row in matrix]
    return [[value / (sum(row) or 1.0) for value in row] for row in whole]


def _plane(points: Sequence[Point], wide: Point, high: Point) -> tuple[list[str], Any, Any]:
    """Grid and ticks of a plane that holds the points, and what turns x and y into places."""
    parts, ways = [], []
    for axis, (start, end) in enumerate((wide, high)):
        values = [point[axis] for point in points]
        ticks = _ticks(min(values), max(values))
        low, step = ticks[0], (end - start) / (ticks[-1] - ticks[0])
        ways.append(lambda value, a=start, b=low, c=step: a + (value - b) * c)
        for tick in ticks:
            at = start + (tick - low) * step
            if axis == 0:
                parts.append(f'<path class="grid" d="M{at:.1f} {high[0]}V{high[1]}"/>')
                parts.append(_text(at, high[0] + 14, f"{tick:g}"))
            else:
                parts.append(f'<path class="grid" d="M{wide[0]} {at:.1f}H{wide[1]}"/>')
                parts.append(_text(wide[0] - 5, at + 4, f"{tick:g}", "end"))
    return parts, ways[0], ways[1]


def _ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers that hold low and high between them.

    >>> _ticks(0.61, 0.89)
    [0.6, 0.7, 0.8, 0.9]
    """
    span = max(high - low, 0.01)
    rough = span / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * k for k in (1, 2, 5, 10) if unit * k >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(step * k, 10) for k in range(first, max(last, first + 1) + 1)]


def _text(
    x: float, y: float, text: str, anchor: str = "middle", kind: str = "", *, turned: bool = False
) -> str:
    marks = f' class="{kind}"' if kind else ""
    marks += f' text-anchor="{anchor}"' if anchor != "start" else ""
    marks += f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turned else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{marks}>{safe(text)}</text>'


def _svg(width: float, height: float, parts: Sequence[str], said: str) -> str:
    return (
        f'<svg viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" role="img" '
        f'aria-label="{safe(said)}">{"".join(parts)}</svg>'
    )


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
