"""OPC UA client node: one PLC in, commands out.

Publishes   tags (TagBatch), tag_catalog (latched), tag_snapshot (last values once a second, latched),
            command_results (ActuatorResult)
Subscribes  commands (ActuatorCommand); heartbeat and response_state, without which nothing is written.
            Nor is anything written while commands or response_state have more than one publisher
Services    ~/set_armed (SetArmed)
Parameters  plc, endpoint, security, user, tag_map, armed, audit_file ... (see `Params`)

`armed` is false by default: the cell advises, and every command is answered WITHHELD.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cellwatch_msgs.msg import ActuatorCommand, ActuatorResult, ResponseState, TagBatch, TagCatalog
from cellwatch_msgs.srv import SetArmed
from std_msgs.msg import Header

from cellwatch.models import types as t
from cellwatch.models.response.interlocks import Supervision, owner
from cellwatch.models.types import LinkState
from cellwatch.nodes.drivers.audit_log import AuditLog
from cellwatch.nodes.drivers.opcua_link import OpcuaLink
from cellwatch.nodes.drivers.opcua_settings import LinkSettings
from cellwatch.nodes.drivers.tag_map import TagMap
from cellwatch.nodes.drivers.whole_file import write_whole
from cellwatch.nodes.ros import convert
from cellwatch.nodes.ros.node import ERROR, OK, WARN, CellNode, run
from cellwatch.nodes.ros.params import param

SNAPSHOT_NS = 1_000_000_000
ONE_VOICE = ("response_state", "commands")  # a second fusion node would undo what an operator told the first


@dataclass(frozen=True)
class Params:
    plc: str = param("PLC1", "name of the PLC")
    endpoint: str = param("", "OPC UA endpoint, opc.tcp://HOST:PORT/PATH")
    tag_map: str = param("", "YAML tag map")
    security_policy: str = param("None", "None or Basic256Sha256")
    security_mode: str = param("SignAndEncrypt", "Sign or SignAndEncrypt; without meaning for policy None")
    user: str = param("", "user name; empty: anonymous")
    password_env: str = param("CELLWATCH_OPCUA_PASSWORD", "environment variable that holds the password")
    certificate: str = param("", "client certificate file (DER or PEM)")
    private_key: str = param("", "client private key file (PEM)")
    server_certificate: str = param("", "trusted server certificate; empty: accept the one offered")
    publishing_ms: float = param(
        100.0, "publishing interval of the subscription", unit="ms", low=10.0, high=60000.0
    )
    armed: bool = param(False, "write accepted commands into the PLC")
    armed_file: str = param(
        "", "keeps what set_armed last said over a restart of this node (empty: disarmed); it wins over armed"
    )
    only_plc: bool = param(
        False, "the cell has no other PLC, so a command for an unknown tag is refused here"
    )
    dead_man_s: float = param(
        0.0, "silence of the supervisor after which nothing is written; 0: no supervisor", unit="s",
        low=0.0, high=3600.0,
    )  # fmt: skip
    audit_file: str = param(
        "", "append-only log of every command; empty: none, and then nothing is ever written"
    )


class Snapshot:
    """Last value of every tag. Tags report on change: who joins late learns the constant ones from here."""

    def __init__(self, plc: str) -> None:
        self.plc = plc
        self._value = np.empty(0)
        self._status = np.empty(0, np.uint32)
        self._source_ns = np.empty(0, np.int64)
        self._told_ns = 0

    def take(self, batch: t.TagBatch) -> None:
        """Update from a live batch; what was replayed is older."""
        if batch.replayed or not len(batch.tag):
            return
        short = int(batch.tag.max()) + 1 - len(self._value)
        if short > 0:
            self._value = np.append(self._value, np.full(short, np.nan))
            self._status = np.append(self._status, np.zeros(short, np.uint32))
            self._source_ns = np.append(self._source_ns, np.zeros(short, np.int64))
        self._value[batch.tag], self._status[batch.tag] = batch.value, batch.status
        self._source_ns[batch.tag] = batch.source_ns

    def due(self, now_ns: int) -> t.TagBatch | None:
        """The snapshot, once a second; at once when the clock was set back."""
        tag = np.flatnonzero(self._source_ns).astype(np.uint32)
        if 0 <= now_ns - self._told_ns < SNAPSHOT_NS or not len(tag):
            return None
        self._told_ns = now_ns
        times = self._source_ns[tag]
        return t.TagBatch(self.plc, 0, tag, self._value[tag], self._status[tag], times, times, now_ns)


class OpcuaClientNode(CellNode):
    NAME = "opcua_client_node"
    PARAMS = Params
    TICK_S = 0.02

    def build(self) -> None:
        p = self.params
        if p.armed and not p.audit_file:
            raise ValueError("armed without audit_file: a command that is not on record is not sent")
        secured = p.security_policy != "None"
        settings = LinkSettings(
            plc=p.plc,
            endpoint=p.endpoint,
            security_policy=p.security_policy,
            security_mode=p.security_mode if secured else "",
            user=p.user,
            password_env=p.password_env if p.user else "",
            certificate=p.certificate,
            private_key=p.private_key,
            server_certificate=p.server_certificate,
            publishing_interval_s=p.publishing_ms / 1000,
        )
        self.audit = AuditLog(p.audit_file) if p.audit_file else None
        self.link = OpcuaLink(settings, TagMap.load(Path(p.tag_map)), audit=self.audit, source="fusion_node")
        kept = Path(p.armed_file)
        self.armed = kept.read_text() == "armed" if p.armed_file and kept.exists() else p.armed
        self.link.live_armed = lambda: self.armed
        self.supervision = Supervision(p.dead_man_s)
        self.link.live_objection = self._objection
        self.pub = self.publisher(TagBatch, "tags")
        self.catalog_pub = self.publisher(TagCatalog, "tag_catalog")
        self.results = self.publisher(ActuatorResult, "command_results")
        self.subscribe(ActuatorCommand, "commands", self._command)
        self.subscribe(Header, "heartbeat", self._beat)
        self.subscribe(ResponseState, "response_state", self._taken)
        self._service = self.create_service(SetArmed, "~/set_armed", self._set_armed)
        self.snapshot_pub = self.publisher(TagBatch, "tag_snapshot")
        self._last = Snapshot(p.plc)
        self._catalog_seen = -1
        self._state_told = LinkState.DISCONNECTED
        self._catalog = None
        self.outcome = {1: 0, 2: 0, 3: 0}

    def start(self) -> None:
        self.link.start()

    def step(self) -> None:
        if self.link.catalog_changes != self._catalog_seen and self.link.catalog is not None:
            self._catalog_seen = self.link.catalog_changes
            self._catalog = self.link.catalog
            self.say(self.catalog_pub, convert.catalog_msg(self._catalog, time.time_ns()))
        for batch in self.link.drain():
            self._last.take(batch)
            self.say(self.pub, convert.tags_msg(batch))
        snapshot = self._last.due(time.time_ns())
        if snapshot is not None:
            self.say(self.snapshot_pub, convert.tags_msg(snapshot))
        for result in self.link.results():
            self.outcome[int(result.status)] += 1
            self.say(self.results, convert.result_msg(result, self.params.plc))
        stats = self.link.stats
        if stats.state != LinkState.CONNECTED:
            self.news(
                "link",
                f"{self.params.plc}: {stats.state.name.lower()}: {stats.trouble or self.params.endpoint}",
            )
        else:
            self.good_news("link", f"{self.params.plc}: connected")
        if stats.state != self._state_told:
            self._state_told = stats.state
            self.tell_health()

    def _command(self, msg: ActuatorCommand) -> None:
        command = convert.command(msg)
        names = {tag.name for tag in self._catalog.tags} if self._catalog is not None else set()
        known = command.tag in names or command.tag in self.link.methods
        if self.active and known:
            self.link.submit(command, armed=self.armed)
        elif self.params.only_plc:
            self._refuse(command, f"{self.params.plc} has no tag {command.tag}, or was never connected")
        # else it is another PLC's tag

    def _beat(self, msg: Header) -> None:
        self.supervision.dead_man.beat(convert.time_ns(msg.stamp), time.monotonic_ns())

    def _taken(self, msg: ResponseState) -> None:
        self.supervision.take(msg.overridden, msg.maintenance)

    def _objection(self, command: t.Command) -> str:
        """Asked by the link's thread, at the last moment before a write."""
        if discord := self._discord():
            return discord
        tags = self._catalog.tags if self._catalog is not None else ()
        device = next((tag.device for tag in tags if tag.name == command.tag), "")
        names = (command.tag, command.device, owner(command.tag, device))
        return self.supervision.objection(names, time.monotonic_ns())

    def _discord(self) -> str:
        """Why nobody knows whom to obey, "" with one publisher (or none, which the dead-man notices)."""
        for topic in ONE_VOICE:
            if (voices := self.count_publishers(topic)) > 1:
                return f"{voices} nodes publish {topic}: end all fusion nodes but one"
        return ""

    def _refuse(self, command: t.Command, why: str) -> None:
        result = t.CommandResult(
            command.command_id,
            command.window_id,
            command.tag,
            command.value,
            t.CommandStatus.REFUSED,
            why,
            decided_ns=time.time_ns(),
            issued_ns=command.issued_ns,
            closed_ns=command.closed_ns,
        )
        if self.audit:
            try:
                self.audit.command(command, armed=self.armed)
                self.audit.result(result)
            except OSError as error:
                self.news("audit", str(error))
        self.outcome[int(result.status)] += 1
        self.say(self.results, convert.result_msg(result, self.params.plc))

    def _set_armed(self, request: SetArmed.Request, response: SetArmed.Response) -> SetArmed.Response:
        """Arming counts once it is on record; disarming counts at once."""
        if not request.armed:
            response.error_msg = self._disarm(request)
        elif why_not := self._arm(request):
            response.error_code, response.error_msg = SetArmed.Response.REFUSED, why_not
            return response
        self.get_logger().warning(
            f"{'armed' if request.armed else 'disarmed'} by {request.user}: {request.reason}"
        )
        return response

    def _arm(self, request: SetArmed.Request) -> str:
        """Why not, "" if armed."""
        if self.audit is None:
            return "no audit_file is set"
        try:
            self.audit.armed(True, user=request.user, reason=request.reason)
            if self.params.armed_file:
                write_whole(Path(self.params.armed_file), "armed")
        except OSError as error:
            return f"not on record: {error}"
        self.armed = True
        return ""

    def _disarm(self, request: SetArmed.Request) -> str:
        """Disarm, whatever fails on the disk; returns what did."""
        self.armed = False
        failed = []
        try:
            if self.params.armed_file:
                _empty(Path(self.params.armed_file))
        except OSError as error:
            failed.append(f"{self.params.plc} may be armed again when its node starts anew: {error}")
        try:
            if self.audit:
                self.audit.armed(False, user=request.user, reason=request.reason)
        except OSError as error:
            failed.append(f"not on record: {error}")
        return f"{self.params.plc} is disarmed, but {'; '.join(failed)}" if failed else ""

    def stop(self) -> None:
        self.link.stop()
        self.step()

    def release(self) -> None:
        if getattr(self, "_service", None) is not None:
            self.destroy_service(self._service)
            self._service = None
        if getattr(self, "audit", None) is not None:
            self.audit.close()

    def health(self) -> tuple[bytes, str, dict[str, object]]:
        s = self.link.stats
        counters = {
            "received": s.received,
            "bad_quality": s.bad_quality,
            "uncertain": s.uncertain,
            "dropped": s.dropped,
            "replayed": s.replayed,
            "gaps": s.gaps,
            "reconnects": s.reconnects,
            "problems": len(s.problems),
            "state": s.state.name,
            "armed": int(self.armed),
            "accepted": self.outcome[1],
            "refused": self.outcome[2],
            "withheld": self.outcome[3],
        }
        if s.state != LinkState.CONNECTED:
            return ERROR, s.trouble or s.state.name.lower(), counters
        if discord := self._discord():
            return WARN, f"nothing is written: {discord}", counters
        if s.problems:
            return WARN, "; ".join(list(s.problems)[:3]), counters
        return OK, self.params.endpoint, counters


def _empty(file: Path) -> None:
    """Make a file empty, and durably: on a full disk too, where nothing new can be written."""
    with file.open("w") as out:
        os.fsync(out.fileno())


def main() -> None:
    run(OpcuaClientNode)


if __name__ == "__main__":
    main()
