"""Feature node: tags and traffic become one window per period, the same for every detector.

Subscribes  tags, tag_catalog, tag_snapshot, traffic
Publishes   features (FeatureWindow), feature_schema (latched)
Parameters  window_s, lateness_s, devices, baseline_file, commissioning_s (see `Params`)
"""

from __future__ import annotations

import json
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from cellwatch_msgs.msg import FeatureSchema, FeatureWindow, TagBatch, TagCatalog, TrafficBatch

from cellwatch.models.features.baseline import TagBaseline
from cellwatch.models.features.schema import default_schema
from cellwatch.models.features.window import FeatureAssembler
from cellwatch.nodes.drivers.whole_file import write_whole
from cellwatch.nodes.ros import convert
from cellwatch.nodes.ros.node import OK, WARN, CellNode, run
from cellwatch.nodes.ros.params import param
from cellwatch.nodes.sequence import Sequence


@dataclass(frozen=True)
class Params:
    window_s: float = param(1.0, "window length", unit="s", low=0.1, high=60.0)
    lateness_s: float = param(0.5, "longest wait for late tags and packets", unit="s", low=0.0, high=10.0)
    devices: str = param("[]", "JSON list: devices that have a row in every window")
    baseline_file: str = param(
        "", "tag baseline of the cell; written there after commissioning when it does not exist"
    )
    commissioning_s: float = param(
        0.0, "benign learning period at the start", unit="s", low=0.0, high=604800.0
    )


class FeatureNode(CellNode):
    NAME = "feature_node"
    PARAMS = Params
    TICK_S = 0.02

    def build(self) -> None:
        p = self.params
        schema = default_schema()
        path = Path(p.baseline_file)
        self.known = bool(p.baseline_file) and path.exists()
        baseline = TagBaseline.from_dict(json.loads(path.read_text())) if self.known else None
        self.core = FeatureAssembler(
            schema, p.window_s, p.lateness_s, tuple(json.loads(p.devices)), baseline, p.commissioning_s
        )
        self.windows = self.lost_batches = 0
        self._sequence = Sequence()
        self.pub = self.publisher(FeatureWindow, "features")
        self.schema_pub = self.publisher(FeatureSchema, "feature_schema")
        self.schema_pub.publish(
            FeatureSchema(schema_id=schema.schema_id, names=list(schema.names), units=list(schema.units))
        )
        self._plcs: set[str] = set()
        self._early: deque = deque(maxlen=200)  # batches that overtook their catalogue
        self.subscribe(TagCatalog, "tag_catalog", self._catalog)
        self.subscribe(TagBatch, "tags", self._tags)
        self.subscribe(TagBatch, "tag_snapshot", lambda msg: self.core.hold(convert.tags(msg)))
        self.subscribe(TrafficBatch, "traffic", self._traffic)

    def _catalog(self, msg: TagCatalog) -> None:
        self.core.catalog(convert.catalog(msg))
        self._plcs.add(msg.header.frame_id)
        waiting, self._early = list(self._early), deque(maxlen=self._early.maxlen)
        for batch in waiting:
            self._tags(batch)

    def _tags(self, msg: TagBatch) -> None:
        plc = msg.header.frame_id
        if plc not in self._plcs:
            self._early.append(msg)
            return
        self.lost_batches += self._sequence.lost(plc, msg.sequence)
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
            if not self.known and self.core.baseline is not None and self.params.baseline_file:
                self.known = True
                try:
                    write_whole(Path(self.params.baseline_file), json.dumps(self.core.baseline.to_dict()))
                except OSError as error:  # it still judges; the next start learns anew
                    self.news("baseline", f"{self.params.baseline_file}: cannot be written: {error}")
                self.get_logger().info(self.core.status)

    def health(self) -> tuple[bytes, str, dict[str, object]]:
        counters = {"windows": self.windows, "lost_batches": self.lost_batches, **self.core.counters}
        return (WARN if self.lost_batches else OK), self.core.status, counters


def main() -> None:
    run(FeatureNode)


if __name__ == "__main__":
    main()
