"""The REST face on a real port: what it gives, and each refusal."""

from __future__ import annotations

import contextlib
import json
import threading
import time

import pytest

from cellwatch.nodes.drivers.audit_log import read
from cellwatch.nodes.page.users import Role
from cellwatch.nodes.ros.operator import NoAnswerError, RefusedError

KEY = "PLC1/dos"
READS = (
    "health", "devices", "tags", "verdicts", "alarms", f"explanation?key={KEY}", "commands", "models",
    "drift", "candidate", "history?measurement=tag&column=value", "trend?tags=LIT101", "bands", "live",
)  # fmt: skip
NOW = time.time()
ACTIONS = {
    "alarms/acknowledge": (Role.OPERATOR, {"key": KEY, "reason": "seen"}),
    "alarms/shelve": (Role.OPERATOR, {"key": KEY, "duration_s": 60, "reason": "known"}),
    "alarms/comment": (Role.OPERATOR, {"key": KEY, "reason": "looks bad"}),
    "disarm": (Role.OPERATOR, {"reason": "to be sure"}),
    "labels": (Role.OPERATOR, {"label": "dos", "start_s": NOW - 60, "end_s": NOW, "devices": ["PLC1"]}),
    "alarms/out-of-service": (Role.ENGINEER, {"key": KEY, "reason": "sensor is off", "out": True}),
    "arm": (Role.ENGINEER, {"reason": "go"}),
    "override": (Role.ENGINEER, {"target": "PLC1", "on": True}),
    "maintenance": (Role.ENGINEER, {"target": "*", "on": False}),
    "candidate": (Role.ENGINEER, {"action": "promote"}),
}


# Who comes in -------------------------------------------------------------------------
@pytest.mark.parametrize("path", [*READS, "session"])
def test_nothing_is_told_without_a_session(page, path):
    answer = page.stranger().get(path)
    assert (answer.status, answer.body) == (401, {"detail": "log in"})


@pytest.mark.parametrize("path", ACTIONS)
def test_nothing_is_done_without_a_session(page, path):
    assert page.stranger().post(path, ACTIONS[path][1]).status == 401
    assert page.line.asked == []


@pytest.mark.parametrize("path", ACTIONS)
def test_nothing_is_done_without_the_token_of_the_session(page, path):
    browser, other = page.browser(Role.ENGINEER), page.browser(Role.ENGINEER)
    for token in ("", "x", other.csrf):
        browser.csrf = token
        answer = browser.post(path, ACTIONS[path][1])
        assert answer.status == 403
        assert "X-CSRF-Token" in answer.body["detail"]
    assert browser.post("logout").status == 403
    assert page.line.asked == []


@pytest.mark.parametrize("role", Role)
def test_every_action_has_its_role(page, role):
    browser = page.browser(role)
    for path, (least, body) in ACTIONS.items():
        answer = browser.post(path, body)
        assert answer.status == (200 if role >= least else 403), (path, answer.body)
        if role < least:
            assert f"needs the role {least.name.lower()}" in answer.body["detail"]
    assert all(role.name.lower() in args for _, args, _ in page.line.asked)  # the user of the session


def test_the_cookie_is_for_this_page_alone(page):
    browser = page.browser(Role.VIEWER)
    morsel = browser.morsel
    assert morsel["httponly"]
    assert morsel["samesite"] == "strict"
    assert morsel["path"] == "/api"
    assert not morsel["secure"]  # this page has no TLS
    assert morsel["expires"] == morsel["max-age"] == ""  # it ends with the browser


def test_log_in_log_out_and_their_lines_in_the_audit_log(serve, users):
    page = serve(users)
    browser = page.stranger()
    assert browser.post("login", {"user": "viewer", "password": "wrong"}).status == 401
    browser.enter(Role.VIEWER)
    assert browser.get("session").body == {
        "user": "viewer", "role": "viewer", "csrf": browser.csrf, "login": True, "note": "", "cell": "demo",
    }  # fmt: skip
    kept = dict(browser.cookies)
    assert browser.post("logout").status == 200
    browser.cookies = kept
    assert browser.get("devices").status == 401
    found = [(row["event"], row["source"], row["reason"]) for row in read(page.audit)]
    assert found == [
        ("login_failed", "viewer", "from 127.0.0.1"),
        ("login", "viewer", "from 127.0.0.1, viewer"),
        ("logout", "viewer", ""),
    ]


