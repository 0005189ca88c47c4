// What the cell says, as it comes: one stream of server-sent events, the same message for every browser.

const SILENT_MS = 4000; // the server speaks at least once a second
const AGAIN_MS = 2000;

/** Merges what comes into `state` and tells which sections changed. */
export class Feed {
  state = {};
  #heard = 0;
  #source = null;
  #timer = null;
  #wanted = false;

  constructor({ changed, silent, refused, displaced }) {
    this.changed = changed; // (state, Set of sections)
    this.silent = silent; // (seconds | 0)
    this.refused = refused; // the stream ended for good: log in again?
    this.displaced = displaced; // too many windows of one browser: this one was the first
    // A hidden page takes no connection: a browser has few of them, and buttons need one.
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.stop();
      else if (this.#wanted) this.start();
    });
  }

  start() {
    this.stop();
    this.#wanted = true;
    if (document.hidden) return;
    this.#heard = performance.now();
    this.#timer = setInterval(() => this.#watch(), 1000);
    this.#open();
  }

  stop() {
    clearInterval(this.#timer);
    this.#source?.close();
    this.#source = null;
  }

  /** Until `start` is called again. */
  end() {
    this.#wanted = false;
    this.stop();
  }

  #open() {
    this.#source?.close();
    const source = new EventSource("/api/v1/live");
    source.onmessage = (event) => {
      this.#heard = performance.now();
      this.silent(0);
      const sections = JSON.parse(event.data);
      Object.assign(this.state, sections);
      this.changed(this.state, new Set(Object.keys(sections)));
    };
    source.addEventListener("enough", () => {
      this.stop();
      this.displaced();
    });
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return; // it tries again by itself
      this.refused();
      setTimeout(() => this.#source === source && this.#open(), AGAIN_MS);
    };
    this.#source = source;
  }

  #watch() {
    const quiet = performance.now() - this.#heard;
    if (quiet <= SILENT_MS) return;
    this.silent(quiet / 1000);
    if (quiet > 3 * SILENT_MS && Math.round(quiet / 1000) % 8 === 0) this.#open(); // a dead connection that nobody closed
  }
}
