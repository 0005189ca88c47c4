"""The feature schema: which columns a device row has, in which unit, under which id."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from cellwatch.models.features.traffic import NETWORK_COLUMNS

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
_UNITS = (  # UCUM, by the beginning of the name; the first that fits
    ("network_interval-packets", "ms"),
    ("network_time-delta", "s"),
    ("network_header-length", "By"),
    ("network_ip-length", "By"),
    ("network_mss", "By"),
    ("network_packet-size", "By"),
    ("network_payload-length", "By"),
    ("network_window-size", "By"),
    ("sensor_staleness", "s"),
)


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


def default_schema() -> Schema:
    """Return the 64 numeric `network_*` columns of DataSense and the 12 `sensor_*` aggregates."""
    names = NETWORK_COLUMNS + SENSOR_COLUMNS
    return Schema(names, tuple(next((u for start, u in _UNITS if n.startswith(start)), "1") for n in names))
