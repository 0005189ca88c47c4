"""`cellwatch drift report`: events, spans and figures of a record made by hand; the picture; mistakes."""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from cellwatch.models.types import (
    CandidateState,
    DriftEvent,
    DriftFigure,
    DriftState,
    Level,
    Stage,
    StageFigures,
)
from cellwatch.nodes.cli import app
from cellwatch.nodes.drift_record import read
from cellwatch.nodes.drivers.line_protocol import candidate_lines, drift_lines, model_lines
from cellwatch.nodes.drivers.store import Recorder

S = 1_000_000_000
T0 = 1_764_000_000 * S
CALM, WARNING, DRIFT = DriftState
LOSS = {0: 0.10, 60: 0.12, 120: 0.11, 180: 0.50, 240: 0.52, 600: 0.09, 660: 0.11}


def drift_points():
    """Loss every minute; over the limit from minute 3 on; another version from minute 9 on."""
    first = DriftEvent(T0, CALM, Level.L1, "v1", windows=1)
    for s, loss in LOSS.items():
        state = CALM if s < 180 or s >= 600 else WARNING if s < 240 else DRIFT
        figures = (
            DriftFigure("loss", loss, math.inf if s in (0, 600) else 0.2),
            DriftFigure("errors", loss / 10, 0.02),
            DriftFigure("features", 0.3, 0.4, "PLC1 size"),
        )
        event = replace(
            first, at_ns=T0 + s * S, state=state, version="v1" if s < 540 else "v2", figures=figures,
            windows=s if s < 540 else s - 540, labelled=500, held_back=3 if 120 <= s < 540 else 0,
            scenario="A" if state == DRIFT else "", since_ns=T0 + 170 * S if state == DRIFT else 0,
            reasons=("loss", "ADWIN") if state == DRIFT else (),
        )  # fmt: skip
        yield drift_lines(event)
        if s == 240:
            yield drift_lines(replace(event, at_ns=T0 + 250 * S))  # said again: no news


def candidate_points():
    state = CandidateState(
        T0 + 300 * S, Stage.SHADOW, scenario="A", version="v2", parent="v1", reason="made after drift"
    )
    yield candidate_lines(state)
    figures = StageFigures(60, 400, 8, 40, 8, 40, 0.01, 0.01)
    yield candidate_lines(replace(state, at_ns=T0 + 330 * S, figures=figures))
    canary = replace(
        state, stage=Stage.CANARY, devices=("PLC1", "HMI1"), figures=figures, reason="gate passed"
    )
    yield candidate_lines(replace(canary, at_ns=T0 + 360 * S))
    yield candidate_lines(replace(canary, at_ns=T0 + 420 * S, held=True))
    yield candidate_lines(replace(canary, at_ns=T0 + 480 * S))
    yield candidate_lines(replace(canary, at_ns=T0 + 540 * S, stage=Stage.ACTIVE))
    yield candidate_lines(
        replace(canary, at_ns=T0 + 660 * S, stage=Stage.ACCEPTED, reason="watched long enough")
    )


def model_points():
    for node in ("ensemble_node", "ensemble_node_1"):
        yield model_lines(node, "v1", 22, 0, 0, 1, "", T0)
        yield model_lines(node, "v2", 22, 0, 0, 1, "", T0 + 541 * S)


def recorded(folder, *lines):
    recorder = Recorder(folder)
    for each in lines:
        recorder.append(each)
    recorder.close()
    return folder


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cell") / "record"
    return recorded(folder, *candidate_points(), *drift_points(), *model_points())


def told(*args, **env):
    return CliRunner().invoke(app, ["drift", "report", *map(str, args)], env={"COLUMNS": "200", **env})


