// What was refused: by account and reason with counts, and the last of them one by one: why, by how much, and what would have
// let it in.

import { excess } from "./gauge.js";
import { address } from "./route.js";
import { h } from "./view.js";
import { clock, compact, count, day, METERS, number, percent, REASONS, span, TIERS } from "./words.js";

/** Groups that are listed at first. */
const GROUPS = 15;
/** Reasons for which how full the replicas are does not matter. */
const REGARDLESS = ["no-replica", "draining"];
/** Minutes of a group that are drawn. */
const MINUTES = 60;

/** The view. `query` are the filters in the address. */
export function refusals({ groups, requests, deployments }, query, more, act) {
  const filtered = Object.values(query).some((value) => value);
  return [
    filters(query, groups, act),
    h("section", { key: "groups", "aria-labelledby": "groups-title" }, h("h3", { id: "groups-title" }, "By account and reason, in the last hour"), groups && (groups.groups.length === 0 ? h("p", { class: "empty" }, filtered ? "Nothing in the last hour matches." : "Nothing was refused in the last hour.") : groupTable(groups, { query, more }))),
    h("section", { key: "each", "aria-labelledby": "each-title" }, h("h3", { id: "each-title" }, "The last, one by one"), each(requests, filtered, more, act)),
  ];
}

const STATUSES = { 429: "429 · the account's limits", 503: "503 · load", 502: "502 · the model server failed", 504: "504 · the model server was silent" };

function filters(query, groups, act) {
  const values = (name, of) => [...new Set([...(groups?.groups ?? []).flatMap(of), ...(query[name] ? [query[name]] : [])])].filter((value) => value !== null).sort();
  const set = (name, value) => act.go("refusals", null, { ...query, [name]: value });
  const choose = (name, label, options) =>
    h(
      "label",
      { key: name },
      label,
      h(
        "select",
        { name, value: query[name] ?? "", onchange: (event) => set(name, event.target.value) },
        h("option", { key: "", value: "" }, "all"),
        options.map(([value, text]) => h("option", { key: value, value }, text)),
      ),
    );
  const plain = (list) => list.map((value) => [value, value]);
  return h(
    "form",
    {
      key: "filters",
      class: "filters",
      role: "search",
      "aria-label": "Refusals",
      onsubmit: (event) => {
        event.preventDefault();
        const given = Object.fromEntries(new FormData(event.target));
        act.go("refusals", null, { ...query, account: given.account.trim(), id: given.id.trim() });
      },
    },
    h("label", { key: "id" }, "Request id", h("input", { name: "id", type: "search", autocomplete: "off", spellcheck: "false", placeholder: "ours or the client's", value: query.id ?? "" })),
    h("label", { key: "account" }, "Account", h("input", { name: "account", type: "search", autocomplete: "off", spellcheck: "false", placeholder: "its whole id", value: query.account ?? "" })),
    choose("status", "Status", Object.entries(STATUSES)),
    choose("reason", "Reason", values("reason", ({ reason }) => [reason]).map((reason) => [reason, reason])),
    choose("deployment", "Deployment", plain(values("deployment", (group) => group.deployments))),
    choose("tier", "Tier", Object.entries(TIERS)),
    h("button", { type: "submit", class: "push" }, "Search"),
    Object.keys(query).length > 0 && h("a", { class: "push", href: address("refusals") }, "All refusals"),
  );
}

/** Groups as a table; `more`: all that were asked for; `of`: they are one account's, which is not named again. */
export function groupTable(answer, { query = {}, more = false, of = null }) {
  const shown = answer.groups.slice(0, more ? answer.groups.length : GROUPS);
  const heads = [...(of === null ? [["Account"]] : []), ["Reason"], ["Count", 1], ["Each minute"], ["Last"], ["Deployments · models"]];
  const left = answer.groups.length - shown.length;
  return [
    h(
      "div",
      { class: "scroll sheet", tabindex: 0, role: "region", "aria-label": "Refusals by account and reason" },
      h("table", { class: "groups" }, h("thead", {}, h("tr", {}, heads.map(([text, right]) => h("th", { scope: "col", class: right ? "r" : "" }, text)))), h("tbody", {}, shown.map((group, nth) => groupRow(group, `groups.groups.${nth}`, query, of)))),
    ),
    h("p", { class: "quiet" }, number("groups.total", answer.total), " refused in all", answer.others > 0 && ["; ", number("groups.others", answer.others), " more were of groups that are no longer kept"], left > 0 && `; ${count(left)} more groups`, "."),
  ];
}

