"""The cell as the page sees it now: the last word on everything, and the last minutes of the tags.

The ROS thread writes (`on_*`), the page reads; one lock, held for microseconds. What is kept is bounded.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import numpy as np

from cellwatch.nodes.page.command_board import CommandBoard
from cellwatch.nodes.page.health_board import HealthBoard
from cellwatch.nodes.page.tag_board import TagBoard
from cellwatch.nodes.page.values import CommentView, ModelsView, TrafficView
from cellwatch.nodes.page.verdict_board import VerdictBoard

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cellwatch.models.types import (
        F64,
        Alarm,
        CandidateState,
        Command,
        CommandResult,
        DriftEvent,
        FusedVerdict,
        FusedWindow,
        TagBatch,
        TagCatalog,
        TrafficBatch,
        Verdicts,
    )
    from cellwatch.nodes.page.values import (
        Band,
        CommandView,
        DeviceView,
        ExplanationView,
        LossView,
        NodeView,
        SourceView,
        TagView,
    )

PACKETS = "network_packets_all_count"  # column of the traffic
MOST_COMMENTS = 200


class LiveCell:
    """Of cell `name` with the given devices; `window_s` is the length of its windows.

    `version` and `versions[part]` grow with every change, so that a page draws only what is news, and
    `heard_ns[part]` says when it was heard. Parts: tags, devices, alarms, commands, drift, models, health,
    traffic, response and comments. Times in ns since the epoch.
    """

    def __init__(
        self,
        name: str,
        devices: Iterable[str] = (),
        *,
        window_s: float = 1.0,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.name, self.window_s = name, window_s
        self.version = 0
        self.versions: dict[str, int] = {}
        self.heard_ns: dict[str, int] = {}
        self._lock = threading.Lock()
        self._clock = clock
        self._tags = TagBoard()
        self._verdicts = VerdictBoard(devices, round(window_s * 1e9))
        self._commands = CommandBoard()
        self._health = HealthBoard()
        self._alarms: tuple[tuple[Alarm, ...], int] = ((), 0)
        self._comments: deque[tuple[str, CommentView]] = deque(maxlen=MOST_COMMENTS)
        self._drift: DriftEvent | None = None
        self._candidate: CandidateState | None = None
        self._models: dict[str, ModelsView] = {}
        self._traffic = TrafficView(0, 0.0, 0, 0, 0, {})
        self._taken: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    # What the cell says -------------------------------------------------------
    def on_catalog(self, catalog: TagCatalog) -> None:
        with self._lock:
            self._tags.catalog(catalog)
            self._verdicts.tell_apart(self._tags.plcs(), self._tags.devices())
            self._news("tags", "devices")

    def on_tags(self, batch: TagBatch) -> None:
        with self._lock:
            self._tags.take(batch)
            self._news("tags")

    def on_snapshot(self, snapshot: TagBatch) -> None:
        """Last values of all tags, once a second."""
        with self._lock:
            self._tags.hold(snapshot)
            self._news("tags")

    def on_fused(self, window: FusedWindow) -> None:
        with self._lock:
            self._verdicts.judge(window)
            self._news("devices")

    def on_verdicts(self, verdicts: Verdicts) -> None:
        with self._lock:
            self._verdicts.hear(verdicts)

    def on_attribution(
        self, window_id: int, end_ns: int, device: str, shares: Mapping[str, float], explanation: str
    ) -> None:
        del window_id  # its time says the same, and can be compared with an alarm's
        with self._lock:
            said = tuple((feature, float(share)) for feature, share in shares.items())
            self._verdicts.attribute(end_ns, device, said, explanation)
            self._news("devices")

    def on_alarms(self, alarms: tuple[Alarm, ...], flooded: int) -> None:
        with self._lock:
            self._alarms = (alarms, flooded)
            self._news("alarms")

    def on_comment(self, key: str, comment: CommentView) -> None:
        with self._lock:
            self._comments.append((key, comment))
            self._news("comments")

    def on_command(self, command: Command) -> None:
        with self._lock:
            self._commands.ask(command)
            self._news("commands")

    def on_result(self, result: CommandResult) -> None:
        with self._lock:
            self._commands.answer(result)
            self._news("commands")

    def on_drift(self, event: DriftEvent) -> None:
        with self._lock:
            self._drift = event
            self._news("drift")

    def on_candidate(self, state: CandidateState) -> None:
        with self._lock:
            self._candidate = state
            self._news("drift")

    def on_models(
        self, node: str, version: str, detectors: Sequence[str], failed: Sequence[str], detail: str
    ) -> None:
        with self._lock:
            self._models[node] = ModelsView(node, version, tuple(detectors), tuple(failed), detail)
            self._news("models")

    def on_health(self, name: str, level: int, message: str, counters: Mapping[str, str]) -> None:
        """A node's own word, as /diagnostics has it: level 0 ok, 1 warning, 2 error."""
        with self._lock:
            self._health.hear(name, level, message, counters, self._clock())
            self._news("health")

    def on_traffic(self, batch: TrafficBatch) -> None:
        with self._lock:
            old, span_s = self._traffic, max((batch.end_ns - batch.start_ns) / 1e9, 1e-3)
            rates: dict[str, float] = {}
            if PACKETS in batch.columns:
                column = np.nan_to_num(batch.values[:, batch.columns.index(PACKETS)]) / span_s
                rates = dict(zip(batch.devices, column.tolist(), strict=True))
            self._traffic = TrafficView(
                batch.end_ns, batch.packets / span_s, old.malformed + batch.malformed,
                old.dropped + batch.dropped, old.late + batch.late, rates,
            )  # fmt: skip
            self._news("traffic")

    def on_response_state(self, overridden: Sequence[str], maintenance: Sequence[str]) -> None:
        with self._lock:
            self._taken = (tuple(overridden), tuple(maintenance))
            self._news("response")

    # What the page reads ------------------------------------------------------
    def devices(self) -> tuple[DeviceView, ...]:
        """Those of the cell in its own order, then strangers."""
        with self._lock:
            return self._verdicts.devices()

    def tags(self) -> tuple[TagView, ...]:
        """All tags, PLC by PLC in the order of the catalogue."""
        with self._lock:
            return self._tags.views(self._clock())

    def trend(
        self, tags: Iterable[str], span_s: float = 300.0, points: int = 300
    ) -> dict[str, tuple[F64, F64, F64]]:
        """Of each known tag: times (s since the epoch), least and greatest value, NaN = no sample.

        `span_s` at most 600, in about `points` stretches; see `TrendRing.read`.
        """
        with self._lock:
            return self._tags.trend(tags, self._clock(), span_s, points)

    def bands(self, device: str, span_s: float = 300.0) -> tuple[Band, ...]:
        """Stretches in which a device was suspicious or blocked, oldest first."""
        with self._lock:
            return self._verdicts.bands(device, self._clock() - round(span_s * 1e9))

    def verdicts(self, device: str = "", limit: int = 100) -> list[tuple[int, int, FusedVerdict]]:
        """Window, its end and a verdict of it, newest first, of all devices or of one."""
        with self._lock:
            return self._verdicts.verdicts(device, limit)

    def sources(self, device: str) -> tuple[SourceView, ...]:
        """What each source said of a device last."""
        with self._lock:
            return self._verdicts.sources(device)

    def explanation(self, key: str) -> ExplanationView | None:
        """Why an alarm was raised; None if that was before the page ran."""
        with self._lock:
            return self._verdicts.explanation(key)

    def alarms(self) -> tuple[tuple[Alarm, ...], int]:
        """All alarms, what is announced first, and how many a flood holds back."""
        with self._lock:
            return self._alarms

    def comments(self, key: str) -> tuple[CommentView, ...]:
        """Notes on an alarm, oldest first."""
        with self._lock:
            return tuple(comment for on, comment in self._comments if on == key)

    def commands(self) -> tuple[CommandView, ...]:
        """Newest first."""
        with self._lock:
            return self._commands.views(self._clock())

    def armed(self) -> dict[str, bool | None]:
        """Which links write into their PLC; None for one that is silent."""
        with self._lock:
            return self._health.armed(self._clock())

    def response_state(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What is overridden, and what is in maintenance."""
        with self._lock:
            return self._taken

    def drift(self) -> DriftEvent | None:
        with self._lock:
            return self._drift

    def candidate(self) -> CandidateState | None:
        with self._lock:
            return self._candidate

    def models(self) -> tuple[ModelsView, ...]:
        with self._lock:
            return tuple(self._models.values())

    def nodes(self) -> tuple[NodeView, ...]:
        """All nodes that were ever heard; one that says nothing any more is silent."""
        with self._lock:
            return self._health.nodes(self._clock())

    def losses(self) -> tuple[LossView, ...]:
        """Everything that was lost, late, dropped or unreadable, as the nodes count it."""
        with self._lock:
            return self._health.losses()

    def traffic(self) -> TrafficView:
        with self._lock:
            return self._traffic

    def _news(self, *parts: str) -> None:
        now_ns = self._clock()
        self.version += 1
        for part in parts:
            self.versions[part] = self.versions.get(part, 0) + 1
            self.heard_ns[part] = now_ns
