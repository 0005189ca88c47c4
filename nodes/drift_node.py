"""Drift node: watches whether the models still fit the cell, and says when they do not.

It changes nothing itself; with `retrain` it asks the retrain node for a candidate.

Subscribes  features, verdicts/ensemble, verdicts/fused, model_state; labels (where the plant tells the truth)
Publishes   drift (DriftEvent, latched): when the state changes, and with each new figure of a monitor;
            labels/settled (SettledLabels): labels as they begin to count
Services    ~/submit_label (SubmitLabel)
Actions     asks retrain_node/retrain (Retrain)
Parameters  truth, state_file, settle_s, windows, retrain, learn_windows, again_windows (see `Params`)
"""

from __future__ import annotations

import importlib
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cellwatch_msgs.action import Retrain
from cellwatch_msgs.msg import (
    DriftEvent,
    FeatureWindow,
    FusedVerdictArray,
    Label,
    ModelState,
    SettledLabels,
    VerdictArray,
)
from cellwatch_msgs.srv import SubmitLabel
from rclpy.action import ActionClient

from cellwatch.models.drift.cell_watch import NAMED, CellWatch
from cellwatch.models.drift.reference import Reference
from cellwatch.models.drift.truth import Truth
from cellwatch.models.features.schema import default_schema
from cellwatch.models.rules.rule_file import CATEGORIES
from cellwatch.models.types import DriftState
from cellwatch.nodes.drivers.whole_file import write_whole
from cellwatch.nodes.ros import convert
from cellwatch.nodes.ros.node import OK, WARN, CellNode, run
from cellwatch.nodes.ros.params import param

BENIGN = ("benign", "normal")
ATTACKS = ("attack", *CATEGORIES)
MOST_LABELS = 100_000  # in one request
TRUTH_S = 10.0  # the plant has told of an incident by then
HOUR = 3_600  # windows after which no answer is waited for: the retrain node may have been killed
DAY = 86_400  # windows between two candidates that are asked for, at most
L1 = "L1/"  # of a detector's name in ModelState


@dataclass(frozen=True)
class Params:
    truth: bool = param(False, "the topic labels tells of every incident, and what it is silent on is benign")
    state_file: str = param("", "what is normal for the models in service is kept there over a restart")
    settle_s: float = param(
        30.0, "how long a label waits to be contradicted before it counts", unit="s", low=0.0, high=86400.0
    )
    windows: int = param(86_400, "windows that are kept for labels that come late", low=1, high=10_000_000)
    retrain: bool = param(False, "ask for a candidate when the models no longer fit and labels say how")
    learn_windows: int = param(
        1000,
        "windows since the drift began that are waited for: what is still changing is learnt by half",
        low=1,
        high=10_000_000,
    )
    again_windows: int = param(
        600,
        "after a candidate that came to nothing, ask again; twice as many each time, up to a day of 1 s",
        low=1,
        high=10_000_000,
    )


