"""A network namespace of the simulator's own, with a veth pair in it that carries the plant's frames.

The namespace has no name: it lives by the descriptors of this process and goes with it, however that ends. It
holds no address and no route, and interfaces outside are never touched. Needs root and `ip`.

    with Namespace() as net:
        net.packet_socket(PLANT).send(frame)
        print(net.enter("tcpdump", "-i", MIRROR))
"""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Self, TypeVar

PLANT, MIRROR = "plant", "mirror"  # frames go in at one end and come out at the other
CLONE_NEWNET = 0x40000000  # linux/sched.h
T = TypeVar("T")


class NamespaceError(OSError):
    """No namespace can be made here; the message says why and what to do."""


class Namespace:
    """An anonymous network namespace with the pair `PLANT` and `MIRROR`, both up."""

    def __init__(self) -> None:
        """Make it; NamespaceError where that is not possible."""
        self._fd = -1
        try:
            _in_thread(self._make)
        except BaseException:
            self.close()
            raise

    @property
    def path(self) -> str:
        """The namespace as a file, for `nsenter --net=PATH`, as long as this process lives."""
        return f"/proc/{os.getpid()}/fd/{self._fd}"

    def enter(self, *command: str) -> list[str]:
        """Return the command line that runs a command inside."""
        return ["nsenter", f"--net={self.path}", *command]

    def packet_socket(self, interface: str, protocol: int = 0) -> socket.socket:
        """Return a raw socket on an interface inside; it receives one EtherType, 3 all, 0 none."""

        def bind() -> socket.socket:
            _check(_libc().setns(self._fd, CLONE_NEWNET), "setns")
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
            try:
                raw.bind((interface, protocol))
            except OSError:
                raw.close()
                raise
            return raw

        return _in_thread(bind)

    def close(self) -> None:
        """Let it go; with its last socket closed, it is gone."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _make(self) -> None:
        """Runs in a thread that ends inside the namespace."""
        ip = shutil.which("ip", path=os.defpath + ":/usr/sbin:/sbin")
        if ip is None:
            raise NamespaceError("no network namespace: `ip` is missing; install iproute2")
        if _libc().unshare(CLONE_NEWNET):
            reason = os.strerror(ctypes.get_errno())
            raise NamespaceError(
                f"no network namespace: {reason}; run as root, or choose --fifo or --pcap instead"
            )
        self._fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        for command in (
            ("link", "add", PLANT, "type", "veth", "peer", "name", MIRROR),
            ("link", "set", PLANT, "addrgenmode", "none"),  # no frames of the kernel's own
            ("link", "set", MIRROR, "addrgenmode", "none"),
            ("link", "set", PLANT, "arp", "off", "up"),
            ("link", "set", MIRROR, "arp", "off", "up"),
        ):
            done = subprocess.run([ip, *command], capture_output=True, text=True, check=False)
            if done.returncode:
                raise NamespaceError(f"no network namespace: ip {' '.join(command)}: {done.stderr.strip()}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result:
        raise NamespaceError(f"{what}: {os.strerror(ctypes.get_errno())}")


def _in_thread(work: Callable[[], T]) -> T:
    """Run `work` in a thread of its own, whose namespace may change, and wait."""
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return result[0]
