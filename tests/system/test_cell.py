"""The cell runs: from PLC tag to verdict to PLC command."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest

from cellwatch.nodes.drivers.audit_log import read
from cellwatch.nodes.drivers.recordings import recordings
from cellwatch.nodes.drivers.store import Store

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def armed(cellwatch):
    """A full armed run, shared by the tests below."""
    result = cellwatch.run(
        "run", "--duration", "60", "--arm", "--no-dashboard", "--seed", "7", "--json", timeout=420
    )
    assert result.code == 0, result.err
    return result


def test_both_incidents_are_detected_and_nothing_else(armed):
    report = armed.report
    assert {i["kind"] for i in report["incidents"]} == {"fault", "attack"}
    for incident in report["incidents"]:
        assert incident["detected_at"] is not None, report["incidents"]
        assert incident["onset"] < 40
        assert incident["latency_s"] < 6
    assert report["false_alarms"] == 0


def test_the_command_is_accepted_and_the_plant_safe(armed):
    report = armed.report
    assert report["commands"]["accepted"] >= 1
    assert report["commands"]["withheld"] == report["commands"]["refused"] == 0
    assert report["plant"]["safe_state_reached_at"] is not None
    assert report["plant"]["writes"] == report["commands"]["accepted"]
    assert (
        sum(report["commands"][k] for k in ("accepted", "refused", "withheld"))
        == report["commands"]["issued"]
    )


def test_nothing_is_lost(armed):
    report = armed.report
    assert report["export"]["lost"] == 0
    assert report["export"]["written"] > report["tags"]["received"]
    assert report["tags"]["dropped"] == report["traffic"]["dropped"] == 0
    assert report["windows"] >= 58
    v = report["verdicts"]
    assert v["allow"] + v["suspicious"] + v["block"] == v["fused"]
    assert v["rules"] == v["ensemble"] == v["fused"]


def test_every_node_is_active_and_none_fell(armed):
    assert len(armed.report["nodes"]) == 10
    assert all(n == {"state": "active", "restarts": 0} for n in armed.report["nodes"].values())


def test_the_record_holds_what_the_report_counts(armed):
    store = Store(armed.home / "cells" / "demo" / "record")
    tags = sum(1 for _ in store.lines("tags"))
    assert tags >= armed.report["tags"]["received"]


def test_the_audit_log_holds_every_command(armed):
    events = read(armed.home / "cells" / "demo" / "audit.jsonl")
    results = [e for e in events if e["event"] == "result"]
    assert len(results) == armed.report["commands"]["issued"]


def test_the_black_box_holds_what_was_around_the_alarms(armed):
    (found,), wrong = recordings(armed.home / "cells" / "demo" / "black_box")
    assert wrong == []
    alarms = {tuple(note["alarm"].split("/")) for note in found.alarms}
    assert {("PLC1", "recon"), ("PLC1", "fault")} <= alarms
    assert found.topics["/demo/commands"][1] == armed.report["commands"]["issued"]
    assert found.topics["/demo/tags"][1] > 9 * armed.report["duration_s"]  # ten batches a second


def test_unarmed_cell_writes_nothing_and_survives_a_killed_node(cellwatch, armed):
    killed, box = [], cellwatch.home / "cells" / "demo" / "black_box"
    before = len(recordings(box)[0])

    def kill(_):
        for name in (
            "rule_node",
            "feature_node",
            "drift_node",
            "retrain_node",
            "opcua_client_node",
            "black_box_node",
            "dashboard_node",
        ):
            time.sleep(6 if killed else 12)
            pid = cellwatch.node_pid(name)
            os.kill(pid, signal.SIGKILL)
            killed.append(name)

    result = cellwatch.run("run", "--duration", "60", "--seed", "7", "--json", meanwhile=kill, timeout=200)
    assert result.code == 0, result.err
    assert "page: http://127.0.0.1:" in result.err
    report = result.report
    assert {n: s["restarts"] for n, s in report["nodes"].items() if s["restarts"]} == dict.fromkeys(killed, 1)
    assert all(n["state"] == "active" for n in report["nodes"].values())
    assert report["plant"]["writes"] == 0
    assert report["plant"]["safe_state_reached_at"] is None
    assert report["commands"]["accepted"] == 0
    assert report["commands"]["withheld"] >= 1
    assert all(i["detected_at"] is not None for i in report["incidents"]), report["incidents"]
    assert report["export"]["lost"] == 0
    found, wrong = recordings(box)
    assert len(found) > before  # the one that the kill cut short is whole again
    assert (wrong, list(box.glob("*.part"))) == ([], [])


def test_ctrl_c_ends_it_cleanly_with_a_report(cellwatch, armed, tmp_path):
    def interrupt(process):
        deadline = time.monotonic() + 90  # by then all nodes are active, on a busy machine too
        while sum(1 for _ in record.lines("fused")) == judged and time.monotonic() < deadline:
            time.sleep(0.2)
        time.sleep(5)
        process.send_signal(signal.SIGINT)

    record = Store(armed.home / "cells" / "demo" / "record")
    judged = sum(1 for _ in record.lines("fused"))
    path = tmp_path / "r.json"
    result = cellwatch.run("run", "--no-dashboard", "--report", str(path), meanwhile=interrupt, timeout=120)
    assert result.code == 0, result.err
    report = json.loads(path.read_text())
    assert 2 < report["duration_s"] < 15
    assert "Traceback" not in result.err
    with pytest.raises(TimeoutError):
        cellwatch.node_pid("feature_node", timeout=0.5)  # no process is left behind


def test_replay_of_real_data_reports_its_anomaly(cellwatch, data_dir):
    file = data_dir / "skab" / "data" / "valve1" / "0.csv"
    result = cellwatch.run("run", "--plant", f"replay:{file}", "--speed", "20", "--no-dashboard", "--json")
    assert result.code == 0, result.err
    report = result.report
    (incident,) = report["incidents"]
    assert incident["kind"] == "fault"
    assert incident["detected_at"] is not None
    assert incident["onset"] == pytest.approx(573 / 20, abs=2)
    assert report["tags"]["received"] > 5000
    assert report["commands"]["issued"] == 0


def test_capture_replaces_the_traffic(cellwatch, armed, data_dir):
    file = data_dir / "lemay_modbus" / "CnC_uploading_exe_modbus_6RTU_with_operate.pcap"
    result = cellwatch.run(
        "run", "--capture", str(file), "--speed", "0", "--duration", "8", "--no-dashboard", "--json"
    )
    assert result.code == 0, result.err
    assert result.report["traffic"]["packets"] > 1000


def test_capture_damaged_half_way_is_read_up_to_the_damage(cellwatch, armed, data_dir, tmp_path):
    whole = (data_dir / "lemay_modbus" / "CnC_uploading_exe_modbus_6RTU_with_operate.pcap").read_bytes()
    file = tmp_path / "half.pcap"
    file.write_bytes(whole[: len(whole) // 2])
    result = cellwatch.run(
        "run", "--capture", str(file), "--speed", "0", "--duration", "6", "--no-dashboard", "--json"
    )
    assert result.code == 0, result.err
    assert result.report["traffic"]["packets"] > 500
    assert "half.pcap" in result.err
