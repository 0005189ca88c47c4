"""The candidate of a cell, moved through its stages by its gates; whoever moves it by hand is followed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cellwatch.models.drift.promotion_gate import PromotionGate
from cellwatch.models.fusion.canary import canary_devices
from cellwatch.models.types import CandidateState, Stage, StageFigures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cellwatch.models.drift.promotion_gate import GateSettings
    from cellwatch.models.registry.bundle import Bundle
    from cellwatch.models.registry.candidate import Candidate
    from cellwatch.models.registry.candidate_file import CandidateFile
    from cellwatch.models.types import FusedWindow, SettledLabels
    from cellwatch.nodes.shadow_process import ShadowProcess

LOOK_NS = 1_000_000_000  # how often the file is read: others write it too
JUDGE_NS = 5_000_000_000  # how often the gate is asked: it goes over all windows of the stage
LIVES = 3  # of the process that judges beside
HEALTHY_NS = 600_000_000_000  # of running, after which its deaths are forgotten
SILENT = 600  # windows without a word of the one beside, or of a version that the cell does not take


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
        self._looked_ns = self._judged_ns = self._started_ns = 0
        self._lives, self._silent = LIVES, 0
        self._passed = ""  # what the gate said, where it is passed and nobody goes on
        self._troubles: dict[str, str] = {}  # by what is troubled

    @property
    def busy(self) -> bool:
        """A candidate is on its way."""
        return self._candidate is not None and self._candidate.open

    @property
    def trouble(self) -> str:
        """What somebody should know of."""
        return "; ".join(self._troubles.values())

    # What is heard -----------------------------------------------------------
    def model(self, version: str) -> None:
        """The version in service, as the ensemble says."""
        self._serving = version

    def served(self, window: FusedWindow, latency_s: float) -> None:
        """What the cell decided."""
        self._devices = tuple(sorted(v.device for v in window.verdicts))
        self._silent += 1
        if self._gate is not None:
            self._gate.served(window, latency_s)

    def beside(self, window: FusedWindow, latency_s: float) -> None:
        """What the other version would have."""
        if self._gate is not None:
            self._silent = 0
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
        c = self._read(now_ns)
        with self._said("process"):
            self._run(c, now_ns)
        if c is not None and c.open:
            with self._said("gate"):
                self._ask(c, now_ns)

    def state(self, now_ns: int) -> CandidateState:
        """How it stands; the figures are those of when the gate was asked last."""
        c = self._candidate
        if c is None:
            return CandidateState(now_ns)
        return CandidateState(
            now_ns, c.stage, c.held, c.scenario, c.version, c.parent, c.devices, c.since_ns,
            c.reason + self._passed, self._figures,
        )  # fmt: skip

    def close(self) -> None:
        """End the process."""
        self._shadow.stop()

    @contextmanager
    def _said(self, what: str) -> Iterator[None]:
        """An error is the trouble of `what`, until it is done without one."""
        try:
            yield
        except (ValueError, OSError) as error:
            self._troubles[what] = str(error)
        else:
            self._troubles.pop(what, None)

    def _read(self, now_ns: int) -> Candidate | None:
        """The candidate as the file has it; none where it cannot be read."""
        before, self._candidate = self._candidate, None
        with self._said("file"):
            self._candidate = self._file.settle(now_ns)
        c = self._candidate
        if c is None or before is None or (c.version, c.stage) != (before.version, before.stage):
            self._gate, self._figures, self._passed = None, StageFigures(), ""
            self._lives, self._silent = LIVES, 0
            self._troubles.pop("gate", None)
            if c is not None:
                self._news(f"candidate {c.version}: {c.stage.name}: {c.reason or 'no reason'}")
        return c

    def _run(self, c: Candidate | None, now_ns: int) -> None:
        """Have the one that the stage asks for judge beside, or none. ValueError, OSError if it cannot."""
        shadow = self._shadow
        version = "" if c is None or not c.open else c.parent if c.stage == Stage.ACTIVE else c.version
        if shadow.running:
            if shadow.version != version:
                shadow.stop()
            elif now_ns - self._started_ns > HEALTHY_NS:
                self._lives = LIVES
        elif version:
            if shadow.died:
                self._gate = None  # windows of its absence are not lost by the version
            if not self._lives:
                raise ValueError(f"version {version} cannot judge beside: {shadow.last_words()}")
            if shadow.died:
                self._news(f"version {version} stopped judging beside: {shadow.last_words()}")
            self._lives, self._started_ns = self._lives - 1, now_ns
            shadow.start(self._file.registry, version)

    def _ask(self, c: Candidate, now_ns: int) -> None:
        """What the gate says, and what follows."""
        in_service = c.version if c.stage == Stage.ACTIVE else c.parent
        if self._gate is None and self._serving == in_service:
            self._gate = PromotionGate(c.stage, self._settings, window_s=self._window_s)
        mute = self._mute(in_service)
        if mute and not c.held and (self._promote or c.stage != Stage.ACTIVE):
            self._send_away(c, now_ns, mute)
        elif mute:
            raise ValueError(
                f"candidate {c.version}, {c.stage.name}: {mute}; promote, reject or roll it back"
            )
        elif self._gate is not None and not 0 <= now_ns - self._judged_ns < JUDGE_NS:
            self._judged_ns = now_ns
            self._figures = self._gate.figures()
            if not c.held:
                self._judge(c, self._gate, now_ns)

    def _mute(self, in_service: str) -> str:
        """Why there will be nothing to judge by; "": there may be."""
        if "process" in self._troubles and not self._lives:
            return self._troubles["process"]
        if self._silent <= SILENT:
            return ""
        if self._serving != in_service:
            return f"the cell serves {self._serving or 'nothing'}, not {in_service}"
        return f"{self._silent} windows without a word of the version that judges beside"

    def _send_away(self, c: Candidate, now_ns: int, why: str) -> None:
        move = self._file.roll_back if c.stage == Stage.ACTIVE else self._file.reject
        move(now_ns, why)
        self._looked_ns = 0

    def _judge(self, c: Candidate, gate: PromotionGate, now_ns: int) -> None:
        found = gate.judge()
        self._passed = ""
        if found.outcome == "fail":
            self._send_away(c, now_ns, found.why)
        elif found.outcome == "pass":
            if self._promote or c.stage == Stage.ACTIVE:
                self._advance(now_ns, found.why)
                self._looked_ns = 0
            else:
                self._passed = f"; its gate is passed: {found.why}"

    def _advance(self, now_ns: int, reason: str) -> None:
        version = self._candidate.version if self._candidate is not None else ""
        devices = canary_devices(self._devices, version, self._share)
        self._file.promote(now_ns, devices=devices, reason=reason)
