"""EWAD in the cell: trained from benign windows, served beside the ensemble, left out where not sound."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from cellwatch.models.ewad import commissioning
from cellwatch.models.ewad.commissioning import QuietRows, commission, groups_of
from cellwatch.models.ewad.ewad import Ewad
from cellwatch.models.ewad.settings import EwadSettings
from cellwatch.models.features.schema import default_schema
from cellwatch.models.registry.ewad_bundle import CARD, CELL, GRAPH, MODEL, read
from cellwatch.models.registry.keys import Keys
from cellwatch.models.types import FeatureWindow, Screening
from cellwatch.nodes import ewad_service
from cellwatch.nodes.cell import Artifacts, node_table
from cellwatch.nodes.commission import _train_ewad
from cellwatch.nodes.config import CellConfig, ConfigError, EwadConfig, PlcConfig, load
from cellwatch.nodes.ewad_bundling import load_bundle, save_bundle
from cellwatch.nodes.ewad_cell import train_commissioned
from cellwatch.nodes.ewad_service import EwadService
from cellwatch.nodes.model_sets import ewad_for_cell

SCHEMA = default_schema()
F = len(SCHEMA.names)
DEVICES = ("PLC1", "HMI1", "router")
QUICK = EwadSettings(members=3, hidden=8, latent=4, depths=(2, 3), critic_steps=1, constant="keep")


def windows(n: int, seed: int, *, first: int = 0, learning: bool = True) -> list[FeatureWindow]:
    """Quiet windows of three devices of different sizes; some columns still, one always missing."""
    rng = np.random.default_rng(seed)
    load_factor = rng.normal(size=(n, len(DEVICES), 1))
    x = np.exp(np.linspace(0, 4, F) + 0.1 * load_factor + 0.05 * rng.normal(size=(n, len(DEVICES), F)))
    x *= np.array([1.0, 10.0, 100.0])[:, None]
    x[..., 10:20] = 0.0
    x[..., 20] = np.nan
    return [
        FeatureWindow(
            first + i, (first + i) * 10**9, (first + i + 1) * 10**9, (first + i + 1) * 10**9,
            SCHEMA.schema_id, DEVICES, x[i].astype(np.float32), (), np.zeros(0, np.uint32),
            np.zeros((0, 12), np.float32), commissioning=learning,
        )
        for i in range(n)
    ]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """The nets are small, and tests share the machine."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def keys(tmp_path_factory) -> Keys:
    return Keys(tmp_path_factory.mktemp("ewad") / "keys")


@pytest.fixture(scope="module")
def trained(keys):
    """Folder of an EWAD of the cell, trained as `cellwatch commission` does."""
    folder = keys.folder.parent / "cell.ewad"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commissioning, "CELL", QUICK)
        patch.setattr(commissioning, "STEPS", 60)
        train_commissioned(windows(400, 1), [folder], site="c", keys=keys, progress=lambda _: None)
    return folder


def service(folder, keys, **more) -> EwadService:
    given = {"window_s": 1.0, "false_alarms_per_hour": 1.0, "budget_s": 5.0, "clock": lambda: 0.0} | more
    return EwadService(folder, keys, **given)


def test_quiet_windows_pass_and_a_flood_is_found_and_explained(trained, keys):
    ewad = service(trained, keys)
    quiet = [ewad.judge(w) for w in windows(120, 2, first=1000, learning=False)]
    assert not [v for v in quiet if (v.screening == Screening.SUSPICIOUS).any()]
    (flood,) = windows(1, 3, first=1120, learning=False)
    flood.values[1, 5] *= 1000
    flood.values[1, 12] = 400.0  # stood still as long as the cell learnt
    found = ewad.judge(flood)
    assert found.screening.tolist() == [Screening.ALLOW, Screening.SUSPICIOUS, Screening.ALLOW]
    assert {v.feature for v in found.violations} & {SCHEMA.names[5], SCHEMA.names[12]}
    assert {v.device for v in found.violations} == {"HMI1"}
    assert (ewad.scored, ewad.trouble) == (121, "")


