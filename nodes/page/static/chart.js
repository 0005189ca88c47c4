// One trend on a canvas: least and greatest value as a band, verdicts shaded behind it.

import { clock, number } from "./words.js";

const LEFT = 46;
const BOTTOM = 16;
const TOP = 6;
const LEAST = 0.04; // of a tag's scale

export class Chart {
  constructor(canvas) {
    this.canvas = canvas;
    this.size = [0, 0];
    new ResizeObserver(([entry]) => {
      this.size = [entry.contentRect.width, entry.contentRect.height];
      this.draw();
    }).observe(canvas);
  }

  /** `series` {times, low, high}, ascending in time; `bands` [start, end, decision]; times in s. `scale` {low, high} of the tag. */
  show(series, bands, from, to, cursor = null, scale = {}) {
    Object.assign(this, { series, bands, from, to, cursor, scale });
    this.draw();
  }

  /** Time under a place of the canvas, in s. */
  time(x) {
    return this.from + ((x - LEFT) / Math.max(1, this.size[0] - LEFT)) * (this.to - this.from);
  }

  /** The stretch at a time. */
  at(time) {
    const { times = [], low, high } = this.series ?? {};
    if (!times.length) return null;
    let best = 0;
    for (let i = 1; i < times.length; i++) if (Math.abs(times[i] - time) < Math.abs(times[best] - time)) best = i;
    return low[best] === null ? null : { time: times[best], low: low[best], high: high[best] };
  }

  draw() {
    const [width, height] = this.size;
    if (!this.series || width < 60) return;
    const scale = devicePixelRatio || 1;
    const { canvas } = this;
    if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const g = canvas.getContext("2d");
    const color = palette();
    g.setTransform(scale, 0, 0, scale, 0, 0);
    g.clearRect(0, 0, width, height);
    g.font = "11px system-ui, sans-serif";
    const x = (t) => LEFT + ((t - this.from) / (this.to - this.from)) * (width - LEFT);
    this.#bands(g, x, width, height, color);
    const [bottom, top] = range(this.series, this.scale);
    const y = (v) => TOP + (1 - (v - bottom) / (top - bottom)) * (height - TOP - BOTTOM);
    this.#axes(g, x, y, bottom, top, width, height, color);
    this.#curve(g, x, y, color);
    if (this.cursor !== null && x(this.cursor) >= LEFT) {
      g.strokeStyle = color.quiet;
      g.beginPath();
      g.moveTo(x(this.cursor), TOP);
      g.lineTo(x(this.cursor), height - BOTTOM);
      g.stroke();
    }
  }

  #bands(g, x, width, height, color) {
    for (const [start, end, decision] of this.bands ?? []) {
      const left = Math.max(LEFT, x(start));
      const right = Math.min(width, x(end));
      if (right <= left) continue;
      const bad = decision === "BLOCK";
      g.fillStyle = bad ? color.bad : color.warn;
      g.globalAlpha = 0.22;
      g.fillRect(left, TOP, right - left, height - TOP - BOTTOM);
      g.globalAlpha = 1;
      g.fillRect(left, height - BOTTOM - (bad ? 5 : 3), right - left, bad ? 5 : 3); // thick or thin: not colour alone
    }
  }

  #axes(g, x, y, bottom, top, width, height, color) {
    g.strokeStyle = color.grid;
    g.fillStyle = color.quiet;
    g.lineWidth = 1;
    g.textAlign = "right";
    g.textBaseline = "middle";
    for (const v of [bottom, (bottom + top) / 2, top]) {
      g.beginPath();
      g.moveTo(LEFT, Math.round(y(v)) + 0.5);
      g.lineTo(width, Math.round(y(v)) + 0.5);
      g.stroke();
      g.fillText(number(v, 3), LEFT - 5, y(v) + (v === top ? 4 : v === bottom ? -3 : 0));
    }
    g.textBaseline = "alphabetic";
    const step = [10, 30, 60, 120, 300, 600, 1200, 3600, 7200].find((s) => ((width - LEFT) * s) / (this.to - this.from) > 70) ?? 7200;
    g.textAlign = "center";
    for (let t = Math.ceil(this.from / step) * step; t < this.to; t += step) {
      if (x(t) < LEFT + 26 || x(t) > width - 26) continue;
      g.fillText(clock(t * 1000).slice(-8, step < 60 ? undefined : -3), x(t), height - 3);
    }
  }

  /** A line through the middle, and around it what lies between least and greatest. */
  #curve(g, x, y, color) {
    g.lineWidth = 1.5;
    g.lineJoin = "round";
    g.strokeStyle = g.fillStyle = color.ink;
    for (const run of this.#runs()) {
      const { times, low, high } = this.series;
      g.globalAlpha = 0.3;
      g.beginPath();
      for (const i of run) g.lineTo(x(times[i]), y(high[i]));
      for (const i of run.toReversed()) g.lineTo(x(times[i]), y(low[i]));
      g.fill();
      g.globalAlpha = 1;
      g.beginPath();
      for (const i of run) g.lineTo(x(times[i]), y((low[i] + high[i]) / 2));
      if (run.length === 1) g.lineTo(x(times[run[0]]) + 1, y(low[run[0]]));
      g.stroke();
    }
  }

  /** Places of the samples, in runs without a gap; a record has no rows where nothing came. */
  #runs() {
    const { times, low } = this.series;
    const gap = 4 * ((times.at(-1) - times[0]) / Math.max(1, times.length - 1));
    const runs = [];
    let last = null;
    for (let i = 0; i < times.length; i++) {
      if (low[i] === null || times[i] < this.from) continue;
      if (last !== null && last === i - 1 && times[i] - times[last] <= gap) runs.at(-1).push(i);
      else runs.push([i]);
      last = i;
    }
    return runs;
  }
}

/** Least and greatest value, with room, and at least a part of the tag's scale: noise is to look like noise. */
function range({ low, high }, scale) {
  let bottom = Infinity;
  let top = -Infinity;
  for (let i = 0; i < low.length; i++) {
    if (low[i] === null) continue;
    bottom = Math.min(bottom, low[i]);
    top = Math.max(top, high[i]);
  }
  if (bottom > top) return [0, 1];
  const known = scale.low !== null && scale.high !== null ? LEAST * (scale.high - scale.low) : 0;
  const least = known > 0 ? known : Math.max(Math.abs(top) * 0.05, 1e-3);
  const room = Math.max((top - bottom) * 0.08, (least - (top - bottom)) / 2);
  return [bottom - room, top + room];
}

let known = null;
addEventListener("themechange", () => {
  known = null;
});

function palette() {
  if (!known) {
    const style = getComputedStyle(document.documentElement);
    known = Object.fromEntries(["ink", "quiet", "grid", "bad", "warn"].map((name) => [name, style.getPropertyValue(`--${name}`)]));
  }
  return known;
}
