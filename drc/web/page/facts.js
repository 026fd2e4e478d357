// The facts to show, from the daemon's snapshot and the status of all sites. Pure.
//
// A daemon knows its own streams each second; other streams are as their daemons reported to the store.
// A key that a daemon does not report is null here, never guessed.

export const STAGES = [
  ["read_us", "read", "the origin's commit until read from the binlog"],
  ["logged_us", "logged", "until acknowledged by Kafka"],
  ["received_us", "received", "until received by the target's daemon"],
  ["dispatched_us", "dispatched", "until handed to a lane"],
  ["committed_us", "committed", "until visible at the target"],
];
const SLOW_S = 10; // a stream that is behind by more is in the first line
const MISSED = 3; // so many canaries that do not land are a trouble
const MORE_MAX = 2; // further troubles that follow the worst
const LEFT_OVER = 11;
const WORST = ["need_reseed", "stopped", "unknown", "connecting", "paused", "running"];

/** The name of each state, and its level: ok, watch, bad or unknown. */
export const STATES = {
  running: { label: "running", level: "ok" },
  paused: { label: "paused", level: "watch" },
  connecting: { label: "connecting", level: "watch" },
  stopped: { label: "stopped", level: "bad" },
  need_reseed: { label: "needs a new copy", level: "bad" },
  unknown: { label: "unknown", level: "unknown" },
};
export const stateOf = (state) => STATES[state] ?? { label: state, level: "unknown" };
export const shown = (one) => (one.state === "running" && one.blocked ? { label: "blocked", level: "watch" } : stateOf(one.state));

/** Return one object for each stream of the pair, the streams of this daemon first. */
export function directions(said, status, meter) {
  const own = new Map((said?.streams ?? []).map((one) => [one.origin, one]));
  const out = [...own.values()].map((one) => {
    const asked = status?.streams.find((x) => x.origin === one.origin && x.target === one.target);
    return direction(one, asked, status, meter, true, said.now_us ?? said.updated_us, said);
  });
  for (const asked of status?.streams ?? []) {
    if (asked.target === said?.site && own.has(asked.origin)) continue;
    const at = status.sites[asked.target]?.daemon.saved_us;
    out.push(direction(asked.snapshot_fresh ? asked.snapshot : null, asked, status, meter, false, at, said));
  }
  return out;
}

function direction(one, asked, status, meter, own, atUs, said) {
  const { origin, target } = one ?? asked;
  const name = `${origin} → ${target}`;
  const control = own ? said.controls?.[name.replace(" → ", "->")] ?? said.controls?.[origin] : null;
  return {
    name, origin, target, own, atUs,
    state: one?.state ?? asked?.state ?? "unknown",
    reason: one?.reason || asked?.reason || "",
    error: one ? one.error : asked?.error ?? null,
    desired: control?.desired ?? null,
    desiredReason: control?.reason ?? "",
    blocked: one?.blocked ?? null,
    canary: one?.canary ?? null,
    lag: one ? one.lag_us ?? { p50: one.lag_us_p50, p99: one.lag_us_p99, p999: null } : null,
    stages: one?.stages ?? null,
    behind: {
      seconds: one?.behind?.seconds ?? null,
      transactions: one?.behind?.transactions ?? asked?.transactions_behind ?? null,
      bytes: one?.behind?.bytes ?? null,
      exact: asked?.exact ?? true,
    },
    rates: one ? one.rates ?? meter.rates(name, one, atUs) : null,
    conflicts: sum(Object.values(one?.conflicts ?? {})),
    kinds: one?.conflicts ?? {},
    sets: {
      "decided at the target": one?.applied_set ?? asked?.ledger_applied,
      "ledger": asked?.ledger_applied && `batch ${count(asked.ledger_seq)}: ${asked.ledger_applied}`,
      "executed at the origin": status?.sites[origin]?.gtid_executed,
      "not decided yet": asked?.behind_set === "" ? "nothing" : asked?.behind_set,
    },
  };
}

