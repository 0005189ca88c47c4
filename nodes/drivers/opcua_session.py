# asyncua re-exports its generated types without __all__ and narrows int and str to its own NewTypes.
# mypy: disable-error-code="attr-defined,name-defined,arg-type"
"""One OPC UA session over asyncua: connect, resume on a new connection, renew, close.

Only asyncua's public steps are used, one by one, so that a single supervisor (`OpcuaLink`) owns the
connection: `Client.connect` would start a second one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Any

from asyncua import Client, ua
from asyncua.crypto import security_policies, uacrypto
from cryptography import x509

from cellwatch.nodes.drivers.opcua_settings import (
    AccessError,
    LinkError,
    LinkSettings,
    SettingsError,
    UnreachableError,
)

if logging.getLogger("asyncua").level == logging.NOTSET:
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # the link says itself, once, what matters

_ACCESS = (
    "BadIdentity", "BadUserAccessDenied", "BadUserSignatureInvalid", "BadCertificate", "BadSecurity",
    "BadApplicationSignatureInvalid",
)  # fmt: skip
LOST = (OSError, asyncio.TimeoutError, ua.UaError)


class Session:
    """An activated session. All coroutines raise `LinkError` with one clear line."""

    def __init__(self, settings: LinkSettings) -> None:
        self.settings = settings
        self.client = Client(settings.endpoint, timeout=settings.request_timeout_s)
        self.client.name = "Cellwatch"
        self.client.description = "Cellwatch"
        self.client.session_timeout = int(settings.session_timeout_s * 1000)
        self._renewal: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect, open the secure channel, create and activate a session."""
        try:
            await self._prepare()
            await self._channel()
            await self.client.create_session()
            await self._activate()
        except BaseException as error:
            await self.abandon()
            if isinstance(error, Exception):
                raise self.explain(error) from error
            raise
        self._renewal = asyncio.create_task(self._renew())

    async def resume(self) -> bool:
        """Activate the same session on a new connection (OPC UA Part 4, 6.7). False: the server forgot it."""
        await self._stop_renewal()
        self.client.disconnect_socket()
        try:
            await self._channel()
            self.client.uaclient.session.rebind_authentication_token()
            await self._activate()
        except ua.UaStatusCodeError:
            self.client.disconnect_socket()
            return False
        except LOST as error:
            self.client.disconnect_socket()
            raise self.explain(error) from error
        self._renewal = asyncio.create_task(self._renew())
        return True

    async def close(self) -> None:
        """Close the session with its subscriptions, the channel and the socket; never raises."""
        await self._stop_renewal()
        with contextlib.suppress(*LOST):
            await asyncio.wait_for(self.client.uaclient.close_session(True), self.settings.request_timeout_s)
        with contextlib.suppress(*LOST):
            await self.client.close_secure_channel()
        self.client.disconnect_socket()

    async def abandon(self) -> None:
        """Drop the socket without a word; the server may still hold the session."""
        await self._stop_renewal()
        self.client.disconnect_socket()

    @property
    def lost(self) -> bool:
        protocol = self.client.uaclient.protocol
        return protocol is None or protocol.transport is None or protocol.transport.is_closing()

    async def request(self, request: Any, timeout_s: float | None = None) -> bytes:
        """Send a service request and return the raw response; 0 s waits without end."""
        protocol = self.client.uaclient.protocol
        if protocol is None:
            raise ConnectionError("the connection is closed")
        return bytes(await protocol.send_request(request, timeout_s))

    def explain(self, error: Exception) -> LinkError:
        """Any error of asyncua as one line with the address and the cure."""
        if isinstance(error, LinkError):
            return error
        where = self.settings.endpoint
        if isinstance(error, ua.UaStatusCodeError):
            name = ua.StatusCode(error.code).name
            if name.startswith(_ACCESS):
                who = f"user {self.settings.user!r}" if self.settings.user else "anonymous login"
                if "Certificate" in name or "Security" in name:
                    who = "client certificate"
                    cure = "let the server trust it, and check security_policy and security_mode"
                elif self.settings.user_certificate:
                    who, cure = "user certificate", "let the server trust it"
                else:
                    cure = "check user and password" if self.settings.user else "set user and password"
                return AccessError(f"{where}: the server refuses the {who} ({name}); {cure}")
            return LinkError(f"{where}: {name}")
        if isinstance(error, AssertionError):  # how asyncua tells a fault in answer to OpenSecureChannel
            return AccessError(
                f"{where}: the server refuses the secure channel; check security_policy, let the server "
                "trust the certificate, and set server_certificate where it allows no unsecured discovery"
            )
        if isinstance(error, OSError | asyncio.TimeoutError):
            text = getattr(error, "strerror", "") or str(error) or "timed out"
            hint = "is the server running, and are host and port right?"
            if self.settings.secured and isinstance(error, ConnectionError) and "refused" not in text.lower():
                hint = "does the server trust the client's certificate?"
            return UnreachableError(f"{where}: no answer ({text}); {hint}")
        if isinstance(error, ua.UaError) and "No matching endpoints" in str(error):
            return SettingsError(
                f"{where}: the server offers no endpoint with {self.settings.security_policy} and "
                f"{self.settings.mode}; choose another security_policy or security_mode"
            )
        if isinstance(error, ua.UaError) and "certificate mismatch" in str(error):
            return AccessError(f"{where}: the server shows another certificate than server_certificate")
        return LinkError(f"{where}: {type(error).__name__}: {error}")

    async def _prepare(self) -> None:
        settings, client = self.settings, self.client
        try:
            if settings.user_certificate:
                await client.load_client_certificate(settings.user_certificate)
                await client.load_private_key(Path(settings.user_key))
            if not settings.secured:
                return
            certificate = await uacrypto.load_certificate(settings.certificate)
            names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            uris = names.get_values_for_type(x509.UniformResourceIdentifier)
            if uris:  # servers compare it with the certificate (Part 6, 6.2.2)
                client.application_uri = uris[0]
            server_certificate = settings.server_certificate or None
            if server_certificate:
                await uacrypto.load_certificate(server_certificate)
        except (ValueError, TypeError, LookupError) as error:
            raise SettingsError(
                f"{settings.endpoint}: a certificate or key cannot be read: {error}"
            ) from error
        try:
            await client.set_security(
                security_policies.SecurityPolicyBasic256Sha256,
                settings.certificate,
                settings.private_key,
                server_certificate=server_certificate,
                mode=ua.MessageSecurityMode[settings.mode],
            )
        except (ValueError, TypeError) as error:
            raise SettingsError(f"{settings.endpoint}: {settings.private_key}: {error}") from error

    async def _channel(self) -> None:
        await self.client.connect_socket()
        await self.client.send_hello()
        await self.client.open_secure_channel()

    async def _activate(self) -> None:
        settings = self.settings
        await self.client.activate_session(
            username=settings.user or None,
            password=settings.secret() or None,
            certificate=self.client.user_certificate,
        )

    async def _renew(self) -> None:
        """Renew the channel after three quarters of its life (Part 4, 5.5.2.1); failing ends it."""
        try:
            while True:
                await asyncio.sleep(self.client.secure_channel_timeout * 0.75 / 1000)
                await self.client.open_secure_channel(renew=True)
                self.client.uaclient.revolve_security_token()
        except LOST:
            self.client.disconnect_socket()

    async def _stop_renewal(self) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)
            self._renewal = None
