// Is every part of the cell's software well, and has anything been lost?

import { attribute, h, list, text } from "./dom.js";
import { mark } from "./marks.js";
import { number, span } from "./words.js";

const MARKS = { __proto__: null, ok: "ok", warn: "warn", error: "bad", silent: "bad" };
const WORDS = { __proto__: null, ok: "Well", warn: "Warning", error: "Error", silent: "Silent" };

export class Nodes {
  constructor(root) {
    this.losses = h("div", { class: "body" });
    this.rows = h("tbody");
    this.empty = h("p", { class: "empty" }, "No node has spoken yet.");
    this.table = h("div", { class: "scroll" }, h("table", { class: "nodes" },
      h("thead", {}, h("tr", {}, ["Node", "State", "What it says", "Counters"].map((t) => h("th", { scope: "col" }, t)))), this.rows));
    root.append(
      h("section", { class: "card", "aria-label": "Losses" }, h("header", {}, h("h2", {}, "Losses")), this.losses),
      h("section", { class: "card", "aria-label": "Nodes" }, h("header", {}, h("h2", {}, "Nodes")), this.empty, this.table));
  }

  update(state, sections) {
    if (!sections || sections.has("losses")) this.#losses(state.losses ?? []);
    if (!sections || sections.has("nodes")) this.#nodes(state.nodes ?? []);
  }

  #losses(losses) {
    this.losses.replaceChildren(losses.length ? h("table", {},
      h("thead", {}, h("tr", {}, ["Node", "What", "How many"].map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, losses.map((l) => h("tr", {}, h("td", {}, l.node), h("td", {}, l.what.replaceAll("_", " ")), h("td", { class: "number" }, number(l.count, 12))))))
      : h("p", { class: "empty" }, "Nothing was lost, dropped, late or unreadable since the cell was started."));
  }

  #nodes(nodes) {
    this.empty.hidden = nodes.length > 0;
    this.table.hidden = !nodes.length;
    list(this.rows, nodes, (n) => n.name, (n) => h("tr", {}, h("td", {}, h("strong", {}, n.name)), h("td", { class: "sign" }), h("td"),
      h("td", {}, h("details", {}, h("summary", {}, "Show"), h("dl", { class: "counters number" })))),
    (node, n) => {
      const [, sign, says, counters] = node.children;
      if (sign.dataset.level !== n.level) {
        attribute(sign, "data-level", n.level);
        sign.replaceChildren(mark(MARKS[n.level]), WORDS[n.level] ?? n.level);
      }
      text(says, [n.level === "silent" ? `for ${span(n.age_s)}; last said: ${n.message}` : n.message, n.restarts ? `started again ${n.restarts} times` : ""].filter(Boolean).join(" · "));
      const details = counters.firstChild;
      if (!details.open) return;
      list(details.lastChild, Object.entries(n.counters), ([name]) => name, ([name]) => h("div", {}, h("dt", {}, name.replaceAll("_", " ")), h("dd")),
        (entry, [name, value]) => text(entry.lastChild, number(value, 12)));
    });
  }
}
