// The tide gauge: how high each replica's water stands, under the heights at which the tiers are shut.
//
// One column for each replica, one line for each tier's ceiling across all of them. Water above a line means that the
// tier gets nothing there now.

import { h } from "./view.js";
import { percent } from "./words.js";

const HEIGHT = 184;
const BOTTOM = 20;
const TOP = 14;
// What the scale ends at: a little above full, for replicas whose limit has just fallen.
const SCALE = 1.15;
// The widest that a column becomes, percent: one replica is no wall.
const WIDEST = 22;
// Columns that still have room for a number.
const NUMBERED_MAX = 12;

const y = (share) => HEIGHT - BOTTOM - (Math.min(share, SCALE) / SCALE) * (HEIGHT - BOTTOM - TOP);
const px = (value) => value.toFixed(1);

/** The gauge of one deployment. `at` is where it is in the API's answer. */
export function gauge(deployment, at) {
  const { replicas, tiers } = deployment;
  const width = Math.min(100 / Math.max(replicas.length, 1), WIDEST);
  return h(
    "svg",
    { class: "gauge", role: "img", "aria-label": inWords(deployment), width: "100%", height: HEIGHT },
    replicas.map((replica, nth) => column(replica, nth, width, tiers, replicas.length <= NUMBERED_MAX, `${at}.replicas.${nth}`)),
    tiers.map((tier) => ceiling(tier)),
  );
}

function column(replica, nth, width, tiers, numbered, at) {
  const [x, wide] = [`${(nth * width + width * 0.09).toFixed(2)}%`, `${(width * 0.82).toFixed(2)}%`];
  const middle = `${(nth * width + width / 2).toFixed(2)}%`;
  const level = y(replica.saturation);
  const state = !replica.healthy ? "down" : replica.drained ? "drained" : shut(replica, tiers);
  return h(
    "g",
    { key: replica.replica, class: `column ${state}` },
    h("rect", { class: "tank", x, width: wide, y: TOP, height: HEIGHT - BOTTOM - TOP, rx: 3 }),
    h("rect", { class: "water", x, width: wide, y: px(level), height: px(HEIGHT - BOTTOM - level) }),
    h("rect", { class: "surface", x, width: wide, y: px(level), height: 2 }),
    numbered && h("text", { class: "level", x: middle, y: px(Math.max(level - 5, 10)), "data-of": `${at}.saturation`, "data-form": "percent" }, percent(replica.saturation)),
    numbered && h("text", { class: "foot", x: middle, y: HEIGHT - 6 }, !replica.healthy ? "down" : replica.drained ? "drained" : `#${replica.id ?? nth}`),
  );
}

/** Which tiers get nothing on it. */
function shut(replica, tiers) {
  const closed = tiers.filter((tier) => replica.saturation >= tier.ceiling).map((tier) => tier.tier);
  return closed.length === 0 ? "open" : closed.includes("priority") ? "full" : "regular-shut";
}

function ceiling(tier) {
  const height = px(y(tier.ceiling));
  return h(
    "g",
    { key: `ceiling ${tier.tier}`, class: `ceiling ${tier.tier}` },
    h("line", { x1: "0%", x2: "100%", y1: height, y2: height }),
    h("text", { x: "100%", dx: 8, y: px(y(tier.ceiling) + (tier.tier === "priority" ? -1 : 9)) }, `${tier.tier} ${percent(tier.ceiling)}`),
  );
}

function inWords({ name, replicas, tiers }) {
  const levels = replicas.map((replica, nth) => `${replica.id ?? nth}: ${!replica.healthy ? "down" : percent(replica.saturation)}`).join(", ");
  const lines = tiers.map((tier) => `${tier.tier} up to ${percent(tier.ceiling)}, ${tier.open ? "open" : "shut"}`).join("; ");
  return `How full the replicas of ${name} are. ${levels}. ${lines}.`;
}

/** A bar: how much of it is used. */
export function bar(share) {
  const filled = Math.max(0, Math.min(share, 1));
  return h(
    "svg",
    { class: `bar ${share >= 0.95 ? "full" : share > 0.5 ? "high" : ""}`, width: "100%", height: 6, "aria-hidden": "true" },
    h("rect", { class: "rail", width: "100%", height: 6, rx: 3 }),
    h("rect", { class: "fill", width: `${(100 * filled).toFixed(1)}%`, height: 6, rx: 3 }),
  );
}

/** A measure that was exceeded: what there was, what came on top, and a mark at what was allowed. */
export function excess(base, added, allowed) {
  const whole = Math.max(base + added, allowed, 1e-9) * 1.04;
  const at = (value) => `${((100 * Math.max(value, 0)) / whole).toFixed(1)}%`;
  return h(
    "svg",
    { class: "bar excess", width: "100%", height: 10, "aria-hidden": "true" },
    h("rect", { class: "rail", width: "100%", y: 2, height: 6, rx: 3 }),
    h("rect", { class: "fill", width: at(base), y: 2, height: 6 }),
    h("rect", { class: "added", x: at(base), width: at(added), y: 2, height: 6 }),
    h("rect", { class: "allowed", x: at(allowed), width: 2, height: 10 }),
  );
}

/** The last minutes as two stacked areas: let in below, turned away above. */
export function spark(samples, most) {
  const [wide, high] = [100, 28];
  const top = Math.max(1, ...samples.map(({ admitted, shed }) => admitted + shed));
  const x = (nth) => ((nth + most - samples.length) / Math.max(most - 1, 1)) * wide;
  const line = (of) => samples.map((sample, nth) => `${x(nth).toFixed(1)},${(high - (of(sample) / top) * (high - 2)).toFixed(1)}`);
  const area = (upper, lower) => (samples.length < 2 ? "" : `M${upper.join("L")}L${lower.reverse().join("L")}Z`);
  const [all, admitted, floor] = [line((s) => s.admitted + s.shed), line((s) => s.admitted), line(() => 0)];
  return h(
    "svg",
    { class: "spark", viewBox: `0 0 ${wide} ${high}`, preserveAspectRatio: "none", width: "100%", height: high, "aria-hidden": "true" },
    h("path", { class: "turned-away", d: area(all, [...admitted]) }),
    h("path", { class: "let-in", d: area(admitted, floor) }),
  );
}
