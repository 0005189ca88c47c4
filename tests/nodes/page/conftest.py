"""A cell that was made up, the page around it on a real port, and a browser that is no more than HTTP."""

from __future__ import annotations

import http.client
import json
import time
from http.cookies import SimpleCookie
from types import SimpleNamespace

import numpy as np
import pytest

from cellwatch.models.types import (
    Alarm,
    AlarmState,
    CandidateState,
    Command,
    CommandResult,
    CommandStatus,
    Contribution,
    DriftEvent,
    DriftState,
    FusedVerdict,
    FusedWindow,
    Level,
    Ne107,
    Priority,
    Screening,
    Stage,
    TagBatch,
    TagCatalog,
    TagInfo,
    Violation,
)
from cellwatch.nodes.page import users as users_module
from cellwatch.nodes.page.access import Access
from cellwatch.nodes.page.attempts import Attempts
from cellwatch.nodes.page.desk import Desk
from cellwatch.nodes.page.live_cell import LiveCell
from cellwatch.nodes.page.server import PageServer
from cellwatch.nodes.page.users import Role, UsersFile

PASSWORDS = {role: f"{role.name.lower()}-password" for role in Role}
NOW_NS = 1_700_000_000_000_000_000


@pytest.fixture(autouse=True, scope="module")
def _quick_hashes():
    """Hashing is slow on purpose; the test of `real_hashes` needs it so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(users_module, "N", 16)
        patch.setattr(users_module, "P", 1)
        yield


@pytest.fixture
def real_hashes(monkeypatch):
    monkeypatch.setattr(users_module, "N", users_module.NOBODY.n)
    monkeypatch.setattr(users_module, "P", users_module.NOBODY.p)


@pytest.fixture
def clock():
    """A clock that the test sets: `now` in ns, or in s as `seconds`."""
    clock = SimpleNamespace(now=NOW_NS)
    clock.read = lambda: clock.now
    clock.seconds = lambda: clock.now / 1e9
    return clock


@pytest.fixture
def made():
    """What makes values of the cell, with little to say."""
    return SimpleNamespace(
        catalog=catalog,
        batch=batch,
        window=window,
        verdict=verdict,
        alarm=alarm,
        command=command,
        result=result,
    )


def catalog(plc="PLC1", *names):
    return TagCatalog(
        plc, tuple(TagInfo(name, "", plc, "m", 0.0, 5.0) for name in names or ("LIT101", "FIT101"))
    )


def batch(tags, values, times_ns, received_ns=None, status=0, plc="PLC1", replayed=False):
    tag, value = np.array(tags, np.uint32), np.array(values, np.float64)
    stamp = np.array(times_ns, np.int64)
    received = max(times_ns) if received_ns is None else received_ns
    return TagBatch(
        plc, 1, tag, value, np.full(len(tag), status, np.uint32), stamp, stamp, received, replayed
    )


def verdict(device="PLC1", decision=Screening.BLOCK, category="dos", **more):
    violation = Violation(device, "network_packets_all_count", 900.0, -np.inf, 40.0, "limit", "dos", "T0814")
    given = {
        "probability": 0.97,
        "threshold": 0.5,
        "category": category,
        "contributions": (Contribution("rules", 1.0, 2.0), Contribution("XGB", float("nan"), 1.0)),
        "violations": (violation,),
        "explanation": f"{device}: {decision.name}, {category}",
    }
    return FusedVerdict(device, decision, **given | more)


def window(end_ns, *verdicts):
    return FusedWindow(end_ns // 10**9, end_ns, end_ns, verdicts or (verdict(),))


def alarm(key="PLC1/dos", **more):
    device, _, category = key.partition("/")
    given = {
        "state": AlarmState.UNACKNOWLEDGED,
        "priority": Priority.HIGH,
        "ne107": Ne107.OUT_OF_SPECIFICATION,
        "active": True,
        "annunciated": True,
        "raised_ns": NOW_NS,
        "changed_ns": NOW_NS,
        "occurrences": 1,
        "message": "PLC1: BLOCK, dos",
    }
    return Alarm(key, device, category, "", **given | more)


def command(command_id="c1", issued_ns=NOW_NS):
    return Command(command_id, 7, "PLC1", "XS102_LOCK", 1.0, issued_ns, 2.0, "quarantine")


def result(command_id="c1", status=CommandStatus.WITHHELD, error="the cell is not armed"):
    return CommandResult(command_id, 7, "XS102_LOCK", 1.0, status, error, decided_ns=NOW_NS)


@pytest.fixture
def live():
    return lively()


def lively():
    """A cell with something of everything, now."""
    now = time.time_ns()
    cell = LiveCell("demo", ["PLC1", "HMI1"])
    cell.on_catalog(catalog())
    cell.on_tags(batch([0, 1, 0], [1.0, float("nan"), 2.0], [now - 3 * 10**9, now, now]))
    cell.on_fused(window(now, verdict(), verdict("HMI1", Screening.ALLOW, "benign", violations=())))
    cell.on_attribution(1, now, "PLC1", {"network_packets_all_count": 0.31}, "the models go by packets")
    cell.on_alarms((alarm(), alarm("HMI1/recon", state=AlarmState.NORMAL, active=False)), 2)
    cell.on_command(command(issued_ns=now))
    cell.on_result(result())
    cell.on_drift(DriftEvent(now, DriftState.CALM, Level.L1, "v1"))
    cell.on_candidate(CandidateState(now, Stage.SHADOW, version="v2", parent="v1"))
    cell.on_models("ensemble_node", "v1", ["XGB"], [], "")
    beat(cell)
    cell.on_response_state(["XS102_LOCK"], [])
    return cell


def beat(cell):
    """A node that says nothing for seconds is silent."""
    cell.on_health("opcua_client_node", 0, "connected", {"armed": "0", "pid": "7", "dropped": "3"})


class Line:
    """Stands for the line to a running cell (`Operator`): keeps what is asked, and answers as it is told."""

    def __init__(self):
        self.asked, self.opened, self.warn = [], 0, None
        self.error: Exception | None = None
        self.warning = ""
        self.meanwhile = lambda: None

    def open(self, warn):
        self.opened, self.warn = self.opened + 1, warn
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.opened -= 1

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def ask(*args, **more):
            self.asked.append((name, args, more))
            self.meanwhile()
            if self.error is not None:
                raise self.error
            if self.warning:
                self.warn(self.warning)
            return {"label": (3, 1, 0), "disarm": []}.get(name)

        return ask


@pytest.fixture
def line():
    return Line()


@pytest.fixture
def users(tmp_path):
    return one_of_each(tmp_path)


def one_of_each(folder):
    """A file with one user of each role, named after it."""
    file = UsersFile(folder / "users.json")
    for role, password in PASSWORDS.items():
        file.add(role.name.lower(), role, password)
    return file


class Browser:
    """One browser: cookies, and the token that the page would send."""

    def __init__(self, port):
        self.port, self.cookies, self.csrf = port, {}, ""
        self.origin = f"http://127.0.0.1:{port}"

    def ask(self, method, path, body=None, **headers):
        """Status, headers and body of an answer; a dict is sent as JSON; `None` leaves a header out."""
        sent = {"Content-Type": "application/json"} if body is not None else {}
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        if method != "GET" and self.csrf:
            sent["X-CSRF-Token"] = self.csrf
        sent |= {k.replace("_", "-"): v for k, v in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            data = body if isinstance(body, str | bytes | None) else json.dumps(body)
            connection.request(method, path, data, {k: v for k, v in sent.items() if v is not None})
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        for line in answer.headers.get_all("Set-Cookie") or []:
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
                self.morsel = morsel
        is_json = answer.headers.get_content_type() == "application/json"
        return SimpleNamespace(
            status=answer.status, headers=answer.headers, body=json.loads(said) if is_json else said
        )

    def get(self, path, **headers):
        return self.ask("GET", f"/api/v1/{path}", **headers)

    def post(self, path, body=None, **headers):
        return self.ask("POST", f"/api/v1/{path}", {} if body is None else body, **headers)

    def enter(self, role=None):
        """Begin a session, with a log-in as the user of a role if one is given."""
        if role is None:
            answer = self.get("session")
        else:
            answer = self.post("login", {"user": role.name.lower(), "password": PASSWORDS[role]})
        assert answer.status == 200, answer.body
        self.csrf = answer.body["csrf"]
        return self


@pytest.fixture
def browse():
    """`browse(port)`: a browser."""
    return Browser


class Page:
    """A page on a real port: for this machine without users, with log-ins if there is a file of them."""

    def __init__(self, live, line, folder, users=None):
        from cellwatch.nodes.page.app import PageSettings, build_app

        self.live, self.line, self.audit = live, line, folder / "audit.jsonl"
        self.desk = Desk(live, line.open, ["link1", "link2"], self.audit)
        file = users or UsersFile(folder / "none.json")
        self.access = Access(file, local="" if users else "the-user", audit=self.desk.record)
        settings = PageSettings(("plant-pc",), str(folder / "record"))
        self.server = PageServer(lambda: build_app(live, self.desk, self.access, settings), "127.0.0.1", 0)
        self.server.start()

    def stranger(self):
        return Browser(self.server.port)

    def browser(self, role=None):
        return self.stranger().enter(role)

    def close(self):
        self.server.stop()
        self.desk.close()


@pytest.fixture
def serve(live, line, tmp_path):
    """A page of the test's own: `serve()`, `serve(users)`."""
    pages = []

    def start(users=None):
        pages.append(Page(live, line, tmp_path, users))
        return pages[-1]

    yield start
    for page in pages:
        page.close()


@pytest.fixture(scope="module")
def _shared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    page = Page(lively(), Line(), folder, one_of_each(folder))
    yield page
    page.close()


@pytest.fixture
def page(_shared):
    """A page with log-ins that the tests of a module share: none of them changes what it shows."""
    _shared.line.__init__()
    beat(_shared.live)
    _shared.desk.close()
    _shared.access.attempts = Attempts()
    return _shared
