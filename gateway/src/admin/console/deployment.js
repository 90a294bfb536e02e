// One deployment: how full it is, what binds now, who is admitted, who waits, who is shed and why, and each replica.

import { statusOf } from "./deployments.js";
import { bar, gauge, lowered, stateOf } from "./gauge.js";
import { h } from "./view.js";
import { compact, count, decimal, number, percent, REASONS, span, TIERS } from "./words.js";

/** Where its numbers are in the answers. */
const AT = "deployment";
/** Replicas that are listed at once. */
const REPLICAS_SHOWN_MAX = 50;
/** Replicas up to which the list is open from the start. */
const REPLICAS_OPEN_MAX = 8;

/** The whole of it; `time` is its history, drawn below the tiers. */
export function deployment(answer, time, act) {
  const { name, engine, models, pressure } = answer;
  const status = statusOf(answer);
  return h(
    "article",
    { key: name, class: "card", "aria-labelledby": "deployment-name" },
    h(
      "header",
      {},
      h("h3", { id: "deployment-name" }, name),
      h("span", { class: "quiet clip" }, `${engine} · ${models.join(", ")}`),
      h("span", { class: `chip ${status.kind}` }, status.words),
      h("button", { class: "push", onclick: () => act.pressure(answer) }, pressureOf(pressure) ? "Lift pressure…" : "Apply pressure…"),
    ),
    pressureOf(pressure) && h("p", { class: "note warn" }, "Under pressure: ", number(`${AT}.pressure.share`, pressure.share, percent), " of the capacity is held back, for ", number(`${AT}.pressure.left_ms`, pressure.left_ms, span), " more. This is a drill."),
    answer.ceilings_set && h("p", { class: "note warn" }, "An operator set the ceilings; they hold until the next reload or restart."),
    h("div", { class: "level-and-figures" }, gauge(answer, AT), figures(answer)),
    tierTable(answer),
    time,
    replicaTable(answer, act),
  );
}

/** What holds capacity back now, if anything. */
export function pressureOf(pressure) {
  if (!pressure || !(pressure.share > 0)) return null;
  return { share: pressure.share, left: pressure.left_ms };
}

function figures(answer) {
  const queued = answer.tiers.reduce((sum, tier) => sum + tier.queued, 0);
  const figure = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, ...value));
  return h(
    "dl",
    { class: "figures" },
    figure("In flight", number(`${AT}.active`, answer.active), h("span", { class: "quiet" }, " of "), number(`${AT}.limit`, answer.limit), h("span", { class: "quiet" }, " (N)")),
    figure("Prefill backlog", number(`${AT}.backlog_tokens`, answer.backlog_tokens, compact), h("span", { class: "quiet" }, " tokens")),
    figure("Waiting", number(`${AT}.tiers.*.queued`, queued), h("span", { class: "quiet" }, " of "), number(`${AT}.queue_max.requests`, answer.queue_max.requests)),
    figure("Withdrawn", number(`${AT}.withdrawn`, answer.withdrawn), h("span", { class: "quiet" }, " · retried "), number(`${AT}.retries`, answer.retries)),
    figure("Replicas", replicaWords(answer.replicas)),
  );
}

/** 2 serving, 1 drained */
function replicaWords(replicas) {
  const words = ["serving", "draining", "drained", "down"].map((state) => [state, replicas.filter((replica) => stateOf(replica) === state).length]).filter(([state, many]) => many > 0 || state === "serving");
  return words.map(([state, many], nth) => [nth ? ", " : "", h("span", { key: state, class: state === "down" ? "bad" : "" }, `${count(many)} ${state}`)]);
}

function tierTable({ name, tiers }) {
  const heads = [["Tier"], ["What binds now"], ["Ceiling", 1], ["Admitted /s", 1], ["Waiting", 1], ["Oldest", 1], ["Shed /s", 1], ["Shed in the last minute"]];
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": `Tiers of ${name}` },
    h(
      "table",
      { class: "tiers" },
      h("thead", {}, h("tr", {}, heads.map(([text, right]) => h("th", { scope: "col", class: right ? "r" : "" }, text)))),
      h("tbody", {}, tiers.map((tier, nth) => tierRow(tier, `${AT}.tiers.${nth}`))),
    ),
  );
}

function tierRow(tier, at) {
  const { last_minute: lately } = tier;
  return h(
    "tr",
    { key: tier.tier, class: tier.tier },
    h("th", { scope: "row" }, TIERS[tier.tier] ?? tier.tier, " ", h("span", { class: `chip ${tier.open ? "good" : tier.tier === "priority" ? "bad" : "warn"}` }, tier.open ? "open" : "closed")),
    h("td", { class: "binds", "data-label": "What binds now" }, tier.binds.code === "none" ? h("span", { class: "quiet" }, "nothing") : tier.binds.words),
    h("td", { class: "r", "data-label": "Ceiling" }, number(`${at}.ceiling_in_force`, tier.ceiling_in_force, percent), lowered(tier) && h("span", { class: "quiet", title: "lowered: room kept for priority" }, " of ", number(`${at}.ceiling`, tier.ceiling, percent))),
    h("td", { class: "r", "data-label": "Admitted /s" }, number(`${at}.last_minute.admitted_per_s`, lately.admitted_per_s, decimal)),
    h("td", { class: "r", "data-label": "Waiting" }, number(`${at}.queued`, tier.queued)),
    h("td", { class: "r", "data-label": "Oldest" }, tier.queued ? number(`${at}.oldest_wait_ms`, tier.oldest_wait_ms, span) : h("span", { class: "none" }, "–")),
    h("td", { class: `r ${lately.shed ? (tier.tier === "priority" ? "bad" : "warn") : ""}`, "data-label": "Shed /s" }, number(`${at}.last_minute.shed_per_s`, lately.shed_per_s, decimal)),
    h("td", { class: "why", "data-label": "Shed in the last minute" }, why(tier, at)),
  );
}

