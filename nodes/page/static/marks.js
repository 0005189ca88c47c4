// Signs that differ in shape as well as in colour.

import { h, s } from "./dom.js";
import { PRIORITIES } from "./words.js";

const SHAPES = { __proto__: null,
  ok: () => s("circle", { cx: 8, cy: 8, r: 4 }),
  none: () => s("circle", { cx: 8, cy: 8, r: 4.5, "stroke-dasharray": "2 2" }),
  warn: () => s("path", { d: "M8 1.5 15 14H1z" }),
  bad: () => s("path", { d: "M8 .8 15.2 8 8 15.2.8 8z" }),
};

/** State of a device: "none" | "ok" | "warn" | "bad". */
export function mark(kind) {
  return s("svg", { viewBox: "0 0 16 16", class: `mark ${kind}`, "aria-hidden": "true" }, SHAPES[kind]());
}

const PRIORITY_SHAPES = { __proto__: null,
  CRITICAL: "M1 1h18v18H1z", HIGH: "M10 1 19.5 19H.5z", MEDIUM: "M10 0 20 10 10 20 0 10z", LOW: "M10 1a9 9 0 1 0 .01 0z",
};

/** Priority of an alarm: shape, colour and number (ISA-18.2 asks for two of them). */
export function priority(name) {
  const [digit, word] = PRIORITIES[name] ?? ["–", "No priority"];
  return h("span", { class: `priority ${name.toLowerCase()}`, title: `Priority ${digit}: ${word.toLowerCase()}` },
    s("svg", { viewBox: "0 0 20 20", "aria-hidden": "true" }, s("path", { d: PRIORITY_SHAPES[name] ?? PRIORITY_SHAPES.LOW })),
    h("b", {}, digit), h("span", { class: "unseen" }, `Priority ${word}`));
}

const ICONS = { __proto__: null,
  plc: "M3 2h14v16H3zM6 5h8M6 8.5h3M6 12h3M6 15h3M12 9v6",
  process: "M4 2h12v13a3 3 0 0 1-3 3H7a3 3 0 0 1-3-3zM4 9c2-2 4 2 6 0s4 2 6 0",
  network: "M2 3h16v10H2zM7 17h6M10 13v4",
  stranger: "M10 18a8 8 0 1 0-.01 0zM7.5 8a2.5 2.5 0 1 1 2.5 2.6V12M10 14.6v.3",
};

export function icon(kind) {
  return s("svg", { viewBox: "0 0 20 20", class: "icon", "aria-hidden": "true" }, s("path", { d: ICONS[kind] ?? ICONS.network }));
}
