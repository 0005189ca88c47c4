"""`cellwatch train | evaluate | models` on small tables, and the same training on a cluster."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import closing
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cellwatch.models.registry.bundle import read
from cellwatch.models.registry.keys import Keys
from cellwatch.models.registry.registry import Registry
from cellwatch.nodes import train_command, trainer
from cellwatch.nodes.cli import app
from cellwatch.nodes.data_sources import NAMES, open_data
from cellwatch.nodes.runner import home
from cellwatch.nodes.trainer import TrainingError, train

KINDS = ("benign", "dos", "scan")
FAST = "NaiveBayes,LogReg,DecisionTree"


def free_port() -> int:
    with closing(socket.socket()) as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def answers(port: int) -> bool:
    with closing(socket.socket()) as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def cellwatch(*args):
    return CliRunner().invoke(app, [str(a) for a in args])


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Three clouds of points, well apart."""
    rng = np.random.default_rng(11)
    y = np.arange(240) % 3
    x = rng.normal(size=(240, 4)) + 4 * np.eye(3, 4)[y]
    path = tmp_path_factory.mktemp("table") / "clouds.parquet"
    columns = {f"c{j}": x[:, j] for j in range(4)} | {"kind": [KINDS[k] for k in y]}
    pq.write_table(pa.table(columns), path)
    return path


