"""Values that travel between the stages. Frozen, typed, free of ROS and of clocks.

Times are integers in nanoseconds since the Unix epoch (``*_ns``); spans are seconds (``*_s``);
ratios lie in 0..1; a high score means anomalous; a missing number is NaN, never 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
U32 = NDArray[np.uint32]
U8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]

SEQUENCE = 8  # windows of a device that sequence models see, oldest first, the judged one last


class Severity(IntEnum):
    """Severity of an OPC UA StatusCode: its two top bits (OPC UA Part 4, 7.39)."""

    GOOD = 0
    UNCERTAIN = 1
    BAD = 2


class LinkState(IntEnum):
    """State of one OPC UA link."""

    DISCONNECTED = 0
    CONNECTING = 1
    CONNECTED = 2
    FAILED = 3


class Level(IntEnum):
    """Decision level (DeepSense, section 3): binary, category, attack type."""

    UNKNOWN = 0
    L1 = 1
    L2 = 2
    L3 = 3


class Screening(IntEnum):
    """Verdict of RuleSense and of the fusion (DeepSense, section 3.3)."""

    UNKNOWN = 0
    ALLOW = 1
    SUSPICIOUS = 2
    BLOCK = 3


class Role(IntEnum):
    """Part that a device plays in a conversation."""

    PEER = 0  # neither asks nor serves: ARP, ICMP, groups
    CLIENT = 1
    SERVER = 2


class CommandStatus(IntEnum):
    """What became of an actuator command."""

    UNKNOWN = 0
    ACCEPTED = 1
    REFUSED = 2
    WITHHELD = 3


class Action(IntEnum):
    """What the response does; the larger, the graver. From CLAMP on it writes into the plant."""

    UNKNOWN = 0
    ADVISE = 1
    ALARM = 2
    CLAMP = 3
    QUARANTINE = 4
    SAFE_STATE = 5


class AlarmState(IntEnum):
    """State of an alarm (ISA-18.2-2016, figure 6)."""

    UNKNOWN = 0
    NORMAL = 1
    UNACKNOWLEDGED = 2
    ACKNOWLEDGED = 3
    RETURNED_UNACKNOWLEDGED = 4
    SHELVED = 5
    SUPPRESSED_BY_DESIGN = 6
    OUT_OF_SERVICE = 7


class Priority(IntEnum):
    """Priority of an alarm (ISA-18.2-2016, 9.4)."""

    UNKNOWN = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


class Ne107(IntEnum):
    """Status signal of a device (NAMUR NE 107)."""

    NORMAL = 0
    FAILURE = 1
    FUNCTION_CHECK = 2
    OUT_OF_SPECIFICATION = 3
    MAINTENANCE_REQUIRED = 4


class DriftState(IntEnum):
    """Whether the models still fit the cell."""

    CALM = 0
    WARNING = 1  # something moves; nothing is done about it
    DRIFT = 2  # the alarm: stays until the model is changed, or the loss is back where it was


class Stage(IntEnum):
    """Where a candidate version of the models stands on its way into service."""

    NONE = 0
    SHADOW = 1  # judges beside, decides nothing
    CANARY = 2  # decides for some devices
    ACTIVE = 3  # in service, and still watched
    ACCEPTED = 4  # was watched long enough
    REJECTED = 5  # never came into service
    ROLLED_BACK = 6  # was in service and is no more


@dataclass(frozen=True, slots=True)
class TagInfo:
    """One tag of the catalogue; its place in `TagCatalog.tags` is its index in every batch."""

    name: str
    node_id: str
    device: str
    unit: str = ""  # UCUM, e.g. "Cel", "L/min"
    low: float = float("nan")  # EURange
    high: float = float("nan")
    period_s: float = 0.1  # revised sampling interval
    writable: bool = False
    role: str = (
        ""  # "" | "mode": integer operating mode of the device | "command": set by the cell's response
    )


@dataclass(frozen=True, slots=True)
class TagCatalog:
    """All tags of one PLC, in index order."""

    plc: str
    tags: tuple[TagInfo, ...] = ()


@dataclass(frozen=True, slots=True)
class Gap:
    """A stretch of time for which samples are known to be missing."""

    start_ns: int
    end_ns: int
    reason: str


@dataclass(frozen=True, slots=True)
class TagBatch:
    """Samples of one PLC in the order they arrived; all arrays have shape (n,)."""

    plc: str
    sequence: int  # counts batches from 1, so that a lost batch shows
    tag: U32  # index into the catalogue
    value: F64  # NaN where the server sent no number
    status: U32  # OPC UA StatusCode
    source_ns: I64
    server_ns: I64
    received_ns: int
    replayed: bool = False  # recovered by Republish or HistoryRead
    dropped: int = 0  # samples lost since the last batch (queue overflow, here or in the server)
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True, slots=True)
class PacketBlock:
    """Raw packets in the order they were captured; n packets share one buffer."""

    data: U8  # (bytes,)
    offset: I64  # (n,) start of each packet in `data`
    length: U32  # (n,) bytes captured
    wire_length: U32  # (n,) bytes on the wire
    time_ns: I64  # (n,)
    link_type: int  # LINKTYPE_* of pcap: 1 Ethernet, 101 raw IP, 113 SLL, 276 SLL2


@dataclass(frozen=True, slots=True)
class Ragged:
    """A list of texts for each of n rows: row i has `values[offsets[i] : offsets[i + 1]]`."""

    offsets: I64  # (n + 1,)
    values: NDArray[np.object_]  # str

    @classmethod
    def of(cls, row: I64, values: NDArray[np.object_], n: int) -> Ragged:
        """Lists of `n` rows from values with their row each, rows ascending.

        >>> Ragged.of(np.array([0, 0, 2]), np.array(["a", "b", "c"], dtype=object), 3).to_lists()
        [['a', 'b'], [], ['c']]
        """
        return cls(np.searchsorted(row, np.arange(n + 1)).astype(np.int64), values)

    def part(self, start: int, stop: int) -> Ragged:
        """Rows `start` to `stop`."""
        at = self.offsets[start : stop + 1]
        return Ragged(at - at[0], self.values[at[0] : at[-1]])

    def to_lists(self) -> list[list[str]]:
        """Plain lists."""
        ends = self.offsets.tolist()
        return [self.values[a:b].tolist() for a, b in pairwise(ends)]


@dataclass(frozen=True, slots=True)
class Conversations:
    """Who spoke with whom in one window: k rows, ascending in `device`, the weightiest of a device first.

    A row without service counts packets; one with a service counts the messages of that service. A claim says
    that packets heard by a device came from an address in the hands of an owner (ARP's sender address, or the
    source address of a local IP packet).
    """

    names: tuple[str, ...]  # what the columns below marked `name` point into
    device: U32  # (k,) index into the devices of the batch or window
    peer: U32  # (k,) name: device, else MAC; PUBLIC for all public addresses, GROUP for multi- and broadcast
    role: U8  # (k,) Role of the device
    protocol: U32  # (k,) name: "opcua", "mbtcp", "arp" ...
    service: U32  # (k,) name: "modbus:16", "opcua:Write" ...; "" = a row of packets
    port: U32  # (k,) of the server; 0 = none, or one that is given by chance
    packets: U32  # (k,) packets, or messages of the service
    writes: U32  # (k,) requests that write or control
    refused: U32  # (k,) connections that were refused, or answers that are exceptions
    peers: U32  # (k,) addresses behind `peer`, >= 1
    low: I64  # (k,) first and last register that requests name, -1 = none
    high: I64
    claim_device: U32  # (c,) index into the devices: who heard it
    claim_ip: U32  # (c,) name
    claim_owner: U32  # (c,) name: device, else MAC
    claim_packets: U32  # (c,)
    more: int = 0  # rows and claims that found no room

    MOST: ClassVar[int] = 128  # rows of one device; one that has as many may have lost some
    PUBLIC: ClassVar[str] = "public"
    GROUP: ClassVar[str] = "group"


@dataclass(frozen=True, slots=True)
class TrafficBatch:
    """Traffic of one window, one row a device that sent or received."""

    window_id: int  # window end / window length, on the grid since the epoch
    start_ns: int
    end_ns: int
    columns: tuple[str, ...]  # c names: `network_*`, `log_*`, `industrial_*`
    devices: tuple[str, ...]  # n names
    values: F32  # (n, c), NaN = undefined
    packets: int
    malformed: int = 0
    dropped: int = 0  # by the kernel, since the last batch
    late: int = 0  # packets that came after their window had closed
    lists: Mapping[str, Ragged] = field(default_factory=dict)  # list columns, of files only
    conversations: Conversations | None = None


@dataclass(frozen=True, slots=True)
class FeatureWindow:
    """One closed window: the device matrix that every detector sees, and the tag matrix behind it."""

    window_id: int
    start_ns: int
    end_ns: int
    closed_ns: int  # when the window was closed by the watermark
    schema_id: str
    devices: tuple[str, ...]  # n
    values: F32  # (n, features), NaN = missing
    tags: tuple[str, ...]  # m tag names
    tag_device: U32  # (m,) index into devices
    tag_values: F32  # (m, len(TAG_COLUMNS)), NaN = missing
    commissioning: bool = False  # part of the benign learning period
    held: tuple[str, ...] = ()  # devices whose process is not judged (mode not commissioned, or changing)
    modes: tuple[int, ...] = ()  # (n,) operating mode of each device, 0 where it has none; () = all 0
    conversations: Conversations | None = None  # None = nobody watched the network


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule with the number seen and the range that is normal."""

    device: str
    feature: str  # a feature, or "tag/column"
    observed: float
    low: float  # normal range; -inf / inf where open
    high: float
    rule: str
    category: str  # "fault" or one of the DataSense categories, "" when the rule cannot tell
    attack_id: str = ""  # ATT&CK for ICS technique
    message: str = ""  # the user's own words, of a declared rule


