"""`cellwatch commission --data`, `profile show|diff|edit` and `rules evaluate`, as a user calls them."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from cellwatch.models.features.columns import DATASENSE_COLUMNS
from cellwatch.models.features.datasense import schema
from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.tags import TAG_COLUMNS
from cellwatch.models.rules.profile import VERSION
from cellwatch.models.rules.profile_builder import ProfileBuilder
from cellwatch.nodes.cli import app
from cellwatch.nodes.rules_evaluate import evaluate
from cellwatch.nodes.window_table import WindowTableError, read

N = 80
ATTACKERS = frozenset(f"192.168.1.{100 + i}" for i in range(6))


@pytest.fixture
def run(monkeypatch):
    def call(*args, code=0):
        result = CliRunner().invoke(app, [str(a) for a in args])
        assert result.exit_code == code, result.output + result.stderr
        return result

    return call


@pytest.fixture
def table(tmp_path):
    """Write a table of two devices; what is given overrides columns."""

    def write(name="t.parquet", *, window_s=10, **columns):
        rng = np.random.default_rng(4)
        start = np.repeat(np.arange(N, dtype=np.int64), 2) * window_s * 10**9
        stamp = pa.timestamp("ns", tz="UTC")
        packets = rng.integers(90, 110, 2 * N)
        held = {
            "device_name": ["plug", "camera"] * N,
            "timestamp_start": pa.array(start, stamp),
            "timestamp_end": pa.array(start + window_s * 10**9, stamp),
            "network_packets_all_count": packets.astype(np.float32),
            "network_ttl_avg": np.full(2 * N, 64, np.float32),
            "network_ports_all_count": rng.integers(2, 5, 2 * N).astype(np.float32),
            **columns,
        }
        pq.write_table(pa.table({k: v for k, v in held.items() if v is not None}), tmp_path / name)
        return tmp_path / name

    return write


def flooded(columns=("network_packets_all_count", "network_ports_all_count", "network_ttl_avg")):
    """The camera is attacked in the last quarter."""
    attacked = np.zeros(2 * N, bool)
    attacked[3 * N // 2 + 1 :: 2] = True
    rng = np.random.default_rng(4)
    calm = rng.integers(90, 110, 2 * N)
    values = {columns[0]: calm, columns[1]: rng.integers(2, 5, 2 * N), columns[2]: np.full(2 * N, 64)}
    wild = {name: np.where(attacked, 30_000, x).astype(np.float32) for name, x in values.items()}
    return wild | {"label1": np.where(attacked, "attack", "benign").tolist()}


def test_a_profile_is_learnt_from_a_table_and_shown(run, table, tmp_path):
    out = tmp_path / "p.yaml"
    said = json.loads(run("commission", "--data", table(), "-o", out, "--json").stdout)
    assert said["windows"] == N
    assert said["devices"] == {"camera": {"0": N}, "plug": {"0": N}}
    shown = json.loads(run("profile", "show", out, "--json").stdout)
    assert shown["version"] == VERSION
    low, high, scale = shown["devices"]["plug"]["modes"]["0"]["features"]["network_packets_all_count"]
    assert low < 90 < 109 < high < 150
    assert scale == 109 / 2  # half of the largest; the range of 19 is less
    one = json.loads(run("profile", "show", out, "--device", "plug", "--json").stdout)
    assert one == shown["devices"]["plug"]
    assert "network_ttl_avg" in run("profile", "show", out, "--device", "plug").stdout
    assert "camera" in run("profile", "show", out).stdout


def test_what_is_benign_passes_and_labels_tell_how_right_it_is(run, table, tmp_path):
    out = tmp_path / "p.json"
    run("commission", "--data", table(), "-o", out)
    calm = json.loads(run("rules", "evaluate", "--profiles", out, "--data", table(), "--json").stdout)
    assert calm == {
        "windows": 2 * N, "allow": 2 * N, "suspicious": 0, "block": 0,
        "accuracy": None, "f1": None, "mcc": None,
    }  # fmt: skip
    loud = table("loud.parquet", **flooded())
    found = json.loads(run("rules", "evaluate", "--profiles", out, "--data", loud, "--json").stdout)
    assert (found["accuracy"], found["f1"], found["mcc"]) == (1, 1, 1)
    assert found["block"] == N // 4
    assert "BLOCK" in run("rules", "evaluate", "--profiles", out, "--data", loud).stdout


def test_attacks_in_the_table_are_not_learned(run, table, tmp_path):
    loud = table("loud.parquet", **flooded())
    run("commission", "--data", loud, "-o", tmp_path / "p.json")
    found = json.loads(
        run("rules", "evaluate", "--profiles", tmp_path / "p.json", "--data", loud, "--json").stdout
    )
    assert found["f1"] == 1


def test_parts_of_the_time_are_learned_and_judged(run, table, tmp_path):
    out, loud = tmp_path / "p.json", table("loud.parquet", **flooded())
    said = json.loads(run("commission", "--data", loud, "--to", 0.5, "-o", out, "--json").stdout)
    assert said["windows"] == N // 2
    last = ("rules", "evaluate", "--profiles", out, "--data", loud, "--from", 0.75, "--json")
    assert json.loads(run(*last).stdout)["windows"] == N // 2
    assert (
        "from < to" in run("commission", "--data", loud, "--from", 0.5, "--to", 0.5, "-o", out, code=2).stderr
    )


def test_a_device_that_was_never_seen_is_not_allowed_and_a_silent_one_is(run, table, tmp_path):
    out = tmp_path / "p.json"
    run("commission", "--data", table(), "-o", out)
    packets = np.full(2 * N, 100, np.float32)
    packets[: N // 2] = 0
    silent = {"network_packets_all_count": packets}
    silent |= {name: np.where(packets > 0, 3, np.nan) for name in ("network_ttl_avg",)}
    silent |= {"network_ports_all_count": np.where(packets > 0, 3, 0)}
    other = table("other.parquet", device_name=["new", "newer"] * N, **silent)
    found = json.loads(run("rules", "evaluate", "--profiles", out, "--data", other, "--json").stdout)
    assert found["allow"] == N // 2
    assert found["suspicious"] == 2 * N - N // 2


def test_rows_that_name_an_address_are_counted_apart(run, table, tmp_path):
    lists = [["10.0.0.1", "10.0.0.66"] if i % 4 == 0 else ["10.0.0.1"] for i in range(2 * N)]
    held = table("lists.parquet", network_ips_all=lists)
    run("commission", "--data", held, "-o", tmp_path / "p.json")
    judged = ("rules", "evaluate", "--profiles", tmp_path / "p.json", "--apart", "10.0.0.66", "--json")
    found = json.loads(run(*judged, "--data", held).stdout)
    assert (found["windows"], found["apart"]["windows"]) == (2 * N - N // 2, N // 2)
    assert "no lists of addresses" in run(*judged, "--data", table(), code=2).stderr


def test_two_profiles_are_compared(run, table, tmp_path):
    a, b = tmp_path / "a.json", tmp_path / "b.yaml"
    run("commission", "--data", table(), "-o", a)
    run("commission", "--data", table(), "-o", b)
    assert "no difference" in run("profile", "diff", a, b).stdout
    run("commission", "--data", table(), "--margin", 2, "-o", b)
    found = json.loads(run("profile", "diff", a, b, "--json", code=1).stdout)
    assert {c["place"] for c in found} == {
        f"{d}/mode 0/network_{c}"
        for d in ("plug", "camera")
        for c in ("packets_all_count", "ttl_avg", "ports_all_count")
    }


def editor(tmp_path, body):
    """An editor that does something to the file it is given."""
    script = tmp_path / "editor.py"
    script.write_text("import re, sys\npath = sys.argv[1]\ntext = open(path).read()\n" + body)
    return f"{sys.executable} {script}"


def test_an_edit_is_checked_signed_and_shown(run, table, tmp_path, monkeypatch):
    out = tmp_path / "p.yaml"
    run("commission", "--data", table(), "-o", out)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", editor(tmp_path, "open(path, 'w').write(text)\n"))
    before = out.read_text()
    assert "nothing changed" in run("profile", "edit", out).stdout
    assert out.read_text() == before
    widen = "text = re.sub(r'(network_ttl_avg): .*', r'\\1: [1, 255, 1]', text, count=1)\n"
    monkeypatch.setenv("EDITOR", editor(tmp_path, widen + "open(path, 'w').write(text)\n"))
    assert "camera/mode 0/network_ttl_avg" in run("profile", "edit", out).stdout
    shown = json.loads(run("profile", "show", out, "--device", "camera", "--json").stdout)
    assert shown["modes"]["0"]["features"]["network_ttl_avg"] == [1, 255, 1]


def test_a_bad_edit_changes_nothing_and_keeps_the_text(run, table, tmp_path, monkeypatch):
    out = tmp_path / "p.yaml"
    run("commission", "--data", table(), "-o", out)
    before = out.read_text()
    monkeypatch.delenv("VISUAL", raising=False)
    twist = "text = re.sub(r'(network_ttl_avg): .*', r'\\1: [9, 1, 1]', text, count=1)\n"
    monkeypatch.setenv("EDITOR", editor(tmp_path, twist + "open(path, 'w').write(text)\n"))
    said = run("profile", "edit", out, code=2).stderr
    assert "network_ttl_avg: low 9 is above high 1" in said
    assert out.read_text() == before
    assert "[9, 1, 1]" in (tmp_path / "p.rejected.yaml").read_text()
    monkeypatch.setenv("EDITOR", editor(tmp_path, "sys.exit(3)\n"))
    assert "exit code 3" in run("profile", "edit", out, code=2).stderr
    monkeypatch.delenv("EDITOR")
    assert "EDITOR" in run("profile", "edit", out, code=2).stderr


def test_a_profile_changed_by_hand_is_refused(run, table, tmp_path):
    out = tmp_path / "p.yaml"
    run("commission", "--data", table(), "-o", out)
    out.write_text(out.read_text().replace("windows: 80", "windows: 81", 1))
    assert "checksum" in run("profile", "show", out, code=2).stderr


def test_editing_signs_what_was_changed_by_hand(run, table, tmp_path, monkeypatch):
    out = tmp_path / "p.yaml"
    run("commission", "--data", table(), "-o", out)
    out.write_text(out.read_text().replace("windows: 80", "windows: 81", 1))
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", "true")
    assert "signed anew" in run("profile", "edit", out).stdout
    assert json.loads(run("profile", "show", out, "--json").stdout)["windows"] == 81
    assert "nothing changed" in run("profile", "edit", out).stdout


def test_an_edit_of_the_columns_is_kept_and_shown(run, table, tmp_path, monkeypatch):
    out = tmp_path / "p.json"
    run("commission", "--data", table(), "-o", out)
    monkeypatch.delenv("VISUAL", raising=False)
    add = "import json\nbody = json.loads(text)\nbody['tag_columns'].append('newer')\n"
    monkeypatch.setenv("EDITOR", editor(tmp_path, add + "open(path, 'w').write(json.dumps(body))\n"))
    assert "newer" in run("profile", "edit", out).stdout
    assert json.loads(run("profile", "show", out, "--json").stdout)["tag_columns"][-1] == "newer"


@pytest.mark.parametrize(
    ("command", "why"),
    [("vi '", "No closing quotation"), ("rm", "removed the text"), ("/no/editor", "started")],
)
def test_an_editor_that_does_not_work_is_one_line(run, table, tmp_path, monkeypatch, command, why):
    out = tmp_path / "p.json"
    run("commission", "--data", table(), "-o", out)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", command)
    said = run("profile", "edit", out, code=2).stderr
    assert why in said
    assert len(said.strip().splitlines()) == 1


def test_a_file_that_is_no_text_is_named(run, table, tmp_path):
    held = table()
    said = run("rules", "evaluate", "--profiles", held, "--data", held, code=2).stderr
    assert "t.parquet: not a text file" in said.replace("\n", "")
    for words in (("rules", "test"), ("profile", "show"), ("profile", "edit")):
        result = CliRunner().invoke(app, [*words, str(held)], env={"EDITOR": "true"})
        assert result.exit_code == 2
        assert "t.parquet: not a text file" in result.stderr.replace("\n", "")


def test_the_profile_of_a_cell_is_found_by_the_name_of_the_cell(run, table, tmp_path, monkeypatch):
    monkeypatch.setenv("CELLWATCH_HOME", str(tmp_path))
    run("commission", "--data", table(), "-o", tmp_path / "cells" / "press" / "profile.json")
    assert json.loads(run("profile", "show", "press", "--json").stdout)["windows"] == N


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["-o", "p.txt"], "written as .yaml or .json"),
        (["-o", "p.yaml"], "--minutes N"),
        (["-o", "p.yaml", "--minutes", "1", "--data", "t.csv"], "--minutes N"),
        (["-o", "p.yaml", "--data", "absent.parquet"], "cannot be read"),
        (["-o", "p.yaml", "--minutes", "0.1"], "minutes at least"),
        (["-o", "p.yaml", "--minutes", "2", "--plant", "sim:bad-day"], "has incidents"),
        (["-o", "p.yaml", "--minutes", "2", "--plant", "sim:nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_one_clear_line(run, args, why):
    said = run("commission", *args, code=2).stderr
    assert why in said
    assert len(said.strip().splitlines()) == 1


def test_tables_that_cannot_be_judged_say_why(run, table, tmp_path):
    out = tmp_path / "p.json"
    run("commission", "--data", table(), "-o", out)
    judge = ("rules", "evaluate", "--profiles", out, "--data")
    assert "60 s" in run(*judge, table("long.parquet", window_s=60), code=2).stderr
    assert "'device_name'" in run(*judge, table("who.parquet", device_name=None), code=2).stderr
    blank = table("blank.parquet", **dict.fromkeys([f"network_{c}" for c in (
        "packets_all_count", "ttl_avg", "ports_all_count")]))  # fmt: skip
    assert "no column is a feature" in run(*judge, blank, code=2).stderr


def test_devices_that_have_numbers_for_names_are_known_again(run, table, tmp_path):
    held = table("numbers.parquet", device_name=[1, 2] * N)
    assert read(held).devices[:2].tolist() == ["1", "2"]
    run("commission", "--data", held, "-o", tmp_path / "p.json")
    judge = ("rules", "evaluate", "--profiles", tmp_path / "p.json", "--data", held, "--json")
    assert json.loads(run(*judge).stdout)["allow"] == 2 * N


STAMPS = np.repeat(np.arange(N, dtype=np.int64), 2) * 10 * 10**9


@pytest.mark.parametrize(
    ("column", "values", "why"),
    [
        ("device_name", [None, "camera"] * N, "name no device"),
        ("timestamp_start", STAMPS / 1e9, "double does not do as timestamp"),
        ("timestamp_start", ["soon"] * (2 * N), "string does not do as timestamp"),
        (
            "timestamp_end",
            pa.array([None, *STAMPS[1:].tolist()], pa.timestamp("ns", tz="UTC")),
            "1 rows have no time",
        ),
        ("network_ttl_avg", ["many"] * (2 * N), "string does not do as double"),
    ],
)
def test_a_column_that_cannot_be_read_is_named(run, table, tmp_path, column, values, why):
    said = run("commission", "--data", table(**{column: values}), "-o", tmp_path / "p.json", code=2).stderr
    assert f"t.parquet: column '{column}': " in said.replace("\n", "")
    assert why in said


def datasense_table(names):
    """Two windows of one device in DataSense's form, columns in the order of `names`."""
    stamp = "2025-09-09T14:0{}:00.000000Z"
    held = {f.name: pa.array([0] * 2, f.type) for f in schema() if not pa.types.is_nested(f.type)
            and not pa.types.is_string(f.type)}  # fmt: skip
    held |= {f.name: pa.array([[], []], f.type) for f in schema() if pa.types.is_nested(f.type)}
    held |= {f.name: pa.array(["plug"] * 2) for f in schema() if pa.types.is_string(f.type)}
    held |= {f"timestamp_{e}": pa.array([stamp.format(i + k) for i in range(2)])
             for k, e in enumerate(("start", "end"))}  # fmt: skip
    held |= {"label1": pa.array(["benign"] * 2), "note": pa.array(["mine"] * 2)}
    return pa.table({name: held[name] for name in names})


