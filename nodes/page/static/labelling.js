// Tell the cell what a stretch of time really was: the models learn from it, and are judged by it.

import { attribute, field, h, list, text, toast } from "./dom.js";
import { DECISIONS, clock } from "./words.js";

const CLASSES = [
  ["benign", "Normal: nothing was wrong"], ["attack", "An attack, of whatever kind"], ["fault", "A process fault"],
  ["dos", "Denial of service"], ["ddos", "Distributed denial of service"], ["recon", "Reconnaissance (scans)"],
  ["mitm", "Man in the middle"], ["bruteforce", "Password guessing"], ["web", "Web attack"], ["malware", "Malware"],
  ["ics", "Attack on the process"],
];
const SPAN_S = 600;
const APART_S = 5; // between two incidents
const EVERY_MS = 2000;

export class Labelling {
  constructor(root, page) {
    this.page = page;
    this.lanes = h("div", { class: "lanes" });
    this.devices = h("div", { class: "checks" });
    this.from = h("input", { type: "datetime-local", step: 1, name: "from", required: true });
    this.to = h("input", { type: "datetime-local", step: 1, name: "to", required: true });
    this.label = h("select", { name: "label", required: true }, h("option", { value: "" }, "Choose ..."), CLASSES.map(([value, words]) => h("option", { value }, words)));
    this.type = h("input", { name: "type", maxlength: 60, placeholder: "such as port-scan", autocomplete: "off", pattern: "[A-Za-z0-9_\\-]*" });
    this.comment = h("input", { name: "comment", maxlength: 200, autocomplete: "off" });
    this.said = h("p", { role: "status", class: "quiet" });
    const wide = field("Comment", this.comment);
    wide.classList.add("wide");
    const go = page.button("operator", "Label", null, "primary");
    go.type = "submit";
    const form = h("form", { class: "labelling" },
      field("It was", this.label), field("Type, if known", this.type),
      field("From", this.from), field("To", this.to),
      h("fieldset", {}, h("legend", {}, "Devices (none ticked: all)"), this.devices),
      wide,
      h("div", { class: "buttons" }, go), this.said);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit(form);
    });
    root.append(
      h("section", { class: "card", "aria-label": "The last ten minutes" },
        h("header", {}, h("h2", {}, "The last ten minutes"), h("span", { class: "quiet" }, "Choose a coloured stretch, or give the times by hand.")), this.lanes),
      h("section", { class: "card", "aria-label": "Label" }, h("header", {}, h("h2", {}, "What was it?")), form));
    setInterval(() => this.#fetch(), EVERY_MS);
  }

  update(state, sections) {
    if (this.page.labelling) {
      this.#take(this.page.labelling);
      this.page.labelling = null;
    }
    if (!sections) this.#fetch();
    if (sections && !sections.has("devices")) return;
    list(this.devices, state.devices ?? [], (d) => d.name, (d) => h("label", {}, h("input", { type: "checkbox", value: d.name }), d.name));
    if (this.wanted) this.#tick(this.wanted);
    if (!this.from.value) this.#times(Date.now() - 60_000, Date.now());
  }

  #take({ device, label, start_ms: start, end_ms: end }) {
    this.label.value = CLASSES.some(([value]) => value === label) ? label : "";
    this.wanted = device;
    this.#tick(device);
    if (start) this.#times(start, end || Date.now());
    this.label.focus();
  }

  #tick(device) {
    const boxes = [...this.devices.querySelectorAll("input")];
    if (!boxes.length) return;
    for (const box of boxes) box.checked = box.value === device;
    this.wanted = null;
  }

  #times(start, end) {
    this.from.value = local(Math.floor(start / 1000) * 1000);
    this.to.value = local(Math.ceil(end / 1000) * 1000);
  }

  async #fetch() {
    if (this.page.view !== "labels" || document.hidden) return;
    const bands = await this.page.api.get(`bands?span_s=${SPAN_S}`).catch(() => null);
    if (bands) this.#draw(bands);
  }

  #draw(bands) {
    const to = (this.page.state.cell?.now_ms ?? Date.now()) / 1000;
    const lanes = Object.entries(bands).filter(([, stretches]) => stretches.length);
    const quiet = Object.keys(bands).length - lanes.length;
    const rows = [...lanes, ...(quiet ? [["", []]] : [])];
    list(this.lanes, rows, ([name]) => name || "*", ([name]) => h("div", { class: "lane" }, h("span", { class: "name" }, name), h("div", { class: "strip" })),
      (node, [name, stretches]) => {
        const strip = node.lastChild;
        if (!name) return text(node, lanes.length ? `${quiet} other ${quiet === 1 ? "device" : "devices"}: normal all the time` : "Every device was normal all the time.");
        list(strip, joined(stretches), ([start]) => start, () => h("button", { type: "button", class: "stretch" }),
          (button, [start, end, decision]) => {
            attribute(button, "data-kind", decision);
            const left = Math.max(0, 1 - (to - start) / SPAN_S);
            button.style.left = `${100 * left}%`;
            button.style.width = `${100 * Math.max(0, 1 - (to - end) / SPAN_S - left)}%`;
            const words = `${name}, ${DECISIONS[decision].word.toLowerCase()} from ${clock(start * 1000)} to ${clock(end * 1000)}`;
            attribute(button, "aria-label", words);
            button.title = words;
            button.onclick = () => this.#take({ device: name, label: this.label.value, start_ms: start * 1000, end_ms: end * 1000 });
          });
      });
  }

  async #submit(form) {
    const [start, end] = [new Date(this.from.value), new Date(this.to.value)].map((d) => d.getTime() / 1000);
    if (!(end > start)) return toast("The end must come after the begin.", "error");
    const type = this.type.value.trim();
    const label = type && !["benign", "attack"].includes(this.label.value) ? `${this.label.value}/${type}` : this.label.value;
    const devices = [...this.devices.querySelectorAll("input:checked")].map((box) => box.value);
    const said = await this.page.do("Labelled", "labels", { label, start_s: start, end_s: end, devices, comment: this.comment.value });
    if (!said) return;
    text(this.said, `Labelled ${said.accepted} samples (a window of a device)${said.expired ? `; ${said.expired} are not known or no longer kept` : ""}${said.held_back ? `; ${said.held_back} held back: they contradict others` : ""}.`);
    form.scrollIntoView({ block: "nearest" });
  }
}

/** Stretches that follow each other closely are one, as grave as the gravest. */
function joined(stretches) {
  const found = [];
  for (const [start, end, decision] of stretches) {
    const last = found.at(-1);
    if (!last || start - last[1] > APART_S) found.push([start, end, decision]);
    else found[found.length - 1] = [last[0], end, last[2] === "BLOCK" ? last[2] : decision];
  }
  return found;
}

/** Local time as an input wants it. */
function local(ms) {
  const at = new Date(ms);
  return new Date(ms - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
