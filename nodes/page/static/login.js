// Name and password, where the cell asks for them.

import { field, h } from "./dom.js";

export function login(page) {
  const wrong = h("p", { class: "wrong", role: "alert", hidden: true });
  const go = h("button", { type: "submit", class: "primary" }, "Log in");
  const form = h("form", { class: "login card" },
    h("h1", {}, "Cellwatch"),
    field("Name", h("input", { name: "user", autocomplete: "username", required: true, autofocus: true })),
    field("Password", h("input", { name: "password", type: "password", autocomplete: "current-password", required: true })),
    wrong, go);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    go.disabled = true;
    try {
      await page.api.post("login", Object.fromEntries(new FormData(form)));
      location.reload();
    } catch (error) {
      wrong.hidden = false;
      wrong.textContent = error.message;
      go.disabled = false;
    }
  });
  document.getElementById("bar").replaceChildren(h("strong", {}, "Cellwatch"));
  document.getElementById("tabs").replaceChildren();
  document.getElementById("main").replaceChildren(form);
  form.elements.user.focus();
}