def test_events_in_the_order_of_time_each_said_once(record):
    events = [((e.at_ns - T0) // S, e.kind, e.what) for e in read(record).events]
    assert events == [
        (0, "models", "in service"),
        (120, "labels", "3 held back"),
        (180, "drift", "WARNING"),
        (240, "drift", "DRIFT"),
        (300, "candidate", "SHADOW"),
        (360, "candidate", "CANARY"),
        (420, "candidate", "held"),
        (480, "candidate", "released"),
        (540, "candidate", "ACTIVE"),
        (541, "models", "in service"),
        (600, "drift", "CALM"),
        (660, "candidate", "ACCEPTED"),
    ]


def test_why_in_words(record):
    why = {e.what: e.detail for e in read(record).events if e.detail}
    assert why["WARNING"] == "over the limit: loss, errors"
    assert why["DRIFT"] == "scenario A, false alarms; raised by loss, ADWIN"
    assert why["CANARY"] == "gate passed; decides for PLC1 HMI1; 8 wrong of 400 labelled, its parent 40"


def spans(found):
    return [((s.since_ns - T0) // S, (s.until_ns - T0) // S, s.what, s.detail) for s in found]


def test_spans_and_figures(record):
    found = read(record)
    assert spans(found.versions) == [(0, 541, "v1", ""), (541, 660, "v2", "")]
    assert spans(found.states) == [(180, 240, "WARNING", ""), (240, 600, "DRIFT", "A")]
    assert spans(found.stages) == [
        (300, 360, "SHADOW", "v2"),
        (360, 540, "CANARY", "v2"),
        (540, 660, "ACTIVE", "v2"),
    ]
    assert found.onsets == (T0 + 170 * S,)
    assert found.alarms == 1
    loss = [c for c in found.curves if c.monitor == "loss"]
    assert [c.value for c in loss] == [[0.10, 0.12, 0.11, 0.50, 0.52], [0.09, 0.11]]  # anew with the version
    assert math.isnan(loss[0].limit[0])
    assert loss[0].limit[1:] == [0.2] * 4
    assert found.figure("loss", found.versions[0]) == pytest.approx(0.27)
    assert found.figure("loss", found.versions[1]) == pytest.approx(0.10)  # the last point counts too
    assert math.isnan(found.figure("scores", found.versions[0]))


def test_a_drift_node_that_was_killed_begins_a_new_curve(tmp_path):
    event = DriftEvent(T0, CALM, Level.L1, "v1", windows=500, figures=(DriftFigure("loss", 0.1, 0.2),))
    again = replace(event, at_ns=T0 + S, windows=3)
    found = read(recorded(tmp_path / "r", drift_lines(event), drift_lines(again)))
    assert [c.value for c in found.curves] == [[0.1], [0.1]]


def test_without_model_states_the_drift_events_name_the_version(tmp_path):
    found = read(recorded(tmp_path / "r", *drift_points()))
    assert [v.what for v in found.versions] == ["v1", "v2"]
    assert found.stages == ()


def test_only_the_last_hours(record):
    done = told("--run", record, "--hours", 0.05, "--json")  # 180 s before the last point
    said = json.loads(done.stdout)
    assert said["first_ns"] == T0 + 480 * S
    assert [v["version"] for v in said["versions"]] == ["v1", "v2"]  # v1 from before
    assert said["versions"][0]["since_ns"] == T0 + 480 * S
    assert [e["version"] for e in said["events"] if e["kind"] == "models"] == ["v2"]


def test_json_and_the_table(record):
    said = json.loads(told("--run", record.parent, "--json").stdout)  # the cell's folder does, too
    assert (said["alarms"], len(said["events"])) == (1, 12)
    assert said["versions"][0]["loss"] == pytest.approx(0.27)
    assert said["figures"][0]["limit"][0] is None
    table = told("--run", record).stdout
    assert "2025-11-24 16:00:00Z to 2025-11-24 16:11:00Z: 1 alarm\n" in table
    assert "scenario A, false alarms" in table
    assert "0.2700  0.0270" in table


def test_the_picture_has_what_happened(record, tmp_path):
    path = tmp_path / "new" / "drift.svg"
    done = told("--run", record, "--picture", path)
    assert done.exit_code == 0, done.output
    text = path.read_text()
    ET.fromstring(text)
    for words in ("DRIFT A: false alarms", "canary", "shadow", "v1", "v2", "limit", "features"):
        assert f"<!-- {words} -->" in text, words
    first = path.read_bytes()
    assert told("--run", record, "--picture", path).exit_code == 0
    assert path.read_bytes() == first


def test_a_record_without_labels_is_drawn_too(tmp_path):
    event = DriftEvent(T0, CALM, Level.L1, "", figures=(DriftFigure("features", 0.1, math.inf),))
    folder = recorded(tmp_path / "r", drift_lines(event))
    path = tmp_path / "p.png"
    assert told("--run", folder, "--picture", path).exit_code == 0
    assert path.stat().st_size > 1000


def test_nothing_there(tmp_path):
    empty = recorded(tmp_path / "r", b"health,name=a level=0i 1\n")
    assert "nothing of drift" in told("--run", empty).stdout
    assert json.loads(told("--run", empty, "--json").stdout)["events"] == []
    done = told("--run", empty, "--picture", tmp_path / "p.svg")
    assert (done.exit_code, "nothing to draw" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--run", "nowhere"), "no record in nowhere"),
        (("--cell", "mine", "--hours", "inf"), "--hours inf"),
        (("--cell", "other"), "cells with a record here: mine"),
    ],
)
def test_mistakes_are_one_line(args, message, record, tmp_path):
    recorded(tmp_path / "cells" / "mine" / "record", *drift_points())
    done = told(*args, CELLWATCH_HOME=str(tmp_path))
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.output


def test_a_picture_of_no_known_kind(record, tmp_path):
    done = told("--run", record, "--picture", tmp_path / "p.doc")
    assert (done.exit_code, "a picture ends in .svg" in done.stderr) == (2, True)
