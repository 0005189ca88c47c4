"""Who comes in, who does not, and when it ends; the clock is the test's."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from cellwatch.nodes.drivers.whole_file import write_whole
from cellwatch.nodes.page.access import Access, AccessError
from cellwatch.nodes.page.attempts import FORGET_S, LONGEST_S, MOST, Attempts
from cellwatch.nodes.page.sessions import IDLE_S, Sessions
from cellwatch.nodes.page.users import Role, UsersError, UsersFile

S = 10**9
HERE = "127.0.0.1"


@pytest.fixture
def said():
    return []


@pytest.fixture
def access(users, clock, said):
    return Access(users, audit=lambda *line: said.append(line), clock=clock.seconds)


def request(access, token=None, host=HERE, port=4000):
    return SimpleNamespace(
        cookies={access.cookie: token} if token else {}, client=SimpleNamespace(host=host, port=port)
    )


def refusal(call, *args):
    with pytest.raises(AccessError) as caught:
        call(*args)
    return caught.value.status


def login(access, role=Role.OPERATOR):
    return access.login(role.name.lower(), f"{role.name.lower()}-password", HERE)


# Log-in -------------------------------------------------------------------------
def test_a_log_in_gives_a_session_of_its_role(access, said):
    token, session = login(access)
    assert (session.user, session.role) == ("operator", Role.OPERATOR)
    assert access.who(request(access, token)) is session
    assert access.alive(session)
    assert said == [("login", "operator", "from 127.0.0.1, operator")]


def test_without_one_nobody_comes_in(access):
    for token in (None, "", "x", "x" * 10_000):
        assert refusal(access.who, request(access, token)) == 401
        assert refusal(access.enter, token, HERE, 1) == 401


def test_every_log_in_has_a_token_and_a_csrf_token_of_its_own(access):
    (one, first), (other, second) = login(access), login(access)
    assert len({one, other, first.csrf, second.csrf}) == 4
    assert min(map(len, (one, first.csrf))) >= 43  # 256 bits
    assert one not in repr(access.__dict__)
    assert first.csrf != second.csrf
    assert refusal(access.check_change, first, second.csrf) == 403
    for missing in (None, "", "ü", first.csrf[:-1]):
        assert refusal(access.check_change, first, missing) == 403
    access.check_change(first, first.csrf)


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("operator", "wrong"),
        ("operator", ""),
        ("nobody", "operator-password"),
        ("", ""),
        ("Operator", "operator-password"),
        ("operator", "engineer-password"),
    ],
)
def test_wrong_ones_learn_nothing_and_are_on_record(access, said, user, password):
    with pytest.raises(AccessError, match=r"^wrong name or password$") as caught:
        access.login(user, password, HERE)
    assert caught.value.status == 401
    name = user if user == "operator" else ""  # it may be a password that was typed into the wrong field
    assert said == [("login_failed", name, "from 127.0.0.1")]


def test_log_out_ends_the_session_and_no_other(access, said):
    token, session = login(access)
    other, kept = login(access)
    access.logout(session)
    assert refusal(access.who, request(access, token)) == 401
    assert not access.alive(session)
    assert access.who(request(access, other)) is kept
    assert said[-1] == ("logout", "operator", "")


def test_a_session_ends_when_it_is_idle_for_a_shift(access, clock):
    token, _ = login(access)
    for _ in range(3):
        clock.now += int((IDLE_S - 1) * S)
        session = access.who(request(access, token))
        access.check_change(session, session.csrf)
    clock.now += int((IDLE_S - 1) * S)
    access.who(request(access, token))  # an open page reads by itself: that is no use
    clock.now += 2 * S
    assert refusal(access.who, request(access, token)) == 401


def test_watching_keeps_a_viewer_in_and_nobody_else(access, clock):
    sessions = [login(access, role)[1] for role in (Role.VIEWER, Role.OPERATOR)]
    for _ in range(3):
        clock.now += int(IDLE_S / 2 * S)
        alive = [access.alive(session) for session in sessions]
    assert alive == [True, False]


def test_the_longest_unused_session_makes_room(monkeypatch):
    monkeypatch.setattr("cellwatch.nodes.page.sessions.MOST", 3)
    sessions = Sessions()
    made = [sessions.begin("anna", Role.VIEWER, "", float(i)) for i in range(3)]
    made[0][1].used_s = 9.0
    sessions.begin("anna", Role.VIEWER, "", 10.0)
    assert [sessions.find(token) is not None for token, _ in made] == [True, False, True]


def test_many_log_ins_of_one_end_nobody_elses_session():
    sessions = Sessions()
    anna, _ = sessions.begin("anna", Role.OPERATOR, "", 0.0)
    vics = [sessions.begin("vic", Role.VIEWER, "", 1.0 + i)[0] for i in range(600)]
    assert sessions.find(anna)
    assert [sessions.find(token) is not None for token in vics[-21:]] == [False] + [True] * 20


# The file changes -----------------------------------------------------------------
def change(users, clock, what):
    what(users)
    clock.now += 2 * S  # it is looked at once a second


@pytest.mark.parametrize(
    "what",
    [
        lambda users: users.remove("operator"),
        lambda users: users.set_password("operator", "another password"),
        lambda users: users.set_role("operator", Role.VIEWER),
        lambda users: users.path.unlink(),
        lambda users: users.path.write_text("{"),
        lambda users: users.path.chmod(0o644),
    ],
)
def test_a_changed_user_is_logged_out(access, users, clock, what):
    token, session = login(access)
    change(users, clock, what)
    assert refusal(access.who, request(access, token)) == 401
    assert not access.alive(session)


def test_others_stay_when_one_is_changed(access, users, clock):
    token, session = login(access, Role.ENGINEER)
    change(users, clock, lambda users: users.remove("operator"))
    assert access.who(request(access, token)) is session


def test_a_new_user_comes_in_at_once(access, users):
    users.add("late", Role.VIEWER, "late-password")
    assert access.login("late", "late-password", HERE)[1].user == "late"


def test_a_damaged_file_is_named_and_mended(access, users, clock):
    text = users.path.read_text()
    change(users, clock, lambda users: users.path.write_text("{"))
    assert refusal(access.login, "operator", "operator-password", HERE) == 503
    assert "damaged" in access.trouble
    change(users, clock, lambda users: users.path.unlink())
    assert refusal(access.login, "operator", "operator-password", HERE) == 503
    assert "it is gone" in access.trouble
    change(users, clock, lambda users: write_whole(users.path, text, 0o600))
    assert login(access)[1].user == "operator"
    assert access.trouble == ""


# Guessing ---------------------------------------------------------------------------
def test_who_guesses_must_wait_longer_each_time(access, clock):
    for _ in range(5):
        assert refusal(access.login, "operator", "wrong", HERE) == 401
    waits = []
    for _ in range(4):
        with pytest.raises(AccessError) as caught:
            access.login("operator", "operator-password", HERE)  # also the right one
        assert caught.value.status == 429
        waits.append(caught.value.wait_s)
        clock.now += int(waits[-1] * S) + S // 100
        assert refusal(access.login, "operator", "wrong", HERE) == 401
    assert [round(w) for w in waits] == [1, 2, 4, 8]
    assert access.attempts.wrong == 9
    clock.now += int(FORGET_S * S)
    assert login(access)


def test_nobody_can_keep_an_operator_out_from_another_machine(access):
    for _ in range(6):
        with pytest.raises(AccessError):
            access.login("operator", "wrong", "10.0.0.66")
    assert refusal(access.login, "operator", "operator-password", "10.0.0.66") == 429
    assert login(access)


def test_attempts_by_hand():
    attempts = Attempts()
    for i in range(30):
        attempts.failed("10.0.0.1", f"user{i}", 100.0)
    assert attempts.wait_s("10.0.0.1", "new", 100.0) == LONGEST_S == 300.0  # 2 ** (30 - 20) s and more
    assert attempts.wait_s("10.0.0.2", "user1", 100.0) == 0.0
    attempts.succeeded("10.0.0.1", "user1")  # a password of one's own buys no guesses at others'
    assert attempts.wait_s("10.0.0.1", "new", 250.0) == 150.0
    for i in range(20):
        attempts.failed(f"2001:db8::{i:x}", "anna", 0.0)
    assert attempts.wait_s("2001:db8::ffff", "bob", 0.0) == 1.0  # one machine's own /64
    assert attempts.wait_s("2001:db8:0:1::1", "anna", 0.0) == 0.0
    attempts.failed("::ffff:10.0.0.9", "anna", 0.0)
    assert ("10.0.0.9", "anna") in attempts._counts


def test_a_flood_of_guesses_finds_an_end():
    attempts = Attempts()
    for i in range(MOST):
        attempts.failed(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}", "anna", 0.0)
    assert len(attempts._counts) <= MOST


# Without log-ins ----------------------------------------------------------------------
@pytest.fixture
def open_access(tmp_path, clock):
    uids = {4000: os.getuid(), 4001: os.getuid() + 1}
    return Access(
        UsersFile(tmp_path / "none.json"),
        local="eva",
        owner=lambda address, port: uids.get(port),
        clock=clock.seconds,
    )


def test_without_users_it_is_for_who_runs_the_cell(open_access):
    assert not open_access.needs_login
    session = open_access.who(request(open_access))
    assert (session.user, session.role) == ("eva", Role.ENGINEER)
    token, begun = open_access.enter(None, HERE, 4000)
    assert open_access.who(request(open_access, token)) is begun
    assert open_access.enter(token, HERE, 4000) == (token, begun)
    assert open_access.alive(begun)
    assert open_access.alive(session)


def test_and_for_nobody_else_on_this_machine(open_access):
    for port in (4001, 4002):  # somebody else's, and nobody's that is known
        assert refusal(open_access.who, request(open_access, port=port)) == 403
        assert refusal(open_access.enter, None, HERE, port) == 403


def test_no_password_fits_where_there_are_none(open_access):
    assert refusal(open_access.login, "eva", "", HERE) == 401


def test_the_first_user_shuts_the_page(open_access, tmp_path, clock):
    token, session = open_access.enter(None, HERE, 4000)
    UsersFile(tmp_path / "none.json").add("anna", Role.VIEWER, "long password")
    clock.now += 2 * S
    assert open_access.needs_login
    assert refusal(open_access.who, request(open_access, token)) == 401
    assert refusal(open_access.who, request(open_access)) == 401
    assert not open_access.alive(session)
    (tmp_path / "none.json").unlink()  # and a lost file does not open it again
    clock.now += 2 * S
    assert refusal(open_access.who, request(open_access)) == 401


def test_an_address_that_others_reach_needs_users(tmp_path):
    with pytest.raises(UsersError, match="cellwatch users add"):
        Access(UsersFile(tmp_path / "none.json"))


def test_a_damaged_file_does_not_open_the_page_of_this_machine(tmp_path):
    (tmp_path / "users.json").write_text("{")
    (tmp_path / "users.json").chmod(0o600)
    with pytest.raises(UsersError, match="damaged"):
        Access(UsersFile(tmp_path / "users.json"), local="eva")
