"""Who may sign models: the ed25519 key of this machine (RFC 8032), and public keys that it trusts."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PRIVATE = "registry.key"
PUBLIC = "registry.pub"
TRUSTED = "trusted"


class Keys:
    """The keys in a folder.

    `registry.key` (raw, mode 0600) is made on first use; `registry.pub` is there to hand out; `trusted/*.pub`
    are public keys of other machines, 32 bytes in hexadecimal. Whoever can write there decides what is
    trusted, so nothing is taken from a place that others can write to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def sign(self, text: bytes) -> str:
        """Hexadecimal. ValueError if others can read or replace the key, OSError if it cannot be made."""
        return self._private().sign(text).hex()

    def signed(self, text: bytes, signature: str) -> bool:
        """Whether one of the trusted keys has signed `text`."""
        from cryptography.exceptions import InvalidSignature

        try:
            raw = bytes.fromhex(signature)
        except ValueError:
            return False
        for key in self._public():
            try:
                key.verify(raw, text)
            except InvalidSignature:
                continue
            return True
        return False

    def _private(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        path = self.folder / PRIVATE
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _create(path, Ed25519PrivateKey.generate().private_bytes_raw())
        _check_own(self.folder)
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            raise ValueError(f"{path}: others can read this key; run: chmod 600 {path}")
        try:
            key = Ed25519PrivateKey.from_private_bytes(path.read_bytes())
        except ValueError:
            raise ValueError(f"{path}: not an ed25519 key of 32 bytes") from None
        public = self.folder / PUBLIC
        if not public.exists():
            public.write_text(key.public_key().public_bytes_raw().hex() + "\n")
        return key

    def _public(self) -> list[Ed25519PublicKey]:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        keys = []
        trusted = sorted((self.folder / TRUSTED).glob("*.pub"))
        for path in (self.folder, self.folder / TRUSTED, *trusted):
            _check_own(path)
        if (self.folder / PRIVATE).exists():
            keys.append(self._private().public_key())
        for path in trusted:
            try:
                keys.append(Ed25519PublicKey.from_public_bytes(bytes.fromhex(path.read_text().strip())))
            except ValueError:
                raise ValueError(f"{path}: not an ed25519 public key of 64 hexadecimal digits") from None
        return keys


def _check_own(path: Path) -> None:
    """ValueError if somebody else can write to it."""
    if path.exists() and stat.S_IMODE(path.stat().st_mode) & 0o022:
        raise ValueError(f"{path}: others can write to it; run: chmod go-w {path}")


def _create(path: Path, content: bytes) -> None:
    """A new file that nobody else can read, whole or not at all; one that came first stays."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(file, "wb") as out:
        out.write(content)
        out.flush()
        os.fsync(out.fileno())
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()
