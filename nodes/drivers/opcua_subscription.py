# asyncua re-exports its generated types without __all__ and narrows int and str to its own NewTypes.
# mypy: disable-error-code="attr-defined,name-defined,arg-type"
"""One subscription and its place in the stream: sequence numbers, life signs, gaps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.ua.ua_binary import struct_from_binary

from cellwatch.models.types import I64, Bool
from cellwatch.nodes.drivers.opcua_browse import FoundTag, slices

if TYPE_CHECKING:
    from cellwatch.nodes.drivers.opcua_session import Session
    from cellwatch.nodes.drivers.opcua_settings import LinkSettings

MAX_SEQUENCE = 2**32 - 1  # rolls over to 1, never to 0 (OPC UA Part 4, 7.6)
_FILTER_ERRORS = frozenset(
    {
        "BadMonitoredItemFilterUnsupported",
        "BadMonitoredItemFilterInvalid",
        "BadFilterNotAllowed",
        "BadDeadbandFilterInvalid",
    }
)


def ahead(expected: int, sequence: int) -> int:
    """How many messages lie between; negative: an old one.

    >>> ahead(5, 7), ahead(MAX_SEQUENCE, 1), ahead(5, 4)
    (2, 1, -1)
    """
    distance = (sequence - expected) % MAX_SEQUENCE
    return distance if distance < MAX_SEQUENCE // 2 else distance - MAX_SEQUENCE


def following(sequence: int, steps: int = 1) -> int:
    """Return the sequence number `steps` later."""
    return (sequence - 1 + steps) % MAX_SEQUENCE + 1


@dataclass(slots=True)
class Item:
    """One monitored item as the server revised it."""

    index: int  # of the tag
    found: FoundTag
    monitored_id: int = 0  # 0 while it does not run
    sampling_s: float = 0.0
    queue_size: int = 0


@dataclass(slots=True)
class Shard:
    """One subscription with its items. Times `*_ns` are of the server's or the source's clock."""

    items: list[Item]
    subscription_id: int = 0
    publishing_s: float = 0.0
    silence_s: float = 0.0  # longest silence of a subscription that lives
    heard: float = 0.0  # loop time of the last message
    data_heard: float = 0.0
    expected: int = 1
    missing: set[int] = field(default_factory=set)  # under repair
    position_ns: int = 0  # the stream is complete up to here
    gap_from_ns: int = 0  # start of an outage that the first values end; 0 = none
    gap_to_ns: int = 0
    gap_reason: str = ""
    gap_deadline: float = 0.0
    waiting: Bool | None = None  # (tags,) items without a first value
    rebuild: str = ""  # why it must be made again
    suspect: bool = False

    @property
    def margin_ns(self) -> int:
        """A sample may be this much older than the message that follows its own."""
        return int(max((i.sampling_s for i in self.items), default=0.0) * 1e9)

    def advance(self, newest_ns: int) -> None:
        self.position_ns = max(self.position_ns, newest_ns)

    @property
    def safe_ns(self) -> int:
        """Time up to which nothing can be missing, 0 while nothing was received."""
        return max(self.position_ns - self.margin_ns, 0)


async def subscribe(
    session: Session, settings: LinkSettings, shard: Shard, per_call: int, now: float
) -> dict[str, str]:
    """Create the subscription and every item, one result each. Returns the problems: tag name -> reason."""
    interval_s = settings.publishing_interval_s
    parameters = ua.CreateSubscriptionParameters()
    parameters.RequestedPublishingInterval = interval_s * 1000
    parameters.RequestedMaxKeepAliveCount = max(1, round(settings.keep_alive_s / interval_s))
    parameters.RequestedLifetimeCount = max(
        3 * parameters.RequestedMaxKeepAliveCount, round(settings.lifetime_s / interval_s)
    )
    parameters.MaxNotificationsPerPublish = 0
    parameters.PublishingEnabled = True
    request = ua.CreateSubscriptionRequest()
    request.Parameters = parameters
    response = _parse(ua.CreateSubscriptionResponse, await session.request(request))
    revised = response.Parameters
    shard.subscription_id = revised.SubscriptionId
    shard.publishing_s = revised.RevisedPublishingInterval / 1000
    shard.silence_s = 2 * revised.RevisedMaxKeepAliveCount * shard.publishing_s + 1.0
    shard.heard = shard.data_heard = now
    shard.expected, shard.position_ns, shard.rebuild, shard.suspect = 1, 0, "", False
    shard.missing.clear()
    return await monitor(session, shard, shard.items, per_call)


async def monitor(session: Session, shard: Shard, items: list[Item], per_call: int) -> dict[str, str]:
    """Create monitored items in batches; a filter that the server refuses is left out and reported."""
    problems: dict[str, str] = {}
    for part in slices(items, per_call):
        plain = []
        for item, result in zip(part, await _create(session, shard, list(part), filtered=True), strict=True):
            name = result.StatusCode.name
            if name in _FILTER_ERRORS:
                problems[item.found.name] = f"{name}: runs without deadband, every change is reported"
                plain.append(item)
            else:
                _take(item, result, problems)
        if plain:
            for item, result in zip(plain, await _create(session, shard, plain, filtered=False), strict=True):
                _take(item, result, problems)
    return problems


def _take(item: Item, result: ua.MonitoredItemCreateResult, problems: dict[str, str]) -> None:
    if not result.StatusCode.is_good():
        item.monitored_id = 0
        problems[item.found.name] = f"{result.StatusCode.name} ({item.found.node_id.to_string()})"
        return
    item.monitored_id = result.MonitoredItemId
    item.sampling_s = max(result.RevisedSamplingInterval, 0.0) / 1000
    item.queue_size = result.RevisedQueueSize


async def _create(
    session: Session, shard: Shard, items: list[Item], *, filtered: bool
) -> list[ua.MonitoredItemCreateResult]:
    request = ua.CreateMonitoredItemsRequest()
    request.Parameters.SubscriptionId = shard.subscription_id
    request.Parameters.TimestampsToReturn = ua.TimestampsToReturn.Both
    for item in items:
        rule = item.found.rule
        wanted = ua.MonitoredItemCreateRequest()
        wanted.ItemToMonitor = ua.ReadValueId(item.found.node_id, ua.AttributeIds.Value)
        wanted.MonitoringMode = ua.MonitoringMode.Reporting
        wanted.RequestedParameters.ClientHandle = item.index + 1
        wanted.RequestedParameters.SamplingInterval = rule.sampling_ms
        wanted.RequestedParameters.QueueSize = rule.queue_size
        wanted.RequestedParameters.DiscardOldest = True
        if filtered and (rule.deadband is not None or rule.trigger != "value"):
            wanted.RequestedParameters.Filter = _filter(item.found)
        request.Parameters.ItemsToCreate.append(wanted)
    response = _parse(ua.CreateMonitoredItemsResponse, await session.request(request))
    results: list[ua.MonitoredItemCreateResult] = response.Results
    return results


def _filter(found: FoundTag) -> ua.DataChangeFilter:
    wanted = ua.DataChangeFilter()
    triggers = {"status": "Status", "value": "StatusValue", "timestamp": "StatusValueTimestamp"}
    wanted.Trigger = ua.DataChangeTrigger[triggers[found.rule.trigger]]
    band = found.rule.deadband
    wanted.DeadbandType = 0 if band is None else 1 if band.kind == "absolute" else 2
    wanted.DeadbandValue = 0.0 if band is None else band.value
    return wanted


async def delete(session: Session, ids: list[int]) -> None:
    """Delete subscriptions on the server; those it no longer knows are no error."""
    request = ua.DeleteSubscriptionsRequest()
    request.Parameters.SubscriptionIds = ids
    await session.request(request)


def _parse(kind: type, data: bytes) -> Any:
    response: Any = struct_from_binary(kind, Buffer(data))
    response.ResponseHeader.ServiceResult.check()
    return response


def newest(source_ns: I64) -> int:
    """Return the latest source time of a message, 0 if none was sent."""
    return int(np.max(source_ns)) if len(source_ns) else 0