/** Compute rates for daemons that report counters only. */
export class Meter {
  #last = new Map();

  rates(name, one, atUs) {
    const now = { at: atUs, transactions: one.transactions, rows: one.rows_applied, bytes: one.read_bytes };
    const last = this.#last.get(name);
    if (!last || now.at > last.at) this.#last.set(name, { ...now, before: last });
    const { before, ...newest } = this.#last.get(name);
    if (!before || newest.transactions < before.transactions) return null;
    const seconds = (newest.at - before.at) / 1e6;
    const rate = (key) => Math.max(0, newest[key] - before[key]) / seconds;
    return { transactions: rate("transactions"), rows: rate("rows"), bytes: rate("bytes") };
  }
}

/** Return level, sentence, detail and the commands that help, for the first line of the page. */
export function verdict(streams, status, conflicts) {
  const found = [...unreachable(status, streams), ...streams.map(trouble).filter(Boolean), ...leftOver(streams, conflicts)];
  found.sort((a, b) => a.rank - b.rank);
  const first = found[0];
  if (!streams.length) return { level: "unknown", sentence: "This daemon has no streams yet.", detail: "", commands: [] };
  const all = { 1: "The stream runs", 2: "Both directions run" }[streams.length] ?? `All ${streams.length} streams run`;
  if (!first) return { level: "ok", sentence: `All is well. ${all}.`, detail: "", commands: [] };
  const more = found.slice(1, 1 + MORE_MAX).map((one) => one.sentence);
  if (found.length > 1 + MORE_MAX) more.push(`${found.length - 1 - MORE_MAX} more below.`);
  const leading = first.rank === LEFT_OVER ? `${all}, but ${first.sentence}` : first.sentence;
  return { ...first, sentence: leading, detail: [first.detail, ...more].filter(Boolean).join(" ") };
}

function unreachable(status, streams) {
  return Object.entries(status?.sites ?? {})
    .filter(([, site]) => !site.reachable)
    .map(([name, site]) => ({
      rank: 1,
      level: "bad",
      sentence: `MySQL at ${name} does not answer.`,
      detail: sentence(site.error?.message) + " " + sentence(site.error?.hint),
      commands: streams.map((x) => x.blocked).filter((x) => ["source", "target"].includes(x?.what) && x.sentence.includes(name)).slice(0, 1).map((x) => x.command),
    }));
}

function trouble(one) {
  const rank = 2 + WORST.indexOf(one.state);
  const hint = sentence(one.error?.hint);
  const why = sentence(one.error?.message ?? one.reason);
  const { level } = stateOf(one.state);
  const found = (text, detail, as = level, at = rank) =>
    ({ rank: at, level: as, sentence: text, detail, commands: one.blocked?.command ? [one.blocked.command] : [] });
  const blocked = one.blocked?.sentence;
  switch (one.state) {
    case "need_reseed":
      return found(`${one.name} cannot go on: the missing transactions exist nowhere any more.`, `${why} ${hint}`);
    case "stopped":
      if (one.error) return found(`${one.name} has stopped and needs you.`, sentence(blocked) || `${why} ${hint}`);
      return found(`${one.name} is stopped by an operator.`, given(one), "watch");
    case "unknown":
      return found(`The state of ${one.name} is not known.`, why);
    case "paused":
      return found(`${one.name} is paused by an operator.`, given(one));
    case "connecting":
      return found(`${one.name} is connecting.`, sentence(blocked) || `${why} ${hint}`);
  }
  if (one.canary?.bounced) {
    return found(`A change from ${one.target} came back to ${one.target}.`, "Loop protection failed: stop both directions.", "bad", 0);
  }
  if (blocked) return found(`${one.name} is blocked.`, sentence(blocked), "watch", 9);
  const missing = missingFor(one);
  if (missing) {
    return found(`No canary of ${one.origin} has landed at ${one.target} for ${about(missing / 1e6)}.`, `The daemon of ${one.origin} sends the canaries.`, "watch", 10);
  }
  if (one.behind.seconds > SLOW_S) {
    return found(`${one.target} is ${about(one.behind.seconds)} behind ${one.origin}.`, "", "watch", 10);
  }
  return null;
}

