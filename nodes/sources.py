"""What code made something that is kept on disk, and how it is put there."""

from __future__ import annotations

import ast
import hashlib
import os
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@cache
def code_digest(*places: str) -> str:
    """First 12 digits of the sha256 of the code in files and folders, given from the root of Cellwatch.

    Comments, docstrings and layout do not count.
    """
    sha = hashlib.sha256()
    for place in places:
        path = ROOT / place
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            sha.update(file.relative_to(ROOT).as_posix().encode() + _code(file))
    return sha.hexdigest()[:12]


def _code(file: Path) -> bytes:
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:]
    return ast.dump(tree).encode()


def write_whole(path: Path, data: bytes) -> None:
    """Write a file in one step; two processes that write it at once do not meet."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)
