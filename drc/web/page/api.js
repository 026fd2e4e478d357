// The daemon's API: the token, queries, commands, and events that reconnect by themselves.

const KEY = "drc.token";
const SILENT_MS = 5000; // a snapshot comes each second
const BACKOFF_MS = [500, 1000, 2000, 4000, 8000];

export const token = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** A failed request; `status` is 0 without an answer. */
export class Refused extends Error {
  constructor(status, message, hint = "") {
    super(message);
    this.status = status;
    this.hint = hint;
  }
}

export const get = (path, signal = AbortSignal.timeout(15000)) => ask(path, { signal }).then((r) => r.json());

export const post = (path, body) =>
  ask(path, {
    method: "POST",
    body: JSON.stringify(body),
    headers: { "Content-Type": "application/json" },
    signal: AbortSignal.timeout(60000),
  }).then((r) => r.json());

async function ask(path, { headers = {}, ...options } = {}) {
  const key = token.get();
  let answer;
  try {
    answer = await fetch(path, {
      ...options,
      headers: key ? { ...headers, Authorization: `Bearer ${key}` } : headers,
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
  } catch (error) {
    throw new Refused(0, error.name === "TimeoutError" ? "no answer in time" : "the daemon does not answer");
  }
  if (answer.ok) return answer;
  const text = await answer.text();
  throw new Refused(answer.status, ...explained(text, answer.status));
}

/** Return message and hint of an error, in each form that a daemon sends. */
function explained(text, status) {
  try {
    const body = JSON.parse(text);
    const error = body.error ?? body.detail ?? body;
    if (typeof error === "string") return [error, body.hint ?? ""];
    return [error.message ?? `status ${status}`, error.hint ?? body.hint ?? ""];
  } catch {
    return [text.trim().slice(0, 300) || `status ${status}`, ""];
  }
}

/** Report each snapshot for ever, and each lost connection to `lost(error)` before reconnecting. */
export async function events(heard, lost) {
  for (let tries = 0; ; tries++) {
    const gone = new AbortController();
    let watchdog = setTimeout(() => gone.abort(), SILENT_MS * 2);
    try {
      const answer = await ask("/api/v1/events", { signal: gone.signal });
      for await (const document of documents(answer.body)) {
        clearTimeout(watchdog);
        watchdog = setTimeout(() => gone.abort(), SILENT_MS);
        tries = 0;
        heard(document);
      }
      lost(new Refused(0, "the daemon closed the connection"));
    } catch (error) {
      lost(error);
      if (error.status === 401) return;
    } finally {
      clearTimeout(watchdog);
      gone.abort();
    }
    await new Promise((on) => setTimeout(on, BACKOFF_MS[Math.min(tries, BACKOFF_MS.length - 1)]));
  }
}

async function* documents(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  for (let buffer = ""; ; ) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (buffer + value).replaceAll("\r\n", "\n").split("\n\n");
    buffer = parts.pop();
    for (const part of parts) {
      const data = part.split("\n").filter((line) => line.startsWith("data:"));
      if (data.length) yield JSON.parse(data.map((line) => line.slice(5)).join("\n"));
    }
  }
}
