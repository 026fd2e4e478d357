// Conflicts, GTID sets, and the audit of commands. Values of rows go in as text nodes only.

import { h, redraw } from "./dom.js";
import { clock } from "./facts.js";

const OPEN_FIRST = { open: 0 };

/** Draw conflicts; open conflicts first, each with both versions folded away. */
export function showConflicts(root, conflicts) {
  const sorted = [...conflicts].sort((a, b) => (OPEN_FIRST[a.state] ?? 1) - (OPEN_FIRST[b.state] ?? 1) || (a.detected_at < b.detected_at ? 1 : -1));
  redraw(root, sorted, (all) =>
    all.length ? table(["When", "Row", "Kind", "Winner", "State", "Why"], all.map(conflict)) : h("p", { class: "quiet" }, "No row was written at two sites at once."));
}

function conflict(one) {
  const names = [...new Set([one.row_local, one.row_before, one.row_after].flatMap((row) => Object.keys(row ?? {})))];
  const masked = names.some((name) => [one.row_local, one.row_after].some((row) => String(row?.[name] ?? "").startsWith("***")));
  const winner = { remote: one.origin, local: one.site }[one.winner] ?? one.winner;
  return [
    [h("time", { datetime: one.detected_at }, clock(Date.parse(one.detected_at) * 1000)), h("small", {}, `at ${one.site}, no. ${one.id}`)],
    [h("span", {}, one.table), h("code", {}, one.row_key), masked && h("span", { class: "chip", "data-level": "unknown", title: "conflicts.mask hides values of this table" }, "masked")],
    [one.kind.replaceAll("_", " ")],
    [winner, one.policy && h("small", {}, one.policy.replaceAll("_", " "))],
    [h("span", { class: "chip", "data-level": one.state === "open" ? "bad" : "ok" }, one.state === "open" ? "■ open" : `● ${one.state}`)],
    [h("span", {}, one.settled_by ? `${one.settlement}, by ${one.settled_by}` : one.reason),
      h("details", { "data-key": `${one.site}/${one.id}` }, h("summary", {}, "Versions"), versions(one, names))],
  ];
}

function versions(one, names) {
  const head = ["Column", `Here, ${one.site}`, "Remote before", `Remote, ${one.origin}`];
  const value = (row, name) => (row === null ? "(no row)" : name in row ? (row[name] === null ? "NULL" : String(typeof row[name] === "object" ? JSON.stringify(row[name]) : row[name])) : "(no column)");
  return table(head, names.map((name) => {
    const cells = [one.row_local, one.row_before, one.row_after].map((row) => value(row, name));
    const differs = cells[0] !== cells[2];
    return [[`${differs ? "≠ " : ""}${name}`], ...cells.map((text) => [h("code", { class: differs ? "differs" : null }, text)])];
  }), "versions");
}

/** Draw GTID sets by stream, folded. */
export function showSets(root, streams) {
  const folds = streams.map((one) => [one.name, Object.entries(one.sets).filter(([, value]) => value)]);
  redraw(root, folds, (all) => all.map(([name, sets]) =>
    h("details", { class: "fold", "data-key": name }, h("summary", {}, name),
      h("dl", { class: "sets" }, sets.map(([what, set]) => [h("dt", {}, what), h("dd", {}, h("code", {}, set))])))));
}

/** Draw the audit, the newest first. */
export function showAudit(root, entries) {
  redraw(root, entries, (all) =>
    all.length
      ? table(["When", "Who", "Did", "To", "Reason"], all.map((one) => [[clock(one.at_us)], [one.actor], [one.action], [one.subject], [one.reason]]))
      : h("p", { class: "quiet" }, "No commands yet."));
}

export const showFailure = (root, error) => redraw(root, [error.message, error.hint], ([message, hint]) => h("p", { class: "quiet" }, `Cannot load: ${message}. ${hint ?? ""}`));

function table(columns, rows, kind = "") {
  return h("div", { class: `table ${kind}`, tabindex: kind ? null : 0, role: "group" },
    h("table", {},
      h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, i) => h("td", { "data-label": columns[i] }, cell)))))));
}
