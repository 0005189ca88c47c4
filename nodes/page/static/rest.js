// The cell's REST interface, as docs/operator.md describes it; the page has no other way to do anything.

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export class Api {
  csrf = "";
  onLost = () => {}; // the session is over

  get(path) {
    return this.#ask("GET", path);
  }

  post(path, body = {}) {
    return this.#ask("POST", path, body);
  }

  async #ask(method, path, body) {
    const headers = { Accept: "application/json" };
    if (body !== undefined) Object.assign(headers, { "Content-Type": "application/json", "X-CSRF-Token": this.csrf });
    let answer;
    try {
      answer = await fetch(`/api/v1/${path}`, { method, headers, body: body && JSON.stringify(body), credentials: "same-origin" });
    } catch {
      throw new ApiError(0, "The cell's page cannot be reached. Is the cell running?");
    }
    const said = await answer.json().catch(() => null);
    if (answer.ok) return said;
    if (answer.status === 401 && path !== "login" && path !== "session") this.onLost();
    throw new ApiError(answer.status, words(said) ?? `The cell answered ${answer.status}`);
  }
}

/** FastAPI names what is wrong as a text, or as a list of fields. */
function words(said) {
  const detail = said?.detail;
  if (typeof detail === "string") return detail;
  if (!Array.isArray(detail)) return null;
  return detail.map((d) => `${d.loc?.at(-1) ?? ""}: ${d.msg}`).join("; ");
}
