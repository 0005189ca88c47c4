"""Labelled streams: rows in the order in which they came, some with drifts that are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from cellwatch.models.datasets.dataset import DataError, digest
from cellwatch.models.datasets.tables import BENIGN, CALLED_BENIGN, encode, read_table, texts
from cellwatch.models.types import F32, I64

NAMES = ("sea", "sea_stream", "elec2")
SEA_DRIFTS = (12_500, 25_000, 37_500)  # Street and Kim 2001: a new concept every 12,500 rows
MAX_CLASSES = 256
WORDS_OF = 2000  # first rows whose words in text columns are known; later ones are news to every learner


@dataclass(frozen=True, slots=True)
class LabelledStream:
    """n rows of f numbers in the order of time."""

    name: str
    columns: tuple[str, ...]  # f
    x: F32  # (n, f), NaN = missing
    y: I64  # (n,) index into classes
    classes: tuple[str, ...]  # the first is what counts as benign
    drifts: tuple[int, ...] | None = None  # rows with which drifts begin; None = not known

    @property
    def fingerprint(self) -> str:
        """Hash of rows and labels."""
        return digest(self.x, self.y)


def load(name: str, root: Path) -> LabelledStream:
    """A published stream (`NAMES`) below `root`. DataError where its files are absent.

    sea: 50,000 rows with three known drifts. sea_stream: 40,000 rows without any. elec2: 45,312 half hours of
    the electricity market of New South Wales, whose drifts nobody knows.
    """
    if name == "sea":
        table = read_table(root / "losing_sea" / "SEA_training_data.csv", ("attrib1", "attrib2", "attrib3"))
        labels = read_table(root / "losing_sea" / "SEA_training_class.csv", ("class",))
        if len(table) != len(labels):
            raise DataError(f"sea: {len(table)} rows and {len(labels)} labels")
        return from_table(name, table.append_column("class", labels["class"]), "class", drifts=SEA_DRIFTS)
    if name == "sea_stream":
        return from_table(name, read_table(root / "sea_stream.csv"), "class", drifts=())
    return from_table(name, read_table(root / "elec.csv"), "target")


def from_table(
    name: str, table: pa.Table, label: str, *, benign: str = "", drifts: Sequence[int] | None = None
) -> LabelledStream:
    """A table with a label column. DataError names what is wrong.

    Benign is the label `benign`; without it all that say so ("benign", "normal", "0" ...) are one class of
    all their names; where none does, the most frequent.
    """
    words = texts(table, label, name)
    if empty := int((words == "").sum()):
        raise DataError(f"{name}: column {label!r} has {empty} empty cells: every row needs a label")
    counts = Counter(words.tolist())
    if not 2 <= len(counts) <= MAX_CLASSES:
        raise DataError(
            f"{name}: column {label!r} has {len(counts)} different labels; 2 to {MAX_CLASSES} are wanted"
        )
    if benign and benign not in counts:
        raise DataError(f"{name}: no row has the label {benign!r}; labels: {', '.join(sorted(counts))[:200]}")
    frequent = [word for word, _ in counts.most_common()]
    said = [word for word in frequent if word.lower() in BENIGN]
    first = [benign] if benign else said or frequent[:1]
    others = sorted({*counts} - {*first})
    if not others:
        raise DataError(f"{name}: column {label!r}: every row is called {CALLED_BENIGN}; others are needed")
    classes = (", ".join(first), *others)
    _, places = np.unique(words, return_inverse=True)
    index = np.array([0 if word in first else 1 + others.index(word) for word in sorted(counts)])
    learn = np.arange(len(table)) < WORDS_OF
    columns, (x,) = encode([table], learn, [label])
    known = None if drifts is None else tuple(sorted({*drifts}))
    if known and not (known[0] > 0 and known[-1] < len(table)):
        raise DataError(f"{name}: drifts begin within its {len(table)} rows: {', '.join(map(str, known))}")
    return LabelledStream(name, columns, x, index[places].astype(np.int64), classes, known)
