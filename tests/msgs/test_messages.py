"""Messages: a changed one is a visible diff, and the compiled ones are those of the .msg files.

After changing a message on purpose:  python tests/msgs/test_messages.py
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = Path(__file__).with_name("golden_hashes.json")
CURE = "if that is meant: python tests/msgs/test_messages.py, and commit the file"
PACKAGE = "cellwatch_msgs"


def sources() -> dict[str, str]:
    """Definition of every message; services and actions by their parts, as rosidl names them."""
    parts = {
        "msg": ("",),
        "srv": ("_Request", "_Response"),
        "action": ("_Goal", "_Result", "_Feedback"),
    }
    return {
        f"{PACKAGE}/{kind}/{path.stem}{suffix}": text.strip("\n") + "\n"
        for kind, suffixes in parts.items()
        for path in sorted((ROOT / "msgs" / kind).glob(f"*.{kind}"))
        for suffix, text in zip(suffixes, ("\n" + path.read_text()).split("\n---"), strict=True)
    }


def store(messages: dict[str, str]):
    """Put the definitions beside those of ROS 2; rosbags would call a part of a service a message."""
    types = get_typestore(Stores.ROS2_KILTED)
    for name, text in messages.items():
        (fields,) = get_types_from_msg(text, name).values()
        types.register({name: fields})
    return types


def hashes() -> dict[str, str]:
    """Return the RIHS01 hash (REP-2016) of every message."""
    types = store(sources())
    return {name: types.hash_rihs01(name) for name in sources()}


def test_hashes_are_the_golden_ones():
    golden = json.loads(GOLDEN.read_text())
    now = hashes()
    assert golden.keys() == now.keys(), CURE
    assert [n for n in now if golden[n] != now[n]] == [], CURE


@pytest.mark.parametrize(
    ("old", "new"),
    [("uint64 sequence", "uint32 sequence"), ("uint64 sequence", "uint64 number"), ("Gap[] gaps", "")],
)
def test_a_changed_message_changes_its_hash(old, new):
    name = f"{PACKAGE}/msg/TagBatch"
    messages = sources()
    assert old in messages[name]
    messages[name] = messages[name].replace(old, new)
    assert store(messages).hash_rihs01(name) != json.loads(GOLDEN.read_text())[name]


def compiled(name: str):
    package, kind, stem = name.split("/")
    pytest.importorskip(PACKAGE, reason="cellwatch_msgs is not compiled: make setup")
    module = importlib.import_module(f"{package}.{kind}")
    whole, _, part = stem.partition("_")
    return getattr(getattr(module, whole), part) if part and kind != "msg" else getattr(module, stem)


@pytest.mark.parametrize("name", sources())
def test_compiled_fields_are_those_of_the_file(name):
    kind = compiled(name)
    assert [*kind.get_fields_and_field_types()] == [
        field for field, _ in store(sources()).fielddefs[name][1]
    ], "compile the messages again: make setup"


@pytest.mark.parametrize("name", sources())
def test_compiled_hash_is_the_golden_one(name):
    compiled(name)
    _, kind, stem = name.split("/")
    prefix = Path(importlib.import_module(PACKAGE).__file__).parents[
        4
    ]  # PREFIX/lib/pythonX/site-packages/...
    described = prefix / "share" / PACKAGE / kind / (stem.partition("_")[0] + ".json")
    entries = json.loads(described.read_text())["type_hashes"]
    found = {entry["type_name"]: entry["hash_string"] for entry in entries}
    assert found[name] == json.loads(GOLDEN.read_text())[name], "compile the messages again: make setup"


def test_a_batch_survives_the_wire_without_ros():
    """Bytes that rclpy wrote are read by rosbags, which knows nothing but the .msg files."""
    serialization = pytest.importorskip("rclpy.serialization")
    name = f"{PACKAGE}/msg/TagBatch"
    batch = compiled(name)(sequence=2**40, replayed=True)
    batch.tag, batch.value = [3, 1], [float("nan"), -1.5]
    batch.status, batch.source_ns, batch.server_ns = [0, 0x80340000], [1, 2**62], [2, 3]
    read = store(sources()).deserialize_cdr(serialization.serialize_message(batch), name)
    assert (read.sequence, read.replayed) == (2**40, True)
    assert read.tag.tolist() == [3, 1]
    assert str(read.value.tolist()) == "[nan, -1.5]"
    assert read.status.tolist() == [0, 0x80340000]
    assert read.source_ns.tolist() == [1, 2**62]


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(hashes(), indent=1) + "\n")
