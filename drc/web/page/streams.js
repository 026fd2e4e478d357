// A card for each stream: state, reason, numbers, and the buttons for commands.

import { command, h, redraw, say } from "./dom.js";
import { bytes, clock, count, duration, missingFor, rate, sentence, shown } from "./facts.js";

const ACTIONS = {
  pause: { label: "Pause", text: "The stream keeps its place and goes on from there after Resume. Lag grows meanwhile." },
  resume: { label: "Resume", text: "The stream goes on from its place and catches up." },
  stop: { label: "Stop", text: "The stream closes its connections and stays stopped, also after a restart of the daemon, until an operator starts the stream." },
  start: { label: "Start", text: "The stream goes on after the transactions that the target's ledger names as decided." },
};
const FIT = { running: ["pause", "stop"], connecting: ["pause", "stop"], paused: ["resume", "stop"], stopped: ["start"], need_reseed: ["start"] };
const GLYPHS = { ok: "●", watch: "◆", bad: "■", unknown: "?" };

/** Draw cards into `root`; `act(stream, action, text)` is called by the buttons. */
export class Cards {
  #root;
  #act;
  #cards = new Map();

  constructor(root, act) {
    this.#root = root;
    this.#act = act;
  }

  show(streams) {
    for (const one of streams) {
      if (!this.#cards.has(one.name)) this.#add(one);
      this.#cards.get(one.name)(one);
    }
  }

  #add(first) {
    let now = first;
    const chip = h("span", { class: "chip" });
    const why = h("div");
    const help = h("div", { class: "help" });
    const numbers = h("dl", { class: "numbers" });
    const note = h("p", { class: "quiet" });
    const buttons = Object.entries(ACTIONS).map(([action, { label, text }]) =>
      h("button", { type: "button", "data-action": action, "aria-label": `${label} ${first.name}`, click: () => this.#act(now, action, label, text) }, label));
    const card = h("article", { class: "panel stream", "data-stream": first.name },
      h("div", { class: "head" }, h("h2", {}, first.name), chip, h("div", { class: "buttons" }, buttons)), why, help, numbers, note);
    this.#root.append(card);
    this.#cards.set(first.name, (one) => {
      now = one;
      const { label, level } = shown(one);
      card.dataset.state = one.state;
      chip.dataset.level = level;
      say(chip, `${one.state === "paused" ? "❚❚" : GLYPHS[level]} ${label}`);
      redraw(why, reasons(one), drawReasons);
      redraw(help, one.blocked?.command ?? "", (text) => (text ? [command(text)] : []));
      redraw(numbers, figures(one), (rows) => rows.map(([name, value, unit, hint]) =>
        h("div", { title: hint }, h("dt", {}, name), h("dd", {}, value, unit && h("small", {}, ` ${unit}`)))));
      say(note, one.own ? "" : `As the daemon of ${one.target} reported ${ago(one.atUs)}. That daemon's page, or drc at that site, controls this stream.`);
      const fit = one.own ? (FIT[one.state] ?? []) : [];
      const focused = buttons.includes(document.activeElement) && document.activeElement;
      for (const button of buttons) button.hidden = !fit.includes(button.dataset.action);
      if (focused && focused.hidden) buttons.find((b) => !b.hidden)?.focus();
    });
  }
}

const ago = (us) => (us ? `at ${clock(us)}` : "last");

function reasons(one) {
  const told = [];
  const wanted = one.desired && one.desired !== "running" && one.desiredReason && !one.blocked;
  if (one.blocked) told.push([sentence(one.blocked.sentence), one.blocked.since_us ? `since ${clock(one.blocked.since_us)}` : ""]);
  else if (one.error) told.push([sentence(one.error.message), [sentence(one.error.hint), place(one.error)].filter(Boolean).join(" ")]);
  else if (one.state !== "running" && one.reason && !wanted) told.push([sentence(one.reason), ""]);
  if (wanted) told.push([`An operator ${one.desired === one.state ? `has ${one.desired} the stream` : `wants the stream ${one.desired}`}: ${one.desiredReason}`, ""]);
  return told;
}

const place = (error) => [error.table && `Table ${error.table}.`, error.gtid && `GTID ${error.gtid}.`].filter(Boolean).join(" ");

const drawReasons = (told) => told.map(([text, more]) => h("p", { class: "reason" }, text, more && h("small", {}, ` ${more}`)));

function figures(one) {
  const { lag, behind, rates } = one;
  const most = behind.exact ? "" : "≤ ";
  const rows = [
    ["Lag, median", ...split(duration(lag?.p50)), "The origin's commit until visible at the target: half are faster"],
    ["Lag, 99 %", ...split(duration(lag?.p99)), "One in a hundred takes longer"],
    lag?.p999 != null && ["Lag, 99.9 %", ...split(duration(lag.p999)), "One in a thousand takes longer"],
    behind.seconds !== null && ["Behind", ...split(duration(behind.seconds * 1e6)), "Age of the oldest transaction that is not decided"],
    ["Waiting", most + count(behind.transactions), "trx", "Committed at the origin and not decided here"],
    behind.bytes > 0 && ["Waiting, size", ...split(bytes(behind.bytes)), "Estimate: transactions not yet read are taken to be as large as earlier transactions"],
    rates && ["Applied", rate(rates.transactions), "trx/s", "Transactions a second"],
    rates && ["Rows", rate(rates.rows), "/s", "Row changes a second"],
    rates && ["Read", bytes(rates.bytes).split(" ")[0], `${bytes(rates.bytes).split(" ")[1]}/s`, "From the binlog or the topic"],
    one.canary && [...canary(one), "A row that must land at the target, and must never come back"],
  ];
  return rows.filter(Boolean);
}

function canary(one) {
  const { sent_us: sent, landed_us: landed, bounced } = one.canary;
  if (bounced) return ["Canary", "came back", ""];
  const missing = missingFor(one);
  if (missing) return ["No canary for", ...split(duration(missing))];
  return landed ? ["Canary landed", ...split(duration(landed - sent))] : ["Canary", "under way", ""];
}

/** Return number and unit apart, as the unit is drawn small. */
function split(text) {
  const at = text.indexOf(" ");
  return at < 0 || text.lastIndexOf(" ") !== at ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}
