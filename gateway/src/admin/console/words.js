// How numbers, times and words are written. Each `number` names where in the API's answers it is from (`data-of`).

import { h } from "./view.js";

const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en-US", { notation: "compact", maximumFractionDigits: 1 });
const tenth = new Intl.NumberFormat("en-US", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

/** 3,600,000 */
export const count = (value) => whole.format(value);
/** 3.6M */
export const compact = (value) => (Math.abs(value) < 10_000 ? whole.format(value) : short.format(value));
/** 2.5; 1,200: on an axis */
export const ticks = (value) => (value < 100 ? String(Number(value.toFixed(2))) : compact(value));
/** 0.5 → 50 % */
export const percent = (share) => `${whole.format(100 * share)} %`;
/** 12.3 */
export const decimal = (value) => tenth.format(value);

/** Counts in five seconds, and in a minute, per second. */
export const per5s = (value) => decimal(value / 5);
export const perMinute = (value) => decimal(value / 60);

/** 850 ms, 2.4 s, 3 min, 2 h, 3 d */
export function span(ms) {
  if (ms < 1000) return `${whole.format(ms)} ms`;
  if (ms < 60_000) return `${tenth.format(ms / 1000)} s`;
  if (ms < 3_600_000) return `${whole.format(ms / 60_000)} min`;
  if (ms < 172_800_000) return `${tenth.format(ms / 3_600_000)} h`;
  return `${whole.format(ms / 86_400_000)} d`;
}

/** 183 kB */
export const bytes = (value) => `${whole.format(value / 1000)} kB`;

/** The same of seconds. */
export const seconds = (value) => span(1000 * value);

/** 14:03:22, in the reader's time zone. */
export const clock = (moment) => new Date(moment).toLocaleTimeString("en-GB");
/** The same with the day. */
export const day = (moment) => new Date(moment).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
/** in 12 min; now, too, where it is a matter of milliseconds */
export function until(moment, now) {
  const ms = new Date(moment) - now;
  return ms < 1000 ? "now" : `in ${span(ms)}`;
}

/** A number of the API: written by `form`, findable by `of`. */
export function number(of, value, form = count, more = {}) {
  if (value === null || value === undefined) return h("span", { class: "none", title: "not known" }, "–");
  return h("span", { class: "n", "data-of": of, "data-form": form.name, ...more }, form(value));
}

/** What the tiers are called. */
export const TIERS = { priority: "Priority", regular: "Regular" };

/** What the reasons mean, for people who do not know them yet. */
export const REASONS = {
  "shed-predicted": "predicted wait too long",
  "shed-saturated": "no room for its tier",
  "queue-full": "the queue is full",
  displaced: "gave its place in the queue to a request that ranks higher",
  "queue-timeout": "waited as long as its tier may",
  deadline: "the client's own deadline cannot be met",
  memory: "the memory for request bodies is full",
  draining: "the gateway is shutting down",
  "no-replica": "no replica is in service",
  connections: "too many connections",
  descriptors: "too few file descriptors",
  prompt_tokens_limited: "the account's prompt tokens per minute",
  uncached_prompt_tokens_limited: "the account's uncached prompt tokens per minute",
  generated_tokens_limited: "the account's generated tokens per minute",
  requests_limited: "the account's requests per minute",
  concurrency_limited: "the account's requests at once",
  upstream_error: "the model server failed",
  upstream_timeout: "the model server was silent",
};

/** The kinds of events, short enough for a chart; `true`: a fault. */
export const EVENTS = {
  start: ["start"],
  hand_over: ["upgrade"],
  stopping: ["stopping"],
  reload: ["reload"],
  reload_refused: ["reload refused", true],
  drain: ["drain"],
  undrain: ["back in service"],
  replica_down: ["replica down", true],
  replica_up: ["replica up"],
  replica_added: ["replica added"],
  replica_removed: ["replica removed"],
  pressure: ["pressure"],
  pressure_over: ["pressure over"],
  thresholds: ["thresholds"],
  limits: ["limits"],
  account_made: ["account"],
  account_changed: ["account"],
  account_removed: ["account"],
  key_made: ["key"],
  keys_rotated: ["key"],
  key_ended: ["key"],
  log_level: ["log level"],
  drill_started: ["drill"],
  drill_ended: ["drill over"],
  leader: ["leader"],
};

/** What the meters are called. */
export const METERS = { prompt: "Prompt", "uncached-prompt": "Uncached prompt", generated: "Generated", requests: "Requests per minute", concurrency: "Requests at once" };
