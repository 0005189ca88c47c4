"""`cellwatch sim`: the list, data sets, pictures and live runs from the command line, and its mistakes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from cellwatch.plc_sim.__main__ import main
from cellwatch.plc_sim.faults import FAULTS
from cellwatch.plc_sim.scenario import names

FLOODS = (
    "ack-frag-flood", "connect-flood", "http-flood", "icmp-flood", "icmp-frag-flood", "mqtt-publish-flood",
    "push-ack-flood", "rst-fin-flood", "slowloris", "syn-flood", "synonymousip-flood", "tcp-flood",
    "udp-flood", "udp-frag-flood",
)  # fmt: skip
TYPES = {  # as spelled in DATASENSE.md; `ics` is ours
    "dos": FLOODS,
    "ddos": FLOODS,
    "recon": (
        "host-disc-arp-ping", "host-disc-tcp-ack-ping", "host-disc-tcp-syn-ping", "host-disc-tcp-syn-stealth",
        "host-disc-udp-ping", "os-scan", "ping-sweep", "port-scan", "vuln-scan",
    ),
    "web": ("backdoor-upload", "command-injection", "sql-injection", "sql-injection-blind", "xss"),
    "mitm": ("arp-spoofing", "impersonation", "ip-spoofing"),
    "malware": ("mirai-syn-flood", "mirai-udp-flood"),
    "bruteforce": ("dictionary-ssh", "dictionary-telnet"),
    "ics": (
        "false-data-injection", "set-point-change", "replay", "rogue-client", "modbus-write-flood",
        "plc-stop",
    ),
}  # fmt: skip


def test_list_as_json(capsys):
    assert main(["--list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found) == ["scenarios", "attacks", "faults"]
    assert found["scenarios"] == list(names())
    assert found["faults"] == list(FAULTS)
    assert all(list(each) == ["category", "type", "attack_id"] for each in found["attacks"])
    pairs = [(each["category"], each["type"]) for each in found["attacks"]]
    assert len(pairs) == len(set(pairs)) == 55
    assert set(pairs) == {(category, name) for category, types in TYPES.items() for name in types}
    ids = [each["attack_id"] for each in found["attacks"]]
    assert all(each is None or each.startswith("T0") for each in ids)
    assert sum(each is not None for each in ids) > 20


def test_list_for_people(capsys):
    assert main(["--list"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in (*names(), *FAULTS, "dos/syn-flood", "T0814"))


def test_list_through_the_cellwatch_command():
    done = subprocess.run(
        [sys.executable, "-m", "cellwatch.nodes.cli", "sim", "--list", "--json"],
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert len(json.loads(done.stdout)["attacks"]) == 55


def test_dataset_prints_what_it_wrote(tmp_path, capsys):
    out = tmp_path / "set"
    assert main(["--dataset", str(out), "--windows", "60", "--scenario", "demo", "--seed", "3"]) == 0
    text = capsys.readouterr().out
    labels = json.loads((out / "labels.json").read_text())
    assert len(labels["incidents"]) == 2
    assert all(f"{each['category']}/{each['type']}" in text for each in labels["incidents"])
    assert "60 windows" in text
    again = tmp_path / "again"
    assert main(["--dataset", str(again), "--windows", "4", "--window", "0.5", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["windows"] == 4
    assert found["folder"] == str(again)
    assert found["files"] == json.loads((again / "manifest.json").read_text())["files"]


def test_picture(tmp_path):
    assert main(["--picture", str(tmp_path / "a.png"), "--scenario", "quiet", "--duration", "3"]) == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        (["--dataset", "{}/new", "--windows", "0"], "--windows is 0; allowed: 1.."),
        (["--dataset", "{}", "--windows", "1"], "is not empty; choose another folder"),
        (["--dataset", "{}/file", "--windows", "1"], "file is a file; choose a folder"),
        (["--dataset", "/proc/nope/x", "--windows", "1"], "/proc/nope"),
        (["--dataset", "{}/new", "--windows", "1", "--window", "0.05"], "multiple of 0.1 s"),
        (["--dataset", "{}/new", "--windows", "1", "--max-mb", "0"], "--max-mb is 0"),
        (
            ["--dataset", "{}/new", "--windows", "1", "--scenario", "nope"],
            "no scenario 'nope'; known: all-attacks,",
        ),
        (["--dataset", "{}/new", "--windows", "1", "--seed", "-1"], "seed -1 cannot be run"),
        (["--picture", "{}/a.pdf", "--scenario", "quiet", "--duration", "1"], "ends in .png or .svg"),
        (["--picture", "{}/no/a.png", "--scenario", "quiet", "--duration", "1"], "folder does not exist"),
        (["--list", "--seed", str(2**31)], "cannot be run"),
    ],
)
def test_mistakes(tmp_path, capsys, args, expected):
    (tmp_path / "file").touch()
    assert main([each.replace("{}", str(tmp_path)) for each in args]) == 2
    err = capsys.readouterr().err
    assert expected in err
    assert "Traceback" not in err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "args",
    [
        ["--windows", "3"],
        ["--list", "--dataset", "x"],
        ["--replay", "x.csv", "--scenario", "demo"],
        ["--dataset", "x", "--windows", "3", "--duration", "3"],
        ["--duration", "-1"],
        ["--duration", "soon"],
        ["--windos", "3"],
    ],
)
def test_options_that_do_not_go_together(args, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(args)
    assert exit_.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_runs_by_itself_for_a_time(tmp_path):
    """No controller on a pipe: it starts at once, and ends by itself."""
    labels = tmp_path / "labels.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "cellwatch.plc_sim", "--scenario", "bad-day", "--duration", "2",
            "--labels", str(labels),
        ],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    kinds = [each["event"] for each in events]
    assert kinds[:2] == ["ready", "started"]
    assert kinds[-1] == "end"
    assert set(events[0]["endpoints"]) == {"PLC1", "PLC2", "PLC3", "PLC4"}
    named = [each["name"] for each in events if each["event"] == "incident"]
    assert named == [each["name"] for each in json.loads(labels.read_text())["incidents"]]


def test_on_a_terminal_it_speaks_to_people():
    main_end, child_end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "cellwatch.plc_sim", "--scenario", "demo", "--seed", "2", "--duration", "3"],
        stdin=subprocess.DEVNULL, stdout=child_end, stderr=child_end,
        env={"TERM": "dumb", "PATH": "/usr/bin"},
    )  # fmt: skip
    os.close(child_end)
    text = b""
    while True:
        try:
            got = os.read(main_end, 4096)
        except OSError:  # the other end is closed
            break
        if not got:
            break
        text += got
    os.close(main_end)
    assert process.wait(30) == 0, text
    words = text.decode()
    assert "PLC1" in words
    assert "opc.tcp://127.0.0.1:" in words
    assert "ended: stopped" in words
    assert "{" not in words


def test_scenario_of_an_own_file(tmp_path: Path, capsys):
    mine = tmp_path / "mine.yaml"
    mine.write_text("name: mine\nsite: factory\nincidents:\n  - {attack: dos/sin-flood, duration_s: 3}\n")
    assert main(["--dataset", str(tmp_path / "x"), "--windows", "1", "--scenario", str(mine)]) == 2
    err = capsys.readouterr().err
    assert "mine.yaml, line 4: unknown attack 'dos/sin-flood'; allowed:" in err
    assert "dos/syn-flood" in err