function groupRow(group, at, query, of) {
  const { account, reason, status, last, deployments, models } = group;
  return h(
    "tr",
    { key: `${account} ${reason} ${status}` },
    of === null && h("th", { scope: "row" }, account === null ? h("span", { class: "quiet" }, "no known account") : h("a", { class: "name", href: address("accounts", account) }, account)),
    h("td", { class: "why", "data-label": "Reason" }, chip(status), " ", h("a", { href: address("refusals", null, { ...query, account: account ?? "", reason }) }, reason), REASONS[reason] && h("span", { class: "quiet" }, ` · ${REASONS[reason]}`)),
    h("td", { class: "r", "data-label": "Count" }, number(`${at}.count`, group.count)),
    h("td", { class: "narrow", "data-label": "Each minute" }, bars(group.by_minute)),
    h("td", { "data-label": "Last" }, h("time", { datetime: last, title: day(last) }, clock(last))),
    h("td", { class: "quiet places", "data-label": "Deployments · models" }, h("span", { class: "clip" }, [deployments.join(", "), models.join(", ")].filter(Boolean).join(" · ") || "–")),
  );
}

/** Counts of the last minutes as bars, with what they say in words. */
function bars(counts) {
  const shown = counts.slice(-MINUTES);
  const most = Math.max(1, ...shown);
  const wide = 100 / Math.max(shown.length, 1);
  return h(
    "svg",
    { class: "bars", width: "100%", height: 20, role: "img", "aria-label": `${count(shown.at(-1) ?? 0)} in this minute, at most ${count(Math.max(0, ...shown))} in a minute` },
    h("rect", { class: "rail", y: 19, width: "100%", height: 1 }),
    shown.map((many, nth) => many > 0 && h("rect", { key: nth, class: "many", x: `${(nth * wide).toFixed(2)}%`, width: `${(0.8 * wide).toFixed(2)}%`, y: (18 - (many / most) * 17).toFixed(1), height: ((many / most) * 17 + 1).toFixed(1) })),
  );
}

const chip = (status) => h("span", { class: `chip ${status === 429 ? "warn" : "bad"}` }, String(status));

function each(answer, filtered, more, act) {
  if (answer.refusals.length === 0) return h("p", { class: "empty" }, filtered ? `None of the last ${count(answer.kept_max)} refusals matches.` : "Nothing was refused.");
  const left = answer.matching - answer.refusals.length;
  return [
    h("ol", { class: "refusals" }, answer.refusals.map((refusal, nth) => item(refusal, `requests.refusals.${nth}`))),
    (left > 0 || more) && h("p", { class: "more" }, h("button", { class: "push", onclick: () => act.more(!more) }, more ? "Show fewer" : "Show more"), h("span", { class: "quiet" }, " ", count(answer.refusals.length), " of ", number("requests.matching", answer.matching), ` that match, of at most ${count(answer.kept_max)} kept`)),
  ];
}

function item(refusal, at) {
  const { time, request_id: id, client_request_id: theirs, account, model, tier, deployment, status, reason, message, queue_ms: queued } = refusal;
  return h(
    "li",
    { key: id },
    h("div", { class: "when" }, h("time", { datetime: time, title: day(time) }, clock(time)), chip(status)),
    h(
      "div",
      { class: "what" },
      h("p", {}, account ? h("a", { class: "name", href: address("accounts", account) }, account) : h("strong", {}, "no known account"), h("span", { class: "quiet" }, ` · ${model ?? "no model"}${tier ? ` · ${tier}` : ""}${deployment ? ` · ${deployment}` : ""} · `), h("span", { class: "reason" }, reason), REASONS[reason] && h("span", { class: "quiet" }, ` (${REASONS[reason]})`), queued > 0 && h("span", { class: "quiet" }, " · waited ", number(`${at}.queue_ms`, queued, span))),
      refusal.budget ? budget(refusal.budget, `${at}.budget`) : refusal.load && !REGARDLESS.includes(reason) ? load(refusal.load, tier, `${at}.load`) : null,
      refusal.would_have_helped ? h("p", {}, h("span", { class: "quiet" }, "Would have been admitted with: "), refusal.would_have_helped) : message && h("p", {}, message),
      h("p", { class: "id mono quiet" }, id, theirs && ` · client's ${theirs}`),
    ),
  );
}

function budget({ meter, limit, used, asked, over_by: over, room_after_ms: room }, at) {
  return h(
    "p",
    { class: "measure" },
    h("span", {}, `${METERS[meter] ?? meter}: `, number(`${at}.used`, used, compact), " used + ", number(`${at}.asked`, asked, compact), " asked, limit ", number(`${at}.limit`, limit, compact), ": ", h("b", { class: "warn" }, number(`${at}.over_by`, over, compact), " too many"), room !== null && room !== undefined && [", room after ", number(`${at}.room_after_ms`, room, span)]),
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
      wait !== null && wait !== undefined && ["predicted wait ", h("b", { class: wait > most ? "bad" : "" }, number(`${at}.predicted_wait_ms`, wait, span)), " of at most ", number(`${at}.predicted_wait_max_ms`, most, span), " · "],
      "saturation ",
      h("b", { class: saturation >= ceiling ? "bad" : "" }, number(`${at}.saturation`, saturation, percent)),
      ` where ${tier ?? "its tier"} closes at `,
      number(`${at}.ceiling`, ceiling, percent),
      " · ",
      number(`${at}.queued`, queued),
      " waiting before it",
    ),
    wait > most ? excess(most, wait - most, most) : saturation > ceiling && excess(ceiling, saturation - ceiling, ceiling),
  );
}
