"""A cell left alone on a bad day and on a quiet one: the long version of the tests of drift."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "bad_day.py"


def day(part):
    command = [sys.executable, str(BENCHMARK), "--part", part, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)
    return found


@pytest.mark.soak
def test_a_season_is_noticed_learnt_and_served():
    found = day("A")
    said = " ".join(news for _, news in found["stages"])
    for word in ("drift A", "SHADOW", "CANARY", "ACTIVE"):
        assert word in said, found["stages"]
    assert found["lost"] == 0
    assert found["phases"]["after"]["false alarms"] <= found["phases"]["during"]["false alarms"]


@pytest.mark.soak
def test_on_a_quiet_day_nothing_happens():
    found = day("quiet")
    assert found["alarms"] == 0
    assert {news.split("; ")[1] for _, news in found["stages"]} == {"no candidate"}
