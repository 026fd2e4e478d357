// The pair as a picture: sites, and an arrow for each stream, with dots that move as transactions do.

import { s } from "./dom.js";
import { count, duration, rate, shown } from "./facts.js";

const DOTS_MAX = 14;
const BEND = 0.2; // of the distance between two sites, so that both directions have room
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class PairMap {
  #svg;
  #streams = new Map(); // name → the parts of the picture that change
  #shape = "";
  #data = [[], {}, ""];

  constructor(svg) {
    this.#svg = svg;
    new ResizeObserver(() => this.#draw()).observe(svg);
    requestAnimationFrame((now) => this.#move(now));
  }

  /** Show streams; `sites` is the status document's, `here` the site of this daemon. */
  show(streams, sites, here) {
    this.#data = [streams, sites, here];
    this.#draw();
  }

  #draw() {
    const [streams, sites, here] = this.#data;
    const width = this.#svg.clientWidth;
    if (!width || !streams.length) return;
    const names = [...new Set([...Object.keys(sites), ...streams.flatMap((x) => [x.origin, x.target])])];
    const shape = JSON.stringify([width, names, streams.map((x) => x.name)]);
    if (shape !== this.#shape) {
      this.#shape = shape;
      this.#build(width, names, streams);
    }
    for (const name of names) this.#site(name, sites[name], name === here);
    for (const one of streams) this.#stream(one);
    const told = streams.map((x) => `${x.name} ${shown(x).label}`).join(", ");
    this.#svg.querySelector("title").textContent = `Sites ${names.join(", ")}; ${told}`;
  }

  #build(width, names, streams) {
    const height = names.length > 2 ? 320 : 190;
    const title = this.#svg.querySelector("title");
    this.#svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.#svg.style.height = `${height}px`;
    const box = width < 560 ? [92, 70] : [168, 84];
    const places = placed(names, width, height, box);
    const lanes = s("g");
    const nodes = s("g");
    this.#streams.clear();
    for (const one of streams) {
      const parts = lane(places[one.origin], places[one.target], box, names.length === 2);
      this.#streams.set(one.name, parts);
      lanes.append(parts.group);
    }
    for (const name of names) nodes.append(node(name, places[name], box));
    this.#svg.replaceChildren(title, lanes, nodes);
  }

  #site(name, site, here) {
    const group = [...this.#svg.querySelectorAll(".site")].find((x) => x.dataset.site === name);
    if (!group) return;
    const [, version, role] = group.querySelectorAll("text");
    group.dataset.level = !site ? "unknown" : site.reachable ? "ok" : "bad";
    const wide = group.dataset.wide === "yes";
    version.textContent = !site ? "" : site.reachable ? (wide ? `MySQL ${short(site.version)}` : short(site.version)) : "no answer";
    role.textContent = here ? (wide ? "this daemon" : "here") : site?.read_only ? "read only" : "";
  }

  #stream(one) {
    const parts = this.#streams.get(one.name);
    const { label, level } = shown(one);
    parts.group.dataset.state = one.state;
    parts.group.dataset.level = level;
    parts.rate = one.state === "running" ? one.rates?.transactions ?? 0 : 0;
    const running = level === "ok";
    parts.label.textContent = running ? `${rate(one.rates?.transactions)} trx/s` : `${GLYPHS[label] ?? GLYPHS[one.state] ?? "?"} ${label}`;
    const behind = one.behind.transactions;
    parts.under.textContent =
      running ? `${duration(one.lag?.p50)} lag` : behind === null ? "" : `${count(behind)} trx behind`;
  }

  #move(now) {
    for (const parts of this.#streams.values()) {
      const dots = parts.rate ? Math.min(DOTS_MAX, Math.ceil(parts.length / 22), Math.ceil(1.5 + 2.2 * Math.log10(1 + parts.rate))) : 0;
      const speed = still.matches ? 0 : 0.045 * (1 + Math.log10(1 + parts.rate));
      parts.at = (parts.at + ((now - (parts.moved ?? now)) / 1000) * speed) % 1;
      parts.moved = now;
      parts.dots.forEach((dot, i) => {
        dot.setAttribute("visibility", i < dots ? "visible" : "hidden");
        if (i >= dots) return;
        const point = parts.path.getPointAtLength(parts.length * ((parts.at + i / dots) % 1));
        dot.setAttribute("cx", point.x);
        dot.setAttribute("cy", point.y);
      });
    }
    requestAnimationFrame((next) => this.#move(next));
  }
}