@dataclass(frozen=True, slots=True)
class LevelScores:
    """Probabilities of m detectors for n devices over c classes; a detector that abstains has NaN."""

    level: Level
    detectors: tuple[str, ...]
    classes: tuple[str, ...]
    probabilities: F32  # (n, m, c)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What one source says of one window."""

    source: str  # "rules", "ensemble", "ewad", "limits"
    window_id: int
    end_ns: int
    closed_ns: int
    devices: tuple[str, ...]  # n
    screening: U8  # (n,) Screening; UNKNOWN from sources that only score
    confidence: F32  # (n,) 0..1
    levels: tuple[LevelScores, ...] = ()
    violations: tuple[Violation, ...] = ()
    abstained: str = ""  # why the source as a whole gives no score, "" if it does
    latency_s: float = 0.0
    partial: bool = False  # a share of the window's devices; other replicas judge the rest


class Contribution(NamedTuple):  # half the cost of a frozen dataclass, and there are thousands
    """Share of one detector in a fused verdict."""

    detector: str
    score: float  # P(attack), NaN = abstained
    weight: float


@dataclass(frozen=True, slots=True)
class FusedVerdict:
    """The cell's verdict on one device in one window."""

    device: str
    decision: Screening
    probability: float
    threshold: float
    category: str = "benign"
    attack_type: str = ""
    contributions: tuple[Contribution, ...] = ()
    violations: tuple[Violation, ...] = ()
    explanation: str = ""  # one sentence in plain words
    category_confidence: float = 0.0  # S of L2: the share of the winning category, 0..1
    attack_type_confidence: float = 0.0  # S of L3: the share of the winning type within its category
    rules_confidence: float = float("nan")  # of RuleSense, NaN when it did not speak
    agreeing: tuple[str, ...] = ()  # sources that call the device not benign
    conflict: bool = False  # RuleSense and the models disagree
    explanation_json: str = ""  # DeepSense, Appendix B; "" for ALLOW


