"""Who may import whom: nodes touch the world, models never do, plc_sim is a world (docs of the architecture).

Every import counts, also those inside functions and under TYPE_CHECKING.
"""

from __future__ import annotations

import ast
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHELL = ("models", "nodes", "plc_sim")

# What each part of models may import from models besides `types` and itself. Left out: not allowed to exist.
MODELS = {
    "types": set(),
    "features": set(),
    "rules": {"features"},
    "detectors": {"features"},
    "ewad": {"features", "detectors", "evaluation"},
    "fusion": {"features", "rules", "detectors", "ewad"},
    "response": {"features", "rules", "detectors", "ewad", "fusion"},
    "drift": {"datasets", "evaluation"},
    "evaluation": set(),
    "selection": {"evaluation"},
    "registry": {"detectors"},
    "datasets": set(),
}
ROS = {"rclpy", "rcl_interfaces", "launch", "launch_ros", "ament_index_python", "builtin_interfaces"}
WORLD = {
    *("socket", "select", "ssl", "http", "urllib", "urllib3", "requests"),
    *("time", "asyncio", "threading", "subprocess", "multiprocessing", "signal"),
    *("asyncua", "influxdb_client", "logging", "typer", "rich"),
}
CLOCK_CALLS = {"now", "utcnow", "today"}
NETWORKS = {"models/detectors", "models/ewad", "models/drift"}  # where torch may be imported


def imported(tree: ast.AST) -> list[tuple[int, str]]:
    """Line and full dotted name of everything imported; `from a import b` gives a.b."""
    names: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            names += [(node.lineno, f"{base}.{alias.name}") for alias in node.names]
    return names


def is_ros(top: str) -> bool:
    return top in ROS or top.endswith("_msgs")


def objection(path: PurePosixPath, name: str) -> str:
    """Why the file may not import the name, "" if it may."""
    folder, top = path.parts[0], name.split(".", maxsplit=1)[0]
    inner = name.split(".")[1:] if top == "cellwatch" else []
    if name.startswith("."):
        return "imports are absolute"
    if top in SHELL:
        return f"the one import path is cellwatch.{top}"
    if (
        is_ros(top)
        and folder in SHELL
        and not (path.parts[:2] == ("nodes", "ros") or (len(path.parts) == 2 and path.stem.endswith("_node")))
    ):
        return "ROS belongs in nodes/*_node.py and nodes/ros"
    if top == "torch" and folder in SHELL and "/".join(path.parts[:2]) not in NETWORKS:
        return "torch belongs where the networks are"
    if folder == "models":
        if top in WORLD:
            return "models touch no world: pass time, data and randomness in"
        if inner and inner[0] != "models":
            return "models import models only"
        if inner:
            mine = path.parts[1].removesuffix(".py")
            if inner[1] not in MODELS.get(mine, set()) | {mine, "types"}:
                return f"models/{mine} may not build on models/{inner[1]}"
    if folder == "plc_sim" and inner and inner[0] != "plc_sim":
        return "a simulator that shares code with what it tests shares its bugs"
    if folder == "nodes" and inner:
        if inner[0] == "plc_sim" and (len(path.parts) > 2 or path.stem.endswith("_node")):
            return "to a node the plant is a server on the network"
        for part in ("drivers", "ros"):
            if path.parts[1] == part and inner[:2] not in (["models", "types"], ["nodes", part]):
                return f"nodes/{part} import models.types and their own only"
    return ""


def breaches(path: str, source: str) -> list[str]:
    """Every broken rule of one file, as `path:line: import: why`."""
    where, tree = PurePosixPath(path), ast.parse(source)
    found = [
        f"{path}:{line}: {name}: {why}" for line, name in imported(tree) if (why := objection(where, name))
    ]
    if where.parts[0] == "models":
        found += [
            f"{path}:{node.lineno}: {node.func.attr}(): models read no clock"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in CLOCK_CALLS
            and ast.unparse(node.func.value).split(".")[-1] in {"datetime", "date", "Timestamp"}
        ]
    return found


