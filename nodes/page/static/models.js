// Which models are in service, whether they still fit, and what is on its way to replace them.

import { ask, field, h } from "./dom.js";
import { STAGES, clock, number } from "./words.js";

const STATES = { __proto__: null,
  CALM: "The models fit", WARNING: "Something moves; nothing is done about it", DRIFT: "The models no longer fit",
};
const LEVELS = { __proto__: null, L1: "Attack or not", L2: "Category", L3: "Type" };
const SCENARIOS = { __proto__: null, A: "false alarms rise", B: "attacks are missed" };
const MOVES = {
  promote: ["Promote ...", "Promote to the next stage?", ["SHADOW", "CANARY"]],
  hold: ["Hold ...", "Hold it in this stage?", ["SHADOW", "CANARY", "ACTIVE"]],
  release: ["Release ...", "Let it go on by itself again?", ["SHADOW", "CANARY", "ACTIVE"]],
  reject: ["Reject ...", "Reject the candidate?", ["SHADOW", "CANARY"]],
  roll_back: ["Roll back ...", "Go back to the version before?", ["ACTIVE"]],
};

export class Models {
  constructor(root, page) {
    this.page = page;
    this.service = card(root, "Models in service");
    this.drift = card(root, "Do they still fit?");
    this.candidate = card(root, "Candidate");
  }

  update(state, sections) {
    if (!sections || sections.has("models")) this.#service(state.models ?? []);
    if (!sections || sections.has("drift")) {
      this.#drift(state.drift?.event);
      this.#candidate(state.drift?.candidate);
    }
  }

  #service(models) {
    this.service.replaceChildren(models.length ? h("div", { class: "scroll" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Node", "Version", "Models", "Failed"].map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, models.map((m) => h("tr", {}, h("td", {}, m.node), h("td", { class: "number" }, m.version || "–"),
        h("td", {}, served(m.detectors)),
        h("td", {}, m.failed.length ? m.failed.join(", ") : "none", m.detail && h("p", { class: "quiet" }, m.detail))))))) : none("No node has said yet which models it serves."));
  }

  #drift(event) {
    if (!event) return this.drift.replaceChildren(none("The watch over the models has said nothing yet."));
    this.drift.replaceChildren(...clean(
      h("p", { class: "verdict", "data-kind": { __proto__: null, CALM: "ok", WARNING: "warn", DRIFT: "bad" }[event.state] },
        h("strong", {}, event.state === "CALM" && !event.windows ? "Nothing can be said yet" : STATES[event.state] ?? event.state), event.scenario && `: ${SCENARIOS[event.scenario]}`, event.since_ms > 0 && `, since about ${clock(event.since_ms)}`),
      h("p", { class: "quiet" }, `Watched: ${number(event.windows, 9)} windows, ${number(event.labelled, 9)} labelled samples${event.held_back ? `, ${event.held_back} labels held back because they contradict others` : ""}.`),
      event.reasons.length > 0 && h("p", {}, `Because of: ${event.reasons.join("; ")}`),
      event.figures.length > 0 && h("div", { class: "scroll" }, h("table", {},
        h("thead", {}, h("tr", {}, ["Figure", "Now", "Limit", "Where it moved most"].map((t) => h("th", { scope: "col" }, t)))),
        h("tbody", {}, event.figures.map((f) => h("tr", { class: f.limit !== null && f.value > f.limit ? "over" : "" },
          h("td", {}, f.monitor), h("td", { class: "number" }, number(f.value)), h("td", { class: "number" }, f.limit === null ? "not known yet" : number(f.limit)), h("td", {}, f.place || "–"))))))));
  }

  #candidate(state) {
    if (!state || state.stage === "NONE" || !state.version) {
      return this.candidate.replaceChildren(none("There is none. One is made when the models no longer fit, if the cell file allows it (drift: retrain), or by cellwatch drift retrain."));
    }
    const f = state.figures;
    const pairs = [
      ["Labelled samples", f.labelled, f.labelled], ["Wrong of these", f.errors, f.parent_errors],
      ["False alarms", f.false_alarms, f.parent_false_alarms],
      ["Mean time to the verdict, ms", f.latency_s === null ? null : 1000 * f.latency_s, f.parent_latency_s === null ? null : 1000 * f.parent_latency_s],
    ];
    const moves = Object.entries(MOVES).filter(([name, [, , stages]]) => stages.includes(state.stage) && (name !== "hold" || !state.held) && (name !== "release" || state.held));
    this.candidate.replaceChildren(...clean(
      h("p", {}, h("strong", {}, STAGES[state.stage] ?? state.stage), state.held && h("span", { class: "tagged" }, "held by an operator"), ` since ${clock(state.since_ms)}`),
      h("p", {}, `Version ${state.version}, to replace ${state.parent || "none"}`, state.scenario && ` (made because ${SCENARIOS[state.scenario]})`, state.devices.length > 0 && `; decides for ${state.devices.join(", ")}`),
      state.reason && h("p", { class: "quiet" }, state.reason),
      h("div", { class: "scroll" }, h("table", {},
        h("thead", {}, h("tr", {}, [`In ${number(f.windows, 9)} windows of this stage`, "Candidate", "In service"].map((t) => h("th", { scope: "col" }, t)))),
        h("tbody", {}, pairs.map(([name, a, b]) => h("tr", {}, h("td", {}, name), h("td", { class: "number" }, number(a)), h("td", { class: "number" }, number(b))))))),
      moves.length > 0 && h("div", { class: "buttons" }, moves.map(([name, [words, question]]) => this.page.button("engineer", words, () => this.#move(name, words, question, state.version), name === "promote" ? "primary" : "")))));
  }

  #move(action, words, title, version) {
    ask({
      title, note: `Version ${version}.`,
      fields: [field("Reason, for the audit log", h("input", { name: "reason", required: true, maxlength: 200, autocomplete: "off" }))],
      button: words.replace(" ...", ""), danger: action === "roll_back" || action === "reject",
      act: ({ reason }) => this.page.api.post("candidate", { action, reason }),
    });
  }
}

/** "L1/XGB", "L2/XGB" -> a line for each question. */
function served(detectors) {
  if (!detectors.length) return "none";
  const lines = new Map();
  for (const name of detectors) {
    const [level, model] = name.includes("/") ? name.split("/", 2) : ["", name];
    lines.set(level, [...(lines.get(level) ?? []), model]);
  }
  return [...lines].map(([level, models]) => h("p", {}, LEVELS[level] ? `${LEVELS[level]}: ` : "", models.join(", ")));
}

function card(root, title) {
  const body = h("div", { class: "body" });
  root.append(h("section", { class: "card", "aria-label": title }, h("header", {}, h("h2", {}, title)), body));
  return body;
}

const none = (words) => h("p", { class: "empty" }, words);
const clean = (nodes, ...rest) => [nodes, ...rest].flat().filter(Boolean);
