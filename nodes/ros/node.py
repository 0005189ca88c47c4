"""The lifecycle node every Cellwatch node is made of.

A subclass says what it is made of (`build`), what it does each tick (`step`), what it lets go
(`release`) and how it is (`health`); states, parameters, diagnostics and the executor are here.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from typing import Any, ClassVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from cellwatch.nodes.ros import convert, health, params, qos

HEAR_OUT_S = 2.0  # at most this long for what is still queued when a node goes down

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


class CellNode(LifecycleNode):
    """Base of all nodes: up by `configure` and `activate`, health once a second on /diagnostics."""

    NAME: ClassVar[str]
    PARAMS: ClassVar[type]
    TICK_S: ClassVar[float] = 0.05

    def __init__(self) -> None:
        super().__init__(self.NAME)
        params.declare(self, self.PARAMS)
        self.active = False
        self.publish_errors = 0
        self._news: dict[str, str] = {}
        self._subs: list[Any] = []
        self._pubs: list[Any] = []
        self._timers: list[Any] = []
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", qos.DIAGNOSTICS)
        self._beat_timer = self.create_timer(1.0, self._on_beat)

    # What a subclass writes -------------------------------------------------
    def build(self) -> None:
        """Make core, publishers and subscriptions from `self.params`; ValueError or OSError if impossible."""

    def start(self) -> None:
        """Begin to work (threads, links)."""

    def step(self) -> None:
        """Drain, work, publish; called every TICK_S while active."""

    def stop(self) -> None:
        """End the work; a last chance to flush."""

    def release(self) -> None:
        """Let go of what `build` made."""

    def health(self) -> tuple[bytes, str, dict[str, object]]:
        """Level, one line, counters (they only grow during one life of the process)."""
        return OK, "", {}

    # Help for subclasses ----------------------------------------------------
    def publisher(self, kind: type, topic: str) -> Any:
        pub = self.create_publisher(kind, topic, qos.TOPICS[topic])
        self._pubs.append(pub)
        return pub

    def subscribe(self, kind: type, topic: str, callback: Any, *, raw: bool = False) -> None:
        """Hear a topic; `raw`: as serialised bytes, which costs nothing to keep."""
        self._subs.append(self.create_subscription(kind, topic, callback, qos.heard(topic), raw=raw))

    def say(self, pub: Any, msg: Any) -> bool:
        """Publish; a failing middleware is counted, never fatal."""
        try:
            pub.publish(msg)
        except Exception as error:
            self.publish_errors += 1
            self.news("publish", f"publishing failed: {error}")
            return False
        self.good_news("publish", "publishing works again")
        return True

    def news(self, key: str, text: str) -> None:
        """Log a trouble once: WARNING first, DEBUG while it lasts."""
        if self._news.get(key) == text:
            self.get_logger().debug(text)
        else:
            self.get_logger().warning(text)
            self._news[key] = text

    def good_news(self, key: str, text: str) -> None:
        """Log a recovery once."""
        if self._news.pop(key, None) is not None:
            self.get_logger().info(text)

    # Lifecycle --------------------------------------------------------------
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            self.params = params.read(self, self.PARAMS)
            self.build()
        except (ValueError, OSError) as error:
            self.get_logger().error(str(error))
            self.tell_health(ERROR, str(error))
            self._drop()
            return TransitionCallbackReturn.FAILURE
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        result = super().on_activate(state)
        self.start()
        self.active = True
        self._timers.append(self.create_timer(self.TICK_S, self._tick))
        self.tell_health()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._halt()
        self.tell_health()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._drop()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._halt()
        self.tell_health()
        self._drop()
        return super().on_shutdown(state)

    def end(self) -> None:
        """Stop, say a last word, let go: the process is about to end."""
        self._halt()
        self.tell_health()
        self.release()

    def _halt(self) -> None:
        if self.active:
            self._hear_out()
            self.active = False
            for timer in self._timers:
                self.destroy_timer(timer)
            self._timers.clear()
            self.stop()

    def _hear_out(self) -> None:
        """Take what was said before the end and not yet heard: a busy node must not lose it."""
        until = time.monotonic() + HEAR_OUT_S
        for sub in self._subs:
            with sub.handle:
                while time.monotonic() < until and (taken := sub.handle.take_message(sub.msg_type, sub.raw)):
                    sub.callback(taken[0])

    def _drop(self) -> None:
        self.release()
        for sub in self._subs:
            self.destroy_subscription(sub)
        for pub in self._pubs:
            self.destroy_publisher(pub)
        self._subs.clear()
        self._pubs.clear()

    def _on_beat(self) -> None:  # rclpy hands a TimerInfo to a callback that could take one
        self.tell_health()

    def _tick(self) -> None:
        if self.active:
            self.step()

    def tell_health(self, level: bytes | None = None, text: str = "") -> None:
        counters: dict[str, object] = {}
        if level is None:
            level, text = OK, "unconfigured"
            if self.active or self._subs or self._pubs:
                level, text, counters = self.health()
                if not self.active:  # not at work, so nothing is wrong with it yet
                    level, text = OK, "inactive"
        counters |= {"pid": os.getpid(), "active": int(self.active), "publish_errors": self.publish_errors}
        status = DiagnosticStatus(
            level=level,
            name=self.get_name(),
            message=text,
            hardware_id=health.hardware_id(self.get_namespace()),
        )
        status.values = [KeyValue(key=k, value=str(v)) for k, v in counters.items()]
        msg = DiagnosticArray(status=[status])
        msg.header.stamp = convert.time_msg(time.time_ns())
        try:
            self._diagnostics.publish(msg)
        except Exception:
            self.publish_errors += 1


def die_with_parent() -> None:
    """A node that `cellwatch run` started must not outlive it (Linux)."""
    parent = os.environ.get("CELLWATCH_PARENT")
    if parent:
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != int(parent):
            raise SystemExit(0)


def make_executor() -> Any:
    """EventsExecutor (a third of the CPU per message) where it works, else the single-threaded one."""
    if os.environ.get("CELLWATCH_EXECUTOR") != "single":
        try:
            from rclpy.experimental import EventsExecutor

            return EventsExecutor()
        except (ImportError, RuntimeError):
            pass
    return SingleThreadedExecutor()


def spin(executor: Any, stop: threading.Event) -> None:
    """Spin in short turns: EventsExecutor.spin() may hang without callbacks."""
    while not stop.is_set() and rclpy.ok():
        executor.spin_once(timeout_sec=0.2)


def init_until_signalled() -> threading.Event:
    """Start ROS for this process; the event is set by SIGINT or SIGTERM."""
    stop = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: stop.set())
    rclpy.init(signal_handler_options=rclpy.signals.SignalHandlerOptions.NO)
    return stop


def run(*classes: type[CellNode], up: bool = False) -> int:
    """`main` of a node, or of several in one process: until SIGINT or SIGTERM.

    With `up` they bring themselves up, in this order; 1 if one cannot, which has said why.
    """
    die_with_parent()
    stop = init_until_signalled()
    nodes = [one() for one in classes]
    executor = make_executor()
    done = TransitionCallbackReturn.SUCCESS
    try:
        for node in nodes:
            if up and not (node.trigger_configure() == done and node.trigger_activate() == done):
                return 1
            executor.add_node(node)
        spin(executor, stop)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        for node in nodes:
            node.end()
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
