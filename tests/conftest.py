"""What every test gets: its own ROS domain on the loopback, its own home, and the shared data."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOME = pytest.StashKey[str]()


def pytest_configure(config):
    """Set before any test module is imported, so that children and import-time readers see it too."""
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)  # 0-101 keep clear of ephemeral ports
    config.stash[HOME] = os.environ["CELLWATCH_HOME"] = tempfile.mkdtemp(prefix="cellwatch-test-")


def pytest_unconfigure(config):
    shutil.rmtree(config.stash[HOME], ignore_errors=True)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real recordings (SKAB, captures ...); tests that need them skip without it."""
    default = ROOT.parent / "shared" / "data"
    folder = Path(os.environ.get("CELLWATCH_DATA") or default)
    if not folder.is_dir():
        pytest.skip(f"no recorded data at {folder}: set CELLWATCH_DATA to its folder")
    return folder
