"""Moments and spans, as a person writes them."""

from __future__ import annotations

import pytest

from cellwatch.nodes.moments import moment, moment_ns, span_ns

S = 1_000_000_000


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0s", 1000 * S),
        ("1.5min", 910 * S),
        ("1970-01-01T00:01:00", 60 * S),
        ("1970-01-01T01:01:00+01:00", 60 * S),
        ("2026-11-23 14:05:00.123457Z", 1_795_442_700_123_457_000),
    ],
)
def test_moments(text, ns):
    assert moment_ns(text, 1000 * S, "--since") == ns


@pytest.mark.parametrize("text", ["yesterday", "10 parsecs", "-5s", ""])
def test_a_moment_that_cannot_be(text):
    with pytest.raises(ValueError, match="--since"):
        moment_ns(text, 0, "--since")


def test_spans():
    assert [span_ns(text, "--every") for text in ("500ms", "10 s", "2h", "1d")] == [
        S // 2, 10 * S, 7200 * S, 86_400 * S,
    ]  # fmt: skip


@pytest.mark.parametrize("text", ["0s", "10", "-1s", "1 fortnight", "", "inf s", "999999999999d"])
def test_a_span_that_cannot_be(text):
    with pytest.raises(ValueError, match="--every"):
        span_ns(text, "--every")


def test_a_moment_as_it_is_shown():
    assert moment(1_700_000_000_050_000_000) == "2023-11-14 22:13:20Z"
    assert moment(1_700_000_000_050_000_000, 3) == "2023-11-14 22:13:20.050Z"
