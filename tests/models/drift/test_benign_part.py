"""The benign devices of a window: theirs alone."""

import numpy as np

from cellwatch.models.drift.benign_part import benign_part
from cellwatch.models.types import Conversations, FeatureWindow


def u32(*numbers):
    return np.array(numbers, np.uint32)


def window():
    three = u32(0, 1, 2)
    spoken = Conversations(
        ("a", "b", "c", "opcua", "", "ip"),
        *(three, u32(1, 2, 0), np.zeros(3, np.uint8), u32(3, 3, 3), u32(4, 4, 4), three),
        *(u32(10, 11, 12), three, three, u32(1, 1, 1), np.array([5, 6, 7]), np.array([5, 6, 7])),
        *(u32(2, 0), u32(5, 5), u32(0, 1), u32(8, 9)),
        more=2,
    )
    column = np.array([[1.0], [2.0], [3.0]], np.float32)
    return FeatureWindow(
        1, 0, 1, 1, "s", ("a", "b", "c"), column, ("ta", "tb", "tc"), three, column,
        held=("b", "c"), modes=(4, 5, 6), conversations=spoken,
    )  # fmt: skip


def test_what_belongs_to_others_is_left_out():
    part = benign_part(window(), {"a", "c"})
    assert (part.devices, part.tags, part.held, part.modes) == (("a", "c"), ("ta", "tc"), ("c",), (4, 6))
    assert part.values.tolist() == part.tag_values.tolist() == [[1.0], [3.0]]
    assert part.tag_device.tolist() == [0, 1]
    spoken = part.conversations
    assert spoken.device.tolist() == [0, 1]
    assert spoken.packets.tolist() == [10, 12]
    assert spoken.low.tolist() == [5, 7]
    assert (spoken.claim_device.tolist(), spoken.claim_packets.tolist()) == ([1, 0], [8, 9])
    assert spoken.more == 2


def test_what_only_an_attacked_device_heard_is_left_out():
    spoken = benign_part(window(), {"a", "b"}).conversations
    assert (spoken.claim_device.tolist(), spoken.claim_packets.tolist()) == ([0], [9])


def test_a_benign_window_is_taken_as_it_is():
    whole = window()
    assert benign_part(whole, {"a", "b", "c"}) is whole
