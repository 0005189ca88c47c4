"""The report of an evaluation: one page that needs nothing else, JSON, tables, whatever it is given."""

from __future__ import annotations

import csv
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from cellwatch.models.evaluation.dimensions import DIMENSIONS, METRICS
from cellwatch.models.selection.scores import parse
from cellwatch.nodes import evaluation_pictures as pictures
from cellwatch.nodes.evaluation_report import write_report

NAN = float("nan")
CLASSES = {
    "1": ["benign", "attack"],
    "2": ["benign", *(f"kind {i}" for i in range(9))],
    "3": ["benign", *(f"attack number {i}" for i in range(74))],
}
MODELS = [f"Model{i:02d}" for i in range(22)]
QUALITY = ("accuracy", *(f"{q}_{m}" for m in ("macro", "weighted") for q in ("precision", "recall", "f1")))
VOID = {"meta", "br", "img", "link", "input", "hr"}


def full_size() -> dict:
    """22 models and 4 ensembles at 3 levels on two tests and a benign one, all sections there."""
    rng = np.random.default_rng(0)
    data: dict = {
        "name": "sim:factory",
        "about": "Windows of one second of four PLCs.",
        "split": "by incident",
        "fingerprint": "0a1b2c",
        "counts": {"train": 48_000, "validation": 8_000, "moved": 9_000, "swapped": 9_000, "quiet": 4_000},
        "classes": CLASSES,
        "checks": [
            {"test": test, "name": name, "ok": ok, "found": 0.0, "detail": "of the rows of the test"}
            for test in ("moved", "swapped")
            for name, ok in (("duplicate rows", True), ("session overlap", None), ("time order", False))
        ],
        "failed": [{"level": 3, "name": "KNN", "run": 0, "error": "MemoryError: out of memory"}],
    }
    keys = ("rows", "beside", "metrics", "scores")
    data |= {key: [] for key in keys} | {
        key: {} for key in ("selection", "by_class", "by_size", "confusion", "reliability")
    }
    for level in (1, 2, 3):
        n = len(CLASSES[str(level)])
        named = [*MODELS, *(f"L{level}_Ens{i}" for i in (1, 2, 3)), "all 22"]
        for name in named:
            good = rng.uniform(0.4, 0.99)
            for test in ("moved", "swapped"):
                key, where = f"{test}/L{level}/{name}", {"test": test, "level": level, "name": name}
                figures = {q: float(good * rng.uniform(0.95, 1.0)) for q in (*QUALITY, "mcc")}
                std = {"accuracy_std": 0.01, "f1_macro_std": 0.02, "mcc_std": 0.01}
                data["rows"].append({"data": "sim:factory", **where, "rows": 9_000, **figures, **std})
                data["beside"].append(
                    {
                        **where,
                        "accuracy_interval": [good - 0.01, good],
                        "mcc_interval": [good - 0.02, good],
                        "events": 48,
                        "alarms": 60,
                        "event_precision": good,
                        "event_recall": good,
                        "latency_s": float(rng.uniform(1, 9)),
                        "false_alarms_per_hour": float(rng.uniform(0, 3)),
                        "against": "Model03",
                        "mcnemar_p": float(rng.uniform(0, 0.002)),
                        "delong_p": float(rng.uniform()) if level == 1 else None,
                    }
                )
                m = rng.multinomial(100, rng.dirichlet(np.full(n, 0.05)), n) + np.diag(
                    np.full(n, int(150 * good))
                )
                data["by_class"][key] = dict(
                    zip(CLASSES[str(level)], m.diagonal() / m.sum(axis=1), strict=True)
                )
                data["by_size"][key] = [*np.sort(rng.uniform(0, good, 4)).tolist(), NAN]
                data["confusion"][key] = m.tolist()
                if level == 1:
                    bins = np.arange(0.05, 1, 0.1)
                    data["reliability"][key] = [
                        {"predicted": float(p), "observed": float(p ** rng.uniform(0.7, 1.4)), "rows": int(r)}
                        for p, r in zip(bins, rng.integers(1, 900, 10), strict=True)
                    ]
            quiet = {"data": "sim:factory", "test": "quiet", "level": level, "name": name, "rows": 4_000}
            alarms = float(rng.uniform(0, 0.01))
            data["rows"].append(
                quiet | {"false_alarm_rate": alarms, "false_alarms_per_device_hour": 3600 * alarms}
            )
            values = {m.name: float(rng.uniform(0, 1) * (5_000 if m.cost else 1)) for m in METRICS}
            data["metrics"].append({"level": level, "name": name, **values, "detection_latency_s": None})
            scores = rng.uniform(0.2, 0.98, 4)
            if name == "Model05":
                scores[2] = NAN
            data["scores"].append(
                {"level": level, "model": name, **dict(zip(DIMENSIONS, scores.tolist(), strict=True))}
            )
        front = rng.uniform(0.4, 0.95, (120, 4))
        ensembles = [
            {"models": [*rng.choice(MODELS, rng.integers(1, 6), replace=False)], "objectives": each.tolist()}
            for each in front
        ]
        data["selection"][str(level)] = {
            "front": ensembles,
            "ranked": [{**each, "score": 1 - i / 120} for i, each in enumerate(ensembles)],
            "frequent": [
                {**each, "score": 1 - i / 120, "runs": 100 - i} for i, each in enumerate(ensembles[:3])
            ],
            "hypervolume_ratio": 1.0,
        }
    return {
        "command": "cellwatch evaluate --data sim:factory --runs 5",
        "version": "0.1",
        "seeds": [0, 1],
        "data": [data],
    }


