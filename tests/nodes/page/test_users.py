"""The file of users: what is kept, what is refused, and who may read it."""

from __future__ import annotations

import json
import os
import stat
import threading

import pytest
from typer.testing import CliRunner

from cellwatch.nodes.cli import app
from cellwatch.nodes.page.users import NOBODY, Role, User, UsersError, UsersFile

PASSWORD = "a long enough password"


@pytest.fixture
def file(tmp_path):
    return UsersFile(tmp_path / "home" / "users.json")


def test_no_file_no_users(file):
    assert file.load() == {}
    assert not file.exists()


def test_a_password_is_known_again_and_stands_nowhere(file):
    file.add("anna", Role.OPERATOR, PASSWORD)
    user = file.load()["anna"]
    assert user.level == Role.OPERATOR
    assert user.knows(PASSWORD)
    assert not user.knows(PASSWORD + " ")
    assert not user.knows("")
    assert PASSWORD not in file.path.read_text()


def test_a_letter_of_two_signs_is_the_letter_of_one(file):
    file.add("anna", Role.VIEWER, "gru\u0308ne Wiese")
    assert file.load()["anna"].knows("gr\u00fcne Wiese")


def test_the_same_password_twice_looks_different(file):
    file.add("anna", Role.VIEWER, PASSWORD)
    file.add("bob", Role.VIEWER, PASSWORD)
    anna, bob = file.load().values()
    assert anna.salt != bob.salt
    assert anna.hash != bob.hash


@pytest.mark.usefixtures("real_hashes")
def test_hashing_costs_what_it_should():
    user = User.with_password(Role.VIEWER, PASSWORD)
    assert (user.n, user.r, user.p) == (2**15, 8, 3) == (NOBODY.n, NOBODY.r, NOBODY.p)
    assert user.knows(PASSWORD)
    assert not NOBODY.knows(PASSWORD)


def test_only_its_owner_may_read_the_file(file):
    before = os.umask(0)
    try:
        file.add("anna", Role.VIEWER, PASSWORD)
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    file.path.chmod(0o640)
    with pytest.raises(UsersError, match="chmod 600"):
        file.load()


@pytest.mark.parametrize("password", ["", "short", "x" * 257])
def test_passwords_that_are_none(file, password):
    with pytest.raises(UsersError, match="10 to 256 characters"):
        file.add("anna", Role.VIEWER, password)
    assert not file.exists()


@pytest.mark.parametrize("name", ["", "-anna", "an na", "anna\n", "<b>", "ä", "a" * 65, "../x"])
def test_names_that_are_none(file, name):
    with pytest.raises(UsersError, match="a name has"):
        file.add(name, Role.VIEWER, PASSWORD)


def test_changes_and_their_refusals(file):
    file.add("anna", Role.VIEWER, PASSWORD)
    with pytest.raises(UsersError, match="already"):
        file.add("anna", Role.ENGINEER, PASSWORD)
    for change in (
        file.remove,
        lambda n: file.set_role(n, Role.VIEWER),
        lambda n: file.set_password(n, PASSWORD),
    ):
        with pytest.raises(UsersError, match="there is no user bob; there is: anna"):
            change("bob")
    file.set_role("anna", Role.ENGINEER)
    file.set_password("anna", "another password")
    assert file.load()["anna"].level == Role.ENGINEER
    assert file.load()["anna"].knows("another password")
    file.remove("anna")
    assert file.load() == {}
    assert file.exists()  # a page that had users stays shut


def row(**more):
    good = {"role": "viewer", "n": 16, "r": 8, "p": 1, "salt": "00" * 16, "hash": "00" * 32}
    return json.dumps({"users": {"anna": good | more}})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"users": 3}',
        '{"users": {"anna": {}}}',
        row(role="god"),
        row(hash=""),
        row(hash="zz" * 32),
        row(salt="00"),
        row(n=1),
        row(n=17),
        row(n=2**25),
        row(p=0),
        row(extra=1),
        row().replace("anna", "an na"),
    ],
)
def test_a_damaged_file_lets_nobody_in(file, text):
    file.path.parent.mkdir()
    file.path.write_text(text)
    file.path.chmod(0o600)
    with pytest.raises(UsersError, match="damaged"):
        file.load()


def test_a_file_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "home").write_text("a file where the folder should be")
    with pytest.raises(UsersError, match="home"):
        UsersFile(tmp_path / "home" / "users.json").add("anna", Role.VIEWER, PASSWORD)


def test_two_that_change_the_file_at_once_lose_nothing(file):
    names = [f"user{i}" for i in range(8)]
    threads = [threading.Thread(target=file.add, args=(name, Role.VIEWER, PASSWORD)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(file.load()) == names


# The command ------------------------------------------------------------------
@pytest.fixture
def users(tmp_path, monkeypatch):
    monkeypatch.setenv("CELLWATCH_HOME", str(tmp_path))
    return lambda *args, **more: CliRunner().invoke(app, ["users", *args], **more)


def test_the_command_makes_and_changes_users(users, tmp_path):
    assert "no users" in users("list").output
    done = users("add", "anna", "--role", "operator", input=f"{PASSWORD}\n{PASSWORD}\n")
    assert done.exit_code == 0, done.output
    assert PASSWORD not in done.output
    assert users("passwd", "anna", "--password-stdin", input="another password\n").exit_code == 0
    assert users("role", "anna", "engineer").exit_code == 0
    assert json.loads(users("list", "--json").output) == {"anna": "engineer"}
    assert UsersFile(tmp_path / "users.json").load()["anna"].knows("another password")
    assert users("remove", "anna").exit_code == 0
    assert json.loads(users("list", "--json").output) == {}


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["add", "anna", "--role", "god", "--password-stdin"], "viewer, operator or engineer"),
        (["add", "anna", "--password-stdin"], "10 to 256 characters"),
        (["add", "an na", "--password-stdin"], "a name has"),
        (["remove", "anna"], "there is no user anna"),
        (["passwd", "anna", "--password-stdin"], "there is no user anna"),
        (["role", "anna", "viewer"], "there is no user anna"),
    ],
)
def test_mistakes_get_one_clear_line(users, args, words, capsys):
    password = PASSWORD if "an na" in args else "short"
    done = users(*args, input=password + "\n")
    said = done.output + capsys.readouterr().err
    assert done.exit_code == 2
    assert words in said.replace("\n", " ")
    assert "Traceback" not in said
