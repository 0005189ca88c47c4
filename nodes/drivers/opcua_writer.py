# asyncua re-exports its generated types without __all__ and narrows int and str to its own NewTypes.
# mypy: disable-error-code="attr-defined,name-defined,arg-type,union-attr"
"""The guard before every write into a PLC, and the write itself.

`WriteGuard.decide` is pure: no clock, no socket. `write_and_verify` writes with the server's own data type
and reads back. "Disarmed" is checked last: a withheld command is one that an armed cell would have sent.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cellwatch.models.types import Command, CommandResult, CommandStatus

if TYPE_CHECKING:  # asyncua takes 0.6 s to import
    from asyncua import Client, ua

MAX_CLOCK_AHEAD_NS = 1_000_000_000  # a command from further in the future has a wrong clock behind it
MAX_IDS = 100_000

_INTEGERS = {
    "SByte": (-(2**7), 2**7 - 1), "Byte": (0, 2**8 - 1), "Int16": (-(2**15), 2**15 - 1),
    "UInt16": (0, 2**16 - 1), "Int32": (-(2**31), 2**31 - 1), "UInt32": (0, 2**32 - 1),
    "Int64": (-(2**63), 2**63 - 1), "UInt64": (0, 2**64 - 1),
}  # fmt: skip


class WriteError(Exception):
    """The value is not confirmed by the PLC."""

    def __init__(self, text: str, read_back: float = math.nan) -> None:
        super().__init__(text)
        self.read_back = read_back


@dataclass(frozen=True, slots=True)
class WriteRule:
    """What the tag map and the server allow for one tag."""

    name: str
    writable: bool = False
    low: float = math.nan
    high: float = math.nan
    min_interval_s: float = 1.0
    data_type: str = ""  # name of the built-in type, "" while unknown


@dataclass(slots=True)
class WriteGuard:
    """Decides on commands; remembers command ids and the time of the last write of each tag."""

    rules: dict[str, WriteRule] = field(default_factory=dict)
    _ids: OrderedDict[str, None] = field(default_factory=OrderedDict)
    _last_ns: dict[str, int] = field(default_factory=dict)

    def set_rules(self, rules: Iterable[WriteRule]) -> None:
        """Take the rules of a new catalogue; rate limits and ids go on."""
        self.rules = {rule.name: rule for rule in rules}

    def decide(
        self, command: Command, now_ns: int, *, armed: bool, objection: str = ""
    ) -> CommandResult | None:
        """None: write it now. Otherwise the result, REFUSED or WITHHELD, with the reason.

        `objection`: why nothing may be written whatever the command says, "" if nothing stands against it.
        """
        refusal = objection or self._refusal(command, now_ns)
        if command.command_id not in self._ids:
            self._ids[command.command_id] = None
            if len(self._ids) > MAX_IDS:
                self._ids.popitem(last=False)
        if refusal:
            return result_of(command, CommandStatus.REFUSED, now_ns, refusal)
        self._last_ns[command.tag] = now_ns
        if not armed:
            return result_of(command, CommandStatus.WITHHELD, now_ns, "the cell is not armed")
        return None

    def _refusal(self, command: Command, now_ns: int) -> str:
        rule = self.rules.get(command.tag)
        age_ns = now_ns - command.issued_ns
        if not command.command_id:
            return "the command has no command_id"
        if command.command_id in self._ids:
            return f"command_id {command.command_id} was used before"
        if rule is None:
            return f"no tag {command.tag!r} in the tag map, or it is not resolved"
        if not rule.writable:
            return f"{command.tag} is not writable in the tag map"
        if not math.isfinite(command.value):
            return f"the value {command.value} is not finite"
        if math.isnan(rule.low) or math.isnan(rule.high):
            return f"{command.tag} has no range; set range in the tag map"
        if not rule.low <= command.value <= rule.high:
            return f"{command.value:g} is outside {rule.low:g} to {rule.high:g}"
        if not _fits(rule.data_type, command.value):
            return f"{command.value:g} is not a value of type {rule.data_type}"
        if not (math.isfinite(command.valid_for_s) and command.valid_for_s > 0):
            return f"valid_for {command.valid_for_s} s is not a span"
        if age_ns < -MAX_CLOCK_AHEAD_NS:
            return f"issued {-age_ns / 1e9:.1f} s in the future: the clocks differ"
        if age_ns > command.valid_for_s * 1e9:
            return f"expired: {age_ns / 1e9:.1f} s old, valid for {command.valid_for_s:g} s"
        since_ns = now_ns - self._last_ns.get(command.tag, now_ns - 2**62)
        # Negative: the clock was set back, maybe by hours, and a tag must not be closed for so long.
        if 0 <= since_ns < rule.min_interval_s * 1e9:
            return f"{since_ns / 1e9:.2f} s after the last write; at least {rule.min_interval_s:g} s apart"
        return ""


def _fits(data_type: str, value: float) -> bool:
    if data_type == "Boolean":
        return value in {0.0, 1.0}
    if data_type in _INTEGERS:
        low, high = _INTEGERS[data_type]
        return value == math.floor(value) and low <= int(value) <= high
    return data_type in {"Float", "Double", ""}


def result_of(
    command: Command, status: CommandStatus, now_ns: int, error: str = "", read_back: float = math.nan
) -> CommandResult:
    """Make the result of a command; its times are carried over."""
    return CommandResult(
        command.command_id, command.window_id, command.tag, command.value, status, error, read_back,
        now_ns, command.issued_ns, command.closed_ns,
    )  # fmt: skip


def confirmed(data_type: str, wanted: float, read: float) -> bool:
    """Is the value read back the value written? Floats within the rounding of their type.

    >>> confirmed("Float", 0.1, 0.10000000149), confirmed("Int16", 3, 4)
    (True, False)
    """
    if data_type == "Float":
        return math.isclose(wanted, read, rel_tol=1e-6, abs_tol=1e-30)
    if data_type == "Double":
        return math.isclose(wanted, read, rel_tol=1e-12, abs_tol=1e-300)
    return wanted == read


async def call_method(client: Client, parent: ua.NodeId, method: ua.NodeId) -> None:
    """Call a method without arguments. Raises `WriteError` where the server refuses it."""
    from asyncua import ua

    request = ua.CallMethodRequest()
    request.ObjectId, request.MethodId, request.InputArguments = parent, method, []
    (result,) = await client.uaclient.session.call([request])
    if not result.StatusCode.is_good():
        raise WriteError(f"the PLC refuses the call: {result.StatusCode.name}")


async def write_and_verify(
    client: Client, node_id: ua.NodeId, value: float, data_type: str, *, within_s: float = 1.0
) -> float:
    """Write one value and read it back until it shows. Returns the value read.

    Raises `WriteError` where the server refuses the write or does not show the value within `within_s`.
    """
    from asyncua import ua

    node = client.get_node(node_id)
    kind = ua.VariantType[data_type] if data_type else (await node.read_data_value()).Value.VariantType
    typed = bool(value) if kind.name == "Boolean" else int(value) if kind.name in _INTEGERS else float(value)
    # neither status nor timestamps: many servers refuse a write that carries them (Part 4, 5.11.4)
    data = ua.DataValue(ua.Variant(typed, kind), None)
    parameters = ua.WriteParameters()
    parameters.NodesToWrite = [ua.WriteValue(node_id, ua.AttributeIds.Value, Value=data)]
    (status,) = await client.uaclient.session.write(parameters)
    if not status.is_good():
        raise WriteError(f"the PLC refuses the write: {status.name}")
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        back = await node.read_data_value(raise_on_bad_status=False)
        raw = back.Value.Value if back.Value is not None else None
        read = float(raw) if isinstance(raw, bool | int | float) else math.nan
        bad = back.StatusCode is not None and back.StatusCode.is_bad()
        if not bad and confirmed(kind.name, value, read):
            return read
        if asyncio.get_running_loop().time() > deadline:
            shown = back.StatusCode.name if bad else f"{read:g}"
            raise WriteError(f"not confirmed: the PLC shows {shown} after {within_s:g} s", read)
        await asyncio.sleep(0.01)
