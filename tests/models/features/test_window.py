"""The assembler: grid, watermark, late and missing input, clocks, modes, commissioning, online = offline."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from cellwatch.models.features.schema import Schema, default_schema
from cellwatch.models.features.tags import AVG, SAMPLES
from cellwatch.models.features.traffic import NETWORK_COLUMNS
from cellwatch.models.features.window import MAX_BURST, FeatureAssembler, windows_from_recording
from cellwatch.models.types import FeatureWindow, TagBatch, TagCatalog, TagInfo, TrafficBatch

S = 1_000_000_000
T0 = 1_700_000_000
SCHEMA = default_schema()
CATALOG = TagCatalog(
    "plc1",
    (
        TagInfo("LIT101", "ns=2;i=1", "tank", low=0, high=100),
        TagInfo("P101", "ns=2;i=2", "pump", low=0, high=10),
        TagInfo("MODE", "ns=2;i=3", "tank", role="mode"),
    ),
)


def column(window: FeatureWindow, device: str, name: str) -> float:
    return float(window.values[window.devices.index(device), SCHEMA.names.index(name)])


def batch(
    sequence: int,
    at: float,
    values: dict[int, float],
    *,
    plc: str = "plc1",
    status: int = 0,
    late: float = 0.0,
):
    n = len(values)
    ns = round((T0 + at) * S)
    return TagBatch(
        plc,
        sequence,
        np.array(list(values), dtype=np.uint32),
        np.array(list(values.values()), dtype=np.float64),
        np.full(n, status, dtype=np.uint32),
        np.full(n, ns, dtype=np.int64),
        np.full(n, ns, dtype=np.int64),
        ns + round(late * S),
    )


def traffic(second: int, devices: tuple[str, ...] = (), packets: float = 5.0) -> TrafficBatch:
    """Traffic of the window that begins at `second`."""
    values = np.full((len(devices), 64), np.nan, dtype=np.float32)
    values[:, NETWORK_COLUMNS.index("network_packets_all_count")] = packets
    return TrafficBatch(
        T0 + second + 1, (T0 + second) * S, (T0 + second + 1) * S, NETWORK_COLUMNS, devices, values, 5
    )


def started(**more) -> FeatureAssembler:
    core = FeatureAssembler(SCHEMA, 1.0, 0.5, ("tank", "pump", "hmi"), **more)
    core.catalog(CATALOG)
    assert core.step(round((T0 + 0.3) * S)) == []
    return core


def at(seconds: float) -> int:
    return round((T0 + seconds) * S)


def test_first_partial_window_is_dropped_and_rows_are_there_when_nothing_came() -> None:
    core = started()
    assert core.step(at(2.4)) == []  # the watermark waits
    (window,) = core.step(at(2.5))
    assert (window.window_id, window.start_ns, window.end_ns) == (T0 + 2, at(1), at(2))
    assert window.devices == ("tank", "pump", "hmi")
    assert np.isnan(window.values[:, :64]).all()  # no tap: nothing is known
    assert column(window, "tank", "sensor_tags_count") == 2
    assert math.isnan(column(window, "hmi", "sensor_samples_count"))
    assert np.isnan(window.tag_values[:, AVG]).all()
    assert (window.tag_values[:, SAMPLES] == 0).all()
    assert window.schema_id == SCHEMA.schema_id


def test_a_window_closes_at_once_when_all_its_input_is_there() -> None:
    core = started()
    core.tags(batch(1, 1.5, {0: 40.0, 1: 3.0, 2: 1.0}))
    core.traffic(traffic(1, ("tank", "stranger")))
    assert core.step(at(2.05)) == []  # the PLC may still send tags of this window
    core.tags(batch(2, 2.01, {0: 41.0}))
    (window,) = core.step(at(2.06))
    assert window.closed_ns == at(2.06)
    assert window.devices == ("tank", "pump", "hmi", "stranger")
    assert column(window, "tank", "network_packets_all_count") == 5
    assert column(window, "stranger", "network_packets_all_count") == 5
    assert column(window, "hmi", "network_packets_all_count") == 0  # watched, and silent
    assert math.isnan(column(window, "hmi", "network_ttl_avg"))
    assert window.tag_values[0, AVG] == 40
    assert core.step(at(2.2)) == []


def test_late_input_is_counted_and_still_updates_what_is_held() -> None:
    core = started()
    core.tags(batch(1, 1.5, {0: 40.0}))
    assert len(core.step(at(2.6))) == 1
    core.tags(batch(2, 1.9, {0: 44.0}, late=1.0))
    core.tags(batch(3, 1.2, {0: 11.0}, late=1.5))  # older than what is held
    core.traffic(traffic(1))
    assert core.counters["late_samples"] == 2
    assert core.counters["late_traffic"] == 1
    (window,) = core.step(at(3.5))
    assert window.tag_values[0, AVG] == 44


def test_bad_quality_shows_in_the_device_row() -> None:
    core = started()
    core.tags(batch(1, 1.2, {0: 40.0, 2: 1.0}))
    core.tags(batch(2, 1.4, {0: 99.0}, status=0x80000000))
    core.tags(batch(3, 1.6, {1: 11.0}))
    (window,) = core.step(at(2.5))
    assert window.tag_values[0, AVG] == 40
    assert column(window, "tank", "sensor_bad-quality_ratio") == pytest.approx(0.25)
    assert column(window, "pump", "sensor_out-of-range_count") == 1
    assert column(window, "tank", "sensor_samples_count") == 3


def test_a_clock_jump_ahead_does_not_flood() -> None:
    core = started()
    core.step(at(3))
    windows = core.step(at(5000))
    assert len(windows) <= MAX_BURST
    assert core.counters["skipped_windows"] > 4900
    assert [w.window_id - T0 for w in core.step(at(5001.6))] == [5000, 5001]


def test_a_clock_set_back_begins_anew() -> None:
    core = started()
    core.step(at(100))
    before = core.counters["clock_steps"]
    assert core.step(at(50.2)) == []
    assert core.counters["clock_steps"] == before + 1
    core.tags(batch(1, 51.5, {0: 7.0}))
    (window,) = core.step(at(52.5))
    assert window.window_id == T0 + 52
    assert window.tag_values[0, AVG] == 7


def test_small_steps_back_are_waited_out() -> None:
    core = started()
    assert len(core.step(at(2.6))) == 1
    assert core.step(at(2.2)) == []
    assert [w.window_id for w in core.step(at(3.6))] == [T0 + 3]
    assert core.counters["clock_steps"] == 0


def test_a_plc_with_a_wrong_clock_is_shifted() -> None:
    core = started()
    core.tags(batch(1, 3601.4, {0: 8.0}, late=-3600))  # an hour ahead
    core.tags(batch(2, -3598.5, {1: 2.0}, late=3600))  # an hour behind
    (window,) = core.step(at(2.5))
    assert window.tag_values[0, AVG] == 8
    assert window.tag_values[1, AVG] == 2
    assert core.counters["shifted_batches"] == 2


def test_the_first_values_of_a_server_may_be_old() -> None:
    core = started()
    core.tags(batch(1, -900, {0: 8.0}, late=901))
    (window,) = core.step(at(2.5))
    assert window.tag_values[0, AVG] == 8
    assert window.tag_values[0, 7] == pytest.approx(902)  # staleness
    assert core.counters["late_samples"] == 0


def test_two_plcs_changed_catalogues_and_unknown_tags() -> None:
    core = started()
    core.tags(batch(1, 1.1, {0: 5.0}, plc="plc2"))
    core.tags(batch(1, 1.1, {0: 5.0, 77: 1.0}))
    assert core.counters["unknown_tags"] == 2
    core.catalog(TagCatalog("plc2", (TagInfo("LIT101", "x", "mixer"), TagInfo("TIT201", "y", "mixer"))))
    core.tags(batch(2, 1.2, {1: 70.0}, plc="plc2"))
    # plc1 comes back with a new tag in front: places move, what was staged stays with its tag.
    core.catalog(TagCatalog("plc1", (TagInfo("NEW", "n", "tank"), *CATALOG.tags)))
    core.tags(batch(2, 1.3, {1: 6.0}))
    (window,) = core.step(at(2.5))
    assert window.tags == ("NEW", "plc1:LIT101", "P101", "MODE", "plc2:LIT101", "TIT201")
    assert window.devices == ("tank", "pump", "hmi", "mixer")
    assert window.tag_values[window.tags.index("plc1:LIT101"), AVG] == 5.5
    assert window.tag_values[window.tags.index("TIT201"), AVG] == 70
    assert [window.devices[d] for d in window.tag_device] == [
        "tank",
        "tank",
        "pump",
        "tank",
        "mixer",
        "mixer",
    ]


def test_buffers_are_bounded() -> None:
    core = FeatureAssembler(SCHEMA, 1.0, max_samples=1000)
    core.catalog(CATALOG)
    for i in range(1000):
        core.tags(batch(i + 1, 1 + i / 1000, {0: 1.0, 1: 2.0, 2: 3.0}))
    assert core.counters["overflow"] >= 2000


def test_a_foreign_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        FeatureAssembler(Schema(("nonsense",), ("1",)), 1.0)
    part = SCHEMA.select(("sensor_tags_count", "network_ttl_avg"))
    core = FeatureAssembler(part, 1.0, devices=("a",))
    core.step(at(0))
    assert core.step(at(3))[0].values.shape == (1, 2)


def recording(
    windows: int, *, seed: int = 0, modes: tuple[int, ...] = ()
) -> tuple[list[TagBatch], list[TrafficBatch]]:
    """10 Hz tags, batches of 0.1 s, and traffic."""
    rng = np.random.default_rng(seed)
    batches = []
    for i in range(windows * 10):
        t = i / 10 + 0.05
        mode = float(modes[i // 10] if modes else 1)
        level = 50 + 5 * math.sin(t / 20) + rng.normal(0, 0.2)
        batches.append(batch(i + 1, t, {0: level, 1: level / 20 + rng.normal(0, 0.02), 2: mode}))
    flows = [traffic(w, ("tank", "pump"), float(rng.integers(10, 20))) for w in range(windows)]
    return batches, flows


def play(core: FeatureAssembler, batches: list[TagBatch], flows: list[TrafficBatch]) -> list[FeatureWindow]:
    core.catalog(CATALOG)
    core.step(batches[0].received_ns)
    windows, pending = [], list(flows)
    for one in batches:
        core.tags(one)
        while pending and pending[0].end_ns <= one.received_ns:
            core.traffic(pending.pop(0))
        windows += core.step(one.received_ns + 10_000_000)
    return windows


def test_online_equals_offline() -> None:
    batches, flows = recording(130)
    online = play(FeatureAssembler(SCHEMA, 1.0, 0.5, ("tank", "pump"), None, 60.0), batches, flows)
    offline = windows_from_recording(
        FeatureAssembler(SCHEMA, 1.0, 0.5, ("tank", "pump"), None, 60.0), [CATALOG], batches, flows
    )
    assert len(online) > 120
    assert len(offline) >= len(online)
    for a, b in zip(online, offline, strict=False):
        assert (a.window_id, a.devices, a.held, a.commissioning) == (
            b.window_id,
            b.devices,
            b.held,
            b.commissioning,
        )
        np.testing.assert_allclose(a.values, b.values, rtol=1e-6)
        np.testing.assert_allclose(a.tag_values, b.tag_values, rtol=1e-6, atol=1e-7)


def test_commissioning_flags_then_judges() -> None:
    batches, flows = recording(150)
    core = FeatureAssembler(SCHEMA, 1.0, 0.5, ("tank", "pump"), None, 60.0)
    windows = windows_from_recording(core, [CATALOG], batches, flows)
    assert [w.commissioning for w in windows[:61]] == [True] * 60 + [False]
    assert not core.commissioning
    assert core.status == "baseline of 2 device modes"
    assert set(windows[10].held) == {"tank", "pump"}
    assert windows[100].held == ()
    assert np.isnan(windows[10].tag_values[:, 8:]).all()
    assert np.isfinite(windows[50].tag_values[:, 8:]).all()  # the first baseline, for those who learn
    assert max(np.abs(w.tag_values[:, 8:]).max() for w in windows[60:]) < 10
    # Saved and loaded, it judges from the first window.
    again = FeatureAssembler(SCHEMA, 1.0, 0.5, ("tank", "pump"), core.baseline)
    assert windows_from_recording(again, [CATALOG], *recording(20, seed=1))[0].held == ()


def test_modes_hold_until_settled_and_when_unknown() -> None:
    core = FeatureAssembler(SCHEMA, 1.0, 0.5, ("tank", "pump"), None, 60.0, settle_s=5.0)
    modes = (1,) * 80 + (2,) * 30 + (1,) * 20
    windows = windows_from_recording(core, [CATALOG], *recording(130, modes=modes))
    held = {w.window_id - T0 - 1: "tank" in w.held for w in windows if not w.commissioning}
    assert not held[79]
    assert all(held[s] for s in range(80, 110))  # mode 2 was never commissioned
    assert all(held[s] for s in range(110, 114))  # known again, but not settled
    assert not any(held[s] for s in range(116, 129))
    window = windows[90]
    assert np.isnan(window.tag_values[[0, 2], 8:]).all()
    assert math.isnan(column(window, "tank", "sensor_zscore_max"))
    assert "pump" not in window.held


def test_recordings_are_fast() -> None:
    batches, flows = recording(400)
    core = FeatureAssembler(SCHEMA, 1.0, 0.5, ("tank", "pump"))
    start = time.perf_counter()
    count = len(windows_from_recording(core, [CATALOG], batches, flows))
    assert count / (time.perf_counter() - start) > 500  # 2,000 and more on an idle machine


def test_an_empty_recording() -> None:
    assert windows_from_recording(FeatureAssembler(SCHEMA, 1.0)) == []