/** Return since when canaries are missing, in microseconds; 0 while canaries land or are off. */
export function missingFor({ canary, atUs }) {
  const passed = canary?.landed_us ? atUs - canary.landed_us : 0;
  return passed > MISSED * (canary?.every_s ?? 0) * 1e6 ? passed : 0;
}

const given = (one) => (one.desiredReason ? `Reason given: ${sentence(one.desiredReason)}` : "");

function leftOver(streams, conflicts) {
  const open = conflicts.filter((one) => one.state === "open").length;
  if (!open) return [];
  const rows = open === 1 ? "1 conflict waits" : `${count(open)} conflicts wait`;
  return [{
    rank: LEFT_OVER,
    level: "watch",
    sentence: `${rows} for an operator.`,
    detail: "The sites differ in these rows until an operator settles the conflict.",
    commands: ["drc conflicts list --state open"],
  }];
}

// ------------------------------------------------------------ words and numbers

/** Return text as a sentence: a capital, a full stop. */
export function sentence(text) {
  const trimmed = (text ?? "").trim();
  if (!trimmed) return "";
  return trimmed[0].toUpperCase() + trimmed.slice(1) + (/[.!?…]$/.test(trimmed) ? "" : ".");
}

/** Return a time that does not change each second: screen readers read each change aloud. */
const about = (seconds) => (seconds < 120 ? `${Math.floor(seconds / 10) * 10} s` : duration(Math.floor(seconds / 60) * 60e6).replace(" 0 s", ""));

const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);

export const count = (n) => (n === null || n === undefined ? "–" : Math.round(n).toLocaleString("en-US"));

/** Return microseconds in a readable unit: `1.5 ms`, `12 s`, `3 min 20 s`. */
export function duration(us) {
  if (us === null || us === undefined) return "–";
  const ms = Math.abs(us) / 1000;
  if (ms < 10) return `${(us / 1000).toFixed(1)} ms`;
  if (ms < 1000) return `${(us / 1000).toFixed(0)} ms`;
  if (ms < 60e3) return `${(us / 1e6).toFixed(ms < 10e3 ? 1 : 0)} s`;
  if (ms < 3600e3) return `${Math.floor(ms / 60e3)} min ${Math.floor((ms % 60e3) / 1000)} s`;
  if (ms < 86400e3) return `${Math.floor(ms / 3600e3)} h ${Math.floor((ms % 3600e3) / 60e3)} min`;
  return `${Math.floor(ms / 86400e3)} d ${Math.floor((ms % 86400e3) / 3600e3)} h`;
}

/** Return a power of ten of microseconds, short enough for an axis. */
export const decade = (us) => (us < 1e6 ? `${us / 1e3} ms` : `${count(us / 1e6)} s`);

export function bytes(n) {
  if (n === null || n === undefined) return "–";
  const at = Math.min(4, Math.max(0, Math.floor(Math.log2(Math.max(n, 1)) / 10)));
  return `${(n / 1024 ** at).toFixed(at && n / 1024 ** at < 10 ? 1 : 0)} ${["B", "KiB", "MiB", "GiB", "TiB"][at]}`;
}

export function rate(n) {
  if (n === null || n === undefined) return "–";
  return n > 0 && n < 10 ? n.toFixed(1) : count(n);
}

/** Return a local time of day, and the day unless the day is today. */
export function clock(us, seconds = true) {
  const at = new Date(us / 1000);
  const time = at.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...(seconds ? { second: "2-digit" } : {}) });
  return at.toDateString() === new Date().toDateString() ? time : `${at.toLocaleDateString("en-CA")} ${time}`;
}
