"""What people may do, by role; what goes wrong; and that each thing is on record once, with the user."""

from __future__ import annotations

import threading

import pytest

from cellwatch.nodes.drivers.audit_log import AuditLog, read
from cellwatch.nodes.page import desk as desk_module
from cellwatch.nodes.page.desk import MOVES, Desk, DeskError
from cellwatch.nodes.page.sessions import passing
from cellwatch.nodes.page.users import Role
from cellwatch.nodes.ros.operator import NoAnswerError, RefusedError

KEY = "PLC1/dos"
ACTIONS = {
    "acknowledge": (Role.OPERATOR, lambda d, who: d.acknowledge(who, KEY, "why")),
    "shelve": (Role.OPERATOR, lambda d, who: d.shelve(who, KEY, 60.0, "why")),
    "comment": (Role.OPERATOR, lambda d, who: d.comment(who, KEY, "why")),
    "disarm": (Role.OPERATOR, lambda d, who: d.disarm(who, "why")),
    "label": (Role.OPERATOR, lambda d, who: d.label(who, "dos", 1, 2, [], "why")),
    "out_of_service": (Role.ENGINEER, lambda d, who: d.out_of_service(who, KEY, "why", out=True)),
    "arm": (Role.ENGINEER, lambda d, who: d.arm(who, "why")),
    "override": (Role.ENGINEER, lambda d, who: d.override(who, "PLC1", "why", on=True)),
    "maintenance": (Role.ENGINEER, lambda d, who: d.maintenance(who, "PLC1", "why", on=False)),
    "move_candidate": (Role.ENGINEER, lambda d, who: d.move_candidate(who, "promote", "why")),
}


def somebody(role=Role.ENGINEER):
    return passing(f"the-{role.name.lower()}", role)


@pytest.fixture
def desk(live, line, tmp_path):
    desk = Desk(live, line.open, ["link1", "link2"], tmp_path / "audit.jsonl")
    yield desk
    desk.close()


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("action", ACTIONS)
def test_everything_has_its_least_role(desk, line, tmp_path, action, role):
    least, do = ACTIONS[action]
    if role >= least:
        do(desk, somebody(role))
        assert line.asked or action == "comment"
        return
    with pytest.raises(DeskError, match=f"needs the role {least.name.lower()}") as caught:
        do(desk, somebody(role))
    assert caught.value.status == 403
    assert line.asked == []
    assert not (tmp_path / "audit.jsonl").exists()


def test_the_user_goes_with_every_call(desk, line):
    for _, do in ACTIONS.values():
        do(desk, somebody())
    assert {name for name, *_ in line.asked} == {
        "acknowledge", "shelve", "disarm", "label", "set_out_of_service", "arm", "set_override",
        "set_maintenance", "move_candidate",
    }  # fmt: skip
    assert all("the-engineer" in args and "why" in args for _, args, _ in line.asked)
    assert line.opened == 1  # one line for all


def test_moves_are_counted_as_the_service_counts_them():
    srv = pytest.importorskip("cellwatch_msgs.srv")
    assert [getattr(srv.MoveCandidate.Request, m.upper()) for m in MOVES] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(("error", "status"), [(RefusedError, 409), (NoAnswerError, 503)])
def test_the_cell_refuses_or_does_not_answer(desk, line, error, status):
    line.error = error("no")
    for name, (_, do) in ACTIONS.items():
        if name != "comment":
            with pytest.raises(DeskError, match="no") as caught:
                do(desk, somebody())
            assert caught.value.status == status, name


def test_what_there_is_not_is_404(desk, line):
    for do in (
        lambda: desk.acknowledge(somebody(), "PLC9/dos"),
        lambda: desk.comment(somebody(), "PLC9/dos", "x"),
        lambda: desk.arm(somebody(), "", ["nobody"]),
        lambda: desk.disarm(somebody(), "", ["link1", "nobody"]),
    ):
        with pytest.raises(DeskError) as caught:
            do()
        assert caught.value.status == 404
    assert line.asked == []


def test_arming_stops_at_the_first_that_refuses_and_says_how_far_it_came(desk, line):
    line.meanwhile = lambda: setattr(line, "error", RefusedError("no audit") if len(line.asked) > 1 else None)
    with pytest.raises(DeskError, match="link2 is not armed: no audit; armed: link1"):
        desk.arm(somebody(), "")
    line.meanwhile, line.error = (lambda: None), None
    desk.arm(somebody(), "", ["link2"])
    assert [args[0] for name, args, _ in line.asked] == ["link1", "link2", "link2"]


