// The cell as a picture: every device with its state, in groups; a click shows its tags.

import { attribute, h, list, text } from "./dom.js";
import { icon, mark } from "./marks.js";
import { brief, decision, percent, span } from "./words.js";

const GROUPS = [
  ["plc", "Controllers"], ["process", "Process"], ["network", "On the network"], ["stranger", "Not of this cell"],
];

export class CellPicture {
  constructor(root, page) {
    this.page = page;
    this.count = h("span", { class: "quiet" });
    this.groups = h("div", { class: "groups" });
    this.empty = h("p", { class: "empty" }, "No device has been heard of yet. Devices show up when a PLC link connects or packets arrive.");
    root.append(h("section", { class: "card picture", "aria-label": "Cell" },
      h("header", {}, h("h2", {}, "Cell"), this.count, h("span", { class: "grow" }), legend()), this.empty, this.groups));
  }

  update(state, sections) {
    if (sections && !sections.has("devices") && !sections.has("device") && !sections.has("cell")) return;
    const devices = state.devices ?? [];
    this.empty.hidden = devices.length > 0;
    text(this.count, devices.length ? `${devices.length} devices` : "");
    const groups = GROUPS.map(([kind, title]) => ({ kind, title, devices: devices.filter((d) => group(d) === kind) }));
    this.groups.classList.toggle("many", devices.length > 16);
    list(this.groups, groups.filter((g) => g.devices.length), (g) => g.kind,
      (g) => h("div", { class: "group" }, h("h3", {}, g.title), h("ul", { class: "tiles" })),
      (node, g) => {
        node.style.setProperty("--wide", Math.min(g.devices.length, 4));
        list(node.lastChild, g.devices, (d) => d.name, (d) => this.#tile(d), (tile, d) => this.#draw(tile, d, state));
      });
  }

  #tile(device) {
    return h("li", {}, h("button", { type: "button", class: "tile", onclick: () => this.page.choose(device.name) },
      icon(group(device)), h("span", { class: "name" }, device.name), h("span", { class: "sign" }),
      h("span", { class: "word" }), h("span", { class: "more" })));
  }

  #draw(item, device, state) {
    const tile = item.firstChild;
    const known = decision(device);
    const old = state.cell && state.cell.verdict_age_s > 10;
    const [, , sign, word, more] = tile.children;
    if (tile.dataset.kind !== known.mark) {
      tile.dataset.kind = known.mark;
      sign.replaceChildren(mark(known.mark));
    }
    attribute(tile, "aria-pressed", this.page.device === device.name);
    tile.classList.toggle("old", Boolean(old));
    text(word, known.word);
    const odd = known.mark === "warn" || known.mark === "bad";
    text(more, odd ? brief(device.category, device.attack_type) : "");
    tile.title = odd ? `${device.explanation}\nP(attack) ${percent(device.probability)}, for ${span((state.cell.now_ms - device.since_ms) / 1000)}` : known.means;
  }
}

const group = (device) => (GROUPS.some(([kind]) => kind === device.kind) ? device.kind : "network");

function legend() {
  const entry = (kind, word) => h("span", {}, mark(kind), word);
  return h("span", { class: "legend", "aria-hidden": "true" }, entry("ok", "normal"), entry("warn", "suspicious"), entry("bad", "attack or fault"), entry("none", "not judged"));
}
