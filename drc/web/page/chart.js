// A line chart: axes with units, a legend that switches lines off, and values under the pointer.

import { h, s } from "./dom.js";
import { clock } from "./facts.js";

const LEFT = 62;
const RIGHT = 14;
const TOP = 10;
const BOTTOM = 26;
const BREAK = 3.5; // points that are so many usual distances apart are not joined by a line
const STEPS_MS = [1, 2, 5, 10, 15, 30].map((s_) => s_ * 1e3).concat([1, 2, 5, 10, 15, 30].map((m) => m * 6e4), [1, 2, 3, 6, 12, 24].map((x) => x * 36e5));

export class Chart {
  #root;
  #svg;
  #legend;
  #tip;
  #hidden = new Set();
  #options;
  #data = { lines: [], from: 0, to: 1 };

  /** `options`: `log` axis or not, `format(value)`, `tick(value)` for the axis if shorter, `label` of the axis, `height`, `empty` text. */
  constructor(root, options) {
    this.#root = root;
    this.#options = options;
    this.#svg = s("svg", { role: "img", tabindex: 0, "aria-label": options.label });
    this.#legend = h("div", { class: "legend" });
    this.#tip = h("div", { class: "tip", "aria-live": "polite", hidden: true });
    root.append(this.#legend, h("div", { class: "plot" }, this.#svg, this.#tip));
    this.#svg.addEventListener("pointermove", (event) => this.#hover(event.offsetX));
    this.#svg.addEventListener("pointerdown", (event) => this.#hover(event.offsetX));
    this.#svg.addEventListener("pointerleave", () => this.#unhover());
    this.#svg.addEventListener("keydown", (event) => this.#key(event));
    this.#svg.addEventListener("blur", () => this.#unhover());
    new ResizeObserver(() => this.#draw()).observe(this.#svg);
  }

  /** Show lines `{name, hint, tone, strong, points: [[ms, value], …]}` between two times, in ms. */
  show(lines, from, to) {
    this.#data = { lines, from, to };
    this.#drawLegend();
    this.#draw();
  }

  #drawLegend() {
    const told = this.#data.lines.map((line) => [line.name, line.hint ?? "", line.tone, this.#hidden.has(line.name), last(line)]);
    if (this.#legend.children.length !== told.length || this.#legend.names !== told.map((x) => x[0]).join()) {
      this.#legend.names = told.map((x) => x[0]).join();
      this.#legend.replaceChildren(
        ...told.map(([name, hint, tone]) =>
          h("button", { type: "button", class: "key", "data-tone": tone, title: hint, "data-line": name, click: () => this.#toggle(name) },
            h("span", { class: "swatch", "aria-hidden": "true" }), h("span", {}, name), h("b", {})),
        ),
      );
    }
    told.forEach(([, , , hidden, value], i) => {
      const key = this.#legend.children[i];
      key.setAttribute("aria-pressed", String(!hidden));
      key.lastChild.textContent = value === null ? "" : this.#options.format(value);
    });
  }

  #toggle(name) {
    if (!this.#hidden.delete(name)) this.#hidden.add(name);
    this.#drawLegend();
    this.#draw();
  }

  #draw() {
    const width = this.#svg.clientWidth;
    if (!width) return;
    const { height } = this.#options;
    const { from, to } = this.#data;
    const lines = this.#data.lines.filter((line) => !this.#hidden.has(line.name));
    const values = lines.flatMap((line) => line.points.map((p) => p[1])).filter((v) => v !== null);
    this.#svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.#svg.style.height = `${height}px`;
    if (!values.length) {
      this.#svg.replaceChildren(s("text", { class: "faint", x: width / 2, y: height / 2 }, this.#options.empty));
      return;
    }
    const x = (ms) => LEFT + ((ms - from) / (to - from)) * (width - LEFT - RIGHT);
    const scale = (this.#options.log ? logScale : linearScale)(values, height);
    const grid = scale.ticks.map((value) => [
      s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: scale.y(value), y2: scale.y(value) }),
      s("text", { class: "tick end", x: LEFT - 8, y: scale.y(value) + 4 }, (this.#options.tick ?? this.#options.format)(value)),
    ]);
    const times = timeTicks(from, to, width).map((ms) => [
      s("line", { class: "grid up", x1: x(ms), x2: x(ms), y1: height - BOTTOM, y2: height - BOTTOM + 4 }),
      s("text", { class: "tick", x: x(ms), y: height - 6 }, clock(ms * 1000, to - from < 3e5).slice(-8)),
    ]);
    const drawn = [...lines].sort((a, b) => (a.strong ?? 0) - (b.strong ?? 0)).map((line) =>
      s("path", { class: line.strong ? "line strong" : "line", "data-tone": line.tone, d: path(line.points, from, to, x, scale.y) }));
    this.#svg.replaceChildren(...grid.flat(), ...times.flat(), ...drawn);
    this.geometry = { x, y: scale.y, width, height, lines };
    if (this.at !== undefined) this.#hover(this.at);
  }

  #key(event) {
    const step = { ArrowLeft: -12, ArrowRight: 12 }[event.key];
    if (!step || !this.geometry) return;
    event.preventDefault();
    const at = (this.at ?? this.geometry.width - RIGHT) + step;
    this.#hover(Math.min(this.geometry.width - RIGHT, Math.max(LEFT, at)));
  }