def test_the_served_scores_are_those_of_the_training_code(trained, keys):
    held = read(trained, keys)
    from safetensors.numpy import load as tensors_of

    model = Ewad.from_tensors(tensors_of(held.files[MODEL]), json.loads(held.files[CARD]))
    rng = np.random.default_rng(8)
    x = rng.normal(scale=3, size=(60, F)).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = np.nan
    ours, served = model.judge(x), load_bundle(trained, keys).judge(x)
    for name in ours._fields:
        np.testing.assert_allclose(getattr(served, name), getattr(ours, name), rtol=1e-3, atol=1e-3)


def test_an_ewad_of_a_table_is_no_watch_of_a_cell(trained, keys, tmp_path):
    rows = np.random.default_rng(1).normal(size=(200, 3)).astype(np.float32)
    model = Ewad(replace(QUICK, epochs=2), 0).fit(rows, ("a", "b", "c"))
    save_bundle(tmp_path / "t", model, lineage={"data": "rows"}, keys=keys)
    loaded = load_bundle(tmp_path / "t", keys)
    assert (loaded.columns, loaded.threshold) == (("a", "b", "c"), model.threshold)
    np.testing.assert_allclose(loaded.score(rows), model.score(rows), rtol=1e-3, atol=1e-3)
    assert "has schema none, the cell" in service(tmp_path / "t", keys).trouble


def test_too_short_a_commissioning_trains_none_and_says_so(keys, tmp_path, capsys):
    with pytest.raises(ValueError, match="learn for longer"):
        commission(QuietRows.of(windows(60, 1)), SCHEMA.names, settings=QUICK)
    run = SimpleNamespace(plant=None, folder=tmp_path / "cell", site="c")
    _train_ewad(run, windows(60, 1), tmp_path / "p.yaml", Console(stderr=True, width=200))
    assert "no EWAD was trained" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    (tmp_path / "cell" / "ewad").mkdir(parents=True)  # of the former baseline
    _train_ewad(run, windows(60, 1), tmp_path / "p.yaml", Console(stderr=True, width=200))
    assert "the former one is out of service" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "cell").iterdir()] == ["ewad.former"]


