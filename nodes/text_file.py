"""Text that a user names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path


def read_text(path: Path) -> str:
    """Read UTF-8. ValueError names the file and says why it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file (byte {error.start} is not UTF-8)") from None


def fill(page: Path, mark: str, text: str) -> None:
    """Put a text between `<!-- mark -->` and `<!-- end -->` of a page. ValueError if it has no such marks."""
    whole = page.read_text(encoding="utf-8")
    whole, n = re.subn(
        rf"(<!-- {re.escape(mark)} -->\n).*?(<!-- end -->)",
        lambda m: f"{m[1]}{text}\n{m[2]}",
        whole,
        flags=re.DOTALL,
    )
    if n != 1:
        raise ValueError(f"{page}: no marks <!-- {mark} --> ... <!-- end -->")
    page.write_text(whole, encoding="utf-8")


def fill_or_print(page: Path | None, parts: Mapping[str, str]) -> None:
    """Put texts between their marks of a page, or on the screen if there is none. SystemExit says why not."""
    for mark, text in parts.items():
        if page is None:
            print(f"## {mark}\n\n{text}\n")
            continue
        try:
            fill(page, mark, text)
        except ValueError as error:
            raise SystemExit(str(error)) from None


def last_line(log: Path) -> str:
    """Last line of a log that says something."""
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else f"no word in {log}"
