"""A real browser, and pages to look at: of a made-up cell, and of a running one (test_running_cell.py)."""

from __future__ import annotations

import os
import shutil
import threading
import time

import numpy as np
import pytest

from cellwatch.models import types as t
from cellwatch.nodes.page.access import Access
from cellwatch.nodes.page.app import PageSettings, build_app
from cellwatch.nodes.page.desk import Desk
from cellwatch.nodes.page.live_cell import LiveCell
from cellwatch.nodes.page.server import PageServer
from cellwatch.nodes.page.users import UsersFile

SECOND = 10**9
DEVICES = ("PLC1", "HMI1", "ENG1")


@pytest.fixture(scope="module")  # no longer: while it is open, its event loop runs in this thread
def chromium():
    """The browser; tests that need it skip without it."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install cellwatch[test]")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        args = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=args)
        yield browser
        browser.close()


class Window:
    """A page with what went wrong in it."""

    def __init__(self, browser, url, **options):
        options.setdefault("viewport", {"width": 1440, "height": 900})
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.errors, self.hosts = [], set()
        self.page.on("console", lambda m: m.type == "error" and self.errors.append(m.text))
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.on("request", lambda r: self.hosts.add(r.url.split("/")[2]))
        self.page.goto(url)


@pytest.fixture
def window(chromium):
    """`window(url)` opens one; all are closed at the end."""
    opened = []

    def open_window(url, **options):
        opened.append(Window(chromium, url, **options))
        return opened[-1]

    yield open_window
    for one in opened:
        one.context.close()


class Line:
    """Stands for the line to a cell (`nodes.ros.operator.Operator`): keeps what was asked."""

    def __init__(self):
        self.calls = []
        self.refusal = None

    def __call__(self, warn):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __getattr__(self, name):
        def call(*args, **more):
            if self.refusal is not None:
                raise self.refusal
            self.calls.append((name, args, more))
            return {"label": (3, 1, 0), "disarm": []}.get(name)

        return call


class MadeUp:
    """A cell without nodes: what they would say is said by hand, once a second if it `runs`."""

    def __init__(self, folder):
        self.live = LiveCell("demo", DEVICES)
        self.line = Line()
        self.users = UsersFile(folder / "users.json")
        self.server = None
        self._stop = threading.Event()
        self.folder = folder

    @property
    def url(self):
        return self.server.url

    def serve(self, port=0):
        access = Access(self.users, local="tester")
        desk = Desk(self.live, self.line, ("opcua_client_node",), self.folder / "audit.jsonl")
        self.server = PageServer(
            lambda: build_app(self.live, desk, access, PageSettings()), "127.0.0.1", port
        )
        self.server.start()

    def plant(self, device="PLC1", n=2):
        names = ("LIT101", "TIT101", "XS101_MODE")[:n]
        self.live.on_catalog(
            t.TagCatalog(device, tuple(t.TagInfo(k, "", device, "bar", 0, 10) for k in names))
        )
        now = time.time_ns()
        for back in range(600, 0, -5):
            at = np.full(n, now - back * SECOND // 10)
            values = np.full(n, 5 + np.sin(back / 60))
            self.live.on_tags(
                t.TagBatch(
                    device, 1, np.arange(n, dtype=np.uint32), values, np.zeros(n, np.uint32), at, at, at[0]
                )
            )

    def health(self, armed="0", level=0):
        self.live.on_health(
            "opcua_client_node", level, "connected", {"armed": armed, "dropped": "3", "pid": "1"}
        )
        self.live.on_health("fusion_node", 0, "deciding", {"windows": "12", "pid": "2"})

    def judge(self, device="PLC1", decision=t.Screening.ALLOW, windows=1, **verdict):
        now = time.time_ns() // SECOND
        for end in range(now - windows + 1, now + 1):
            verdicts = [t.FusedVerdict(d, t.Screening.ALLOW, 0.02, 0.5) for d in DEVICES if d != device]
            odd = t.FusedVerdict(device, decision, verdict.pop("probability", 0.93), 0.5, **verdict)
            self.live.on_fused(t.FusedWindow(end, end * SECOND, end * SECOND, (odd, *verdicts)))

    def attack(self, device="PLC1"):
        """A port scan, confirmed, with its alarm and a command that was withheld."""
        now = time.time_ns()
        broken = t.Violation(
            device, "network_ports_all_count", 250.0, float("-inf"), 180.0, "limit", "recon", "T0846"
        )
        votes = (
            t.Contribution("rules", 0.99, 3.0),
            t.Contribution("XGB", 0.97, 4.0),
            t.Contribution("GRU", float("nan"), 0.0),
        )
        self.judge(
            device, t.Screening.BLOCK, 10, category="recon", attack_type="recon/port-scan",
            violations=(broken,), contributions=votes, agreeing=("rules", "ensemble"),
            explanation=f"{device}: BLOCK, recon/port-scan, p=0.93",
        )  # fmt: skip
        self.alarm(device)
        self.live.on_command(t.Command("c1", 1, device, "XS102_LOCK", 1.0, now, 2.0, f"quarantine: {device}"))
        self.live.on_result(
            t.CommandResult("c1", 1, "XS102_LOCK", 1.0, t.CommandStatus.WITHHELD, "the cell is not armed")
        )

    def alarm(self, device="PLC1", state=t.AlarmState.UNACKNOWLEDGED, message="ports: 250 above 180"):
        now = time.time_ns()
        self.live.on_alarms(
            (
                t.Alarm(f"{device}/recon", device, "recon", "recon/port-scan", state, t.Priority.CRITICAL,
                        t.Ne107.OUT_OF_SPECIFICATION, True, True, now, now, 1, message),
            ),
            0,
        )  # fmt: skip

    def end(self):
        self._stop.set()
        if self.server is not None:
            self.server.stop()


@pytest.fixture
def cell(tmp_path):
    made_up = MadeUp(tmp_path)
    made_up.serve()
    yield made_up
    made_up.end()
