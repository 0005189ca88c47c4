"""Replicas share the devices: each has one owner, and only those of a lost replica move."""

from __future__ import annotations

from cellwatch.models.detectors.shares import Members, owner

DEVICES = tuple(f"device-{i}" for i in range(200))


def shares(members: list[Members], now: float) -> list[set[int]]:
    return [set(m.mine(DEVICES, now)) for m in members]


def test_every_device_has_one_owner_and_the_shares_are_alike():
    first, second, third = shares([Members(i, 3, 0.0) for i in (1, 2, 3)], 0.5)
    assert first | second | third == set(range(200))
    assert len(first) + len(second) + len(third) == 200
    assert min(len(first), len(second), len(third)) > 40


def test_when_one_goes_only_its_devices_move():
    before = {d: owner(d, (1, 2, 3)) for d in DEVICES}
    after = {d: owner(d, (1, 3)) for d in DEVICES}
    assert all(after[d] == before[d] for d in DEVICES if before[d] != 2)
    assert {after[d] for d in DEVICES if before[d] == 2} == {1, 3}


def test_silence_gives_the_devices_to_the_others_and_back():
    a, b = Members(1, 2, 0.0), Members(2, 2, 0.0)
    for second in range(1, 5):
        a.hear(2, float(second), active=True)
        b.hear(1, float(second), active=True)
    assert sum(map(len, shares([a, b], 4.5))) == 200
    a.hear(1, 9.0, active=False)  # its own voice says nothing new
    assert a.alive(6.0) == (1, 2)
    assert a.alive(6.3) == (1,)
    assert a.mine(DEVICES, 6.3) == list(range(200))
    a.hear(2, 7.0, active=True)
    b.hear(1, 7.0, active=True)
    assert sum(map(len, shares([a, b], 7.1))) == 200


def test_one_that_stops_on_purpose_gives_its_devices_away_at_once():
    a = Members(1, 2, 0.0)
    a.hear(2, 1.0, active=False)
    assert a.mine(DEVICES, 1.0) == list(range(200))


def test_one_that_was_never_heard_of_is_given_time():
    a = Members(1, 2, 0.0)
    assert a.alive(2.0) == (1, 2)
    assert a.alive(2.3) == (1,)