def test_a_table_of_datasense_may_have_more_columns_in_another_order(tmp_path):
    pq.write_table(datasense_table(["note", *reversed(DATASENSE_COLUMNS)]), tmp_path / "d.parquet")
    assert read(tmp_path / "d.parquet").devices.tolist() == ["plug", "plug"]
    bad = datasense_table(DATASENSE_COLUMNS)
    place = bad.column_names.index("network_ttl_avg")
    pq.write_table(bad.set_column(place, "network_ttl_avg", pa.array(["x", "y"])), tmp_path / "bad.parquet")
    with pytest.raises(WindowTableError, match=r"bad\.parquet: column 'network_ttl_avg'"):
        read(tmp_path / "bad.parquet")


def test_the_real_benign_hour_passes(data_dir):
    """Learned from the first half of the time, judged on the second; settings as shipped."""
    data = data_dir / "datasense" / "benign_samples_10sec.csv.tar.xz"
    if not data.is_file():
        pytest.skip(f"{data} is absent")
    table = read(data)
    builder = ProfileBuilder(default_schema().names, TAG_COLUMNS)
    for window in table.part(0, 0.5).windows():
        builder.add(window)
    found = evaluate(builder.build(), table.part(0.5, 1), apart=ATTACKERS)
    assert found["windows"] + found["apart"]["windows"] == 13_680 // 2
    assert found["suspicious"] + found["block"] <= 0.01 * found["windows"]
    assert found["block"] <= 0.001 * found["windows"]


def test_times_are_those_of_the_table(table):
    windows = list(read(table()).windows())
    assert len(windows) == N
    assert windows[3].devices == ("plug", "camera")
    assert windows[3].start_ns == int(datetime(1970, 1, 1, 0, 0, 30, tzinfo=UTC).timestamp() * 1e9)
    assert np.isnan(windows[3].values).sum() == windows[3].values.size - 2 * 3
