"""A network namespace of our own: frames reach the far end, nothing else changes, nothing stays."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cellwatch.plc_sim import sinks
from cellwatch.plc_sim.frames import Frames
from cellwatch.plc_sim.namespace import MIRROR, PLANT, Namespace, NamespaceError

ALL = 3  # ETH_P_ALL


@pytest.fixture(scope="module", autouse=True)
def allowed():
    try:
        Namespace().close()
    except NamespaceError as error:
        pytest.skip(str(error))


def links():
    return sorted(each.name for each in Path("/sys/class/net").iterdir())


def namespaces():
    """Inodes of the network namespaces of all processes."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found.add(path.stat().st_ino)
        except OSError:
            continue
    return found


def make_frames(sizes):
    rng = np.random.default_rng(5)
    offset = np.concatenate([[0], np.cumsum(sizes)])
    return Frames(rng.integers(0, 256, offset[-1]).astype(np.uint8), offset, np.arange(len(sizes)))


def test_frames_come_out_at_the_far_end_whole_and_in_order():
    before = links()
    sink = sinks.OwnNamespace()
    try:
        with sink.namespace.packet_socket(MIRROR, ALL) as far:
            far.settimeout(2.0)
            frames = make_frames(np.tile([60, 61, 1514, 590], 20))
            sink.write(frames)
            for begin, end in zip(frames.offset[:-1], frames.offset[1:], strict=True):
                assert far.recv(2000) == frames.data[begin:end].tobytes()
        many = make_frames(np.full(5000, 60))
        sink.write(many)
        assert sink.unread == 0
        assert counted(sink.namespace) == (80 + 5000, 80 + 5000)  # and none of the kernel's own
        assert links() == before
    finally:
        sink.close()


def counted(namespace):
    """Frames sent on one end, and received at the other."""
    assert PLANT not in Path("/proc/self/net/dev").read_text()
    text = subprocess.run(
        namespace.enter("cat", "/proc/net/dev"), capture_output=True, text=True, check=True
    ).stdout
    rows = {name.strip(): row.split() for name, _, row in (line.partition(":") for line in text.splitlines())}
    return int(rows[PLANT][9]), int(rows[MIRROR][1])


def test_a_frame_that_is_too_long_is_counted_and_the_others_go():
    sink = sinks.OwnNamespace()
    try:
        sink.write(make_frames([60, 60, 4000, 60]))
        assert sink.unread == 1
        assert counted(sink.namespace) == (3, 3)
    finally:
        sink.close()


def test_a_closed_namespace_is_gone():
    held = Namespace()
    inode = Path(held.path).stat().st_ino
    assert inode != Path("/proc/self/ns/net").stat().st_ino
    held.close()
    assert f"net:[{inode}]" not in [
        str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()
    ]


CHILD = """
import os, sys, time
from cellwatch.plc_sim.namespace import Namespace
held = Namespace()
print(os.stat(held.path).st_ino, held.path, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_stays_after_a_signal(number):
    before = links()
    with subprocess.Popen([sys.executable, "-c", CHILD], stdout=subprocess.PIPE, text=True) as child:
        inode, path = child.stdout.readline().split()
        inside = subprocess.run(
            ["nsenter", f"--net={path}", "ip", "-br", "link"], capture_output=True, text=True, check=True
        )
        assert MIRROR in inside.stdout
        child.send_signal(number)
        child.wait(5)
    assert not Path(path).exists()
    assert int(inode) not in namespaces()
    assert links() == before


def test_without_ip_or_rights_the_message_says_what_to_do(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(NamespaceError, match="`ip` is missing; install iproute2"):
        Namespace()
