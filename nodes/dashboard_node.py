"""Dashboard node: the operator's page, its REST face, and what is done from there.

Subscribes  every topic of the cell that the page shows, /diagnostics
Calls       the services of the command line, see `cellwatch.nodes.ros.operator`
Parameters  host, port, names, certificate, private_key, users ... (see `Params`)

It has a process of its own that gives way to all others; without it the cell goes on.
"""

from __future__ import annotations

import json
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cellwatch_msgs import msg as m
from diagnostic_msgs.msg import DiagnosticArray

from cellwatch.nodes.drivers.audit_log import AuditError
from cellwatch.nodes.page.access import Access
from cellwatch.nodes.page.address import is_any, is_loopback
from cellwatch.nodes.page.desk import Desk
from cellwatch.nodes.page.live_cell import LiveCell
from cellwatch.nodes.page.peer import owner, runs_here
from cellwatch.nodes.page.server import PageServer, ServerError
from cellwatch.nodes.page.users import UsersFile
from cellwatch.nodes.ros import convert, health, qos
from cellwatch.nodes.ros.node import OK, WARN, CellNode, run
from cellwatch.nodes.ros.operator import Operator
from cellwatch.nodes.ros.params import param
from cellwatch.nodes.sequence import Sequence

NICE = 10
NO_TLS = " (passwords travel in the open: give it a certificate)"
PATIENCE_S = 5.0  # for an answer of the cell
AGAIN_S = 5.0  # the page is served anew after


@dataclass(frozen=True)
class Params:
    host: str = param("127.0.0.1", "address to serve on; any but loopback needs users")
    port: int = param(8080, "port, or the next that is free; 0: any", low=0, high=65_535)
    names: str = param("[]", "JSON list of the names by which this machine may be called")
    certificate: str = param("", "file with the certificate; empty: no TLS")
    private_key: str = param("", "file with its key")
    users: str = param("", "file of users")
    cell: str = param("cell", "name of the cell")
    devices: str = param("[]", "JSON list of the devices of the cell")
    links: str = param("[]", "JSON list of the nodes that hold the links to the PLCs")
    window_s: float = param(1.0, "length of a window", unit="s", low=0.01, high=3600.0)
    record: str = param("", "folder of the record")
    audit_file: str = param("", "audit log; empty: none")