const GLYPHS = { blocked: "◆", paused: "❚❚", stopped: "■", connecting: "◌", need_reseed: "✕", unknown: "?" };
const short = (version) => (version ?? "").split("-")[0];

function placed(names, width, height, box) {
  const across = width / 2 - box[0] / 2 - 6;
  const down = height / 2 - box[1] / 2 - 6;
  const out = {};
  names.forEach((name, i) => {
    const angle = (names.length > 2 ? -Math.PI / 2 : Math.PI) + (2 * Math.PI * i) / names.length;
    out[name] = {
      x: width / 2 + Math.cos(angle) * Math.min(across, 420),
      y: height / 2 + (names.length > 2 ? (Math.sin(angle) + (names.length === 3 ? 0.25 : 0)) * down : 0),
    };
  });
  return out;
}

function node(name, at, [width, height]) {
  const wide = width > 100;
  return s("g", { class: "site", "data-site": name, "data-wide": wide ? "yes" : "no", transform: `translate(${at.x} ${at.y})` },
    s("rect", { x: -width / 2, y: -height / 2, width, height, rx: 12 }),
    s("text", { class: "name", y: -height / 2 + (wide ? 32 : 26) }, name.length > (wide ? 15 : 9) ? `${name.slice(0, wide ? 14 : 8)}…` : name),
    s("text", { class: "faint", y: -height / 2 + (wide ? 52 : 43) }),
    s("text", { class: "faint", y: -height / 2 + (wide ? 70 : 59) }),
  );
}

/** Return the parts of one stream; with three sites and more there is no room for words beside the arrow. */
function lane(from, to, box, labelled) {
  const dx = to.x - from.x;
  const dy = to.y - from.y;
  const far = Math.hypot(dx, dy);
  const across = { x: dy / far, y: -dx / far }; // to the left of the arrow: above an arrow that goes right
  const room = Math.min(box[0] / 2 / Math.abs(dx / far), box[1] / 2 / Math.abs(dy / far)) + 6; // from centre to edge
  const a = { x: from.x + (dx / far) * room + across.x * 16, y: from.y + (dy / far) * room + across.y * 16 };
  const b = { x: to.x - (dx / far) * room + across.x * 16, y: to.y - (dy / far) * room + across.y * 16 };
  const bend = labelled ? Math.min(60, far * BEND) : 12;
  const middle = { x: (a.x + b.x) / 2 + across.x * bend, y: (a.y + b.y) / 2 + across.y * bend };
  const d = `M${a.x} ${a.y} Q${middle.x} ${middle.y} ${b.x} ${b.y}`;
  const path = s("path", { class: "way", d });
  const angle = (Math.atan2(b.y - middle.y, b.x - middle.x) * 180) / Math.PI;
  const head = s("path", { class: "head", d: "M-11 -6 L0 0 L-11 6 Z", transform: `translate(${b.x} ${b.y}) rotate(${angle})` });
  const dots = Array.from({ length: DOTS_MAX }, () => s("circle", { class: "dot", r: 3.2, visibility: "hidden" }));
  const crown = { x: (a.x + 2 * middle.x + b.x) / 4 + across.x * 14, y: (a.y + 2 * middle.y + b.y) / 4 + across.y * 14 };
  const above = across.y < 0;
  const label = s("text", { class: "rate", x: crown.x, y: crown.y + (above ? -16 : 9) });
  const under = s("text", { class: "faint", x: crown.x, y: crown.y + (above ? 1 : 26) });
  const group = s("g", { class: "lane" }, path, head, ...dots, labelled && label, labelled && under);
  const length = far - 2 * room > 0 ? measured(d) : 0;
  return { group, path, dots, label, under, length, rate: 0, at: 0 };
}

function measured(d) {
  return s("path", { d }).getTotalLength();
}
