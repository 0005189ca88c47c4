"""Groups of graphs as ONNX Runtime sessions, in the order in which a deadline lets them run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from cellwatch.models.detectors.merged import ServedGraph, merge, opsets

if TYPE_CHECKING:
    from collections.abc import Callable

    from cellwatch.models.types import F32

TRIAL_ROWS = 40  # windows of the trial run that tells what a graph costs
GROUP = 0.25  # of the budget: graphs are merged up to it, so that few are late together
FADE = 0.9  # of the cost of a group that was left out: it gets another chance
SMOOTH = 0.2  # weight of a new time in the mean


def session(content: bytes) -> Any:
    """An ONNX Runtime session on the GPU where there is one, else on one core.

    The windows are small, so a thread pool would cost more than it gives.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    here = ort.get_available_providers()
    providers = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in here]
    return ort.InferenceSession(content, options, providers=providers)


class Feeds:
    """The windows of one step, (n, f), and their sequences, (n, T, f); brought to a device at most once."""

    def __init__(self, x: F32, sequences: F32) -> None:
        self.arrays = {"window": x, "sequence": sequences}
        self._placed: dict[str, Any] = {}

    def on(self, device: str, name: str) -> Any:
        """One of them as a value in the memory of `device`."""
        from onnxruntime import OrtValue

        if name not in self._placed:
            self._placed[name] = OrtValue.ortvalue_from_numpy(self.arrays[name], device)
        return self._placed[name]


@dataclass
class Group:
    """Graphs in one session. `cost_s` is what a call takes, a running mean.

    `device`: where inputs are bound (IO binding), so that the groups of a step share one copy on a GPU; ""
    hands over arrays, which is quicker on the CPU.
    """

    graphs: list[ServedGraph]
    cost_s: float = 0.0
    device: str | None = None
    _session: Any = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._session = session(merge(self.graphs))
        if self.device is None:
            self.device = "cuda" if self._session.get_providers()[0].startswith("CUDA") else ""
        self._inputs = [i.name for i in self._session.get_inputs()]
        self._outputs = [o.name for o in self._session.get_outputs()]

    def run(self, feeds: Feeds) -> dict[int, F32]:
        """Level -> float32 (n, m, c), the detectors of the level in the order of `graphs`."""
        if self.device:
            binding = self._session.io_binding()
            for name in self._inputs:
                binding.bind_ortvalue_input(name, feeds.on(self.device, name))
            for name in self._outputs:
                binding.bind_output(name)
            self._session.run_with_iobinding(binding)
            out = binding.copy_outputs_to_cpu()
        else:
            out = self._session.run(None, {name: feeds.arrays[name] for name in self._inputs})
        return {int(name[1:]): p for name, p in zip(self._outputs, out, strict=True)}

    def names(self, level: int) -> list[str]:
        """Detectors of a level."""
        return [g.detector for g in self.graphs if g.level == level]


@dataclass
class Stage:
    """Groups for some levels, light graphs first. Graphs that fail are taken out and named in `failed`.

    `classes`: how many each level has. `features` and `length` (T) are the shape of the trial; `clock` gives
    seconds.
    """

    graphs: list[ServedGraph]
    classes: dict[int, int]
    features: int
    length: int
    budget_s: float
    clock: Callable[[], float]
    failed: dict[str, str]
    groups: list[Group] = field(default_factory=list)
    late: int = 0  # group runs that were left out because there was no time

    def __post_init__(self) -> None:
        costs = [(cost, g) for g in self.graphs if (cost := self._tried(g)) is not None]
        packs: list[list[ServedGraph]] = []
        filling: dict[tuple[tuple[str, int], ...], tuple[list[ServedGraph], float]] = {}
        for cost, graph in sorted(costs, key=lambda c: c[0]):
            key = opsets(graph.content)  # only graphs that agree on it can be merged
            pack, filled = filling.get(key, ([], 0.0))
            if not pack or filled + cost > GROUP * self.budget_s:
                pack, filled = [], 0.0
                packs.append(pack)
            pack.append(graph)
            filling[key] = pack, filled + cost
        for pack in packs:
            group = Group([g for g in self.graphs if g in pack])
            self._time(group)
            self.groups.append(group)

    def run(self, x: F32, sequences: F32, until_s: float, scores: dict[int, F32], rows: list[int]) -> None:
        """Fill `scores[level][rows]` for every detector that there is time for; the others keep their NaN.

        `scores[level]` is (n, m, c), m as in `detectors(level)`.
        """
        if not rows:
            return
        feeds = Feeds(x, sequences) if len(rows) == len(x) else Feeds(x[rows], sequences[rows])
        share = max(len(rows) / TRIAL_ROWS, 1.0)
        for group in list(self.groups):
            begun = self.clock()
            if begun + share * group.cost_s > until_s:
                self.late += 1
                group.cost_s *= FADE
                continue
            try:
                self._put(scores, rows, group, group.run(feeds))
                group.cost_s += SMOOTH * ((self.clock() - begun) / share - group.cost_s)
            except Exception as error:
                self._mend(group, error, feeds, scores, rows)

    def detectors(self, level: int) -> list[str]:
        """All that were given for the level, those taken out too."""
        return [g.detector for g in self.graphs if g.level == level]

    def _put(self, scores: dict[int, F32], rows: list[int], group: Group, out: dict[int, F32]) -> None:
        for level, p in out.items():
            wide = self.detectors(level)
            columns = [wide.index(name) for name in group.names(level)]
            p[~np.isfinite(p).all(axis=2)] = np.nan  # a probability that is none: the detector abstains
            scores[level][np.ix_(rows, columns)] = p

    def _tried(self, graph: ServedGraph) -> float | None:
        """What a graph alone costs, s; None if it cannot be used."""
        try:
            group = Group([graph])
            found = self._time(group)[graph.level].shape[2]
        except Exception as error:
            self.failed[graph.name] = _line(error)
            return None
        if found != self.classes[graph.level]:
            self.failed[graph.name] = f"gives {found} classes, the level has {self.classes[graph.level]}"
            return None
        return group.cost_s

    def _time(self, group: Group) -> dict[int, F32]:
        """Run it once to warm up and once on the clock; returns what it gives."""
        x = np.zeros((TRIAL_ROWS, self.features), np.float32)
        feeds = Feeds(x, np.repeat(x[:, None], self.length, axis=1))
        group.run(feeds)
        begun = self.clock()
        out = group.run(feeds)
        group.cost_s = self.clock() - begun
        return out

    def _mend(
        self, group: Group, error: Exception, feeds: Feeds, scores: dict[int, F32], rows: list[int]
    ) -> None:
        """Take out what failed; the rest of the group takes its place and fills `scores`."""
        sound = []
        for graph in group.graphs:
            try:
                Group([graph]).run(feeds)
            except Exception as own:
                self.failed[graph.name] = _line(own)
            else:
                sound.append(graph)
        at = self.groups.index(group)
        if sound and len(sound) < len(group.graphs):
            try:
                rest = Group(sound, group.cost_s)
                self._put(scores, rows, rest, rest.run(feeds))
            except Exception as again:
                error = again
            else:
                self.groups[at] = rest
                return
        self.failed |= {g.name: _line(error) for g in sound}  # each works, but not together
        del self.groups[at]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
