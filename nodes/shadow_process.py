"""The process in which another version of the models judges beside the one in service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from cellwatch.models.registry.bundle import Bundle, BundleError, read
from cellwatch.models.registry.manifest import FUSION, PROFILE
from cellwatch.models.registry.registry import Registry
from cellwatch.nodes import shadow_topics
from cellwatch.nodes.text_file import last_line

PATIENCE_S = 5.0  # after SIGTERM


class ShadowProcess:
    """Starts and ends `shadow`. Nothing here waits, but for the end of one that is to be replaced.

    Start it from a thread that lives as long as it: when that thread ends, so does the process.
    """

    def __init__(self, namespace: str, parameters: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
        """`namespace` of the cell; `parameters`: see `cell.shadow_parameters`; `folder` for files and log."""
        self.version = ""  # that judges beside
        self._namespace, self._parameters, self._folder = namespace, parameters, folder
        self._popen: subprocess.Popen[bytes] | None = None
        self._told_s: float | None = None  # when it was told to end

    @property
    def running(self) -> bool:
        """It runs, or is about to end."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def died(self) -> bool:
        """It has ended, and nobody told it to."""
        return self._popen is not None and self._told_s is None and self._popen.poll() is not None

    def start(self, registry: Registry, version: str) -> None:
        """Have this version judge beside from now on. BundleError or OSError if it cannot."""
        place = registry.path(version)
        bundle = read(place, registry.keys, only=(PROFILE, FUSION))  # its node checks the graphs
        if bundle.version != version:
            raise BundleError(f"{place}: holds version {bundle.version}")
        self._kill()
        params = self._write(place, bundle)
        with (self._folder / "shadow.log").open("wb") as log:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "cellwatch.nodes.shadow", *self._arguments(params)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | {"CELLWATCH_PARENT": str(os.getpid())},
            )
        self.version, self._told_s = version, None

    def stop(self) -> None:
        """Tell it to end; `poll` sees to it that it does."""
        if self._popen is not None and self._told_s is None:
            self._told_s = time.monotonic()
            self._popen.terminate()

    def poll(self) -> None:
        """Kill one that was told to end and does not. Call it now and then."""
        late = self._told_s is not None and time.monotonic() - self._told_s > PATIENCE_S
        if self._popen is not None and late and self.running:
            self._popen.kill()

    def last_words(self) -> str:
        """Last line of its log."""
        return last_line(self._folder / "shadow.log")

    def _kill(self) -> None:
        if self._popen is not None:
            self._popen.kill()
            self._popen.wait()
            self._popen = None

    def _write(self, place: Path, bundle: Bundle) -> Path:
        """Parameter file of its nodes."""
        self._folder.mkdir(parents=True, exist_ok=True)
        brought: dict[str, dict[str, str]] = {
            "rule_node": self._unpacked(bundle, PROFILE, "profile_file"),
            "ensemble_node": {"models": str(place)},
            "fusion_node": {
                "weights": json.dumps(bundle.manifest.fusion_weights()),
                "fit": "",
                **self._unpacked(bundle, FUSION, "fit"),
            },
        }
        nodes = {
            f"{shadow_topics.space(self._namespace)}/{name}": {"ros__parameters": {**given, **brought[name]}}
            for name, given in self._parameters.items()
        }
        path = self._folder / "shadow.yaml"
        path.write_text(yaml.safe_dump(nodes))
        return path

    def _unpacked(self, bundle: Bundle, name: str, key: str) -> dict[str, str]:
        """Path of a file of the bundle as a parameter; without one that of the version in service stays."""
        if name not in bundle.files:
            return {}
        path = self._folder / f"shadow-{name}"
        path.write_bytes(bundle.files[name])
        return {key: str(path)}

    def _arguments(self, params: Path) -> list[str]:
        rules = [f"__ns:={shadow_topics.space(self._namespace)}", *shadow_topics.remaps(self._namespace)]
        out = ["--ros-args", "--params-file", str(params)]
        for rule in rules:
            out += ["-r", rule]
        return out
