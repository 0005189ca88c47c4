"""Reading scores, and the paper's Table 1."""

from __future__ import annotations

import pytest

from cellwatch.models.selection.scores import DIMENSIONS, ScoresError, check, parse

HEAD = "model,level,detection_quality,resource_usage,speed_latency,coverage\n"
ROW = "A,1,.1,.2,.3,.4\n"


def test_columns_may_stand_in_any_order_beside_others():
    text = "level, note,coverage,model,speed_latency,resource_usage,detection_quality\n3,x,.4,A,.3,.2,.1\n"
    found = parse("\ufeff" + text, "t")
    assert found[3].models == ("A",)
    assert found[3].values.tolist() == [[0.1, 0.2, 0.3, 0.4]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "t: no column model"),
        (HEAD, "t: no rows"),
        (HEAD.replace("coverage", "cover") + ROW, "t: no column coverage"),
        (HEAD + "A,4,.1,.2,.3,.4\n", "t, line 2: level 4: levels are 1, 2, 3"),
        (HEAD + "A,,.1,.2,.3,.4\n", "t, line 2: level is empty"),
        (HEAD + ROW + "B,1,.1,nan,.3,.4\n", "t, line 3, resource_usage: nan: a score lies in 0..1"),
        (HEAD + "A,1,.1,.2,1.3,.4\n", "t, line 2, speed_latency: 1.3"),
        (HEAD + "A,1,.1,.2,-.3,.4\n", "t, line 2, speed_latency: -.3"),
        (HEAD + "A,1,.1,.2,x,.4\n", "t, line 2, speed_latency: 'x' is not a number"),
        (HEAD + "A,1,.1,.2,.3\n", "t, line 2, coverage: empty"),
        (HEAD + ROW + ROW, "t, line 3: A stands twice at level 1"),
        (HEAD + ",1,.1,.2,.3,.4\n", "t, line 2: the model has no name"),
        (HEAD + '"A,1,.1,.2,.3,.4\n', "t, after line 1: unexpected end of data"),
    ],
)
def test_mistakes_name_file_line_and_column(text, said):
    with pytest.raises(ScoresError, match=f"^{said.replace('.', chr(92) + '.')}"):
        parse(text, "t")


@pytest.mark.parametrize(
    ("rows", "said"),
    [(ROW, "one model only"), (ROW + ROW.replace("A", "B"), "all 2 models have the same scores")],
)
def test_nothing_to_choose_from(rows, said):
    with pytest.raises(ScoresError, match=said):
        check(parse(HEAD + rows, "t")[1], "t")


def test_the_papers_table_1(root):
    """Some figures as printed in DeepSense, Table 1."""
    found = parse((root / "config/selection/deepsense_table1.csv").read_text(), "table 1")
    assert [len(one.models) for one in found.values()] == [23, 22, 22]
    assert {*found[1].models} - {*found[2].models} == {"RuleSense"}

    def of(level, model):
        return found[level].values[found[level].models.index(model)].tolist()

    assert DIMENSIONS == ("detection_quality", "resource_usage", "speed_latency", "coverage")
    assert of(1, "RuleSense") == [0.9904, 0.9937, 0.8685, 0.6578]
    assert of(2, "NaiveBayes") == [0.7380, 0.9766, 0.9027, 0.1898]
    assert of(3, "XGB") == [0.8468, 0.9488, 0.7690, 0.7806]
    assert of(1, "Transformer") == [0.9404, 0.7695, 0.4618, 0.1813]
    assert of(3, "RNN") == [0.6421, 0.9514, 0.5158, 0.4539]
