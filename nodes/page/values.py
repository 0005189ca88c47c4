"""What the page and REST read of a cell: plain values, ready to be shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cellwatch.models.types import Contribution, Screening, Violation


class TagView(NamedTuple):
    """A tag with its last value. There may be thousands, several times a second."""

    name: str
    device: str
    unit: str  # UCUM
    low: float  # EURange, NaN = not known
    high: float
    value: float  # NaN = none yet, or no number
    quality: str  # good | uncertain | bad | "" (nothing heard yet)
    age_s: float  # since the value was sampled; NaN = nothing heard yet
    plc: str
    writable: bool


@dataclass(frozen=True, slots=True)
class DeviceView:
    """A device with the verdict of the last window that judged it."""

    name: str
    kind: str  # plc | process (its tags are another's) | network | stranger (not of the cell)
    decision: Screening  # UNKNOWN = not judged yet
    probability: float = float("nan")
    threshold: float = float("nan")
    category: str = ""
    attack_type: str = ""
    explanation: str = ""
    since_ns: int = 0  # begin of the unbroken run of this decision and category
    at_ns: int = 0  # end of the window; 0 = not judged yet


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of time in which a device was not called ALLOW."""

    start_s: float  # since the epoch
    end_s: float
    decision: Screening


@dataclass(frozen=True, slots=True)
class SourceView:
    """What one source says of one device."""

    source: str  # rules | ensemble | ewad | limits
    screening: Screening
    confidence: float  # 0..1
    at_ns: int
    abstained: str = ""  # why it gives no score


@dataclass(frozen=True, slots=True)
class ExplanationView:
    """Why a device was called what it was called, in the gravest recent window of an alarm."""

    key: str  # DEVICE/CATEGORY
    device: str
    category: str
    attack_type: str
    decision: Screening
    probability: float
    threshold: float
    sentence: str
    violations: tuple[Violation, ...]
    contributions: tuple[Contribution, ...]
    agreeing: tuple[str, ...]  # sources that call the device not benign
    conflict: bool  # RuleSense and the models disagree
    shares: tuple[tuple[str, float], ...]  # (feature, share of P(attack)), the gravest first
    shares_in_words: str
    window_id: int
    end_ns: int
    first_ns: int  # end of the first window of this occurrence
    json: str = ""  # DeepSense, Appendix B


@dataclass(frozen=True, slots=True)
class CommandView:
    """A command and what became of it."""

    command_id: str
    window_id: int
    device: str
    tag: str
    value: float
    reason: str
    status: str  # PENDING | ACCEPTED | REFUSED | WITHHELD | LAPSED (nobody answered in time)
    words: str  # the same for people: "advised, not written: the cell is not armed"
    read_back: float
    issued_ns: int
    decided_ns: int  # 0 = not yet


@dataclass(frozen=True, slots=True)
class ModelsView:
    """The models that one node serves."""

    node: str
    version: str
    detectors: tuple[str, ...]
    failed: tuple[str, ...]
    detail: str


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node's own word on its health."""

    name: str
    level: str  # ok | warn | error | silent
    message: str
    counters: dict[str, float]  # over all lives that were heard
    age_s: float  # since its last word
    restarts: int  # that were seen


@dataclass(frozen=True, slots=True)
class LossView:
    """Something that was lost, came late or could not be read."""

    node: str
    what: str
    count: int


@dataclass(frozen=True, slots=True)
class TrafficView:
    """The last window of the network."""

    end_ns: int
    packets_per_s: float
    malformed: int  # since the page runs
    dropped: int
    late: int
    devices: dict[str, float]  # packets/s of each device that spoke


@dataclass(frozen=True, slots=True)
class CommentView:
    """What somebody noted on an alarm."""

    at_ns: int
    user: str
    text: str
