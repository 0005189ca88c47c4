"""The package as others get it: a wheel and an sdist hold the whole of it as real files, and install."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

pytest.importorskip(
    "setuptools", minversion="70.1", reason="building needs setuptools: make test installs it"
)

KEPT = ("cellwatch", "nodes", "models", "plc_sim", "config", "launch", "msgs", "resource")
FILES = ("setup.py", "setup.cfg", "pyproject.toml", "MANIFEST.in", "package.xml", "LICENSE", "Makefile")


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=os.environ | env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout.strip()


def build(kind: str, source: Path, to: Path) -> Path:
    """Build without the network, as `pip wheel` and `python -m build` do behind their isolation."""
    code = f"import setuptools.build_meta as b, sys; print(b.build_{kind}(sys.argv[1]))"
    return to / run("-c", code, to, cwd=source).splitlines()[-1]


@pytest.fixture(scope="module")
def built(root, tmp_path_factory) -> tuple[Path, Path]:
    """A wheel and an sdist from a copy of the checkout, links and all."""
    folder = tmp_path_factory.mktemp("package")
    source = folder / "source"
    source.mkdir()
    for name in KEPT:
        shutil.copytree(
            root / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in FILES:
        shutil.copy(root / name, source)
    return build("wheel", source, folder), build("sdist", source, folder)


def shipped(root: Path) -> set[str]:
    """What the checkout has below the import shell."""
    wanted = (
        Path("cellwatch", part, path.relative_to(root / part))
        for part in ("nodes", "models", "plc_sim", "config")
        for path in (root / part).rglob("*")
        if path.is_file() and path.suffix in {".py", ".yaml"}
    )
    return {path.as_posix() for path in wanted} | {"cellwatch/__init__.py", "cellwatch/py.typed"}


def test_the_wheel_is_whole(built, root):
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
        assert not [i.filename for i in wheel.infolist() if i.external_attr >> 28 == 0o12]  # links
    assert shipped(root) - names == set()
    assert {name.split("/")[0] for name in names} == {
        "cellwatch",
        "cellwatch-0.1.0.dist-info",
        "cellwatch-0.1.0.data",
    }
    share = "cellwatch-0.1.0.data/data/share/"
    assert share + "ament_index/resource_index/packages/cellwatch" in names
    assert share + "cellwatch/package.xml" in names
    for folder in ("config", "launch"):
        for path in (root / folder).rglob("*.*"):
            if path.suffix in {".yaml", ".py"}:
                assert f"{share}cellwatch/{folder}/{path.relative_to(root / folder).as_posix()}" in names


def test_the_sdist_makes_the_same_wheel(built, tmp_path):
    wheel, sdist = built
    with tarfile.open(sdist) as archive:
        assert not [member.name for member in archive if member.islnk() or member.issym()]
        names = {member.name.partition("/")[2] for member in archive}
    assert {"LICENSE", "Makefile", "msgs/CMakeLists.txt", "msgs/package.xml", "package.xml"} <= names
    shutil.unpack_archive(sdist, tmp_path)
    (source,) = tmp_path.iterdir()
    again = build("wheel", source, tmp_path)
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert sorted(first.namelist()) == sorted(second.namelist())


def test_an_installed_wheel_runs_from_anywhere(built, tmp_path):
    site = tmp_path / "site"
    run("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target", site, built[0], cwd=tmp_path)
    code = """if 1:
        import importlib.resources as resources
        import cellwatch.models.types, cellwatch.nodes.doctor, cellwatch.plc_sim
        print(cellwatch.__file__)
        print(*sorted(p.name for p in (resources.files("cellwatch") / "config" / "cells").iterdir()))
    """
    file, cells = run("-c", code, cwd=tmp_path, PYTHONPATH=str(site)).splitlines()
    assert Path(file) == site / "cellwatch" / "__init__.py"
    assert "demo.yaml" in cells.split()
    assert (site / "bin" / "cellwatch").is_file()


def entry_points(wheel: Path) -> dict[str, str]:
    parser = ConfigParser()
    with zipfile.ZipFile(wheel) as archive:
        parser.read_string(archive.read("cellwatch-0.1.0.dist-info/entry_points.txt").decode())
    return dict(parser["console_scripts"])


def test_every_command_has_its_main_and_every_node_its_command(built, root):
    commands = entry_points(built[0])
    for name, target in commands.items():
        module, _, function = target.partition(":")
        tree = ast.parse((root / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
        assert function in {f.name for f in tree.body if isinstance(f, ast.FunctionDef)}, name
    nodes = {path.stem for path in (root / "nodes").glob("*_node.py")}
    assert nodes == set(commands) - {"cellwatch"}


def requires(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read("cellwatch-0.1.0.dist-info/METADATA").decode()
    return re.findall(r"^Requires-Dist: (.+)$", text, flags=re.MULTILINE)


def test_ros_wheels_are_never_required(built):
    plain = [line for line in requires(built[0]) if "extra ==" not in line]
    assert any(line.startswith("asyncua") for line in plain)
    assert not [line for line in plain if line.startswith("ros-")]
    assert "torch==2.13.0" in plain


def test_one_version_everywhere(root):
    import cellwatch

    for manifest in (root / "package.xml", root / "msgs" / "package.xml"):
        package = ET.parse(manifest).getroot()
        assert package.findtext("version") == cellwatch.__version__
        assert package.findtext("license") == "Apache-2.0"
        assert re.fullmatch(r"[\w.]+@[\w.]+\.\w+", package.find("maintainer").get("email"))
    assert f'version="{cellwatch.__version__}"' in (root / "setup.py").read_text()
