// The saturation gauge: how full each replica is, under the ceilings of the tiers.
//
// One column for each replica, one line for each tier's ceiling in force across all of them. A column above a line means
// that the tier gets nothing there now. Where a ceiling is lowered, the configured one is a faint line above it.

import { h } from "./view.js";
import { percent } from "./words.js";

const HEIGHT = 184;
const BOTTOM = 20;
const TOP = 14;
// What the scale ends at: a little above full, for replicas whose limit has just fallen.
const SCALE = 1.15;
// The widest that a column becomes, percent: one replica is no wall.
const WIDEST = 22;
// Columns that still have room for a number on a wide page, and on any page; those also have room for a word.
const NUMBERED_MAX = 12;
const ROOMY_MAX = 5;

const y = (share) => HEIGHT - BOTTOM - (Math.min(share, SCALE) / SCALE) * (HEIGHT - BOTTOM - TOP);
const px = (value) => value.toFixed(1);

/** The gauge of one deployment. `at` is where it is in the API's answer. */
export function gauge(deployment, at) {
  const { replicas, tiers } = deployment;
  const width = Math.min(100 / Math.max(replicas.length, 1), WIDEST);
  return h(
    "svg",
    { class: replicas.length > ROOMY_MAX ? "gauge crowded" : "gauge", role: "img", "aria-label": inWords(deployment), width: "100%", height: HEIGHT },
    replicas.map((replica, nth) => column(replica, nth, width, tiers)),
    replicas.length === 0 && h("text", { x: "50%", y: HEIGHT / 2 }, "no replicas"),
    tiers.filter(lowered).map((tier) => h("line", { key: `configured ${tier.tier}`, class: `configured ${tier.tier}`, x1: "0%", x2: "100%", y1: px(y(tier.ceiling)), y2: px(y(tier.ceiling)) })),
    tiers.map((tier, nth) => ceiling(tier, tiers[0], `${at}.tiers.${nth}`)),
    // Above the lines, so that none strikes a number through.
    replicas.length <= NUMBERED_MAX && replicas.map((replica, nth) => label(replica, nth, width, replicas.length, `${at}.replicas.${nth}`)),
  );
}

/** Whether the line in force is below the configured one. */
export const lowered = (tier) => tier.ceiling - tier.ceiling_in_force > 0.004;

/** What a replica does, in one word. */
export const stateOf = (replica) => replica.health;

function column(replica, nth, width, tiers) {
  const [x, wide] = [`${(nth * width + width * 0.09).toFixed(2)}%`, `${(width * 0.82).toFixed(2)}%`];
  const level = y(replica.saturation);
  const state = stateOf(replica);
  return h(
    "g",
    { key: replica.replica, class: `column ${state === "serving" ? full(replica, tiers) : state}` },
    h("rect", { class: "tank", x, width: wide, y: TOP, height: HEIGHT - BOTTOM - TOP, rx: 3 }),
    h("rect", { class: "water", x, width: wide, y: px(level), height: px(HEIGHT - BOTTOM - level) }),
    h("rect", { class: "surface", x, width: wide, y: px(level), height: 2 }),
  );
}

/** Its level and its name; what keeps it from serving, where there is room for a word. */
function label(replica, nth, width, of, at) {
  const x = `${(nth * width + width / 2).toFixed(2)}%`;
  const state = stateOf(replica);
  return h(
    "g",
    { key: `label ${replica.replica}`, class: state },
    state !== "down" && state !== "drained" && h("text", { class: "level", x, y: px(Math.max(y(replica.saturation) - 5, 10)), "data-of": `${at}.saturation`, "data-form": "percent" }, percent(replica.saturation)),
    h("text", { class: "foot", x, y: HEIGHT - 6 }, `#${replica.id ?? nth}`, state !== "serving" && of <= ROOMY_MAX && h("tspan", { class: "wide" }, ` ${state}`)),
  );
}

/** Which tiers get nothing on it. */
function full(replica, tiers) {
  const closed = tiers.filter((tier) => replica.saturation >= tier.ceiling_in_force).map((tier) => tier.tier);
  return closed.length === 0 ? "room" : closed.includes("priority") ? "full" : "regular-shut";
}

function ceiling(tier, first, at) {
  const height = y(tier.ceiling_in_force);
  // Two lines at one height would be written over each other.
  const below = tier !== first && height - y(first.ceiling_in_force) < 16;
  return h(
    "g",
    { key: `ceiling ${tier.tier}`, class: `ceiling ${tier.tier}` },
    h("line", { x1: "0%", x2: "100%", y1: px(height), y2: px(height) }),
    h("text", { x: "100%", dx: 8, y: px(tier === first ? height : below ? y(first.ceiling_in_force) + 16 : height + 4) }, `${tier.tier} `, h("tspan", { "data-of": `${at}.ceiling_in_force`, "data-form": "percent" }, percent(tier.ceiling_in_force))),
  );
}

function inWords({ name, replicas, tiers }) {
  const levels = replicas.map((replica, nth) => `${replica.id ?? nth}: ${stateOf(replica) === "serving" ? percent(replica.saturation) : stateOf(replica)}`).join(", ");
  const lines = tiers.map((tier) => `${tier.tier} up to ${percent(tier.ceiling_in_force)}${lowered(tier) ? ` (configured ${percent(tier.ceiling)})` : ""}, ${tier.open ? "open" : "closed"}`).join("; ");
  return `Saturation of the replicas of ${name}. ${levels || "No replicas"}. ${lines}.`;
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
