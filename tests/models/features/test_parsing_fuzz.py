"""Arbitrary bytes through the capture decoder, the parser and the dissector.

Nothing may raise but CaptureError, and what is read of a packet may not depend on the bytes around it: every
block is parsed twice, between zeros and between 0xFF. The suite runs some hundred inputs by hypothesis, `make
soak` a million by atheris, and some with every access to memory checked:

    python tests/models/features/test_parsing_fuzz.py CAPTURES -runs=1000000

Atheris does not see into compiled code and would drop real packets as nothing new. What it invents is
therefore read as edits of real ones (`edited`).
"""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cellwatch.models.features.messages import Dissector, Messages
from cellwatch.models.features.packets import Packets, parse
from cellwatch.models.types import PacketBlock
from cellwatch.nodes.drivers.capture import read_all
from cellwatch.nodes.drivers.pcap_file import CaptureError, Decoder

DATA = Path(os.environ.get("CELLWATCH_DATA", Path(__file__).parents[4] / "shared" / "data"))
LINKS = (1, 101, 113, 276, 0, 108, 228, 12)
PACKETS = 24  # of one input at most
MARGIN = 64  # bytes around each packet


def encode(link: int, packets: list[bytes]) -> bytes:
    """An input of packets: link type, then each with its length."""
    body = b"".join(struct.pack("<H", len(p)) + p for p in packets)
    return bytes([LINKS.index(link) << 1]) + body


def surrounded(packets: list[bytes], link: int, poison: bytes) -> PacketBlock:
    """The packets as a block, each in the middle of poison."""
    gap = poison * MARGIN
    data = np.frombuffer(gap + b"".join(p + gap for p in packets), dtype=np.uint8)
    size = np.array([len(p) for p in packets], dtype=np.uint32)
    offset = MARGIN + np.concatenate([[0], np.cumsum(size.astype(np.int64) + MARGIN)[:-1]])
    wire = size + np.uint32(7) * (size % 5 == 0)  # some were cut by a snap length
    return PacketBlock(data, offset.astype(np.int64), size, wire, np.arange(len(packets)) * 1_000_000, link)


class Pair:
    """Two parsers that must agree."""

    def __init__(self) -> None:
        self.dissectors = Dissector(), Dissector()
        self.inputs = self.packets = self.messages = 0

    def check(self, packets: list[bytes], link: int) -> None:
        """Parse and dissect between zeros and between 0xFF; raises AssertionError when they differ."""
        if self.inputs % 16 == 0:  # else what was seen before would be a retransmission for ever
            self.dissectors = Dissector(), Dissector()
        self.inputs += 1
        blocks = [surrounded(packets, link, poison) for poison in (b"\0", b"\xff")]
        parsed = [parse(block) for block in blocks]
        read = [d.messages(p) for d, p in zip(self.dissectors, parsed, strict=True)]
        for kind, (one, two) in ((Packets, parsed), (Messages, read)):
            for field in fields(kind):
                if field.name not in ("block", "names"):
                    a, b = getattr(one, field.name), getattr(two, field.name)
                    assert a.tobytes() == b.tobytes(), f"{field.name}: {a} {b}"
        assert self.dissectors[0].counts == self.dissectors[1].counts
        ends = blocks[0].offset + blocks[0].length
        assert (parsed[0].payload <= ends).all()
        assert (parsed[0].payload >= blocks[0].offset).all()
        self.packets += len(packets)
        self.messages += len(read[0])

    def run(self, data: bytes) -> None:
        """One input of the fuzzer."""
        if data[0] & 1:  # a capture file, in two chunks
            decoder, half = Decoder("fuzz"), 1 + len(data) // 2
            try:
                blocks = decoder.feed(data[1:half]) + decoder.feed(data[half:])
                decoder.finish()
            except CaptureError:
                return
            for block in blocks:
                try:
                    parse(block)
                except ValueError as error:
                    assert "link type" in str(error), error
            return
        packets, at = [], 1
        while at + 2 <= len(data) and len(packets) < PACKETS:
            size = int.from_bytes(data[at : at + 2], "little") % 2048
            packets.append(data[at + 2 : at + 2 + size])
            at += 2 + size
        if packets:
            self.check(packets, LINKS[data[0] >> 1 & 7])


