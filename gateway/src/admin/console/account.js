// One account: what it may do, its keys, its limits and their use on each model, and what was refused to it.

import { bar } from "./gauge.js";
import { groupTable } from "./refusals.js";
import { address } from "./route.js";
import { h } from "./view.js";
import { compact, count, day, decimal, METERS, number, percent, until } from "./words.js";

const AMOUNTS = { used: "Used", reserved: "Reserved", debt: "Debt", remaining: "Remaining", limit: "Limit", floor: "Floor", ceiling: "Ceiling" };
/** Models up to which their limits are open from the start. */
const MODELS_OPEN_MAX = 3;
/** Changes of limits that are listed. */
const CHANGES_SHOWN_MAX = 50;

/** The parts of the page, in their order. Each draws itself from the answers, or nothing while it has none. */
const PARTS = [about, keys, limits, refused];

/** The page. */
export function account(answers, act, now) {
  return h("article", { key: answers.account.id, class: "card account", "aria-labelledby": "account-name" }, PARTS.map((part) => part(answers, act, now)));
}

function about({ account: of }, act) {
  const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, ...value));
  return [
    h(
      "header",
      {},
      h("h3", { id: "account-name" }, of.id),
      h("span", { class: of.disabled ? "chip warn" : "chip good" }, of.disabled ? "disabled" : "enabled"),
      h("span", { class: "quiet" }, of.source === "config" ? "declared in the config" : "made at run time"),
      of.changes.possible && h("button", { class: "push", onclick: () => act.keys.disable(of) }, of.disabled ? "Enable…" : "Disable…"),
    ),
    of.overrides_runtime && h("p", { class: "note warn" }, "An account of this id was made at run time, too; the config's is in force."),
    h(
      "dl",
      { class: "figures" },
      fact("Requests at once", number("account.live", of.live), h("span", { class: "quiet" }, " of "), number("account.concurrency", of.concurrency)),
      fact("Requests per minute, at most", number("account.requests_per_minute", of.requests_per_minute)),
      fact("Tiers", of.tiers.join(", "), h("span", { class: "quiet" }, ` · default ${of.default_tier}`)),
      fact("Spending tier", of.spending_tier),
      fact("Weight in a queue", number("account.weight", of.weight, decimal)),
      fact("Models", h("span", { class: "clip" }, of.models === null ? "all" : of.models.join(", ") || "none")),
    ),
  ];
}

function keys({ account: of }, act) {
  return h(
    "section",
    { key: "keys", "aria-labelledby": "keys-title" },
    h("h4", { id: "keys-title" }, "Keys", of.changes.possible && [h("button", { class: "push", onclick: () => act.keys.create(of) }, "New key…"), h("button", { class: "push", onclick: () => act.keys.rotate(of) }, "Rotate…")]),
    !of.changes.possible && h("p", { class: "quiet" }, of.changes.words),
    of.key_list.length === 0 && h("p", { class: "empty" }, "It has no key."),
    h(
      "ul",
      { class: "keys" },
      of.key_list.map((one) =>
        h(
          "li",
          { key: one.key },
          h("span", { class: "mono" }, `${one.key}…`),
          one.name !== null && [" ", h("strong", {}, one.name)],
          one.state !== "good" && [" ", h("span", { class: "chip warn" }, STATES[one.state] ?? one.state)],
          h("span", { class: "quiet" }, ending(one)),
          of.changes.possible && h("button", { class: "push", "aria-label": `End the key ${one.key}`, onclick: () => act.keys.end(of, one.key) }, "End…"),
        ),
      ),
    ),
    h("p", { class: "quiet" }, "Keys are told apart by the first digits of their SHA-256. A key itself is shown once, when it is made."),
  );
}

const STATES = { expires_soon: "expires soon", expired: "expired", disabled: "disabled" };

/** When a key ends, and when one with a name was last used. */
function ending({ ends, expires, name, last_used }) {
  const at = [ends, expires].filter((time) => time !== null).sort()[0];
  const end = at === undefined ? " good until it is ended" : [" ends ", h("time", { datetime: at }, day(at))];
  const use = last_used === null ? " · not used yet, as far as is known" : [" · last used ", h("time", { datetime: last_used }, day(last_used))];
  return [end, name !== null && use];
}

function limits({ account: of, account_limits: answer }, act, now) {
  if (!answer || answer.account !== of.id) return null;
  const each = (model, nth) => ofModel(answer.account, model, `account_limits.models.${nth}`, act, now);
  const many = answer.models.length > MODELS_OPEN_MAX;
  return [many ? answer.models.map((model, nth) => folded(model, each(model, nth), `account_limits.models.${nth}`)) : answer.models.map(each), answer.models.length === 0 && h("p", { class: "empty" }, "It may use no model.")];
}

