// Trends of the tags of the chosen device, with its verdicts shaded on them.

import { Chart } from "./chart.js";
import { attribute, h, list, text } from "./dom.js";
import { clock, number, unit } from "./words.js";

const SPANS = [[60, "1 min"], [180, "3 min"], [600, "10 min"], [3600, "1 h"], [28800, "8 h"]];
const LIVE_S = 600; // what the page holds itself; the rest is read from the record
const RECORD_MS = 30_000;
const POINTS = 300;
const MOST = 6; // charts at a time
const EVERY_MS = 1000;
const SWITCHES = /(_MODE|_SAFE|_LOCK|_SP|_CV)$/;

export class Trends {
  #curves = new Map(); // tag -> {times, low, high}
  #bands = [];
  #asked = "";
  #read_ms = 0; // when the record was read
  #busy = false;

  constructor(root, page) {
    this.page = page;
    this.span = 180;
    this.picked = new Map(); // device -> tags chosen by hand
    this.title = h("h2", {}, "Trends");
    this.device = h("select", { "aria-label": "Device", onchange: () => page.choose(this.device.value) });
    this.spans = h("span", { class: "choice", role: "group", "aria-label": "Length" }, SPANS.map(([seconds, words]) =>
      h("button", { type: "button", "aria-pressed": seconds === this.span, onclick: (e) => this.#length(seconds, e.target) }, words)));
    this.pick = h("details", { class: "pick" }, h("summary", {}, "Tags"), h("div", { class: "checks" }));
    this.charts = h("div", { class: "charts" });
    this.empty = h("p", { class: "empty" });
    this.note = h("p", { class: "note", hidden: true });
    root.append(h("section", { class: "card trends", "aria-label": "Trends" },
      h("header", {}, this.title, this.device, this.pick, h("span", { class: "grow" }),
        this.spans),
      this.empty, this.note, this.charts));
    document.addEventListener("click", (event) => {
      if (!this.pick.contains(event.target)) this.pick.open = false;
    });
    addEventListener("themechange", () => this.#draw());
    setInterval(() => this.#fetch(), EVERY_MS);
  }

  update(state, sections) {
    const tags = state.tags ?? [];
    if (!sections || sections.has("tags") || sections.has("device") || sections.has("devices")) this.#choose(state, tags);
    if (!sections || sections.has("values")) this.#values(state);
  }

  #choose(state, tags) {
    const owners = new Set(tags.map((t) => t.device));
    const devices = (state.devices ?? []).filter((d) => owners.has(d.name)).map((d) => d.name);
    const others = (state.devices ?? []).map((d) => d.name).filter((d) => !owners.has(d));
    if (!this.page.device && devices.length) this.page.device = devices[0];
    const names = [...devices, ...others];
    if (this.device.options.length !== names.length || names.some((n, i) => this.device.options[i].value !== n)) {
      this.device.replaceChildren(...names.map((n) => h("option", { value: n }, n)));
    }
    if (this.page.device) this.device.value = this.page.device;
    const own = tags.filter((t) => t.device === this.page.device);
    const shown = this.#shown(own);
    this.pick.hidden = own.length <= 1;
    list(this.pick.lastChild, own, (t) => t.name, (t) => h("label", {},
      h("input", { type: "checkbox", onchange: () => this.#toggle(t.name) }), t.name), (node, t) => {
      node.firstChild.checked = shown.includes(t);
      node.firstChild.disabled = !shown.includes(t) && shown.length >= MOST;
    });
    this.empty.hidden = shown.length > 0;
    text(this.empty, !tags.length ? "No tag has been heard of yet: no PLC is connected."
      : own.length ? "No tag is chosen." : `${this.page.device} has no tags: its traffic is judged, not its values.`);
    list(this.charts, shown, (t) => t.name, (t) => this.#chart(t), (node, t) => {
      node.tag = t;
      text(node.querySelector(".unit"), unit(t.unit));
    });
    this.#fetch();
  }

  #shown(own) {
    const picked = this.picked.get(this.page.device);
    if (picked) return own.filter((t) => picked.has(t.name));
    const measured = own.filter((t) => !SWITCHES.test(t.name));
    return (measured.length ? measured : own).slice(0, MOST);
  }

  #toggle(name) {
    const own = (this.page.state.tags ?? []).filter((t) => t.device === this.page.device);
    const picked = this.picked.get(this.page.device) ?? new Set(this.#shown(own).map((t) => t.name));
    if (!picked.delete(name)) picked.add(name);
    this.picked.set(this.page.device, picked);
    this.#choose(this.page.state, this.page.state.tags ?? []);
  }

  #chart(tag) {
    const canvas = h("canvas", { role: "img", "aria-label": `Trend of ${tag.name}` });
    const node = h("figure", { class: "chart" },
      h("figcaption", {}, h("strong", {}, tag.name), h("span", { class: "value number" }), h("span", { class: "unit" }), h("span", { class: "reading number" })),
      canvas);
    node.chart = new Chart(canvas);
    node.tag = tag;
    canvas.addEventListener("pointermove", (event) => this.#cursor(node.chart.time(event.offsetX)));
    canvas.addEventListener("pointerleave", () => this.#cursor(null));
    return node;
  }

  #cursor(time) {
    this.cursor = time;
    this.#draw();
  }

  #length(seconds, button) {
    this.span = seconds;
    for (const other of this.spans.children) attribute(other, "aria-pressed", other === button);
    this.#fetch();
  }

  #values(state) {
    const at = new Map((state.tags ?? []).map((t, i) => [t.name, i]));
    for (const node of this.charts.children) {
      const [value, quality, age] = state.values?.[at.get(node.tag.name)] ?? [null, 0, null];
      text(node.querySelector(".value"), number(value));
      const doubt = quality === 3 ? "bad quality" : quality === 2 ? "uncertain" : age === null ? "no value yet" : age > 60 ? "unchanged for a while" : "";
      attribute(node, "data-doubt", doubt || null);
      attribute(node.querySelector(".unit"), "data-doubt", doubt || null);
      node.title = doubt;
    }
  }

  /** All of the span for what is new to the page, else the last seconds. */
  async #fetch() {
    const tags = [...this.charts.children].map((node) => node.tag.name);
    if (!tags.length || this.#busy || document.hidden || this.page.view !== "overview") return;
    const question = `${this.span} ${tags.join(" ")}`;
    const all = question !== this.#asked;
    if (this.span > LIVE_S && !all && performance.now() - this.#read_ms < RECORD_MS) return this.#draw();
    this.#busy = true;
    try {
      const [curves, bands] = await Promise.all([
        this.span > LIVE_S ? this.#record(tags) : this.#live(tags, all),
        this.page.api.get(`bands?${new URLSearchParams({ devices: this.page.device, span_s: this.span })}`),
      ]);
      if (all) this.#curves.clear();
      for (const [tag, curve] of Object.entries(curves)) this.#curves.set(tag, joined(this.#curves.get(tag), curve, this.span));
      this.#bands = bands[this.page.device] ?? [];
      this.#asked = question;
      this.note.hidden = true;
      this.#draw();
    } catch (error) {
      this.#asked = ""; // then all is asked for anew
      this.note.hidden = !error.status; // the page says elsewhere that the line is down
      text(this.note, error.message);
    }
    this.#busy = false;
  }

  #live(tags, all) {
    const span = all ? this.span : Math.min(this.span, 10);
    const points = Math.ceil((span / this.span) * POINTS);
    return this.page.api.get(`trend?${new URLSearchParams([...tags.map((t) => ["tags", t]), ["span_s", span], ["points", points]])}`);
  }

  /** One after the other: reading the record is work. */
  async #record(tags) {
    const curves = {};
    const end = (this.page.state.cell?.now_ms ?? Date.now()) / 1000;
    for (const tag of tags) {
      const query = new URLSearchParams({ measurement: "tags", column: "value", where: `tag=${tag}`, start_s: end - this.span, end_s: end, points: POINTS });
      const { time_s: times, low, high } = await this.page.api.get(`history?${query}`);
      curves[tag] = { times, low, high };
    }
    this.#curves.clear();
    this.#read_ms = performance.now();
    return curves;
  }

  #draw() {
    const to = (this.page.state.cell?.now_ms ?? Date.now()) / 1000;
    for (const node of this.charts.children) {
      const curve = this.#curves.get(node.tag.name) ?? { times: [], low: [], high: [] };
      const from = Math.max(to - this.span, Math.min(curve.times[curve.low.findIndex((v) => v !== null)] ?? to, to - 30)); // no empty past
      node.chart.show(curve, this.#bands, from, to, this.cursor ?? null, node.tag);
      const read = this.cursor ? node.chart.at(this.cursor) : null;
      text(node.querySelector(".reading"), read ? `${clock(read.time * 1000)}  ${number((read.low + read.high) / 2)}` : "");
    }
  }
}

/** A curve with its newest part replaced, and what is older than the span left out. */
function joined(old, part, span) {
  const times = part.times;
  if (!old || !times.length) return part;
  const from = times[0];
  const until = times.at(-1) - span;
  const keep = [];
  for (let i = 0; i < old.times.length; i++) if (old.times[i] < from - 1e-6 && old.times[i] >= until) keep.push(i);
  const join = (name) => [...keep.map((i) => old[name][i]), ...part[name]];
  return { times: join("times"), low: join("low"), high: join("high") };
}
