"""Where the record of a cell lies."""

from __future__ import annotations

from pathlib import Path


def record_folder(cell: str, run: Path | None = None) -> Path:
    """Folder of the record of a cell, or in the folder of a run. ValueError if there is none."""
    from cellwatch.nodes.runner import home

    whole = run or home() / "cells" / cell
    for folder in (whole / "record", whole):
        if any(folder.glob("*.lp")):
            return folder
    known = sorted(path.parent.name for path in home().glob("cells/*/record"))
    hint = f"; cells with a record here: {', '.join(known)}" if known and run is None else ""
    raise ValueError(f"no record in {whole}{hint}")