def seeds(captures: list[Path]) -> list[bytes]:
    """Inputs out of real captures: eight packets in a row, and the first bytes of each file."""
    found = []
    for path in captures:
        found.append(b"\1" + path.read_bytes()[:1500])
        for raw in read_all(path):
            if raw.link_type not in LINKS:
                continue
            data = raw.data.tobytes()
            frames = [data[a : a + n] for a, n in zip(raw.offset.tolist(), raw.length.tolist(), strict=True)]
            found += [
                encode(raw.link_type, [f[:1000] for f in frames[start : start + 8]])
                for start in range(0, min(len(frames), 400), 8)
            ]
            break
    return found


def edited(known: list[bytes], data: bytes) -> bytes:
    """One of the known inputs with the edits that `data` asks for, five bytes each; else `data` itself."""
    if len(data) < 4 or data[0] % 16 == 0:
        return data or b"\0"
    body = bytearray(known[int.from_bytes(data[1:4], "little") % len(known)])
    for at in range(4, len(data) - 4, 5):
        place = 1 + int.from_bytes(data[at + 1 : at + 3], "little") % max(1, len(body) - 1)
        kind, value = data[at] % 6, data[at + 3 : at + 5]
        if kind < 3:
            body[place : place + 1 + kind % 2] = value[: 1 + kind % 2]
        elif kind == 3:  # a number that lies: none, all, one more, one less
            body[place : place + 2] = (b"\0\0", b"\xff\xff", b"\0\1", b"\xff\xfe")[value[0] & 3]
        elif kind == 4:
            del body[place : place + 1 + value[0] % 32]
        else:
            body[place:place] = body[place : place + 1 + value[0] % 32]
    return bytes(body)


def main() -> None:
    """Run under atheris until `-runs` is reached."""
    import atheris

    atheris.instrument_func(Decoder.feed)
    pair, runs = Pair(), 0
    known = seeds(sorted(Path(sys.argv[1]).rglob("*.pcap*")))
    for data in known:
        pair.run(data)

    def one(data: bytes) -> None:
        nonlocal runs
        runs += 1
        pair.run(edited(known, data))
        if runs % 50_000 == 0:
            print(
                f"{runs} runs, {pair.packets} packets, {pair.messages} messages", file=sys.stderr, flush=True
            )

    atheris.Setup([sys.argv[0], *sys.argv[2:], "-max_len=120", "-len_control=0"], one)
    atheris.Fuzz()


def captures() -> Path:
    """The folder of captures."""
    if not (DATA / "pcaps").is_dir():
        pytest.skip(f"no captures under {DATA}; set CELLWATCH_DATA")
    return DATA / "pcaps"


def test_any_bytes_are_read_within_their_packet() -> None:
    pair = Pair()

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(st.binary(min_size=1, max_size=600))
    def run(data: bytes) -> None:
        pair.run(data)

    run()
    assert pair.packets > 50


def test_edited_captures_are_read_within_their_packets() -> None:
    pair, known = Pair(), seeds(sorted(captures().glob("*/*.pcap*"))[::5])
    for data in known:
        pair.run(data)
    real = pair.messages
    assert real > 500

    @settings(max_examples=500, deadline=None, derandomize=True)
    @given(st.binary(min_size=10, max_size=60))
    def run(data: bytes) -> None:
        pair.run(edited(known, data))

    run()
    assert pair.messages > real


@pytest.mark.soak
def test_a_million_inputs_by_atheris() -> None:
    pytest.importorskip("atheris", reason="atheris is not installed (pip install atheris)")
    command = [sys.executable, __file__, str(captures()), "-runs=1000000"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "Done 1000000 runs" in done.stderr


@pytest.mark.soak
def test_every_access_to_memory_is_within_its_array(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed (pip install atheris)")
    checked = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, __file__, str(captures()), "-runs=50000"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False, env=checked)
    assert done.returncode == 0, done.stderr[-4000:]


if __name__ == "__main__":
    main()