def test_a_silent_link_may_be_armed_still(desk, line, monkeypatch):
    monkeypatch.setattr(type(line), "disarm", lambda *_: ["link2"], raising=False)
    with pytest.raises(
        DeskError, match="no answer from link2, which may be armed still; disarmed: link1"
    ) as caught:
        desk.disarm(somebody(), "")
    assert caught.value.status == 503


def test_disarming_does_not_wait_for_somebody_else(desk, line, monkeypatch):
    monkeypatch.setattr(desk_module, "DISARM_BUSY_S", 0.05)
    monkeypatch.setattr(desk_module, "BUSY_S", 0.05)
    asks, goes_on = threading.Event(), threading.Event()

    def hang():
        if line.asked[-1][0] == "acknowledge":
            asks.set()
            goes_on.wait(5)

    line.meanwhile = hang
    thread = threading.Thread(target=desk.acknowledge, args=(somebody(), KEY))
    thread.start()
    assert asks.wait(5)
    with pytest.raises(DeskError, match="try again") as caught:
        desk.shelve(somebody(), KEY, 1.0, "why")
    assert caught.value.status == 503
    assert desk.disarm(somebody(), "") == []
    assert [name for name, *_ in line.asked] == ["acknowledge", "disarm"]
    goes_on.set()
    thread.join()
    assert line.opened == 1  # its own line is closed again


def test_a_broken_line_is_opened_anew(desk, line):
    line.error = RuntimeError("context is not valid")
    with pytest.raises(DeskError, match="the line to the cell broke, try again: context is") as caught:
        desk.acknowledge(somebody(), KEY)
    assert caught.value.status == 503
    assert line.opened == 0
    line.error = None
    assert desk.acknowledge(somebody(), KEY) == []
    assert line.opened == 1


def test_disarming_goes_over_another_line_when_the_first_breaks(desk, line):
    desk.acknowledge(somebody(), KEY)
    line.meanwhile = lambda: setattr(line, "error", RuntimeError("broke") if len(line.asked) == 2 else None)
    assert desk.disarm(somebody(), "") == []
    assert [name for name, *_ in line.asked] == ["acknowledge", "disarm", "disarm"]
    line.meanwhile = lambda: setattr(line, "error", RuntimeError("broke"))
    with pytest.raises(DeskError, match="broke") as caught:
        desk.disarm(somebody(), "")
    assert caught.value.status == 503


def test_warnings_go_to_who_caused_them(desk, line):
    line.warning = "not on record: the disk is full"
    assert desk.override(somebody(), "PLC1", "", on=True) == [line.warning]
    line.warning = ""
    assert desk.override(somebody(), "PLC1", "", on=False) == []


def test_a_label_is_counted(desk):
    assert desk.label(somebody(), "dos", 1, 2, ["PLC1"], "") == ((3, 1, 0), [])


# Record ---------------------------------------------------------------------------
def test_a_comment_is_on_record_and_outlives_the_page(desk, live, tmp_path):
    desk.comment(somebody(), KEY, "seen äöü")
    assert [(c.user, c.text) for c in live.comments(KEY)] == [("the-engineer", "seen äöü")]
    (row,) = read(tmp_path / "audit.jsonl")
    assert (row["event"], row["source"], row["reason"], row["alarm"]) == (
        "comment", "the-engineer", "seen äöü", KEY,
    )  # fmt: skip
    from cellwatch.nodes.page.live_cell import LiveCell

    again = LiveCell("demo")
    Desk(again, lambda warn: None, [], tmp_path / "audit.jsonl")
    assert again.comments(KEY)[0].text == "seen äöü"
    assert (
        again.comments(KEY)[0].at_ns == live.comments(KEY)[0].at_ns // 1000 * 1000
        or again.comments(KEY)[0].at_ns > 0
    )


def test_damaged_lines_of_the_log_do_no_harm(live, tmp_path):
    with AuditLog(tmp_path / "audit.jsonl") as log:
        log.operator("comment", user="anna", reason="first", alarm=KEY)
    with (tmp_path / "audit.jsonl").open("ab") as file:
        file.write(b'{"event": "comment", "alarm": 3}\n\xff\xfe"comment"\n{"event": "comment", "source"')
    Desk(live, lambda warn: None, [], tmp_path / "audit.jsonl")
    assert [c.text for c in live.comments(KEY)] == ["first"]


def test_a_comment_that_cannot_be_put_on_record_is_none(desk, live, tmp_path):
    (tmp_path / "audit.jsonl").mkdir()
    with pytest.raises(DeskError, match="cannot open the audit log") as caught:
        desk.comment(somebody(), KEY, "seen")
    assert caught.value.status == 503
    assert live.comments(KEY) == ()
