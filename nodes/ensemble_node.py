"""NeuroSense node: the trained ensemble scores every window.

Subscribes  features
Publishes   verdicts/ensemble (VerdictArray), model_state (latched)
Parameters  model_dir (see `Params`)
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from cellwatch_msgs.msg import FeatureWindow, ModelState, VerdictArray

from cellwatch.models.detectors.ensemble import Ensemble
from cellwatch.models.detectors.scaler import Scaler
from cellwatch.models.features.schema import default_schema
from cellwatch.models.registry import artifact
from cellwatch.models.types import Verdicts, abstention
from cellwatch.nodes.ros import convert
from cellwatch.nodes.ros.node import ERROR, OK, WARN, CellNode, run
from cellwatch.nodes.ros.params import param

NO_MODEL = "no model trained for this cell"


@dataclass(frozen=True)
class Params:
    model_dir: str = param("", "folder of the trained ensemble; empty: abstain")


class EnsembleNode(CellNode):
    NAME = "ensemble_node"
    PARAMS = Params

    def build(self) -> None:
        self.core: Ensemble | None = None
        self.scored = 0
        self.trouble = ""
        self.pub = self.publisher(VerdictArray, "verdicts/ensemble")
        self.state_pub = self.publisher(ModelState, "model_state")
        state = ModelState(
            schema_id=default_schema().schema_id, detail="" if self.params.model_dir else NO_MODEL
        )
        if self.params.model_dir:
            manifest, graphs = artifact.load(Path(self.params.model_dir), default_schema().schema_id)
            self.core = Ensemble(
                manifest.schema_id,
                {int(level): tuple(names) for level, names in manifest.classes.items()},
                Scaler.from_dict(manifest.scaler),
                {(m.level, m.detector): graphs[m.file] for m in manifest.models},
            )
            state.detectors = [f"L{m.level}/{m.detector}" for m in manifest.models]
            state.versions = [m.sha256[:12] for m in manifest.models]
            state.states = ["active"] * len(manifest.models)
        self.state_pub.publish(state)
        self.subscribe(FeatureWindow, "features", self._score)

    def _score(self, msg: FeatureWindow) -> None:
        if not self.active:
            return
        window = convert.features(msg)
        verdicts = self._verdicts(window)
        self.say(
            self.pub,
            convert.verdicts_msg(replace(verdicts, latency_s=(time.time_ns() - window.closed_ns) / 1e9)),
        )

    def _verdicts(self, window) -> Verdicts:
        if self.core is None:
            return abstention("ensemble", window, NO_MODEL)
        if window.commissioning:
            return abstention("ensemble", window, "commissioning")
        try:
            verdicts = self.core.judge(window)
        except ValueError as error:
            self.trouble = str(error)
            self.news("judge", self.trouble)
            return abstention("ensemble", window, self.trouble)
        self.trouble = ""
        self.scored += 1
        return verdicts

    def health(self) -> tuple[bytes, str, dict[str, object]]:
        counters = {"scored": self.scored, "failed_models": len(self.core.failed) if self.core else 0}
        if self.trouble:
            return ERROR, self.trouble, counters
        if self.core and self.core.failed:
            return WARN, "; ".join(f"{name}: {why}" for name, why in self.core.failed.items()), counters
        return OK, "scoring" if self.core else NO_MODEL, counters


def main() -> None:
    run(EnsembleNode)


if __name__ == "__main__":
    main()
