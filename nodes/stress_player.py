"""The player of a stress test, a process of its own: plays recorded windows and keeps what came of them.

Windows are stamped as in the recording, one after the other and long ago: their length, by which profiles and
models know them, and the time in which labels settle are those of the plant, however fast it is played. Only
`closed`, from which latencies count, is the moment of publishing.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from cellwatch.models.evaluation.stress import Play
from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.tags import TAG_COLUMNS
from cellwatch.models.types import I64, FeatureWindow, Screening
from cellwatch.nodes.stress_recording import Recording

AGO_NS = 365 * 86_400 * 1_000_000_000  # no window may lie in the future: this is more than any test plays
LISTENERS = {"rule_node", "ensemble_node", "fusion_node", "drift_node"}
LISTEN_S = 20.0  # until they have found the player
UNHURRIED_S = 5.0  # that one window may take when each waits for the one before
QUIET_S = 2.0  # without a verdict: none will come any more
SAMPLE_S = 0.25
READY, PLAYED = "ready", "played"


class PlayerError(RuntimeError):
    """The player could not play; the message says why."""


class _Shared(NamedTuple):
    """What both sides of a player see, of multiprocessing."""

    pace: Any  # s from window to window
    place: Any  # of the window that is played


class Player:
    """Handle on the process. PlayerError from all of its methods."""

    def __init__(self, recording: Recording, namespace: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._news, theirs = context.Pipe()
        self._shared = _Shared(context.Value("d", 0.0), context.Value("q", 0))
        self._process = context.Process(
            target=_serve, args=(theirs, recording, namespace, self._shared, os.getpid()), daemon=True
        )
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        return self._process.pid or 0

    def await_ready(self, meanwhile: Callable[[], None]) -> None:
        """Until every detector of the cell hears it; `meanwhile` is called several times a second."""
        self._until(READY, meanwhile)

    def play(self, count: int, interval_s: float, meanwhile: Callable[[], None]) -> tuple[Play, I64]:
        """`count` windows from the beginning of the recording on, and the place of each in it (count,).

        With an `interval_s` of 0 each waits for the verdict on the one before. `meanwhile` is called several
        times a second until the last window is published.
        """
        self.pace(interval_s)
        self._news.send((count, interval_s))
        self._until(PLAYED, meanwhile)
        found: tuple[Play, I64] = self._hear()
        return found

    def pace(self, interval_s: float) -> None:
        """From window to window from now on, above 0; also in the midst of a play."""
        self._shared.pace.value = interval_s

    @property
    def place(self) -> int:
        """Of the window that is played, from 0."""
        return int(self._shared.place.value)

    def close(self) -> None:
        """End the process, whatever it does."""
        self._news.close()
        self._process.terminate()
        self._process.join()

    def _until(self, word: str, meanwhile: Callable[[], None]) -> None:
        while not self._news.poll(SAMPLE_S):
            meanwhile()
        news = self._hear()
        if news != word:
            raise PlayerError(f"the player could not play: {news}")

    def _hear(self) -> Any:
        try:
            return self._news.recv()
        except (EOFError, OSError):
            raise PlayerError("the player ended") from None


def _serve(orders: Connection, recording: Recording, namespace: str, shared: _Shared, parent: int) -> None:
    from cellwatch.nodes.ros.node import die_with_parent

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which closes this
    os.environ["CELLWATCH_PARENT"] = str(parent)
    die_with_parent()
    stage = _Stage(recording, namespace)
    with contextlib.suppress(EOFError, OSError):  # the command is gone
        try:
            stage.await_listeners()
            orders.send(READY)
            while True:
                count, interval_s = orders.recv()
                orders.send(stage.play(count, interval_s, shared, lambda: orders.send(PLAYED)))
        except PlayerError as error:
            orders.send(str(error))
    stage.player.close()


class _Stage:
    """Plays by the clock, and keeps what is heard of each window."""

    def __init__(self, recording: Recording, namespace: str) -> None:
        from cellwatch.nodes.ros.window_player import WindowPlayer

        self._recording = recording
        self._row = {name: d for d, name in enumerate(recording.devices)}
        self._last = (time.time_ns() - AGO_NS) // recording.window_ns
        self._place: dict[int, int] = {}  # window number -> place in the play
        self._came = threading.Event()
        windows = [_window(recording, i) for i in range(len(recording.first))]
        self.player = WindowPlayer(namespace, windows, self._heard)

    def await_listeners(self) -> None:
        """PlayerError names those that do not come."""
        deadline = time.monotonic() + LISTEN_S
        while deaf := self.player.deaf(LISTENERS):
            if time.monotonic() > deadline:
                raise PlayerError(f"not heard by {', '.join(sorted(deaf))}")
            time.sleep(0.05)

    def play(
        self, count: int, interval_s: float, shared: _Shared, played: Callable[[], None]
    ) -> tuple[Play, I64]:
        """See `Player.play`; `played` is called after the last window."""
        recording = self._recording
        place, number = recording.numbers(self._last, count)
        self._last = int(number[-1])
        self._latency = np.full(count, np.nan)
        self._whole = np.zeros(count, np.bool_)
        self._decision = np.full((count, len(self._row)), Screening.UNKNOWN, np.uint8)
        self._place = {n: k for k, n in enumerate(number.tolist())}
        truth = deque(recording.incidents(place, number))
        published = np.zeros(count)
        due = time.monotonic()
        for k, (i, n) in enumerate(zip(place.tolist(), number.tolist(), strict=True)):
            while truth and truth[0][0] <= k:
                self.player.tell(truth.popleft()[1])
            time.sleep(max(0.0, due - time.monotonic()))
            due, shared.place.value = due + shared.pace.value, k
            self._came.clear()
            published[k] = time.monotonic()
            self.player.publish(i, n, (n + 1) * recording.window_ns)
            if not interval_s:
                self._await(k, UNHURRIED_S)
        played()
        while np.isnan(self._latency).any() and self._came.wait(QUIET_S):
            self._came.clear()
        self._place = {}
        return Play(interval_s, published, self._latency, self._whole, self._decision), place

    def _await(self, k: int, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while np.isnan(self._latency[k]) and time.monotonic() < deadline:
            self._came.wait(0.1)
            self._came.clear()

    def _heard(self, number: int, latency_s: float, whole: bool, decisions: dict[str, int]) -> None:
        k = self._place.get(number)
        if k is None:
            return
        self._decision[k, [self._row[name] for name in decisions]] = list(decisions.values())
        self._whole[k] = whole
        self._latency[k] = latency_s
        self._came.set()


def _window(recording: Recording, i: int) -> FeatureWindow:
    """A recorded window, without tags and conversations: the data set does not keep them."""
    return FeatureWindow(
        0, 0, recording.window_ns, 0, default_schema().schema_id, recording.devices, recording.values[i], (),
        np.zeros(0, np.uint32), np.zeros((0, len(TAG_COLUMNS)), np.float32),
    )  # fmt: skip
