// The last refusals: whose, why, by how much, and what would have let it in.

import { excess } from "./gauge.js";
import { h } from "./view.js";
import { clock, compact, count, METERS, number, percent, REASONS, span } from "./words.js";

/** Refusals that are shown until somebody asks for all. */
const FIRST = 20;

const KINDS = { all: () => true, 429: ({ status }) => status === 429, 503: ({ status }) => status === 503, other: ({ status }) => status !== 429 && status !== 503 };
const LABELS = { all: "All", 429: "429 · their limit", 503: "503 · our load", other: "Broken" };

/** The buttons that choose which. */
export function choices(answer, chosen, act) {
  return Object.keys(KINDS)
    .sort((a, b) => ["all", "429", "503", "other"].indexOf(a) - ["all", "429", "503", "other"].indexOf(b))
    .map((kind) => h("button", { key: kind, class: "choice", "aria-pressed": String(kind === chosen), onclick: () => act.kind(kind) }, LABELS[kind], " ", h("span", { class: "quiet" }, count(answer.refusals.filter(KINDS[kind]).length))));
}

/** The list, newest first: the first few, or all that were asked for. */
export function refusals(answer, chosen, all, act) {
  const some = answer.refusals.map((refusal, nth) => ({ refusal, nth })).filter(({ refusal }) => KINDS[chosen](refusal));
  if (some.length === 0) return h("p", { class: "empty" }, "Nobody was refused.");
  const shown = some.slice(0, all ? some.length : FIRST);
  return [
    h("ol", { class: "refusals" }, shown.map(({ refusal, nth }) => item(refusal, `requests.refusals.${nth}`))),
    some.length > FIRST && h("p", { class: "more" }, h("button", { class: "push", onclick: () => act.all(!all) }, all ? "Show fewer" : `Show all ${count(some.length)}`)),
  ];
}

function item(refusal, at) {
  const { time, request_id: id, account, model, tier, deployment, status, reason, message, queue_ms: queued } = refusal;
  return h(
    "li",
    { key: id },
    h("div", { class: "when" }, h("time", { datetime: time }, clock(time)), h("span", { class: `chip ${status === 429 ? "warn" : "bad"}` }, String(status))),
    h(
      "div",
      { class: "what" },
      h("p", {}, h("strong", {}, account ?? "nobody known"), h("span", { class: "quiet" }, ` · ${model ?? "no model"}${tier ? ` · ${tier}` : ""}${deployment ? ` · ${deployment}` : ""} · `), h("span", { class: "reason" }, reason), REASONS[reason] && h("span", { class: "quiet" }, ` (${REASONS[reason]})`), queued > 0 && h("span", { class: "quiet" }, " · waited ", number(`${at}.queue_ms`, queued, span))),
      refusal.budget ? budget(refusal.budget, `${at}.budget`) : refusal.load ? load(refusal.load, tier, `${at}.load`) : null,
      refusal.would_have_helped ? h("p", {}, h("span", { class: "quiet" }, "Would have let it in: "), refusal.would_have_helped) : message && h("p", {}, message),
      h("p", { class: "id mono quiet" }, id),
    ),
  );
}

function budget({ meter, limit, used, asked, over_by: over, room_after_ms: room }, at) {
  return h(
    "p",
    { class: "measure" },
    h("span", {}, `${METERS[meter] ?? meter}: `, number(`${at}.used`, used, compact), " used + ", number(`${at}.asked`, asked, compact), " asked, limit ", number(`${at}.limit`, limit, compact), " — ", h("b", { class: "warn" }, number(`${at}.over_by`, over, compact), " too many"), room !== null && room !== undefined && [", room after ", number(`${at}.room_after_ms`, room, span)]),
    excess(used, asked, limit),
  );
}

function load({ predicted_wait_ms: wait, predicted_wait_max_ms: most, saturation, ceiling, queued }, tier, at) {
  return h(
    "p",
    { class: "measure" },
    h(
      "span",
      {},
      wait !== null && wait !== undefined && ["wait ", h("b", { class: wait > most ? "bad" : "" }, number(`${at}.predicted_wait_ms`, wait, span)), " of at most ", number(`${at}.predicted_wait_max_ms`, most, span), " · "],
      h("b", { class: saturation >= ceiling ? "bad" : "" }, number(`${at}.saturation`, saturation, percent), " full"),
      ` where ${tier ?? "its tier"} stops at `,
      number(`${at}.ceiling`, ceiling, percent),
      " · ",
      number(`${at}.queued`, queued),
      " waiting before it",
    ),
    wait > most ? excess(most, wait - most, most) : saturation > ceiling && excess(ceiling, saturation - ceiling, ceiling),
  );
}
