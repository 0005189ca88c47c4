"""What is learnt from after an alarm: D_benign and D_attack (DeepSense, "Windowed Adaptation Datasets")."""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.types import F32, I64


@dataclass(frozen=True, slots=True)
class Samples:
    """n labelled samples of one of the two sets."""

    x: F32  # (n, f), NaN = missing
    y: I64  # (n,) class, 0 = benign
    ids: NDArray[np.str_]  # (n,) what each sample is known by, for example "WINDOW/DEVICE"

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, slots=True)
class AdaptationSet:
    """The labelled samples since a drift began, in two disjoint sets by their true label."""

    benign: Samples  # Scenario A: profiles and calibration are made of these
    attack: Samples  # Scenario B: models learn these

    @classmethod
    def of(cls, x: F32, y: I64, ids: NDArray[np.str_]) -> AdaptationSet:
        """Parted samples (n, f), (n,), (n,). ValueError if an id occurs twice: it would be in both sets."""
        if not len(x) == len(y) == len(ids):
            raise ValueError(f"{len(x)} rows, {len(y)} labels and {len(ids)} ids do not belong together")
        known, counts = np.unique(ids, return_counts=True)
        if (counts > 1).any():
            raise ValueError(f"sample {str(known[counts > 1][0])!r} occurs twice")
        parts = [Samples(x[mine], y[mine], ids[mine]) for mine in (y == 0, y != 0)]
        return cls(*parts)

    @property
    def fingerprint(self) -> str:
        """sha256 of all samples of both sets."""
        return hashlib.sha256(self._packed()).hexdigest()

    def save(self, folder: Path) -> Path:
        """Write into `folder` under a name that is the fingerprint; the file is whole or not there."""
        folder.mkdir(parents=True, exist_ok=True)
        content = self._packed()
        path = folder / f"{hashlib.sha256(content).hexdigest()}.npz"
        temporary = path.with_suffix(".part")
        temporary.write_bytes(content)
        temporary.replace(path)
        return path

    @classmethod
    def load(cls, path: Path) -> AdaptationSet:
        """Read what `save` wrote. ValueError if the content is not what its name says."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ValueError(f"{path}: cannot be read: {error.strerror}") from None
        if hashlib.sha256(content).hexdigest() != path.stem:
            raise ValueError(f"{path}: was changed: its content is not that of its fingerprint")
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as data:
                return cls(*(Samples(*(data[f"{part}_{name}"] for name in _FIELDS)) for part in _PARTS))
        except (ValueError, KeyError, zipfile.BadZipFile):
            raise ValueError(f"{path}: not an adaptation set") from None

    def _packed(self) -> bytes:
        """Both sets as one file; the same samples give the same bytes."""
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for part, samples in zip(_PARTS, (self.benign, self.attack), strict=True):
                for name, array in zip(_FIELDS, (samples.x, samples.y, samples.ids), strict=True):
                    entry = io.BytesIO()
                    np.lib.format.write_array(entry, np.ascontiguousarray(array), allow_pickle=False)
                    archive.writestr(zipfile.ZipInfo(f"{part}_{name}.npy"), entry.getvalue())  # no date
        return out.getvalue()


_PARTS, _FIELDS = ("benign", "attack"), ("x", "y", "ids")
