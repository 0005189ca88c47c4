"""Learning from a running cell replaces what the cell had learned only by something whole."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.tags import TAG_COLUMNS
from cellwatch.models.rules.profile_builder import ProfileBuilder
from cellwatch.models.types import FeatureWindow
from cellwatch.nodes.cell import Artifacts
from cellwatch.nodes.commission import _learn

S = 1_000_000_000


def profile_text(windows: int) -> str:
    names = default_schema().names
    builder = ProfileBuilder(names, TAG_COLUMNS)
    for i in range(windows):
        builder.add(
            FeatureWindow(
                i, i * S, (i + 1) * S, (i + 1) * S, "s", ("PLC1",), np.ones((1, len(names)), np.float32),
                (), np.zeros(0, np.uint32), np.zeros((0, len(TAG_COLUMNS)), np.float32),
            )
        )  # fmt: skip
    return builder.build().to_json()


class FakeRun:
    """A cell that learned something before; its nodes write what `learns` says, after `runs_s`."""

    def __init__(self, folder: Path, learns: dict[str, str], runs_s: float = 100.0) -> None:
        self.folder, self.run_folder = folder, folder / "runs" / "now"
        self.run_folder.mkdir(parents=True)
        for name in ("baseline", "profile"):
            (folder / f"{name}.json").write_text("good")
        self.cell = SimpleNamespace(window_s=1.0)
        self.stopping = threading.Event()
        self.learns, self.runs_s = learns, runs_s
        rules = SimpleNamespace(message="commissioning was interrupted: 3 of 60 windows were learned")
        self.manager = SimpleNamespace(nodes={"rule_node": rules})

    def prepare(self) -> None:
        pass

    def artifacts(self, models: None) -> Artifacts:
        return Artifacts(
            self.folder,
            baseline_file=str(self.folder / "baseline.json"),
            profile_file=str(self.folder / "profile.json"),
        )

    def launch(self, files: Artifacts) -> None:
        self.files = files

    def run(self, tick) -> None:
        for name, text in self.learns.items():
            file = Path(getattr(self.files, f"{name}_file"))
            assert not file.exists()  # a node learns only where there is nothing yet
            file.write_text(text)
        tick(self.runs_s)


def learn(run: FakeRun, out: Path):
    return _learn(run, 60.0, out, Console(quiet=True))


def test_what_was_learned_takes_the_place_of_the_old(tmp_path):
    run = FakeRun(tmp_path, {"baseline": "new baseline", "profile": profile_text(60)})
    assert learn(run, tmp_path / "out" / "p.yaml").windows == 60
    assert run.stopping.is_set()
    assert (tmp_path / "baseline.json").read_text() == "new baseline"
    assert (tmp_path / "profile.json").read_text() == profile_text(60)
    assert (tmp_path / "out" / "p.baseline.json").read_text() == "new baseline"
    assert list(run.run_folder.iterdir()) == []


@pytest.mark.parametrize(
    ("learns", "runs_s", "why"),
    [
        ({}, 20.0, "stopped before the 60 s"),
        ({"baseline": "new"}, 65.0, "3 of 60 windows"),
        ({"baseline": "new", "profile": profile_text(29)}, 65.0, "only 29 windows"),
    ],
)
def test_an_interrupted_commissioning_leaves_the_old_profile(tmp_path, learns, runs_s, why):
    run = FakeRun(tmp_path, learns, runs_s)
    with pytest.raises(RuntimeError, match=why):
        learn(run, tmp_path / "p.yaml")
    assert [(tmp_path / f"{name}.json").read_text() for name in ("baseline", "profile")] == ["good", "good"]
    assert not (tmp_path / "p.baseline.json").exists()
