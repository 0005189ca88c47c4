"""A user's mistakes: one clear line, exit code 2, no traceback."""

from __future__ import annotations

import socket

import pytest

pytestmark = pytest.mark.system


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def real_cell(tmp_path, **plc):
    tags = tmp_path / "tags.yaml"
    tags.write_text('tags:\n  - path: "Objects/*:PLC1/*:*"\n')
    body = {"name": "PLC1", "tag_map": "tags.yaml"} | plc
    text = "cell: c\nplant: none\nplcs:\n  - " + "\n    ".join(f"{k}: {v}" for k, v in body.items()) + "\n"
    path = tmp_path / "cell.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--config", "nowhere.yaml"], ["nowhere.yaml", "no such"]),
        (["--plant", "replay:nowhere.csv"], ["nowhere.csv", "no such file"]),
        (["--plant", "rplay:x"], ["rplay:x", "sim", "replay:FILE"]),
        (["--plant", "replay:TEXT"], ["notes.txt"]),
        (["--capture", "nowhere.pcap"], ["nowhere.pcap"]),
        (["--capture", "TEXT"], ["notes.txt", "not a capture"]),
        (["--seed", "2147483648"], ["--seed", "training"]),
        (["--seed", "-1"], ["--seed"]),
        (["--influx", "ftp://nowhere"], ["ftp://nowhere"]),
        (["--plant", "sim:nothing"], ["nothing"]),
    ],
)
def test_bad_options(cellwatch, tmp_path, args, words):
    text = tmp_path / "notes.txt"
    text.write_text("dear diary, today\nnothing happened at all\n")
    args = [a.replace("TEXT", str(text)) for a in args]
    result = cellwatch.run("run", "--duration", "5", "--no-dashboard", *args, timeout=200)
    assert result.code == 2, result.err
    assert "Traceback" not in result.err + result.out
    last = result.err.strip().splitlines()[-1]
    for word in words:
        assert word in last, last


def test_unreachable_endpoint(cellwatch, tmp_path):
    endpoint = f"opc.tcp://127.0.0.1:{free_port()}/x"
    result = cellwatch.run(
        "run", "--config", real_cell(tmp_path, endpoint=endpoint), "--duration", "5", timeout=60
    )
    assert result.code == 2, result.err
    assert endpoint in result.err
    assert "Traceback" not in result.err


def test_secured_without_certificate_fails_fast(cellwatch, tmp_path):
    path = real_cell(tmp_path, endpoint="opc.tcp://127.0.0.1:4840", security_policy="Basic256Sha256")
    result = cellwatch.run("run", "--config", path, "--duration", "5", timeout=60)
    assert result.code == 2, result.err
    assert "certificate" in result.err


def test_wrong_key_in_tag_map(cellwatch, tmp_path):
    path = real_cell(tmp_path, endpoint="opc.tcp://127.0.0.1:4840")
    (tmp_path / "tags.yaml").write_text("tags:\n  - pth: Objects/x\n")
    result = cellwatch.run("run", "--config", path, "--duration", "5", timeout=60)
    assert result.code == 2, result.err
    assert "tags.yaml" in result.err
    assert "pth" in result.err


def test_browse_of_nobody(cellwatch):
    endpoint = f"opc.tcp://127.0.0.1:{free_port()}"
    result = cellwatch.run("browse", endpoint, timeout=60)
    assert result.code == 2
    assert endpoint in result.err
    assert "Traceback" not in result.err
