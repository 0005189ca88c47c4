"""What operators may ask of the response, as services of the fusion node, and what they are shown.

Publishes   alarms (AlarmArray, latched), response_state (ResponseState, latched)
Services    ~/acknowledge_alarm, ~/shelve_alarm, ~/set_out_of_service, ~/set_override, ~/set_maintenance

Everything an operator does is on record. What takes power from the cell (an override, maintenance) counts at
once; what gives it back, and what hides an alarm, counts only once it is on record.
"""

from __future__ import annotations

import difflib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cellwatch_msgs import msg as m
from cellwatch_msgs import srv

from cellwatch.models.types import Alarm
from cellwatch.nodes.ros import convert

TELL_NS = 500_000_000
SAVE_NS = 1_000_000_000


class OperatorDesk:
    """Services, state file and topics around a `Response`. ValueError where the state file is damaged.

    `write(file, text)` replaces a file whole; `audit` is an `AuditLog` or None.
    """

    def __init__(
        self,
        node: Any,
        response: Any,
        audit: Any,
        state_file: Path | None,
        write: Callable[[Path, str], None],
    ) -> None:
        self._node, self._response, self._audit = node, response, audit
        self._file, self._write = state_file, write
        self.overridden: set[str] = set()
        self.maintenance: set[str] = set()
        self._told: tuple[tuple[Alarm, ...], int] | None = None
        self._holds: dict[str, Any] = {}  # what the response has set, as last looked at
        self._unsaved = False
        self._next_ns = self._save_ns = 0  # monotonic
        self._load()
        self._alarms = node.publisher(m.AlarmArray, "alarms")
        self._state = node.publisher(m.ResponseState, "response_state")
        self._services = [
            node.create_service(kind, f"~/{name}", callback)
            for kind, name, callback in (
                (srv.AckAlarm, "acknowledge_alarm", self._acknowledge),
                (srv.ShelveAlarm, "shelve_alarm", self._shelve),
                (srv.SetOutOfService, "set_out_of_service", self._out_of_service),
                (srv.SetOverride, "set_override", self._override),
                (srv.SetMaintenance, "set_maintenance", self._maintain),
            )
        ]

    def step(self, now_ns: int) -> None:
        """Twice a second: let time pass for the alarms; tell and keep them if they have changed."""
        monotonic_ns = time.monotonic_ns()
        if monotonic_ns < self._next_ns:
            return
        self._next_ns = monotonic_ns + TELL_NS
        alarms = self._response.alarms
        alarms.keep_time(now_ns, monotonic_ns)
        alarms.tick(now_ns)
        shown, holds = (alarms.alarms(), alarms.flooded), self._response.holds()
        self._unsaved |= shown != self._told or holds != self._holds
        self._holds = holds
        if shown != self._told:
            self._told = shown
            self._node.say(self._alarms, convert.alarms_msg(*shown, now_ns))
        if self._unsaved and monotonic_ns >= self._save_ns:
            self._save_ns = monotonic_ns + SAVE_NS
            self.save()

    def tell(self) -> None:
        """Say what is overridden and in maintenance, and the alarms, now."""
        now_ns = time.time_ns()
        out = m.ResponseState(overridden=sorted(self.overridden), maintenance=sorted(self.maintenance))
        out.header.stamp, out.header.frame_id = convert.time_msg(now_ns), "cell"
        self._node.say(self._state, out)
        self._next_ns = 0
        self.step(now_ns)

    def save(self) -> None:
        """Write the state file; a failure is told, not raised."""
        if self._file is None:
            return
        state = {
            "overridden": sorted(self.overridden),
            "maintenance": sorted(self.maintenance),
            "alarms": self._response.alarms.to_dict(),
            "holds": self._response.holds(),
        }
        try:
            self._write(self._file, json.dumps(state))
            self._unsaved = False
        except OSError as error:
            self._node.news("state", f"{self._file}: {error.strerror}")

    def close(self) -> None:
        """Withdraw the services."""
        for service in self._services:
            self._node.destroy_service(service)
        self._services.clear()

    # The services -------------------------------------------------------------
    def _acknowledge(self, request: Any, response: Any) -> Any:
        alarms, key, user = self._response.alarms, request.key, request.user
        return self._record(
            response, "acknowledge", request, lambda now: alarms.acknowledge(key, user, now, request.reason)
        )

    def _shelve(self, request: Any, response: Any) -> Any:
        alarms, key, user, why = self._response.alarms, request.key, request.user, request.reason
        if request.duration == 0:
            return self._record(
                response, "unshelve", request, lambda now: alarms.unshelve(key, user, now, why)
            )
        span = request.duration
        return self._record(
            response, "shelve", request, lambda now: alarms.shelve(key, span, user, why, now), duration_s=span
        )

    def _out_of_service(self, request: Any, response: Any) -> Any:
        alarms, key, user, why = self._response.alarms, request.key, request.user, request.reason
        if request.out_of_service:
            return self._record(
                response, "out_of_service", request, lambda now: alarms.out_of_service(key, user, why, now)
            )
        return self._record(
            response, "return_to_service", request, lambda now: alarms.return_to_service(key, user, now, why)
        )

    def _override(self, request: Any, response: Any) -> Any:
        return self._take(response, "override", request, self.overridden, on=request.overridden)

    def _maintain(self, request: Any, response: Any) -> Any:
        return self._take(response, "maintenance", request, self.maintenance, on=request.maintenance)

    def _record(
        self, response: Any, event: str, request: Any, do: Callable[[int], None], **more: float
    ) -> Any:
        """Do something with an alarm, and put it on record; what cannot be recorded is undone."""
        alarms = self._response.alarms
        before = alarms.to_dict()
        now_ns = time.time_ns()
        alarms.keep_time(now_ns, time.monotonic_ns())
        try:
            do(now_ns)
            if self._audit:
                self._audit.operator(
                    event, user=request.user, reason=request.reason, alarm=request.key, **more
                )
        except (ValueError, OSError) as error:
            alarms.load(before)
            response.error_code, response.error_msg = response.REFUSED, str(error)
            return response
        self.save()
        self.tell()
        return response

    def _take(self, response: Any, event: str, request: Any, held: set[str], *, on: bool) -> Any:
        target, user = request.target.strip(), request.user.strip()
        if not target or not user:
            response.error_code = response.REFUSED
            response.error_msg = "say what (a tag, a device or *) and who you are"
            return response
        if on and target not in (known := self._response.names()):
            folded = {name.casefold(): name for name in known}
            near = difflib.get_close_matches(target.casefold(), folded, 1)
            response.error_code = response.REFUSED
            response.error_msg = f"{target} is no tag, method, device or PLC of this cell; " + (
                f"did you mean {folded[near[0]]}?" if near else "* is the whole cell"
            )
            return response
        if on:
            held.add(target)
            self._apply()
        try:
            if self._audit:
                event = event if on else f"{event}_end"
                self._audit.operator(event, user=user, reason=request.reason, target=target)
        except OSError as error:
            response.error_msg = f"not on record: {error}"
            response.error_code = response.NONE if on else response.REFUSED
            return response
        if not on:
            held.discard(target)
            self._apply()
        self.save()
        self._node.get_logger().warning(f"{event} {target} by {user}: {request.reason}")
        return response

    def _apply(self) -> None:
        self._response.hand_over(frozenset(self.overridden), frozenset(self.maintenance), time.time_ns())
        self.tell()

    def _load(self) -> None:
        if self._file is None or not self._file.exists():
            return
        try:
            state = json.loads(self._file.read_text(encoding="utf-8"))
            self.overridden, self.maintenance = set(state["overridden"]), set(state["maintenance"])
            self._response.alarms.restore(state["alarms"], time.time_ns())
            self._response.restore(state.get("holds", {}), time.monotonic_ns())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{self._file}: damaged ({error}); remove it to start with no overrides"
            ) from None
        self._response.hand_over(frozenset(self.overridden), frozenset(self.maintenance), time.time_ns())
