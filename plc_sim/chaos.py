"""What goes wrong between a PLC and its clients, on purpose.

A step acts on one `PlcServer`: as a `chaos` step of a scenario, or directly in a test.

    async with chaos.step("server_stalled", server):
        ...                                  # the client's side of it
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

if TYPE_CHECKING:  # asyncua takes most of a second to import; a scenario needs only the names
    from cellwatch.plc_sim.servers.opcua import PlcServer

BAD_NO_COMMUNICATION = 0x80310000  # OPC UA Part 6, annex A
HOUR_NS = 3600 * 1_000_000_000


class Chaos(Protocol):
    """One kind of trouble; `begin` and `end` return when the server is in its new state."""

    about: ClassVar[str]

    async def begin(self, server: PlcServer) -> None:
        """Start the trouble."""

    async def end(self, server: PlcServer) -> None:
        """Take its cause away."""


@dataclass(frozen=True, slots=True)
class ServerRestart:
    """The server is gone, with all sessions and subscriptions, and comes back on the same port."""

    about: ClassVar[str] = "the server stops and comes back on its port"

    async def begin(self, server: PlcServer) -> None:
        """Stop it."""
        await server.stop()

    async def end(self, server: PlcServer) -> None:
        """Start it."""
        await server.start(server.port, host=server.host)


@dataclass(frozen=True, slots=True)
class NodeIdsChanged:
    """A program download: a short restart, after which names are the same and node ids are not."""

    about: ClassVar[str] = "a program download: restart with other node ids and another namespace index"

    async def begin(self, server: PlcServer) -> None:
        """Download."""
        await server.stop()
        server.downloads += 1
        await server.start(server.port, host=server.host)

    async def end(self, server: PlcServer) -> None:
        """Nothing: the new program stays."""


@dataclass(frozen=True, slots=True)
class ServerStalled:
    """The server accepts connections and answers nobody; at the end all answers come, late."""

    about: ClassVar[str] = "connections are accepted, nothing is answered"

    async def begin(self, server: PlcServer) -> None:
        """Hold every line, also the new ones."""
        server.stall()

    async def end(self, server: PlcServer) -> None:
        """Send what was held."""
        server.resume()


@dataclass(frozen=True, slots=True)
class HalfOpenTcp:
    """Half-open connections (RFC 9293, 3.5.1): the server's side of each is gone without FIN or RST.

    New connections work, as behind a firewall that lost its table. At the end the old ones are reset.
    """

    about: ClassVar[str] = "established connections go silent without FIN or RST; new ones work"

    async def begin(self, server: PlcServer) -> None:
        """Forget the connections."""
        server.forget()

    async def end(self, server: PlcServer) -> None:
        """Reset them."""
        server.reset_forgotten()


@dataclass(frozen=True, slots=True)
class ClockJump:
    """The PLC's clock is wrong: source and server timestamps jump by `by_ns`, and back at the end."""

    about: ClassVar[str] = "source timestamps jump by an hour, and back"
    by_ns: int = HOUR_NS

    async def begin(self, server: PlcServer) -> None:
        """Set the clock wrong."""
        server.distortion.clock_ns = self.by_ns

    async def end(self, server: PlcServer) -> None:
        """Set it right."""
        server.distortion.clock_ns = 0


@dataclass(frozen=True, slots=True)
class BadQualityBurst:
    """Every tag has this bad status and no value."""

    about: ClassVar[str] = "all tags turn to bad quality"
    status: int = BAD_NO_COMMUNICATION

    async def begin(self, server: PlcServer) -> None:
        """Lose the field bus."""
        server.distortion.status = self.status

    async def end(self, server: PlcServer) -> None:
        """Find it again."""
        server.distortion.status = 0


@dataclass(frozen=True, slots=True)
class QueueFull:
    """Each scan writes more changes than the monitored items queue; the overflow bit tells (Part 4, 7.39)."""

    about: ClassVar[str] = "more changes a scan than the subscription queues hold"
    factor: float = 1.5  # changes a scan, in queue sizes of the largest monitored item

    async def begin(self, server: PlcServer) -> None:
        """Burst."""
        server.distortion.burst = self.factor

    async def end(self, server: PlcServer) -> None:
        """Calm down."""
        server.distortion.burst = 0.0


CHAOS: dict[str, type[Chaos]] = {
    "server_restart": ServerRestart,
    "node_ids_changed": NodeIdsChanged,
    "server_stalled": ServerStalled,
    "half_open_tcp": HalfOpenTcp,
    "clock_jump": ClockJump,
    "bad_quality_burst": BadQualityBurst,
    "queue_full": QueueFull,
}


@contextlib.asynccontextmanager
async def step(trouble: str | Chaos, server: PlcServer) -> AsyncIterator[Chaos]:
    """Trouble for the time of the block; KeyError for a name that is not in `CHAOS`."""
    chaos = CHAOS[trouble]() if isinstance(trouble, str) else trouble
    await chaos.begin(server)
    try:
        yield chaos
    finally:
        await chaos.end(server)


async def run(name: str, server: PlcServer, duration_s: float, say: Callable[..., None]) -> None:
    """One step of a scenario; `say(event, name=, plc=, phase=)` announces its begin and its end."""
    say("chaos", name=name, plc=server.plc, phase="begin")
    async with step(name, server):
        await asyncio.sleep(duration_s)
    say("chaos", name=name, plc=server.plc, phase="end")
