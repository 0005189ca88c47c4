// What the cell wrote, would have written, or could not write.

import { attribute, h, list, text } from "./dom.js";
import { because, clock, number, outcome } from "./words.js";

export class Commands {
  constructor(root, page) {
    this.empty = h("p", { class: "empty" }, "No command yet. When an attack or a fault is confirmed, the answer shows here: written if the cell is armed, advised if not.");
    this.rows = h("ul", { class: "rows" });
    this.taken = h("p", { class: "note", hidden: true });
    root.append(h("section", { class: "card commands", "aria-label": "Commands" },
      h("header", {}, h("h2", {}, "Commands")), this.taken, this.empty, this.rows));
  }

  update(state, sections) {
    if (!sections || sections.has("taken")) this.#hands(state.taken ?? { overridden: [], maintenance: [] });
    if (sections && !sections.has("commands")) return;
    const commands = (state.commands ?? []).slice(0, 50);
    this.empty.hidden = commands.length > 0;
    list(this.rows, commands, (c) => c.command_id, (c) => h("li", { class: "command" },
      h("time", { class: "quiet number" }, clock(c.issued_ms)),
      h("div", { class: "what" }, h("div", { class: "title" }, h("strong", {}, `${c.tag} = ${number(c.value)}`), h("span", { class: "outcome" })),
        h("p", { class: "message", title: c.reason }, because(c.reason)))),
    (node, c) => {
      const { kind, words } = outcome(c);
      const chip = node.querySelector(".outcome");
      attribute(chip, "data-kind", kind);
      text(chip, words);
    });
  }

  /** What operators have taken out of the cell's hands. */
  #hands({ overridden, maintenance }) {
    const name = (target) => (target === "*" ? "the whole cell" : target);
    const parts = [
      overridden.length && `Overridden, the cell writes nothing there: ${overridden.map(name).join(", ")}.`,
      maintenance.length && `In maintenance: ${maintenance.map(name).join(", ")}.`,
    ].filter(Boolean);
    this.taken.hidden = !parts.length;
    text(this.taken, parts.join(" "));
  }
}
