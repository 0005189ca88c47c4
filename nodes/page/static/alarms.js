// The alarm list (ISA-18.2): new ones first, then by priority, then by time.

import { ask, attribute, field, h, list, text } from "./dom.js";
import { priority } from "./marks.js";
import { STATES, cause, clock, reason } from "./words.js";

const WEIGHT = { __proto__: null, CRITICAL: 4, HIGH: 3, MEDIUM: 2, LOW: 1 };
const FRESH = new Set(["UNACKNOWLEDGED", "RETURNED_UNACKNOWLEDGED"]);
const SHOWN = new Set([...FRESH, "ACKNOWLEDGED"]);

export class AlarmList {
  constructor(root, page) {
    this.page = page;
    this.all = false;
    this.flood = h("p", { class: "note", hidden: true });
    this.rows = h("ul", { class: "rows" });
    this.empty = h("p", { class: "empty" });
    this.which = h("button", { type: "button", class: "plain", "aria-pressed": "false", onclick: () => this.#which() }, "Show past and shelved");
    root.append(h("section", { class: "card alarms", "aria-label": "Alarms" },
      h("header", {}, h("h2", {}, "Alarms"), h("span", { class: "grow" }), this.which),
      this.flood, this.empty, this.rows));
  }

  update(state, sections) {
    if (sections && !sections.has("alarms")) return;
    const { list: alarms = [], flooded = 0 } = state.alarms ?? {};
    const shown = alarms.filter((a) => this.all || SHOWN.has(a.state)).sort(order).slice(0, 200);
    this.flood.hidden = !flooded;
    text(this.flood, `Alarm flood: ${flooded} more are kept back. They are in the list, and come up when the flood is over.`);
    this.empty.hidden = shown.length > 0;
    text(this.empty, this.all ? "There has been no alarm yet." : "No alarm stands.");
    list(this.rows, shown, (a) => a.key, (a) => this.#row(a), (node, a) => this.#draw(node, a));
  }

  #which() {
    this.all = !this.all;
    attribute(this.which, "aria-pressed", this.all);
    text(this.which, this.all ? "Show standing ones only" : "Show past and shelved");
    this.update(this.page.state, null);
  }

  #row(alarm) {
    const { page } = this;
    const { key } = alarm;
    return h("li", { class: "alarm" },
      h("span", { class: "sign" }),
      h("div", { class: "what" },
        h("div", { class: "title" }, h("strong"), h("span", { class: "state" }), h("time", { class: "quiet number" })),
        h("p", { class: "message" }), h("p", { class: "quiet remark" })),
      h("div", { class: "buttons" },
        h("button", { type: "button", class: "why", onclick: () => page.drawer.open(key) }, "Why?"),
        page.button("operator", "Acknowledge", () => page.do(`${key} acknowledged`, "alarms/acknowledge", { key, reason: "" }), "ack primary"),
        page.button("operator", "Shelve ...", () => shelve(page, key), "shelve"),
        page.button("operator", "Comment ...", () => comment(page, key), "comment"),
        page.button("operator", "Unshelve", () => page.do(`${key} is back`, "alarms/shelve", { key, duration_s: 0, reason: "" }), "unshelve")));
  }

  #draw(node, alarm) {
    const fresh = FRESH.has(alarm.state);
    attribute(node, "data-state", alarm.state);
    attribute(node, "data-fresh", fresh || null);
    attribute(node, "data-priority", alarm.priority);
    const [sign, what, buttons] = node.children;
    if (sign.dataset.priority !== alarm.priority) {
      sign.dataset.priority = alarm.priority;
      sign.replaceChildren(priority(alarm.priority));
    }
    const [title, message, remark] = what.children;
    text(title.children[0], `${alarm.device}: ${cause(alarm.category, alarm.attack_type)}`);
    text(title.children[1], STATES[alarm.state] ?? alarm.state);
    text(title.children[2], clock(alarm.raised_ms) + (alarm.occurrences > 1 ? ` · ${alarm.occurrences} times` : ""));
    text(message, reason(alarm.message));
    message.title = alarm.message;
    const said = [alarm.user && `${alarm.user}${alarm.reason ? `: ${alarm.reason}` : ""}`,
      alarm.state === "SHELVED" && alarm.shelved_until_ms && `until ${clock(alarm.shelved_until_ms)}`];
    text(remark, said.filter(Boolean).join(" · "));
    buttons.querySelector(".ack").hidden = !fresh;
    buttons.querySelector(".shelve").hidden = !SHOWN.has(alarm.state);
    buttons.querySelector(".comment").hidden = fresh || !SHOWN.has(alarm.state);
    buttons.querySelector(".unshelve").hidden = alarm.state !== "SHELVED";
  }
}

function order(a, b) {
  return Number(FRESH.has(b.state)) - Number(FRESH.has(a.state)) || Number(b.active) - Number(a.active)
    || (WEIGHT[b.priority] ?? 0) - (WEIGHT[a.priority] ?? 0) || b.raised_ms - a.raised_ms;
}

export function shelve(page, key) {
  ask({
    title: `Shelve ${key}`,
    note: "It is put aside, and comes back by itself when the time is over or when it grows graver.",
    fields: [
      field("For", h("select", { name: "minutes" },
        [[10, "10 minutes"], [30, "30 minutes"], [60, "1 hour"], [240, "4 hours"], [480, "8 hours (a shift)"]].map(([m, words]) => h("option", { value: m }, words)))),
      field("Reason, for the audit log", h("input", { name: "reason", required: true, maxlength: 200, autocomplete: "off" })),
    ],
    button: "Shelve",
    act: ({ minutes, reason }) => page.api.post("alarms/shelve", { key, duration_s: 60 * minutes, reason }),
  });
}

function comment(page, key) {
  ask({
    title: `Comment on ${key}`,
    fields: [field("Comment", h("textarea", { name: "reason", required: true, maxlength: 500, rows: 3 }))],
    button: "Keep",
    act: ({ reason }) => page.api.post("alarms/comment", { key, reason }),
  });
}
