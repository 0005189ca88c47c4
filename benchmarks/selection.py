"""The choice of ensembles from the paper's Table 1: time, hypervolume, and the tables of docs/selection.md.

    python benchmarks/selection.py [--runs 100] [--workers N] [--write docs/selection.md] [--json]

`cellwatch select` is started as a user starts it, and the clock includes its start. The exact front is timed
by itself, in this process. With `--write` each table goes between its marks in the file.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import cellwatch
from cellwatch.models.selection.compared import compare, of_the_paper
from cellwatch.models.selection.level import Chosen, Ensemble, exact_front
from cellwatch.models.selection.ranking import WEIGHTS
from cellwatch.models.selection.scores import Scores, parse
from cellwatch.models.selection.subsets import count, top_k_means
from cellwatch.nodes.text_file import fill_or_print

TABLE = Path(cellwatch.__file__).parent / "config" / "selection" / "deepsense_table1.csv"
SHOWN = 5
SIZES = (1, 5)
# DeepSense, Table 3: the best three of each setting of the weights, for TOPSIS, VIKOR, Chebyshev.
TABLE_3 = {
    1: {
        "W1": ("XGB, RF, RuleSense", "RuleSense, XGB, RF", "XGB, RF, hybridML_V2"),
        "W2": ("XGB, RF, hybridML_V2", "XGB, RF, RuleSense", "XGB, hybridML_V2, RF"),
        "W3": ("RuleSense, XGB, hybridML_V1", "RuleSense, XGB, hybridML_V1", "RuleSense, XGB, BiCNNLSTM"),
        "W4": ("XGB, DecisionTree, RF", "DecisionTree, XGB, RF", "DecisionTree, XGB, RF"),
    },
    2: {
        "W1": ("XGB, RF, hybridML_V2", "XGB, RF, DecisionTree", "XGB, RF, hybridML_V2"),
        "W2": ("XGB, RF, DecisionTree", "XGB, DecisionTree, RF", "XGB, RF, hybridML_V2"),
        "W3": ("XGB, hybridML_V2, hybridML_V1", "XGB, hybridML_V2, RF", "XGB, hybridML_V2, RF"),
        "W4": ("DecisionTree, XGB, RF", "DecisionTree, XGB, RF", "DecisionTree, XGB, RF"),
    },
    3: {
        "W1": ("XGB, RF, DecisionTree", "XGB, RF, CNN", "RF, XGB, DecisionTree"),
        "W2": ("RF, XGB, DecisionTree", "XGB, RF, DecisionTree", "RF, XGB, DecisionTree"),
        "W3": ("XGB, RF, hybridML_V2", "XGB, RF, hybridML_V1", "XGB, RF, hybridML_V2"),
        "W4": ("DecisionTree, RF, KNN", "DecisionTree, RF, XGB", "DecisionTree, RF, KNN"),
    },
}


def busy() -> float:
    """Processor seconds of all processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def select(*options: str) -> tuple[dict, float, float]:
    """What `cellwatch select` says of Table 1, by level, and the seconds it took: clock, processor."""
    begun, before = time.perf_counter(), busy()
    done = subprocess.run(
        [sys.executable, "-m", "cellwatch.nodes.cli", "select", "--scores", str(TABLE), "--json", *options],
        stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)["levels"], time.perf_counter() - begun, busy() - before


def exact_seconds(scores: Scores) -> float:
    """Seconds to enumerate all ensembles of a level and to find their front."""
    begun = time.perf_counter()
    exact_front(partial(top_k_means, values=scores.values, k=3), len(scores.models), SIZES)
    return time.perf_counter() - begun


