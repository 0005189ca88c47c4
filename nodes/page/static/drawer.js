// Why an alarm was raised: the sentence, what was seen against what is normal, what the models say, what was done.

import { shelve } from "./alarms.js";
import { h } from "./dom.js";
import { mark, priority } from "./marks.js";
import { STATES, answers, because, cause, clock, feature, number, outcome, reason, percent } from "./words.js";

const AGAIN_MS = 2000;
const SOURCES = { __proto__: null, rules: "rules", ensemble: "trained models", ewad: "model of what is normal (EWAD)", limits: "limits of single values" };
const MOST = 8; // rows of each list; the rest is counted

export class Drawer {
  constructor(root, page) {
    this.root = root;
    this.page = page;
    this.key = null;
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.key && !document.querySelector("dialog[open]")) this.close();
    });
    setInterval(() => this.key && this.#load(), AGAIN_MS);
  }

  open(key) {
    this.from = document.activeElement;
    this.key = key;
    this.said = null;
    this.root.hidden = false;
    document.body.classList.add("drawn");
    this.root.replaceChildren(h("p", { class: "empty" }, "..."));
    this.#load(true);
  }

  close() {
    this.key = null;
    this.root.hidden = true;
    document.body.classList.remove("drawn");
    this.from?.focus?.();
  }

  update(state, sections) {
    if (this.key && this.view !== undefined && (!sections || sections.has("alarms") || sections.has("commands"))) this.#draw();
  }

  async #load(first = false) {
    const { key } = this;
    let view = null;
    try {
      view = await this.page.api.get(`explanation?${new URLSearchParams({ key })}`);
    } catch (error) {
      if (error.status !== 404) return;
    }
    if (key !== this.key) return;
    this.view = view;
    this.#draw();
    if (first) this.root.querySelector("h2")?.focus();
  }

  #draw() {
    const { state } = this.page;
    const alarm = (state.alarms?.list ?? []).find((a) => a.key === this.key);
    const said = JSON.stringify([this.view, alarm, state.commands?.slice(0, 30)]);
    if (said === this.said) return;
    this.said = said;
    const focused = this.root.contains(document.activeElement) ? document.activeElement.textContent : null;
    const top = this.root.scrollTop;
    const { view } = this;
    this.root.replaceChildren(
      this.#head(alarm, view),
      view ? sentence(view) : h("p", { class: "empty" }, "The page was not running when this alarm was raised, so its reasons are not here. The record on disk has them."),
      this.#done(alarm, state.commands ?? []),
      view ? why(view) : "",
      this.#remarks(alarm) || "");
    this.root.scrollTop = top;
    if (focused) [...this.root.querySelectorAll("button, h2")].find((b) => b.textContent === focused)?.focus();
  }

  #head(alarm, view) {
    const { page, key } = this;
    const it = alarm ?? view ?? { device: key, category: "" };
    const fresh = alarm && /UNACK/.test(alarm.state);
    return h("header", {},
      h("div", { class: "title" }, alarm ? priority(alarm.priority) : mark("warn"),
        h("h2", { tabindex: -1 }, `${it.device}: ${cause(it.category, it.attack_type)}`),
        h("button", { type: "button", class: "plain close", "aria-label": "Close", onclick: () => this.close() }, "×")),
      alarm && h("p", { class: "quiet" }, `${STATES[alarm.state]} · raised ${clock(alarm.raised_ms)}${alarm.active ? "" : " · its cause is gone"}`),
      h("div", { class: "buttons" },
        fresh && page.button("operator", "Acknowledge", () => page.do(`${key} acknowledged`, "alarms/acknowledge", { key, reason: "" }), "primary"),
        alarm && alarm.state !== "SHELVED" && page.button("operator", "Shelve ...", () => shelve(page, key)),
        page.button("operator", "Label it ...", () => this.#label(it, alarm, view))));
  }

  #done(alarm, commands) {
    const own = commands.filter((c) => alarm && answers(c, alarm)).slice(0, MOST);
    return h("section", {}, h("h3", {}, "What was done about it"),
      own.length ? h("ul", { class: "rows" }, own.map((c) => {
        const { kind, words: said } = outcome(c);
        return h("li", { class: "command" }, h("time", { class: "quiet number" }, clock(c.issued_ms)),
          h("div", { class: "what" }, h("strong", {}, `${c.tag} = ${number(c.value)}`), " ", h("span", { class: "outcome", "data-kind": kind }, said), h("p", { class: "message", title: c.reason }, because(c.reason))));
      })) : h("p", { class: "quiet" }, "No command: the alarm was raised, nothing else."));
  }

  #remarks(alarm) {
    const said = alarm?.comments ?? [];
    return said.length > 0 && h("section", {}, h("h3", {}, "Comments"), h("ul", { class: "rows" },
      said.map((c) => h("li", {}, h("p", {}, c.text), h("p", { class: "quiet" }, `${c.user}, ${clock(c.at_ms)}`)))));
  }

  #label(it, alarm, view) {
    const start = view ? 1000 * (view.first_s - (this.page.state.cell?.window_s ?? 1)) : alarm?.raised_ms;
    const label = it.category === "fault" ? "fault" : it.category === "unknown" ? "attack" : it.category;
    this.page.labelling = { device: it.device, label, start_ms: start, end_ms: view ? 1000 * view.end_s : alarm?.changed_ms };
    this.close();
    this.page.open("labels");
  }
}

