"""What the REST face takes and gives. Times are seconds since the epoch; a number that is none is null."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _seconds(ns: Any) -> Any:
    return ns / 1e9 if ns else None


def _ordered(value: Any) -> Any:
    return value.name if hasattr(value, "name") else value


Number = Annotated[float | None, BeforeValidator(_finite)]
Moment = Annotated[float | None, BeforeValidator(_seconds)]  # of ns; null = never
Name = Annotated[str, BeforeValidator(_ordered)]  # of an enum
# No control characters, nor such that turn the direction of writing: they would forge lines of the audit log.
_NOT = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_PLAIN, _NOT_BLANK = rf"^[^{_NOT}]*$", rf"^[^{_NOT}]*[^{_NOT}\s][^{_NOT}]*$"
Text = Annotated[str, StringConstraints(max_length=500, pattern=_PLAIN), AfterValidator(str.strip)]
Said = Annotated[str, StringConstraints(max_length=500, pattern=_NOT_BLANK), AfterValidator(str.strip)]
Key = Annotated[str, StringConstraints(min_length=3, max_length=200, pattern=_PLAIN)]
EPOCH_END_S = 4_000_000_000.0  # ROS's seconds are int32 unsigned: until 2096


class Out(BaseModel):
    """An answer, made of a value of the cell."""

    model_config = ConfigDict(from_attributes=True)


class In(BaseModel):
    """A request; what it does not know is refused."""

    model_config = ConfigDict(extra="forbid")


class Problem(BaseModel):
    """Why something was not done."""

    detail: str


class SessionOut(Out):
    user: str
    role: str
    csrf: str  # send it as X-CSRF-Token with every POST
    login: bool  # false: this page needs no log-in
    note: str
    cell: str


class Done(BaseModel):
    """It was done; the warnings say what else is to be known, such as that it is not on record."""

    warnings: list[str] = []


class Health(Out):
    cell: str
    level: str  # the worst of the nodes: ok, warn, error, silent; "silent" also when nothing was heard yet
    nodes: list[NodeOut]
    losses: list[LossOut]
    armed: dict[str, bool | None]
    overridden: list[str]
    maintenance: list[str]


class NodeOut(Out):
    name: str
    level: str
    message: str
    counters: dict[str, float]
    age_s: float
    restarts: int


class LossOut(Out):
    node: str
    what: str
    count: int


class DeviceOut(Out):
    name: str
    kind: str
    decision: Name
    probability: Number
    threshold: Number
    category: str
    attack_type: str
    explanation: str
    since_s: Moment = Field(validation_alias="since_ns")
    at_s: Moment = Field(validation_alias="at_ns")


class TagOut(Out):
    name: str
    device: str
    plc: str
    unit: str
    low: Number
    high: Number
    value: Number
    quality: str
    age_s: Number
    writable: bool


class ViolationOut(Out):
    feature: str
    observed: Number
    low: Number
    high: Number
    rule: str
    category: str
    attack_id: str
    message: str


class ContributionOut(Out):
    detector: str
    score: Number
    weight: Number


class VerdictOut(Out):
    window_id: int
    end_s: float
    device: str
    decision: Name
    probability: Number
    threshold: Number
    category: str
    category_confidence: Number
    attack_type: str
    attack_type_confidence: Number
    rules_confidence: Number
    agreeing: list[str]
    conflict: bool
    explanation: str
    violations: list[ViolationOut]
    contributions: list[ContributionOut]


class CommentOut(Out):
    at_s: Moment = Field(validation_alias="at_ns")
    user: str
    text: str


class AlarmOut(Out):
    key: str
    device: str
    category: str
    attack_type: str
    state: Name
    priority: Name
    ne107: Name
    active: bool
    annunciated: bool
    raised_s: Moment = Field(validation_alias="raised_ns")
    changed_s: Moment = Field(validation_alias="changed_ns")
    occurrences: int
    message: str
    shelved_until_s: Moment = Field(validation_alias="shelved_until_ns")
    user: str
    reason: str


class AlarmsOut(BaseModel):
    flooded: int  # standing alarms that a flood holds back
    alarms: list[AlarmOut]


class ShareOut(BaseModel):
    feature: str
    share: Number  # of P(attack)


class ExplanationOut(Out):
    key: str
    device: str
    category: str
    attack_type: str
    decision: Name
    probability: Number
    threshold: Number
    sentence: str
    violations: list[ViolationOut]
    contributions: list[ContributionOut]
    agreeing: list[str]
    conflict: bool
    shares: list[ShareOut]
    shares_in_words: str
    window_id: int
    end_s: Moment = Field(validation_alias="end_ns")
    first_s: Moment = Field(validation_alias="first_ns")
    comments: list[CommentOut] = []


class CommandOut(Out):
    command_id: str
    window_id: int
    device: str
    tag: str
    value: Number
    reason: str
    status: str
    words: str
    read_back: Number
    issued_s: Moment = Field(validation_alias="issued_ns")
    decided_s: Moment = Field(validation_alias="decided_ns")


class ModelsOut(Out):
    node: str
    version: str
    detectors: list[str]
    failed: list[str]
    detail: str


class FigureOut(Out):
    monitor: str
    value: Number
    limit: Number
    place: str


class DriftOut(Out):
    at_s: Moment = Field(validation_alias="at_ns")
    state: Name
    level: Name
    version: str
    scenario: str
    since_s: Moment = Field(validation_alias="since_ns")
    figures: list[FigureOut]
    reasons: list[str]
    windows: int
    labelled: int
    held_back: int


class StageFiguresOut(Out):
    windows: int
    labelled: int
    errors: int
    parent_errors: int
    false_alarms: int
    parent_false_alarms: int
    latency_s: Number
    parent_latency_s: Number


class CandidateOut(Out):
    at_s: Moment = Field(validation_alias="at_ns")
    stage: Name
    held: bool
    scenario: str
    version: str
    parent: str
    devices: list[str]
    since_s: Moment = Field(validation_alias="since_ns")
    reason: str
    figures: StageFiguresOut


class SeriesOut(BaseModel):
    """Least and greatest value of each stretch; equal where a stretch holds one value."""

    time_s: list[float]
    low: list[Number]
    high: list[Number]


# Requests --------------------------------------------------------------------------------------------------
class LoginIn(In):
    user: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_PLAIN)]
    password: Annotated[str, StringConstraints(min_length=1, max_length=256)]


class ReasonIn(In):
    reason: Text = ""


class ArmIn(ReasonIn):
    links: list[Said] = Field([], max_length=64)  # empty: all


class AlarmIn(ReasonIn):
    key: Key  # DEVICE/CATEGORY


class CommentIn(In):
    key: Key
    reason: Said  # the comment


class ShelveIn(AlarmIn):
    duration_s: Annotated[float, Field(ge=0, le=604_800, allow_inf_nan=False)]  # 0: take it back


class ServiceIn(AlarmIn):
    out: bool  # false: return it to service


class TargetIn(ReasonIn):
    target: Said  # a tag, a device, or * for the whole cell
    on: bool


class MoveIn(ReasonIn):
    action: Literal["promote", "hold", "release", "reject", "roll_back"]


def _begins_first(label: LabelIn) -> LabelIn:
    if label.start_s >= label.end_s:
        raise ValueError("start_s must lie before end_s")
    return label


class LabelIn(In):
    label: Said  # benign, attack, a category (dos), or a type (dos/syn-flood)
    start_s: Annotated[float, Field(ge=0, le=EPOCH_END_S, allow_inf_nan=False)]
    end_s: Annotated[float, Field(ge=0, le=EPOCH_END_S, allow_inf_nan=False)]
    devices: list[Said] = Field([], max_length=1000)  # empty: all
    comment: Text = ""


Label = Annotated[LabelIn, AfterValidator(_begins_first)]


class LabelDone(Done):
    accepted: int  # samples (a window of a device) that have the label now
    expired: int  # unknown, or no longer kept
    held_back: int  # contradict other labels
