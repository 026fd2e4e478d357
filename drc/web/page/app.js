// The page: queries the API, listens to events, and passes the data to the drawing modules.

import { events, get, post, token } from "./api.js";
import { Chart } from "./chart.js";
import { $, command, pick, redraw, say } from "./dom.js";
import { bytes, clock, count, directions, decade, duration, Meter, rate, sentence, verdict } from "./facts.js";
import { showAudit, showConflicts, showFailure, showSets } from "./lists.js";
import { PairMap } from "./map.js";
import { Series } from "./series.js";
import { Cards } from "./streams.js";

const STATUS_MS = 5000;
const LISTS_MS = 10000;
const SPANS = [["600", "10 min"], ["3600", "1 h"], ["86400", "24 h"]];
const SHARES = [["p50", "50 %"], ["p99", "99 %"], ["p999", "99.9 %"]];
const THEMES = { auto: ["◐ Auto", "as in the system"], light: ["◐ Light", "light"], dark: ["◐ Dark", "dark"] };

const known = { said: null, status: null, conflicts: [], heardAt: 0 };
const chosen = { stream: "", share: "p99", span: "600" };
const meter = new Meter();
const series = new Series();
const map = new PairMap($("map"));
const cards = new Cards($("streams"), confirm);
const lagChart = new Chart($("lag-chart"), { log: true, format: duration, tick: decade, label: "Lag over time, logarithmic", height: 260, empty: "No lag reported yet" });
const rateChart = new Chart($("rate-chart"), { format: (v) => `${rate(v)} trx/s`, label: "Transactions a second over time", height: 150, empty: "No rates reported yet" });

// ------------------------------------------------------------ events

async function start() {
  if (document.documentElement.dataset.token === "asked" && !token.get()) return login("");
  try {
    known.said = await get("/api/v1/snapshot");
  } catch (error) {
    if (error.status === 401) return login(token.get() ? "The daemon refuses this token." : "");
    away(error);
    setTimeout(start, 2000);
    return undefined;
  }
  $("login").hidden = true;
  $("board").hidden = false;
  $("logout").hidden = !token.get();
  events(heard, away);
  repeat(askStatus, STATUS_MS);
  repeat(askLists, LISTS_MS);
  repeat(loadPast, 60000);
  return undefined;
}

function heard(said) {
  known.said = said;
  known.heardAt = Date.now();
  $("away").hidden = true;
  document.body.classList.remove("stale");
  $("live").dataset.live = "yes";
  say($("live"), "live");
  draw();
}

function away(error) {
  if (error.status === 401 && known.heardAt) return location.reload();
  const since = known.heardAt ? `Not live since ${clock(known.heardAt * 1000)}` : "Not live yet";
  document.body.classList.add("stale");
  $("live").dataset.live = "no";
  say($("live"), "not live");
  say($("away"), `${since}: ${error.message}. Trying again; the values below are old.`);
  $("away").hidden = false;
  if (known.said) {
    const silent = `The present state is not known: the daemon of ${known.said.site} is silent.`;
    drawVerdict({ level: "unknown", sentence: silent, detail: "", commands: ["drc status"] });
  }
  return undefined;
}

function repeat(ask, everyMs) {
  const again = () => ask().finally(() => setTimeout(again, everyMs));
  again();
}

async function askStatus() {
  const before = known.status;
  try {
    known.status = await get("/api/v1/status");
    draw();
    if (!before) loadPast(); // the status names the streams of other daemons
  } catch {
    known.status = null; // the streams of this daemon need no status
  }
}

async function askLists() {
  const lists = [["conflicts?limit=100", "conflicts", (x) => showConflicts($("conflicts"), (known.conflicts = x.conflicts))],
    ["audit?limit=30", "audit", (x) => showAudit($("audit"), x.entries)]];
  await Promise.all(lists.map(([path, id, show]) => get(`/api/v1/${path}`).then(show, (error) => showFailure($(id), error))));
  const open = known.conflicts.filter((one) => one.state === "open").length;
  say($("conflicts-note"), known.conflicts.length ? `${count(known.conflicts.length)} newest, ${count(open)} open` : "");
}

async function loadPast() {
  const since = Date.now() - Number(chosen.span) * 1000;
  await Promise.all(current().map((one) => series.load(one, since).catch(() => null)));
  drawCharts(current());
}

