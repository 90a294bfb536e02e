// Which charts a deployment has: what each draws, in which unit, against which promise.

import { compact, count, decimal, per5s, percent, perMinute, span, TIERS } from "./words.js";

const PERCENTILES = {
  p50: { width: 1.25, faint: true },
  p95: { width: 2 },
  p99: { width: 1.25, dash: [4, 3] },
};

const EACH = ["priority", "regular"];
const percentiles = (of) => EACH.flatMap((tier) => Object.entries(PERCENTILES).map(([name, look]) => ({ of: `${tier}.${of}.${name}`, label: `${TIERS[tier]} ${name}`, tone: tier, ...look })));
const tiers = (of, more = {}) => EACH.map((tier) => ({ of: `${tier}.${of}`, label: TIERS[tier], tone: tier, width: 2, ...more }));
// The API counts requests in a step; a chart shows them per second. Limits of requests are in no deployment: they refuse before the
// model is known.
const outcomes = (tier) => [
  { of: `${tier}.offered`, label: "Offered", tone: "ink", width: 1.25, dash: [4, 3] },
  { of: `${tier}.admitted`, label: "Admitted", tone: "priority", width: 1.5, fill: true },
  { of: `${tier}.limited`, label: "429 (token limits)", tone: "regular", width: 2 },
  { of: `${tier}.shed`, label: "503 (shed)", tone: "red", width: 2 },
];

/**
 * In the order of the page. `form` writes a value, `axis` those of the axis; `slo` names the target that is drawn as a line;
 * `rate`: counts in a step, shown per second; `note`: what the title leaves open.
 */
export const CHARTS = [
  { id: "ttft", title: "Time to first token", form: span, slo: "ttft_ms", series: percentiles("ttft_ms") },
  { id: "gap", title: "Time between tokens", form: span, slo: "tpot_ms", series: percentiles("gap_ms") },
  { id: "attainment", title: "Streams that met the SLO", form: percent, top: 1, series: tiers("attainment") },
  { id: "queue", title: "Waiting requests", form: count, axis: compact, series: tiers("queued") },
  { id: "priority", title: "Priority requests per second", rate: true, series: outcomes("priority") },
  { id: "regular", title: "Regular requests per second", rate: true, series: outcomes("regular") },
  { id: "saturation", title: "Saturation of the least full replica", form: percent, atLeast: 1, series: [{ of: "saturation", label: "Saturation", tone: "priority", width: 2, fill: true }, { of: "priority.ceiling_in_force", label: "Priority ceiling", tone: "ink", width: 1.25, dash: [5, 4] }, { of: "regular.ceiling_in_force", label: "Regular ceiling", tone: "regular", width: 1.25, dash: [5, 4] }] },
  { id: "limit", title: "Requests in flight and the limit N", form: decimal, axis: compact, series: [{ of: "active", label: "In flight", tone: "priority", width: 2, fill: true }, { of: "limit", label: "N", tone: "ink", width: 1.5, dash: [5, 4] }] },
  { id: "prompt", title: "Prompt tokens per second", note: "as requests end", form: compact, series: [{ of: "tokens_per_second.prompt", label: "Prompt", tone: "priority", width: 2, fill: true }, { of: "tokens_per_second.cached", label: "of them cached", tone: "regular", width: 1.5 }] },
  { id: "generated", title: "Generated tokens per second", note: "as requests end", form: compact, series: [{ of: "tokens_per_second.generated", label: "Generated", tone: "priority", width: 2, fill: true }] },
  { id: "replicas", title: "Replicas in service", form: count, series: [{ of: "replicas_up", label: "In service", tone: "priority", width: 2, fill: true }, { of: "replicas", label: "All", tone: "ink", width: 1.25, dash: [5, 4] }] },
];

/** How a chart writes its values where a step is so long. */
export const formOf = (chart, step) => (chart.rate ? { 5: per5s, 60: perMinute }[step] : chart.form);

/** Where a chart's axis ends: above all that is drawn, and above its promise. */
export function top(chart, highest, target) {
  if (chart.top) return chart.top * 1.04;
  const most = Math.max(highest ?? 0, target ?? 0, chart.atLeast ?? 0);
  return most > 0 ? most * 1.12 : 1;
}