def test_logging_in_again_gives_another_session(page):
    browser = page.browser(Role.VIEWER)
    before = dict(browser.cookies)
    browser.enter(Role.VIEWER)
    assert browser.cookies.keys() == before.keys()
    assert browser.cookies != before


def test_who_guesses_is_told_to_wait(page):
    browser = page.stranger()
    statuses = [browser.post("login", {"user": "viewer", "password": "wrong"}).status for _ in range(6)]
    assert statuses == [401] * 5 + [429]
    answer = browser.post("login", {"user": "viewer", "password": "viewer-password"})
    assert answer.status == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 2


def test_no_answer_repeats_a_password(page):
    browser = page.stranger()
    for body in (
        {"user": "viewer", "password": "s3cret" * 50},
        {"user": "viewer", "password": "s3cret", "x": 1},
    ):
        answer = browser.post("login", body)
        assert answer.status == 422
        assert "s3cret" not in json.dumps(answer.body)


def test_a_page_without_users_says_so_and_still_asks_for_the_token(serve):
    page = serve()
    browser = page.stranger()
    assert browser.get("devices").status == 200  # who runs the cell may look, also with curl
    assert browser.post("disarm").status == 403
    session = browser.get("session").body
    assert (session["user"], session["role"], session["login"]) == ("the-user", "engineer", False)
    assert "no users" in session["note"]
    browser.csrf = session["csrf"]
    assert browser.post("disarm").status == 200
    assert page.line.asked[0][1][1] == "the-user"


# What it gives ---------------------------------------------------------------------------
def test_reads(page):
    browser = page.browser(Role.VIEWER)
    found = {
        path.partition("?")[0]: browser.get(path)
        for path in READS
        if path != "live" and "history" not in path
    }
    assert {path: answer.status for path, answer in found.items() if answer.status != 200} == {}
    said = {path: answer.body for path, answer in found.items()}
    assert (said["health"]["cell"], said["health"]["level"]) == ("demo", "ok")
    assert said["health"]["losses"] == [{"node": "opcua_client_node", "what": "dropped", "count": 3}]
    assert said["health"]["armed"] == {"opcua_client_node": False}
    assert said["health"]["overridden"] == ["XS102_LOCK"]
    assert [(d["name"], d["decision"], d["kind"]) for d in said["devices"]] == [
        ("PLC1", "BLOCK", "plc"), ("HMI1", "ALLOW", "network"),
    ]  # fmt: skip
    assert [(t["name"], t["value"], t["quality"]) for t in said["tags"]] == [
        ("LIT101", 2.0, "good"), ("FIT101", None, "good"),
    ]  # fmt: skip
    assert [v["device"] for v in said["verdicts"]] == ["PLC1", "HMI1"]
    assert said["alarms"]["flooded"] == 2
    assert [(a["key"], a["state"], a["priority"]) for a in said["alarms"]["alarms"]] == [
        (KEY, "UNACKNOWLEDGED", "HIGH"), ("HMI1/recon", "NORMAL", "HIGH"),
    ]  # fmt: skip
    why = said["explanation"]
    assert (why["decision"], why["sentence"]) == ("BLOCK", "PLC1: BLOCK, dos")
    (broken,) = why["violations"]
    assert (broken["observed"], broken["low"], broken["high"], broken["attack_id"]) == (
        900.0,
        None,
        40.0,
        "T0814",
    )
    assert [(c["detector"], c["score"]) for c in why["contributions"]] == [("rules", 1.0), ("XGB", None)]
    assert why["shares"] == [{"feature": "network_packets_all_count", "share": 0.31}]
    assert said["commands"][0]["status"] == "WITHHELD"
    assert said["commands"][0]["words"] == "advised, not written: the cell is not armed"
    assert said["models"][0]["detectors"] == ["XGB"]
    assert (said["drift"]["state"], said["candidate"]["stage"]) == ("CALM", "SHADOW")
    assert said["candidate"]["figures"]["latency_s"] is None