@pytest.mark.parametrize("plant", [None, "simulated"])
def test_commissioning_trains_one_beside_the_profile_and_a_real_cell_keeps_it(tmp_path, monkeypatch, plant):
    monkeypatch.setenv("CELLWATCH_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(commissioning, "CELL", QUICK)
    monkeypatch.setattr(commissioning, "STEPS", 5)
    run = SimpleNamespace(plant=plant, folder=tmp_path / "home" / "cells" / "c", site="c")
    after = windows(20, 2, first=400, learning=False)  # judged already: not to be learnt from
    _train_ewad(run, [*windows(300, 1), *after], tmp_path / "p.yaml", Console(quiet=True))
    held = read(tmp_path / "p.ewad", Keys(tmp_path / "home" / "keys"), schema_id=SCHEMA.schema_id)
    assert held.manifest.lineage["rows"] == 300 * len(DEVICES)
    assert json.loads(held.files[CELL])["devices"] == sorted(DEVICES)
    cell = CellConfig("c", [PlcConfig("PLC1", "t.yaml")], plant="none")
    found = ewad_for_cell(cell, tmp_path / "home", tmp_path / "shipped", print)
    assert found == (str(run.folder / "ewad") if plant is None else "")


def test_a_clock_set_back_mixes_no_windows():
    held = windows(5, 1)
    rows = QuietRows.of([*held[:3], *held[1:]])
    numbers = rows.window[:: len(held[0].devices)]
    assert np.diff(numbers).tolist() == [1, 1, 2, 1, 1, 1]


def test_columns_of_one_measurement_go_together():
    groups = dict(zip(SCHEMA.names, groups_of(SCHEMA.names), strict=True))
    assert groups["network_packet-size_avg"] == groups["network_packet-size_max"]
    assert groups["network_packet-size_avg"] != groups["network_ttl_avg"]


# What is not sound ------------------------------------------------------------------
@pytest.mark.parametrize("harm", ["poisoned", "truncated", "stranger", "window", "gone"])
def test_what_cannot_be_trusted_abstains_with_the_reason(trained, keys, tmp_path, harm):
    import shutil

    folder = shutil.copytree(trained, tmp_path / "e")
    whose, more, why = keys, {}, f"{GRAPH}: sha256"
    graph = (folder / GRAPH).read_bytes()
    if harm == "poisoned":
        (folder / GRAPH).write_bytes(graph[:-4] + b"evil")
    elif harm == "truncated":
        (folder / GRAPH).write_bytes(graph[:100])
    elif harm == "stranger":
        whose, why = Keys(tmp_path / "none"), "not signed by a key"
    elif harm == "window":
        more, why = {"window_s": 10.0}, "windows of 1 s"
    else:
        shutil.rmtree(folder)
        why = "missing"
    ewad = service(folder, whose, **more)
    (window,) = windows(1, 2, learning=False)
    assert why in ewad.judge(window).abstained
    assert why in ewad.trouble
    assert ewad.version == ""


def test_commissioning_slowness_and_failures_abstain_and_it_comes_back(trained, keys, monkeypatch):
    now = [0.0]
    ewad = service(trained, keys, budget_s=1.0, clock=lambda: now[0])
    learning, *rest = windows(30, 2, learning=False)
    assert ewad.judge(replace(learning, commissioning=True)).abstained == "commissioning"
    judge = ewad._watch.judge

    def slow(*given):
        now[0] += 20.0
        return judge(*given)

    monkeypatch.setattr(ewad._watch, "judge", slow)
    assert ewad.judge(rest[0]).abstained == ""
    assert ewad.judge(rest[1]).abstained == "no time"
    monkeypatch.setattr(ewad._watch, "judge", judge)
    again = [ewad.judge(w).abstained for w in rest[2:]]
    assert again[-1] == ""
    assert ewad.late == 1 + again.count("no time")
    strange = ewad.judge(replace(rest[-1], schema_id="s9"))
    assert "has schema" in strange.abstained == ewad.trouble
    assert ewad.judge(rest[-1]).abstained == ewad.trouble == ""


# The cell -----------------------------------------------------------------------------
def test_the_cell_file_names_it_and_every_mistake_is_one_line(trained, keys, tmp_path):
    (tmp_path / "map.yaml").write_text("tags: []\n")
    path = tmp_path / "cell.yaml"
    base = "cell: c\nplant: sim:quiet-shift\nplcs:\n  - {name: PLC1, tag_map: map.yaml}\n"

    def cell(text: str) -> CellConfig:
        path.write_text(base + text)
        return load(path)

    home = keys.folder.parent
    named = cell(f"ewad: {{model: {trained}, false_alarms_per_hour: 2}}\n")
    assert ewad_for_cell(named, home, tmp_path, print) == str(trained)
    assert cell("ewad: {model: some/where}\n").ewad.model == str(tmp_path / "some" / "where")
    with pytest.raises(ConfigError, match=r"ewad: model: .*ewad.json: missing"):
        ewad_for_cell(cell("ewad: {model: nowhere}\n"), home, tmp_path, print)
    for text, why in (
        ("ewad: {false_alarms_per_hour: -1}\n", "false_alarms_per_hour: -1 is not 0 to 3600"),
        ("ewad: {modell: x}\n", "ewad: unknown key 'modell'; allowed: model, false_alarms_per_hour"),
    ):
        with pytest.raises(ConfigError, match=why):
            cell(text)


def test_fusion_waits_for_it_only_where_the_cell_has_one(tmp_path):
    cell = CellConfig("c", [PlcConfig("PLC1", "t.yaml")], ewad=EwadConfig(false_alarms_per_hour=3.0))
    for folder, sources in (("", ["rules", "ensemble"]), ("e", ["rules", "ensemble", "ewad"])):
        table = {spec.name: spec.parameters for spec in node_table(cell, Artifacts(tmp_path, ewad=folder))}
        assert json.loads(table["fusion_node"]["sources"]) == sources
        node = table["ensemble_node"]
        assert (node["ewad"], node["false_alarms_per_hour"]) == (folder, 3.0)


def test_a_refused_one_of_the_site_is_left_out_and_said(trained, keys, tmp_path):
    import shutil

    said: list[str] = []
    cell = CellConfig("c", [PlcConfig("PLC1", "t.yaml")], plant="sim:quiet-shift")
    shutil.copytree(trained, tmp_path / "shipped" / "factory")  # it is of the site "c"
    assert ewad_for_cell(cell, tmp_path / "home", tmp_path / "shipped", said.append) == ""
    assert len(said) == 1
    assert "EWAD is left out" in said[0]


def test_the_release_has_sound_ones(root):
    shipped = list((root / "config" / "ewad").glob("*/"))
    assert shipped
    for folder in shipped:
        held = read(folder, None, schema_id=SCHEMA.schema_id, site=folder.name)
        assert sum(p.stat().st_size for p in folder.iterdir()) < 300_000
        ewad = EwadService(folder, None, held.manifest.window_s, 1.0, 1.0, lambda: 0.0)
        assert (ewad.version, ewad.trouble) == (held.version, "")


def test_the_node_says_its_verdicts_beside_the_ensembles(trained, keys, monkeypatch):
    rclpy = pytest.importorskip("rclpy")
    pytest.importorskip("cellwatch_msgs")
    from rclpy.lifecycle import TransitionCallbackReturn
    from rclpy.parameter import Parameter

    from cellwatch.nodes.ensemble_node import EnsembleNode
    from cellwatch.nodes.ros import convert
    from cellwatch.nodes.ros.node import OK, WARN

    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "OFF")
    rclpy.init()
    made = []

    def node(**values) -> EnsembleNode:
        one = EnsembleNode()
        made.append(one)
        one.set_parameters([Parameter(k, value=v) for k, v in ({"keys": str(keys.folder)} | values).items()])
        assert one.trigger_configure() == TransitionCallbackReturn.SUCCESS
        one.said, one.ewad_said = [], []
        one.pub = SimpleNamespace(publish=one.said.append)
        one.ewad_pub = SimpleNamespace(publish=one.ewad_said.append)
        one.trigger_activate()
        return one

    try:
        window, *_ = windows(3, 4, learning=False)
        with_one = node(ewad=str(trained))
        with_one._score(convert.features_msg(window))
        verdicts = convert.verdicts(with_one.ewad_said[-1])
        assert (verdicts.source, verdicts.devices, verdicts.abstained) == ("ewad", DEVICES, "")
        assert verdicts.latency_s > 0
        level, _, counters = with_one.health()
        assert (level, counters["ewad_scored"]) == (OK, 1)
        assert counters["ewad"] == with_one.ewad.version
        without = node()
        without._score(convert.features_msg(window))
        assert (len(without.said), without.ewad_said) == (1, [])
        assert without.health()[2]["ewad"] == "none"
        broken = node(ewad=str(trained / "nowhere"))
        broken._score(convert.features_msg(window))
        assert "missing" in convert.verdicts(broken.ewad_said[-1]).abstained
        level, text, _ = broken.health()
        assert level == WARN
        assert text.startswith("EWAD: ")
        assert len(broken.said) == 1  # the ensemble goes on
    finally:
        for one in made:
            one.end()
            one.destroy_node()
        rclpy.try_shutdown()


def test_an_ewad_that_is_no_cells_is_refused_by_the_service(trained, keys, monkeypatch):
    held = read(trained, keys)
    files = {name: content for name, content in held.files.items() if name != CELL}
    monkeypatch.setattr(ewad_service, "read", lambda *_, **__: replace(held, files=files))
    assert "knows no devices" in service(trained, keys).trouble


def test_files_of_a_bundle_that_do_not_fit_together_are_refused(trained, keys, monkeypatch):
    held = read(trained, keys)
    files = held.files | {CELL: b'{"devices": ["PLC1"]}'}
    monkeypatch.setattr(ewad_service, "read", lambda *_, **__: replace(held, files=files))
    assert "names do not fit" in service(trained, keys).trouble
