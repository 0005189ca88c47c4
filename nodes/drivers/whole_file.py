"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, text: str, mode: int = 0o666) -> None:
    """Write `text` beside `path` and rename: a crash leaves the old or the new one. OSError if it cannot.

    `mode`: who may read and write it, less the umask.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # one that a crash left may have another mode
    with open(temporary, "w", encoding="utf-8", opener=lambda file, flags: os.open(file, flags, mode)) as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)
