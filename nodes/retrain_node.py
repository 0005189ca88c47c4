"""Retrain node: makes candidate versions of the models, and brings them into service stage by stage.

Subscribes  features, labels/settled (kept on disk, to learn from); verdicts/{fused,shadow,displaced},
            model_state (the candidate against what is in service)
Publishes   candidate (CandidateState, latched)
Services    ~/move_candidate (MoveCandidate)
Actions     ~/retrain (Retrain)
Parameters  models, fallback, keys, store, ... (see `Params`)

Training, and the version that judges beside, are processes of their own at the lowest priority: the cell does
not wait for them, and a crash of theirs, or of this node, leaves in service what is.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellwatch_msgs import msg as m
from cellwatch_msgs.action import Retrain
from cellwatch_msgs.srv import MoveCandidate
from rclpy.action import ActionServer, CancelResponse
from rclpy.serialization import deserialize_message

from cellwatch.models.features.schema import default_schema
from cellwatch.models.registry.candidate_file import CandidateFile
from cellwatch.models.registry.keys import Keys
from cellwatch.models.registry.model_set import open_set, serves
from cellwatch.models.registry.registry import Registry
from cellwatch.models.types import CandidateState, Stage
from cellwatch.nodes.candidate_watch import CandidateWatch
from cellwatch.nodes.drivers.audit_log import AuditLog
from cellwatch.nodes.drivers.sample_store import SampleStore
from cellwatch.nodes.retrain_process import RetrainProcess
from cellwatch.nodes.ros import convert
from cellwatch.nodes.ros.node import OK, WARN, CellNode, run
from cellwatch.nodes.ros.params import param
from cellwatch.nodes.shadow_process import ShadowProcess

TELL_S = 2.0  # how often the figures of a candidate are said
SCENARIOS = {Retrain.Goal.A: "A", Retrain.Goal.B: "B"}
KINDS = {
    "refused": Retrain.Result.REFUSED,
    "cancelled": Retrain.Result.CANCELLED,
    "failed": Retrain.Result.FAILED,
}
MOVES = {
    MoveCandidate.Request.PROMOTE: "promote",
    MoveCandidate.Request.HOLD: "hold",
    MoveCandidate.Request.RELEASE: "release",
    MoveCandidate.Request.REJECT: "reject",
    MoveCandidate.Request.ROLL_BACK: "roll_back",
}


@dataclass(frozen=True)
class Params:
    models: str = param("", "folder of the model registry; empty: nothing can be retrained")
    fallback: str = param("", "bundle that the cell was started with, while the registry serves none")
    keys: str = param("", "folder of the keys that may sign models")
    store: str = param("", "folder of windows and labels to learn from; empty: none are kept")
    store_mb: int = param(512, "size of that folder", unit="MB", low=1, high=1_000_000)
    cache: str = param("", "folder of data sets: the rows that the models of a simulated site learnt from")
    replay: str = param("", "table or folder with the rows that the models learnt from; empty: by their name")
    cores: int = param(1, "that training may take", low=1, high=256)
    promote: bool = param(False, "a candidate that passes its gates comes into service by itself")
    canary: float = param(0.25, "share of the devices that a canary decides for", low=0.0, high=1.0)
    window_s: float = param(1.0, "window length", unit="s", low=0.1, high=60.0)
    judges: str = param("{}", "JSON object: parameters of the nodes that judge, see cell.shadow_parameters")
    points: str = param("[1.0, 6.0]", "JSON list: points of the rules for SUSPICIOUS and BLOCK")
    audit_file: str = param("", "append-only log of what operators do; empty: none")
    work: str = param("", "folder for orders and logs of the processes")


class RetrainNode(CellNode):
    NAME = "retrain_node"
    PARAMS = Params
    TICK_S = 0.1

    def build(self) -> None:
        p = self.params
        self.work = Path(p.work or ".")
        self.points = json.loads(p.points)
        self.no_store = ""
        self.store = self._store() if p.store else None
        self.audit = AuditLog(p.audit_file) if p.audit_file else None
        self.registry = Registry(Path(p.models), Keys(Path(p.keys))) if p.models and p.keys else None
        self.watch = self._watch(self.registry) if self.registry else None
        self.worker: RetrainProcess | None = None
        self.goal: Any = None
        self.made = self.failed = 0
        self.told: tuple[Any, ...] = ()
        self.looked = False  # at the candidate: what was there before this life is no news
        self.told_s = 0.0
        self.pub = self.publisher(m.CandidateState, "candidate")
        self.service = self.create_service(MoveCandidate, "~/move_candidate", self._move)
        self.server = ActionServer(
            self,
            Retrain,
            "~/retrain",
            execute_callback=self._refuse,
            handle_accepted_callback=self._accepted,
            cancel_callback=lambda _: CancelResponse.ACCEPT,
        )
        # As they came: what is stored needs no conversion.
        for kind, topic, heard in (
            (m.FeatureWindow, "features", self._window),
            (m.SettledLabels, "labels/settled", self._labels),
        ):
            self.subscribe(kind, topic, heard, raw=True)
        if self.watch:
            watch = self.watch
            self.subscribe(m.ModelState, "model_state", lambda msg: watch.model(msg.version))
            self.subscribe(m.FusedVerdictArray, "verdicts/fused", self._fused(watch.served))
            self.subscribe(m.FusedVerdictArray, "verdicts/shadow", self._fused(watch.beside))
            self.subscribe(
                m.FusedVerdictArray, "verdicts/displaced", lambda msg: watch.displaced(convert.fused(msg))
            )

    def _store(self) -> SampleStore | None:
        """None, and why, where it cannot be used: the cell goes on without."""
        p = self.params
        try:
            return SampleStore(Path(p.store), max_bytes=p.store_mb << 20)
        except OSError as error:
            self.no_store = f"nothing is kept to learn from: {p.store}: {error.strerror or error}"
            self.news("store", self.no_store)
            return None

    def _watch(self, registry: Registry) -> CandidateWatch:
        p = self.params
        shadow = ShadowProcess(self.get_namespace(), json.loads(p.judges), self.work)
        return CandidateWatch(
            CandidateFile(registry),
            shadow,
            window_s=p.window_s,
            promote=p.promote,
            share=p.canary,
            news=self.get_logger().info,
        )

    def start(self) -> None:
        self._tell()

    def stop(self) -> None:
        if self.worker is not None:
            self.worker.cancel()
        if self.watch is not None:
            self.watch.close()

    def release(self) -> None:
        for part in ("store", "audit"):
            if getattr(self, part, None) is not None:
                getattr(self, part).close()
                setattr(self, part, None)
        if hasattr(self, "server"):
            self.server.destroy()
            self.destroy_service(self.service)
            del self.server

    # What is heard --------------------------------------------------------------
    def _window(self, data: bytes) -> None:
        if self.active and self.store is not None:
            msg = deserialize_message(data, m.FeatureWindow)
            self.store.append_window(msg.window_id, convert.time_ns(msg.header.stamp), data)

    def _labels(self, data: bytes) -> None:
        if not self.active:
            return
        labels = convert.settled(deserialize_message(data, m.SettledLabels))
        if self.store is not None:
            self.store.append_labels(labels.at_ns, data)
        if self.watch is not None:
            self.watch.labels(labels)

    def _fused(self, heard: Any) -> Any:
        def hear(msg: m.FusedVerdictArray) -> None:
            if self.active:
                heard(convert.fused(msg), msg.latency)

        return hear

    # Training -------------------------------------------------------------------
    def _refuse(self, goal) -> Retrain.Result:
        goal.abort()
        return Retrain.Result(error_code=Retrain.Result.REFUSED, error_msg="was not begun")

    def _accepted(self, goal) -> None:
        """Begin; the goal is executed, as rclpy calls it, once it is known what came of it."""
        try:
            self._begin(goal)
        except (ValueError, OSError) as error:
            self._end(goal, {"error": str(error), "kind": "refused"})

    def _begin(self, goal) -> None:
        """ValueError if it cannot be."""
        p, request = self.params, goal.request
        if not self.active or self.registry is None or self.store is None:
            raise ValueError("nothing can be retrained here: the cell has no registry of models, or no store")
        if self.worker is not None:
            raise ValueError("a candidate is being made already")
        if self.watch is not None and self.watch.busy:
            raise ValueError("a candidate is on its way already")
        if request.scenario not in SCENARIOS:
            raise ValueError("say which scenario it is: A, false alarms, or B, misses")
        order = {
            "registry": p.models,
            "keys": p.keys,
            "fallback": p.fallback,
            "store": p.store,
            "since_ns": convert.time_ns(request.since),
            "scenario": SCENARIOS[request.scenario],
            "cache": p.cache,
            "replay": p.replay,
            "cores": p.cores,
            "suspicious_points": self.points[0],
            "block_points": self.points[1],
        }
        worker = RetrainProcess(order, self.work / "retraining.log")
        self._record("retrain", request)  # what is not on record is not done
        worker.start()
        self.worker, self.goal, self.since_s = worker, goal, time.monotonic()
        who = request.user or "somebody"
        self.get_logger().info(f"{who} asks for a candidate, {order['scenario']}: {request.reason}")

    def step(self) -> None:
        if self.worker is not None:
            self._hear(self.worker)
        if self.watch is not None:
            self.watch.step(time.time_ns())
            if self.watch.trouble:
                self.news("candidate", self.watch.trouble)
            else:
                self.good_news("candidate", "the candidate can be read and judged again")
        self._tell()
        self.looked = True

    def _hear(self, worker: RetrainProcess) -> None:
        running, last = worker.running, {}
        for line in worker.poll():
            if "stage" in line:
                loss = line.get("loss")
                self.goal.publish_feedback(
                    Retrain.Feedback(
                        stage=f"{line['stage']} {line.get('about', '')}".rstrip(),
                        step=line.get("step", 0),
                        steps=line.get("steps", 0),
                        loss=float("nan") if loss is None else float(loss),
                    )
                )
            else:
                last = line
        if self.goal.is_cancel_requested:
            worker.cancel()
        if last or not running:
            self.worker = None
            worker.cancel()  # it has nothing more to say
            self._end(self.goal, last or {"error": worker.last_words() or "it ended without a word"})

    def _end(self, goal, said: dict[str, Any]) -> None:
        """`said`: the worker's last line."""
        result = Retrain.Result()
        if "version" in said:
            self.made += 1
            result.versions = [said["version"]]
            result.score_before, result.score_after = (1 - said[k]["errors"] for k in ("before", "after"))
            result.error_msg = self._propose(goal, said)
        else:
            self.failed += 1
            result.error_msg = said["error"]
            result.error_code = KINDS[said.get("kind", "failed")]
        took = f"{said.get('made', 'no candidate')}: {' '.join(result.versions)} {result.error_msg}"
        self.get_logger().info(took.strip())

        def close(handle) -> Retrain.Result:
            if handle.is_cancel_requested:
                handle.canceled()
                result.error_code = result.error_code or Retrain.Result.CANCELLED
            elif result.error_code:
                handle.abort()
            else:
                handle.succeed()
            return result

        goal.execute(close)

    def _propose(self, goal, said: dict[str, Any]) -> str:
        """Put the new version into shadow, or say why not."""
        if goal.is_cancel_requested:
            return "cancelled: the version is kept, and not put into shadow"
        if not said["passed"]:
            return "; ".join(said["why"])
        p = self.params
        where = Path(p.models if serves(Path(p.models)) or not p.fallback else p.fallback)
        try:
            parent = open_set(where, self.registry.keys, default_schema().schema_id, p.window_s).bundle
            self.watch.propose(
                said["version"], parent, time.time_ns(), said["scenario"],
                goal.request.reason, {"before": said["before"], "after": said["after"]},
            )  # fmt: skip
        except (ValueError, OSError) as error:
            return str(error)
        return ""

    # Promotion ------------------------------------------------------------------
    def _move(self, request, response) -> MoveCandidate.Response:
        try:
            response.stage = int(self._moved(request))
        except (ValueError, OSError) as error:
            response.error_code, response.error_msg = MoveCandidate.Response.REFUSED, str(error)
        self._tell()
        return response

    def _moved(self, request) -> Stage:
        """ValueError if it cannot be."""
        if self.watch is None:
            raise ValueError("this cell has no registry of models")
        action = MOVES.get(request.action)
        if action is None:
            raise ValueError(f"move {request.action}: see MoveCandidate")
        who = request.user or "somebody"
        self._record(f"candidate {action}", request)
        self.watch.move(action, time.time_ns(), f"{who}: {request.reason or action}")
        self.watch.step(time.time_ns())
        return self.watch.state(0).stage

    def _record(self, event: str, request: Any) -> None:
        if self.audit is not None:
            self.audit.operator(event, user=request.user, reason=request.reason, target="models")

    def _tell(self) -> None:
        """The state when it changes, and its figures every while."""
        if not self.active or self.watch is None:
            return
        state = self.watch.state(time.time_ns())
        key = state.version, state.stage, state.held, state.devices, state.reason
        if key == self.told and time.monotonic() - self.told_s < TELL_S:
            return
        before, self.told, self.told_s = self.told, key, time.monotonic()
        if self.looked and before[:3] != key[:3]:
            self._record_stage(state)
        self.say(self.pub, convert.candidate_msg(state))

    def _record_stage(self, state: CandidateState) -> None:
        """Put on record where the candidate stands, whoever moved it: a gate, a service, the command line."""
        event = f"candidate {state.stage.name.lower()}{', held' if state.held else ''}"
        try:
            if self.audit is not None:
                self.audit.operator(event, user=self.get_name(), reason=state.reason, target=state.version)
        except (ValueError, OSError) as error:  # what is done is done: this is a note of it
            self.news("audit", f"not on record: {error}")

    def health(self) -> tuple[bytes, str, dict[str, object]]:
        store, watch = self.store, self.watch
        counters: dict[str, object] = {
            "stored": store.windows if store else 0,
            "labels": store.labels if store else 0,
            "lost": store.lost if store else 0,
            "candidates": self.made,
            "failed": self.failed,
        }
        bad = store.warning if store is not None else self.no_store
        if bad:
            return WARN, bad, counters
        if watch is not None and watch.trouble:
            return WARN, watch.trouble, counters
        if self.worker is not None:
            return OK, f"making a candidate for {time.monotonic() - self.since_s:.0f} s", counters
        state = watch.state(0) if watch is not None else None
        if state is None or not state.stage:
            return OK, "no candidate", counters
        return OK, f"candidate {state.version}: {state.stage.name.lower()}", counters


def main() -> None:
    run(RetrainNode)


if __name__ == "__main__":
    main()