class DriftNode(CellNode):
    NAME = "drift_node"
    PARAMS = Params

    def build(self) -> None:
        p = self.params
        self.core = CellWatch(
            default_schema().names,
            windows=p.windows,
            settle_ns=round(p.settle_s * 1e9),
            truth=Truth(round(TRUTH_S * 1e9)) if p.truth else None,
            reference=self._known(),
        )
        self.kept = self.core.reference
        self.loader: threading.Thread | None = None
        self.pub = self.publisher(DriftEvent, "drift")
        self.settled = self.publisher(SettledLabels, "labels/settled")
        self.client = ActionClient(self, Retrain, "retrain_node/retrain") if p.retrain else None
        self.asked, self.wait = 0, 0  # windows: when it was asked for a candidate, and until it is again
        self.asking = False  # the answer is not there yet
        self.service = self.create_service(SubmitLabel, "~/submit_label", self._submit)
        self.subscribe(ModelState, "model_state", self._model)
        self.subscribe(FeatureWindow, "features", self._features)
        self.subscribe(VerdictArray, "verdicts/ensemble", self._scores)
        self.subscribe(FusedVerdictArray, "verdicts/fused", self._fused)
        if p.truth:
            self.subscribe(Label, "labels", lambda msg: self.core.incident(convert.label(msg)))

    def _known(self) -> Reference | None:
        """What was kept; a damaged file is said and replaced: it must not keep the node from watching."""
        path = Path(self.params.state_file)
        if not self.params.state_file or not path.exists():
            return None
        try:
            return Reference.from_json(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            self.get_logger().warning(f"{path}: {error}; what is normal is learnt anew")
            return None

    def start(self) -> None:
        self._tell()

    def release(self) -> None:
        if hasattr(self, "service"):
            self.destroy_service(self.service)
            del self.service
            if self.client is not None:
                self.client.destroy()

    # What is heard --------------------------------------------------------------
    def _model(self, msg: ModelState) -> None:
        self.core.model(msg.version, [d.removeprefix(L1) for d in msg.detectors if d.startswith(L1)])
        self._tell()

    def _features(self, msg: FeatureWindow) -> None:
        if self.active:
            self.core.features(convert.features(msg))

    def _scores(self, msg: VerdictArray) -> None:
        if self.active:
            self.core.scores(convert.verdicts(msg))

    def _fused(self, msg: FusedVerdictArray) -> None:
        if self.active:
            self.core.fused(convert.fused(msg))
            for labels in self.core.settled(time.time_ns()):
                self.say(self.settled, convert.settled_msg(labels))
            self._tell()
            self._prepare()
            self._ask()

    def _submit(self, request, response) -> SubmitLabel.Response:
        try:
            self._take(request, response)
        except ValueError as error:
            response.error_code, response.error_msg = SubmitLabel.Response.REFUSED, str(error)
        who, why = request.source or "somebody", request.comment or "no comment"
        text = f"{who} labels {request.label}: {response.accepted} accepted, {response.error_msg or why}"
        self.get_logger().info(text)
        self._tell()
        self._prepare()
        return response

    def _prepare(self) -> None:
        """While the first labels settle, load what watches their loss: that takes seconds."""
        if self.loader is None and self.core.labels.joined:
            self.loader = threading.Thread(
                target=importlib.import_module, args=("cellwatch.models.drift.sequential",), daemon=True
            )
            self.loader.start()

    def _take(self, request, response) -> None:
        """ValueError for a request that cannot be."""
        kind, slash, name = request.label.partition("/")
        if kind not in (*BENIGN, *ATTACKS) or (slash and not (kind in CATEGORIES and name)):
            raise ValueError(
                f"label {request.label!r}: use {', '.join((BENIGN[0], *ATTACKS))}, or CATEGORY/TYPE"
            )
        if not self.active:
            raise ValueError("the node is not active")
        devices = list(dict.fromkeys(request.devices)) or list(self.core.devices)
        asked, early = 1, False
        windows = np.array([request.window_id], np.int64)
        if not request.window_id:
            start_ns, end_ns = convert.time_ns(request.start), convert.time_ns(request.end)
            if not start_ns < end_ns:
                raise ValueError("give a window, or a stretch of time that ends after its start")
            windows, asked = self.core.labels.within(start_ns, end_ns)
            early = start_ns < self.core.labels.first_ns
        if len(windows) * len(devices) > MOST_LABELS:
            raise ValueError(f"{len(windows) * len(devices)} labels: at most {MOST_LABELS} in one request")
        found = self.core.label(windows, devices, BENIGN[0] if kind in BENIGN else request.label)
        missed = (asked - len(windows)) * len(devices)  # windows of the stretch that nobody knows
        self.core.labels.expired += missed
        response.accepted, response.held_back = found.joined + found.known, found.held_back
        response.expired = min(found.expired + missed, 2**32 - 1)
        parts = (
            (found.held_back, "held back: they contradict other labels, or stand beside those that do"),
            (found.expired + missed, "of windows or devices that are unknown, not judged, or no longer kept"),
        )
        texts = [f"{count} {text}" for count, text in parts if count]
        texts += ["the stretch begins before the watch began"] * early
        response.error_msg = "; ".join(texts)

    # What is said ---------------------------------------------------------------
    def _tell(self) -> None:
        event = self.core.news(time.time_ns()) if self.active else None
        if event is None:
            return
        self.say(self.pub, convert.drift_msg(event))
        self._keep()
        if event.state == DriftState.DRIFT:
            self.news("drift", self._words())
        else:
            self.good_news("drift", "the models fit again, or others are in service")

    def _keep(self) -> None:
        """Write down what is normal, if that is news. A full disk does not stop the watch."""
        if self.kept == self.core.reference or not self.params.state_file:
            return
        try:
            write_whole(Path(self.params.state_file), self.core.reference.to_json())
        except OSError as error:
            self.news("state", f"{self.params.state_file}: {error.strerror}")
            return
        self.kept = self.core.reference
        self.good_news("state", "what is normal is kept again")

    def _ask(self) -> None:
        """Have the models made anew while they do not fit, once labels say how."""
        if self.client is None or self.core.state != DriftState.DRIFT:
            return
        event = self.core.event(0)
        waited = self.core.watched - self.asked
        if not event.scenario or waited < (HOUR if self.asking else self.wait):
            return
        if self.core.since(event.since_ns) < self.params.learn_windows:
            return
        if not self.client.server_is_ready():
            self.news("retrain", "nobody retrains: retrain_node is not there")
            return
        if waited > 4 * self.wait:  # so long that this is another drift
            self.wait = 0
        self.asked, self.asking = self.core.watched, True
        goal = Retrain.Goal(
            scenario=Retrain.Goal.A if event.scenario == "A" else Retrain.Goal.B,
            since=convert.time_msg(event.since_ns),
            user=self.get_name(),
            reason=self._words(),
        )
        self.get_logger().info(f"asks for a candidate: {goal.reason}")
        self.client.send_goal_async(goal).add_done_callback(self._answered)

    def _answered(self, future) -> None:
        """Refused: another one is on its way. What comes of one that is made is said by retrain_node."""
        handle, again = future.result(), self.params.again_windows
        if handle is None or not handle.accepted:
            self.asking, self.wait = False, max(self.wait, again)
            return
        self.wait = max(again, min(2 * self.wait, DAY))
        handle.get_result_async().add_done_callback(self._made)

    def _made(self, _future) -> None:
        self.asking, self.asked = False, self.core.watched

    def _words(self) -> str:
        event = self.core.event(0)
        kinds = {
            "A": "scenario A, false alarms",
            "B": "scenario B, misses",
            "": "no labels say of which kind",
            "names": "attacks are called by other names than their labels",
        }
        since = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(event.since_ns / 1e9))
        kind = "names" if not {*event.reasons} - {*NAMED.values()} else event.scenario
        return f"the models no longer fit since {since}: {kinds[kind]} ({', '.join(event.reasons)})"

    def health(self) -> tuple[bytes, str, dict[str, object]]:
        core, labels = self.core, self.core.labels
        counters = {
            "windows": core.watched,
            "unpaired": core.unpaired,
            "labels_joined": labels.joined,
            "labels_expired": labels.expired,
            "labels_held_back": labels.held_back,
            "alarms": core.alarms,
        }
        if core.state == DriftState.DRIFT:
            return WARN, self._words(), counters
        return OK, core.state.name.lower(), counters


def main() -> None:
    run(DriftNode)


if __name__ == "__main__":
    main()
