"""The doctor tells the truth about this machine, and stays quick."""

from __future__ import annotations

import os
import sys
import time

import pytest

from cellwatch.nodes import doctor


def test_finds_the_environment_the_tests_run_in():
    start = time.perf_counter()
    found = {check.name: check for check in doctor.checks()}
    took = time.perf_counter() - start
    assert found["python"].ok
    assert sys.prefix in found["python"].found
    assert found["packages"].ok, found["packages"].found
    assert "cpu" in found["onnxruntime"].found
    assert all(check.ok or check.cure for check in found.values())
    assert took < 5  # 0.7 s alone on two cores; the rest is for a busy machine


def test_does_not_load_what_is_slow_to_load():
    code = "import sys; from cellwatch.nodes import doctor; doctor.checks(); print(*sys.modules)"
    process = doctor.probe(code)
    loaded = set(process.communicate(timeout=30)[0].split())
    assert process.returncode == 0
    assert "cellwatch.nodes.doctor" in loaded
    assert not loaded & {"torch", "rclpy", "onnxruntime", "sklearn", "xgboost", "numpy"}


def test_a_broken_part_is_a_finding_with_its_reason():
    check = doctor.answer("part", doctor.probe("import no_such_module_here"), "mend it")
    assert not check.ok
    assert "no_such_module_here" in check.found
    assert check.cure == "mend it"


def test_a_crash_is_a_finding():
    check = doctor.answer("part", doctor.probe("import os; os.abort()"), "mend it")
    assert not check.ok
    assert check.found


def test_a_hanging_part_is_a_finding(monkeypatch):
    monkeypatch.setattr(doctor, "PROBE_S", 0.2)
    check = doctor.answer("part", doctor.probe("import time; time.sleep(60)"), "mend it")
    assert (check.ok, check.found) == (False, "no answer in 0 s")


def test_programs_are_looked_up_on_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = doctor.program("cellwatch-no-such-tool", use="a test", cure="install it")
    assert (missing.ok, missing.found) == (False, "not found (a test)")
    tool = tmp_path / "cellwatch-no-such-tool"
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert doctor.program("cellwatch-no-such-tool", use="a test", cure="install it").found == str(tool)


def test_disk_is_measured_where_the_records_will_lie(tmp_path):
    check = doctor.space("disk", tmp_path / "not" / "made" / "yet", 0.0, "make room")
    assert check.ok
    assert str(tmp_path) in check.found
    assert not doctor.space("disk", tmp_path, 1e12, "make room").ok


@pytest.mark.skipif(not doctor.live_capture().ok, reason="packet sockets are not allowed here anyway")
def test_live_capture_says_when_it_is_not_allowed():
    code = "from cellwatch.nodes.doctor import live_capture as f; import os; os.setuid(65534); print(f().ok)"
    if os.geteuid() != 0:
        pytest.skip("only root can give up the privilege")
    assert doctor.probe(code).communicate(timeout=30)[0].split() == ["False"]
