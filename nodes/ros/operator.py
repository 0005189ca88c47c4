"""An operator's line to a running cell: reads a latched topic once, calls services. For the command line."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import rclpy
from cellwatch_msgs import msg as m
from cellwatch_msgs import srv
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor

from cellwatch.models.types import Alarm
from cellwatch.nodes.ros import convert, health, qos

HEALTH_S = 3.0  # every node tells its health once a second
AGAIN_S = 1.0  # DDS loses an answer to a client that the server has not discovered yet: ask again


class NoAnswerError(Exception):
    """The cell does not answer, or refuses; the text says why."""


class RefusedError(NoAnswerError):
    """The cell answers, and refuses."""


class Operator:
    """`with Operator("/demo") as cell: cell.alarms()`. Waits `patience_s` for each answer.

    `warn` is told what went wrong with something that was done all the same, such as an override that could
    not be put on record; by default it goes to stderr.
    """

    def __init__(
        self, namespace: str, patience_s: float = 10.0, *, warn: Callable[[str], object] | None = None
    ) -> None:
        os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        self.namespace, self.patience_s = namespace, patience_s
        self._warn = warn or (lambda text: print(text, file=sys.stderr))
        self._context = rclpy.Context()
        rclpy.init(context=self._context)
        self._node = rclpy.create_node("operator", namespace=namespace, context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def alarms(self) -> tuple[tuple[Alarm, ...], int]:
        """All alarms, and how many a flood holds back."""
        msg = self._latched(m.AlarmArray, "alarms")
        return convert.alarms(msg), msg.flooded

    def taken(self) -> tuple[list[str], list[str]]:
        """What is overridden, and what is in maintenance."""
        msg = self._latched(m.ResponseState, "response_state")
        return list(msg.overridden), list(msg.maintenance)

    def acknowledge(self, key: str, user: str, reason: str) -> None:
        self._call(srv.AckAlarm, "fusion_node/acknowledge_alarm", key=key, user=user, reason=reason)

    def shelve(self, key: str, duration_s: float, user: str, reason: str) -> None:
        """For 0 s: take it back."""
        what = {"key": key, "duration": float(duration_s), "user": user, "reason": reason}
        self._call(srv.ShelveAlarm, "fusion_node/shelve_alarm", **what)

    def set_out_of_service(self, key: str, user: str, reason: str, *, out: bool) -> None:
        what = {"key": key, "out_of_service": out, "user": user, "reason": reason}
        self._call(srv.SetOutOfService, "fusion_node/set_out_of_service", **what)

    def set_override(self, target: str, user: str, reason: str, *, on: bool) -> None:
        what = {"target": target, "overridden": on, "user": user, "reason": reason}
        self._call(srv.SetOverride, "fusion_node/set_override", **what)

    def set_maintenance(self, target: str, user: str, reason: str, *, on: bool) -> None:
        what = {"target": target, "maintenance": on, "user": user, "reason": reason}
        self._call(srv.SetMaintenance, "fusion_node/set_maintenance", **what)

    def label(
        self, label: str, span_ns: tuple[int, int], devices: Iterable[str], user: str, reason: str
    ) -> tuple[int, int, int]:
        """Say what the windows within a stretch of time were: samples accepted, expired, held back."""
        start, end = map(convert.time_msg, span_ns)
        what = {"start": start, "end": end, "devices": list(devices), "label": label}
        answer = self._call(srv.SubmitLabel, "drift_node/submit_label", **what, source=user, comment=reason)
        return answer.accepted, answer.expired, answer.held_back

    def move_candidate(self, action: int, user: str, reason: str) -> None:
        """`action`: a constant of MoveCandidate."""
        self._call(srv.MoveCandidate, "retrain_node/move_candidate", action=action, user=user, reason=reason)

    def arm(self, link: str, user: str, reason: str) -> None:
        """Arm one link, by the name of its node."""
        self._call(srv.SetArmed, f"{link}/set_armed", armed=True, user=user, reason=reason)

    def disarm(self, links: Iterable[str], user: str, reason: str) -> list[str]:
        """Disarm all links at once: a silent one does not hold up the others. Returns the silent ones."""
        request = srv.SetArmed.Request(armed=False, user=user, reason=reason)
        questions = {
            link: _Question(self._node, srv.SetArmed, f"{link}/set_armed", request) for link in links
        }
        with suppress(NoAnswerError):
            self._await(lambda: None not in [q.ask() for q in questions.values()], "")
        for question in questions.values():
            question.close()
        for question in questions.values():
            if question.answer is not None:
                self._check(question)
        return [link for link, question in questions.items() if question.answer is None]

    def armed(self, links: Iterable[str]) -> dict[str, bool | None]:
        """Which links are armed, as their health says; None for one that says nothing."""
        found: dict[str, bool | None] = dict.fromkeys(links)

        def hear(msg: DiagnosticArray) -> None:
            for status, values in health.statuses(msg, self.namespace):
                if status.name in found:
                    found[status.name] = values["armed"] == "1" if "armed" in values else None

        subscription = self._node.create_subscription(DiagnosticArray, "/diagnostics", hear, qos.DIAGNOSTICS)
        with suppress(NoAnswerError):
            self._await(lambda: None not in found.values(), "", min(self.patience_s, HEALTH_S))
        self._node.destroy_subscription(subscription)
        return found

    def _latched(self, kind: type, topic: str) -> Any:
        heard: list[Any] = []
        subscription = self._node.create_subscription(kind, topic, heard.append, qos.heard(topic))
        try:
            self._await(lambda: bool(heard), f"no cell answers at {self.namespace}; is it running?")
        finally:
            self._node.destroy_subscription(subscription)
        return heard[-1]

    def _call(self, kind: Any, service: str, **fields: Any) -> Any:
        question = _Question(self._node, kind, service, kind.Request(**fields))
        try:
            self._await(question.ready, f"no cell answers at {self.namespace}; is it running?")
            self._await(question.ask, f"{self.namespace}/{service} does not answer")
        finally:
            question.close()
        self._check(question)
        return question.answer

    def _check(self, question: _Question) -> None:
        answer = question.answer
        if answer.error_code != answer.NONE:
            again = (
                "; it was asked again, and may have been done the first time" if question.asked > 1 else ""
            )
            raise RefusedError(answer.error_msg + again)
        if answer.error_msg:
            self._warn(answer.error_msg)

    def _await(self, ready: Callable[[], bool], otherwise: str, patience_s: float | None = None) -> None:
        deadline = time.monotonic() + (self.patience_s if patience_s is None else patience_s)
        while not ready():
            if time.monotonic() > deadline:
                raise NoAnswerError(otherwise)
            self._executor.spin_once(timeout_sec=0.05)


class _Question:
    """One request, asked again every `AGAIN_S` until it is answered."""

    def __init__(self, node: Any, kind: Any, service: str, request: Any) -> None:
        self.asked = 0
        self.answer: Any = None
        self._node, self._request = node, request
        self._client = node.create_client(kind, service)
        self._futures: list[Any] = []
        self._next_s = 0.0

    def ready(self) -> bool:
        return bool(self._client.service_is_ready())

    def ask(self) -> Any:
        """The answer, None while there is none."""
        self.answer = next((f.result() for f in self._futures if f.done()), None)
        now = time.monotonic()
        if self.answer is None and now >= self._next_s and self.ready():
            self._futures.append(self._client.call_async(self._request))
            self._next_s = now + AGAIN_S
            self.asked += 1
        return self.answer

    def close(self) -> None:
        self._node.destroy_client(self._client)