def table(head: str, rows: list[list[str]]) -> str:
    """Markdown."""
    columns = head.split(" | ")
    lines = [head, "|".join("---" for _ in columns), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" if "---" not in line else f"|{line}|" for line in lines)


def numbers(values: list[float]) -> list[str]:
    """Four decimals."""
    return [f"{value:.4f}" for value in values]


def together(models: list[str]) -> str:
    """Members of an ensemble."""
    return " + ".join(models)


def fronts(said: dict) -> str:
    """The best ranked of each front."""
    rows = [
        [f"L{level}", str(place), together(one["models"]), *numbers(one["objectives"]), f"{one['score']:.4f}"]
        for level, found in said.items()
        for place, one in enumerate(found["ranked"][:SHOWN], 1)
    ]
    return table("level | place | ensemble | quality | resources | speed | coverage | TOPSIS", rows)


def beside_table_2(said: dict, scores: dict[int, Scores], runs: int) -> str:
    """The three most frequent, and the paper's."""
    rows = []
    for level, found in said.items():
        for place, one in enumerate(found["frequent"], 1):
            kept = f"in {one['runs']} of {runs} runs"
            rows.append(
                [f"L{level}", f"frequent {place}", together(one["models"]), *numbers(one["objectives"]), kept]
            )
        ranked = [Ensemble(tuple(o["models"]), tuple(o["objectives"]), o["score"]) for o in found["ranked"]]
        chosen = Chosen(ranked, ranked, [], None, 0, 0)
        mine = scores[int(level)]
        for one in compare(of_the_paper(mine), mine, chosen, 3, WEIGHTS[int(level)]):
            what = (
                f"place {one.rank}; beaten by {together(one.beaten_by)}" if one.beaten_by else "on the front"
            )
            rows.append([f"L{level}", one.name, together(one.models), *numbers(one.objectives), what])
    return table("level | chosen | ensemble | quality | resources | speed | coverage | remark", rows)


def sensitivity(said: dict) -> tuple[str, str]:
    """The best three beside Table 3, and how the rankings agree."""
    rows, agree, order = [], [0, 0, 0], [0, 0, 0]
    for level, found in said.items():
        for name, by_method in found["ranked"].items():
            cells = []
            for i, (ranked, paper) in enumerate(
                zip(by_method.values(), TABLE_3[int(level)][name], strict=True)
            ):
                mine = [model.replace("RandomForest", "RF") for model in ranked[:3]]
                agree[i] += set(mine) == set(paper.split(", "))
                order[i] += ", ".join(mine) == paper
                cells.append(", ".join(mine) + (" =" if ", ".join(mine) == paper else ""))
            rows.append([f"L{level}", name, *cells])
    rows.append(
        ["", "as in Table 3", *(f"{a} of 12 ({b} as a set)" for a, b in zip(order, agree, strict=True))]
    )
    best = table("level | weights | TOPSIS | VIKOR | Chebyshev", rows)
    pairs = list(next(iter(said.values()))["between_weights"]["TOPSIS"])
    taus = [
        [f"L{level}", method, *(f"{tau:.2f}" for tau in by_pair.values())]
        for level, found in said.items()
        for method, by_pair in found["between_weights"].items()
    ]
    kinds = list(next(iter(said.values()))["between_methods"]["W1"])
    methods = [
        [f"L{level}", name, *(f"{tau:.2f}" for tau in by_pair.values())]
        for level, found in said.items()
        for name, by_pair in found["between_methods"].items()
    ]
    stable = table(" | ".join(["level", "method", *pairs]), taus)
    return best, stable + "\n\n" + table(" | ".join(["level", "weights", *kinds]), methods)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    scores = parse(TABLE.read_text(encoding="utf-8"), TABLE.name)
    workers = () if args.workers is None else ("--workers", str(args.workers))
    said, seconds, processor = select("--runs", str(args.runs), *workers)
    figures = {
        "runs": args.runs,
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1),
        "levels": {
            level: {
                "ensembles": count(len(scores[int(level)].models), SIZES),
                "front": len(found["front"]),
                "hypervolume_ratio": found["hypervolume_ratio"],
                "exact_seconds": round(exact_seconds(scores[int(level)]), 3),
            }
            for level, found in said.items()
        },
    }
    if args.json:
        print(json.dumps(figures, indent=1))
        return
    best, stable = sensitivity(select("--sensitivity")[0])
    speed = table(
        "level | ensembles | on the front | hypervolume NSGA-II / exact, worst run | exact front, seconds",
        [
            [
                *(f"L{level}", f"{one['ensembles']:,}", str(one["front"])),
                *(f"{one['hypervolume_ratio']:.9f}", f"{one['exact_seconds']:.3f}"),
            ]
            for level, one in figures["levels"].items()
        ],
    )
    parts = {
        "speed": f"{args.runs} runs a level: {seconds:.0f} s, {processor:.0f} s of one core.\n\n{speed}",
        "fronts": fronts(said),
        "table 2": beside_table_2(said, scores, args.runs),
        "table 3": best,
        "stability": stable,
    }
    fill_or_print(args.write, parts)


if __name__ == "__main__":
    main()
