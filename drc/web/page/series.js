// The data of the charts: the store's lag history, then live values. Times in ms.

import { get } from "./api.js";
import { STAGES } from "./facts.js";

const LIVE_MAX = 3600; // values, a second apart: an hour

export class Series {
  #past = new Map();
  #live = new Map();

  /** Add the present values of the streams. */
  add(streams) {
    for (const one of streams) {
      const live = this.#live.get(one.name) ?? [];
      this.#live.set(one.name, live);
      const at = one.atUs / 1000;
      if (!one.atUs || !one.lag || live.at(-1)?.at >= at) continue;
      live.push({ at, lag: one.lag, stages: one.stages, rates: one.rates, behind: one.behind });
      if (live.length > LIVE_MAX) live.shift();
    }
  }

  /** Fetch the lag history of a stream from the store. */
  async load(one, sinceMs) {
    const query = new URLSearchParams({ origin: one.origin, target: one.target, since_us: Math.floor(sinceMs * 1000) });
    const { buckets } = await get(`/api/v1/lag?${query}`);
    const past = buckets.map(({ at_us: at, bucket_s: length, ...rest }) => {
      const sample = { ...rest, ...rest.sample };
      const lag = sample.lag_us ?? { p50: sample.lag_us_p50, p99: sample.lag_us_p99 };
      return { at: at / 1000 + (length ?? 0) * 500, lag, stages: sample.stages, rates: sample.rates, behind: sample.behind };
    });
    this.#past.set(one.name, past.sort((a, b) => a.at - b.at));
  }

  #of(name, from) {
    const live = this.#live.get(name) ?? [];
    const begin = live[0]?.at ?? Infinity;
    const past = (this.#past.get(name) ?? []).filter((p) => p.at < begin);
    return [...past, ...live].filter((p) => p.at >= from);
  }

  /** Return lines of lag: each stage, the whole way, and the age of the oldest waiting transaction. */
  lag(name, share, from) {
    const points = this.#of(name, from);
    const line = (label, tone, value, more = {}) => ({ name: label, tone, points: points.map((p) => [p.at, value(p) ?? null]), ...more });
    const stages = STAGES.map(([key, label, hint], i) => line(label, `s${i + 1}`, (p) => p.stages?.[key]?.[share], { hint }));
    const whole = line("whole way", "whole", (p) => p.lag?.[share], { strong: true, hint: "the origin's commit until visible at the target" });
    const behind = line("waiting since", "behind", (p) => (p.behind?.seconds > 0.001 ? p.behind.seconds * 1e6 : null), { hint: "age of the oldest transaction that is not decided" });
    return [...stages, whole, behind].filter((l) => l.points.some((p) => p[1] !== null));
  }

  /** Return a line of transactions a second for each stream. */
  rates(streams, from) {
    return streams.map((one, i) => ({
      name: one.name, tone: `s${(i % STAGES.length) + 1}`, strong: true,
      points: this.#of(one.name, from).map((p) => [p.at, p.rates?.transactions ?? null]),
    }));
  }
}