@pytest.fixture(scope="module")
def trained(table, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    done = cellwatch(
        "train", "--data", table, "--label", "kind", "--models", FAST, "--workers", 1,
        "--cache", folder / "cache", "-o", folder / "models", "--json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder


def test_models_lists_every_model_at_every_level_with_its_figures(trained):
    rows = json.loads(cellwatch("models", "--models", trained / "models", "--json").stdout)
    assert {(r["name"], r["level"]) for r in rows} == {
        (n, level) for n in FAST.split(",") for level in (1, 2)
    }
    for row in rows:
        assert {"accuracy", "f1", "mcc", "size_mb", "schema_id", "version"} <= set(row)
        assert row["mcc"] > 0.8
        assert row["size_mb"] > 0


@pytest.mark.parametrize("level", [1, 2])
def test_one_level_alone_is_trained_and_judged(trained, table, tmp_path, level):
    data = ("--data", table, "--label", "kind", "--cache", trained / "cache")
    done = cellwatch("train", *data, "--level", level, "--models", FAST, "--workers", 1, "-o", tmp_path / "m")
    assert done.exit_code == 0, done.output
    rows = json.loads(cellwatch("models", "--models", tmp_path / "m", "--json").stdout)
    assert {row["level"] for row in rows} == {level}
    for folder in (tmp_path / "m", trained / "models"):
        shown = cellwatch("evaluate", *data, "--models", folder, "--level", level, "--json")
        assert shown.exit_code == 0, shown.output
        (found,) = json.loads(shown.stdout)["data"]
        assert {row["level"] for row in found["rows"]} == {level}
    none = cellwatch("evaluate", *data, "--models", tmp_path / "m", "--level", 3 - level)
    assert none.exit_code == 2
    assert f"it has L{level}" in " ".join(none.output.split())


def test_two_trainings_give_the_same_version_wherever_they_run(table, tmp_path):
    said = [
        cellwatch(
            "train", "--data", table, "--label", "kind", "--models", "NaiveBayes", "--workers", 1,
            "--cache", tmp_path / f"cache{i}", "-o", tmp_path / f"m{i}", "--json",
        )
        for i in range(2)
    ]  # fmt: skip
    assert len({json.loads(done.stdout)["version"] for done in said}) == 1


def test_cards_hold_nothing_of_this_machine(table, tmp_path):
    (data,) = open_data(str(table), tmp_path, label="kind")
    data = replace(data, facts={"site": "x", "folder": str(tmp_path)})
    (made,) = train(data, [("NaiveBayes", 1)], tmp_path, workers=1)
    assert made.card["data"]["site"] == "x"
    assert str(tmp_path) not in json.dumps(made.card)
    assert "seconds" not in made.card


def test_an_output_that_cannot_be_written_is_said_before_training(table, tmp_path, monkeypatch):
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "letter.txt").write_text("mine")
    monkeypatch.setattr(train_command, "train_models", pytest.fail)
    done = cellwatch(
        "train", "--data", table, "--label", "kind", "--cache", tmp_path / "c", "-o", tmp_path / "o"
    )
    assert done.exit_code == 2
    assert "holds other things than models" in " ".join(done.output.split())


def test_one_bad_registry_does_not_hide_the_others(trained, tmp_path, monkeypatch):
    signed_with = Keys(home() / "keys")
    monkeypatch.setenv("CELLWATCH_HOME", str(tmp_path))
    monkeypatch.setattr(train_command, "SHIPPED", tmp_path / "shipped")
    keys = Keys(tmp_path / "keys")
    for site in ("bad", "good"):
        registry = Registry(tmp_path / "models" / site, keys)
        held = read(trained / "models", signed_with)
        registry.promote(registry.add(replace(held.manifest, files={}), held.files))
    version = Registry(tmp_path / "models" / "bad", keys).current
    graph = tmp_path / "models" / "bad" / "versions" / version / "L1-LogReg.onnx"
    graph.write_bytes(b"changed")
    shutil.copytree(tmp_path / "models" / "good" / "versions" / version, tmp_path / "shipped" / "plant")
    done = cellwatch("models", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [row["name"] for row in rows if row["site"] == "bad"] == ["refused"]
    assert {row["folder"] for row in rows if "folder" in row} == {"plant", version}
    assert "sha256 does not fit" in " ".join(cellwatch("models").output.split())


def test_cards_say_what_was_learnt_from_what(trained):
    card = json.loads((trained / "models" / "L2-LogReg.card.json").read_text())
    assert card["classes"] == list(KINDS)
    assert card["seed"] == 0
    assert card["data"]["fingerprint"]
    assert sum(rows for _, _, rows in card["confusion"]) == card["rows"]["validation"]
    assert card["versions"]["scikit-learn"]


def test_the_models_of_a_folder_are_judged_on_the_test(trained, table):
    shown = cellwatch(
        "evaluate", "--data", table, "--label", "kind", "--models", trained / "models", "--json"
    )
    assert shown.exit_code == 0, shown.output
    (found,) = json.loads(shown.stdout)["data"]
    assert {row["name"] for row in found["rows"]} >= set(FAST.split(","))
    assert all(row["accuracy"] > 0.9 for row in found["rows"])
    checks = {one["name"]: one["ok"] for one in found["checks"]}
    assert checks == {"duplicate rows": True, "session overlap": None, "time order": None}


def test_models_of_other_rows_are_not_called_free_of_leaks(trained, table, tmp_path):
    fewer = tmp_path / "fewer.parquet"
    pq.write_table(pq.read_table(table).slice(30), fewer)
    shown = cellwatch(
        "evaluate", "--data", fewer, "--label", "kind", "--models", trained / "models", "--json"
    )
    (found,) = json.loads(shown.stdout)["data"]
    assert [one["ok"] for one in found["checks"]] == [None] * 3
    assert all("learnt from other rows (clouds.parquet)" in one["detail"] for one in found["checks"])


def test_a_finished_model_is_not_trained_again(trained, table, monkeypatch):
    (data,) = open_data(str(table), trained / "cache", label="kind")
    jobs = [(name, 1) for name in FAST.split(",")]
    monkeypatch.setattr(trainer, "fit_one", pytest.fail)
    news = []
    found = train(data, jobs, trained / "cache" / "trained", told=lambda *n: news.append(n))
    assert [(one.detector, one.level) for one in found] == jobs
    assert news == [("kept from before", 3, 3)]


def test_other_code_of_the_detectors_trains_anew(table, tmp_path, monkeypatch):
    (data,) = open_data(str(table), tmp_path, label="kind")
    before = trainer.place_of(data, tmp_path, 0)
    assert trainer.place_of(data, tmp_path, 0) == before
    monkeypatch.setattr(trainer, "code_digest", lambda *_: "other")
    assert trainer.place_of(data, tmp_path, 0) != before
    monkeypatch.undo()
    monkeypatch.setattr(trainer, "versions", lambda: {"torch": "99"})
    assert trainer.place_of(data, tmp_path, 0) != before


def test_another_seed_or_other_rows_are_trained_anew(trained, table):
    (data,) = open_data(str(table), trained / "cache", label="kind")
    before = trainer.data_digest(data)
    data.train.y[2][0] = 2 - data.train.y[2][0]
    assert trainer.data_digest(data) != before


def test_the_same_seed_gives_the_same_graph(table, tmp_path):
    (data,) = open_data(str(table), tmp_path, label="kind")
    one, two = (train(data, [("DecisionTree", 2)], tmp_path / str(i), workers=1)[0] for i in range(2))
    assert one.graph == two.graph


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--data", "nowhere"), "no data set is called 'nowhere'"),
        (("--data", "nowhere.csv"), "data absent"),
        (("--data", "TABLE"), "--label COLUMN"),
        (("--data", "TABLE", "--label", "what"), "no column 'what'"),
        (("--data", "TABLE", "--label", "kind", "--models", "GPT"), "no detector is called 'GPT'"),
        (("--data", "TABLE", "--label", "kind", "--level", "3"), "no level 3"),
        (("--data", "TABLE", "--label", "kind", "--level", "9"), "levels are 1, 2 and 3"),
        (("--data", "TABLE", "--label", "kind", "--engine", "spark://x"), "allowed: local, dask://HOST:PORT"),
        (("--data", "sim:moon"), "no simulated site is called 'moon'"),
    ],
)
def test_mistakes_are_one_clear_line(args, said, table, tmp_path):
    given = [str(table) if a == "TABLE" else a for a in args]
    done = cellwatch("train", *given, "-o", tmp_path / "o", "--cache", tmp_path / "c")
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert not (tmp_path / "o").exists()


