"""Serving: parity with the native models, a deadline, failures taken out, order, sequences."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from cellwatch.models.detectors.ensemble import Ensemble
from cellwatch.models.detectors.history import Sequences
from cellwatch.models.detectors.merged import ServedGraph, merge
from cellwatch.models.detectors.scaler import Scaler
from cellwatch.models.detectors.serving import Feeds, Group, Stage, session
from cellwatch.models.types import FeatureWindow

FEATURES, LENGTH = 5, 4
CLASSES = {1: ("benign", "attack"), 2: ("benign", "dos", "recon")}


def graph(
    detector: str, level: int = 1, kind: str = "window", seed: int = 0, opset: int = 18, broken: str = ""
) -> ServedGraph:
    """softmax(x @ w), for a sequence of its mean over time. `broken`: "shape", "nan" or "load"."""
    classes = len(CLASSES[level]) + (broken == "shape")
    w = np.random.default_rng(seed).normal(size=(FEATURES, classes)).astype(np.float32)
    if broken == "nan":
        w[:] = np.nan
    nodes = [
        helper.make_node("MatMul", ["m", "w"], ["z"]),
        helper.make_node("Softmax", ["z"], ["probabilities"], axis=1),
    ]
    if kind == "sequence":
        nodes.insert(0, helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=0))
        if opset < 18:
            nodes[0] = helper.make_node("ReduceMean", ["x"], ["m"], axes=[1], keepdims=0)
    else:
        nodes.insert(0, helper.make_node("Identity" if broken != "load" else "Nonsense", ["x"], ["m"]))
    shape = ["n", FEATURES] if kind == "window" else ["n", LENGTH, FEATURES]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", classes])],
            [numpy_helper.from_array(w, "w"), numpy_helper.from_array(np.array([1]), "axes")],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=10,
    )
    return ServedGraph(level, detector, kind, model.SerializeToString())


def alone(g: ServedGraph, x: np.ndarray) -> np.ndarray:
    return session(g.content).run(["probabilities"], {"x": x})[0]


class Clock:
    """Seconds that pass only when told, and `tick` each time they are asked for."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


@pytest.fixture
def scaler():
    return Scaler(np.zeros(FEATURES), np.ones(FEATURES))


def window(i: int, devices: tuple[str, ...], seed: int | None = None) -> FeatureWindow:
    x = np.random.default_rng(i if seed is None else seed).normal(size=(len(devices), FEATURES))
    return FeatureWindow(
        i,
        0,
        1,
        1,
        "s1",
        devices,
        x.astype(np.float32),
        (),
        np.zeros(0, np.uint32),
        np.zeros((0, 0), np.float32),
    )


def ensemble(scaler, graphs, clock=None, **more) -> Ensemble:
    return Ensemble("s1", CLASSES, scaler, graphs, clock=clock or Clock(), length=LENGTH, **more)


def by_name(verdicts) -> dict[str, np.ndarray]:
    return {
        f"L{int(s.level)}/{d}": s.probabilities[:, k]
        for s in verdicts.levels
        for k, d in enumerate(s.detectors)
    }


MANY = [
    graph("A", seed=1),
    graph("B", seed=2),
    graph("S", kind="sequence", seed=3),
    graph("A", 2, seed=4),
    graph("S", 2, kind="sequence", seed=5),
    graph("old", 2, seed=6, opset=15),
]


@pytest.mark.parametrize("n", [1, 7, 40])
def test_served_is_what_each_graph_gives_alone(scaler, n):
    core = ensemble(scaler, MANY)
    devices = tuple(f"d{i}" for i in range(n))
    windows = [window(i, devices) for i in range(LENGTH + 2)]
    for w in windows:
        got = by_name(core.judge(w))
    x = scaler.transform(windows[-1].values)
    s = np.stack([scaler.transform(w.values) for w in windows[-LENGTH:]], axis=1)
    for g in MANY:
        np.testing.assert_allclose(got[g.name], alone(g, s if g.kind == "sequence" else x), atol=1e-6)
    assert core.failed == {}
    assert core.late == 0