def files(*folders: str) -> list[str]:
    paths = (p.relative_to(ROOT) for folder in folders for p in sorted((ROOT / folder).rglob("*.py")))
    return [p.as_posix() for p in paths if "node_modules" not in p.parts]


@pytest.mark.parametrize("path", files(*SHELL, "launch", "tests", "benchmarks", "examples"))
def test_imports(path):
    assert breaches(path, (ROOT / path).read_text(encoding="utf-8")) == []


def test_every_part_of_models_has_its_place():
    parts = {
        p.name.removesuffix(".py") for p in (ROOT / "models").iterdir() if not p.name.startswith(("_", "."))
    }
    assert parts <= MODELS.keys(), "name it in MODELS above: what may it import?"


def test_models_have_no_cycle():
    assert "types" in MODELS
    settled: set[str] = set()
    while ready := {part for part, uses in MODELS.items() if part not in settled and uses <= settled}:
        settled |= ready
    assert settled == MODELS.keys()


@pytest.mark.parametrize("part", [*SHELL, "config"])
def test_the_shell_holds_relative_links(part):
    link = ROOT / "cellwatch" / part
    if not link.is_symlink():
        pytest.skip("an unpacked sdist holds the files themselves")
    assert link.readlink() == Path("..", part)
    assert link.is_dir()


def test_launch_never_shadows_ros():
    assert not (ROOT / "launch" / "__init__.py").exists()


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("models/rules/x.py", "import time"),
        ("models/rules/x.py", "def f():\n    import socket"),
        ("models/rules/x.py", "from rclpy.node import Node"),
        ("models/rules/x.py", "from cellwatch_msgs.msg import Gap"),
        ("models/rules/x.py", "from cellwatch.nodes import config"),
        ("models/rules/x.py", "from cellwatch import plc_sim"),
        ("models/rules/x.py", "from cellwatch.models.fusion import fusion"),
        ("models/rules/x.py", "from cellwatch.models import detectors"),
        ("models/rules/x.py", "import torch"),
        ("models/rules/x.py", "import datetime\nstart = datetime.datetime.now()"),
        ("models/features/x.py", "from cellwatch.models.rules import profile"),
        ("models/types.py", "from cellwatch.models.features import schema"),
        ("models/new_part/x.py", "from cellwatch.models.features import schema"),
        ("nodes/drivers/x.py", "from cellwatch.models.rules import profile"),
        ("nodes/drivers/x.py", "from cellwatch.nodes.ros import qos"),
        ("nodes/drivers/x.py", "import rclpy"),
        ("nodes/drivers/my_node.py", "import rclpy"),
        ("nodes/cli.py", "import rclpy"),
        ("nodes/ros/x.py", "from cellwatch.models.rules import profile"),
        ("nodes/rule_node.py", "from cellwatch.plc_sim import plant"),
        ("nodes/rule_node.py", "from .ros import qos"),
        ("plc_sim/x.py", "from cellwatch.models.types import Incident"),
        ("plc_sim/x.py", "from cellwatch.nodes import config"),
        ("plc_sim/x.py", "import rclpy"),
        ("tests/test_x.py", "from models.types import Incident"),
        ("tests/test_x.py", "import plc_sim"),
    ],
)
def test_the_rules_catch(path, source):
    assert len(breaches(path, source)) == 1


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("models/rules/x.py", "from cellwatch.models.features.schema import FEATURES"),
        ("models/rules/x.py", "from cellwatch.models.rules import profile"),
        ("models/detectors/mlp.py", "import torch"),
        ("nodes/rule_node.py", "import rclpy\nfrom cellwatch.models.rules import profile"),
        ("nodes/ros/qos.py", "from rclpy.qos import QoSProfile"),
        ("nodes/drivers/x.py", "import socket, time\nfrom cellwatch.models.types import Gap"),
        ("plc_sim/x.py", "import asyncio\nfrom cellwatch.plc_sim import plant"),
        ("launch/x.launch.py", "from launch import LaunchDescription"),
        ("tests/x.py", "import rclpy, torch, time"),
    ],
)
def test_the_rules_allow(path, source):
    assert breaches(path, source) == []
