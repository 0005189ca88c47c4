"""What the plant says of its incidents, and what of it goes out as labels."""

from __future__ import annotations

from cellwatch.nodes.plant import OPEN_END_NS, Plant

SAID = {
    "event": "incident", "name": "air_leak of PLC4", "kind": "fault", "category": "fault", "type": "air_leak",
    "device": "PLC4", "onset_ns": 10, "end_ns": 20, "devices": ["PLC4"], "attack_id": None,
}  # fmt: skip


def test_labels_are_what_is_new_or_has_changed():
    plant = Plant([])
    plant._take(SAID)
    plant._take({**SAID, "name": "b", "onset_ns": 5})
    assert [(i.name, i.end_ns) for i in plant.labels] == [("air_leak of PLC4", 20), ("b", 20)]
    assert [i.name for i in plant.incidents] == ["b", "air_leak of PLC4"]
    plant.labels.clear()
    plant._take({"event": "incident_end", "name": "air_leak of PLC4", "end_ns": OPEN_END_NS})
    assert not plant.labels  # nobody knows it yet
    plant._take({"event": "incident_end", "name": "air_leak of PLC4", "end_ns": 33})
    assert [(i.name, i.onset_ns, i.end_ns) for i in plant.labels] == [("air_leak of PLC4", 10, 33)]
