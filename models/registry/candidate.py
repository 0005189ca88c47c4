"""The version of the models that is on its way into service: where it stands, and where it may go from there.

SHADOW ──> CANARY ──> ACTIVE ──> ACCEPTED
   └─────────┴──> REJECTED  └───────┴──> ROLLED_BACK
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from cellwatch.models.types import Stage

FORMAT = 1
_NEXT = {Stage.SHADOW: Stage.CANARY, Stage.CANARY: Stage.ACTIVE, Stage.ACTIVE: Stage.ACCEPTED}
_ENDED = {
    Stage.ACCEPTED: "was accepted",
    Stage.REJECTED: "was rejected",
    Stage.ROLLED_BACK: "was rolled back",
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """One candidate. Its moves give the next state, or a ValueError that says why it cannot be."""

    version: str
    parent: str  # that it is to replace, and that is gone back to
    stage: Stage = Stage.SHADOW
    held: bool = False  # an operator keeps it in this stage
    devices: tuple[str, ...] = ()  # of the canary
    since_ns: int = 0  # in this stage
    scenario: str = ""  # why it was made: "A", "B", "" = not known
    reason: str = ""  # why it is in this stage
    figures: dict[str, Any] = field(default_factory=dict)  # of the held-out stretch

    @property
    def judging(self) -> bool:
        """It judges beside the version in service."""
        return self.stage in (Stage.SHADOW, Stage.CANARY)

    @property
    def open(self) -> bool:
        """Its way has not ended yet."""
        return self.stage in _NEXT

    def promote(self, now_ns: int, devices: tuple[str, ...] = (), reason: str = "") -> Candidate:
        """The next stage; a canary is told its `devices`."""
        self._require_open()
        stage = _NEXT[self.stage]
        if stage == Stage.CANARY and not devices:
            raise ValueError(f"candidate {self.version}: a canary needs a device at least")
        if stage == Stage.CANARY:
            return replace(self._at(stage, now_ns, reason), devices=tuple(devices))
        return self._at(stage, now_ns, reason)

    def hold(self, reason: str = "") -> Candidate:
        """Stay in this stage until it is released, whatever its gate says."""
        self._require_open()
        return replace(self, held=True, reason=reason or self.reason)

    def release(self, reason: str = "") -> Candidate:
        """End of `hold`."""
        self._require_open()
        if not self.held:
            raise ValueError(f"candidate {self.version} is not held")
        return replace(self, held=False, reason=reason or self.reason)

    def reject(self, now_ns: int, reason: str = "") -> Candidate:
        """Send it away before it is in service."""
        self._require_open()
        if self.stage == Stage.ACTIVE:
            raise ValueError(f"candidate {self.version} is in service: roll it back")
        return self._at(Stage.REJECTED, now_ns, reason)

    def roll_back(self, now_ns: int, reason: str = "") -> Candidate:
        """Take it out of service."""
        if self.stage not in (Stage.ACTIVE, Stage.ACCEPTED):
            raise ValueError(f"candidate {self.version} is not in service: {self.stage.name}")
        return self._at(Stage.ROLLED_BACK, now_ns, reason)

    def beside(self, current: str, now_ns: int) -> Candidate:
        """What it is while `current` is in service; itself where the two agree.

        What is in service was decided, by hand or before a crash; the stage follows.
        """
        if self.judging and current == self.version:
            return self._at(Stage.ACTIVE, now_ns, "it is in service already")
        if self.judging and current != self.parent:
            return self._at(Stage.REJECTED, now_ns, f"{current or 'nothing'} replaced the version it was for")
        replaced = self.stage == Stage.ACTIVE and current != self.version
        if replaced or (self.stage == Stage.ACCEPTED and current == self.parent):
            return self._at(Stage.ROLLED_BACK, now_ns, f"{current or 'nothing'} is in service instead")
        return self

    def _at(self, stage: Stage, now_ns: int, reason: str) -> Candidate:
        return replace(self, stage=stage, held=False, since_ns=now_ns, reason=reason)

    def _require_open(self) -> None:
        if not self.open:
            raise ValueError(f"candidate {self.version} {_ENDED.get(self.stage, 'is none')}")

    def to_json(self) -> str:
        """One object."""
        return json.dumps({"format": FORMAT, **asdict(self), "stage": self.stage.name}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Candidate:
        """ValueError names what is wrong."""
        try:
            raw: dict[str, Any] = json.loads(text)
            if raw.pop("format") != FORMAT:
                raise ValueError("of another format")
            stage = Stage[raw.pop("stage")]
            devices = raw.pop("devices")
            found = cls(**raw, stage=stage, devices=tuple(devices))
            sound = {
                "version": isinstance(found.version, str) and found.version.isalnum(),
                "parent": isinstance(found.parent, str),
                "held": isinstance(found.held, bool),
                "devices": isinstance(devices, list) and all(isinstance(d, str) for d in devices),
                "since_ns": type(found.since_ns) is int and 0 <= found.since_ns < 2**63,
                "scenario": found.scenario in ("", "A", "B"),
                "reason": isinstance(found.reason, str),
                "figures": isinstance(found.figures, dict),
            }
            if strange := [name for name, good in sound.items() if not good]:
                raise ValueError(f"{', '.join(strange)} cannot be")
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a candidate ({error!r})") from None
        return found
