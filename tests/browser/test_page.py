"""The page in a browser, on a made-up cell: what it shows, what its buttons ask for, what it never does."""

from __future__ import annotations

import re
import time

import pytest

from cellwatch.models import types as t
from cellwatch.nodes.page.users import Role

SIZES = ((1440, 900), (1024, 768), (800, 1200))  # a desk, a tablet, the same upright
PASSWORD = "a long password"
PAIRS = (  # text and its ground
    *(("ink", ground) for ground in ("page", "card", "raised", "bad-soft", "warn-soft")),
    *(("quiet", ground) for ground in ("page", "card", "raised")),
    *(("armed", "card"), ("bad", "card"), ("on-color", "bad"), ("on-button", "button")),
)


def shown(window, selector, timeout=10_000, state="visible"):
    return window.page.wait_for_selector(selector, timeout=timeout, state=state)


def until(condition, what="", seconds=8.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def test_an_empty_cell_says_so(cell, window):
    one = window(cell.url)
    situation = shown(one, ".situation")
    until(lambda: "Nothing" in situation.inner_text() or "Waiting" in situation.inner_text())
    texts = one.page.inner_text("main")
    for word in ("No tag has been heard of yet", "No alarm stands", "No command yet"):
        assert word in texts
    assert not one.errors


def test_a_page_that_has_heard_nothing_has_nothing_to_explain(cell, window):
    cell.attack()
    one = window(cell.url)
    shown(one, ".situation >> text=Why?")
    one.page.route("**/live", lambda route: None)
    one.page.reload()
    shown(one, ".situation", state="attached")
    assert one.page.is_hidden(".situation >> text=Why?")


def test_an_attack_is_seen_explained_and_answered(cell, window):
    cell.plant()
    cell.health()
    cell.judge()
    one = window(cell.url)
    shown(one, '.tile[data-kind="ok"]')
    cell.attack()
    tile = shown(one, '.tile[data-kind="bad"]')
    assert "PLC1" in tile.inner_text()
    assert "Attack" in tile.inner_text()
    until(lambda: "Port scan" in one.page.inner_text(".situation"))
    assert "not armed" in one.page.inner_text(".situation")

    one.page.click(".situation >> text=Why?")
    shown(one, ".drawer .violations")
    drawer = one.page.inner_text(".drawer")
    for word in ("Number of ports", "250", "at most 180", "T0846", "XGB", "97 %", "No score from GRU",
                 "XS102_LOCK = 1", "Advised, not written"):  # fmt: skip
        assert word in drawer, word
    normal, seen = (
        one.page.query_selector(f".drawer .range .{k}").bounding_box() for k in ("normal", "observed")
    )
    assert seen["x"] > normal["x"] + normal["width"], "what was seen lies outside of what is normal"
    assert not one.errors


def test_acknowledging_reaches_the_cell_and_both_browsers(cell, window):
    cell.attack()
    one, other = window(cell.url), window(cell.url)
    shown(one, ".alarm[data-fresh]")
    shown(other, ".alarm[data-fresh]")
    one.page.click(".alarm >> text=Acknowledge")
    until(lambda: cell.line.calls)
    assert cell.line.calls == [("acknowledge", ("PLC1/recon", "tester", ""), {})]
    cell.alarm(state=t.AlarmState.ACKNOWLEDGED)
    for each in (one, other):
        until(lambda each=each: "Acknowledged" in each.page.inner_text(".alarm .state"))


def test_shelving_asks_for_time_and_reason(cell, window):
    cell.attack()
    one = window(cell.url)
    shown(one, ".alarm").query_selector("text=Shelve ...").click()
    one.page.select_option("dialog select", "30")
    one.page.fill("dialog input", "pen test")
    one.page.click("dialog button[type=submit]")
    until(lambda: cell.line.calls)
    assert cell.line.calls == [("shelve", ("PLC1/recon", 1800.0, "tester", "pen test"), {})]
    until(lambda: one.page.query_selector("dialog") is None)


def test_arming_needs_a_reason_and_shows_everywhere(cell, window):
    cell.judge()
    cell.health()
    one = window(cell.url)
    one.page.click("text=Arm ...")
    one.page.click("dialog button[type=submit]")
    assert cell.line.calls == [], "without a reason nothing is asked for"
    one.page.fill("dialog input", "shift start")
    one.page.keyboard.press("Enter")
    until(lambda: cell.line.calls)
    assert cell.line.calls == [("arm", ("opcua_client_node", "tester", "shift start"), {})]
    cell.health(armed="1")
    until(lambda: "ARMED" in one.page.inner_text("#armed"))
    one.page.click("text=Disarm")
    until(lambda: cell.line.calls[-1][0] == "disarm")


def test_a_refusal_is_told_with_its_reason(cell, window):
    from cellwatch.nodes.ros.operator import NoAnswerError

    cell.attack()
    cell.line.refusal = NoAnswerError("fusion_node does not answer")
    one = window(cell.url)
    one.page.click(".alarm >> text=Acknowledge")
    assert "fusion_node does not answer" in shown(one, ".toast.error").inner_text()


def test_promoting_a_candidate(cell, window):
    now = time.time_ns()
    figures = t.StageFigures(300, 2400, 12, 60, 4, 40, 0.02, 0.021)
    cell.live.on_candidate(
        t.CandidateState(now, t.Stage.SHADOW, False, "A", "v4", "v3", (), now, "", figures)
    )
    cell.live.on_models("ensemble_node", "v3", ["XGB"], [], "")
    one = window(cell.url)
    one.page.click("text=Models and drift")
    text = shown(one, ".view.models").inner_text()
    assert "Shadow" in text
    assert "v4, to replace v3" in text
    one.page.click("text=Promote ...")
    one.page.fill("dialog input", "seen enough")
    one.page.keyboard.press("Enter")
    until(lambda: cell.line.calls)
    assert cell.line.calls == [("move_candidate", (1, "tester", "seen enough"), {})]
    assert not one.errors


def test_labelling_the_stretch_of_an_alarm(cell, window):
    cell.attack()
    one = window(cell.url)
    one.page.click(".situation >> text=Why?")
    one.page.click(".drawer >> text=Label it ...")
    shown(one, ".view.labels .stretch")
    assert one.page.input_value("select[name=label]") == "recon"
    one.page.fill("input[name=type]", "port-scan")
    one.page.click("form >> text=Label")
    until(lambda: cell.line.calls)
    name, (label, (start, end), devices, user, _), _ = cell.line.calls[0]
    assert (name, label, list(devices), user) == ("label", "recon/port-scan", ["PLC1"], "tester")
    assert 9 * 10**9 <= end - start <= 13 * 10**9, "the ten windows of the attack"
    until(lambda: "3 samples" in one.page.inner_text(".labelling"))
    assert "1 are not known" in one.page.inner_text(".labelling")


def test_a_viewer_looks_and_does_nothing(cell, window):
    cell.users.add("vera", Role.VIEWER, PASSWORD)
    cell.attack()
    time.sleep(1.1)  # the file of users is looked at once a second
    one = window(cell.url)
    shown(one, "form.login")
    assert "PLC1" not in one.page.content(), "nothing of the cell before the log-in"
    one.page.fill("input[name=user]", "vera")
    one.page.fill("input[name=password]", "wrong")
    one.page.click("text=Log in")
    until(lambda: "wrong name or password" in one.page.inner_text(".login"))
    one.page.fill("input[name=password]", PASSWORD)
    one.page.click("text=Log in")
    button = shown(one, ".alarm .ack")
    assert button.is_disabled()
    assert "operator" in button.get_attribute("title")
    one.page.click("text=Log out")
    shown(one, "form.login")


def test_a_verdict_in_an_operators_words(cell, window):
    words = {
        "network_ports_all_count": "Number of ports",
        "network_packets_src_count": "Number of packets, sent",
        "network_tcp-flags-syn_count": "Number of TCP SYN packets",
        "network_packet-size_max": "Packet size (largest)",
        "industrial_writes_count": "Number of writes",
        "PLC1/FIT101/avg": "PLC1/FIT101 (average)",
    }
    sentences = {
        "PLC1: BLOCK, recon/port-scan, p=0.93: network_ports_all_count is 250, above its normal limit 180"
        " (and 2 more); says rules and ensemble; without GRU: no score": "Number of ports is 250, above its"
        " normal limit 180 (and 2 more)",
        "the pump runs dry": "The pump runs dry",
    }
    one = window(cell.url)
    said = one.page.evaluate(
        """async ([features, sentences]) => {
          const { feature, reason } = await import("/words.js");
          return [features.map(feature), sentences.map(reason)];
        }""",
        [list(words), list(sentences)],
    )
    assert said == [list(words.values()), list(sentences.values())]


def test_names_are_text_and_never_markup(cell, window):
    evil = '<img src=x onerror="document.title=1">'
    cell.plant(evil, 1)
    cell.attack(evil)
    cell.alarm(evil, message=evil)
    one = window(cell.url)
    shown(one, '.tile[data-kind="bad"]')
    one.page.click(".situation >> text=Why?")
    shown(one, ".drawer .violations")
    for view in ("Labels", "Nodes and losses", "Models and drift"):
        one.page.keyboard.press("Escape")
        one.page.click(f"text={view}")
    assert one.page.query_selector("img") is None
    assert one.page.title() == "demo · Cellwatch"
    assert one.page.evaluate("() => document.body.textContent").count(evil) > 3
    assert not one.errors


def test_nothing_is_fetched_from_elsewhere_and_nothing_is_forbidden(cell, window):
    cell.plant()
    cell.health()
    cell.attack()
    one = window(cell.url)
    shown(one, ".chart canvas")
    one.page.wait_for_timeout(1500)
    assert one.hosts == {cell.url.split("/")[2]}
    assert not one.errors, "the page keeps to its own content security policy"


def test_trends_show_curve_and_verdicts(cell, window):
    cell.plant()
    cell.attack()
    one = window(cell.url, color_scheme="light")
    shown(one, ".chart canvas")

    def painted():
        """Distinct pixels of the first chart: transparent, the curve, and reddish ones."""
        return one.page.evaluate(
            """() => {
              const c = document.querySelector(".chart canvas");
              if (!c.width) return [0, 0];
              const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
              let ink = 0, red = 0;
              for (let i = 0; i < d.length; i += 4) {
                if (d[i + 3] < 20) continue;
                if (d[i] < 60 && d[i + 1] < 60 && d[i + 2] < 60) ink++;
                if (d[i] > d[i + 1] + 60) red++;
              }
              return [ink, red];
            }"""
        )

    until(lambda: painted()[0] > 100, "the curve is drawn")
    until(lambda: painted()[1] > 100, "the attack is shaded")


def test_a_lost_server_is_told_and_found_again(cell, window):
    cell.judge()
    one = window(cell.url)
    shown(one, ".tile")
    port = cell.server.port
    cell.server.stop()
    until(lambda: one.page.is_visible("#stale"), "the page says that it is old", 15)
    assert "No connection" in one.page.inner_text("#stale")
    cell.serve(port)
    cell.judge(decision=t.Screening.SUSPICIOUS)
    until(lambda: not one.page.is_visible("#stale"), "it comes back by itself", 20)
    shown(one, '.tile[data-kind="warn"]')


def test_numbers_that_do_not_exist(cell, window):
    cell.live.on_catalog(t.TagCatalog("PLC1", (t.TagInfo("LIT101", "", "PLC1"),)))
    cell.judge(probability=float("nan"))
    figure = t.DriftFigure("loss", float("nan"), float("inf"))
    cell.live.on_drift(t.DriftEvent(time.time_ns(), t.DriftState.CALM, t.Level.L1, "v", figures=(figure,)))
    one = window(cell.url)
    shown(one, ".chart")
    assert "no value yet" in one.page.get_attribute(".chart .unit", "data-doubt")
    one.page.click("text=Models and drift")
    text = shown(one, ".view.models").inner_text()
    assert "NaN" not in text
    assert "not known yet" in text


def test_the_keyboard_reaches_everything(cell, window):
    cell.attack()
    one = window(cell.url)
    why = shown(one, ".situation button")
    why.focus()
    one.page.keyboard.press("Enter")
    shown(one, ".drawer .violations")
    one.page.keyboard.press("Escape")
    assert one.page.is_hidden(".drawer")
    assert one.page.evaluate("() => document.activeElement.textContent") == "Why?", "focus goes back"
    one.page.focus("#tab-overview")
    one.page.keyboard.press("ArrowRight")
    assert one.page.is_visible("#view-models")
    assert one.page.evaluate("() => document.activeElement.id") == "tab-models"


@pytest.mark.parametrize("size", SIZES)
def test_every_size_has_room_for_fingers_and_no_overflow(cell, window, size):
    cell.plant(n=3)
    cell.health(level=1)
    cell.attack()
    one = window(cell.url, viewport={"width": size[0], "height": size[1]})
    shown(one, ".alarm")
    for view in ("overview", "models", "nodes", "labels"):
        one.page.click(f"#tab-{view}")
        wide = one.page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
        assert wide <= 0, f"{view} is {wide} px too wide"
        small = one.page.evaluate(
            """() => [...document.querySelectorAll("button, select, input:not([type=checkbox])")]
                .filter((e) => e.offsetParent && !e.matches(".stretch"))
                .filter((e) => e.getBoundingClientRect().height < 43.5)
                .map((e) => e.outerHTML.slice(0, 80))"""
        )
        assert small == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_texts_stand_out_from_their_ground(cell, window, theme):
    """WCAG 2.1, 1.4.3: a contrast of at least 4.5."""
    one = window(cell.url, color_scheme=theme)
    shown(one, ".situation")
    colours = one.page.evaluate(
        """(names) => {
          const style = getComputedStyle(document.documentElement);
          return Object.fromEntries(names.map((n) => [n, style.getPropertyValue(`--${n}`)]));
        }""",
        sorted({name for pair in PAIRS for name in pair}),
    )

    def light(name):
        value = colours[name].lstrip("#")
        value = "".join(2 * c for c in value) if len(value) == 3 else value
        parts = [int(x, 16) / 255 for x in re.findall("..", value)]
        linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    for text, ground in PAIRS:
        high, low = sorted((light(text), light(ground)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, f"{text} on {ground}"


def test_the_choice_of_light_is_kept(cell, window):
    one = window(cell.url, color_scheme="light")
    shown(one, ".situation")
    one.page.click('[aria-label="Dark or light"]')
    assert one.page.get_attribute("html", "data-theme") == "dark"
    one.page.reload()
    shown(one, ".situation")
    assert one.page.get_attribute("html", "data-theme") == "dark"


@pytest.mark.parametrize("name", ["constructor", "__proto__", "toString"])
def test_names_that_javascript_has_a_meaning_for(cell, window, name):
    cell.plant(name, 1)
    now = time.time_ns()
    cell.judge(name, t.Screening.BLOCK, category=name, attack_type=name, explanation=name)
    cell.live.on_alarms(
        (
            t.Alarm(f"{name}/{name}", name, name, name, t.AlarmState.UNACKNOWLEDGED, t.Priority.HIGH,
                    t.Ne107.NORMAL, True, True, now, now, 1, name),
        ),
        0,
    )  # fmt: skip
    cell.live.on_health(name, 1, name, {name: "1"})
    one = window(cell.url)
    assert name.lower() in shown(one, ".alarm .title").inner_text().lower()
    one.page.click(".situation >> text=Why?")
    shown(one, ".drawer .sentence")
    one.page.keyboard.press("Escape")
    for view in ("nodes", "models", "labels"):
        one.page.click(f"#tab-{view}")
    assert not one.errors
