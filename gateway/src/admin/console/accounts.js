// Accounts: use against limit for the three meters, and for the chosen one what comes next and how it came so.

import { bar } from "./gauge.js";
import { h } from "./view.js";
import { compact, count, day, METERS, number, percent, until } from "./words.js";

const NAMES = ["prompt", "uncached-prompt", "generated"];
const AMOUNTS = { used: "Used", reserved: "Reserved", debt: "Owed", remaining: "Left", limit: "Limit per minute", floor: "Floor", ceiling: "Ceiling" };

/** The busiest budgets, a row each; the chosen one is opened below its row. */
export function budgets(answer, chosen, filter, act) {
  const rows = answer.budgets
    .map((budget, nth) => ({ budget, nth }))
    .filter(({ budget }) => `${budget.account} ${budget.model}`.toLowerCase().includes(filter.toLowerCase()));
  if (rows.length === 0) {
    return h("p", { class: "empty" }, filter ? "No budget in memory has this in its name. Press Enter to open the account of this id." : "Nobody has asked for anything yet.");
  }
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": "Budgets" },
    h(
      "table",
      { class: "budgets" },
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Account · model"), NAMES.map((name) => h("th", { scope: "col" }, METERS[name], h("span", { class: "quiet" }, " of last minute"))), h("td", {}))),
      h("tbody", {}, rows.map(({ budget, nth }) => row(budget, `limits.budgets.${nth}`, chosen, act))),
    ),
    answer.total > answer.budgets.length && h("p", { class: "quiet" }, `The busiest ${count(answer.budgets.length)} of ${count(answer.total)}.`),
  );
}

function row(budget, at, chosen, act) {
  const { account, model } = budget;
  const open = chosen?.account === account;
  return h(
    "tr",
    { key: `${account} ${model}`, class: open ? "chosen" : "" },
    h("th", { scope: "row" }, h("span", { class: "name" }, account), h("span", { class: "quiet" }, model)),
    NAMES.map((name, nth) =>
      h(
        "td",
        { class: "meter", "data-label": name === "uncached-prompt" ? "Uncached" : METERS[name] },
        h("span", { class: "amounts" }, number(`${at}.used.${nth}`, budget.used[nth], compact), h("span", { class: "quiet" }, " / "), number(`${at}.limits.${nth}`, budget.limits[nth], compact), budget.debt[nth] > 0 && [h("span", { class: "bad" }, " owes "), number(`${at}.debt.${nth}`, budget.debt[nth], compact)]),
        bar(budget.used[nth] / Math.max(budget.limits[nth], 1)),
      ),
    ),
    h("td", { class: "r" }, h("button", { class: "push", "aria-expanded": String(open), "aria-label": `${open ? "Close" : "Open"} ${account}`, onclick: () => act.choose(open ? null : account) }, open ? "Close" : "Open")),
  );
}

/** The chosen account. */
export function account(answer, about, act, now) {
  if (!answer) return null;
  return h(
    "article",
    { class: "card account", "aria-labelledby": "chosen-account" },
    h(
      "header",
      {},
      h("h3", { id: "chosen-account" }, answer.account),
      h("span", { class: "quiet" }, `spending tier ${answer.spending_tier}`),
      about && h("span", { class: about.disabled ? "chip bad" : "chip" }, about.disabled ? "disabled" : `${about.tiers.join(" and ")}, ${about.source === "config" ? "from the file" : "made at run time"}`),
      about && h("span", { class: "quiet" }, number("account.live", about.live), " of ", number("account.concurrency", about.concurrency), " at once"),
      about?.source === "runtime" && h("button", { class: "push", onclick: () => act.disable(about) }, about.disabled ? "Enable…" : "Disable…"),
      h("button", { class: "push", onclick: () => act.choose(null) }, "Close"),
    ),
    answer.models.map((model, nth) => ofModel(answer.account, model, `account_limits.models.${nth}`, act, now)),
    answer.models.length === 0 && h("p", { class: "empty" }, "It may use no model."),
  );
}

function ofModel(id, model, at, act, now) {
  return h(
    "section",
    { key: model.model, class: "model" },
    h("h4", {}, model.model, " ", model.frozen && h("span", { class: "chip warn" }, "short: no limit grows"), h("button", { class: "push", onclick: () => act.limits(id, model) }, "Set limits…")),
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": `Meters of ${id} on ${model.model}` },
      h(
        "table",
        {},
        h("thead", {}, h("tr", {}, [["Meter"], ...Object.values(AMOUNTS).map((name) => [name, 1]), ["Next growth"], ["Next shrinking"]].map(([text, right]) => h("th", { scope: "col", class: right ? "r" : "" }, text)))),
        h("tbody", {}, model.meters.map((meter, nth) => meterRow(meter, `${at}.meters.${nth}`, now))),
      ),
    ),
    history(model.history, at),
  );
}

function meterRow(meter, at, now) {
  const amount = (name) => h("td", { class: "r", "data-label": AMOUNTS[name] }, number(`${at}.${name}`, meter[name], count));
  return h(
    "tr",
    { key: meter.meter },
    h("th", { scope: "row" }, METERS[meter.meter] ?? meter.meter, bar(meter.used / Math.max(meter.limit, 1))),
    Object.keys(AMOUNTS).map(amount),
    h("td", { class: "step", "data-label": "Next growth" }, next(meter.growth, `${at}.growth`, "more than", now, meter.limit >= meter.ceiling ? "at its ceiling" : "limits are fixed")),
    h("td", { class: "step", "data-label": "Next shrinking" }, next(meter.shrink, `${at}.shrink`, "less than", now, meter.limit <= meter.floor ? "at its floor" : "none is due")),
  );
}

function next(step, at, word, now, otherwise) {
  if (!step) return h("span", { class: "none" }, otherwise);
  return [
    "to ",
    number(`${at}.to`, step.to, compact),
    h("span", { class: "quiet" }, " ", h("time", { datetime: step.at, title: day(step.at) }, until(step.at, now)), step.threshold !== null && [`, if ${word} `, number(`${at}.threshold`, step.threshold, compact), " are used"]),
  ];
}

function history(changes, at) {
  if (changes.length === 0) return h("p", { class: "empty" }, "No limit has moved yet.");
  const newest = changes.map((change, nth) => ({ change, nth })).reverse().slice(0, 50);
  return h(
    "details",
    { class: "history", open: true },
    h("summary", {}, `How the limits moved (${changes.length})`),
    h(
      "ol",
      {},
      newest.map(({ change, nth }) =>
        h("li", { key: `${change.at} ${change.meter} ${nth}` }, h("time", { datetime: change.at, class: "quiet", title: day(change.at) }, day(change.at)), ` ${METERS[change.meter] ?? change.meter} `, number(`${at}.history.${nth}.from`, change.from, compact), h("span", { class: change.to > change.from ? "good" : "warn" }, change.to > change.from ? " ↑ " : " ↓ "), number(`${at}.history.${nth}.to`, change.to, compact), h("span", { class: "quiet" }, ` ${change.to > change.from ? "+" : "−"}${percent(Math.abs(change.to - change.from) / Math.max(change.from, 1))}, ${change.reason}`)),
      ),
    ),
  );
}
