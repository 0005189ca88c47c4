# asyncua re-exports its generated types without __all__ and narrows int and str to its own NewTypes.
# mypy: disable-error-code="attr-defined,name-defined,arg-type"
"""The link to one PLC: OPC UA subscriptions in, verified writes out. Free of ROS.

    link = OpcuaLink(settings, TagMap.load("config/tags/plc1.yaml"))
    link.start(wait_s=10)          # raises LinkError with one clear line
    batches = link.drain()         # list[TagBatch]; link.catalog names the tags
    link.submit(command, armed=True)
    results = link.results()       # list[CommandResult]
    link.stop()

One thread owns an asyncio loop, one supervisor task in it owns the connection. After every new session all
tags are resolved again by browse path and every monitored item is checked. The stream is watched by its data
and keep-alives, not by its socket. What is missing is repaired by Republish or named in a `Gap`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from asyncua import ua

from cellwatch.models.types import (
    F64,
    I64,
    U32,
    Command,
    CommandResult,
    CommandStatus,
    Gap,
    LinkState,
    TagBatch,
    TagCatalog,
    TagInfo,
    severity,
)
from cellwatch.nodes.drivers.audit_log import AuditError, AuditLog
from cellwatch.nodes.drivers.opcua_browse import Browser, FoundMethod, FoundTag, Resolved, slices
from cellwatch.nodes.drivers.opcua_decode import DecodeError, Decoder, Message, Samples
from cellwatch.nodes.drivers.opcua_session import LOST, Session
from cellwatch.nodes.drivers.opcua_settings import (
    AccessError,
    LinkError,
    LinkSettings,
    SettingsError,
    UnreachableError,
)
from cellwatch.nodes.drivers.opcua_subscription import (
    Item,
    Shard,
    ahead,
    delete,
    following,
    monitor,
    newest,
    subscribe,
)
from cellwatch.nodes.drivers.opcua_writer import (
    WriteError,
    WriteGuard,
    WriteRule,
    call_method,
    result_of,
    write_and_verify,
)
from cellwatch.nodes.drivers.tag_map import TagMap

_OVERFLOW_MASK, _OVERFLOW = (
    np.uint32(0x0C80),
    np.uint32(0x0480),
)  # InfoType DataValue + Overflow, Part 4, 7.39
_NODE_GONE = np.array([0x80330000, 0x80340000], dtype=np.uint32)  # BadNodeIdInvalid, BadNodeIdUnknown
_MAX_REPUBLISH = 1000
_FIRST_BACKOFF_S = 0.25
_TICK_S = 0.2
_QUIET_S = 5.0  # silence of the data after which the values are read once and compared
_FIRST_VALUES_S = 3.0  # for the first values of all items after an outage


@dataclass(frozen=True, slots=True)
class LinkStats:
    """Counters since the start."""

    state: LinkState
    trouble: str  # why the link is not connected, "" if it is
    tags: int
    received: int = 0
    bad_quality: int = 0
    uncertain: int = 0
    dropped: int = 0  # overflow marks of the server (each at least one sample) + samples dropped here
    replayed: int = 0
    gaps: int = 0
    reconnects: int = 0  # new or resumed connections and rebuilt subscriptions after the first
    messages: int = 0
    duplicates: int = 0
    undecoded: int = 0  # messages that break OPC UA Part 6
    last_data_age_s: float = math.nan  # since the last sample
    last_heard_age_s: float = math.nan  # since the last message, keep-alives included
    publishing_interval_s: float = math.nan  # revised
    revised: dict[str, tuple[float, int]] = field(
        default_factory=dict
    )  # tag -> (sampling_s, queue), if changed
    problems: dict[str, str] = field(default_factory=dict)  # tag or path -> reason


class OpcuaLink:
    """A supervised link to one OPC UA server. All public methods may be called from any thread."""

    def __init__(
        self,
        settings: LinkSettings,
        tag_map: TagMap,
        *,
        audit: AuditLog | None = None,
        source: str = "cellwatch",
        on_data: Callable[[], None] | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        """Prepare a link; nothing happens before `start`.

        `audit` records every command, `source` names who commands, `on_data` is called from the link's
        thread when a batch or a result is ready.
        """
        self.settings = settings
        self.tag_map = tag_map
        self.audit = audit
        self.source = source
        self.live_armed: Callable[[], bool] = lambda: True  # asked just before a write
        self.live_objection: Callable[[Command], str] = lambda _: ""  # the same: why not to write at all
        self.methods: tuple[str, ...] = ()  # of the tag map, that the server has: "PLC1/SafeState()"
        self.decoder = Decoder()
        self.catalog: TagCatalog | None = None  # indices never change meaning: tags are only added
        self.catalog_changes = 0  # grows with every change of `catalog`
        self.state = LinkState.DISCONNECTED
        self.error: LinkError | None = None
        self._log = logger or logging.getLogger(f"cellwatch.opcua.{settings.plc}")
        self._on_data = on_data
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._changed = threading.Condition()
        self._attempts = 0
        # handed out under the lock
        self._lock = threading.Lock()
        self._queue: deque[TagBatch] = deque()
        self._queued = 0
        self._lost_batches: list[TagBatch] = []
        self._lost_samples = 0
        self._lost_span = (0, 0)
        self._results: deque[CommandResult] = deque()
        # owned by the link's thread
        self._commands: asyncio.Queue[tuple[Command, bool]] | None = None
        self._guard = WriteGuard()
        self._session: Session | None = None
        self._browser: Browser | None = None
        self._shards: dict[int, Shard] = {}
        self._acks: list[ua.SubscriptionAcknowledgement] = []
        self._index: dict[str, int] = {}
        self._found: dict[int, FoundTag] = {}
        self._last: F64 = np.empty(0)
        self._last_source: I64 = np.empty(0, np.int64)
        self._methods: dict[str, FoundMethod] = {}
        self._problems: dict[str, str] = {}
        self._revised: dict[str, tuple[float, int]] = {}
        self._resolve_wanted = ""
        self._repairs: set[asyncio.Task[None]] = set()
        self._outage_ns = 0
        self._sequence = 0
        self._count = dict.fromkeys(
            ("received", "bad_quality", "uncertain", "dropped", "replayed", "gaps", "reconnects", "messages",
             "duplicates", "undecoded"), 0,
        )  # fmt: skip
        self._data_at = self._heard_at = math.nan

    # -- for everyone --------------------------------------------------------------------------------------

    def start(self, wait_s: float | None = None) -> None:
        """Start the thread. With `wait_s`, return once connected or raise the `LinkError` of the attempt.

        Refused identities and settings raise at once; an unreachable server when `wait_s` is over.
        """
        if self._thread is not None:
            raise RuntimeError("the link is already started")
        if self.settings.secured and not self.settings.server_certificate:
            self._log.warning("%s: any server is trusted; set server_certificate", self.settings.endpoint)
        ready = threading.Event()
        self._thread = threading.Thread(
            target=self._thread_main, args=(ready,), name=f"opcua-{self.settings.plc}", daemon=True
        )
        self._thread.start()
        ready.wait()
        if wait_s is None:
            return
        deadline = time.monotonic() + wait_s
        with self._changed:
            while self.state is not LinkState.CONNECTED:
                left = deadline - time.monotonic()
                if isinstance(self.error, AccessError | SettingsError) or left <= 0:
                    break
                self._changed.wait(left)
        if self.state is not LinkState.CONNECTED:
            error = self.error or UnreachableError(
                f"{self.settings.endpoint}: no answer within {wait_s:g} s; is the server running?"
            )
            self.stop()
            raise error

    def stop(self, timeout_s: float = 10.0) -> None:
        """Delete the subscriptions, close the session and end the thread; calling twice is fine."""
        thread, loop, stop = self._thread, self._loop, self._stop
        if thread is None or loop is None or stop is None:
            return
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(stop.set)
        thread.join(timeout_s)
        if not thread.is_alive():
            self._thread = None

    def drain(self, max_batches: int | None = None) -> list[TagBatch]:
        """Take the batches that have arrived, oldest first; what was dropped before is told in the first."""
        with self._lock:
            n = len(self._queue) if max_batches is None else min(max_batches, len(self._queue))
            taken = [self._queue.popleft() for _ in range(n)]
            self._queued -= sum(len(b.tag) for b in taken)
            lost, span = self._lost_samples, self._lost_span
            if taken and lost:
                self._lost_samples, self._lost_span = 0, (0, 0)
        if taken and lost:
            gap = Gap(*span, f"{lost} samples dropped: the link's queue was full")
            taken[0] = replace(taken[0], dropped=taken[0].dropped + lost, gaps=(gap, *taken[0].gaps))
        return taken

    def submit(self, command: Command, armed: bool) -> None:
        """Hand a command to the write guard; its result comes with `results`."""
        loop, commands = self._loop, self._commands
        if loop is not None and commands is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(commands.put_nowait, (command, armed))
                return
        self._finish(result_of(command, CommandStatus.REFUSED, time.time_ns(), "the link is not running"))

    def results(self) -> list[CommandResult]:
        """Take the results of commands since the last call."""
        with self._lock:
            taken = list(self._results)
            self._results.clear()
        return taken

    @property
    def stats(self) -> LinkStats:
        """A snapshot of the counters."""
        now = time.monotonic()
        shards = list(self._shards.values())
        return LinkStats(
            self.state,
            str(self.error or ""),
            len(self._found),
            **self._count,
            last_data_age_s=now - self._data_at,
            last_heard_age_s=now - self._heard_at,
            publishing_interval_s=max((s.publishing_s for s in shards), default=math.nan),
            revised=dict(self._revised),
            problems=dict(self._problems),
        )

    # -- the thread and its supervisor ---------------------------------------------------------------------

    def _thread_main(self, ready: threading.Event) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            self._commands = asyncio.Queue()
            ready.set()
            writer = asyncio.create_task(self._write_commands())
            try:
                await self._supervise()
            finally:
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)
                self._refuse_waiting()
                self._set_state(LinkState.DISCONNECTED, None)

        try:
            asyncio.run(main())
        except Exception as error:
            self._log.exception("the link has ended by an error of its own")
            self._set_state(LinkState.FAILED, LinkError(f"{self.settings.endpoint}: {error}"))
        finally:
            self._loop = None
            ready.set()

    async def _supervise(self) -> None:
        """Keep one session alive until `stop`; the only place that connects."""
        assert self._stop is not None
        wait_s = _FIRST_BACKOFF_S
        while not self._stop.is_set():
            if self.state is not LinkState.FAILED:
                self._set_state(LinkState.CONNECTING, self.error)
            try:
                await self._connect()
                wait_s = _FIRST_BACKOFF_S
                self._announce()
                await self._serve()
                break  # asked to stop
            except Exception as error:  # whatever it is, the link comes back
                if not isinstance(error, LinkError | OSError | TimeoutError | ua.UaError):
                    self._log.exception("the link has stumbled over an error of its own")
                was_connected = self.state is LinkState.CONNECTED
                failure = self._explain(error, was_connected=was_connected)
                self._acks = []
                fatal = isinstance(failure, AccessError | SettingsError)
                wait_s = self.settings.backoff_max_s if fatal else wait_s
                level = logging.WARNING if was_connected or self._attempts == 0 else logging.DEBUG
                self._attempts += 1
                self._log.log(level, "%s; next attempt in %.2g s", failure, wait_s)
                self._set_state(LinkState.FAILED if fatal else LinkState.DISCONNECTED, failure)
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), wait_s)
                wait_s = min(2 * wait_s, self.settings.backoff_max_s)
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _explain(self, error: Exception, *, was_connected: bool) -> LinkError:
        if was_connected and isinstance(error, OSError | TimeoutError):
            return UnreachableError(f"{self.settings.endpoint}: the connection was lost")
        return (self._session or Session(self.settings)).explain(error)

    async def _connect(self) -> None:
        if self._session is not None:
            if await self._session.resume():
                for shard in self._shards.values():
                    shard.heard = shard.data_heard = self._now()
                return
            await self._session.abandon()
            self._session = None
        session = Session(self.settings)
        await session.open()
        self._session = session
        try:
            await self._build()
        except BaseException:
            await session.abandon()
            self._session = None
            raise

    def _announce(self) -> None:
        if self._attempts or self._count["messages"]:
            self._count["reconnects"] += 1
        self._attempts = 0
        self._log.info("%s: connected, %d tags", self.settings.endpoint, len(self._found))
        self._set_state(LinkState.CONNECTED, None)

    async def _serve(self) -> None:
        """Run publishers and watchdog on an open session; returns on stop, raises on loss."""
        assert self._stop is not None
        tasks = [asyncio.create_task(self._stop.wait()), asyncio.create_task(self._watch())]
        tasks += [asyncio.create_task(self._publish()) for _ in range(min(len(self._shards), 8) + 2)]
        try:
            while True:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if tasks[0] in done:
                    return
                for task in done:
                    task.result()  # raises what ended it
                    tasks.remove(task)  # a publisher that the server finds one too many
        finally:
            repairs = list(self._repairs)
            for task in (*tasks, *repairs):
                task.cancel()
            await asyncio.gather(*tasks, *repairs, return_exceptions=True)

    # -- resolve and subscribe -----------------------------------------------------------------------------

    async def _build(self) -> None:
        """Resolve every tag, make every subscription anew, check every item, publish the catalogue."""
        session = self._session
        assert session is not None
        outage_ns = self._outage_start()
        await self._drop_subscriptions(session)
        browser = Browser(session.client)
        await browser.begin()
        self._browser = browser
        resolved = await browser.resolve(self.tag_map, self.settings.plc)
        self._methods, no_methods = await browser.find_methods(self.tag_map.methods)
        self.methods = tuple(self._methods)
        problems = self._vanished(resolved) | resolved.problems | no_methods
        self._found = {}
        for found in resolved.tags:
            self._found[self._index.setdefault(found.name, len(self._index))] = found
        self._grow()
        self._publish_catalog({})
        order = sorted(self._found)
        sampling: dict[int, float] = {}
        for part in slices(order, self.settings.items_per_subscription):
            shard = Shard([Item(i, self._found[i]) for i in part])
            problems |= await self._subscribe(shard, outage_ns, "the link was down")
            sampling |= {item.index: item.sampling_s for item in shard.items if item.monitored_id}
        self._report(problems)
        self._publish_catalog(sampling)
        self._resolve_wanted = ""

    def _vanished(self, resolved: Resolved) -> dict[str, str]:
        """Tags that a wildcard found once and finds no more."""
        gone = self._index.keys() - {found.name for found in resolved.tags}
        return dict.fromkeys(sorted(gone), "was here before, is not found now")

    async def _subscribe(self, shard: Shard, gap_from_ns: int, reason: str) -> dict[str, str]:
        session, browser = self._session, self._browser
        assert session is not None and browser is not None  # noqa: PT018
        problems = await subscribe(session, self.settings, shard, browser.per_subscribe, self._now())
        shard.gap_from_ns, shard.gap_to_ns, shard.gap_reason = gap_from_ns, gap_from_ns, reason
        shard.gap_deadline = self._now() + _FIRST_VALUES_S
        shard.waiting = None
        if gap_from_ns:
            shard.waiting = np.zeros(len(self._index), dtype=np.bool_)
            shard.waiting[[item.index for item in shard.items if item.monitored_id]] = True
        self._shards[shard.subscription_id] = shard
        self._note_revised(shard)
        return problems

    def _note_revised(self, shard: Shard) -> None:
        changed = {}
        for item in shard.items:
            rule = item.found.rule
            if item.monitored_id and (
                (rule.sampling_ms >= 0 and not math.isclose(item.sampling_s * 1000, rule.sampling_ms))
                or item.queue_size != rule.queue_size
            ):
                changed[item.found.name] = (item.sampling_s, item.queue_size)
        for item in shard.items:
            self._revised.pop(item.found.name, None)
        self._revised |= changed
        if changed:
            name, (sampling_s, queue) = next(iter(changed.items()))
            self._log.info(
                "the server revised %d of %d items, e.g. %s: sampling %g s, queue %d",
                len(changed), len(shard.items), name, sampling_s, queue,
            )  # fmt: skip
        if not math.isclose(shard.publishing_s, self.settings.publishing_interval_s):
            self._log.info("the server revised the publishing interval to %g s", shard.publishing_s)

    async def _drop_subscriptions(self, session: Session) -> None:
        ids, self._shards = list(self._shards), {}
        if ids and not session.lost:
            with contextlib.suppress(ua.UaStatusCodeError):
                await delete(session, ids)

    def _outage_start(self) -> int:
        """Up to this source time nothing is missing, 0 if nothing ever came."""
        starts = [s.gap_from_ns or s.safe_ns for s in self._shards.values()]
        starts = [s for s in starts if s]
        self._outage_ns = min(starts) if starts else self._outage_ns
        return self._outage_ns

    def _grow(self) -> None:
        extra = len(self._index) - len(self._last)
        if extra > 0:
            self._last = np.concatenate([self._last, np.full(extra, np.nan)])
            self._last_source = np.concatenate([self._last_source, np.zeros(extra, np.int64)])

    def _publish_catalog(self, sampling: dict[int, float]) -> None:
        old = self.catalog.tags if self.catalog else ()
        tags = list(old) + [TagInfo(name, "", "") for name in list(self._index)[len(old) :]]
        for index, found in self._found.items():
            known_s = old[index].period_s if index < len(old) else max(found.rule.sampling_ms / 1000, 0.0)
            period_s = sampling.get(index) or known_s
            tags[index] = TagInfo(
                found.name, found.node_id.to_string(), found.device, found.unit, found.low, found.high,
                max(period_s, 1e-3), found.rule.writable, found.rule.role,
            )  # fmt: skip
        self._guard.set_rules(
            [
                WriteRule(
                    f.name,
                    f.rule.writable,
                    f.low,
                    f.high,
                    f.rule.min_interval_s,
                    f.kind.name if f.kind else "",
                )
                for f in self._found.values()
            ]
            + [
                WriteRule(name, writable=True, low=1, high=1, min_interval_s=m.rule.min_interval_s)
                for name, m in self._methods.items()
            ]
        )
        catalog = TagCatalog(self.settings.plc, tuple(tags))
        if repr(catalog) != repr(self.catalog):  # NaN != NaN, so equality would never hold
            self.catalog = catalog
            self.catalog_changes += 1

    def _report(self, problems: dict[str, str]) -> None:
        for key, reason in problems.items():
            level = logging.DEBUG if self._problems.get(key) == reason else logging.WARNING
            self._log.log(level, "tag %s: %s", key, reason)
        for key in self._problems.keys() - problems.keys():
            self._log.info("tag %s: found again", key)
        self._problems = problems

    # -- receive -------------------------------------------------------------------------------------------

    async def _publish(self) -> None:
        """Keep one PublishRequest at the server; answers are handled in the order of their arrival."""
        session = self._session
        assert session is not None
        request = ua.PublishRequest()
        while True:
            if not self._shards:
                await asyncio.sleep(_TICK_S)
                continue
            request.Parameters.SubscriptionAcknowledgements, self._acks = self._acks, []
            try:
                data = await session.request(request, 0)
            except ua.UaStatusCodeError as error:
                name = ua.StatusCode(error.code).name
                if name == "BadTooManyPublishRequests":
                    return
                if name == "BadNoSubscription":
                    for shard in self._shards.values():
                        shard.rebuild = "the server has no subscription any more"
                    await asyncio.sleep(_TICK_S)
                elif name not in {"BadTimeout", "BadSequenceNumberUnknown", "BadRequestTimeout"}:
                    raise
                continue
            try:
                self._receive(self.decoder.publish(data))
            except DecodeError as error:
                self._count["undecoded"] += 1
                level = logging.WARNING if self._count["undecoded"] == 1 else logging.DEBUG
                self._log.log(level, "%s", error)

    def _receive(self, message: Message) -> None:
        shard = self._shards.get(message.subscription_id)
        self._count["messages"] += 1
        if shard is None:
            return  # of a subscription that was just deleted
        shard.heard = self._heard_at = self._now()
        for code in message.status_changes:
            shard.rebuild = f"the server ended the subscription ({ua.StatusCode(code).name})"
        distance = ahead(shard.expected, message.sequence)
        if distance > 0:
            self._repair(shard, message, distance)
        if message.alive_only:
            shard.advance(message.publish_ns)
            self._emit(shard, None, gaps=self._outage_gap(shard))
            return
        self._acks.append(ua.SubscriptionAcknowledgement(message.subscription_id, message.sequence))
        late = message.sequence in shard.missing
        if distance < 0 and not late:
            self._count["duplicates"] += 1
            return
        shard.missing.discard(message.sequence)
        if distance >= 0:
            shard.expected = following(message.sequence)
        for samples in message.samples:
            shard.data_heard = self._data_at = shard.heard
            shard.suspect = False
            self._emit(shard, samples)

    def _emit(
        self,
        shard: Shard,
        samples: Samples | None,
        *,
        replayed: bool = False,
        gaps: tuple[Gap, ...] = (),
    ) -> None:
        """Turn the samples of a message into a batch; None makes an empty one (keep-alive, gap)."""
        now_ns = time.time_ns()
        tag: U32 = np.empty(0, np.uint32)
        value: F64 = np.empty(0)
        status: U32 = tag
        source_ns: I64 = np.empty(0, np.int64)
        server_ns = source_ns
        dropped = 0
        if samples is not None:
            tag, value, status = samples.handle - np.uint32(1), samples.value, samples.status
            source_ns, server_ns = samples.source_ns, samples.server_ns
            known = tag < len(self._last)
            if not known.all():
                tag, value, status = tag[known], value[known], status[known]
                source_ns, server_ns = source_ns[known], server_ns[known]
            # a time that the server leaves out is replaced by the next best one, never by zero
            server_ns = np.where(server_ns > 0, server_ns, np.where(source_ns > 0, source_ns, now_ns))
            source_ns = np.where(source_ns > 0, source_ns, server_ns)
            quality = severity(status)
            overflow = (status & _OVERFLOW_MASK) == _OVERFLOW
            dropped = int(np.count_nonzero(overflow))
            if dropped:
                start = int(np.min(self._last_source[tag[overflow]]))
                end = int(np.max(source_ns[overflow]))
                gaps += (Gap(start or end, end, f"the server's queue of {dropped} items ran over"),)
            if not replayed:
                gaps += self._first_values(shard, tag, source_ns, server_ns)
                self._last[tag] = value
                self._last_source[tag] = source_ns
                shard.advance(newest(source_ns))
            if np.isin(status, _NODE_GONE).any():
                self._resolve_wanted = "a node has gone"
            self._count["received"] += len(tag)
            self._count["bad_quality"] += int(np.count_nonzero(quality == 2))
            self._count["uncertain"] += int(np.count_nonzero(quality == 1))
            self._count["dropped"] += dropped
            self._count["replayed"] += len(tag) if replayed else 0
        self._count["gaps"] += len(gaps)
        self._sequence += 1
        self._put(
            TagBatch(
                self.settings.plc, self._sequence, tag, value, status, source_ns, server_ns, now_ns,
                replayed, dropped, gaps,
            )
        )  # fmt: skip

    def _first_values(self, shard: Shard, tag: U32, source_ns: I64, server_ns: I64) -> tuple[Gap, ...]:
        """After an outage the gap lasts until every item has shown its first value."""
        if shard.waiting is None or not len(tag):
            return ()
        first = shard.waiting[tag]
        if first.any():
            shard.gap_to_ns = max(shard.gap_to_ns, int(source_ns[first].max()), int(server_ns[first].max()))
            shard.waiting[tag] = False
        return self._outage_gap(shard)

    def _outage_gap(self, shard: Shard) -> tuple[Gap, ...]:
        if shard.waiting is None or (shard.waiting.any() and self._now() < shard.gap_deadline):
            return ()
        shard.waiting = None
        start, shard.gap_from_ns = shard.gap_from_ns, 0
        end = max(shard.gap_to_ns, start)
        self._log.info("gap of %.3f s: %s", (end - start) / 1e9, shard.gap_reason)
        return (Gap(start, end, shard.gap_reason),)

    def _put(self, batch: TagBatch) -> None:
        with self._lock:
            self._queue.append(batch)
            self._queued += len(batch.tag)
            # empty batches count as one sample, so that an idle reader cannot make the queue grow for ever
            while self._queued + len(self._queue) > self.settings.queue_samples and len(self._queue) > 1:
                old = self._queue.popleft()
                self._queued -= len(old.tag)
                self._lose(old)
        if self._on_data is not None:
            self._on_data()

    def _lose(self, batch: TagBatch) -> None:
        """Give up the oldest batch of a slow reader; its samples and gaps are told with the next one."""
        n = len(batch.tag)
        self._count["dropped"] += n
        self._lost_samples += n + batch.dropped
        edges = [g.start_ns for g in batch.gaps] + [g.end_ns for g in batch.gaps]
        if n:
            edges += [int(batch.source_ns.min()), int(batch.source_ns.max())]
        if edges:
            start, end = self._lost_span
            self._lost_span = (min([*edges, *([start] if start else [])]), max([*edges, end]))
            if not n and not batch.dropped:
                self._lost_samples += 1  # a gap record is worth telling, too

    # -- repair --------------------------------------------------------------------------------------------

    def _repair(self, shard: Shard, message: Message, distance: int) -> None:
        """Messages are missing before `message`: ask for them again."""
        numbers = [following(shard.expected, i) for i in range(min(distance, _MAX_REPUBLISH))]
        unknown = distance > _MAX_REPUBLISH
        start_ns = shard.safe_ns
        times = [newest(s.source_ns) for s in message.samples]
        end_ns = max([message.publish_ns, *times])
        shard.missing.update(numbers)
        shard.expected = message.sequence
        self._log.warning("%d messages are missing; asking for them again", distance)
        task = asyncio.create_task(self._republish(shard, numbers, start_ns, end_ns, unknown=unknown))
        self._repairs.add(task)
        task.add_done_callback(self._repairs.discard)

    async def _republish(
        self, shard: Shard, numbers: list[int], start_ns: int, end_ns: int, *, unknown: bool
    ) -> None:
        session = self._session
        lost = 0
        try:
            for number in numbers:
                if number not in shard.missing or session is None:
                    continue
                message = None
                with contextlib.suppress(ua.UaError, OSError, asyncio.TimeoutError, DecodeError):
                    request = ua.RepublishRequest()
                    request.Parameters.SubscriptionId = shard.subscription_id
                    request.Parameters.RetransmitSequenceNumber = number
                    message = self.decoder.republish(await session.request(request), shard.subscription_id)
                if number not in shard.missing:
                    continue  # it came late by itself
                if message is None or message.alive_only or message.sequence != number:
                    lost += 1
                    continue
                shard.missing.discard(number)
                self._acks.append(ua.SubscriptionAcknowledgement(shard.subscription_id, number))
                for samples in message.samples:
                    self._emit(shard, samples, replayed=True)
        finally:  # also when the connection is lost in between
            left = [n for n in numbers if n in shard.missing]
            shard.missing.difference_update(left)
            if left or unknown:
                reason = f"{len(left)} messages are lost and the server no longer keeps them"
                self._emit(shard, None, gaps=(Gap(start_ns or end_ns, end_ns, reason),))

    # -- watch ---------------------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Look at data and keep-alives of each subscription, mend what is broken, raise what cannot be."""
        session = self._session
        assert session is not None
        retry_at = probe_at = self._now() + self.settings.retry_tags_s
        while True:
            await asyncio.sleep(_TICK_S)
            now = self._now()
            if session.lost:
                raise ConnectionError("the connection was lost")
            if self._resolve_wanted:
                self._log.warning("%s: resolving all tags again", self._resolve_wanted)
                await asyncio.sleep(min(1.0, self.settings.retry_tags_s))
                await self._build()
                self._count["reconnects"] += 1
            for shard in list(self._shards.values()):
                if now - shard.heard > shard.silence_s:
                    shard.rebuild = f"silent for {now - shard.heard:.1f} s"
                elif now - shard.data_heard > _QUIET_S:
                    await self._compare(shard)
                if shard.rebuild:
                    await self._rebuild(shard)
            if not self._shards and now >= probe_at:
                await session.client.nodes.server_state.read_value()
                probe_at = now + self.settings.keep_alive_s
            if self._problems and now >= retry_at:
                await self._retry()
                retry_at = self._now() + self.settings.retry_tags_s

    async def _compare(self, shard: Shard) -> None:
        """No data for long: constant values or a dead sampler? Read some values to know."""
        shard.data_heard = self._now() - _QUIET_S + 1.0  # look again in a second
        items = [i for i in shard.items if i.monitored_id and i.found.rule.trigger != "status"][:50]
        if self._browser is None or not items:
            shard.data_heard = self._now()
            return
        seen = [self._last[i.index] for i in items]
        answers = await self._browser.read([(i.found.node_id, ua.AttributeIds.Value) for i in items])
        differ = False
        for item, old, data in zip(items, seen, answers, strict=True):
            raw = data.Value.Value if data.Value is not None else None
            new = float(raw) if isinstance(raw, bool | int | float) else math.nan
            band = item.found.rule.deadband
            width = 0.0 if band is None else band.value
            if band is not None and band.kind == "percent":
                width *= (item.found.high - item.found.low) / 100
            differ |= abs(new - old) > width
        if differ and shard.suspect:
            shard.rebuild = "the values change, but no data comes"
        elif not differ:
            shard.data_heard = self._now()
        shard.suspect = differ

    async def _rebuild(self, shard: Shard) -> None:
        """Make one subscription again."""
        session = self._session
        assert session is not None
        reason = shard.rebuild
        self._log.warning("subscription %d is rebuilt: %s", shard.subscription_id, reason)
        start_ns = shard.gap_from_ns or shard.safe_ns
        old = shard.subscription_id
        with contextlib.suppress(ua.UaStatusCodeError):
            await delete(session, [old])
        self._shards.pop(old, None)
        self._count["reconnects"] += 1
        fresh = Shard([Item(item.index, item.found) for item in shard.items])
        self._shards[old] = fresh  # should this attempt fail, the outage is still known
        fresh.gap_from_ns = start_ns
        problems = await self._subscribe(fresh, start_ns, f"subscription lost: {reason}")
        if fresh.subscription_id != old:
            self._shards.pop(old, None)
        self._report({k: v for k, v in self._problems.items() if k not in problems} | problems)

    async def _retry(self) -> None:
        """Try the tags with problems again; new ones join the last subscription."""
        session = self._session
        assert session is not None
        browser = Browser(session.client)
        await browser.begin()
        resolved = await browser.resolve(self.tag_map, self.settings.plc)
        problems = self._vanished(resolved) | resolved.problems
        running = {i.found.name for s in self._shards.values() for i in s.items if i.monitored_id}
        fresh = [f for f in resolved.tags if f.name not in running]
        problems |= {k: v for k, v in self._problems.items() if k in running}
        if fresh:
            for found in fresh:
                self._found[self._index.setdefault(found.name, len(self._index))] = found
            self._grow()
            sampling = {
                i.index: i.sampling_s for s in self._shards.values() for i in s.items if i.monitored_id
            }
            self._publish_catalog(sampling)
            names = {f.name for f in fresh}
            for shard in self._shards.values():
                shard.items = [i for i in shard.items if i.found.name not in names]
            items = [Item(self._index[f.name], f) for f in fresh]
            if not self._shards:
                problems |= await self._subscribe(Shard(items), 0, "")
            else:
                shard = next(reversed(self._shards.values()))
                shard.items += items
                if shard.waiting is not None:
                    shard.waiting = np.append(
                        shard.waiting, np.zeros(len(self._index) - len(shard.waiting), np.bool_)
                    )
                problems |= await monitor(session, shard, items, browser.per_subscribe)
            sampling |= {item.index: item.sampling_s for item in items if item.monitored_id}
            self._publish_catalog(sampling)
        self._report(problems)

    # -- write ---------------------------------------------------------------------------------------------

    async def _write_commands(self) -> None:
        """One command after the other, in the order submitted."""
        assert self._commands is not None
        while True:
            command, armed = await self._commands.get()
            try:
                result = await self._execute(command, armed=armed)
            except asyncio.CancelledError:
                self._finish(
                    result_of(
                        command, CommandStatus.REFUSED, time.time_ns(), "not confirmed: the link is stopping"
                    )
                )
                raise
            self._finish(result)

    async def _execute(self, command: Command, *, armed: bool) -> CommandResult:
        try:
            if self.audit is not None:
                await asyncio.to_thread(self.audit.command, command, armed=armed, source=self.source)
        except AuditError as error:
            self._log.error("%s; no command is sent", error)
            return result_of(command, CommandStatus.REFUSED, time.time_ns(), f"nothing is sent: {error}")
        result = await self._decide_and_write(command, armed=armed)
        try:
            if self.audit is not None:
                await asyncio.to_thread(self.audit.result, result, source=self.source)
        except AuditError as error:
            self._log.error("%s", error)
            result = replace(result, error=f"{result.error}; {error}".lstrip("; "))
        return result

    async def _decide_and_write(self, command: Command, *, armed: bool) -> CommandResult:
        session = self._session
        if session is None or self.state is not LinkState.CONNECTED:
            return result_of(command, CommandStatus.REFUSED, time.time_ns(), "the PLC is not connected")
        # Asked again at the last moment: a disarm reaches the commands that were waiting.
        decided = self._guard.decide(
            command,
            time.time_ns(),
            armed=armed and self.live_armed(),
            objection=self.live_objection(command),
        )
        if decided is not None:
            return decided
        try:
            if command.tag in self._methods:
                method = self._methods[command.tag]
                await call_method(session.client, method.parent_id, method.node_id)
                return result_of(command, CommandStatus.ACCEPTED, time.time_ns(), "")
            found = self._found[self._index[command.tag]]
            kind = found.kind.name if found.kind else ""
            read = await write_and_verify(session.client, found.node_id, command.value, kind)
        except WriteError as error:
            return result_of(command, CommandStatus.REFUSED, time.time_ns(), str(error), error.read_back)
        except LOST as error:
            text = f"not confirmed: {session.explain(error)}"
            return result_of(command, CommandStatus.REFUSED, time.time_ns(), text)
        return result_of(command, CommandStatus.ACCEPTED, time.time_ns(), "", read)

    def _refuse_waiting(self) -> None:
        while self._commands is not None and not self._commands.empty():
            command, _ = self._commands.get_nowait()
            self._finish(result_of(command, CommandStatus.REFUSED, time.time_ns(), "the link is stopping"))

    def _finish(self, result: CommandResult) -> None:
        with self._lock:
            self._results.append(result)
        if self._on_data is not None:
            self._on_data()

    # -- small ---------------------------------------------------------------------------------------------

    @staticmethod
    def _now() -> float:
        return time.monotonic()

    def _set_state(self, state: LinkState, error: LinkError | None) -> None:
        with self._changed:
            self.state, self.error = state, error
            self._changed.notify_all()
