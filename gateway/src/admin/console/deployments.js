// Deployments: the tide, who is let in, who waits, who is turned away and why, and each replica.

import { bar, gauge, spark } from "./gauge.js";
import { h } from "./view.js";
import { compact, count, decimal, number, percent, REASONS, span, TIERS } from "./words.js";

/** Samples that a spark shows: three minutes at one a second. */
export const SAMPLES_MAX = 180;

/** Puts the rates of this moment aside, by deployment and tier. */
export function remember(history, { deployments }, seconds) {
  for (const { name, tiers } of deployments) {
    for (const { tier, admitted, shed } of tiers) {
      const key = `${name} ${tier}`;
      const kept = history.get(key) ?? { samples: [] };
      if (kept.admitted !== undefined && admitted >= kept.admitted && seconds > 0) {
        kept.samples.push({ admitted: (admitted - kept.admitted) / seconds, shed: (shed - kept.shed) / seconds });
        if (kept.samples.length > SAMPLES_MAX) kept.samples.shift();
      }
      history.set(key, { samples: kept.samples, admitted, shed });
    }
  }
}

/** All deployments. */
export function deployments(answer, history, act) {
  return answer.deployments.map((deployment, nth) => card(deployment, `deployments.deployments.${nth}`, history, act));
}

function card(deployment, at, history, act) {
  const { name, engine, models, replicas, pressure } = deployment;
  const serving = replicas.filter((replica) => replica.healthy && !replica.drained).length;
  return h(
    "article",
    { key: name, class: "card", "aria-labelledby": `d-${name}` },
    h(
      "header",
      {},
      h("h3", { id: `d-${name}` }, name),
      h("span", { class: "quiet" }, `${engine} · ${models.join(", ")}`),
      h("span", { class: serving === replicas.length ? "chip" : serving ? "chip warn" : "chip bad" }, `${serving} of ${replicas.length} serving`),
      h("button", { class: "push", onclick: () => act.pressure(deployment) }, pressureOf(pressure) ? "Lift pressure…" : "Apply pressure…"),
    ),
    pressureOf(pressure) && h("p", { class: "note warn" }, "Under pressure: ", number(`${at}.pressure.share`, pressure.share, percent), " of the capacity is held back, for ", number(`${at}.pressure.left_ms`, pressure.left_ms, span), " more. This is a drill."),
    h("div", { class: "tide" }, gauge(deployment, at), figures(deployment, at)),
    tierTable(deployment, at, history),
    replicaTable(deployment, at, act),
  );
}

/** What holds capacity back now, if anything. */
export function pressureOf(pressure) {
  if (!pressure || !(pressure.share > 0)) return null;
  return { share: pressure.share, left: pressure.left_ms };
}

function figures(deployment, at) {
  const queued = deployment.tiers.reduce((sum, tier) => sum + tier.queued, 0);
  const figure = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, ...value));
  return h(
    "dl",
    { class: "figures" },
    figure("In flight", number(`${at}.active`, deployment.active), h("span", { class: "quiet" }, " of "), number(`${at}.limit`, deployment.limit), h("span", { class: "quiet" }, " (N)")),
    figure("Prompts being read", number(`${at}.backlog_tokens`, deployment.backlog_tokens, compact), h("span", { class: "quiet" }, " tokens")),
    figure("Waiting", h("span", { class: "n" }, count(queued)), h("span", { class: "quiet" }, " of "), number(`${at}.queue_max.requests`, deployment.queue_max.requests)),
    figure("Taken back", number(`${at}.withdrawn`, deployment.withdrawn), h("span", { class: "quiet" }, " · retried "), number(`${at}.retries`, deployment.retries)),
  );
}

function tierTable({ name, tiers }, at, history) {
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": `Tiers of ${name}` },
    h(
      "table",
      { class: "tiers" },
      h("thead", {}, h("tr", {}, ["Tier", "Let in /s", "Waiting", "Oldest", "Turned away /s", "Why, in the last minute", "Last 3 minutes"].map((text, nth) => h("th", { scope: "col", class: [1, 2, 3, 4].includes(nth) ? "r" : "" }, text)))),
      h("tbody", {}, tiers.map((tier, nth) => tierRow(name, tier, `${at}.tiers.${nth}`, history))),
    ),
  );
}