@dataclass(frozen=True, slots=True)
class HardCase:
    """A window of one device on which RuleSense and the models disagree: worth a label and retraining."""

    window_id: int
    end_ns: int
    device: str
    schema_id: str  # of `values`
    values: F32  # (features,), NaN = missing
    screening: Screening  # what the rules said: ALLOW, or worse where only the rules object
    rules_confidence: float
    probability: float  # fused P(attack)
    category: str  # as decided


@dataclass(frozen=True, slots=True)
class FusedWindow:
    """Fused verdicts of all devices of one window."""

    window_id: int
    end_ns: int
    closed_ns: int
    verdicts: tuple[FusedVerdict, ...]
    sources: tuple[str, ...] = ()  # that arrived in time
    missing: tuple[str, ...] = ()  # that were late or abstained


class DriftFigure(NamedTuple):
    """What one monitor of drift measured last."""

    monitor: str  # "loss", "errors", or one of those without labels
    value: float  # NaN: nothing to measure
    limit: float  # infinite while the reference is too short
    place: str = ""  # "DEVICE", or "DEVICE COLUMN": what moved most


@dataclass(frozen=True, slots=True)
class DriftEvent:
    """Whether the models still fit the cell, and if not, since when and of which kind."""

    at_ns: int
    state: DriftState
    level: Level  # of the decision that is watched
    version: str  # of the models, "" = there are none
    scenario: str = ""  # "A" false alarms, "B" misses, "" not known or no drift
    since_ns: int = 0  # 0 = no drift
    figures: tuple[DriftFigure, ...] = ()
    reasons: tuple[str, ...] = ()  # what raised the alarm, and what is to be known beside it
    windows: int = 0  # judged by these models
    labelled: int = 0  # samples (a window of a device) with a label among them, as learnt
    held_back: int = 0  # labels that contradict others