// ------------------------------------------------------------ drawing

const current = () => directions(known.said, known.status, meter);

function draw() {
  const { said, status } = known;
  const streams = current();
  series.add(streams);
  say($("pair"), said.pair ?? status?.name ?? "drc");
  say($("place"), `Daemon of ${said.site ?? "this site"}`);
  drawVerdict(verdict(streams, status, known.conflicts));
  map.show(streams, status?.sites ?? {}, said.site);
  cards.show(streams);
  showSets($("sets"), streams);
  drawCharts(streams);
  drawFoot(said);
}

function drawVerdict(found) {
  $("verdict").dataset.level = found.level;
  say($("headline"), found.sentence);
  say($("detail"), found.detail);
  redraw($("help"), found.commands, (all) => all.map(command));
  document.title = `${found.level === "ok" ? "●" : "▲"} ${known.said.pair ?? "drc"}: ${found.sentence}`;
}

function drawCharts(streams) {
  if (!streams.some((one) => one.name === chosen.stream)) chosen.stream = streams[0]?.name ?? "";
  const redrawn = (key) => (value) => {
    chosen[key] = value;
    drawCharts(current());
    if (key === "span") loadPast();
  };
  pick($("pick-stream"), streams.map((one) => [one.name, one.name]), chosen.stream, redrawn("stream"));
  pick($("pick-share"), SHARES, chosen.share, redrawn("share"));
  pick($("pick-span"), SPANS, chosen.span, redrawn("span"));
  const to = (known.said?.now_us ?? Date.now() * 1000) / 1000;
  const from = to - Number(chosen.span) * 1000;
  lagChart.show(series.lag(chosen.stream, chosen.share, from), from, to);
  rateChart.show(series.rates(streams, from), from, to);
}

function drawFoot(said) {
  const parts = [`drc ${said.version ?? ""}`, said.rss_bytes_max && `memory at most ${bytes(said.rss_bytes_max)}`,
    said.cpu_us !== undefined && `CPU ${duration(said.cpu_us)}`];
  for (const [name, worker] of Object.entries({ publisher: said.publisher, watcher: said.watcher })) {
    if (worker) parts.push(`${name} ${worker.state}${worker.state === "running" ? "" : `: ${worker.reason}`}`);
  }
  if (said.watcher?.late_conflicts) parts.push(`${count(said.watcher.late_conflicts)} late conflicts`);
  say($("foot"), parts.filter(Boolean).join("  ·  "));
}

// ------------------------------------------------------------ commands

function confirm(one, action, label, text) {
  say($("ask-title"), `${label} ${one.name}?`);
  say($("ask-text"), text);
  say($("ask-yes"), label);
  say($("ask-error"), "");
  $("reason").value = "";
  $("ask").querySelector("form").onsubmit = async (event) => {
    event.preventDefault();
    $("ask-yes").disabled = true;
    try {
      await post(`/api/v1/streams/${encodeURIComponent(one.origin)}/${action}`, { reason: $("reason").value.trim() });
      $("ask").close();
      known.said = await get("/api/v1/snapshot");
      draw();
      askLists();
    } catch (error) {
      say($("ask-error"), `${sentence(error.message)} ${sentence(error.hint)}`);
    } finally {
      $("ask-yes").disabled = false;
    }
  };
  $("ask").showModal();
  $("reason").focus();
}

function login(wrong) {
  $("board").hidden = true;
  $("login").hidden = false;
  say($("live"), "not logged in");
  say($("login-error"), wrong);
  token.set("");
  $("token").focus();
}

function theme(name) {
  if (name === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  localStorage.setItem("drc.theme", name);
  say($("theme"), THEMES[name][0]);
  $("theme").setAttribute("aria-label", `Colours: ${THEMES[name][1]}`);
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set($("token").value.trim());
  $("token").value = "";
  start();
});
$("logout").addEventListener("click", () => {
  token.set("");
  location.reload();
});
$("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  theme(names[(names.indexOf(localStorage.getItem("drc.theme") ?? "auto") + 1) % names.length]);
});
$("ask-no").addEventListener("click", () => $("ask").close());

theme(THEMES[localStorage.getItem("drc.theme")] ? localStorage.getItem("drc.theme") : "auto");
start();