/** One of many models: its name and use, and the rest when it is opened. */
function folded(model, whole, at) {
  const nth = model.meters.findIndex(({ meter }) => meter === "generated");
  const { used, limit } = model.meters[nth] ?? {};
  return h(
    "details",
    { key: `model ${model.model}`, class: "of-many" },
    h("summary", {}, h("strong", {}, model.model), nth >= 0 && [" generated ", number(`${at}.meters.${nth}.used`, used, compact), " of ", number(`${at}.meters.${nth}.limit`, limit, compact), " tokens per minute"], model.frozen && [" ", h("span", { class: "chip warn" }, "overloaded")]),
    whole,
  );
}

function ofModel(id, model, at, act, now) {
  return h(
    "section",
    { key: `model ${model.model}`, class: "model" },
    h("h4", {}, "Limits on ", model.model, h("span", { class: "quiet" }, "tokens per minute"), model.frozen && h("span", { class: "chip warn" }, "overloaded: no limit grows"), h("button", { class: "push", onclick: () => act.limits(id, model) }, "Set limits…")),
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": `Meters of ${id} on ${model.model}` },
      h(
        "table",
        { class: "meters" },
        h("thead", {}, h("tr", {}, [["Meter"], ...Object.values(AMOUNTS).map((name) => [name, 1]), ["Next growth"], ["Next shrinking"]].map(([text, right]) => h("th", { scope: "col", class: right ? "r" : "" }, text)))),
        h("tbody", {}, model.meters.map((meter, nth) => meterRow(meter, `${at}.meters.${nth}`, model.frozen, now))),
      ),
    ),
    history(model.history, at),
  );
}

function meterRow(meter, at, frozen, now) {
  const amount = (name) => h("td", { class: "r", "data-label": AMOUNTS[name] }, number(`${at}.${name}`, meter[name], count));
  return h(
    "tr",
    { key: meter.meter },
    h("th", { scope: "row" }, METERS[meter.meter] ?? meter.meter, bar(meter.used / Math.max(meter.limit, 1))),
    Object.keys(AMOUNTS).map(amount),
    h("td", { class: "step", "data-label": "Next growth" }, next(meter.growth, `${at}.growth`, "more than", frozen ? "after the overload" : null, now, meter.limit >= meter.ceiling ? "at its ceiling" : "limits are fixed")),
    h("td", { class: "step", "data-label": "Next shrinking" }, next(meter.shrink, `${at}.shrink`, "less than", null, now, meter.limit <= meter.floor ? "at its floor" : "none is due")),
  );
}

/** `instead`: what is said in place of the step's moment, where that moment does not count. */
function next(step, at, word, instead, now, otherwise) {
  if (!step) return h("span", { class: "none" }, otherwise);
  return [
    "to ",
    number(`${at}.to`, step.to, compact),
    h("span", { class: "quiet" }, " ", instead ?? h("time", { datetime: step.at, title: day(step.at) }, until(step.at, now)), step.threshold !== null && [`, if ${word} `, number(`${at}.threshold`, step.threshold, compact), " are used"]),
  ];
}

function history(changes, at) {
  if (changes.length === 0) return h("p", { class: "empty" }, "No limit has changed yet.");
  const newest = changes.map((change, nth) => ({ change, nth })).reverse().slice(0, CHANGES_SHOWN_MAX);
  return h(
    "details",
    { class: "history" },
    h("summary", {}, `How the limits changed (${count(changes.length)})`),
    h(
      "ol",
      {},
      newest.map(({ change, nth }) =>
        h("li", { key: `${change.at} ${change.meter} ${nth}` }, h("time", { datetime: change.at, class: "quiet", title: day(change.at) }, day(change.at)), ` ${METERS[change.meter] ?? change.meter} `, number(`${at}.history.${nth}.from`, change.from, compact), h("span", { class: change.to > change.from ? "good" : "warn" }, change.to > change.from ? " ↑ " : " ↓ "), number(`${at}.history.${nth}.to`, change.to, compact), h("span", { class: "quiet" }, ` ${change.to > change.from ? "+" : "−"}${percent(Math.abs(change.to - change.from) / Math.max(change.from, 1))}, ${change.reason}`)),
      ),
    ),
  );
}

function refused({ account: of, groups }) {
  if (!groups) return null;
  return h(
    "section",
    { key: "refused", "aria-labelledby": "refused-title" },
    h("h4", { id: "refused-title" }, "Refused in the last hour", h("a", { class: "push", href: address("refusals", null, { account: of.id }) }, "Show each")),
    groups.groups.length === 0 ? h("p", { class: "empty" }, "Nothing was refused to it.") : groupTable(groups, { of: of.id }),
  );
}
