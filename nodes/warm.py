"""`python -m cellwatch.nodes.warm`: compile the packet path before a node waits for it.

It takes half a minute once; then the machine code is on disk.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from rich.console import Console

COMPILED = ("models/features", "nodes/drivers/records.py")  # what numba compiles


def ensure_compiled(folder: Path, console: Console) -> None:
    """Compile in a process of its own, unless `folder` says that it was done for these very sources."""
    done = folder / f"compiled-{fingerprint()}"
    if done.exists():
        return
    console.print("compiling the packet parser (once, half a minute)")
    subprocess.run([sys.executable, "-m", "cellwatch.nodes.warm"], check=True)
    folder.mkdir(parents=True, exist_ok=True)
    done.touch()


def fingerprint() -> str:
    """Hash of the compiled sources, the compiler and the interpreter."""
    root = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256(f"{metadata.version('numba')} {sys.version}".encode())
    for part in COMPILED:
        base = root / part
        for file in sorted(base.rglob("*.py")) if base.is_dir() else [base]:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


# An MQTT PUBLISH of {"v":1}: from Ethernet to the payload it passes through all that is compiled.
_FRAME = bytes.fromhex(
    "020000000001020000000002080045000034000100004006000000000000000000000000"
    "c000075b00000001000000015018ffff00000000300a0001747b2276223a317d"
)


def load() -> None:
    """Have the machine code in memory: compiled if it is not on disk, else in about a second."""
    from cellwatch.models.features.packets import parse
    from cellwatch.models.features.traffic import TrafficWindows
    from cellwatch.models.types import PacketBlock

    data = np.frombuffer(_FRAME, np.uint8)
    length = np.array([len(data)], np.uint32)
    traffic = TrafficWindows(1.0, {}, lists=True)
    traffic.add(parse(PacketBlock(data, np.zeros(1, np.int64), length, length, np.ones(1, np.int64), 1)))
    traffic.close(None)


if __name__ == "__main__":
    import_module("cellwatch.nodes.drivers.records")  # compiles on import
    load()
