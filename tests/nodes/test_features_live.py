"""The real tap and feature nodes over a FIFO give the same numbers as `cellwatch features` over a file."""

from __future__ import annotations

import os
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

rclpy = pytest.importorskip("rclpy")
from cellwatch_msgs.msg import FeatureSchema, FeatureWindow  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402

from cellwatch.models.features.columns import TRAFFIC_COLUMNS  # noqa: E402
from cellwatch.models.features.schema import default_schema  # noqa: E402
from cellwatch.nodes.drivers.capture import read_all  # noqa: E402
from cellwatch.nodes.feature_node import FeatureNode  # noqa: E402
from cellwatch.nodes.features_file import extract  # noqa: E402
from cellwatch.nodes.network_tap_node import NetworkTapNode  # noqa: E402
from cellwatch.nodes.ros import convert, qos  # noqa: E402

DATA = Path(os.environ.get("CELLWATCH_DATA", Path(__file__).parents[3] / "shared" / "data"))
CAPTURE = DATA / "lemay_modbus" / "moving_two_files_modbus_6RTU.pcap"
HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
SECONDS, PACKETS = 4.0, 1200
S = 1_000_000_000


def records(start_ns: int) -> list[tuple[int, bytes]]:
    """The first packets of a real capture, spread evenly over some seconds from `start_ns` on."""
    block = next(iter(read_all(CAPTURE)))
    out = []
    for i in range(PACKETS):
        at = (start_ns + int(i * SECONDS * 1e9 / PACKETS)) // 1000 * 1000
        place, size = int(block.offset[i]), int(block.length[i])
        head = struct.pack("<IIII", at // S, at % S // 1000, size, int(block.wire_length[i]))
        out.append((at, head + block.data[place : place + size].tobytes()))
    return out


@pytest.fixture
def ros():
    rclpy.init()
    yield
    rclpy.try_shutdown()


@pytest.mark.usefixtures("ros")
def test_what_the_nodes_publish_is_what_the_file_gives(tmp_path: Path) -> None:
    if not CAPTURE.exists():
        pytest.skip(f"{CAPTURE} is absent; set CELLWATCH_DATA")
    extract(CAPTURE, tmp_path / "first.parquet", 1.0)  # compiles what is not yet on disk: not while live
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    tap, features = NetworkTapNode(), FeatureNode()
    tap.set_parameters([Parameter("source", value=str(fifo))])
    listener = rclpy.create_node("listener")
    windows: dict[int, FeatureWindow] = {}
    schemas: list[FeatureSchema] = []
    listener.create_subscription(
        FeatureWindow, "features", lambda m: windows.setdefault(m.window_id, m), qos.TOPICS["features"]
    )
    listener.create_subscription(
        FeatureSchema, "feature_schema", schemas.append, qos.TOPICS["feature_schema"]
    )
    executor = SingleThreadedExecutor()
    for node in (tap, features, listener):
        executor.add_node(node)
    for node in (features, tap):
        node.trigger_configure()
        node.trigger_activate()

    played = records(time.time_ns() + 2 * S)

    def play() -> None:
        with fifo.open("wb", buffering=0) as pipe:
            pipe.write(HEADER)
            for at, record in played:
                time.sleep(max(0.0, (at - time.time_ns()) / 1e9))
                pipe.write(record)

    player = threading.Thread(target=play, daemon=True)
    player.start()
    last = played[-1][0] // S + 1
    until = time.monotonic() + SECONDS + 6
    while time.monotonic() < until and last not in windows:
        executor.spin_once(timeout_sec=0.05)
    player.join(timeout=2)
    for node in (tap, features):
        node.end()
    for node in (tap, features, listener):
        executor.remove_node(node)
        node.destroy_node()
    assert last in windows
    assert {m.schema_id for m in windows.values()} == {schemas[0].schema_id} == {default_schema().schema_id}

    copy, out = tmp_path / "copy.pcap", tmp_path / "windows.parquet"
    copy.write_bytes(HEADER + b"".join(record for _, record in played))
    extract(copy, out, 1.0)
    table = pq.read_table(out)
    offline = np.column_stack([table[name].to_numpy() for name in TRAFFIC_COLUMNS])
    ends = (table["timestamp_end"].to_numpy().astype(np.int64) // S).tolist()
    compared = 0
    for row, end, device in zip(offline, ends, table["device_mac"].to_pylist(), strict=True):
        if end not in windows or end == played[0][0] // S + 1:
            continue  # the first window of a stream is seen in part only, and the tap does not report it
        live = convert.features(windows[end])
        if device not in live.devices:
            assert row[TRAFFIC_COLUMNS.index("network_packets_all_count")] == 0
            continue
        np.testing.assert_allclose(
            live.values[live.devices.index(device), : len(TRAFFIC_COLUMNS)],
            row,
            rtol=1e-6,
            err_msg=f"{device} {end}",
        )
        compared += 1
    assert compared > 10
