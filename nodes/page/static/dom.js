// Elements without a framework. Texts become text nodes: nothing that a plant or a network says is ever markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || (value === false && !name.startsWith("aria-"))) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, v] of Object.entries(value)) node.style.setProperty(key, v);
    else if (name === "value") node.value = value;
    else node.setAttribute(name, value === true && !name.startsWith("aria-") ? "" : value);
  }
  node.append(...children.flat(9).filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

/** An element: `h("button", {class: "plain", onclick: f}, "Text")`. */
export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);

/** The same for SVG. */
export const s = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

/** Set the text only where it differs, so that a selection and a screen reader are left in peace. */
export function text(node, value) {
  if (node.textContent !== value) node.textContent = value;
}

export function attribute(node, name, value) {
  if (value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

/**
 * Children of `parent` become one node for each item, in order. Nodes are kept by key, so that focus,
 * scrolling and open menus survive; `make(item)` returns a node, `update(node, item)` brings it up to date.
 */
export function list(parent, items, key, make, update = () => {}) {
  const old = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const name = String(key(item));
    let node = old.get(name);
    old.delete(name);
    if (!node) {
      node = make(item);
      node.dataset.key = name;
    }
    update(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const node of old.values()) node.remove();
}

/** Say what was done, or why not; an error stays until it is closed. */
export function toast(message, kind = "done") {
  const node = h("div", { class: `toast ${kind}`, role: kind === "error" ? "alert" : undefined },
    h("span", {}, message),
    h("button", { class: "plain", "aria-label": "Close", onclick: () => node.remove() }, "×"));
  document.getElementById("toasts").append(node);
  if (kind !== "error") setTimeout(() => node.remove(), 5000);
}

/**
 * A question in a dialog. `fields` are nodes with a `name`; `act(values)` does it and may throw: then the
 * dialog stays, with the reason. Escape closes it.
 */
export function ask({ title, note, fields = [], button, danger = false, act }) {
  const wrong = h("p", { class: "wrong", role: "alert", hidden: true });
  const go = h("button", { type: "submit", class: danger ? "danger" : "primary" }, button);
  const form = h("form", { method: "dialog" },
    h("h2", {}, title), note && h("p", {}, note), fields, wrong,
    h("div", { class: "buttons" }, h("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), go));
  const dialog = h("dialog", { "aria-label": title, onclose: () => dialog.remove() }, form);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    wrong.hidden = true;
    try {
      await act(Object.fromEntries(new FormData(form)));
      dialog.close();
    } catch (error) {
      wrong.hidden = false;
      wrong.textContent = error.message;
    }
    go.disabled = false;
  });
  document.body.append(dialog);
  dialog.showModal();
}

/** A labelled input, select or text area. */
export const field = (label, input, hint) =>
  h("label", { class: "field" }, h("span", {}, label), input, hint && h("small", {}, hint));