/** What was wrong, and how sure the cell is. */
function sentence(view) {
  const sources = view.agreeing.map((name) => SOURCES[name] ?? name).join(", ");
  return h("section", {}, h("h3", {}, "In one sentence"), h("p", { class: "sentence", title: view.sentence }, `${reason(view.sentence)}.`),
    gauge("Probability that something is wrong", view.probability, view.threshold),
    sources && h("p", { class: "quiet" }, `Who objects: ${sources}.${view.conflict ? " Rules and models disagree." : ""}`));
}

/** The reasons one by one. */
function why(view) {
  return h("div", { class: "why" },
    view.violations.length > 0 && h("section", {}, h("h3", {}, "Seen against normal"),
      h("ul", { class: "rows violations" }, view.violations.slice(0, MOST).map(violation)), more(view.violations)),
    h("section", {}, h("h3", {}, "What rules and models say"), contributions(view)),
    view.shares.length > 0 && h("section", {}, h("h3", {}, "What moved the models"),
      view.shares_in_words && h("p", { class: "quiet" }, view.shares_in_words),
      h("ul", { class: "rows shares" }, view.shares.slice(0, MOST).map(({ feature: name, share }) =>
        row(feature(name), Math.abs(share), `${share < 0 ? "−" : "+"}${percent(Math.abs(share))}`, name)))));
}

/** A rule's number on a bar: grey is normal, the mark is what was seen. */
function violation(v) {
  const open = v.low === null ? `at most ${number(v.high)}` : v.high === null ? `at least ${number(v.low)}` : `${number(v.low)} to ${number(v.high)}`;
  return h("li", {},
    h("div", { class: "title" }, h("strong", { title: v.feature }, feature(v.feature)),
      v.attack_id && h("span", { class: "tagged", title: "Technique of MITRE ATT&CK for ICS" }, `ATT&CK ${v.attack_id}`)),
    v.message && h("p", {}, v.message),
    bar(v), h("p", { class: "number seen" }, "seen ", h("b", {}, number(v.observed)), ` · normal ${open}`),
    h("p", { class: "quiet" }, `Rule: ${v.rule === "limit" ? "learned limit" : v.rule}`));
}

function bar({ observed, low, high }) {
  if (observed === null) return null;
  const ends = [observed, low, high].filter((x) => x !== null);
  const reach = Math.max(...ends) - Math.min(...ends) || Math.abs(observed) || 1;
  const left = low === null ? Math.min(0, ...ends) : Math.min(...ends) - 0.08 * reach;
  const right = Math.max(...ends) + (high === null ? 0.25 : 0.08) * reach;
  const at = (x) => `${(100 * (x - left)) / (right - left)}%`;
  const from = low ?? left;
  return h("div", { class: "range", "aria-hidden": "true" },
    h("span", { class: "normal", style: { left: at(from), width: `${(100 * ((high ?? right) - from)) / (right - left)}%` } }),
    h("span", { class: "observed", style: { left: at(observed) } }));
}

function contributions(view) {
  const heard = view.contributions.filter((c) => c.score !== null);
  const silent = view.contributions.filter((c) => c.score === null).map((c) => c.detector);
  if (!heard.length) return h("p", { class: "quiet" }, "No model gave a score: the rules decide alone.");
  heard.sort((a, b) => b.score - a.score);
  return [h("ul", { class: "rows shares" }, heard.map((c) =>
    row(c.detector === "rules" ? "Rules" : c.detector, c.score, percent(c.score), `weight ${number(c.weight, 3)}`, view.threshold))),
  silent.length > 0 && h("p", { class: "quiet" }, `No score from ${silent.join(", ")}.`)];
}

function row(name, share, said, title, threshold = null) {
  return h("li", { class: "share", title }, h("span", { class: "name" }, name),
    h("span", { class: "bar", "aria-hidden": "true" }, h("i", { style: { width: `${100 * Math.min(1, share)}%` } }),
      threshold !== null && h("b", { style: { left: `${100 * threshold}%` } })),
    h("span", { class: "number" }, said));
}

function gauge(name, value, threshold) {
  if (value === null) return null;
  return h("ul", { class: "rows shares" }, row(name, value, percent(value), `an attack from ${percent(threshold)}`, threshold));
}

const more = (all) => all.length > MOST && h("p", { class: "quiet" }, `and ${all.length - MOST} more`);
