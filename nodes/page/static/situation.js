// One line at the top: what matters now, and what was done about it.

import { attribute, h, text } from "./dom.js";
import { answers, cause, clock, decision, outcome } from "./words.js";
import { mark } from "./marks.js";

const WEIGHT = { __proto__: null, CRITICAL: 4, HIGH: 3, MEDIUM: 2, LOW: 1 };

export class Situation {
  constructor(root, page) {
    this.page = page;
    this.sign = h("span");
    this.headline = h("strong");
    this.detail = h("span", { class: "detail" });
    this.why = h("button", { type: "button", class: "primary", hidden: true }, "Why?"); // no alarm is known yet
    this.why.addEventListener("click", () => page.drawer.open(this.key));
    this.root = h("section", { class: "situation card", "aria-label": "Situation", "aria-live": "polite" },
      this.sign, h("div", { class: "grow" }, this.headline, this.detail), this.why);
    root.append(this.root);
  }

  update(state) {
    const { cell, devices = [], alarms, commands = [] } = state;
    if (!cell) return;
    const standing = (alarms?.list ?? []).filter((a) => a.annunciated && a.active);
    const gravest = standing.sort((a, b) => (WEIGHT[b.priority] ?? 0) - (WEIGHT[a.priority] ?? 0) || b.raised_ms - a.raised_ms)[0];
    const [kind, headline, detail] = gravest ? this.#trouble(gravest, standing.length, commands) : calm(cell, devices, alarms?.list ?? []);
    if (this.kind !== kind) this.sign.replaceChildren(mark(kind));
    this.kind = kind;
    attribute(this.root, "data-kind", kind);
    text(this.headline, headline);
    text(this.detail, detail);
    this.key = gravest?.key;
    this.why.hidden = !gravest;
  }

  #trouble(alarm, count, commands) {
    const answer = commands.find((c) => answers(c, alarm));
    const done = answer ? `Answer: ${answer.tag} = ${answer.value}. ${outcome(answer).words}.` : "No command yet.";
    const more = count > 1 ? ` ${count - 1} more below.` : "";
    const kind = alarm.priority === "LOW" || alarm.priority === "MEDIUM" ? "warn" : "bad";
    return [kind, `${alarm.device}: ${cause(alarm.category, alarm.attack_type)}`, `since ${clock(alarm.raised_ms)}. ${done}${more}`];
  }
}

function calm(cell, devices, alarms) {
  if (cell.learning) return ["none", "Learning what is normal", `Nothing is judged by rules until then (${cell.learning}).`];
  if (!devices.length) return ["none", "Waiting for the first window", "No device has been heard of yet."];
  if (cell.verdict_age_s === null) return ["none", "Waiting for the first verdict", "The cell judges every window of every device."];
  if (cell.verdict_age_s > 10) return ["none", "No verdicts", `The last one came ${Math.round(cell.verdict_age_s)} s ago; see Nodes and losses.`];
  const odd = devices.filter((d) => d.decision === "SUSPICIOUS" || d.decision === "BLOCK");
  if (odd.length) {
    const quiet = odd.some((d) => alarms.some((a) => a.active && a.device === d.name));
    return ["warn", odd.length === 1 ? `${odd[0].name}: ${decision(odd[0]).word}` : `${odd.length} devices are not normal`,
      quiet ? "Its alarm is shelved, suppressed or out of service." : "No alarm yet."];
  }
  const waiting = alarms.filter((a) => a.state === "RETURNED_UNACKNOWLEDGED").length;
  const rest = waiting ? `${waiting} past ${waiting === 1 ? "alarm waits" : "alarms wait"} to be acknowledged.` : "No alarm stands.";
  return ["ok", "All normal", `${devices.length} devices watched. ${rest}`];
}