function why({ last_minute: { shed_by_reason: reasons }, top_accounts: waiting }, at) {
  const shed = Object.entries(reasons).sort((a, b) => b[1] - a[1]);
  const parts = shed.map(([reason, many]) => h("span", { key: reason, class: "reason", title: reason }, number(`${at}.last_minute.shed_by_reason.${reason}`, many), ` ${REASONS[reason] ?? reason}`));
  if (waiting.length) {
    parts.push(h("span", { key: " waiting", class: "reason quiet" }, "most waiting: ", waiting.slice(0, 3).map(({ account, queued }, nth) => [nth ? ", " : "", h("a", { href: `#/accounts/${encodeURIComponent(account)}` }, account), " ", number(`${at}.top_accounts.${nth}.queued`, queued)])));
  }
  return parts.length ? parts : h("span", { class: "none" }, "none");
}

function replicaTable({ name, replicas }, act) {
  const heads = [["Replica"], ["State"], ["In flight / N", 1], ["Saturation", 1], ["Prefill backlog", 1], ["KV tokens", 1], ["Token gap", 1], ["Prefill /s", 1], ["Metrics age", 1], [""]];
  const shown = replicas.slice(0, REPLICAS_SHOWN_MAX);
  return h(
    "details",
    { class: "replicas", open: replicas.length <= REPLICAS_OPEN_MAX },
    h("summary", {}, `${count(replicas.length)} ${replicas.length === 1 ? "replica" : "replicas"}`),
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": `Replicas of ${name}` },
      h(
        "table",
        {},
        h("thead", {}, h("tr", {}, heads.map(([text, right]) => h(text ? "th" : "td", { scope: text ? "col" : null, class: right ? "r" : "" }, text)))),
        h("tbody", {}, shown.map((replica, nth) => replicaRow(name, replica, nth, `${AT}.replicas.${nth}`, act))),
      ),
    ),
    replicas.length > shown.length && h("p", { class: "quiet" }, `The first ${shown.length} of ${count(replicas.length)}; `, h("code", {}, "tidegate deployments"), " lists all."),
  );
}

/** What is not in order is red, what an operator asked for is not. */
const KINDS = { serving: "good", draining: "rest", drained: "rest", down: "bad" };

function replicaRow(deployment, replica, nth, at, act) {
  const state = stateOf(replica);
  const [kv, of] = replica.kv_capacity_tokens ? [replica.kv_capacity_tokens, "kv_capacity_tokens"] : [replica.kv_learnt_tokens, "kv_learnt_tokens"];
  const back = replica.drained;
  return h(
    "tr",
    { key: replica.replica, class: replica.drained ? "resting" : "" },
    h("th", { scope: "row", class: "mono" }, h("span", { class: "quiet" }, `#${replica.id ?? nth} `), replica.replica.replace(/^https?:\/\//, "")),
    h("td", { "data-label": "State" }, h("span", { class: `chip ${KINDS[state] ?? ""}` }, state)),
    h("td", { class: "r", "data-label": "In flight / N" }, number(`${at}.active`, replica.active), h("span", { class: "quiet" }, " / "), number(`${at}.limit`, replica.limit)),
    h("td", { class: "r narrow", "data-label": "Saturation" }, state === "down" ? h("span", { class: "none" }, "–") : [number(`${at}.saturation`, replica.saturation, percent), bar(replica.saturation)]),
    h("td", { class: "r", "data-label": "Prefill backlog" }, number(`${at}.backlog_tokens`, replica.backlog_tokens, compact)),
    h("td", { class: "r", "data-label": "KV tokens" }, number(`${at}.kv_tokens`, replica.kv_tokens, compact), kv ? [h("span", { class: "quiet" }, of === "kv_learnt_tokens" ? " / about " : " / "), number(`${at}.${of}`, kv, compact)] : null),
    h("td", { class: "r", "data-label": "Token gap" }, number(`${at}.gap_ms`, replica.gap_ms, span)),
    h("td", { class: "r", "data-label": "Prefill /s" }, number(`${at}.prefill_tokens_per_s`, replica.prefill_tokens_per_s, compact)),
    h("td", { class: "r", "data-label": "Metrics age" }, number(`${at}.scrape_age_ms`, replica.scrape_age_ms, span)),
    h("td", { class: "r" }, h("button", { class: "push", "aria-label": `${back ? "Put back" : "Drain"} ${replica.replica}`, onclick: () => act.drain(deployment, replica, replica.id ?? nth) }, back ? "Put back…" : "Drain…")),
  );
}
