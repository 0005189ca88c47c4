"""`cellwatch stress`: mistakes, the recording, and a short run through real nodes over DDS."""

from __future__ import annotations

import json
import os
import signal
from io import StringIO

import numpy as np
import psutil
import pytest
from rich.console import Console
from typer.testing import CliRunner

from cellwatch.models.datasets.sessions import SessionWindows
from cellwatch.models.features.schema import default_schema
from cellwatch.nodes import stress_recording
from cellwatch.nodes.cli import app
from cellwatch.nodes.stress_player import Player, PlayerError
from cellwatch.nodes.stress_recording import GAP, Recording, joined, open_recording
from cellwatch.plc_sim.sites import SITES

S = 1_000_000_000
CLASSES = ("benign", "fault/leak", "dos/syn-flood")


def session(name="one", w=6, devices=("A", "B"), hit=()):
    y = np.zeros((w, len(devices)), np.int16)
    clear = np.ones(y.shape, bool)
    for row, device, kind in hit:
        y[row, device], clear[row, device] = max(kind, 0), kind >= 0
    values = np.zeros((w, len(devices), len(default_schema().names)), np.float32)
    return SessionWindows(
        name, "test", 1, devices, np.arange(w) * S, values, y, clear, np.full(y.shape, -1, np.int16),
        np.zeros(0, np.float32),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--data", "nsl_kdd"], ["nsl_kdd", "sim:factory", "sim:bench"]),
        (["--data", "sim:moon"], ["sim:moon", "sim:bench"]),
        (["--data", "sim:bench", "--rates", "1,0"], ["--rates 1,0", "above 0"]),
        (["--data", "sim:bench", "--rates", "nan"], ["--rates nan", "above 0"]),
        (["--data", "sim:bench", "--rates", "fast"], ["--rates fast", "commas"]),
        (["--data", "sim:bench", "--seconds", "0"], ["--seconds 0"]),
        (["--data", "sim:bench", "--picture", "x.doc"], ["x.doc", ".svg"]),
        (["--data", "sim:bench", "--picture", "/dev/null/x.svg"], ["/dev/null"]),
    ],
)
def test_mistakes_are_named_in_one_line(args, words):
    result = CliRunner().invoke(app, ["stress", *args])
    assert result.exit_code == 2
    line = " ".join(result.stderr.split())
    assert all(word in line for word in words), line


def test_a_site_without_models(made, monkeypatch):
    monkeypatch.setattr("cellwatch.nodes.stress.for_cell", lambda *_: None)
    result = CliRunner().invoke(app, ["stress", "--data", "sim:bench", "--cache", str(made)])
    assert result.exit_code == 2
    assert "cellwatch train --data sim:bench" in " ".join(result.stderr.split())


def test_sessions_keep_apart_and_begin_again():
    recording = joined([session(w=3), session(w=4)], [0, 2], CLASSES, S)
    assert recording.first.tolist() == [True, False, False, True, False]
    place, number = recording.numbers(100, 7)
    assert place.tolist() == [0, 1, 2, 3, 4, 0, 1]
    jumps = np.diff(number, prepend=100).tolist()
    assert jumps == [GAP, 1, 1, GAP, 1, GAP, 1]


def test_truth_is_told_as_stretches_of_devices():
    hit = [(1, 0, 2), (2, 0, 2), (3, 0, -1), (5, 1, 1), (0, 1, -1)]
    recording = joined([session(hit=hit)], [0], CLASSES, S)
    place, number = recording.numbers(0, 12)  # twice
    told = recording.incidents(place, number)
    assert [(k, i.device, i.kind, i.category, i.type) for k, i in told[:3]] == [
        (0, "B", "attack", "", ""),
        (1, "A", "attack", "dos", "syn-flood"),
        (5, "B", "fault", "fault", "leak"),
    ]
    flood = told[1][1]
    # From the beginning of its first window to the middle of the one that is touched in part.
    assert (flood.onset_ns, flood.end_ns) == (number[1] * S, number[3] * S + S // 2)
    assert (told[2][1].onset_ns, told[2][1].end_ns) == (number[5] * S, (number[5] + 1) * S)
    assert [k for k, _ in told] == [0, 1, 5, 6, 7, 11]
    assert len({i.name for _, i in told}) == 6


def test_an_incident_goes_no_further_than_what_is_played():
    recording = joined([session(hit=[(4, 0, 1), (5, 0, 1)])], [0], CLASSES, S)
    place, number = recording.numbers(0, 5)
    ((at, one),) = recording.incidents(place, number)
    assert (at, one.end_ns) == (4, (number[4] + 1) * S)


@pytest.fixture
def made(tmp_path):
    """A made-up data set of the bench: 30 windows, an attack on two devices."""
    from cellwatch.nodes.simulated import fingerprint

    folder = tmp_path / "bench"
    folder.mkdir()
    hit = [(row, device, 2) for row in range(20, 24) for device in (0, 1)]
    session("bench-test-000", 30, SITES["bench"].hosts, hit).save(folder / "bench-test-000.npz")
    about = {
        "fingerprint": fingerprint("bench"), "window_s": 1.0, "classes": CLASSES,
        "sessions": [{"name": f"bench-{split}-000", "split": split} for split in ("train", "test")],
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(about))
    return tmp_path


def test_a_session_begins_shortly_before_its_first_incident(made):
    recording = open_recording("sim:bench", made, lambda *_: None)
    assert isinstance(recording, Recording)
    assert len(recording.values) == 30 - 20 + stress_recording.SEQUENCE
    assert recording.window_ns == S
    assert (recording.y > 0).sum() == 8


@pytest.mark.system
def test_a_short_run_and_ctrl_c(made, monkeypatch):
    pytest.importorskip("rclpy")
    pytest.importorskip("cellwatch_msgs.msg")
    from cellwatch.nodes.stress import stress

    before = {p.pid for p in psutil.Process().children(recursive=True)}
    handler = signal.getsignal(signal.SIGINT)

    def tick(text, done, of):
        if text == "20x":
            os.kill(os.getpid(), signal.SIGINT)

    said = Console(file=StringIO())
    found = stress("sim:bench", [8.0, 20.0], 1.0, made, said, tick)
    assert found["stopped"] is True
    assert found["unhurried"]["windows"] == 18
    (row,) = found["rates"]
    assert (row["rate"], row["windows"], row["offered"]["samples_s"]) == (8.0, 8, 64.0)
    assert row["lost"] == 0
    assert row["latency_ms"]["median"] > 0
    assert row["decisions"]["samples"] == 8 * 8
    assert {"rule_node", "ensemble_node", "fusion_node", "drift_node", "cell_manager_node"} <= {*row["nodes"]}
    assert not {"feature_node", "network_tap_node", "opcua_client_node"} & {*row["nodes"]}
    assert row["all"]["cpu"] > 0 and row["all"]["uss_mb"] > 50
    assert row["drift"]["windows"] > 0 and row["drift"]["labels_joined"] > 0, row["drift"]
    assert signal.getsignal(signal.SIGINT) is handler
    left = [p for p in psutil.Process().children(recursive=True) if p.pid not in before]
    assert not [p for p in left if "resource_tracker" not in " ".join(p.cmdline())]


def test_a_player_that_is_killed_is_no_endless_wait():
    pytest.importorskip("rclpy")
    player = Player(joined([session()], [0], CLASSES, S), "/nobody")
    os.kill(player.pid, signal.SIGKILL)
    with pytest.raises(PlayerError, match="the player ended"):
        player.await_ready(lambda: None)
    player.close()
