"""The page's files: nothing from elsewhere, nothing that makes markup of data, nothing missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cellwatch.nodes import page

STATIC = Path(page.__file__).resolve().parent / "static"
FILES = sorted(STATIC.iterdir())
MODULES = [f for f in FILES if f.suffix == ".js"]
FORBIDDEN = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc")
ELSEWHERE = re.compile(r"(?:https?:)?//(?!www\.w3\.org/2000/svg)[a-z0-9.-]+\.[a-z]{2,}")


@pytest.mark.parametrize("file", MODULES, ids=lambda f: f.name)
def test_data_is_never_markup(file):
    assert FORBIDDEN.findall(file.read_text()) == []


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.name)
def test_nothing_is_loaded_from_elsewhere(file):
    assert ELSEWHERE.findall(file.read_text()) == []


@pytest.mark.parametrize("file", MODULES, ids=lambda f: f.name)
def test_what_is_imported_is_there(file):
    text = file.read_text()
    for names, source in re.findall(r'^import \{ ([^}]+) \} from "\./([\w.]+)";', text, re.MULTILINE):
        there = (STATIC / source).read_text()
        for name in names.split(", "):
            assert re.search(rf"export (?:async )?(?:const|function|class) {name}\b", there), (
                f"{name} of {source}"
            )
            assert len(re.findall(rf"\b{name}\b", text)) > 1, f"{name} is imported and not used"


def test_the_page_keeps_its_own_policy():
    """No script, style or handler within the HTML: the content security policy would refuse it."""
    html = (STATIC / "index.html").read_text()
    assert re.findall(r"<script(?![^>]* src=)", html) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", html) == []
    for name in re.findall(r'(?:src|href)="([\w.]+)"', html):
        assert (STATIC / name).is_file()


def test_every_module_is_fetched_at_once():
    html = (STATIC / "index.html").read_text()
    named = set(re.findall(r'modulepreload" href="([\w.]+)"', html))
    assert named == {f.name for f in MODULES} - {"theme.js"}


def test_the_page_is_small():
    assert sum(f.stat().st_size for f in FILES) < 200_000
