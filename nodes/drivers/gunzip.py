"""A gzip stream that may be broken: everything before the damage comes out.

Python's own `gzip` throws away up to a whole read of good bytes when the stream ends early. Format: RFC 1952.
"""

from __future__ import annotations

import zlib
from typing import IO

MAGIC = b"\x1f\x8b"
PIECE = 1 << 18  # packed bytes taken at a time
_GZIP = 31  # window bits: gzip, checksum verified


class GzipStream:
    """Unpacks `file`. `damage` is "" or what broke at which byte of the packed stream."""

    def __init__(self, file: IO[bytes]) -> None:
        self.damage = ""
        self._file = file
        self._packed = b""
        self._place = 0  # packed bytes taken in
        self._inflate = zlib.decompressobj(_GZIP)

    def read(self, size: int) -> bytes:
        """At most `size` unpacked bytes; b"" at the end and after damage. OSError if the file fails."""
        while not self.damage:
            if self._inflate.eof and not self._next_member():
                return b""
            packed = self._packed or self._file.read(PIECE)
            if not packed:
                self.damage = f"the gzip stream is cut off at its byte {self._place}"
                return b""
            before = self._inflate.copy()
            try:
                out = self._inflate.decompress(packed, size)
            except zlib.error as error:
                return self._salvage(before, packed, size, str(error))
            left = self._inflate.unused_data or self._inflate.unconsumed_tail
            self._place += len(packed) - len(left)
            self._packed = left
            if out:
                return out
        return b""

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _next_member(self) -> bool:
        """Go on with the next member, if there is one; zeros may fill up the end."""
        self._packed = self._packed if len(self._packed) > 1 else self._packed + self._file.read(PIECE)
        if self._packed[:2] == MAGIC:
            self._inflate = zlib.decompressobj(_GZIP)
            return True
        if self._packed.strip(b"\0"):
            self.damage = f"something else follows the gzip stream at its byte {self._place}"
        return False

    def _salvage(self, inflate: zlib._Decompress, packed: bytes, size: int, why: str) -> bytes:
        """What comes out of `packed` before its first bad byte."""
        out: list[bytes] = []
        done, step = 0, len(packed)
        while step:
            attempt = inflate.copy()
            try:
                part = attempt.decompress(packed[done : done + step], size)
            except zlib.error:
                step //= 2
                continue
            out.append(part)
            inflate = attempt
            done += step
        self.damage = f"the gzip stream is broken at its byte {self._place + done}: {why}"
        return b"".join(out)
