"""The parent of a live run: how it ends a plant that does not end, and what it tells at which time."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from cellwatch.plc_sim import console

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('{"event": "started", "at_ns": 1}', flush=True)
time.sleep(60)
"""


def child(program):
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def test_a_plant_that_ignores_sigterm_is_killed(monkeypatch):
    monkeypatch.setattr(console, "GRACE_S", 0.3)
    plant = child(STUBBORN)
    codes = []
    attending = threading.Thread(
        target=lambda: codes.append(console._attend(plant, 0.1, 1, threading.Event())), daemon=True
    )
    attending.start()
    attending.join(15.0)
    hung = attending.is_alive()
    plant.kill()
    attending.join(5.0)
    assert not hung
    assert codes == [-9]


@pytest.mark.parametrize("speed", [1, 1000])
def test_the_narrator_follows_the_time_of_the_plant(monkeypatch, speed):
    heard = []

    class Narrator:
        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def hear(self, event):
            pass

        def at(self, elapsed_s):
            heard.append(elapsed_s)

    monkeypatch.setattr(console, "Narrator", Narrator)
    monkeypatch.setattr(console.sys.stdout, "isatty", lambda: True, raising=False)
    plant = child('import sys\nprint(\'{"event": "started", "at_ns": 1}\', flush=True)\nsys.stdin.read()')
    assert console._attend(plant, 0.5, speed, threading.Event()) == 0
    assert heard == sorted(heard)
    assert 0.5 * speed <= heard[-1] < 15.0 * speed
