// The page: who is there, which view is open, and what each view hears of the cell.

import { AlarmList } from "./alarms.js";
import { Api } from "./rest.js";
import { Bar } from "./bar.js";
import { CellPicture } from "./cell_picture.js";
import { Commands } from "./commands.js";
import { attribute, h, toast } from "./dom.js";
import { Drawer } from "./drawer.js";
import { Feed } from "./feed.js";
import { Labelling } from "./labelling.js";
import { login } from "./login.js";
import { Models } from "./models.js";
import { Nodes } from "./nodes.js";
import { Situation } from "./situation.js";
import { Trends } from "./trends.js";
import { span } from "./words.js";

const AGAIN_MS = 3000;
const ROLES = ["viewer", "operator", "engineer"];
const VIEWS = [
  ["overview", "Overview", [Situation, CellPicture, AlarmList, Trends, Commands]],
  ["models", "Models and drift", [Models]],
  ["nodes", "Nodes and losses", [Nodes]],
  ["labels", "Labels", [Labelling]],
];

class Page {
  api = new Api();
  state = {};
  session = null;
  device = null; // chosen in the picture: its tags are drawn
  #views = [];
  #broken = false; // a part has failed, and it was said

  async start() {
    this.api.onLost = () => this.signIn();
    this.feed = new Feed({
      changed: (state, sections) => this.#changed(state, sections),
      silent: (seconds) => this.#silent(seconds),
      refused: () => this.signIn(),
      displaced: () => this.#displaced(),
    });
    await this.signIn();
  }

  /** Ask who we are; a login where there is none. */
  async signIn() {
    try {
      this.session = await this.api.get("session");
    } catch (error) {
      if (error.status !== 401) {
        this.#silent(1);
        return setTimeout(() => this.signIn(), AGAIN_MS);
      }
      this.session = null;
      this.feed.end();
      return login(this);
    }
    this.api.csrf = this.session.csrf;
    this.#build();
    this.feed.start();
  }

  /** Whether the user may do what needs `role`. */
  may(role) {
    return ROLES.indexOf(this.session?.role) >= ROLES.indexOf(role);
  }

  /** A button for something that needs a role: without it the button is there, disabled, and says why. */
  button(role, label, onclick, kind = "") {
    const allowed = this.may(role);
    return h("button", {
      type: "button", class: kind, disabled: !allowed, title: allowed ? null : `Needs the role ${role}`, onclick,
    }, label);
  }

  /** Do something in the cell, and say so, or why it could not be done. */
  async do(what, path, body) {
    try {
      const said = await this.api.post(path, body);
      toast([what, ...(said?.warnings ?? [])].join(". "), said?.warnings?.length ? "error" : "done");
      return said;
    } catch (error) {
      toast(error.message, "error");
      return null;
    }
  }

  choose(device) {
    this.device = device;
    this.#changed(this.state, new Set(["device"]));
  }

  open(view) {
    for (const [name] of VIEWS) {
      document.getElementById(`view-${name}`).hidden = name !== view;
      attribute(document.getElementById(`tab-${name}`), "aria-selected", name === view);
      document.getElementById(`tab-${name}`).tabIndex = name === view ? 0 : -1;
    }
    this.view = view;
    this.#changed(this.state, new Set(["view"]));
  }

  #build() {
    if (this.#views.length) return;
    const main = document.getElementById("main");
    const tabs = document.getElementById("tabs");
    main.replaceChildren();
    tabs.replaceChildren();
    tabs.addEventListener("keydown", (event) => this.#walk(event));
    this.#views = [[null, new Bar(document.getElementById("bar"), this)]];
    for (const [name, title, parts] of VIEWS) {
      tabs.append(h("button", {
        id: `tab-${name}`, role: "tab", type: "button", "aria-controls": `view-${name}`, onclick: () => this.open(name),
      }, title));
      const root = h("div", { id: `view-${name}`, class: `view ${name}`, role: "tabpanel", "aria-labelledby": `tab-${name}` });
      main.append(root);
      for (const Part of parts) this.#views.push([name, new Part(root, this)]);
    }
    this.drawer = new Drawer(document.getElementById("drawer"), this);
    this.#views.push([null, this.drawer]);
    this.open("overview");
  }

  #walk(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = VIEWS.findIndex(([name]) => name === this.view);
    const [next] = VIEWS[(at + step + VIEWS.length) % VIEWS.length];
    this.open(next);
    document.getElementById(`tab-${next}`).focus();
  }

  #changed(state, sections) {
    this.state = state;
    for (const [view, part] of this.#views) {
      if (view !== null && view !== this.view) continue;
      try {
        part.update(state, sections.has("view") ? null : sections);
      } catch (error) {
        console.error(error);
        if (!this.#broken) toast(`A part of the page failed and may be out of date: reload it. (${error.message})`, "error");
        this.#broken = true;
      }
    }
  }

  #displaced() {
    this.feed.end();
    const note = document.getElementById("stale");
    note.hidden = false;
    note.replaceChildren("The page is open in more than four windows, so this one has stopped. ",
      h("button", { type: "button", onclick: () => location.reload() }, "Go on here"));
    document.body.classList.add("old");
  }

  /** The server may be another one: its token is. */
  async #resume() {
    const session = await this.api.get("session").catch(() => null);
    if (session) this.api.csrf = session.csrf;
  }

  /** Grey the page and say so where nothing is heard any more: what it shows is old. */
  #silent(seconds) {
    const note = document.getElementById("stale");
    note.hidden = seconds === 0;
    document.body.classList.toggle("old", seconds !== 0);
    if (this.lost && !seconds) this.#resume();
    this.lost = seconds > 0;
    if (seconds) {
      note.textContent = `No connection to the cell for ${span(seconds)}. What you see is old. Trying again ...`;
    }
  }
}

new Page().start();