def test_verdicts_of_one_device(page):
    browser = page.browser(Role.VIEWER)
    assert [v["device"] for v in browser.get("verdicts?device=HMI1&limit=5").body] == ["HMI1"]
    assert len(browser.get("verdicts?limit=1").body) == 1


def test_a_comment_stands_beside_the_explanation(serve, users):
    page = serve(users)
    browser = page.browser(Role.OPERATOR)
    browser.post("alarms/comment", {"key": KEY, "reason": "  <script>alert(1)</script>  "})
    (comment,) = browser.get(f"explanation?key={KEY}").body["comments"]
    assert (comment["user"], comment["text"]) == ("operator", "<script>alert(1)</script>")


def test_labels_are_counted(page):
    answer = page.browser(Role.OPERATOR).post("labels", ACTIONS["labels"][1])
    assert answer.body == {"accepted": 3, "expired": 1, "held_back": 0, "warnings": []}
    ((_, (label, span, devices, user, comment), _),) = page.line.asked
    assert (label, devices, user, comment) == ("dos", ["PLC1"], "operator", "")
    assert abs(span[1] - span[0] - 60 * 10**9) < 1000


def test_the_record_gives_curves(serve, users, tmp_path):
    page = serve(users)
    from cellwatch.nodes.drivers.store import Recorder, RecorderSettings

    browser = page.browser(Role.VIEWER)
    path = "history?measurement=tag&column=value&where=tag%3DLIT101&start_s=1000&end_s=1100"
    assert browser.get(path).status == 404  # no record yet
    recorder = Recorder(tmp_path / "record", RecorderSettings())
    recorder.append(
        b"".join(
            b"tag,tag=%s value=%d %d\n" % (n, i, (1000 + i) * 10**9)
            for n in (b"LIT101", b"X")
            for i in range(3)
        )
    )
    recorder.close()
    assert browser.get(path).body == {
        "time_s": [1000.0, 1001.0, 1002.0],
        "low": [0.0, 1.0, 2.0],
        "high": [0.0, 1.0, 2.0],
    }
    short = browser.get(path + "&points=1").body
    assert (short["low"], short["high"]) == ([0.0], [2.0])
    for wrong in ("&where=nothing", "&start_s=2000", "&end_s=3000000000"):
        assert (
            browser.get(
                path.replace("&start_s=1000", "") + wrong if "start" in wrong else path + wrong
            ).status
            == 400
        )


# What goes wrong -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("verdicts?device=nobody", 404),
        ("explanation?key=PLC1/nothing", 404),
        ("explanation", 422),
        ("verdicts?limit=0", 422),
        ("verdicts?limit=x", 422),
        ("history?measurement=tag", 422),
        ("history?measurement=tag&column=value&start_s=nan", 422),
        ("history?measurement=tag&column=value&points=0", 422),
    ],
)
def test_questions_that_have_no_answer(page, path, status):
    answer = page.browser(Role.VIEWER).get(path)
    assert (answer.status, "detail" in answer.body) == (status, True)


def test_nothing_heard_yet_is_404(serve, live):
    live._drift = live._candidate = None
    browser = serve().browser()
    assert browser.get("drift").status == browser.get("candidate").status == 404


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("alarms/acknowledge", {}),
        ("alarms/acknowledge", {"key": KEY, "reason": "two\nlines"}),
        ("alarms/acknowledge", {"key": KEY, "reason": "\u202egnirts a"}),
        ("alarms/acknowledge", {"key": KEY, "reason": "x" * 501}),
        ("alarms/acknowledge", {"key": KEY, "user": "somebody else"}),
        ("alarms/acknowledge", {"key": ["PLC1"]}),
        ("alarms/comment", {"key": KEY, "reason": "  "}),
        ("alarms/shelve", {"key": KEY, "reason": "x", "duration_s": -1}),
        ("alarms/shelve", {"key": KEY, "reason": "x", "duration_s": 1e9}),
        ("labels", {"label": "dos", "start_s": 2, "end_s": 1}),
        ("labels", {"label": "dos", "start_s": 1, "end_s": 1e30}),
        ("labels", {"label": "", "start_s": 1, "end_s": 2}),
        ("candidate", {"action": "destroy"}),
        ("override", {"target": "", "on": True}),
        ("override", {"target": "PLC1"}),
        ("arm", []),
        ("arm", "{"),
        ("arm", "NaN"),
        ("alarms/shelve", '{"key": "PLC1/dos", "reason": "x", "duration_s": NaN}'),
        ("alarms/shelve", '{"key": "PLC1/dos", "reason": "x", "duration_s": 1e999}'),
        ("alarms/comment", '{"key": "PLC1/dos", "reason": "\\ud800"}'),
        ("arm", b"\xff\xfe"),
        ("arm", "[" * 20_000),
    ],
)  # fmt: skip
def test_bodies_that_make_no_sense(page, path, body):
    answer = page.browser(Role.ENGINEER).post(path, body)
    assert answer.status in {400, 422}, answer.body
    assert page.line.asked == []


