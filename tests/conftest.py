"""What every test gets: its own ROS domain on the loopback, its own home, and the shared data."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
HOME = pytest.StashKey[str]()


def pytest_configure(config):
    """Set before any test module is imported, so that children and import-time readers see it too."""
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)  # 0-101 keep clear of ephemeral ports
    config.stash[HOME] = os.environ["CELLWATCH_HOME"] = tempfile.mkdtemp(prefix="cellwatch-test-")


def pytest_unconfigure(config):
    shutil.rmtree(config.stash[HOME], ignore_errors=True)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the real recordings (SKAB, captures ...); tests that need them skip without it."""
    default = ROOT.parent / "shared" / "data"
    folder = Path(os.environ.get("CELLWATCH_DATA") or default)
    if not folder.is_dir():
        pytest.skip(f"no recorded data at {folder}: set CELLWATCH_DATA to its folder")
    return folder


class ServedPlc:
    """The OPC UA server of a simulated PLC1 in a thread; tag i shows the count of scans + i / 100."""

    def __init__(self, **options):
        from cellwatch.plc_sim.servers.opcua import PlcServer
        from cellwatch.plc_sim.tags import PLC_TAGS

        self.tags = PLC_TAGS["PLC1"]
        self.scan_s = 0.05
        self.count = 0
        self.held = False
        self.writes, self.calls = [], []
        self.refusal = 0
        options.setdefault("historized", ("LIT101",))
        self.server = PlcServer(
            "PLC1", self.tags, self.take(self.writes), None, self.take(self.calls), **options
        )
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.run(self.server.start(0, self.values()))
        self.ticking = asyncio.run_coroutine_threadsafe(self.tick(), self.loop)

    def take(self, record):
        def took(name, given):
            record.append((name, given))
            return self.refusal

        return took

    def values(self):
        numbers = [self.count + i / 100 for i in range(len(self.tags))]
        return [n if t.kind == "float" else 0 for n, t in zip(numbers, self.tags, strict=True)]

    async def tick(self):
        while True:
            await asyncio.sleep(self.scan_s)
            if not self.held:
                self.count += 1
                await self.server.publish(time.time_ns(), self.values())

    def run(self, coroutine, timeout=20):
        """Run a coroutine in the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    @contextlib.contextmanager
    def trouble(self, name):
        """A step of chaos around a block of the test's own thread."""
        from cellwatch.plc_sim.chaos import CHAOS

        chaos = CHAOS[name]() if isinstance(name, str) else name
        self.run(chaos.begin(self.server))
        try:
            yield chaos
        finally:
            self.run(chaos.end(self.server))

    def close(self):
        async def end():
            await self.server.stop()
            rest = asyncio.all_tasks() - {asyncio.current_task()}  # asyncua leaves some behind
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        self.run(end())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
        self.loop.close()


@pytest.fixture
def served_plc():
    """A simulated PLC behind OPC UA, for clients."""
    plc = ServedPlc()
    yield plc
    plc.close()


def softmax_graph(features: int = 2, classes: int = 2, seed: int = 0) -> bytes:
    """The smallest detector: one matrix and a softmax."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(seed).normal(size=(features, classes)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["z"]),
            helper.make_node("Softmax", ["z"], ["probabilities"], axis=1),
        ],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", features])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", classes])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return model.SerializeToString()


@pytest.fixture
def keys(tmp_path):
    from cellwatch.models.registry.keys import Keys

    return Keys(tmp_path / "keys")


@pytest.fixture
def manifest():
    """Of a small bundle to write, read and harm; `files` are its files."""
    from cellwatch.models.registry.manifest import Manifest, ModelEntry

    return Manifest(
        "bench",
        "s1",
        1.0,
        {"1": ["benign", "attack"]},
        {"centre": [0.0, 0.0], "scale": [1.0, 1.0]},
        [ModelEntry("XGB", 1, "window", "L1-XGB.onnx", {"mcc": 0.5})],
        {"1": {"XGB": 0.5}},
    )


@pytest.fixture
def files():
    return {"L1-XGB.onnx": softmax_graph(), "profile.json": b"{}"}
