# mypy: disable-error-code="attr-defined"
# asyncua re-exports its generated types without __all__.
"""Who may connect to the OPC UA servers, and how."""

from __future__ import annotations

import hmac
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asyncua import Server, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.permission_rules import User, UserRole
from cryptography.x509.oid import ExtendedKeyUsageOID

APPLICATION_URI = "urn:cellwatch:plc_sim:server"


@dataclass(frozen=True, slots=True)
class Security:
    """How clients may connect. With `user` set, only that user name and password are let in."""

    policy: str = "none"  # "none" | "basic256sha256" (SignAndEncrypt)
    user: str = ""
    password: str = ""
    cert_dir: Path | None = None  # where the self-signed certificate is made; one for all PLCs

    def check(self) -> None:
        """Raise ValueError for a setting that cannot work."""
        if self.policy not in {"none", "basic256sha256"}:
            raise ValueError(f"security {self.policy!r} is unknown; allowed: none, basic256sha256")
        if self.policy == "basic256sha256" and self.cert_dir is None:
            raise ValueError("security basic256sha256 needs a folder for its certificate: give --cert-dir")
        if self.user and not self.password:
            raise ValueError(
                f"user {self.user!r} has no password: name its environment variable with --password-env"
            )

    async def apply(self, server: Server) -> Path | None:
        """Set policies and identities of a server; its certificate file, None without encryption."""
        await server.set_application_uri(APPLICATION_URI)
        server.set_identity_tokens([ua.UserNameIdentityToken if self.user else ua.AnonymousIdentityToken])
        if self.policy == "none":
            server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
            return None
        assert self.cert_dir is not None
        self.cert_dir.mkdir(parents=True, exist_ok=True)
        key, certificate = self.cert_dir / "server_key.pem", self.cert_dir / "server_cert.der"
        before = os.umask(0o077)
        try:
            await setup_self_signed_certificate(
                key,
                certificate,
                APPLICATION_URI,
                socket.gethostname(),
                [ExtendedKeyUsageOID.SERVER_AUTH],
                {"commonName": "Cellwatch plant", "organizationName": "Cellwatch"},
            )
        finally:
            os.umask(before)
        await server.load_certificate(certificate)
        await server.load_private_key(key)
        server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
        return certificate


class OneUser:
    """Lets in one user name, or everybody when none is set (asyncua's user manager)."""

    def __init__(self, security: Security) -> None:
        self.security = security

    def get_user(
        self, iserver: Any, username: str | None = None, password: str | None = None, certificate: Any = None
    ) -> User | None:
        """Return the user, None to refuse."""
        del iserver, certificate
        if not self.security.user:
            return User(role=UserRole.User)
        known = hmac.compare_digest((username or "").encode(), self.security.user.encode())
        right = hmac.compare_digest((password or "").encode(), self.security.password.encode())
        return User(role=UserRole.User, name=username) if known and right else None
