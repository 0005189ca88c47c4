# mypy: disable-error-code="attr-defined,arg-type"
# asyncua re-exports its generated types without __all__ and narrows int and str to its own NewTypes.
"""The PLC's OPC UA server: tags as AnalogItems, written in place, writes handed to the PLC.

Objects / <ns>:PLC1 / <ns>:LIT101 ...     with EngineeringUnits and EURange (OPC UA Part 8)
"""

from __future__ import annotations

import asyncio
import gc
import hmac
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from asyncua import Server, ua
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.crypto.permission_rules import User, UserRole
from asyncua.server.address_space import AttributeService
from cryptography.x509.oid import ExtendedKeyUsageOID

from cellwatch.plc_sim.tags import TagSpec

NAMESPACE = "urn:cellwatch:plc_sim"
APPLICATION_URI = "urn:cellwatch:plc_sim:server"
WriteTaken = Callable[[str, float], int]  # tag, value -> StatusCode, 0 = taken

# UCUM unit -> UNECE Rec. 20 code, symbol, name (OPC UA Part 8, 5.6.3)
_UNITS = {
    "%": ("P1", "%", "percent"),
    "Cel": ("CEL", "°C", "degree Celsius"),
    "L/min": ("L2", "l/min", "litre per minute"),
    "kPa": ("KPA", "kPa", "kilopascal"),
    "A": ("AMP", "A", "ampere"),
    "kW": ("KWT", "kW", "kilowatt"),
}
_TYPES = {
    "float": (ua.VariantType.Double, ua.ObjectIds.Double),
    "int": (ua.VariantType.Int32, ua.ObjectIds.Int32),
    "bool": (ua.VariantType.Boolean, ua.ObjectIds.Boolean),
}
_CAST: dict[str, Callable[[float], Any]] = {"float": float, "int": int, "bool": bool}
_ADMIN = User(role=UserRole.Admin)
_GOOD = ua.StatusCode(ua.StatusCodes.Good)


@dataclass(frozen=True, slots=True)
class Security:
    """How clients may connect. With `user` set, only that user name and password are let in."""

    policy: str = "none"  # "none" | "basic256sha256" (SignAndEncrypt)
    user: str = ""
    password: str = ""
    cert_dir: Path | None = None  # where the self-signed certificate is made

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


class _OneUser:
    """Lets in one user name, or everybody when none is set."""

    def __init__(self, security: Security) -> None:
        self.security = security

    def get_user(
        self, iserver: Any, username: str | None = None, password: str | None = None, certificate: Any = None
    ) -> User | None:
        del iserver, certificate
        if not self.security.user:
            return User(role=UserRole.User)
        known = hmac.compare_digest((username or "").encode(), self.security.user.encode())
        right = hmac.compare_digest((password or "").encode(), self.security.password.encode())
        return User(role=UserRole.User, name=username) if known and right else None


class _Writes(AttributeService):
    """The Write service of clients: tags go through the PLC, everything else is refused."""

    def __init__(self, aspace: Any, specs: dict[ua.NodeId, TagSpec], take: WriteTaken) -> None:
        super().__init__(aspace)
        self.specs = specs
        self.take = take

    async def write(self, params: ua.WriteParameters, user: User = _ADMIN) -> list[ua.StatusCode]:
        if user.role == UserRole.Admin:  # the server's own bookkeeping
            return await super().write(params, user)
        return [await self._one(item) for item in params.NodesToWrite]

    async def _one(self, item: ua.WriteValue) -> ua.StatusCode:
        spec = self.specs.get(item.NodeId)
        if spec is None or item.AttributeId != ua.AttributeIds.Value:
            known = item.NodeId in self._aspace
            return ua.StatusCode(ua.StatusCodes.BadNotWritable if known else ua.StatusCodes.BadNodeIdUnknown)
        given = item.Value.Value
        wanted = _TYPES[spec.kind][0]
        if given is None or given.VariantType != wanted or given.is_array:
            return ua.StatusCode(ua.StatusCodes.BadTypeMismatch)
        if item.Value.StatusCode is not None and not item.Value.StatusCode.is_good():
            return ua.StatusCode(ua.StatusCodes.BadWriteNotSupported)
        code = self.take(spec.name, float(given.Value))
        if code:
            return ua.StatusCode(code)
        now = datetime.now(UTC)
        value = replace(item.Value, SourceTimestamp=now, ServerTimestamp=now)
        return await self._aspace.write_attribute_value(item.NodeId, ua.AttributeIds.Value, value)


