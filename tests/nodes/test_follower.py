"""The follower: what a version brings, and what stands in the way of reading it."""

from __future__ import annotations

import errno
import os
import time

import pytest

from cellwatch.models.registry import bundle
from cellwatch.models.registry.bundle import write
from cellwatch.models.registry.keys import Keys
from cellwatch.models.registry.manifest import Manifest
from cellwatch.nodes.follower import RETRY_S, Follower


@pytest.fixture
def made(tmp_path):
    """A follower of one bundle, its version, and the seconds of its clock."""
    scaler = {"centre": [0.0], "scale": [1.0]}
    manifest = Manifest("bench", "s1", 1.0, {"1": ["benign", "attack"]}, scaler, [], {"1": {}})
    version = write(tmp_path / "b", manifest, {"fusion.json": b"{}"}, Keys(tmp_path / "keys"))
    now = [0.0]
    follower = Follower(
        str(tmp_path / "b"), "", str(tmp_path / "keys"), "old", ("fusion.json",),
        lambda bundle: bundle.files["fusion.json"], lambda: now[0],
    )  # fmt: skip
    yield follower, version, now
    follower.close()


def settled(follower):
    """What it takes, once the reading has ended."""
    end = time.monotonic() + 10
    while follower._next is not None and not follower._next.done() and time.monotonic() < end:
        time.sleep(0.01)
    return follower.take()


def test_too_many_open_files_are_waited_for(made, monkeypatch):
    follower, version, now = made
    file_open = os.open

    def refuse(path, *args, **more):
        if str(path).endswith("fusion.json"):
            raise OSError(errno.EMFILE, "Too many open files")
        return file_open(path, *args, **more)

    monkeypatch.setattr(bundle.os, "open", refuse)
    follower.hear(version)
    assert settled(follower) is None
    assert "Too many open files" in follower.trouble
    monkeypatch.undo()
    assert settled(follower) is None  # not at once
    now[0] = RETRY_S
    follower.take()
    assert settled(follower) == b"{}"
    assert (follower.version, follower.trouble, follower.taken) == (version, "", 1)


def test_what_is_wrong_is_not_read_again(made):
    follower, _, now = made
    follower.hear("other")
    assert settled(follower) is None
    assert "it is not in" in follower.trouble
    now[0] = RETRY_S
    assert follower.take() is None
    assert follower._next is None
