"""The launch file, where ROS's own `launch` is installed; without it, that it stands on the same table."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parent.parent / "launch" / "cell.launch.py"


def test_launch_file_uses_the_one_table_of_nodes():
    tree = ast.parse(FILE.read_text())
    called = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    assert {"node_table", "write_params", "generate_launch_description"} - called == {
        "generate_launch_description"
    }
    assert "generate_launch_description" in {n.name for n in tree.body if isinstance(n, ast.FunctionDef)}


def test_launch_description_loads():
    pytest.importorskip("launch", reason="ROS 2's launch is not on PyPI: install ROS 2 to run this")
    pytest.importorskip("launch_ros", reason="ROS 2's launch_ros is not on PyPI: install ROS 2 to run this")
    description = runpy.run_path(str(FILE))["generate_launch_description"]()
    names = {a.name for a in description.entities if hasattr(a, "name")}
    assert {"config", "arm", "plant", "seed"} <= names
