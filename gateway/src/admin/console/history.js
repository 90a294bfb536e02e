// The kept history of one deployment: columns of samples on one time axis, extended as new ones come.

/** Resolutions that the gateway keeps, finest first; `least`: an axis is so long while there is less to show. */
export const RANGES = {
  hour: { label: "Last hour", about: "A sample every 5 s", resolution: "5s", step: 5, span: 3600, least: 300 },
  day: { label: "Last day", about: "A sample every minute", resolution: "1m", step: 60, span: 86_400, least: 3600 },
};

/** Samples that are kept here: a day of minutes, and a few while the gateway's bound is not reached. */
const SAMPLES_MAX = 1500;

/** Events that are kept here, the newest. */
export const EVENTS_MAX = 500;

/** Samples of one deployment at one resolution, and what happened meanwhile. */
export class History {
  constructor(deployment, range) {
    this.deployment = deployment;
    this.range = range;
    this.step = RANGES[range].step;
    this.slo = null;
    this.now = 0;
    this.complete = true;
    this.events = [];
    this.time = [];
    this.columns = new Map();
    // Grows with each change, so that a chart knows whether it is behind.
    this.version = 0;
  }

  /** The newest moment, unix seconds; undefined before the first sample. */
  get last() {
    return this.time.at(-1);
  }

  /** Takes an answer of the API: samples after those that are here, or all of them. */
  merge(answer) {
    const { time } = answer;
    Object.assign(this, { slo: answer.slo, now: answer.now, complete: answer.complete });
    this.version++;
    const fresh = time.findIndex((moment) => this.last === undefined || moment > this.last);
    if (fresh < 0) return;
    const given = columns(answer);
    for (const path of given.keys()) if (!this.columns.has(path)) this.columns.set(path, this.time.map(() => null));
    for (let nth = fresh; nth < time.length; nth++) {
      // Where nothing was sampled nothing is drawn: a line across would be a guess.
      if (this.last !== undefined && time[nth] - this.last > 1.5 * this.step) this.push(this.last + this.step, () => null);
      this.push(time[nth], (path) => given.get(path)?.[nth] ?? null);
    }
    const over = this.time.length - SAMPLES_MAX;
    if (over > 0) for (const column of [this.time, ...this.columns.values()]) column.splice(0, over);
  }

  /** Takes events after those that are here, or all of them; oldest first. */
  tell({ events }) {
    // By their time: after a hand-over another process numbers them.
    const last = this.events.at(-1)?.time ?? -1;
    this.events.push(...events.filter(({ time }) => time > last));
    this.events.splice(0, Math.max(this.events.length - EVENTS_MAX, 0));
  }

  push(moment, value) {
    this.time.push(moment);
    for (const [path, column] of this.columns) column.push(value(path));
  }

  /** The column at that path; nothing known where there is none. */
  column(path) {
    return this.columns.get(path) ?? this.time.map(() => null);
  }

  /** The index of the sample nearest to a moment; -1 without samples. */
  nearest(moment) {
    let best = -1;
    this.time.forEach((at, nth) => {
      if (best < 0 || Math.abs(at - moment) <= Math.abs(this.time[best] - moment)) best = nth;
    });
    return best;
  }
}

/** The answer's columns by path, as in `priority.ttft_ms.p95`. */
function columns({ tiers, tokens_per_second, ...rest }) {
  const into = new Map();
  const add = (at, value) => {
    if (Array.isArray(value)) into.set(at, value);
    else if (value && typeof value === "object") for (const [name, inner] of Object.entries(value)) add(`${at}.${name}`, inner);
  };
  for (const [name, value] of Object.entries(rest)) if (Array.isArray(value) && name !== "time") add(name, value);
  add("tokens_per_second", tokens_per_second);
  for (const { tier, ...of } of tiers) add(tier, of);
  return into;
}
