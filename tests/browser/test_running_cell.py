"""The page of a running cell, as a new user meets it: an attack, why it was called, what was done about it.

With CELLWATCH_PICTURES=FOLDER its pictures are kept: those of docs/operator.md are made so.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cellwatch.nodes.page.users import Role, UsersFile

pytestmark = pytest.mark.system

SEED = "123"
USER, PASSWORD = "anna", "a long password"
PICTURES = os.environ.get("CELLWATCH_PICTURES")


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """The demonstration cell, unarmed, with one user; its page and its home."""
    home = tmp_path_factory.mktemp("home")
    UsersFile(home / "users.json").add(USER, Role.ENGINEER, PASSWORD)
    process = subprocess.Popen(
        [sys.executable, "-m", "cellwatch.nodes.cli", "run", "--duration", "150", "--seed", SEED],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"CELLWATCH_HOME": str(home), "COLUMNS": "200"},
    )
    said = []
    try:
        for line in process.stdout:
            said.append(line)
            if line.startswith("page: http"):
                break
        else:
            pytest.fail("no page:\n" + "".join(said))
        yield line.split()[1], home
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def picture(window, name):
    if PICTURES:
        window.page.wait_for_timeout(700)
        window.page.screenshot(path=str(Path(PICTURES) / f"page-{name}.png"))


def log_in(window):
    window.page.fill("input[name=user]", USER)
    window.page.fill("input[name=password]", PASSWORD)
    window.page.keyboard.press("Enter")
    window.page.wait_for_selector(".situation")
    window.errors.clear()  # the browser takes the first 401 for one


def told(window, path):
    """What REST says, asked from the page."""
    return window.page.evaluate("(path) => fetch(`/api/v1/${path}`).then((r) => r.json())", path)


def until(condition, what, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.2)
    return found


def test_an_attack_is_seen_understood_and_answered(chromium, window, running):
    url, home = running
    desk = window(url, color_scheme="light")
    tablet = window(url, viewport={"width": 1024, "height": 768}, color_scheme="dark", has_touch=True)
    log_in(desk)
    log_in(tablet)

    # An incident: the tile, the line at the top, a command that was only advised.
    desk.page.wait_for_selector('.tile[data-kind="bad"]', timeout=90_000)
    desk.page.wait_for_selector('.outcome[data-kind="advised"]', timeout=10_000)
    desk.page.wait_for_selector(".alarm[data-fresh]")
    assert "not armed" in desk.page.inner_text(".commands")
    picture(desk, "overview")
    picture(tablet, "tablet")

    # Why.
    desk.page.click(".alarm[data-fresh] >> text=Why?")
    desk.page.wait_for_selector(".drawer .violations")
    drawer = desk.page.inner_text(".drawer")
    assert "seen" in drawer
    assert "normal" in drawer
    assert "What was done about it" in drawer
    picture(desk, "explanation")

    # Acknowledged, in both browsers.
    title = desk.page.inner_text(".drawer h2")
    fresh = {a["key"] for a in told(desk, "alarms")["alarms"] if "UNACK" in a["state"]}
    desk.page.click(".drawer >> text=Acknowledge")
    until(
        lambda: fresh - {a["key"] for a in told(tablet, "alarms")["alarms"] if "UNACK" in a["state"]},
        f"{title} is acknowledged",
    )
    desk.page.keyboard.press("Escape")

    # Armed: the next answer is written into the PLC and read back.
    desk.page.click("text=Arm ...")
    desk.page.fill("dialog input", "shift start")
    desk.page.keyboard.press("Enter")
    tablet.page.wait_for_selector('#armed[data-kind="armed"]', timeout=15_000)
    desk.page.wait_for_selector('.outcome[data-kind="written"]', timeout=60_000)
    desk.page.click('[aria-label="Dark or light"]')
    picture(desk, "dark")
    desk.page.click('[aria-label="Dark or light"]')

    # The last hour, from the record.
    with desk.page.expect_response(lambda r: "/history?" in r.url) as asked:
        desk.page.click("text=1 h")
    assert asked.value.json()["low"]  # a run of a minute is few points of an hour
    assert desk.page.is_hidden(".trends .note")
    desk.page.click("text=3 min")

    # What it was: told to the drift node.
    desk.page.click("#tab-labels")
    desk.page.click(".stretch >> nth=0", timeout=15_000)
    desk.page.select_option("select[name=label]", "attack")
    desk.page.fill(".labelling .wide input", "seen it")
    desk.page.click("form >> text=Label")
    said = until(lambda: desk.page.inner_text(".labelling [role=status]"), "the label is taken")
    assert "Labelled" in said
    picture(desk, "labels")
    for view in ("models", "nodes"):
        desk.page.click(f"#tab-{view}")
        desk.page.wait_for_selector(f"#view-{view} table")
        picture(desk, view)

    assert not desk.errors
    assert not tablet.errors
    (audit,) = home.rglob("audit.jsonl")
    events = [json.loads(line) for line in audit.read_text().splitlines()]
    for event in ("login", "acknowledge", "arm"):
        assert any(event in json.dumps(e) and USER in json.dumps(e) for e in events), event