def test_merging_keeps_equal_constants_once():
    one, two = len(merge([graph("A", seed=1)])), len(merge([graph("A", seed=1), graph("B", seed=1)]))
    other = len(merge([graph("A", seed=1), graph("B", seed=2)]))
    assert two < other
    assert one < two


def test_graphs_of_other_opsets_are_not_merged():
    with pytest.raises(ValueError, match=r"15.*18"):
        merge([graph("A"), graph("B", opset=15)])


@pytest.mark.parametrize(
    ("broken", "word"), [("load", "Nonsense"), ("shape", "gives 3 classes, the level has 2")]
)
def test_a_model_that_does_not_load_is_named_and_the_others_go_on(scaler, broken, word):
    core = ensemble(scaler, [graph("good"), graph("bad", broken=broken)])
    assert word in core.failed["L1/bad"]
    got = by_name(core.judge(window(0, ("a", "b"))))
    assert np.isfinite(got["L1/good"]).all()
    assert np.isnan(got["L1/bad"]).all()


def test_a_model_without_a_number_abstains(scaler):
    got = by_name(ensemble(scaler, [graph("good"), graph("bad", broken="nan")]).judge(window(0, ("a",))))
    assert np.isfinite(got["L1/good"]).all()
    assert np.isnan(got["L1/bad"]).all()


def test_a_model_that_fails_while_serving_is_taken_out_in_the_same_window(scaler, monkeypatch):
    core = ensemble(scaler, [graph("good", seed=1), graph("bad", seed=2), graph("fine", 2)])
    run = Group.run

    def failing(self, feeds):
        if any(g.detector == "bad" for g in self.graphs):
            raise RuntimeError("out of\nmemory")
        return run(self, feeds)

    monkeypatch.setattr(Group, "run", failing)
    for i in range(2):
        got = by_name(core.judge(window(i, ("a", "b"))))
        assert core.failed == {"L1/bad": "out of memory"}
        assert np.isnan(got["L1/bad"]).all()
        assert np.isfinite(got["L1/good"]).all()
        assert np.isfinite(got["L2/fine"]).all()


def test_what_works_alone_but_not_together_is_taken_out_too(scaler, monkeypatch):
    core = ensemble(scaler, [graph("A", seed=1), graph("B", seed=2)])
    run = Group.run
    monkeypatch.setattr(
        Group, "run", lambda self, feeds: run(self, feeds) if len(self.graphs) == 1 else 1 / 0
    )
    got = by_name(core.judge(window(0, ("a",))))
    assert core.failed.keys() == {"L1/A", "L1/B"}
    assert all(np.isnan(p).all() for p in got.values())
    core.judge(window(1, ("a",)))


def stage(graphs, clock, budget=1.0) -> Stage:
    sizes = {v: len(c) for v, c in CLASSES.items()}
    return Stage(graphs, sizes, FEATURES, LENGTH, budget, clock, {})


def test_a_late_group_is_left_out_and_gets_another_chance():
    clock = Clock()
    s = stage([graph("A")], clock)
    x = np.zeros((3, FEATURES), np.float32)
    seq = np.zeros((3, LENGTH, FEATURES), np.float32)
    s.groups[0].cost_s = 1.05
    runs = []
    for _ in range(3):
        scores = {1: np.full((3, 1, 2), np.nan, np.float32)}
        s.run(x, seq, clock() + 1.0, scores, [0, 1, 2])
        runs.append(bool(np.isfinite(scores[1]).all()))
    assert runs == [False, True, True]
    assert s.late == 1


