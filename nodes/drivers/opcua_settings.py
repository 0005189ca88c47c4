"""How to reach one PLC, and what can be wrong with it. Importing this costs nothing: no asyncua here."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlparse

POLICIES = ("None", "Basic256Sha256")
MODES = ("None", "Sign", "SignAndEncrypt")


class LinkError(Exception):
    """The link to a PLC failed; the message is one line with address and cure."""


class SettingsError(LinkError, ValueError):
    """Settings that cannot work."""


class UnreachableError(LinkError):
    """Nobody answers at the endpoint."""


class AccessError(LinkError):
    """The server refuses user, password or certificate."""


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Endpoint and session of one PLC. Raises `SettingsError` when made with settings that cannot work."""

    plc: str
    endpoint: str  # opc.tcp://host:port[/path]
    security_policy: str = "None"  # or Basic256Sha256
    security_mode: str = ""  # Sign or SignAndEncrypt (""); without meaning for the policy None
    user: str = ""  # "" = anonymous
    password: str = field(default="", repr=False)
    password_env: str = ""  # name of an environment variable that holds the password
    password_file: str = ""  # or a file whose first line holds it
    certificate: str = ""  # client certificate, DER or PEM
    private_key: str = ""  # its key, PEM
    server_certificate: str = ""  # the only one that is trusted; "" = any that the server offers
    user_certificate: str = ""  # identity by certificate instead of a user name
    user_key: str = ""
    publishing_interval_s: float = 0.1
    keep_alive_s: float = 1.0  # the server speaks at least this often
    lifetime_s: float = 30.0  # the server drops a subscription of a silent client after this
    session_timeout_s: float = 60.0
    request_timeout_s: float = 5.0
    backoff_max_s: float = 10.0  # longest wait between two attempts; at once after a refused identity
    retry_tags_s: float = 10.0  # how often tags that failed are tried again
    queue_samples: int = 500_000  # samples kept for `drain`; the oldest are dropped and counted
    items_per_subscription: int = 2000

    def __post_init__(self) -> None:
        url = urlparse(self.endpoint)
        if url.scheme != "opc.tcp" or not url.hostname:
            raise SettingsError(
                f"{self.endpoint!r} is not an OPC UA endpoint such as opc.tcp://10.0.0.5:4840"
            )
        try:
            port_given = url.port is not None
        except ValueError:
            port_given = False
        if not port_given:
            raise SettingsError(f"{self.endpoint}: the endpoint has no port; 4840 is the usual one")
        if self.security_policy not in POLICIES:
            raise self._error(
                f"unknown security_policy {self.security_policy!r}; known: {', '.join(POLICIES)}"
            )
        if self.security_mode not in {"", *MODES}:
            raise self._error(f"unknown security_mode {self.security_mode!r}; known: {', '.join(MODES)}")
        if self.secured and self.mode == "None":
            raise self._error(
                f"security_mode None leaves {self.security_policy} without effect: use SignAndEncrypt"
            )
        if self.secured and not (self.certificate and self.private_key):
            raise self._error(
                f"{self.security_policy} needs a client certificate and its key: set certificate and "
                "private_key (`make_certificate` makes a pair)"
            )
        if not self.secured and (self.certificate or self.server_certificate):
            raise self._error("a certificate without security_policy protects nothing: set Basic256Sha256")
        if bool(self.user_certificate) != bool(self.user_key):
            raise self._error("user_certificate and user_key belong together")
        if self.user and self.user_certificate:
            raise self._error("give either user or user_certificate")
        if sum(bool(x) for x in (self.password, self.password_env, self.password_file)) > 1:
            raise self._error("give only one of password, password_env and password_file")
        for name in (
            "certificate", "private_key", "server_certificate", "user_certificate", "user_key",
            "password_file",
        ):  # fmt: skip
            file = getattr(self, name)
            if file and not Path(file).is_file():
                raise self._error(f"{name} {file} does not exist")
        if self.password_env and self.password_env not in os.environ:
            raise self._error(f"the environment variable {self.password_env} (password_env) is not set")
        for name in (
            "publishing_interval_s", "keep_alive_s", "lifetime_s", "session_timeout_s", "request_timeout_s",
            "backoff_max_s", "retry_tags_s", "queue_samples", "items_per_subscription",
        ):  # fmt: skip
            if not getattr(self, name) > 0:
                raise self._error(f"{name} must be above 0, got {getattr(self, name)!r}")

    def _error(self, text: str) -> SettingsError:
        return SettingsError(f"{self.endpoint}: {text}")

    @property
    def secured(self) -> bool:
        return self.security_policy != "None"

    @property
    def mode(self) -> str:
        """The security mode in force."""
        return (self.security_mode or "SignAndEncrypt") if self.secured else "None"

    def secret(self) -> str:
        """Return the password, wherever it is kept."""
        if self.password_env:
            return os.environ.get(self.password_env, "")
        if self.password_file:
            return Path(self.password_file).read_text(encoding="utf-8").splitlines()[0].strip()
        return self.password


def make_certificate(
    folder: str | Path, name: str = "cellwatch", *, days: int = 3650, hosts: tuple[str, ...] = ()
) -> tuple[Path, Path]:
    """Make a self-signed application instance certificate; existing files are kept.

    Returns the paths of certificate (DER) and private key (PEM, readable by the owner only). The server
    must be told to trust the certificate. Subject fields follow OPC UA Part 6, 6.2.2.
    """
    import datetime as dt
    import socket

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    folder = Path(folder)
    certificate, key_file = folder / f"{name}.der", folder / f"{name}.pem"
    if certificate.exists() and key_file.exists():
        return certificate, key_file
    folder.mkdir(parents=True, exist_ok=True)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    host = socket.gethostname()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=True, data_encipherment=True,
        key_agreement=False, key_cert_sign=True, crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(f"urn:{host}:{name}")]
    names += [x509.DNSName(h) for h in dict.fromkeys((host, *hosts))]
    built = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]),
            critical=False,
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    with os.fdopen(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(pem)
    certificate.write_bytes(built.public_bytes(serialization.Encoding.DER))
    return certificate, key_file
