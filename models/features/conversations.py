"""Who spoke with whom in each window, with which service, and which addresses are in whose hands.

The server of a connection is told by its port (the known one, else the lower one), so that each window says
the same of a connection that lasts for days. A window keeps `Conversations.MOST` rows and `MOST_CLAIMS`
claims of a device: first those that write, then those with messages, then those with most packets; the rest
is counted.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cellwatch.models.features import messages as ms
from cellwatch.models.features import packets as pk
from cellwatch.models.features import speakers
from cellwatch.models.features.flow_tables import Flows, cells
from cellwatch.models.features.industrial import TABLES, Kept
from cellwatch.models.features.packets import CODE, PROTOCOLS
from cellwatch.models.types import I64, Bool, Conversations

MOST_CLAIMS = 64
_CODES = np.array([CODE[name] for name in ("tcp", "udp", "data", "json", "arp")], dtype=np.int64)
_SERVICE, _KIND = 34, 33  # bits: protocol << 34 | function, or 1 << 33 + kind of message
_OPCUA = CODE["opcua"]
_FAULT, _QUERY_FIRST = 397, 12208
# OPC UA Part 6, A.3: TypeIds of the requests' binary encodings.
_OPCUA_SERVICES = {
    397: "ServiceFault", 422: "FindServers", 428: "GetEndpoints", 437: "RegisterServer",
    446: "OpenSecureChannel", 452: "CloseSecureChannel", 461: "CreateSession", 467: "ActivateSession",
    473: "CloseSession", 479: "Cancel", 488: "AddNodes", 494: "AddReferences", 500: "DeleteNodes",
    506: "DeleteReferences", 527: "Browse", 533: "BrowseNext", 554: "TranslateBrowsePathsToNodeIds",
    560: "RegisterNodes", 566: "UnregisterNodes", 615: "QueryFirst", 621: "QueryNext", 631: "Read",
    664: "HistoryRead", 673: "Write", 700: "HistoryUpdate", 712: "Call", 751: "CreateMonitoredItems",
    763: "ModifyMonitoredItems", 769: "SetMonitoringMode", 775: "SetTriggering", 781: "DeleteMonitoredItems",
    787: "CreateSubscription", 793: "ModifySubscription", 799: "SetPublishingMode", 826: "Publish",
    832: "Republish", 841: "TransferSubscriptions", 847: "DeleteSubscriptions", 12208: "FindServersOnNetwork",
    12211: "RegisterServer2",
}  # fmt: skip
_OPCUA_KINDS = ("", "Hello", "Acknowledge", "Error", "ReverseHello", "OpenSecureChannel",
                "CloseSecureChannel", "Message")  # fmt: skip
_MQTT = ("", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP", "SUBSCRIBE", "SUBACK",
         "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH")  # fmt: skip
_COLUMNS = ("slot", "peer", "part", "service", "packets", "writes", "refused", "peers", "low", "high")
_NO_REGISTER = np.iinfo(np.int64).max
_WORDS = (
    "device", "peer", "protocol", "service", "port", "packets", "writes", "refused", "peers", "claim_device",
    "claim_ip", "claim_owner", "claim_packets",
)  # fmt: skip
NOBODY = Conversations(
    names=("",),
    more=0,
    role=np.zeros(0, np.uint8),
    low=np.zeros(0, np.int64),
    high=np.zeros(0, np.int64),
    **{name: np.zeros(0, np.uint32) for name in _WORDS},
)


def moved(spoken: Conversations, place: I64) -> Conversations:
    """The same with device i at `place[i]`; -1: it has no row any more, and is counted in `more`."""
    at, claim_at = place[spoken.device], place[spoken.claim_device]
    order, claims = np.argsort(at, kind="stable"), np.argsort(claim_at, kind="stable")
    order, claims = order[at[order] >= 0], claims[claim_at[claims] >= 0]
    columns = {f.name: getattr(spoken, f.name) for f in fields(spoken) if f.name not in ("names", "more")}
    columns |= {"device": at.astype(np.uint32), "claim_device": claim_at.astype(np.uint32)}
    picked = {k: v[claims if k.startswith("claim_") else order] for k, v in columns.items()}
    lost = len(at) - len(order) + len(claim_at) - len(claims)
    return Conversations(names=spoken.names, more=spoken.more + lost, **picked)


def service_name(code: int) -> str:
    """Standard words for a service code; a protocol without words has numbers.

    >>> service_name(CODE["opcua"] << 34 | 673), service_name(CODE["mbtcp"] << 34 | 16)
    ('opcua:Write', 'modbus:16')
    >>> service_name(0)
    ''
    """
    if not code:
        return ""
    protocol, value = PROTOCOLS[code >> _SERVICE], code & ((1 << _SERVICE) - 1)
    kind = value - (1 << _KIND) if value >> _KIND else -1
    if protocol == "opcua":
        if kind >= 0:
            return f"opcua:{_OPCUA_KINDS[kind] if kind < len(_OPCUA_KINDS) else kind}"
        return f"opcua:{_OPCUA_SERVICES.get(value, value)}"
    if protocol == "mqtt" and 0 < value < len(_MQTT):
        return f"mqtt:{_MQTT[value]}"
    protocol = "modbus" if protocol == "mbtcp" else protocol
    return f"{protocol}:kind-{kind}" if value >> _KIND else f"{protocol}:{value}"


class Rows:
    """Rows and claims of all windows that were closed at once; `of` gives those of one window.

    `slots` are the slots (r,) that have a row in the tables of the windows, in the order of these rows, and
    `texts` the names of all slots.
    """

    def __init__(
        self, flows: Flows, said: tuple[Kept, I64] | None, slots: I64, texts: NDArray[np.object_]
    ) -> None:
        spoken, heard = _spoken(flows)
        if said is not None:
            spoken = {k: np.concatenate([spoken[k], v]) for k, v in _said(*said).items()}
        place = np.full(len(texts) + 1, -1, dtype=np.int64)
        place[slots] = np.arange(len(slots))
        text = _Names(texts)

        at = place[spoken["slot"]]
        messages = (spoken["service"] > 0) & (at >= 0)
        order = np.lexsort((-spoken["packets"], ~messages, -spoken["writes"], at))
        self._at, pick, self._more = _first(at[order], Conversations.MOST, len(slots))
        s = {k: v[order][pick] for k, v in spoken.items()}
        code = s["part"] >> 16 & 0xFFFF
        self._rows: dict[str, NDArray[Any]] = {
            "peer": text.peers(s["peer"]),
            "role": (s["part"] >> 32).astype(np.uint8),
            "protocol": text.of(code, PROTOCOLS.__getitem__),
            "service": text.of(s["service"], service_name),
            "port": (s["part"] & 0xFFFF).astype(np.uint32),
            **{
                k: np.minimum(s[k], 0xFFFFFFFF).astype(np.uint32)
                for k in ("packets", "writes", "refused", "peers")
            },
            "low": np.where(s["low"] == _NO_REGISTER, -1, s["low"]),
            "high": s["high"],
        }
        at = place[heard[:, 0]]
        order = np.lexsort((-heard[:, 3], -heard[:, 4], at))
        self._claim_at, pick, more = _first(at[order], MOST_CLAIMS, len(slots))
        self._more += more
        c = heard[order][pick]
        self._claims: dict[str, NDArray[Any]] = {
            "claim_ip": text.of(c[:, 1], lambda ip: pk.address(0, ip)),
            "claim_owner": text.peers(c[:, 2] + speakers.NAMED),
            "claim_packets": np.minimum(c[:, 3], 0xFFFFFFFF).astype(np.uint32),
        }
        self._names = tuple(text.found)

    def of(self, start: int, stop: int) -> Conversations:
        """Conversations of the devices in rows `start` to `stop`."""
        a, b = np.searchsorted(self._at, [start, stop])
        c, d = np.searchsorted(self._claim_at, [start, stop])
        return Conversations(
            names=self._names,
            device=(self._at[a:b] - start).astype(np.uint32),
            **{k: v[a:b] for k, v in self._rows.items()},
            claim_device=(self._claim_at[c:d] - start).astype(np.uint32),
            **{k: v[c:d] for k, v in self._claims.items()},
            more=int(self._more[start:stop].sum()),
        )


class _Names:
    """Texts, each once."""

    def __init__(self, slots: NDArray[np.object_]) -> None:
        self.found: dict[str, int] = {"": 0, Conversations.GROUP: 1, Conversations.PUBLIC: 2}
        self._slots = slots

    def of(self, codes: I64, text: Any) -> NDArray[np.uint32]:
        """Place in `found` of the text of each code (n,)."""
        known, which = np.unique(codes, return_inverse=True)
        found = [self.found.setdefault(text(code), len(self.found)) for code in known.tolist()]
        return np.array(found, dtype=np.uint32)[which.reshape(-1)]

    def peers(self, codes: I64) -> NDArray[np.uint32]:
        """Place in `found` of each peer (n,)."""
        words = (Conversations.GROUP, Conversations.PUBLIC)
        return self.of(codes, lambda c: words[c] if c < speakers.NAMED else self._slots[c - speakers.NAMED])


def _first(at: I64, most: int, rows: int) -> tuple[I64, Bool, I64]:
    """The first `most` of each row of `at` (n,), ascending, from row 0 on; which those are; what is left."""
    rank = np.arange(len(at)) - np.searchsorted(at, at)
    pick = (at >= 0) & (rank < most)
    more = np.bincount(at[(at >= 0) & ~pick], minlength=rows)
    return at[pick], pick, more.astype(np.int64)


def _spoken(flows: Flows) -> tuple[dict[str, I64], I64]:
    """Rows of packets, and claims (c, 5): slot that heard, IPv4 address, slot of the owner, packets, ARP."""
    n = len(flows.keys)
    keys, sums = np.empty((2 * n, 3), np.uint64), np.empty((2 * n, 3), np.int64)
    addresses, claims = np.empty((2 * n, 3), np.uint64), np.empty((n, 3), np.uint64)
    claim_sums, used = np.empty((n, 2), np.int64), np.zeros(3, np.int64)
    tables = [np.full(cells(rows), -1, dtype=np.int32) for rows in (2 * n, 2 * n, n)]
    speakers.speak(
        flows.keys, flows.slots, flows.packets, flows.seen, TABLES, _CODES,
        tables[0], keys, sums, tables[1], addresses, tables[2], claims, claim_sums, used,
    )  # fmt: skip
    k, s = keys[: used[0]].astype(np.int64), sums[: used[0]]
    zero = np.zeros(len(k), dtype=np.int64)
    columns = (
        k[:, 0],
        k[:, 1],
        k[:, 2],
        zero,
        s[:, 0],
        zero,
        s[:, 1],
        s[:, 2],
        zero + _NO_REGISTER,
        zero - 1,
    )
    heard = np.concatenate([claims[: used[2]].astype(np.int64), claim_sums[: used[2]]], axis=1)
    return dict(zip(_COLUMNS, columns, strict=True)), heard


def _said(m: Kept, times: I64) -> dict[str, I64]:
    """Rows of messages."""
    flags = m.flags
    service = m.service.copy()
    # An OPC UA response goes by its request's name: its TypeId is 3 above, of the newest services 1.
    value = service & ((1 << _SERVICE) - 1)
    answer = (service >> _SERVICE == _OPCUA) & ((flags & ms.RESPONSE) > 0)
    answer &= (value != _FAULT) & (value >> _KIND == 0)
    service[answer] -= np.where(value[answer] > _QUERY_FIRST, 1, 3)
    request = (flags & ms.REQUEST) > 0
    writes = np.where(request & ((flags & (ms.WRITE | ms.CONTROL)) > 0), times, 0)
    refused = np.where((flags & ms.EXCEPTION) > 0, times, 0)
    named = request & (m.address >= 0)
    low = np.where(named, m.address, _NO_REGISTER)
    high = np.where(named, m.address + np.maximum(m.count, 1) - 1, -1)
    sides = []
    for side in range(2):
        slot, other = m.ends[:, side].astype(np.int64), m.ends[:, 1 - side].astype(np.int64)
        outside = (m.public & (2 if side == 0 else 1)) > 0
        peer = np.where(other < 0, speakers.GROUP, np.where(outside, speakers.PUBLIC, other + speakers.NAMED))
        role, port = m.part[:, side].astype(np.int64), m.part[:, 2].astype(np.int64)
        part = role << 32 | (m.service >> _SERVICE) << 16 | port
        one = np.ones(len(slot), dtype=np.int64)
        columns = (slot, peer, part, service, times, writes, refused, one, low, high)
        there = (slot >= 0) & (slot != other)
        sides.append([column[there] for column in columns])
    both = [np.concatenate(column) for column in zip(*sides, strict=True)]
    order = np.lexsort(both[:4])
    both = [column[order] for column in both]
    border = np.ones(len(order), dtype=bool)
    border[1:] = np.any([column[1:] != column[:-1] for column in both[:4]], axis=0)
    starts = np.flatnonzero(border)
    if not len(starts):
        return dict(zip(_COLUMNS, both, strict=True))
    out = dict(zip(_COLUMNS[:4], (column[starts] for column in both[:4]), strict=True))
    how = {"peers": np.maximum, "low": np.minimum, "high": np.maximum}
    for name, column in zip(_COLUMNS[4:], both[4:], strict=True):
        out[name] = how.get(name, np.add).reduceat(column, starts)
    return out
