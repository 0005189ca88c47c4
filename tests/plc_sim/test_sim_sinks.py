"""Sinks: a slow reader, an interface of our own, and none other."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from cellwatch.plc_sim import pcap, sinks
from cellwatch.plc_sim.frames import EMPTY
from cellwatch.plc_sim.recording import simulate


@pytest.fixture(scope="module")
def frames():
    return simulate("quiet", 1, 5.0).frames


def test_slow_reader_gets_whole_packets_and_the_rest_is_counted(frames, tmp_path):
    fifo = sinks.PcapFifo(tmp_path / "f")
    fifo.write(frames)
    assert fifo.unread == len(frames)  # nobody there yet
    reader = os.open(tmp_path / "f", os.O_RDONLY | os.O_NONBLOCK)
    blocks = 0
    while fifo.unread == len(frames) and blocks < 1000:
        fifo.write(frames)  # far more than pipe and backlog hold
        blocks += 1
    kept = blocks - 1
    got = b""
    while part := os.read(reader, 1 << 20):
        got += part
        fifo.write(EMPTY)  # pushes what is left
        if len(got) >= 24 + kept * len(pcap.encode(frames)):
            break
    assert got == pcap.HEADER + pcap.encode(frames) * kept
    assert fifo.readers == 1
    os.close(reader)
    fifo.close()
    assert not (tmp_path / "f").exists()


def test_capture_file(frames, tmp_path):
    sink = sinks.PcapFile(tmp_path / "a.pcap")
    sink.write(frames)
    sink.close()
    assert (tmp_path / "a.pcap").read_bytes() == pcap.HEADER + pcap.encode(frames)


def test_failing_sink_leaves_no_fifo(tmp_path):
    with pytest.raises(ValueError, match="only to a veth"):
        sinks.open_sinks(tmp_path / "f", None, "lo")
    assert not (tmp_path / "f").exists()


def test_interface_takes_frames(frames):
    name = f"cwt{os.getpid() % 100000}"
    make = ["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p"]
    made = subprocess.run(make, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"cannot make a veth pair: {made.stderr.strip()}")
    try:
        assert sinks.virtual_driver(name) == "veth"
        for end in (name, f"{name}p"):
            subprocess.run(["ip", "link", "set", end, "up"], check=True)
        counter = Path("/sys/class/net", f"{name}p", "statistics", "rx_packets")
        before = int(counter.read_text())
        sink = sinks.Interface(name)
        sink.write(frames)
        sink.close()
        assert sink.unread == 0
        assert int(counter.read_text()) - before >= len(frames)
    finally:
        subprocess.run(["ip", "link", "del", name], check=True)