class PlcServer:
    """One OPC UA server with the tags of one PLC."""

    def __init__(
        self, plc: str, tags: Sequence[TagSpec], take_write: WriteTaken, security: Security | None = None
    ) -> None:
        """`take_write(tag, value)` returns 0 or the StatusCode of the refusal."""
        self.plc = plc
        self.tags = tuple(tags)
        self.security = security or Security()
        self.security.check()
        self.endpoint = ""
        self.certificate: Path | None = None
        self._take = take_write
        self._server: Server | None = None
        self._nodes: list[ua.NodeId] = []
        self._last: list[tuple[float, int] | None] = [None] * len(self.tags)

    async def start(
        self, port: int = 0, values: Sequence[float] | None = None, host: str = "127.0.0.1"
    ) -> str:
        """Listen and return the endpoint URL; `port` 0 takes a free one. OSError if the port is taken."""
        chosen = _claim_port(host, port)
        logging.getLogger("asyncua").setLevel(logging.CRITICAL)  # refusals reach the client as StatusCodes
        gc.disable()  # the standard address space is 100,000 objects that stay
        try:
            server = Server(user_manager=_OneUser(self.security))
            await server.init()
        finally:
            gc.freeze()
            gc.enable()
        server.set_endpoint(f"opc.tcp://{host}:{chosen}/cellwatch/")
        server.set_server_name(f"Cellwatch {self.plc}")
        await server.set_application_uri(APPLICATION_URI)
        anonymous = [ua.AnonymousIdentityToken]
        server.set_identity_tokens([ua.UserNameIdentityToken] if self.security.user else anonymous)
        if self.security.policy == "basic256sha256":
            await self._secure(server)
        else:
            server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        index = await server.register_namespace(NAMESPACE)
        await self._add_nodes(server, index, values)
        await server.start()
        self._server = server
        self.endpoint = f"opc.tcp://{host}:{chosen}/cellwatch/"
        return self.endpoint

    async def publish(
        self, time_ns: int, values: Sequence[float], status: Sequence[int] | None = None
    ) -> int:
        """Write the values that changed, with source time `time_ns`; returns how many."""
        assert self._server is not None
        space = self._server.iserver.aspace
        stamp = datetime.fromtimestamp(time_ns / 1e9, UTC)
        written = 0
        for i, value in enumerate(values):
            code = status[i] if status is not None else 0
            if self._last[i] == (value, code):
                continue
            self._last[i] = (value, code)
            await space.write_attribute_value(
                self._nodes[i], ua.AttributeIds.Value, self._data_value(self.tags[i], value, code, stamp)
            )
            written += 1
        return written

    async def stop(self) -> None:
        """Close all sessions and the socket."""
        if self._server is not None:
            server, self._server = self._server, None
            await asyncio.wait_for(server.stop(), timeout=5.0)

    @staticmethod
    def _data_value(spec: TagSpec, value: float, code: int, stamp: datetime) -> ua.DataValue:
        bad = code >> 30 >= 2
        variant = (
            ua.Variant(None, ua.VariantType.Null)
            if bad
            else ua.Variant(_CAST[spec.kind](value), _TYPES[spec.kind][0])
        )
        return ua.DataValue(
            variant,
            StatusCode=ua.StatusCode(code) if code else _GOOD,
            SourceTimestamp=stamp,
            ServerTimestamp=stamp,
        )

    async def _secure(self, server: Server) -> None:
        assert self.security.cert_dir is not None
        folder = self.security.cert_dir
        folder.mkdir(parents=True, exist_ok=True)
        key, certificate = folder / "server_key.pem", folder / "server_cert.der"
        key.touch(mode=0o600) if not key.exists() else None
        if key.stat().st_size == 0:
            key.unlink()
        await setup_self_signed_certificate(
            key,
            certificate,
            APPLICATION_URI,
            socket.gethostname(),
            [ExtendedKeyUsageOID.SERVER_AUTH],
            {"commonName": f"Cellwatch {self.plc}", "organizationName": "Cellwatch"},
        )
        key.chmod(0o600)
        await server.load_certificate(certificate)
        await server.load_private_key(key)
        server.set_security_policy([ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt])
        self.certificate = certificate

    async def _add_nodes(self, server: Server, index: int, values: Sequence[float] | None) -> None:
        plc = await server.nodes.objects.add_object(
            ua.NodeId(self.plc, index), ua.QualifiedName(self.plc, index)
        )
        specs: dict[ua.NodeId, TagSpec] = {}
        now = datetime.now(UTC)
        items: list[ua.AddNodesItem] = []
        for i, spec in enumerate(self.tags):
            node = ua.NodeId(f"{self.plc}.{spec.name}", index)
            first = values[i] if values is not None else 0.0
            code = 0 if first == first else ua.StatusCodes.BadWaitingForInitialData  # noqa: PLR0124
            analog = spec.kind == "float" and spec.low == spec.low
            kind = ua.ObjectIds.AnalogItemType if analog else ua.ObjectIds.DataItemType
            items.append(
                _variable(
                    node,
                    plc.nodeid,
                    ua.ObjectIds.HasComponent,
                    kind,
                    ua.QualifiedName(spec.name, index),
                    self._data_value(spec, first, code, now),
                    ua.NodeId(_TYPES[spec.kind][1]),
                    writable=spec.writable,
                    about=spec.about,
                )
            )
            if analog:
                items += [
                    _property(node, "EURange", ua.Range(spec.low, spec.high), ua.ObjectIds.Range),
                    _property(node, "EngineeringUnits", _unit(spec.unit), ua.ObjectIds.EUInformation),
                ]
            self._nodes.append(node)
            specs[node] = spec
        for result in await server.iserver.isession.add_nodes(items):
            result.StatusCode.check()
        server.iserver.attribute_service = _Writes(server.iserver.aspace, specs, self._take)


