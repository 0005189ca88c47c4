"""Feature node: tags and traffic become one window per period, the same for every detector.

Subscribes  tags, tag_catalog, traffic
Publishes   features (FeatureWindow), feature_schema (latched)
Parameters  window_s, lateness_s, devices, baseline_file, commissioning_s (see `Params`)
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

from cellwatch_msgs.msg import FeatureSchema, FeatureWindow, TagBatch, TagCatalog, TrafficBatch

from cellwatch.models.features.baseline import TagBaseline
from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.window import FeatureAssembler
from cellwatch.nodes.ros import convert
from cellwatch.nodes.ros.node import OK, WARN, CellNode, run
from cellwatch.nodes.ros.params import param


@dataclass(frozen=True)
class Params:
    window_s: float = param(1.0, "window length", unit="s", low=0.1, high=60.0)
    lateness_s: float = param(0.5, "longest wait for late tags and packets", unit="s", low=0.0, high=10.0)
    devices: str = param("[]", "JSON list: devices that have a row in every window")
    baseline_file: str = param("", "JSON file with the tag baseline of the cell; empty: none yet")
    commissioning_s: float = param(0.0, "benign learning period at the start", unit="s", low=0.0, high=604800.0)


class FeatureNode(CellNode):
    NAME = "feature_node"
    PARAMS = Params
    TICK_S = 0.02

    def build(self) -> None:
        p = self.params
        schema = default_schema()
        baseline = TagBaseline.from_dict(json.loads(Path(p.baseline_file).read_text())) if p.baseline_file else None
        self.core = FeatureAssembler(
            schema, p.window_s, p.lateness_s, tuple(json.loads(p.devices)), baseline, p.commissioning_s
        )
        self.windows = self.lost_batches = 0
        self._sequence: dict[str, int] = {}
        self.pub = self.publisher(FeatureWindow, "features")
        self.schema_pub = self.publisher(FeatureSchema, "feature_schema")
        self.schema_pub.publish(
            FeatureSchema(schema_id=schema.schema_id, names=list(schema.names), units=list(schema.units))
        )
        self.subscribe(TagCatalog, "tag_catalog", lambda msg: self.core.catalog(convert.catalog(msg)))
        self.subscribe(TagBatch, "tags", self._tags)
        self.subscribe(TrafficBatch, "traffic", self._traffic)

    def _tags(self, msg: TagBatch) -> None:
        plc = msg.header.frame_id
        expected = self._sequence.get(plc, msg.sequence - 1) + 1
        # A sequence that starts anew is a restarted link, not a loss.
        self.lost_batches += max(0, msg.sequence - expected)
        self._sequence[plc] = msg.sequence
        self.core.tags(convert.tags(msg))
        self.step()

    def _traffic(self, msg: TrafficBatch) -> None:
        self.core.traffic(convert.traffic(msg))
        self.step()

    def step(self) -> None:
        if self.active:
            for window in self.core.step(time.time_ns()):
                self.windows += 1
                self.say(self.pub, convert.features_msg(window))

    def health(self) -> tuple[bytes, str, dict[str, object]]:
        counters = {"windows": self.windows, "lost_batches": self.lost_batches, **self.core.counters}
        return (WARN if self.lost_batches else OK), self.core.status, counters


def main() -> None:
    run(FeatureNode)


if __name__ == "__main__":
    main()