@dataclass(frozen=True, slots=True)
class Command:
    """A value that the response wants in a writable tag."""

    command_id: str
    window_id: int
    device: str
    tag: str
    value: float
    issued_ns: int
    valid_for_s: float
    reason: str
    closed_ns: int = 0  # close of the window that asked for it


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What became of a command, as read back from the PLC."""

    command_id: str
    window_id: int
    tag: str
    value: float
    status: CommandStatus
    error: str = ""
    read_back: float = float("nan")
    decided_ns: int = 0
    issued_ns: int = 0
    closed_ns: int = 0


@dataclass(frozen=True, slots=True)
class Alarm:
    """One alarm as the operator sees it."""

    key: str  # "DEVICE/CATEGORY"
    device: str
    category: str
    attack_type: str
    state: AlarmState
    priority: Priority
    ne107: Ne107
    active: bool  # its condition stands
    annunciated: bool  # to be shown and sounded: active, not suppressed, not held back by a flood
    raised_ns: int  # last change from inactive to active
    changed_ns: int  # last change of any kind
    occurrences: int
    message: str
    shelved_until_ns: int = 0
    user: str = ""  # of the last operator's action
    reason: str = ""


@dataclass(frozen=True, slots=True)
class SettledLabels:
    """What k samples (a window of a device) really were: labels that nobody contradicted in time."""

    at_ns: int
    devices: tuple[str, ...]
    classes: tuple[str, ...]  # "benign", "attack", a category or "category/type"
    window_ids: I64  # (k,)
    device: I64  # (k,) place in `devices`
    label: I64  # (k,) place in `classes`

    def __len__(self) -> int:
        return len(self.window_ids)


@dataclass(frozen=True, slots=True)
class StageFigures:
    """Candidate and parent, side by side, since the stage began."""

    windows: int = 0
    labelled: int = 0  # samples with a label
    errors: int = 0  # of the candidate on these
    parent_errors: int = 0
    false_alarms: int = 0  # of the candidate on benign samples
    parent_false_alarms: int = 0
    latency_s: float = float("nan")  # mean from the end of a window to the verdict
    parent_latency_s: float = float("nan")


@dataclass(frozen=True, slots=True)
class CandidateState:
    """The version of the models that is on its way into service."""

    at_ns: int
    stage: Stage = Stage.NONE
    held: bool = False  # an operator keeps it in this stage
    scenario: str = ""  # "" | "A" | "B"
    version: str = ""
    parent: str = ""  # that it is to replace, and that is gone back to
    devices: tuple[str, ...] = ()  # of the canary
    since_ns: int = 0  # in this stage
    reason: str = ""
    figures: StageFigures = StageFigures()


@dataclass(frozen=True, slots=True)
class Incident:
    """A labelled stretch of ground truth."""

    name: str
    kind: str  # "fault" | "attack"
    category: str
    type: str
    device: str
    onset_ns: int
    end_ns: int
    devices: tuple[str, ...] = field(default_factory=tuple)  # all that it touches
    attack_id: str | None = None


def abstention(
    source: str,
    window: FeatureWindow,
    why: str,
    screening: Screening = Screening.UNKNOWN,
    rows: Sequence[int] | None = None,
) -> Verdicts:
    """Verdicts of a source without a score for `window`, or for the devices of `rows`; `why` says so."""
    devices = window.devices if rows is None else tuple(window.devices[i] for i in rows)
    n = len(devices)
    return Verdicts(
        source,
        window.window_id,
        window.end_ns,
        window.closed_ns,
        devices,
        np.full(n, screening, np.uint8),
        np.zeros(n, np.float32),
        abstained=why,
        partial=rows is not None,
    )


def severity(status: U32) -> U8:
    """Severity of each StatusCode, shape (n,): 0 good, 1 uncertain, 2 bad.

    >>> severity(np.array([0, 0x40920000, 0x80340000], dtype=np.uint32)).tolist()
    [0, 1, 2]
    """
    bits: U8 = np.minimum(status >> np.uint32(30), np.uint32(2)).astype(np.uint8)
    return bits
