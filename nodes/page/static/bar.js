// The top bar: which cell, whether it may write, how many alarms, whether it is well, who is there.

import { ask, attribute, field, h, text } from "./dom.js";
import { clock } from "./words.js";

export class Bar {
  constructor(root, page) {
    this.page = page;
    this.name = h("strong", {}, "Cellwatch");
    this.armed = h("span", { class: "chip", id: "armed" });
    this.arm = page.button("engineer", "Arm ...", () => this.#arm());
    this.disarm = page.button("operator", "Disarm", () => page.do("Disarmed: nothing is written any more", "disarm", { reason: "from the page" }));
    this.alarms = h("span", { class: "chip", id: "alarm-count" });
    this.health = h("button", { class: "chip link", id: "health", type: "button", onclick: () => page.open("nodes") });
    this.time = h("time", { class: "number" });
    const { user, role, note } = page.session;
    const leave = h("button", { type: "button", class: "plain", onclick: () => this.#leave() }, "Log out");
    root.replaceChildren(...[
      this.name, this.alarms, this.health,
      h("span", { class: "grow" }),
      h("span", { class: "arming" }, this.armed, this.arm, this.disarm),
      h("span", { class: "who", title: note || null }, `${user} (${role})`), page.session.login ? leave : null,
      this.time,
      h("button", { type: "button", class: "plain", "aria-label": "Dark or light", title: "Dark or light", onclick: theme }, "◐")].filter(Boolean));
  }

  update(state, sections) {
    const { cell, links, alarms, nodes } = state;
    if (!cell) return;
    text(this.name, `Cellwatch · ${cell.name}`);
    if (document.title !== `${cell.name} · Cellwatch`) document.title = `${cell.name} · Cellwatch`;
    text(this.time, clock(cell.now_ms));
    if (!sections || sections.has("links")) this.#links(links ?? []);
    if (!sections || sections.has("alarms")) {
      const fresh = (alarms?.list ?? []).filter((a) => a.annunciated && /UNACK/.test(a.state)).length;
      const active = (alarms?.list ?? []).filter((a) => a.active && a.annunciated).length;
      text(this.alarms, `${active} active ${active === 1 ? "alarm" : "alarms"}${fresh ? `, ${fresh} new` : ""}`);
      attribute(this.alarms, "data-kind", fresh ? "new" : "quiet");
    }
    if (!sections || sections.has("nodes")) {
      const sick = (nodes ?? []).filter((n) => n.level !== "ok");
      text(this.health, sick.length ? `! ${sick.length === 1 ? sick[0].name : `${sick.length} nodes`}: ${sick.length === 1 ? sick[0].message : "not well"}` : "✓ All nodes well");
      attribute(this.health, "data-kind", sick.length ? "warn" : "quiet");
      this.health.title = sick.map((n) => `${n.name}: ${n.message}`).join("\n");
    }
  }

  #links(links) {
    const armed = links.filter((l) => l.armed);
    const words = !links.length ? "No PLC link" : armed.length === links.length ? "ARMED: writes into the plant"
      : armed.length ? `${armed.length} of ${links.length} links armed` : "Not armed: advises only";
    text(this.armed, words);
    attribute(this.armed, "data-kind", armed.length ? "armed" : "quiet");
    this.armed.title = links.map((l) => `${l.name}: ${l.armed === null ? "says nothing" : l.armed ? "armed" : "not armed"}`).join("\n");
    this.arm.hidden = !links.length || armed.length === links.length;
    this.disarm.hidden = !armed.length;
  }

  #arm() {
    ask({
      title: "Arm the cell?",
      note: "From then on the cell writes its answers to confirmed attacks and faults into the PLC. It holds until somebody disarms it or the cell is started anew.",
      fields: [field("Reason, for the audit log", h("input", { name: "reason", required: true, maxlength: 200, autocomplete: "off" }))],
      button: "Arm", danger: true,
      act: ({ reason }) => this.page.api.post("arm", { reason }),
    });
  }

  async #leave() {
    await this.page.api.post("logout").catch(() => {});
    location.reload();
  }
}

function theme() {
  const dark = document.documentElement.dataset.theme !== "dark";
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  try {
    localStorage.setItem("theme", dark ? "dark" : "light");
  } catch {
    // not kept
  }
  dispatchEvent(new Event("themechange"));
}