class DashboardNode(CellNode):
    NAME = "dashboard_node"
    PARAMS = Params
    TICK_S = 1.0

    def build(self) -> None:
        p = self.params
        self.live = live = LiveCell(p.cell, json.loads(p.devices), window_s=p.window_s)
        self.sequence = Sequence()
        self.lost = 0  # batches that DDS did not deliver
        self.next_s = 0.0
        self.desk: Desk | None = Desk(
            live,
            lambda warn: Operator(self.get_namespace(), PATIENCE_S, warn=warn),
            json.loads(p.links),
            Path(p.audit_file) if p.audit_file else None,
        )
        here = is_loopback(p.host)
        self.server: PageServer | None = PageServer(self._app, p.host, p.port, p.certificate, p.private_key)
        self.access = Access(
            UsersFile(Path(p.users)),
            local=runs_here() if here else "",
            owner=self._owner,
            audit=self._audit,
        )
        for kind, topic, callback in (
            (m.TagCatalog, "tag_catalog", lambda x: live.on_catalog(convert.catalog(x))),
            (m.TagBatch, "tags", self._tags),
            (m.TagBatch, "tag_snapshot", lambda x: live.on_snapshot(convert.tags(x))),
            (m.TrafficBatch, "traffic", lambda x: live.on_traffic(convert.traffic(x))),
            *(
                (m.VerdictArray, f"verdicts/{source}", lambda x: live.on_verdicts(convert.verdicts(x)))
                for source in ("rules", "ensemble", "ewad", "limits")
            ),
            (m.FusedVerdictArray, "verdicts/fused", lambda x: live.on_fused(convert.fused(x))),
            (m.Attribution, "attributions", self._attribution),
            (m.AlarmArray, "alarms", lambda x: live.on_alarms(convert.alarms(x), x.flooded)),
            (m.ActuatorCommand, "commands", lambda x: live.on_command(convert.command(x))),
            (m.ActuatorResult, "command_results", lambda x: live.on_result(convert.result(x))),
            (m.DriftEvent, "drift", lambda x: live.on_drift(convert.drift(x))),
            (m.CandidateState, "candidate", lambda x: live.on_candidate(convert.candidate(x))),
            (m.ModelState, "model_state", self._models),
            (
                m.ResponseState,
                "response_state",
                lambda x: live.on_response_state(x.overridden, x.maintenance),
            ),
        ):
            self.subscribe(kind, topic, callback)
        self._subs.append(
            self.create_subscription(DiagnosticArray, "/diagnostics", self._health, qos.DIAGNOSTICS)
        )

    def start(self) -> None:
        self._serve()

    def step(self) -> None:
        """Serve anew what ended; the cell goes on meanwhile."""
        if not self.server.alive and time.monotonic() >= self.next_s:
            self.server.stop()
            self._serve()

    def stop(self) -> None:
        self.server.stop()

    def release(self) -> None:
        if getattr(self, "server", None) is not None:
            self.server.stop()
            self.server = None
        if getattr(self, "desk", None) is not None:
            self.desk.close()
            self.desk = None

    def health(self) -> tuple[bytes, str, dict[str, object]]:
        counters = {"lost": self.lost, "wrong_passwords": self.access.attempts.wrong}
        if self.trouble:
            return WARN, f"not served: {self.trouble}", counters
        if self.access.trouble:
            return WARN, f"{self.server.url}: nobody can log in: {self.access.trouble}", counters
        note = "" if self.params.certificate or is_loopback(self.params.host) else NO_TLS
        return OK, self.server.url + note, counters

    @property
    def trouble(self) -> str:
        return self.server.trouble or ("" if self.server.alive else "it is not served")

    def _serve(self) -> None:
        self.next_s = time.monotonic() + AGAIN_S
        try:
            self.server.start()
        except ServerError as error:
            self.server.trouble = str(error)
            self.news("page", str(error))
        else:
            wanted = self.params.port
            if wanted not in {0, self.server.port}:
                self.news("page", f"port {wanted} is in use: the page is at {self.server.url}")

    def _app(self) -> Any:
        from cellwatch.nodes.page.app import PageSettings, build_app  # in the thread of the server

        p = self.params
        self.access.cookie = f"cellwatch_{self.server.port}"  # browsers tell cookies by host, not by port
        own = [socket.gethostname()] if is_any(p.host) else []  # as the address that is printed has it
        settings = PageSettings((*json.loads(p.names), *own), p.record, bool(p.certificate))
        return build_app(self.live, self.desk, self.access, settings)

    def _owner(self, address: str, port: int) -> int | None:
        return owner(address, port, self.server.port)

    def _audit(self, event: str, user: str, reason: str) -> None:
        """A log-in that cannot be put on record is let in all the same: somebody must be able to disarm."""
        try:
            self.desk.record(event, user, reason)
        except AuditError as error:
            self.news("audit", str(error))

    def _tags(self, msg: m.TagBatch) -> None:
        self.lost += self.sequence.lost(msg.header.frame_id, msg.sequence)
        self.live.on_tags(convert.tags(msg))

    def _attribution(self, msg: m.Attribution) -> None:
        shares = dict(zip(msg.features, msg.shares, strict=False))
        end_ns = convert.time_ns(msg.header.stamp)
        self.live.on_attribution(msg.window_id, end_ns, msg.device, shares, msg.explanation)

    def _models(self, msg: m.ModelState) -> None:
        states = zip(msg.detectors, msg.states, strict=False)
        failed = [detector for detector, state in states if state == "failed"]
        self.live.on_models(msg.header.frame_id, msg.version, list(msg.detectors), failed, msg.detail)

    def _health(self, msg: DiagnosticArray) -> None:
        for status, values in health.statuses(msg, self.get_namespace()):
            self.live.on_health(status.name, status.level[0], status.message, values)


def main() -> None:
    os.nice(NICE)
    run(DashboardNode)


if __name__ == "__main__":
    main()