def test_a_form_of_another_page_is_no_json(page):
    """Forms need no preflight; they cannot set the token either, but one lock is no lock."""
    browser = page.browser(Role.ENGINEER)
    answer = browser.ask(
        "POST", "/api/v1/disarm", "reason=x", Content_Type="application/x-www-form-urlencoded"
    )
    assert answer.status == 422
    assert page.line.asked == []


@pytest.mark.parametrize(("error", "status"), [(RefusedError("no"), 409), (NoAnswerError("no answer"), 503)])
def test_the_cell_refuses_or_does_not_answer(page, error, status):
    page.line.error = error
    browser = page.browser(Role.ENGINEER)
    for path, (_, body) in ACTIONS.items():
        if path != "alarms/comment":
            answer = browser.post(path, body)
            assert (answer.status, answer.body) == (status, {"detail": str(error)}) or path == "arm"


@pytest.mark.parametrize("path", ["alarms/acknowledge", "history?measurement=tag&column=value"])
def test_disarming_does_not_wait_behind_many_others(page, path, monkeypatch):
    """More calls hang than the server has threads for calls."""
    goes_on = threading.Event()
    page.line.meanwhile = lambda: page.line.asked[-1][0] == "disarm" or goes_on.wait(20)
    monkeypatch.setattr("cellwatch.nodes.page.rest_history.Record.series", lambda *_: goes_on.wait(20))
    browser = page.browser(Role.OPERATOR)
    body = ACTIONS.get(path, (None, None))[1]

    def ask():
        with contextlib.suppress(OSError):  # how these end is not the question
            browser.post(path, body) if body else browser.get(path)

    threads = [threading.Thread(target=ask) for _ in range(45)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    try:
        began = time.monotonic()
        assert browser.post("disarm").status == 200
        assert time.monotonic() - began < 6.0  # 1 s for the line, and what a busy machine takes
    finally:
        goes_on.set()
        for thread in threads:
            thread.join()


def test_unknown_alarms_and_links_are_404(page):
    browser = page.browser(Role.ENGINEER)
    for path in ("alarms/acknowledge", "alarms/comment", "alarms/shelve", "alarms/out-of-service"):
        assert browser.post(path, ACTIONS[path][1] | {"key": "PLC1/nothing"}).status == 404
    assert browser.post("arm", {"links": ["nobody"]}).status == 404


def test_warnings_are_passed_on(page):
    page.line.warning = "not on record: the disk is full"
    assert page.browser(Role.ENGINEER).post("override", ACTIONS["override"][1]).body == {
        "warnings": [page.line.warning]
    }


def test_a_name_with_markup_is_data(serve, live, made):
    evil = '<img src=x onerror="alert(1)">'
    live.on_fused(made.window(10**18, made.verdict(evil)))
    browser = serve().browser()
    answer = browser.get("devices")
    assert answer.headers.get_content_type() == "application/json"
    assert answer.body[-1]["name"] == evil


def test_openapi_names_every_route_and_loads_nothing_from_elsewhere(page):
    schema = page.stranger().get("openapi.json")
    assert schema.status == 200
    paths = {p.removeprefix("/api/v1/") for p in schema.body["paths"]}
    assert {
        *ACTIONS,
        *(r.partition("?")[0] for r in READS if r != "live"),
        "session",
        "login",
        "logout",
    } <= paths
    for path in ("/docs", "/redoc"):
        assert page.stranger().ask("GET", path).status == 404
