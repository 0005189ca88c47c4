"""What a stress test measured as one picture, after DeepSense's Figure 19."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def draw(found: Mapping[str, Any], path: Path) -> None:
    """Left what should stay at 100 %, right what it costs. The suffix of `path` says which kind it is."""
    rows = found["rates"]
    x = [row["rate"] for row in rows]
    fig = Figure(figsize=(9.2, 3.6), layout="constrained")
    left, right = fig.subplots(1, 2)
    for name, mark, values in (
        ("throughput, of what was offered", "o-", [row["throughput"]["share"] for row in rows]),
        ("decisions as without load", "s--", [row["decisions"]["same"] for row in rows]),
        (
            "windows that drift monitoring took",
            "^:",
            [row["drift"]["windows"] / row["windows"] for row in rows],
        ),
    ):
        left.plot(x, [100 * value for value in values], mark, label=name, markersize=4)
    left.set_ylim(0, 104)
    left.set_ylabel("%")
    for name, mark, key in (("median", "o-", "median"), ("99 %", "s--", "p99")):
        right.plot(x, [row["latency_ms"][key] for row in rows], mark, label=f"latency, {name}", markersize=4)
    right.set_yscale("log")
    right.set_ylabel("ms")
    load = right.twinx()
    load.plot(x, [row["all"]["cpu"] for row in rows], "^:", color="0.4", label="CPU, all nodes", markersize=4)
    load.set_ylim(0, found["cores"])
    load.set_ylabel("cores")
    lines = [*right.get_lines(), *load.get_lines()]
    right.legend(lines, [str(line.get_label()) for line in lines], fontsize=8)
    left.legend(fontsize=8, loc="lower left")
    for ax in (left, right):
        ax.set_xscale("log")
        ax.set_xticks(x, [f"{each:g}" for each in x], fontsize=7, rotation=60)
        ax.minorticks_off()
        ax.set_xlabel("times the recorded rate")
        ax.grid(visible=True, color="0.9")
        ax.set_axisbelow(True)
        if found["saturation"]["fails"]:
            ax.axvline(found["saturation"]["fails"], color="0.6", linewidth=0.8, linestyle="--")
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=130, metadata={"Date": None} if path.suffix == ".svg" else None)
