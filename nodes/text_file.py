"""Text that a user names."""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path) -> str:
    """Read UTF-8. ValueError names the file and says why it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file (byte {error.start} is not UTF-8)") from None