class Page(HTMLParser):
    """A strict reader: every tag is closed in order; keeps ids, links, cells of tables and figures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [v for k, v in attrs if k == "id"]
        self.links += [v for k, v in attrs if k in {"href", "src", "xlink:href", "action"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "new" / "folder"
    found = full_size()
    return found, write_report(found, folder), folder


def only(tmp_path, **data):
    """The page of a data set that has nothing but this."""
    write_report({"data": [{"name": "d", **data}]}, tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    Page(text)
    return text


def test_the_files_lie_where_they_should(written):
    _, files, folder = written
    names = ["report.html", "report.json", *(f"sim-factory-{t}.csv" for t in ("rows", "metrics", "scores"))]
    assert files == [folder / name for name in names]
    assert sorted(folder.iterdir()) == sorted(files)


def test_the_page_needs_nothing_else_and_is_small(written):
    text = (written[2] / "report.html").read_text(encoding="utf-8")
    read = Page(text)
    assert len(text.encode()) <= 5_000_000
    assert all(link.startswith("#") for link in read.links)
    assert not re.search(r"url\(|@import|https?:", text)
    assert "default-src 'none'" in text  # a browser would refuse, too


def test_the_contents_lead_to_every_section(written):
    read = Page((written[2] / "report.html").read_text(encoding="utf-8"))
    assert sorted(link[1:] for link in read.links) == sorted(read.ids)
    assert len(read.ids) == len({*read.ids}) == 1 + 11  # the data set and its sections


def test_the_same_found_gives_the_same_page(written, tmp_path):
    write_report(full_size(), tmp_path)
    assert (tmp_path / "report.html").read_bytes() == (written[2] / "report.html").read_bytes()


def test_json_is_what_was_found_with_null_for_nan(written):
    found, _, folder = written
    said = json.loads((folder / "report.json").read_text(), parse_constant=pytest.fail)
    mine, theirs = found["data"][0], said["data"][0]
    assert theirs["rows"] == mine["rows"]
    assert theirs["by_size"]["moved/L1/Model00"] == [*mine["by_size"]["moved/L1/Model00"][:4], None]
    assert [row["model"] for row in theirs["scores"] if row["speed_latency"] is None] == ["Model05"] * 3


def test_tables_hold_every_row(written):
    found, _, folder = written
    with (folder / "sim-factory-rows.csv").open(newline="") as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == 26 * 3 * 3 + 1
    assert [*rows[0]][:5] == ["data", "test", "level", "name", "rows"]
    assert float(rows[0]["mcc"]) == found["data"][0]["rows"][0]["mcc"]
    assert rows[0]["false_alarm_rate"] == ""
    assert rows[-1]["error"] == "MemoryError: out of memory"
    with (folder / "sim-factory-metrics.csv").open(newline="") as file:
        metrics = [*csv.DictReader(file)]
    assert [*metrics[0]] == ["level", "name", *(metric.name for metric in METRICS)]
    assert len(metrics) == 26 * 3
    assert metrics[0]["detection_latency_s"] == ""


def test_the_scores_are_what_select_reads_and_who_is_missing_is_said(written):
    found, _, folder = written
    read = parse((folder / "sim-factory-scores.csv").read_text(), "scores")
    assert [*read] == [1, 2, 3]
    assert len(read[1].models) == 25
    assert "Model05" not in read[1].models
    assert read[1].values[0].tolist() == [found["data"][0]["scores"][0][name] for name in DIMENSIONS]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "not in the file of scores: Model05 (level 1), Model05 (level 2), Model05 (level 3)." in page


def test_a_score_that_select_would_refuse_is_left_out(tmp_path):
    row = dict.fromkeys(DIMENSIONS, 0.5)
    only(
        tmp_path,
        scores=[{"level": 1, "model": "A", **row}, {"level": 1, "model": "B", **row, "coverage": 1.2}],
    )
    assert parse((tmp_path / "d-scores.csv").read_text(), "scores")[1].models == ("A",)


def test_of_several_runs_it_says_what_is_a_mean(written, tmp_path):
    words = "results, metrics and scores are means, the rest is of seed 0"
    assert words in (written[2] / "report.html").read_text(encoding="utf-8")
    assert words not in write_report({"seeds": [0]}, tmp_path)[0].read_text(encoding="utf-8")


def test_all_pictures_are_there(written):
    text = (written[2] / "report.html").read_text(encoding="utf-8")
    per_level = 6 + 3 + 2 * 26  # radars, fronts, confusion matrices
    assert text.count("<svg") == 3 * per_level + 2 * 26  # and reliability diagrams
    assert text.count("confusion matrix of 75 classes") == 2 * 26


def test_the_summary_says_what_counts(tmp_path):
    row = {"test": "moved", "level": 1, "rows": 10, "accuracy": 0.982}
    text = only(
        tmp_path,
        counts={"train": 1234},
        rows=[
            {**row, "name": "XGB", "mcc": 0.5},
            {**row, "name": "L1_Ens1", "mcc": 0.91},
            {
                "test": "quiet",
                "level": 1,
                "name": "L1_Ens1",
                "rows": 9,
                "false_alarm_rate": 0.1,
                "false_alarms_per_device_hour": 0.25,
            },
        ],
        beside=[
            {
                "test": "moved",
                "level": 1,
                "name": "L1_Ens1",
                "events": 48,
                "event_recall": 0.75,
                "latency_s": 3.21,
                "false_alarms_per_hour": 0.4,
            }
        ],
        checks=[
            {"test": "moved", "name": "time order", "ok": False},
            {"test": "moved", "name": "duplicate rows", "ok": True},
        ],
        failed=[{"level": 3, "name": "KNN", "run": run, "error": "no"} for run in (0, 1)],
        selection={"1": {"frequent": [{"models": ["XGB", "CNN"]}]}},
    )
    summary = text[text.index(">Summary</h3>") : text.index(">Leak checks</h3>")]
    for said in (
        "1 model and 1 ensemble were judged on d, having learnt from 1,234 rows.",
        "Level 1 (benign or attack). On moved the best is <b>L1_Ens1</b>, an ensemble, with MCC 0.910 ",
        "and 98.2 % of the rows right; ",
        "it reports 36 of 48 events, 3.21 s after they begin, with 0.4 false alarms an hour.",
        "False alarms per device and hour on quiet, where nothing is wrong: L1_Ens1 0.25.",
        "most often ends with XGB + CNN.",
        "Of 2 leak checks, 1 speak against the figures (time order on moved).",
        "1 detector failed: KNN (level 3).",
    ):
        assert said in summary


def test_the_best_of_a_column_is_marked_and_costs_are_best_when_low(tmp_path):
    blank = dict.fromkeys((m.name for m in METRICS), None)
    text = only(
        tmp_path,
        metrics=[
            {"level": 1, "name": "A", **blank, "accuracy": 0.75, "size_mb": 2.5},
            {"level": 1, "name": "B", **blank, "accuracy": 0.5, "size_mb": 1.25},
        ],
    )
    assert re.findall(r'<td class="best">([^<]*)</td>', text) == ["0.75", "1.25"]


def test_the_16_metrics_are_two_tables_and_inference_is_in_microseconds(tmp_path):
    row = dict.fromkeys((m.name for m in METRICS), None) | {"inference_time_s": 3.62e-06}
    text = only(tmp_path, metrics=[{"level": 1, "name": "A", **row}])
    tables = text.split("<table")[1:]
    heads = [re.findall(r"<th>([^<]+)</th>", each) for each in tables]
    assert [len(each) for each in heads] == [1 + 7, 1 + 9]
    assert "<td>3.62</td>" in tables[1]
    assert "inference, µs a row" in heads[1]


def test_events_are_called_events(written):
    text = (written[2] / "report.html").read_text(encoding="utf-8")
    own = re.sub(r"(size of|by) (the )?incident", "", text)  # the data's own
    assert "incident" not in own.lower()
    assert "How sure, and by events</h3>" in text
    assert "and the ensembles" not in text


def test_what_all_models_share_is_not_marked(tmp_path):
    rows = [{"test": "t", "level": 1, "name": name, "rows": 5, "mcc": 0.5} for name in "AB"]
    assert 'class="best"' not in only(tmp_path, rows=rows)


def test_rows_stand_best_first_with_their_spread(tmp_path):
    rows = [
        {"test": "t", "level": 1, "name": name, "rows": 5, "mcc": mcc, "mcc_std": 0.125}
        for name, mcc in (("worse", 0.25), ("undefined", None), ("better", 0.5))
    ]
    text = only(tmp_path, rows=rows)
    assert "0.500 ± 0.125" in text
    assert text.index("<td>better</td>") < text.index("<td>worse</td>") < text.index("<td>undefined</td>")


def test_a_failed_detector_is_a_row_with_its_error_even_if_all_failed(tmp_path):
    text = only(tmp_path, failed=[{"level": 2, "name": "KNN", "run": 1, "error": "no memory"}])
    assert '<tr class="failed"><td>KNN</td>' in text
    assert "failed in run 1: no memory" in text


def test_an_interval_and_a_small_p_are_readable(tmp_path):
    row = {
        "test": "t",
        "level": 1,
        "name": "A",
        "mcc_interval": [0.5, None],
        "mcnemar_p": 0.0001,
        "delong_p": 0.25,
    }
    text = only(tmp_path, beside=[row])
    assert "<td>0.500–?</td>" in text
    assert "<td>&lt;0.001</td>" in text
    assert "<td>0.250</td>" in text
    assert "events found" not in text  # a column with nothing in it


EVIL = '"><script>alert(1)</script>&\x1b[31m\udc80'


def test_no_text_of_others_becomes_markup(tmp_path):
    key = f"{EVIL}/L1/{EVIL}"
    row = {"test": EVIL, "level": 1, "name": EVIL}
    score = {"level": 1, "model": EVIL, **dict.fromkeys(DIMENSIONS, 0.5)}
    one = {"models": [EVIL], "objectives": [0.5, 0.25, 0.5, 0.75], "score": 0.5, "runs": 1}
    data = {
        "name": EVIL, "about": EVIL, "split": EVIL, "fingerprint": EVIL, "counts": {EVIL: 1},
        "classes": {"1": [EVIL, "b"]},
        "rows": [{**row, "mcc": 0.5}, {**row, "false_alarm_rate": 0.5, "false_alarms_per_device_hour": 1.0}],
        "beside": [{**row, "events": 2, "event_recall": 0.5, "against": EVIL}],
        "metrics": [row], "scores": [score, {**score, "coverage": None}],
        "selection": {"1": {"front": [one], "ranked": [one], "frequent": [one], "hypervolume_ratio": 1.0}},
        "checks": [{"test": EVIL, "name": EVIL, "ok": False, "detail": EVIL}],
        "by_class": {key: {EVIL: 0.5}}, "by_size": {key: [0.5]},
        "confusion": {key: [[1, 2], [0, 3]], f"{EVIL}/L3/{EVIL}": np.eye(30).tolist()},
        "reliability": {key: [{"predicted": 0.5, "observed": 0.5, "rows": 1}]},
        "failed": [{"level": 1, "name": EVIL, "run": 0, "error": EVIL}],
    }  # fmt: skip
    files = write_report({"command": EVIL, "version": EVIL, "seeds": [EVIL], "data": [data]}, tmp_path)
    text = files[0].read_text(encoding="utf-8")
    assert Page(text).tags.count("script") == 1  # the page's own
    assert "\x1b" not in text
    assert text.count("&lt;script&gt;") >= 25


@pytest.mark.parametrize(
    "found",
    [
        {},
        {"data": None},
        {"data": []},
        {"data": [{}]},
        {"data": [{"name": "d", **{key: [] for key in ("rows", "beside", "scores", "failed")}}]},
        {"data": [dict.fromkeys(("name", "rows", "selection", "by_class", "confusion", "counts", "runs"))]},
        {"data": [{key: [{"level": 1}] for key in ("rows", "beside", "scores", "metrics", "failed")}]},
        {"data": [{key: [{}] for key in ("rows", "beside", "scores", "metrics", "failed", "checks")}]},
        {"data": [{"selection": {"1": {}, "2": {"front": [{}], "ranked": [{}], "frequent": [{}]}}}]},
        {"data": [{"confusion": {"t/L1/A": [], "t/L1/B": [[0, 0], [0, 0]], "t/L1/C": [[NAN, 1], [2]]}}]},
        {"data": [{"confusion": {"odd": [[1]]}, "by_class": {"t/L3/A": None, "t/L3/B": {"x": NAN}}}]},
        {"data": [{"by_size": {"t/L1/A": None, "t/L1/B": []}}]},
        {"data": [{"reliability": {"t/L1/A": None, "t/L1/B": [], "t/L1/C": [{"predicted": NAN}]}}]},
    ],
)  # fmt: skip
def test_what_is_missing_is_left_out(tmp_path, found):
    files = write_report(found, tmp_path)
    text = files[0].read_text(encoding="utf-8")
    Page(text)
    assert not re.search(
        r">[^<]*\bnan\b|=\"[^\"]*\bnan\b", text[text.index("<body>") : text.index("<script>")]
    )
    json.loads(files[1].read_text())
    assert len(files) == 2 + 3 * len(found.get("data") or [])


def test_two_data_sets_never_share_a_file(tmp_path):
    names = ("A:b", "a/b", "../../a b", "", "é")
    files = write_report({"data": [{"name": name} for name in names]}, tmp_path)
    assert [file.name for file in files[2::3]] == [
        "A-b-rows.csv", "a-b-2-rows.csv", "a-b-3-rows.csv", "data-rows.csv", "data-2-rows.csv"
    ]  # fmt: skip
    assert {file.parent for file in files} == {tmp_path}


def test_a_folder_that_is_a_file_is_an_os_error(tmp_path):
    (tmp_path / "here").write_text("")
    with pytest.raises(OSError, match="here"):
        write_report({}, tmp_path / "here")


# ---------------------------------------------------------------------- pictures
def test_a_radar_plot_puts_each_score_on_its_axis():
    drawn = pictures.radar([1.0, 0.5, 0.0, 1.0], [], ["a", "b", "c", "d"])
    # centre 130, 96; 62 long: up, right, down, left
    assert '<polygon class="line area" points="130.0,34.0 161.0,96.0 130.0,96.0 68.0,96.0"/>' in drawn
    assert "dashed" not in drawn


def test_a_front_joins_only_what_is_best_in_the_two_dimensions():
    points = [(0.0, 1.0, "A"), (1.0, 0.0, "B"), (0.5, 0.5, "C"), (0.4, 0.4, "D")]
    drawn = pictures.front(points, [], [(0.5, 0.5)], "speed", "quality")
    path = re.search(r'class="soft" d="M([\d. ]+)((?:V[\d.]+H[\d.]+)+)"', drawn)
    assert path
    assert path[1] == "298.0 208.0"  # B, bottom right
    assert path[2] == "V109.0H172.0V10.0H46.0"  # C, then A; never D
    assert drawn.count('class="dot"') == 4
    assert "<title>D: speed 0.400, quality 0.400</title>" in drawn
    assert '<circle class="ring strong" cx="172.0" cy="109.0" r="6"/>' in drawn


def test_a_front_of_one_point_can_be_drawn():
    assert 'class="dot"' in pictures.front([(0.5, 0.5, "A")], [], [], "x", "y")
    assert pictures.front([], [], [], "x", "y") == ""


def test_a_reliable_model_lies_on_the_diagonal():
    drawn = pictures.reliability([{"predicted": p, "observed": p, "rows": 4} for p in (0.0, 1.0)])
    assert '<path class="soft dashed" d="M30.0 146.0L168.0 8.0"/>' in drawn
    assert '<path class="line" d="M30.0 146.0L168.0 8.0"/>' in drawn
    assert drawn.count('r="6.0"') == 2


def test_a_confusion_matrix_is_normalised_by_row():
    drawn = pictures.confusion([[99, 1], [50, 50]], ["benign", "attack"])
    assert re.findall(r">(<?\d+)</text>", drawn) == ["99", "1", "50", "50"]
    assert re.findall(r'class="(right|wrong)" fill-opacity="([\d.]+)"', drawn) == [
        ("right", "0.70"), ("wrong", "0.21"), ("wrong", "0.42"), ("right", "0.42")
    ]  # fmt: skip


@pytest.mark.parametrize(("classes", "named"), [(12, True), (75, True), (200, False)])
def test_names_of_classes_stand_only_where_they_fit(classes, named):
    drawn = pictures.confusion(np.eye(classes).tolist(), [f"class {i}" for i in range(classes)])
    assert drawn.count("class 7<") == (2 if named else 0)
    assert ("100</text>" in drawn) == (classes == 12)
