"""Cell manager: brings the nodes up, notices the ones that fall, and brings them back.

Subscribes  /diagnostics, and every topic of the cell for the ledger of the run
Publishes   labels: ground truth, where the host knows it (a simulated or replayed plant)
            heartbeat: without it no command is written
Calls       <node>/change_state of each managed node
Parameters  nodes: their names, sinks first

`cellwatch run` hosts it in its own process; `ros2 launch` starts it as a node.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import rclpy
from cellwatch_msgs import msg as m
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State, Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.node import Node
from std_msgs.msg import Header

from cellwatch.models.types import Incident
from cellwatch.nodes.cell import DASHBOARD
from cellwatch.nodes.report import Ledger
from cellwatch.nodes.ros import convert, health, qos
from cellwatch.nodes.ros.node import init_until_signalled, make_executor, spin

TRANSITION_TIMEOUT_S = 5.0
# A question may be lost while two processes are still finding each other; asking again is cheap.
QUESTION_TIMEOUT_S = 0.3
SILENCE_S = 4.0
RETRY_S = 1.0
HEARTBEAT_S = 0.5


@dataclass
class Managed:
    """One node as the manager sees it."""

    name: str
    get_state: Any
    change_state: Any
    state: str = "starting"
    healthy: bool = False  # says so itself
    warns: bool = False
    message: str = ""  # its own words
    refusal: str = ""  # why it could not be configured
    restarts: int = 0
    pid: int = 0
    heard_s: float = 0.0
    counters: dict[str, float] = field(default_factory=dict)  # of this life
    earlier: Counter[str] = field(default_factory=Counter)  # of former lives
    future: Any = None
    asked_s: float = 0.0
    wish: int = 0  # transition asked for
    not_before_s: float = 0.0

    def total(self, key: str) -> int:
        """A counter over all lives of the node."""
        return int(self.earlier[key] + self.counters.get(key, 0))


class CellManagerNode(Node):
    """Lifecycle manager and ledger."""

    def __init__(self, names: list[str] | None = None, ledger: Ledger | None = None) -> None:
        super().__init__("cell_manager_node")
        if names is None:
            names = list(self.declare_parameter("nodes", [""]).value)
        self.ledger = ledger or Ledger()
        self.nodes = {
            name: Managed(
                name,
                self.create_client(GetState, f"{name}/get_state"),
                self.create_client(ChangeState, f"{name}/change_state"),
            )
            for name in names
        }
        self.wanted = True
        self.held: set[str] = set()  # nodes that stay inactive for now
        self.optional = {DASHBOARD}  # nodes that nobody waits for
        self._labels = self.create_publisher(m.Label, "labels", qos.TOPICS["labels"])
        self.create_timer(0.02, self._advance_all)
        self._heartbeat = self.create_publisher(Header, "heartbeat", qos.TOPICS["heartbeat"])
        self.create_timer(HEARTBEAT_S, self._beat)
        self.create_subscription(DiagnosticArray, "/diagnostics", self._diagnostics, qos.DIAGNOSTICS)
        self._listen()

    def _listen(self) -> None:
        led = self.ledger
        now = time.time_ns
        for kind, topic, callback in (
            (m.TagBatch, "tags", lambda x: led.on_tags(convert.tags(x), now())),
            (m.TrafficBatch, "traffic", lambda x: led.on_traffic(convert.traffic(x))),
            (m.FeatureWindow, "features", lambda x: led.on_features(convert.features(x))),
            (m.VerdictArray, "verdicts/rules", lambda x: led.on_verdicts(convert.verdicts(x))),
            (m.VerdictArray, "verdicts/ensemble", lambda x: led.on_verdicts(convert.verdicts(x))),
            (m.VerdictArray, "verdicts/ewad", lambda x: led.on_verdicts(convert.verdicts(x))),
            (m.FusedVerdictArray, "verdicts/fused", lambda x: led.on_fused(convert.fused(x), now())),
            (m.DriftEvent, "drift", lambda x: led.on_drift(convert.drift(x))),
            (m.ActuatorCommand, "commands", lambda _: led.on_command()),
            (m.ActuatorResult, "command_results", lambda x: led.on_result(convert.result(x))),
        ):
            self.create_subscription(kind, topic, callback, qos.heard(topic))

    def _beat(self) -> None:
        self._heartbeat.publish(Header(stamp=convert.time_msg(time.time_ns()), frame_id=self.get_name()))

    # What the host asks ------------------------------------------------------
    @property
    def up(self) -> bool:
        return all(
            n.state == ("inactive" if name in self.held else "active")
            for name, n in self.nodes.items()
            if name not in self.optional
        )

    def publish_label(self, incident: Incident) -> None:
        """Ground truth for whoever listens; called from the host's thread."""
        self._labels.publish(convert.label_msg(incident))

    def restarted(self, name: str) -> None:
        """The host started a new process for `name`."""
        node = self.nodes[name]
        node.restarts += 1
        self._forget(node)

    def take_down(self, name: str, timeout_s: float = 5.0) -> bool:
        """Deactivate one node and wait; called from another thread than the executor's."""
        self.wanted = False
        node = self.nodes[name]
        node.future = None
        if node.state != "active" or not node.change_state.service_is_ready():
            return False
        done = threading.Event()
        future = node.change_state.call_async(_request(Transition.TRANSITION_DEACTIVATE))
        future.add_done_callback(lambda _: done.set())
        if not done.wait(timeout_s):
            return False
        node.state = "inactive"
        return True

    # Lifecycle ---------------------------------------------------------------
    def _advance_all(self) -> None:
        if not self.wanted:
            return
        before_up = True
        for node in self.nodes.values():
            self._advance(node, may_activate=before_up)
            before_up = before_up and (
                node.state == "active" or node.restarts > 0 or node.name in self.held | self.optional
            )

    def _advance(self, node: Managed, *, may_activate: bool) -> None:
        now = time.monotonic()
        future = node.future  # the host may drop it meanwhile, from its own thread
        if future is not None:
            if future.done():
                node.future = None
                self._answered(node, future.result())
            elif now - node.asked_s > (TRANSITION_TIMEOUT_S if node.wish else QUESTION_TIMEOUT_S):
                # It was lost, or went to a process that is no more.
                future.cancel()
                node.future = None
                node.state = "starting"
            return
        if now < node.not_before_s:
            return
        if node.state == "starting" and node.get_state.service_is_ready():
            self._ask(node, node.get_state, GetState.Request(), 0)
        elif node.state == "unconfigured" and node.change_state.service_is_ready():
            self._ask(
                node,
                node.change_state,
                _request(Transition.TRANSITION_CONFIGURE),
                State.PRIMARY_STATE_INACTIVE,
            )
        elif (
            node.state == "inactive"
            and node.name not in self.held
            and may_activate
            and node.change_state.service_is_ready()
        ):
            self._ask(
                node, node.change_state, _request(Transition.TRANSITION_ACTIVATE), State.PRIMARY_STATE_ACTIVE
            )
        elif node.state == "active" and now - node.heard_s > SILENCE_S:
            node.state = "silent"

    def _ask(self, node: Managed, client: Any, request: Any, wish: int) -> None:
        node.asked_s, node.wish = time.monotonic(), wish
        node.future = client.call_async(request)

    def _answered(self, node: Managed, answer: Any) -> None:
        if isinstance(answer, GetState.Response):
            node.state = {
                State.PRIMARY_STATE_UNCONFIGURED: "unconfigured",
                State.PRIMARY_STATE_INACTIVE: "inactive",
                State.PRIMARY_STATE_ACTIVE: "active",
            }.get(answer.current_state.id, "starting")
        elif answer is not None and answer.success:
            node.state = "inactive" if node.wish == State.PRIMARY_STATE_INACTIVE else "active"
            node.refusal = ""
        else:
            node.state = "starting"
            node.not_before_s = time.monotonic() + RETRY_S
        node.heard_s = time.monotonic()

    # Health ------------------------------------------------------------------
    def _diagnostics(self, msg: DiagnosticArray) -> None:
        for status, values in health.statuses(msg, self.get_namespace()):
            node = self.nodes.get(status.name.rsplit("/", 1)[-1])
            if node is None:
                continue
            pid = int(values.pop("pid", 0))
            if node.pid and pid != node.pid and node.counters:  # a new life that the host has not announced
                self._forget(node)
            node.pid = pid
            node.heard_s = time.monotonic()
            node.counters = {k: float(v) for k, v in values.items() if _is_number(v)}
            node.message = status.message
            node.warns = status.level != DiagnosticStatus.OK and values.get("active") == "1"
            node.healthy = status.level != DiagnosticStatus.ERROR and values.get("active") == "1"
            if status.level == DiagnosticStatus.ERROR and values.get("active") == "0":
                node.refusal = status.message
            if node.state == "silent" or (
                node.state == "active" and values.get("active") == "0" and self.wanted
            ):
                node.state = "starting"

    @staticmethod
    def _forget(node: Managed) -> None:
        node.earlier.update(node.counters)
        node.counters = {}
        node.state, node.future, node.pid = "starting", None, 0
        node.not_before_s = 0.0


class HostedManager:
    """The manager in a process that is not a node itself: its own ROS context and spinning thread."""

    def __init__(self, namespace: str, names: list[str], ledger: Ledger) -> None:
        rclpy.init(
            args=["--ros-args", "-r", f"__ns:={namespace}"],
            signal_handler_options=rclpy.signals.SignalHandlerOptions.NO,
        )
        self.node = CellManagerNode(names, ledger)
        executor = make_executor()
        executor.add_node(self.node)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=spin, args=(executor, self._stop), daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(timeout=2.0)
        self.node.destroy_node()
        rclpy.try_shutdown()


def _request(transition: int) -> Any:
    request = ChangeState.Request()
    request.transition.id = transition
    return request


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def main() -> None:
    stop = init_until_signalled()
    node = CellManagerNode()
    executor = make_executor()
    executor.add_node(node)
    spin(executor, stop)
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