function tierRow(deployment, tier, at, history) {
  const { last_minute: lately } = tier;
  const samples = history.get(`${deployment} ${tier.tier}`)?.samples ?? [];
  return h(
    "tr",
    { key: tier.tier, class: tier.tier },
    h("th", { scope: "row" }, TIERS[tier.tier] ?? tier.tier, " ", h("span", { class: tier.open ? "chip good" : "chip bad" }, tier.open ? "open" : "shut")),
    h("td", { class: "r", "data-label": "Let in /s" }, number(`${at}.last_minute.admitted_per_s`, lately.admitted_per_s, decimal)),
    h("td", { class: "r", "data-label": "Waiting" }, number(`${at}.queued`, tier.queued)),
    h("td", { class: "r", "data-label": "Oldest" }, tier.queued ? number(`${at}.oldest_wait_ms`, tier.oldest_wait_ms, span) : h("span", { class: "none" }, "–")),
    h("td", { class: `r ${lately.shed ? (tier.tier === "priority" ? "bad" : "warn") : ""}`, "data-label": "Turned away /s" }, number(`${at}.last_minute.shed_per_s`, lately.shed_per_s, decimal)),
    h("td", { class: "why", "data-label": "Why, in the last minute" }, why(tier, at)),
    h("td", { class: "line" }, spark(samples, SAMPLES_MAX)),
  );
}

function why({ last_minute: { shed_by_reason: reasons }, top_accounts: waiting }, at) {
  const shed = Object.entries(reasons).sort((a, b) => b[1] - a[1]);
  const parts = shed.map(([reason, many]) => h("span", { key: reason, class: "reason", title: reason }, number(`${at}.last_minute.shed_by_reason.${reason}`, many), ` ${REASONS[reason] ?? reason}`));
  if (waiting.length) {
    parts.push(h("span", { key: " waiting", class: "reason quiet" }, "most wait: ", waiting.slice(0, 3).map(({ account, queued }, nth) => [nth ? ", " : "", account, " ", number(`${at}.top_accounts.${nth}.queued`, queued)])));
  }
  return parts.length ? parts : h("span", { class: "none" }, "nobody");
}

function replicaTable({ name, replicas }, at, act) {
  const heads = [["Replica"], ["Health"], ["In flight / N", 1], ["Full", 1], ["Reading", 1], ["KV", 1], ["Token gap", 1], ["Prefill /s", 1], ["Metrics", 1], [""]];
  return h(
    "details",
    { class: "replicas", open: replicas.length <= 8 },
    h("summary", {}, `${replicas.length} ${replicas.length === 1 ? "replica" : "replicas"}`),
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": `Replicas of ${name}` },
      h(
        "table",
        {},
        h("thead", {}, h("tr", {}, heads.map(([text, right]) => h(text ? "th" : "td", { scope: text ? "col" : null, class: right ? "r" : "" }, text)))),
        h("tbody", {}, replicas.map((replica, nth) => replicaRow(name, replica, nth, `${at}.replicas.${nth}`, act))),
      ),
    ),
  );
}

function replicaRow(deployment, replica, nth, at, act) {
  const [kind, health] = !replica.healthy ? ["bad", "down"] : replica.drained ? ["warn", replica.active ? "draining" : "drained"] : ["good", "serving"];
  const [kv, of] = replica.kv_capacity_tokens ? [replica.kv_capacity_tokens, "kv_capacity_tokens"] : [replica.kv_learnt_tokens, "kv_learnt_tokens"];
  return h(
    "tr",
    { key: replica.replica, class: replica.drained ? "resting" : "" },
    h("th", { scope: "row", class: "mono" }, h("span", { class: "quiet" }, `#${replica.id ?? nth} `), replica.replica.replace(/^https?:\/\//, "")),
    h("td", { "data-label": "Health" }, h("span", { class: `chip ${kind}` }, health)),
    h("td", { class: "r", "data-label": "In flight / N" }, number(`${at}.active`, replica.active), h("span", { class: "quiet" }, " / "), number(`${at}.limit`, replica.limit)),
    h("td", { class: "r narrow", "data-label": "Full" }, number(`${at}.saturation`, replica.saturation, percent), bar(replica.saturation)),
    h("td", { class: "r", "data-label": "Reading" }, number(`${at}.backlog_tokens`, replica.backlog_tokens, compact)),
    h("td", { class: "r", "data-label": "KV" }, number(`${at}.kv_tokens`, replica.kv_tokens, compact), kv ? [h("span", { class: "quiet" }, of === "kv_learnt_tokens" ? " / about " : " / "), number(`${at}.${of}`, kv, compact)] : null),
    h("td", { class: "r", "data-label": "Token gap" }, number(`${at}.gap_ms`, replica.gap_ms, span)),
    h("td", { class: "r", "data-label": "Prefill /s" }, number(`${at}.prefill_tokens_per_s`, replica.prefill_tokens_per_s, compact)),
    h("td", { class: "r", "data-label": "Metrics" }, number(`${at}.scrape_age_ms`, replica.scrape_age_ms, span)),
    h("td", { class: "r" }, h("button", { class: "push", "aria-label": `${replica.drained ? "Put back" : "Drain"} ${replica.replica}`, onclick: () => act.drain(deployment, replica, replica.id ?? nth) }, replica.drained ? "Put back…" : "Drain…")),
  );
}
