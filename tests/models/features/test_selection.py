"""The choice of features: it finds what tells the classes apart, without looking at what it is judged on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import f1_score
from typer.testing import CliRunner

from cellwatch.models.features.columns import NETWORK_COLUMNS
from cellwatch.models.features.schema import Schema
from cellwatch.models.features.selection import _macro_f1, cost, select
from cellwatch.nodes.cli import app

pytest.importorskip("pymoo")
NAMES = tuple(
    f"network_{q}_avg" for q in ("ttl", "mss", "packet-size", "window-size", "tcp-flags", "time-delta")
)


def table(rows: int = 500, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two informative columns of six; sessions of 20 rows each have an offset of their own."""
    rng = np.random.default_rng(seed)
    sessions = np.arange(rows) // 20
    attack = rng.random(sessions.max() + 1) < 0.4
    y = attack[sessions]
    x = rng.normal(size=(rows, len(NAMES)))
    x[:, 1] += 2.5 * (y & (sessions % 2 == 0))
    x[:, 4] += 2.5 * (y & (sessions % 2 == 1))
    x[:, 5] = sessions  # tells the session, and so the label of every row that was seen: useless on others
    x[rng.random(x.shape) < 0.02] = np.nan
    return x, np.where(y, "attack", "benign"), sessions


def test_it_finds_what_matters() -> None:
    x, y, sessions = table()
    front = select(x, y, NAMES, sessions=sessions, generations=6)
    assert {NAMES[1], NAMES[4]} <= set(front.choice.names)
    assert NAMES[5] not in front.choice.names
    assert front.choice.held_out > 0.7
    assert len(front.choice.names) < len(NAMES)
    assert front.choice.quality >= front.everything.quality - 3 * front.everything.error


def test_nothing_on_the_front_is_beaten() -> None:
    x, y, sessions = table()
    front = select(x, y, NAMES, sessions=sessions, generations=3)
    points = np.array([(-c.quality, len(c.names), c.cost) for c in front.candidates])
    for i, point in enumerate(points):
        others = np.delete(points, i, axis=0)
        assert not ((others <= point).all(axis=1) & (others < point).any(axis=1)).any()


def test_the_same_seed_gives_the_same_front_and_noise_gives_chance() -> None:
    x, y, sessions = table()
    a, b = (select(x, y, NAMES, sessions=sessions, generations=2, seed=4) for _ in range(2))
    assert a == b
    shuffled = np.random.default_rng(1).permutation(y)
    assert select(x, shuffled, NAMES, sessions=sessions, generations=2).choice.held_out < 0.6


def test_macro_f1_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    y, said = rng.integers(0, 4, 200), rng.integers(0, 5, 200)
    assert _macro_f1(y, said) == pytest.approx(f1_score(y, said, average="macro", zero_division=0))


def test_a_group_is_paid_for_once() -> None:
    assert cost(NETWORK_COLUMNS) == 3
    assert cost(("network_ttl_avg",)) == cost(NAMES) == 1
    assert cost(("src_bytes", "duration")) == 2


def test_one_class_is_refused() -> None:
    x, _, _ = table(100)
    with pytest.raises(ValueError, match="nothing to tell apart"):
        select(x, np.full(100, "benign"), NAMES)


def test_the_command_writes_a_schema_and_a_picture(tmp_path: Path) -> None:
    x, y, sessions = table(300)
    columns = {name: x[:, i] for i, name in enumerate(NAMES)} | {"label1": y, "session": sessions}
    source, out, picture = (tmp_path / name for name in ("t.parquet", "schema.json", "front.png"))
    pq.write_table(pa.table({k: pa.array(v) for k, v in columns.items()}), source)
    args = [
        "features",
        "select",
        str(source),
        "-o",
        str(out),
        "--sessions",
        "session",
        "--picture",
        str(picture),
    ]
    done = CliRunner().invoke(app, [*args, "--generations", "2", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    schema = Schema.from_json(out.read_text())
    assert list(schema.names) == said["chosen"]["features"]
    assert dict(zip(schema.names, schema.units, strict=True)).get("network_mss_avg", "By") == "By"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "session" not in said["all"]["features"]
    wrong = CliRunner().invoke(app, ["features", "select", str(source), "-o", str(out), "--labels", "kind"])
    assert wrong.exit_code == 2
    assert "no column 'kind'" in wrong.stderr
