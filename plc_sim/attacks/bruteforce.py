"""Brute force: the 2 types of DataSense, dictionaries of factory defaults over SSH and Telnet.

Rates go from a try in ten seconds to those of the sessions in DataSense (attacks.csv: 62 and 69 packets per
second; hydra, some 30 packets a connection with its three tries).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cellwatch.plc_sim.attacks.attack import Attack, Running, Scene
from cellwatch.plc_sim.attacks.conversation import CLIENT, SERVER, Conversation, Turn, Visits
from cellwatch.plc_sim.attacks.victims import SSH, TELNET, with_port
from cellwatch.plc_sim.wire import shell

# Factory defaults as Mirai and the common lists have them.
DICTIONARY = (
    (b"root", b"root"), (b"root", b"xc3511"), (b"root", b"vizxv"), (b"admin", b"admin"), (b"root", b"888888"),
    (b"pi", b"raspberry"), (b"admin", b"1234"), (b"support", b"support"), (b"user", b"user"),
    (b"root", b"toor"),
    (b"admin", b"password"), (b"root", b"12345"), (b"guest", b"guest"), (b"operator", b"operator"),
)  # fmt: skip

# Telnet options 24, 32, 35, 39: terminal type and speed, X display, environment (RFC 1091, 1079, 1096, 1572).
TELNET_ASKED = shell.telnet_options(False, 24, 32, 35, 39)
TELNET_REFUSED = b"\xff\xfc\x18\xff\xfc\x20\xff\xfc\x23\xff\xfc\x27"  # WON'T
_TRIES = 3  # a connection, then the server hangs up


def ssh_conversation(seed: int) -> Conversation:
    """SSH up to the end of password authentication (RFC 4252, 4253, 8731): three tries, all refused.

    After NEWKEYS everything is encrypted: bytes of the lengths that chacha20-poly1305 gives.
    """
    noise = np.random.default_rng(seed)
    turns = [
        Turn(CLIENT, b"SSH-2.0-libssh_0.10.4\r\n"),
        Turn(SERVER, shell.SSH_SERVER, 15.0),
        Turn(CLIENT, shell.ssh_kexinit(noise.bytes(16))),
        Turn(SERVER, shell.ssh_kexinit(noise.bytes(16)), 2.0),
        Turn(CLIENT, shell.ssh_key_exchange(30, noise.bytes(32)), 3.0),
        Turn(SERVER, shell.ssh_key_exchange(31, noise.bytes(32)) + shell.ssh_new_keys(), 25.0),
        Turn(CLIENT, shell.ssh_new_keys(), 4.0),
        Turn(CLIENT, noise.bytes(44), 1.0),  # service request
        Turn(SERVER, noise.bytes(44), 2.0),
    ]
    for _ in range(_TRIES):
        turns += [
            Turn(CLIENT, noise.bytes(148), 5.0),
            Turn(SERVER, noise.bytes(60), 900.0),
        ]  # PAM makes one wait
    return Conversation(turns)


def telnet_conversation(first: int) -> Conversation:
    """Telnet log-in (RFC 854, 857, 858): options, three names with their passwords, all incorrect."""
    turns = [
        Turn(SERVER, TELNET_ASKED, 20.0),
        Turn(CLIENT, TELNET_REFUSED, 2.0),
        Turn(SERVER, b"\xff\xfb\x03\xff\xfb\x01\r\nLinux 5.15.84 (gateway)\r\nlogin: ", 30.0),
        Turn(CLIENT, b"\xff\xfd\x03\xff\xfd\x01", 2.0),
    ]
    for i in range(_TRIES):
        user, password = DICTIONARY[(first + i) % len(DICTIONARY)]
        turns += [
            Turn(CLIENT, user + b"\r\n", 10.0),
            Turn(SERVER, user + b"\r\nPassword: ", 5.0),
            Turn(CLIENT, password + b"\r\n", 10.0),
            Turn(SERVER, b"\r\nLogin incorrect\r\nlogin: ", 700.0),
        ]
    return Conversation(turns)


_SSH = tuple(ssh_conversation(seed) for seed in range(4))
_TELNET = tuple(telnet_conversation(first) for first in range(len(DICTIONARY)))


def _run(choices: tuple[Conversation, ...], port: int) -> Callable[[Scene], Running]:
    return lambda scene: Visits(scene, choices, port, (0.04, 2.5), weight=60.0)


ATTACKS = (
    Attack(
        "bruteforce", "dictionary-ssh", "T0812", "factory passwords over SSH",
        with_port(SSH), _run(_SSH, SSH),
    ),
    Attack(
        "bruteforce", "dictionary-telnet", "T0812", "factory passwords over Telnet",
        with_port(TELNET), _run(_TELNET, TELNET),
    ),
)  # fmt: skip
