"""Images as strokes."""

from __future__ import annotations

import numpy as np

from cellwatch.models.ewad.images import CELL, DIRECTIONS, OfImages, strokes, upright
from cellwatch.models.types import F32, F64, Bool

SHAPE = (28, 28)


def bar(lean: float = 0.0, shift: int = 0) -> F32:
    """A thick bar that leans by `lean` columns a line."""
    image = np.zeros(SHAPE, dtype=np.float32)
    for line in range(6, 22):
        middle = 14 + shift + lean * (line - 13.5)
        image[line] = np.clip(2.0 - np.abs(np.arange(28) - middle), 0, 1)
    return image


def test_leaning_and_shifted_bars_become_one() -> None:
    found = upright(np.stack([bar(), bar(0.4), bar(-0.4, shift=3)]))
    raw = np.abs(bar() - bar(0.4)).mean()
    assert np.abs(found[0] - found[1]).mean() < 0.3 * raw
    assert np.abs(found[0] - found[2]).mean() < 0.3 * raw


def test_an_upright_image_stays_as_it_is() -> None:
    image = np.zeros((1, 9, 9), dtype=np.float32)
    image[0, 2:7, 3:6] = 1.0
    np.testing.assert_allclose(upright(image), image, atol=1e-6)


def test_shape_and_range_and_empty_images() -> None:
    x = np.stack([bar().ravel(), np.zeros(784, dtype=np.float32)])
    found = strokes(x, SHAPE)
    assert found.shape == (2, DIRECTIONS * (28 // CELL) ** 2)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()
    assert abs((found[0] ** 2).mean() - 1) < 1e-4
    assert (found[1] == 0).all()


def test_brightness_and_missing_pixels_do_not_count() -> None:
    x = bar().reshape(1, -1)
    np.testing.assert_allclose(strokes(255 * x, SHAPE), strokes(x, SHAPE), atol=1e-3)
    gap = np.where(x == 0, np.nan, x).astype(np.float32)
    np.testing.assert_array_equal(strokes(gap, SHAPE), strokes(x, SHAPE))


def test_edges_of_a_vertical_bar_point_left_and_right() -> None:
    found = strokes(bar().reshape(1, -1), SHAPE).reshape(DIRECTIONS, -1).sum(axis=1)
    assert set(np.argsort(found)[-2:]) == {0, DIRECTIONS // 2}


def test_the_number_of_images_at_once_does_not_matter() -> None:
    x = np.random.default_rng(0).random((1100, 64)).astype(np.float32)
    np.testing.assert_allclose(strokes(x, (8, 8))[-3:], strokes(x[-3:], (8, 8)), atol=1e-4)


class Sees:
    """A method that keeps what it gets."""

    NEEDS_LABELS = False
    report = None
    threshold = 7.0

    def fit(self, x: F32, y: Bool | None, columns: tuple[str, ...]) -> None:
        self.x, self.y, self.columns = x, y, columns

    def score(self, x: F32) -> F64:
        return x.sum(axis=1).astype(np.float64)


def test_a_method_gets_strokes() -> None:
    inner = Sees()
    x = np.stack([bar(), bar(0.3)]).reshape(2, -1)
    method = OfImages(inner, SHAPE)
    method.fit(x, None, tuple(map(str, range(784))))
    np.testing.assert_array_equal(inner.x, strokes(x, SHAPE))
    assert len(set(inner.columns)) == inner.x.shape[1]
    assert method.threshold == 7.0
    np.testing.assert_allclose(method.score(x), strokes(x, SHAPE).sum(axis=1), rtol=1e-6)
