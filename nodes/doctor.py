"""What is installed, what is missing and how to mend it: the checks behind `cellwatch doctor`.

Quick on purpose: versions come from package metadata, and the two things that only show when loaded (ROS 2
with our messages, ONNX Runtime) load side by side in processes of their own, where a crash is a finding.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

FREE_DISK_GB = 2.0  # the embedded store keeps rotating segments; a full disk loses records
FREE_SHM_GB = 0.032  # Fast DDS moves messages between processes through shared memory
TIME_ERROR = 5  # adjtimex(2): the kernel does not hold the clock to be synchronised
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (only its free space is asked for)
PROBE_S = 10.0

PACKAGES = (
    "asyncua",
    "numpy",
    "scikit-learn",
    "onnx",
    "influxdb-client",
    "mcap",
    "fastapi",
    "uvicorn",
    "typer",
    "rich",
)
ROS_PROBE = (
    "import rclpy, cellwatch_msgs.msg as m; m.TagBatch.__class__.__import_type_support__();"
    "print(rclpy.get_rmw_implementation_identifier())"
)
ONNX_PROBE = (
    "import onnxruntime as o; print(o.__version__, *(p[:-17].lower() for p in o.get_available_providers()"
    " if p in ('CUDAExecutionProvider', 'CPUExecutionProvider')))"
)


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; `cure` is a line to act on, "" where nothing needs doing."""

    name: str
    ok: bool
    found: str
    cure: str = ""
    required: bool = True  # False: the cell runs without it


def version(*names: str) -> str:
    """Name and version of the first of the distributions that is installed, "" if none is.

    >>> version("no-such-package", "numpy").split()[0]
    'numpy'
    """
    for name in names:
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return ""


def probe(code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def answer(name: str, process: subprocess.Popen[str], cure: str) -> Check:
    """Report what a probe printed, or the last line it complained with."""
    try:
        out, err = process.communicate(timeout=PROBE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return Check(name, ok=False, found=f"no answer in {PROBE_S:.0f} s", cure=cure)
    if process.returncode:
        last = err.strip().splitlines()
        return Check(name, ok=False, found=last[-1] if last else f"exit code {process.returncode}", cure=cure)
    return Check(name, ok=True, found=out.strip())


def gpu() -> str:
    """Path of the NVIDIA device, "" on a machine without one."""
    device = Path("/dev/nvidia0")
    return str(device) if device.exists() else shutil.which("nvidia-smi") or ""


def python() -> Check:
    ok = sys.version_info >= (3, 11)
    return Check("python", ok, f"{platform.python_version()} in {sys.prefix}", "install Python 3.11 or newer")


def compiler() -> Check:
    path = shutil.which("g++") or ""
    return Check(
        "g++", bool(path), path or "not found", "apt-get install g++ (compiles the messages)", required=False
    )


def packages() -> Check:
    missing = [name for name in PACKAGES if not version(name)]
    if not version("xgboost-cpu", "xgboost"):
        missing.append("xgboost")
    if missing:
        return Check("packages", ok=False, found="missing: " + ", ".join(missing), cure="make setup")
    return Check(
        "packages", ok=True, found=", ".join(version(n) for n in ("asyncua", "numpy", "scikit-learn"))
    )


def torch() -> Check:
    found = version("torch")
    device = "cpu" if not gpu() or "+cpu" in found else "cuda"
    return Check("torch", bool(found), f"{found}, {device}" if found else "not installed", "make setup")


def accelerator() -> Check:
    """Whether a GPU, where there is one, is used for serving."""
    device = gpu()
    if not device:
        return Check("gpu", ok=True, found="none: models run on the CPU", required=False)
    used = bool(version("onnxruntime-gpu"))
    return Check(
        "gpu",
        used,
        f"{device}, {'used' if used else 'not used'}",
        "make clean && make setup ACCELERATOR=gpu",
        required=False,
    )


def program(name: str, use: str, cure: str) -> Check:
    """Whether a command is on the PATH (Debian keeps some in /usr/sbin)."""
    path = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin")))
    return Check(name, bool(path), path or f"not found ({use})", cure, required=False)


def live_capture() -> Check:
    """Whether this process may open a packet socket."""
    # Not a file capability on python: the loader then ignores LD_LIBRARY_PATH, which the ROS wheels need.
    cure = (
        "sudo setpriv --reuid=$USER --init-groups --inh-caps=+net_raw --ambient-caps=+net_raw"
        " .venv/bin/cellwatch run (only for a live interface)"
    )
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()
    except (AttributeError, OSError) as error:
        return Check("live capture", ok=False, found=f"AF_PACKET: {error}", cure=cure, required=False)
    return Check("live capture", ok=True, found="AF_PACKET allowed", required=False)


def space(name: str, folder: Path, least_gb: float, cure: str) -> Check:
    """Free space where `folder` is, or will be made."""
    place = next(p for p in (folder, *folder.parents) if p.is_dir())
    free = shutil.disk_usage(place).free / 1e9
    return Check(name, free >= least_gb, f"{free:.2f} GB free at {place}", cure)


def clock() -> Check:
    """Whether the kernel holds the clock to be synchronised, and its own bound on the error."""
    cure = "synchronise it (apt-get install chrony): source times of the PLC are compared with this clock"
    buffer = ctypes.create_string_buffer(512)  # struct timex, all zero: only read
    try:
        state = ctypes.CDLL(None).adjtimex(buffer)
    except AttributeError:
        return Check("clock", ok=False, found="cannot ask this system", cure=cure, required=False)
    if state in {-1, TIME_ERROR}:
        return Check("clock", ok=False, found="not synchronised", cure=cure, required=False)
    (error_us,) = struct.unpack_from("l", buffer, 3 * struct.calcsize("l"))
    return Check("clock", ok=True, found=f"synchronised within {error_us / 1000:.0f} ms", required=False)


def checks() -> list[Check]:
    """Run every check, in the order of the report."""
    ros, onnx = probe(ROS_PROBE), probe(ONNX_PROBE)
    home = Path(os.environ.get("CELLWATCH_HOME", Path.home()))
    quick = [
        packages(),
        torch(),
        accelerator(),
        program("tshark", use="reference in the tests", cure="apt-get install tshark"),
        program("node", use="third-party OPC UA server in the tests", cure="apt-get install nodejs npm"),
        program("mosquitto", use="MQTT in the tests", cure="apt-get install mosquitto"),
        program("influxd", use="the embedded store needs none", cure="apt-get install influxdb"),
        program(
            "victoria-metrics",
            use="the embedded store needs none",
            cure="apt-get install victoria-metrics",
        ),
        live_capture(),
        space("disk", home, FREE_DISK_GB, cure="make room, or set CELLWATCH_HOME to a larger disk"),
        space("shared memory", SHARED_MEMORY, FREE_SHM_GB, cure="start the container with --shm-size=256m"),
        clock(),
    ]
    return [
        python(),
        compiler(),
        answer("ros 2 and messages", ros, "make setup (or source ROS 2 and `colcon build`)"),
        answer("onnxruntime", onnx, "make setup"),
        *quick,
    ]
