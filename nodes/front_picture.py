"""The Pareto fronts of a choice of ensembles as one picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from cellwatch.models.selection.level import Chosen

_ASIDE = ((-24, 14), (16, 12), (-3, -28))  # where the numbers of neighbours stand, in points


def draw(found: Mapping[int, Chosen], path: Path) -> None:
    """Each level a panel: quality against speed, coverage as colour, resources as size.

    The suffix of `path` says which kind of picture it is. The three most frequent are numbered.
    """
    fig = Figure(figsize=(4.6 * len(found), 4.4), layout="constrained")
    axes = fig.subplots(1, len(found), squeeze=False)[0]
    for ax, (level, one) in zip(axes, found.items(), strict=True):
        values = np.array([each.objectives for each in one.front])
        quality, resources, speed, coverage = values.T
        low, high = resources.min(), resources.max()
        size = 30 + 170 * (resources - low) / (high - low if high > low else 1.0)
        dots = ax.scatter(
            speed,
            quality,
            s=size,
            c=coverage,
            cmap="viridis",
            norm=Normalize(coverage.min(), coverage.max()),
            edgecolors="0.3",
            linewidths=0.6,
            alpha=0.9,
        )
        for place, each in enumerate(one.frequent, 1):
            ax.annotate(
                str(place),
                (each.objectives[2], each.objectives[0]),
                xytext=_ASIDE[place % len(_ASIDE)],
                textcoords="offset points",
                fontweight="bold",
                arrowprops={"arrowstyle": "-", "color": "0.3", "linewidth": 0.7},
            )
        ax.set_title(f"level {level}: {len(one.front)} of {one.subsets:,} ensembles", fontsize=10)
        ax.set_xlabel("speed and latency")
        ax.margins(0.16)
        ax.grid(visible=True, color="0.9")
        ax.set_axisbelow(True)
        fig.colorbar(dots, ax=ax, label="coverage", shrink=0.85)
    axes[0].set_ylabel("detection quality")
    fig.suptitle("Pareto fronts; large dots use few resources; 1-3: the most frequent ensembles", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)
