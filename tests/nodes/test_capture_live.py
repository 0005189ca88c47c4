"""Live capture over a pair of virtual interfaces, in a network namespace that each test makes for itself."""

from __future__ import annotations

import ctypes
import fcntl
import functools
import os
import shutil
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from cellwatch.models.types import PacketBlock
from cellwatch.nodes.drivers.capture import CaptureError, LiveCapture, LiveSettings, open_source
from cellwatch.nodes.drivers.ring import _link_type

CLONE_NEWNET = 0x40000000
MINE = b"\x02\x00\x00\x00\x00\x02\x02\x00\x00\x00\x00\x01"
ETHERTYPE = b"\x88\xb5"  # for experiments, IEEE 802


def in_namespace(test: Callable[[], None]) -> Callable[[], None]:
    """Run `test` in a thread with a network of its own: interfaces t0 (tapped) and g0 (generator)."""

    @functools.wraps(test)
    def run() -> None:
        if os.geteuid() != 0:
            pytest.skip("needs root to make a network namespace")
        if shutil.which("ip") is None:
            pytest.skip("needs ip (iproute2)")
        trouble: list[BaseException] = []

        def body() -> None:
            try:
                if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET):
                    pytest.skip(f"no network namespace here: {os.strerror(ctypes.get_errno())}")
                make_pair()
                test()
            except BaseException as error:
                trouble.append(error)

        thread = threading.Thread(target=body)
        thread.start()
        thread.join()
        if trouble:
            raise trouble[0]

    return run


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def make_pair() -> None:
    ip("link", "add", "t0", "type", "veth", "peer", "name", "g0")
    ip("link", "set", "t0", "up")
    ip("link", "set", "g0", "up")


@contextmanager
def generator() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as out:
        out.bind(("g0", 0))
        yield out


def frame(number: int, size: int = 60) -> bytes:
    return (MINE + ETHERTYPE + struct.pack("<I", number)).ljust(size, b"\xaa")


def ours(blocks: list[PacketBlock]) -> list[tuple[int, bytes]]:
    """(time, bytes) of what the generator sent; the kernel's own chatter (IPv6) is left out."""
    found = []
    for b in blocks:
        for t, o, n in zip(b.time_ns.tolist(), b.offset.tolist(), b.length.tolist(), strict=True):
            packet = b.data[o : o + n].tobytes()
            if packet[:12] == MINE:
                found.append((t, packet))
    return found


def collect(source: LiveCapture, count: int, within_s: float = 5.0) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    end = time.monotonic() + within_s
    while len(found) < count and time.monotonic() < end:
        found += ours(source.read(0.1))
    return found


def wait_for(what: Callable[[], bool], source: LiveCapture) -> bool:
    end = time.monotonic() + 5
    while not what() and time.monotonic() < end:
        source.read(0.05)
    return what()


@in_namespace
def test_every_packet_arrives_in_order_with_its_time() -> None:
    source = open_source("t0")
    assert isinstance(source, LiveCapture)
    start = time.time_ns()
    with generator() as out:
        for i in range(20_000):
            out.send(frame(i, 60 + i % 1400))
    got = collect(source, 20_000)
    assert [p for _, p in got] == [frame(i, 60 + i % 1400) for i in range(20_000)]
    times = [t for t, _ in got]
    assert times == sorted(times)
    assert start - 10**9 < times[0] <= times[-1] < time.time_ns() + 10**9
    assert (source.dropped, source.frozen, source.damage) == (0, 0, "")
    source.close()


@in_namespace
def test_what_the_kernel_drops_is_counted_to_the_packet() -> None:
    source = LiveCapture("t0", LiveSettings(block_bytes=1 << 16, blocks=2))
    with generator() as out:
        for i in range(3000):
            out.send(frame(i, 1000))
    got = collect(source, 3000, 1.0)
    assert len(got) < 3000
    assert [p for _, p in got] == [frame(i, 1000) for i in range(len(got))]
    assert source.dropped >= 3000 - len(got)  # besides ours the kernel may drop its own chatter
    assert source.dropped <= 3000 - len(got) + 20
    assert source.frozen >= 1
    with generator() as out:  # the ring is free again
        out.send(frame(7))
    assert collect(source, 1) != []
    dropped = source.dropped
    source.close()
    assert source.dropped == dropped


@pytest.mark.parametrize(
    ("tags", "name"),
    [
        (b"\x81\x00\x00\x2a", "802.1Q"),
        (b"\x81\x00\xe0\x00", "priority only"),
        (b"\x88\xa8\x0f\xff\x81\x00\x20\x07", "QinQ"),
    ],
)
def test_a_vlan_tag_that_the_kernel_took_off_is_put_back(tags: bytes, name: str) -> None:
    @in_namespace
    def run() -> None:
        sent = MINE + tags + ETHERTYPE + bytes(range(200))
        plain = frame(1)
        source = LiveCapture("t0")
        with generator() as out:
            out.send(sent)
            out.send(plain)
            out.send(sent)
        assert [p for _, p in collect(source, 3)] == [sent, plain, sent]
        source.close()

    run()


