"""Each device on its own scale."""

from __future__ import annotations

import numpy as np
import pytest

from cellwatch.models.ewad.devices import BOUND, MIN_WINDOWS, Devices


@pytest.fixture
def learnt() -> tuple[Devices, np.ndarray, list[str]]:
    """A busy device and a calm one; the third column stands still, the fourth is missing at the calm one."""
    rng = np.random.default_rng(3)
    busy = np.stack([rng.normal(5000, 500, 200), rng.normal(40, 4, 200), np.zeros(200), np.ones(200)], axis=1)
    calm = np.stack([rng.normal(50, 5, 200), rng.normal(4, 0.4, 200), np.zeros(200), np.full(200, np.nan)], 1)
    values = np.concatenate([busy, calm]).astype(np.float32)
    device = ["busy"] * 200 + ["calm"] * 200
    return Devices.fit(values, device), values, device


def test_two_devices_far_apart_look_alike_once_centred(learnt):
    devices, values, device = learnt
    z = devices.centred(values, devices.places(device))
    assert abs(np.median(z[:200, 0]) - np.median(z[200:, 0])) < 0.05
    # what is ordinary at one of them is far out at the other
    (swapped,) = devices.centred(values[:1], devices.places(["calm"]))
    assert swapped[0] == BOUND


def test_a_column_that_never_moved_still_tells_when_it_does(learnt):
    devices, values, _ = learnt
    row = values[:1].copy()
    row[0, 2] = 30.0
    assert devices.centred(row, devices.places(["busy"]))[0, 2] == BOUND


def test_a_number_where_the_device_never_had_one_is_not_judged(learnt):
    devices, values, _ = learnt
    row = values[:1].copy()
    assert np.isnan(devices.centred(row, devices.places(["calm"]))[0, 3])
    row[0, 0] = np.nan
    assert np.isnan(devices.centred(row, devices.places(["busy"]))[0, 0])


def test_devices_that_are_unknown_or_were_seen_too_shortly(learnt):
    _, values, device = learnt
    devices = Devices.fit(values[: 200 + MIN_WINDOWS - 1], device[: 200 + MIN_WINDOWS - 1])
    assert devices.places(["calm", "busy", "stranger"]).tolist() == [-1, 0, -1]
    with pytest.raises(ValueError, match="benign windows"):
        Devices.fit(values[:5], device[:5])


def test_tensors_come_back_and_damaged_ones_do_not(learnt):
    devices, _, _ = learnt
    again = Devices.from_tensors(devices.names, devices.tensors())
    assert again.names == devices.names
    np.testing.assert_array_equal(again.spread, devices.spread)
    for harm in (
        {"low": devices.low[:1]},
        {"spread": np.zeros_like(devices.spread)},
    ):
        with pytest.raises(ValueError, match="devices"):
            Devices.from_tensors(devices.names, devices.tensors() | harm)
    with pytest.raises(ValueError, match="names"):
        Devices.from_tensors(["one"], devices.tensors())
