// Accounts: the busiest budgets, or all accounts a page at a time, found by a part of their id.

import { pages } from "./deployments.js";
import { bar } from "./gauge.js";
import { address } from "./route.js";
import { h } from "./view.js";
import { compact, count, METERS, number } from "./words.js";

/** The meters of a budget, in the order of the API. */
const NAMES = ["prompt", "uncached-prompt", "generated"];

/** The view: which of the two lists, and the list. */
export function accounts(answers, { filter, all, after }, act) {
  const busiest = !filter && !all;
  const choice = (wanted, text) => h("button", { class: "choice", "aria-pressed": String(wanted === !busiest), onclick: () => act.allAccounts(wanted) }, text);
  return [
    h("div", { class: "heading" }, h("div", { class: "choices", role: "group", "aria-label": "Which accounts" }, choice(false, "Busiest"), choice(true, "All")), h("button", { class: "push", onclick: act.keys.account }, "New account…")),
    busiest ? answers.limits && budgets(answers.limits) : answers.accounts && listed(answers.accounts, after, act),
  ];
}

/** A link to an account's page. */
export const linked = (id) => h("a", { class: "name", href: address("accounts", id) }, id);

function budgets(answer) {
  if (answer.budgets.length === 0) return h("p", { class: "empty" }, "No account has sent a request yet.");
  // A budget stays in memory when its use is over, and is there once an operator has looked at it.
  const used = answer.budgets.map((budget, nth) => ({ budget, nth })).filter(({ budget }) => [...budget.used, ...budget.debt].some((tokens) => tokens > 0));
  if (used.length === 0) return h("p", { class: "empty" }, "No account has used a token in the last minute. All of them are under “All”.");
  return [
    h(
      "div",
      { class: "scroll sheet", tabindex: 0, role: "region", "aria-label": "Budgets" },
      h(
        "table",
        { class: "budgets" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Account · model"), NAMES.map((name) => h("th", { scope: "col" }, METERS[name], h("span", { class: "quiet" }, " tokens, last minute"))))),
        h("tbody", {}, used.map(({ budget, nth }) => budgetRow(budget, `limits.budgets.${nth}`))),
      ),
    ),
    answer.total > answer.budgets.length && h("p", { class: "quiet" }, "The busiest ", count(answer.budgets.length), " of ", number("limits.total", answer.total), " budgets in memory."),
  ];
}

function budgetRow(budget, at) {
  const { account, model } = budget;
  return h(
    "tr",
    { key: `${account} ${model}` },
    h("th", { scope: "row" }, linked(account), h("span", { class: "quiet clip" }, model)),
    NAMES.map((name, nth) =>
      h(
        "td",
        { class: "meter", "data-label": name === "uncached-prompt" ? "Uncached" : METERS[name] },
        h("span", { class: "amounts" }, number(`${at}.used.${nth}`, budget.used[nth], compact), h("span", { class: "quiet" }, " / "), number(`${at}.limits.${nth}`, budget.limits[nth], compact), budget.debt[nth] > 0 && [h("span", { class: "bad" }, " debt "), number(`${at}.debt.${nth}`, budget.debt[nth], compact)]),
        bar(budget.used[nth] / Math.max(budget.limits[nth], 1)),
      ),
    ),
  );
}

/** A page of all accounts. `after` are the ids that this page and those before it begin after. */
function listed(answer, after, act) {
  if (answer.accounts.length === 0) return h("p", { class: "empty" }, "No account has this in its id.");
  const heads = [["Account"], ["State"], ["Spending tier"], ["Tiers"], ["Keys", 1], ["Requests at once", 1]];
  return [
    h(
      "div",
      { class: "scroll sheet", tabindex: 0, role: "region", "aria-label": "Accounts" },
      h(
        "table",
        { class: "accounts" },
        h("thead", {}, h("tr", {}, heads.map(([text, right]) => h("th", { scope: "col", class: right ? "r" : "" }, text)))),
        h("tbody", {}, answer.accounts.map((account, nth) => accountRow(account, `accounts.accounts.${nth}`))),
      ),
    ),
    pages({ page: after.length, all: number("accounts.total", answer.total), next: answer.next, previous: () => act.accountsAfter(after.slice(0, -1)), go: () => act.accountsAfter([...after, answer.next]) }),
  ];
}

function accountRow(account, at) {
  return h(
    "tr",
    { key: account.id },
    h("th", { scope: "row" }, linked(account.id)),
    h("td", { "data-label": "State" }, h("span", { class: account.disabled ? "chip warn" : "chip" }, account.disabled ? "disabled" : account.source === "config" ? "from the config" : "made at run time")),
    h("td", { "data-label": "Spending tier" }, account.spending_tier),
    h("td", { "data-label": "Tiers" }, account.tiers.join(", ")),
    h("td", { class: "r", "data-label": "Keys" }, count(account.keys.length)),
    h("td", { class: "r", "data-label": "Requests at once" }, number(`${at}.live`, account.live), h("span", { class: "quiet" }, " of "), number(`${at}.concurrency`, account.concurrency)),
  );
}