@in_namespace
def test_the_snap_length_cuts_packets_and_keeps_their_length() -> None:
    source = LiveCapture("t0", LiveSettings(snap=64))
    with generator() as out:
        out.send(frame(1, 1000))
        out.send(MINE + b"\x81\x00\x00\x2a" + ETHERTYPE + bytes(500))
    blocks: list[PacketBlock] = []
    end = time.monotonic() + 5
    while len(ours(blocks)) < 2 and time.monotonic() < end:
        blocks += source.read(0.1)
    pick = [
        (int(n), int(w), b.data[o : o + 12].tobytes())
        for b in blocks
        for o, n, w in zip(b.offset, b.length, b.wire_length, strict=True)
    ]
    assert [(n, w) for n, w, mac in pick if mac == MINE] == [(64, 1000), (68, 518)]  # the tag comes on top
    source.close()


@in_namespace
def test_promiscuous_mode_is_for_the_time_of_the_capture() -> None:
    def promiscuity() -> int:
        text = subprocess.run(["ip", "-d", "link", "show", "t0"], check=True, capture_output=True, text=True)
        return int(text.stdout.split("promiscuity ")[1].split()[0])

    plain = LiveCapture("t0", LiveSettings(promiscuous=False))
    assert promiscuity() == 0
    plain.close()
    source = LiveCapture("t0")
    assert promiscuity() == 1
    source.close()
    assert promiscuity() == 0


@in_namespace
def test_an_interface_that_goes_down_and_up_is_said_and_forgotten() -> None:
    source = LiveCapture("t0")
    ip("link", "set", "t0", "down")
    assert wait_for(lambda: "t0: the interface is down" in source.damage, source)
    started = time.process_time()
    assert source.read(0.5) == []  # waits, does not spin
    assert time.process_time() - started < 0.25
    ip("link", "set", "t0", "up")
    assert wait_for(lambda: not source.damage, source)
    with generator() as out:
        out.send(frame(3))
    assert [p for _, p in collect(source, 1)] == [frame(3)]
    assert not source.exhausted
    source.close()
    ip("link", "set", "t0", "down")
    late = LiveCapture("t0")  # down from the start
    assert "is down" in late.damage
    late.close()


@in_namespace
def test_an_interface_that_is_removed_is_taken_up_again_when_it_is_back() -> None:
    source = LiveCapture("t0", LiveSettings(block_bytes=1 << 16, blocks=2))
    with generator() as out:
        for i in range(1000):
            out.send(frame(i, 1000))
    time.sleep(0.1)
    dropped = source.dropped
    assert dropped > 0
    ip("link", "del", "t0")
    assert wait_for(lambda: "t0: the interface is gone" in source.damage, source)
    assert source.dropped == dropped  # what was counted stays counted
    make_pair()
    assert wait_for(lambda: not source.damage, source)
    with generator() as out:
        out.send(frame(5))
    assert [p for _, p in collect(source, 1)] == [frame(5)]
    source.close()


@in_namespace
def test_an_interface_replaced_behind_our_back_is_noticed() -> None:
    source = LiveCapture("t0")
    ip("link", "del", "t0")
    make_pair()  # before anybody looked

    def comes() -> bool:
        with generator() as out:
            out.send(frame(9))
        return any(p == frame(9) for _, p in ours(source.read(0.1)))

    assert wait_for(comes, source)
    assert source.damage == ""
    source.close()


@in_namespace
def test_a_tunnel_carries_raw_ip() -> None:
    try:
        tunnel = os.open("/dev/net/tun", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"no tunnels here: {error}")
    fcntl.ioctl(tunnel, 0x400454CA, struct.pack("16sH22x", b"tun9", 0x1001))  # TUNSETIFF: IFF_TUN | IFF_NO_PI
    ip("link", "set", "tun9", "up")
    source = LiveCapture("tun9")
    packet = bytes.fromhex("4500001c000100004011000a0a6300020a630001") + bytes(8)
    os.write(tunnel, packet)
    end = time.monotonic() + 5
    found: list[tuple[int, bytes]] = []
    while packet not in [p for _, p in found] and time.monotonic() < end:
        found += [
            (b.link_type, b.data[o : o + n].tobytes())
            for b in source.read(0.1)
            for o, n in zip(b.offset, b.length, strict=True)
        ]
    assert (101, packet) in found
    source.close()
    os.close(tunnel)


def test_other_hardware_is_refused() -> None:
    with pytest.raises(OSError, match="type 280"):  # ARPHRD_CAN
        _link_type(280)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(CaptureError, match="snap length 0"):
        LiveSettings(snap=0)