def _variable(
    node: ua.NodeId,
    parent: ua.NodeId,
    reference: int,
    kind: int,
    name: ua.QualifiedName,
    value: ua.DataValue,
    data_type: ua.NodeId,
    writable: bool = False,
    about: str = "",
) -> ua.AddNodesItem:
    access = ua.AccessLevel.CurrentRead.mask | (ua.AccessLevel.CurrentWrite.mask if writable else 0)
    attributes = ua.VariableAttributes(
        DisplayName=ua.LocalizedText(name.Name),
        Description=ua.LocalizedText(about or None),
        Value=value.Value,
        DataType=data_type,
        ValueRank=ua.ValueRank.Scalar,
        AccessLevel=access,
        UserAccessLevel=access,
    )
    return ua.AddNodesItem(
        ParentNodeId=parent,
        ReferenceTypeId=ua.NodeId(reference),
        RequestedNewNodeId=node,
        BrowseName=name,
        NodeClass=ua.NodeClass.Variable,
        NodeAttributes=attributes,
        TypeDefinition=ua.NodeId(kind),
    )


def _property(owner: ua.NodeId, name: str, value: Any, data_type: int) -> ua.AddNodesItem:
    return _variable(
        ua.NodeId(f"{owner.Identifier!s}.{name}", owner.NamespaceIndex),
        owner,
        ua.ObjectIds.HasProperty,
        ua.ObjectIds.PropertyType,
        ua.QualifiedName(name, 0),
        ua.DataValue(ua.Variant(value, ua.VariantType.ExtensionObject)),
        ua.NodeId(data_type),
    )


def _unit(ucum: str) -> ua.EUInformation:
    code, symbol, name = _UNITS.get(ucum, ("", ucum, ucum))
    unit_id = int.from_bytes(code.encode(), "big") if code else -1
    return ua.EUInformation(
        "http://www.opcfoundation.org/UA/units/un/cefact",
        unit_id,
        ua.LocalizedText(symbol),
        ua.LocalizedText(name),
    )


def _claim_port(host: str, port: int) -> int:
    """Return `port`, or a free one for 0; OSError at once if it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(
                f"cannot listen on {host}:{port}: {error.strerror}; choose another --port or 0"
            ) from None
        return int(probe.getsockname()[1])