def test_a_heavy_model_is_late_alone(monkeypatch):
    clock = Clock()
    run = Group.run

    def slow(self, feeds):
        clock.now += 0.8 if any(g.detector == "slow" for g in self.graphs) else 0.1
        return run(self, feeds)

    monkeypatch.setattr(Group, "run", slow)
    s = stage([graph("A", seed=1), graph("slow", seed=2), graph("B", seed=3)], clock)
    assert [[g.detector for g in group.graphs] for group in s.groups] == [["A", "B"], ["slow"]]
    x = np.zeros((3, FEATURES), np.float32)
    scores = {1: np.full((3, 3, 2), np.nan, np.float32)}
    s.run(x, np.zeros((3, LENGTH, FEATURES), np.float32), clock() + 0.5, scores, [0, 1, 2])
    assert np.isfinite(scores[1][:, [0, 2]]).all()
    assert np.isnan(scores[1][:, 1]).all()


def test_light_models_are_merged_up_to_a_quarter_of_the_budget_the_dearest_last(monkeypatch):
    clock = Clock()
    run = Group.run
    costs = {f"M{i:02}": 0.01 * i for i in range(1, 21)}  # 2.1 s in all

    def slow(self, feeds):
        clock.now += sum(costs[g.detector] for g in self.graphs)
        return run(self, feeds)

    monkeypatch.setattr(Group, "run", slow)
    graphs = [graph(name, seed=i) for i, name in enumerate(reversed(costs))]
    s = stage(graphs, clock, budget=1.0)
    assert sorted(g.detector for group in s.groups for g in group.graphs) == sorted(costs)
    assert all(group.cost_s < 0.26 for group in s.groups)
    assert len(s.groups) < 12
    dearest = [max(costs[g.detector] for g in group.graphs) for group in s.groups]
    assert dearest == sorted(dearest)
    x = np.zeros((3, FEATURES), np.float32)
    scores = {1: np.full((3, 20, 2), np.nan, np.float32)}
    s.run(x, np.zeros((3, LENGTH, FEATURES), np.float32), clock() + 1.0, scores, [0, 1, 2])
    assert 5 < np.isfinite(scores[1]).all(axis=(0, 2)).sum() < 20  # some, not all or nothing


def test_the_rest_of_a_group_may_fail_too(scaler, monkeypatch):
    """A GPU that is out of memory: one model fails alone, the others only together."""
    core = ensemble(scaler, [graph(name, seed=i) for i, name in enumerate("ABC")] + [graph("A", 2)])
    run = Group.run

    def failing(self, feeds):
        names = {g.detector for g in self.graphs}
        if len(names) > 1 or "B" in names:
            raise RuntimeError("out of memory")
        return run(self, feeds)

    monkeypatch.setattr(Group, "run", failing)
    for i in range(2):
        got = by_name(core.judge(window(i, ("a", "b"))))
        assert core.failed.keys() == {"L1/A", "L1/B", "L1/C"}
        assert np.isfinite(got["L2/A"]).all()


def test_bound_inputs_give_the_same_and_are_placed_once():
    """The way of a GPU, on the memory of the CPU."""
    graphs = [graph("A", seed=1), graph("B", 2, seed=2)]
    x = np.random.default_rng(3).normal(size=(5, FEATURES)).astype(np.float32)
    s = np.repeat(x[:, None], LENGTH, axis=1)
    feeds = Feeds(x, s)
    for g in ([graphs[0]], [graphs[1]], graphs):
        bound, plain = Group(g, device="cpu").run(feeds), Group(g, device="").run(Feeds(x, s))
        assert bound.keys() == plain.keys()
        for level, p in plain.items():
            np.testing.assert_array_equal(bound[level], p)
    assert feeds.on("cpu", "window") is feeds.on("cpu", "window")


