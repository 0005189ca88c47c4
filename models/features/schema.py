"""The feature schema: which columns a device row has, in which unit, under which id."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from cellwatch.models.features.columns import TRAFFIC_COLUMNS, unit

# Aggregates of a device over its tags; what each means: docs/features.md.
SENSOR_COLUMNS = (
    "sensor_samples_count",
    "sensor_bad-quality_ratio",
    "sensor_staleness_max",
    "sensor_out-of-range_count",
    "sensor_zscore_max",
    "sensor_zscore_avg",
    "sensor_residual_max",
    "sensor_residual_avg",
    "sensor_std-zscore_max",
    "sensor_std-zscore_min",
    "sensor_slope-zscore_max",
    "sensor_tags_count",
)
# The 17 features of DataSense's selection (Firouzi et al., Electronics 2025, 14, 4095, Table 7); where the
# table names a list, its length is taken.
DATASENSE17 = (
    "log_messages_count", "log_data-ranges_avg", "log_data-types_count", "network_fragmented-packets",
    "network_interval-packets", "network_packets_all_count", "network_ips_dst_count", "network_ips_all_count",
    "network_macs_src_count", "network_packet-size_std_deviation", "network_ports_all_count",
    "network_protocols_all_count", "network_time-delta_avg", "network_ttl_avg", "network_window-size_avg",
    "network_ip-flags_max", "network_tcp-flags-psh_count",
)  # fmt: skip


class SchemaMismatchError(ValueError):
    """Values of one schema met a consumer of another."""


@dataclass(frozen=True, slots=True)
class Schema:
    """Names and units (UCUM, "1" for a plain number) of the columns of `FeatureWindow.values`."""

    names: tuple[str, ...]
    units: tuple[str, ...]
    schema_id: str = field(init=False)  # first 16 hex digits of sha256 over names and units

    def __post_init__(self) -> None:
        if len(self.names) != len(self.units):
            raise ValueError(f"schema has {len(self.names)} names but {len(self.units)} units")
        if len(set(self.names)) != len(self.names):
            raise ValueError("schema has a name twice")
        text = "\n".join(f"{name}\t{unit}" for name, unit in zip(self.names, self.units, strict=True))
        object.__setattr__(self, "schema_id", hashlib.sha256(text.encode()).hexdigest()[:16])

    def require(self, schema_id: str, whose: str = "window") -> None:
        """Raise SchemaMismatchError, with both ids, unless `schema_id` is ours."""
        if schema_id != self.schema_id:
            raise SchemaMismatchError(
                f"{whose} has feature schema {schema_id}, need {self.schema_id}: "
                "use a model trained for this schema, or retrain"
            )

    def select(self, names: tuple[str, ...]) -> Schema:
        """Return the schema of some of the columns, in the order given."""
        unit = dict(zip(self.names, self.units, strict=True))
        unknown = [name for name in names if name not in unit]
        if unknown:
            raise ValueError(f"schema {self.schema_id} has no column {unknown[0]!r}")
        return Schema(names, tuple(unit[name] for name in names))

    def to_json(self, **about: Any) -> str:
        """Names, units and id as JSON text; `about` says where they come from."""
        columns = {"schema_id": self.schema_id, "names": list(self.names), "units": list(self.units)}
        return json.dumps(columns | about, indent=1)

    @classmethod
    def from_json(cls, text: str, whose: str = "schema") -> Schema:
        """Read it back. ValueError when it is no schema, or was changed by hand."""
        try:
            data = json.loads(text)
            schema = cls(tuple(data["names"]), tuple(data["units"]))
            schema_id = data["schema_id"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(f"{whose}: not a feature schema: {error}") from None
        schema.require(schema_id, whose)
        return schema


def default_schema() -> Schema:
    """Return the numeric `network_*` and `log_*` of DataSense, our `industrial_*` and `sensor_*`."""
    names = TRAFFIC_COLUMNS + SENSOR_COLUMNS
    return Schema(names, tuple(unit(n) for n in names))


def named_schema(name: str) -> Schema:
    """Return a schema by name: `default` or `datasense17`."""
    known = {"default": default_schema().names, "datasense17": DATASENSE17}
    if name not in known:
        raise ValueError(f"no schema is called {name!r}; there are: {', '.join(known)}")
    return default_schema().select(known[name])
