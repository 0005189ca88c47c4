"""Pictures of runs: made, not blank, refused with a reason."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.image import imread

from cellwatch.plc_sim.picture import Bar, apart, picture, stack, thin
from cellwatch.plc_sim.recording import Playback
from cellwatch.plc_sim.scenario import load


@pytest.mark.parametrize(("name", "seconds"), [("demo", 60.0), ("bad-day", 70.0)])
def test_picture_is_made_and_names_what_went_wrong(tmp_path, name, seconds):
    done = []
    picture(Playback(load(name), 2, seconds), tmp_path / "run.svg", done.append)
    text = (tmp_path / "run.svg").read_text()
    run = Playback(load(name), 2, seconds)
    shown = [p.name for p in run.cell.planned if p.onset_s < seconds]
    assert shown
    assert all(f">{each}<" in text for each in shown)
    assert "LIT101" in text
    assert "packets / s" in text
    assert done[-1] == round(seconds * 10)


def test_png_is_not_blank_and_the_same_again(tmp_path):
    for name in ("a.png", "b.png"):
        picture(Playback(load("demo"), 1, 20.0), tmp_path / name, lambda _: None)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    pixels = imread(tmp_path / "a.png")[:, :, :3]
    assert pixels.shape[1] > 1000
    assert 0.02 < (pixels < 0.9).any(axis=2).mean() < 0.6


def test_refusals(tmp_path):
    run = Playback(load("quiet"), 1, 1.0)
    with pytest.raises(ValueError, match=r"ends in \.png or \.svg"):
        picture(run, tmp_path / "run.pdf", lambda _: None)
    with pytest.raises(FileNotFoundError, match="folder does not exist"):
        picture(run, tmp_path / "missing" / "run.png", lambda _: None)


def test_rows_hold_names_apart():
    bars = [Bar("a long enough name", "dos", t, t + 1.0) for t in (0.0, 1.0, 2.0, 90.0)]
    rows = stack(bars, 100.0)
    assert [len(row) for row in rows] == [2, 1, 1]


def test_labels_keep_their_order_and_distance():
    placed = apart([50.0, 51.0, 100.0, 100.0], 10.0)
    assert placed == sorted(placed)
    assert np.all(np.diff(placed) >= 10.0 - 1e-9)
    assert max(placed) <= 100.0


def test_thin_line_keeps_mean_and_extremes():
    values = np.sin(np.linspace(0, 300, 10_000)).astype(np.float32)
    x, mean, least, most = thin(values, 10.0)
    assert len(x) == len(mean) <= 600
    assert least.min() == values.min()
    assert most.max() == values.max()
    assert np.all((least <= mean + 1e-6) & (mean <= most + 1e-6))