def test_absent_data_is_a_row_not_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("CELLWATCH_DATA", str(tmp_path))
    for name in (n for n in NAMES if not n.startswith("sim:")):
        shown = cellwatch("evaluate", "--data", name, "--json")
        assert shown.exit_code == 0, shown.output
        assert json.loads(shown.stdout)["status"] == "data absent"


def test_models_of_other_columns_are_refused(trained, tmp_path):
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"z": np.arange(30.0), "kind": ["benign", "dos", "scan"] * 10}), other)
    done = cellwatch("evaluate", "--data", other, "--label", "kind", "--models", trained / "models")
    assert done.exit_code == 2
    assert "other columns" in " ".join(done.output.split())


def test_two_workers_of_a_cluster_train_what_one_machine_trains(table, tmp_path):
    distributed = pytest.importorskip("distributed", reason="dask's distributed is not installed")
    (data,) = open_data(str(table), tmp_path, label="kind")
    jobs = [(name, level) for name in ("NaiveBayes", "DecisionTree") for level in (1, 2)]
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, worker_dashboard_address=None
    ) as cluster:
        address = cluster.scheduler_address.removeprefix("tcp://")
        there = train(data, jobs, tmp_path / "there", engine=f"dask://{address}")
    here = train(data, jobs, tmp_path / "here", workers=1)
    assert [one.graph for one in there] == [one.graph for one in here]


def test_two_workers_of_ray_train_what_one_machine_trains(table, tmp_path, monkeypatch):
    pytest.importorskip("ray.util.client.server", reason="ray[client] is not installed")
    monkeypatch.setattr("cellwatch.nodes.trainer.AT_ONCE", 1)  # two batches
    (data,) = open_data(str(table), tmp_path, label="kind")
    jobs = [(name, level) for name in ("NaiveBayes", "DecisionTree") for level in (1, 2)]
    port, client = free_port(), free_port()
    folder = tempfile.mkdtemp(prefix="ray-")  # short: names of sockets are
    start = ["ray", "start", "--head", "--block", "--num-cpus=2", "--include-dashboard=false"]
    start += [f"--port={port}", f"--ray-client-server-port={client}", "--min-worker-port=61000"]
    start += ["--max-worker-port=61999", "--disable-usage-stats", f"--temp-dir={folder}"]
    ray = subprocess.Popen(
        start, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        deadline = time.monotonic() + 60
        while not answers(client) and time.monotonic() < deadline:
            time.sleep(0.2)
        there = train(data, jobs, tmp_path / "there", engine=f"ray://127.0.0.1:{client}")
    finally:
        os.killpg(ray.pid, signal.SIGTERM)
        ray.wait(60)
        shutil.rmtree(folder)
    here = train(data, jobs, tmp_path / "here", workers=1)
    assert [one.graph for one in there] == [one.graph for one in here]


def test_a_cluster_that_does_not_answer_is_said(table, tmp_path):
    pytest.importorskip("distributed", reason="dask's distributed is not installed")
    (data,) = open_data(str(table), tmp_path, label="kind")
    with pytest.raises(TrainingError, match="cannot reach the cluster"):
        train(data, [("NaiveBayes", 1)], tmp_path, engine="dask://127.0.0.1:1")