def test_suspicious_devices_are_named_first(scaler):
    """With time for one more group only, those that L1 suspects get L2."""
    graphs = [graph("A", seed=1), graph("A", 2, seed=4)]
    w = window(0, tuple(f"d{i}" for i in range(30)), seed=9)
    attack = by_name(ensemble(scaler, graphs).judge(w))["L1/A"][:, 1]
    assert 0 < (attack >= 0.25).sum() < 30

    clock = Clock()
    core = ensemble(scaler, graphs, clock, budget_s=1.0)
    for s, cost in ((core._first, 0.2), (core._second, 0.5)):
        run = s.groups[0].run

        def timed(feeds, run=run, cost=cost):
            clock.now += cost
            return run(feeds)

        s.groups[0].run = timed
        s.groups[0].cost_s = cost
    named = np.isfinite(by_name(core.judge(w))["L2/A"]).all(axis=1)
    np.testing.assert_array_equal(named, attack >= 0.25)
    assert core.late == 1


def test_a_share_of_the_devices_is_a_partial_verdict(scaler):
    whole, part = ensemble(scaler, MANY), ensemble(scaler, MANY)
    devices = ("a", "b", "c")
    for i in range(3):
        all_of_it = whole.judge(window(i, devices))
        some = part.judge(window(i, devices), [0, 2])
    assert (some.devices, some.partial, all_of_it.partial) == (("a", "c"), True, False)
    for name, p in by_name(some).items():
        np.testing.assert_allclose(p, by_name(all_of_it)[name][[0, 2]], atol=1e-6)
    nothing = part.judge(window(3, devices), [])
    assert nothing.devices == ()
    assert nothing.partial


def test_another_schema_is_refused(scaler):
    core = ensemble(scaler, [graph("A")])
    w = window(0, ("a",))
    with pytest.raises(ValueError, match=r"s1.*s9"):
        core.judge(FeatureWindow(0, 0, 1, 1, "s9", w.devices, w.values, (), w.tag_device, w.tag_values))


def test_nothing_to_serve_is_no_error(scaler):
    assert ensemble(scaler, []).judge(window(0, ("a",))).levels == ()


# Sequences ----------------------------------------------------------------------
def rows(*values: float) -> np.ndarray:
    return np.array([[v] for v in values], np.float32)


def push(s: Sequences, i: int, devices: str, *values: float) -> list[list[float]]:
    return s.push(i, tuple(devices), rows(*values), rows(*values))[:, :, 0].tolist()


def test_a_new_device_has_its_first_window_repeated():
    s = Sequences(3)
    assert push(s, 5, "a", 1) == [[1, 1, 1]]
    assert push(s, 6, "ab", 2, 9) == [[1, 1, 2], [9, 9, 9]]
    assert push(s, 7, "ba", 8, 3) == [[9, 9, 8], [1, 2, 3]]
    assert push(s, 8, "ba", 7, 4) == [[9, 8, 7], [2, 3, 4]]


def test_a_missing_window_or_device_begins_anew():
    s = Sequences(3)
    push(s, 1, "ab", 1, 5)
    push(s, 2, "a", 2)
    assert push(s, 3, "ab", 3, 6) == [[1, 2, 3], [6, 6, 6]]
    assert push(s, 5, "ab", 4, 7) == [[4, 4, 4], [7, 7, 7]]


@pytest.mark.parametrize("length", [2, 3, 5])
def test_a_swap_goes_on_with_the_sequences_scaled_anew(length):
    old, new = Sequences(3), Sequences(length)
    scaler = Scaler(np.zeros(1), np.array([0.5]))
    for i in range(4):
        x = rows(i, 10 + i)
        old.push(i, ("a", "b"), x, x)
    new.take_over(old, scaler)
    x = rows(4, 14)
    got = new.push(4, ("a", "b"), x, scaler.transform(x))
    seen = [1, 1, 1, 2, 3, 4][-length:]
    np.testing.assert_allclose(got[0, :, 0], scaler.transform(rows(*seen))[:, 0])


def test_a_swap_before_the_first_window_takes_over_nothing(scaler):
    old, new = (ensemble(scaler, [graph("S", kind="sequence")]) for _ in range(2))
    new.take_over(old)
    assert np.isfinite(by_name(new.judge(window(0, ("a",))))["L1/S"]).all()