  #hover(at) {
    if (!this.geometry || at < LEFT) return this.#unhover();
    this.at = at;
    const { x, y, width, height, lines } = this.geometry;
    const { from, to } = this.#data;
    const wanted = from + ((at - LEFT) / (width - LEFT - RIGHT)) * (to - from);
    const near = lines.map((line) => [line, nearest(line.points, wanted)]).filter(([, p]) => p && Math.abs(x(p[0]) - at) < 24);
    this.#svg.querySelector(".cursor")?.remove();
    if (!near.length) return this.#tip.setAttribute("hidden", "");
    const place = x(near[0][1][0]);
    this.#svg.append(s("g", { class: "cursor" }, s("line", { x1: place, x2: place, y1: TOP, y2: height - BOTTOM }),
      ...near.map(([line, p]) => s("circle", { "data-tone": line.tone, cx: x(p[0]), cy: y(p[1]), r: 3.5 }))));
    this.#tip.replaceChildren(h("b", {}, clock(near[0][1][0] * 1000)),
      ...near.map(([line, p]) => h("span", { "data-tone": line.tone }, h("i", { class: "swatch", "aria-hidden": "true" }), `${line.name} `, h("b", {}, this.#options.format(p[1])))));
    this.#tip.hidden = false;
    this.#tip.style.left = `${place < width / 2 ? place + 12 : place - this.#tip.offsetWidth - 12}px`;
    return undefined;
  }

  #unhover() {
    this.at = undefined;
    this.#tip.hidden = true;
    this.#svg.querySelector(".cursor")?.remove();
  }
}

const last = (line) => line.points.at(-1)?.[1] ?? null;

function nearest(points, ms) {
  let best = null;
  for (const p of points) {
    if (p[1] !== null && (!best || Math.abs(p[0] - ms) < Math.abs(best[0] - ms))) best = p;
  }
  return best;
}

function path(points, from, to, x, y) {
  let out = "";
  let before = null;
  const usual = points.length > 2 ? (points.at(-1)[0] - points[0][0]) / (points.length - 1) : Infinity;
  for (const [ms, value] of points) {
    if (ms < from || ms > to || value === null) {
      before = null;
      continue;
    }
    const gap = before === null || ms - before > Math.max(usual, 6000) * BREAK;
    out += `${gap ? "M" : "L"}${x(ms).toFixed(1)} ${y(value).toFixed(1)}`;
    before = ms;
  }
  return out;
}

/** Decades that hold all values; zero is drawn at the bottom. */
function logScale(values, height) {
  const positive = values.filter((v) => v > 0);
  const low = Math.floor(Math.log10(Math.max(100, Math.min(...positive, 1e6)))); // 0.1 ms in µs
  const high = Math.max(low + 2, Math.ceil(Math.log10(Math.max(...positive, 1))));
  const ticks = Array.from({ length: high - low + 1 }, (_, i) => 10 ** (low + i));
  const room = height - TOP - BOTTOM;
  const y = (v) => TOP + room * (1 - (Math.log10(Math.max(v, 10 ** low)) - low) / (high - low));
  return { ticks, y };
}

function linearScale(values, height) {
  const most = Math.max(...values, 1);
  const power = 10 ** Math.floor(Math.log10(most / 3));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => most / n <= 4.2);
  const high = Math.ceil(most / step) * step;
  const ticks = Array.from({ length: Math.round(high / step) + 1 }, (_, i) => i * step);
  return { ticks, y: (v) => TOP + (height - TOP - BOTTOM) * (1 - v / high) };
}

function timeTicks(from, to, width) {
  const wanted = Math.max(2, Math.floor((width - LEFT - RIGHT) / 110));
  const step = STEPS_MS.find((ms) => (to - from) / ms <= wanted) ?? STEPS_MS.at(-1);
  const shift = new Date(to).getTimezoneOffset() * 6e4;
  const out = [];
  for (let ms = Math.ceil((from - shift) / step) * step + shift; ms <= to; ms += step) {
    const at = (ms - from) / (to - from);
    if (at > 0.03 && at < 0.97) out.push(ms);
  }
  return out;
}
