"""`cellwatch blackbox`: what it prints, and one clear line for every mistake."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from cellwatch.nodes.blackbox_command import blackbox
from cellwatch.nodes.drivers.mcap_recording import McapRecording, RecordedTopic
from cellwatch.nodes.drivers.message_ring import Heard

BEGIN = 1_700_000_000_000_000_000  # 2023-11-14 22:13:20 UTC
NAMES = ("20231114T221320.000Z", "20231114T221520.000Z", "20231115T000000.000Z")


@pytest.fixture
def folder(tmp_path):
    """Three recordings of two minutes, and a file that is none."""
    topics = [
        RecordedTopic(f"/cell/{name}", "std_msgs/msg/String", "string data", "")
        for name in ("tags", "alarms")
    ]
    for name in NAMES:
        recording = McapRecording(tmp_path / f"{name}.mcap", topics, 1 << 20)
        for message in ((0, 0), (60, 1), (120, 0)):
            recording.hear(Heard(message[1], BEGIN + message[0] * 10**9, 0, b"x"))
        note = {"alarm": "PLC1/dos", "raised": "2023-11-14 22:14:20.125Z", "message": "a flood"}
        recording.note(note)
        recording.note(note | {"alarm": "[b]PLC2[/b]/mitm"})
        recording.end()
        recording.write()
    (tmp_path / "20231116T000000.000Z.mcap").write_bytes(b"\x89MCAP0\r\n")
    (tmp_path / "20231117T000000.000Z.part").touch()
    return tmp_path


def ask(*arguments):
    return CliRunner().invoke(blackbox, [str(a) for a in arguments], env={"COLUMNS": "160"})


def test_the_list_names_each_recording_and_its_alarms(folder):
    done = ask("list", "--folder", folder)
    assert done.exit_code == 0
    _, *rows, last = [row.split() for row in done.stdout.splitlines()]
    assert rows[0] == [NAMES[0], "120", "3", "0.0", "PLC1/dos"]
    assert rows[1] == ["[b]PLC2[/b]/mitm"]  # a name is no markup
    assert [row[0] for row in rows[::2]] == list(NAMES)
    assert " ".join(last).startswith("20231117T000000.000Z is not whole yet")
    assert "20231116T000000.000Z.mcap: not a whole MCAP file" in done.stderr


def test_the_list_as_json(folder):
    said = json.loads(ask("list", "--folder", folder, "--json").stdout)
    assert [r["path"] for r in said["recordings"]] == [str(folder / f"{name}.mcap") for name in NAMES]
    first = said["recordings"][0]
    assert (first["start_ns"], first["end_ns"]) == (BEGIN, BEGIN + 120 * 10**9)
    assert first["topics"]["/cell/tags"] == {"type": "std_msgs/msg/String", "messages": 2}
    assert [a["alarm"] for a in first["alarms"]] == ["PLC1/dos", "[b]PLC2[/b]/mitm"]
    assert (len(said["damaged"]), said["unfinished"]) == (1, ["20231117T000000.000Z"])


def test_an_empty_folder_is_said(tmp_path):
    assert f"no recordings in {tmp_path}" in ask("list", "--folder", tmp_path).stdout


def test_a_cell_that_never_ran_has_none(tmp_path, monkeypatch):
    monkeypatch.setenv("CELLWATCH_HOME", str(tmp_path))
    done = ask("list")
    assert (done.exit_code, "no recordings in" in done.stdout) == (0, True)


@pytest.mark.parametrize("name", [NAMES[0], "20231114T2213", f"{NAMES[0]}.mcap"])
def test_a_recording_is_shown_by_the_beginning_of_its_name(folder, name):
    done = ask("show", name, "--folder", folder)
    assert done.exit_code == 0
    assert "2023-11-14 22:13:20Z to 2023-11-14 22:15:20Z" in done.stdout
    assert "22:14:20.125  [b]PLC2[/b]/mitm  a flood" in done.stdout
    assert [row.split() for row in done.stdout.splitlines()][-2:] == [
        ["/cell/tags", "std_msgs/msg/String", "2"], ["/cell/alarms", "std_msgs/msg/String", "1"],
    ]  # fmt: skip


def test_a_file_is_shown_by_its_path(folder):
    said = json.loads(ask("show", folder / f"{NAMES[1]}.mcap", "--json").stdout)
    assert sum(t["messages"] for t in said["topics"].values()) == 3


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("20231114T22", "2 recordings begin with 20231114T22; see `cellwatch blackbox list`"),
        ("2024", "no recording 2024; see `cellwatch blackbox list`"),
        ("20231116", "not a whole MCAP file"),
    ],
)
def test_what_cannot_be_shown_is_one_clear_line(folder, name, what):
    done = ask("show", name, "--folder", folder)
    assert done.exit_code == 2
    assert what in done.stderr


def test_a_folder_that_is_none_is_one_clear_line(tmp_path):
    done = ask("list", "--folder", tmp_path / "none")
    assert (done.exit_code, "none: no such folder" in done.stderr) == (2, True)
