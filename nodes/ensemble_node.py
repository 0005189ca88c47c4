"""NeuroSense node: the models of the cell score every window, and EWAD beside them.

Subscribes  features, /diagnostics (the other replicas)
Publishes   verdicts/ensemble, verdicts/ewad (VerdictArray), model_state (latched), attributions (Attribution)
Services    ~/promote_model (PromoteModel)
Parameters  models, fallback, surroundings, keys, ewad, false_alarms_per_hour, window_s, budget_s, replica,
            replicas (see `Params`)

Models that are promoted in the registry, here or by `cellwatch registry promote`, are loaded beside those in
service and take over between two windows; the rules and the fusion follow `model_state`. The features go on
with the baseline that they were started with, so models that bring another wait for a restart of the cell.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from cellwatch_msgs.msg import Attribution, FeatureWindow, ModelState, VerdictArray
from cellwatch_msgs.srv import PromoteModel
from diagnostic_msgs.msg import DiagnosticArray

from cellwatch.models.detectors.ensemble import SUSPECT, Ensemble
from cellwatch.models.detectors.shares import Members
from cellwatch.models.features.schema import default_schema
from cellwatch.models.fusion.attribution import in_words
from cellwatch.models.registry.bundle import Bundle
from cellwatch.models.registry.keys import Keys
from cellwatch.models.registry.model_set import ensemble_of, graphs_of, open_set, serves
from cellwatch.models.registry.registry import Registry
from cellwatch.models.types import Level, Verdicts, abstention
from cellwatch.nodes.ewad_service import EwadService
from cellwatch.nodes.explainer import Explainer
from cellwatch.nodes.ros import convert, health, qos
from cellwatch.nodes.ros.node import ERROR, OK, WARN, CellNode, run
from cellwatch.nodes.ros.params import param

NO_MODEL = "no model trained for this cell"
LOOK_S = 0.5  # how often the registry is looked at


@dataclass(frozen=True)
class Params:
    models: str = param("", "folder of a model registry, or of one bundle; empty: abstain")
    fallback: str = param(
        "", "bundle that the cell was started with: served while `models` has none that fits"
    )
    surroundings: str = param(
        "{}",
        "JSON object: what does not change while the cell runs (Manifest.surroundings)",
    )
    keys: str = param("", "folder of the keys that may sign models; empty: only models of this release")
    ewad: str = param("", "folder of the EWAD; empty: the cell has none")
    false_alarms_per_hour: float = param(
        0.1, "that EWAD may raise on quiet windows of the whole cell", unit="1/h", low=0.0, high=3600.0
    )
    window_s: float = param(
        1.0, "window length that the models must have learnt", unit="s", low=0.1, high=60.0
    )
    budget_s: float = param(0.2, "time for one window; what is late abstains", unit="s", low=0.001, high=60.0)
    replica: int = param(1, "number of this replica", low=1, high=16)
    replicas: int = param(1, "how many share the devices", low=1, high=16)


@dataclass(frozen=True)
class Served:
    """What is in service."""

    bundle: Bundle
    core: Ensemble
    explainer: Explainer


class EnsembleNode(CellNode):
    NAME = "ensemble_node"
    PARAMS = Params

    def build(self) -> None:
        p = self.params
        if p.replica > p.replicas:
            raise ValueError(f"replica {p.replica} of {p.replicas}")
        self.scored = self.swaps = 0
        self.trouble = self.refused = ""
        self.now: Served | None = None
        self.next: Future[Served] | None = None
        self.wanted = ""  # version that is being loaded, or was refused
        self.looked_s = 0.0
        self.loader = ThreadPoolExecutor(1)
        keys = Keys(Path(p.keys)) if p.keys else None
        self.registry = Registry(Path(p.models), keys) if p.models else None
        self.surroundings = json.loads(p.surroundings)
        self.members = Members(p.replica, p.replicas, time.monotonic())
        self.ewad = self._ewad(keys) if p.ewad else None
        self.pub = self.publisher(VerdictArray, "verdicts/ensemble")
        self.ewad_pub = self.publisher(VerdictArray, "verdicts/ewad")
        self.state_pub = self.publisher(ModelState, "model_state")
        self.attributions = self.publisher(Attribution, "attributions")
        if self.registry:
            self.now = self._first(self.registry)
            self.surroundings = self.surroundings or self.now.bundle.manifest.surroundings()
        self._tell_state()
        self.service = self.create_service(PromoteModel, "~/promote_model", self._promote)
        self.subscribe(FeatureWindow, "features", self._score)
        if p.replicas > 1:
            self._subs.append(
                self.create_subscription(DiagnosticArray, "/diagnostics", self._hear, qos.DIAGNOSTICS)
            )

    def release(self) -> None:
        if hasattr(self, "loader"):
            self.loader.shutdown(wait=False, cancel_futures=True)
            if self.now is not None:
                self.now.explainer.close()
        if hasattr(self, "service"):
            self.destroy_service(self.service)
            del self.service

    def _ewad(self, keys: Keys | None) -> EwadService:
        p = self.params
        alarms = p.false_alarms_per_hour
        return EwadService(Path(p.ewad), keys, p.window_s, alarms, p.budget_s, time.perf_counter)

    # Models --------------------------------------------------------------------
    def _first(self, registry: Registry) -> Served:
        """What the registry serves, else what the cell was started with. ValueError if none is of use."""
        fallback = Path(self.params.fallback) if self.params.fallback else None
        if fallback is not None and not serves(registry.folder):
            return self._load(registry, fallback)
        try:
            self.wanted = registry.current
            return self._load(registry, registry.folder)
        except ValueError as error:
            if fallback is None:
                raise
            self.refused = str(error)
            self.news("registry", f"not taken into service: {error}")
            return self._load(registry, fallback)

    def _load(self, registry: Registry, folder: Path) -> Served:
        """The bundle in service there, checked and ready to score. ValueError if it is refused."""
        found = open_set(folder, registry.keys, default_schema().schema_id, self.params.window_s)
        self._check(found.bundle)
        core = ensemble_of(found.bundle, self.params.budget_s, time.perf_counter)
        sound = [g for g in graphs_of(found.bundle) if g.name not in core.failed]
        weights = found.bundle.manifest.fusion_weights()
        return Served(found.bundle, core, Explainer(sound, weights, default_schema().names))

    def _check(self, bundle: Bundle) -> None:
        """ValueError if something would have to change that does not while the cell runs."""
        theirs = bundle.manifest.surroundings()
        other = [name for name, own in self.surroundings.items() if theirs.get(name) != own]
        if other:
            raise ValueError(
                f"the models come with another {', '.join(other)} than the cell runs with: "
                "promote them by `cellwatch registry promote` and restart the cell"
            )

    def step(self) -> None:
        if self.next is not None and self.next.done():
            self._swap()
        self._tell_attribution()
        now = time.monotonic()
        if self.registry and self.next is None and now - self.looked_s > LOOK_S:
            self.looked_s = now
            try:
                current = self.registry.current
            except ValueError as error:
                self.news("registry", str(error))
                return
            if current and current != self.wanted:
                self.wanted = current
                if self.now is not None and self.now.bundle.version == current:  # others were refused
                    self.refused = ""
                    return
                self.next = self.loader.submit(self._load, self.registry, self.registry.folder)

    def _swap(self) -> None:
        """Between two windows: nothing is lost, sequences go on."""
        done, self.next = self.next, None
        new = None
        try:
            new = done.result()
            if self.now is not None:
                new.core.take_over(self.now.core)
        except Exception as error:  # the models in service go on
            if new is not None:
                new.explainer.close()
            self.refused = str(error)
            self.news("registry", f"not taken into service: {error}")
            return
        if self.now is not None:
            self.now.explainer.close()
        self.now, self.refused = new, ""
        self.swaps += 1
        self.get_logger().info(f"version {new.bundle.version} is in service")
        self._tell_state()

    def _promote(self, request, response) -> PromoteModel.Response:
        if self.registry is None:
            response.error_code = PromoteModel.Response.REFUSED
            response.error_msg = "this node has no registry of models"
            return response
        try:
            if request.version:
                self.registry.promote(request.version, self._check)
            else:
                self.registry.rollback(self._check)
            response.serving = self.registry.current
            self.get_logger().info(
                f"{request.user or 'somebody'} promotes {response.serving}: {request.reason or 'no reason'}"
            )
        except (ValueError, OSError) as error:
            response.error_code, response.error_msg = PromoteModel.Response.REFUSED, str(error)
            response.serving = self.now.bundle.version if self.now else ""
        return response

    def _tell_state(self) -> None:
        p = self.params
        state = ModelState(
            schema_id=default_schema().schema_id,
            detail="" if self.now else NO_MODEL,
            replica=p.replica,
            replicas=p.replicas,
        )
        state.header.stamp, state.header.frame_id = convert.time_msg(time.time_ns()), self.get_name()
        if self.now:
            served = self.now.bundle.manifest.served()
            names = [f"L{m.level}/{m.detector}" for m in served]
            failed = self.now.core.failed
            state.version = self.now.bundle.version
            state.detectors = names
            state.versions = [self.now.bundle.manifest.files[m.file][:12] for m in served]
            state.states = ["failed" if name in failed else "active" for name in names]
        self.told_failed = len(self.now.core.failed) if self.now else 0
        self.state_pub.publish(state)

    # Windows -------------------------------------------------------------------
    def _hear(self, msg: DiagnosticArray) -> None:
        for _, values in health.statuses(msg, self.get_namespace()):
            if "replica" in values:
                self.members.hear(
                    int(values["replica"]), time.monotonic(), active=values.get("active") == "1"
                )

    def _score(self, msg: FeatureWindow) -> None:
        if not self.active:
            return
        window = convert.features(msg)
        mine = None
        if self.params.replicas > 1:
            mine = self.members.mine(window.devices, time.monotonic())
        self._publish(self.pub, self._verdicts(window, mine))
        if self.ewad:
            self._publish(self.ewad_pub, self.ewad.judge(window, mine))
        if self.now and len(self.now.core.failed) != self.told_failed:
            self._tell_state()

    def _publish(self, pub, verdicts: Verdicts) -> None:
        latency_s = (time.time_ns() - verdicts.closed_ns) / 1e9
        self.say(pub, convert.verdicts_msg(replace(verdicts, latency_s=latency_s)))

    def _verdicts(self, window, mine: list[int] | None) -> Verdicts:
        if self.now is None:
            return abstention("ensemble", window, NO_MODEL, rows=mine)
        if window.commissioning:
            return abstention("ensemble", window, "commissioning", rows=mine)
        try:
            verdicts = self.now.core.judge(window, mine)
        except ValueError as error:
            self.trouble = str(error)
            self.news("judge", self.trouble)
            return abstention("ensemble", window, self.trouble, rows=mine)
        self.trouble = ""
        self.scored += 1
        self._ask_why(verdicts)
        return verdicts

    def _ask_why(self, verdicts: Verdicts) -> None:
        """Have the most suspicious device explained; the windows do not wait for it."""
        scores = next((s.probabilities for s in verdicts.levels if s.level == Level.L1), None)
        if scores is None or not scores.size:
            return
        attack = np.nan_to_num(scores[:, :, 1], nan=0.0).mean(axis=1)
        worst = int(attack.argmax())
        if attack[worst] >= SUSPECT:
            device = verdicts.devices[worst]
            sequence = self.now.core.sequence(device)
            self.now.explainer.offer(verdicts.window_id, verdicts.end_ns, device, sequence, time.monotonic())

    def _tell_attribution(self) -> None:
        try:
            found = self.now.explainer.take() if self.now else None
        except Exception as error:  # an explanation is no verdict: those go on
            self.news("explain", f"no explanation: {error}")
            return
        if found is None:
            return
        msg = Attribution(
            window_id=found.window_id,
            device=found.device,
            features=[name for name, _ in found.contributions],
            shares=[share for _, share in found.contributions],
            explanation=in_words(found.contributions),
        )
        msg.header.stamp, msg.header.frame_id = convert.time_msg(found.end_ns), "cell"
        self.say(self.attributions, msg)

    def health(self) -> tuple[bytes, str, dict[str, object]]:
        core = self.now.core if self.now else None
        counters: dict[str, object] = {
            "scored": self.scored,
            "failed_models": len(core.failed) if core else 0,
            "late_models": core.late if core else 0,
            "swaps": self.swaps,
            "replica": self.params.replica,
            "ewad": self.ewad.version or "refused" if self.ewad else "none",
            "ewad_scored": self.ewad.scored if self.ewad else 0,
            "ewad_late": self.ewad.late if self.ewad else 0,
        }
        if self.trouble:
            return ERROR, self.trouble, counters
        if self.refused:
            return WARN, f"not taken into service: {self.refused}", counters
        if core and core.failed:
            return WARN, "; ".join(f"{name}: {why}" for name, why in core.failed.items()), counters
        if self.ewad and self.ewad.trouble:
            return WARN, f"EWAD: {self.ewad.trouble}", counters
        return OK, f"serves {self.now.bundle.version}" if self.now else NO_MODEL, counters


def main() -> None:
    run(EnsembleNode)


if __name__ == "__main__":
    main()
