"""The candidate of a cell, moved through its stages by its gates; whoever moves it by hand is followed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cellwatch.models.drift.promotion_gate import PromotionGate
from cellwatch.models.fusion.canary import canary_devices
from cellwatch.models.types import CandidateState, Stage, StageFigures

if TYPE_CHECKING:
    from collections.abc import Callable

    from cellwatch.models.drift.promotion_gate import GateSettings
    from cellwatch.models.registry.bundle import Bundle
    from cellwatch.models.registry.candidate import Candidate
    from cellwatch.models.registry.candidate_file import CandidateFile
    from cellwatch.models.types import FusedWindow, SettledLabels
    from cellwatch.nodes.shadow_process import ShadowProcess

LOOK_NS = 1_000_000_000  # how often the file is read: others write it too
JUDGE_NS = 5_000_000_000  # how often the gate is asked: it goes over all windows of the stage
LIVES = 3  # of the process that judges beside, in one stage


class CandidateWatch:
    """Keeps the process that judges beside running, and asks the gate of the present stage.

    In SHADOW and CANARY the candidate judges beside what is in service; in ACTIVE its parent does. Without
    `promote` nothing comes into service by itself; what fails its gate is sent away in either case, unless
    an operator holds it. `news` gets a line for each move.
    """

    def __init__(
        self,
        file: CandidateFile,
        shadow: ShadowProcess,
        *,
        window_s: float,
        promote: bool,
        share: float,
        news: Callable[[str], None],
        settings: GateSettings | None = None,
    ) -> None:
        """`share` of the devices, 0..1, for the canary."""
        self._file, self._shadow, self._news = file, shadow, news
        self._window_s, self._promote, self._share, self._settings = window_s, promote, share, settings
        self._candidate: Candidate | None = None
        self._gate: PromotionGate | None = None
        self._serving = ""
        self._devices: tuple[str, ...] = ()
        self._figures = StageFigures()
        self._looked_ns = self._judged_ns = 0
        self._lives = LIVES
        self.trouble = ""

    @property
    def busy(self) -> bool:
        """A candidate is on its way."""
        return self._candidate is not None and self._candidate.open

    # What is heard -----------------------------------------------------------
    def model(self, version: str) -> None:
        """The version in service, as the ensemble says."""
        self._serving = version

    def served(self, window: FusedWindow, latency_s: float) -> None:
        """What the cell decided."""
        self._devices = tuple(sorted(v.device for v in window.verdicts))
        if self._gate is not None:
            self._gate.served(window, latency_s)

    def beside(self, window: FusedWindow, latency_s: float) -> None:
        """What the other version would have."""
        if self._gate is not None:
            self._gate.beside(window, latency_s)

    def displaced(self, window: FusedWindow) -> None:
        """What the version in service would have decided for the devices of the canary."""
        if self._gate is not None:
            self._gate.displaced(window)

    def labels(self, labels: SettledLabels) -> None:
        """What windows really were."""
        if self._gate is not None:
            self._gate.labels(labels)

    # What is done ------------------------------------------------------------
    def propose(
        self, version: str, parent: Bundle, now_ns: int, scenario: str, reason: str, figures: dict[str, Any]
    ) -> None:
        """Put a version into shadow. ValueError if that cannot be."""
        self._file.propose(version, parent, now_ns, scenario=scenario, reason=reason, figures=figures)
        self._looked_ns = 0

    def move(self, action: str, now_ns: int, reason: str) -> None:
        """What an operator asks for: promote, hold, release, reject, roll_back. ValueError."""
        if action == "promote":
            self._advance(now_ns, reason)
        else:
            getattr(self._file, action)(now_ns, reason)
        self._looked_ns = 0

    def step(self, now_ns: int) -> None:
        """Look at the file, the process and the gate."""
        self._shadow.poll()
        if now_ns - self._looked_ns < LOOK_NS and now_ns >= self._looked_ns:
            return
        self._looked_ns = now_ns
        try:
            self._look(now_ns)
            self.trouble = ""
        except (ValueError, OSError) as error:
            self.trouble = str(error)

    def state(self, now_ns: int) -> CandidateState:
        """How it stands; the figures are those of when the gate was asked last."""
        c = self._candidate
        if c is None:
            return CandidateState(now_ns)
        return CandidateState(
            now_ns, c.stage, c.held, c.scenario, c.version, c.parent, c.devices, c.since_ns, c.reason,
            self._figures,
        )  # fmt: skip

    def close(self) -> None:
        """End the process."""
        self._shadow.stop()

    def _look(self, now_ns: int) -> None:
        before, self._candidate = self._candidate, self._file.settle(now_ns)
        c = self._candidate
        if c is None or before is None or (c.version, c.stage) != (before.version, before.stage):
            self._gate, self._lives, self._figures = None, LIVES, StageFigures()
            if c is not None:
                self._news(f"candidate {c.version}: {c.stage.name}: {c.reason or 'no reason'}")
        if c is None or not c.open:
            self._gate = None
            self._run("")
            return
        self._run(c.parent if c.stage == Stage.ACTIVE else c.version)
        in_service = c.version if c.stage == Stage.ACTIVE else c.parent
        if self._gate is None and self._serving == in_service:
            self._gate = PromotionGate(c.stage, self._settings, window_s=self._window_s)
        if self._gate is not None and not 0 <= now_ns - self._judged_ns < JUDGE_NS:
            self._judged_ns = now_ns
            self._figures = self._gate.figures()
            if not c.held:
                self._judge(c, self._gate, now_ns)

    def _run(self, version: str) -> None:
        """Have that version judge beside, or none."""
        shadow = self._shadow
        if shadow.running and shadow.version != version:
            shadow.stop()
        elif version and not shadow.running:
            if not self._lives:
                raise ValueError(f"version {version} cannot judge beside: {shadow.last_words()}")
            if shadow.died:
                self._news(f"version {version} stopped judging beside: {shadow.last_words()}")
                self._gate = None  # windows of its absence are not lost by the version
            self._lives -= 1
            shadow.start(self._file.registry, version)

    def _judge(self, c: Candidate, gate: PromotionGate, now_ns: int) -> None:
        found = gate.judge()
        if found.outcome == "fail":
            move = self._file.roll_back if c.stage == Stage.ACTIVE else self._file.reject
            move(now_ns, found.why)
        elif found.outcome == "pass" and (self._promote or c.stage == Stage.ACTIVE):
            self._advance(now_ns, found.why)
        else:
            return
        self._looked_ns = 0

    def _advance(self, now_ns: int, reason: str) -> None:
        version = self._candidate.version if self._candidate is not None else ""
        devices = canary_devices(self._devices, version, self._share)
        self._file.promote(now_ns, devices=devices, reason=reason)
