// The list of deployments: those in trouble first, a page at a time.

import { bar, stateOf } from "./gauge.js";
import { h } from "./view.js";
import { count, decimal, number, percent } from "./words.js";

/** What is to be said of a deployment in a few words, how grave it is, and its place in the list. */
export function statusOf({ replicas, tiers }) {
  const many = (state) => replicas.filter((replica) => stateOf(replica) === state).length;
  const [serving, down] = [many("serving"), many("down")];
  const shed = tiers.filter((tier) => tier.last_minute.shed > 0).map(({ tier }) => tier);
  const waiting = tiers.some((tier) => tier.queued > 0);
  if (replicas.length === 0) return { words: "no replicas", kind: "bad", rank: 0 };
  if (serving === 0 && down > 0) return { words: "no replica in service", kind: "bad", rank: 0 };
  // What an operator asked for is red only where it turns somebody away.
  if (serving === 0) return { words: "all replicas drained", kind: shed.length > 0 ? "bad" : "warn", rank: 0 };
  const shedding = shed.length > 0 && `shedding ${shed.length > 1 ? "both tiers" : shed[0]}`;
  const lost = down > 0 && `${count(down)} of ${count(replicas.length)} replicas down`;
  const words = [lost, shedding || (waiting && "requests wait")].filter(Boolean).join(", ");
  if (shed.includes("priority")) return { words, kind: "bad", rank: 1 };
  if (lost) return { words, kind: "bad", rank: 2 };
  if (words) return { words, kind: "warn", rank: shedding ? 3 : 4 };
  const drained = ["draining", "drained"].filter((state) => many(state) > 0).map((state) => `${count(many(state))} ${state}`);
  return { words: ["open", ...drained].join(", "), kind: "good", rank: 5 };
}

/** A page's rows. Those of one rank stay in the order of their names, so that a row does not jump while it is clicked on. */
export function ordered(answer, order) {
  const rows = answer.deployments.map((deployment, nth) => ({ deployment, nth, status: statusOf(deployment) }));
  if (order !== "trouble") return rows;
  return rows.sort((a, b) => a.status.rank - b.status.rank || (a.deployment.name < b.deployment.name ? -1 : 1));
}

/** One sentence on all of them, from the page with the worst. */
export function summary(answer) {
  const { total } = answer;
  if (total === 0) return "No deployments are configured.";
  const trouble = ordered(answer, "trouble").filter(({ status }) => status.rank < 5);
  const every = total === 1 ? "The deployment takes" : `All ${count(total)} deployments take`;
  if (trouble.length === 0) return `${every} priority and regular requests.`;
  const named = trouble.slice(0, 3).map(({ deployment, status }) => `${deployment.name}: ${status.words}`);
  const more = trouble.length > 3 ? `, and ${trouble.length === answer.deployments.length && trouble.length < total ? "at least " : ""}${count(trouble.length - 3)} more` : "";
  return `${named.join("; ")}${more}.${trouble.length < answer.deployments.length ? ` ${count(total - trouble.length)} of ${count(total)} are open.` : ""}`;
}

const ORDERS = { trouble: "Worst first", config: "In the order of the config" };

/** The list. `after` are the names that this page and those before it begin after. */
export function list(answer, { chosen, filter, order, after }, act) {
  if (answer.total <= 1 && !filter) return null;
  if (answer.deployments.length === 0) return h("p", { class: "empty" }, "No deployment has this in its name.");
  const heads = [["Deployment · models"], ["State"], ["Saturation"], ["In flight / N", 1], ["Waiting", 1], ["Admitted /s", 1], ["Shed /s", 1], ["Replicas", 1]];
  const whole = answer.total <= answer.deployments.length;
  return [
    !(whole && order === "trouble" && !after.length) && h("div", { class: "choices", role: "group", "aria-label": "Order" }, Object.entries(ORDERS).map(([name, text]) => h("button", { key: name, class: "choice", "aria-pressed": String(name === order), onclick: () => act.orderDeployments(name) }, text))),
    h(
      "div",
      { class: "scroll sheet", tabindex: 0, role: "region", "aria-label": "Deployments" },
      h(
        "table",
        { class: "deployments" },
        h("thead", {}, h("tr", {}, heads.map(([text, right]) => h("th", { scope: "col", class: right ? "r" : "" }, text)))),
        h("tbody", {}, ordered(answer, order).map((each) => row(each, chosen))),
      ),
    ),
    order === "trouble"
      ? !whole && h("p", { class: "quiet" }, `The ${count(answer.deployments.length)} that need attention most, of `, number("deployments.total", answer.total), ".")
      : pages({ page: after.length, all: number("deployments.total", answer.total), next: answer.next, previous: () => act.deploymentsAfter(after.slice(0, -1)), go: () => act.deploymentsAfter([...after, answer.next]) }),
  ];
}

function row({ deployment, nth, status }, chosen) {
  const at = `deployments.deployments.${nth}`;
  const { name, models, replicas } = deployment;
  const sum = (of) => deployment.tiers.reduce((all, tier) => all + of(tier), 0);
  const serving = replicas.filter((replica) => stateOf(replica) === "serving").length;
  const shed = sum((tier) => tier.last_minute.shed_per_s);
  return h(
    "tr",
    { key: name, class: name === chosen ? "chosen" : "" },
    h("th", { scope: "row" }, h("a", { class: "name", href: `#/deployments/${encodeURIComponent(name)}`, "aria-current": name === chosen ? "true" : null }, name), h("span", { class: "quiet clip" }, models.join(", "))),
    h("td", { "data-label": "State" }, h("span", { class: `chip ${status.kind}` }, status.words)),
    h("td", { class: "narrow", "data-label": "Saturation" }, number(`${at}.saturation`, deployment.saturation, percent), bar(deployment.saturation)),
    h("td", { class: "r", "data-label": "In flight / N" }, number(`${at}.active`, deployment.active), h("span", { class: "quiet" }, " / "), number(`${at}.limit`, deployment.limit)),
    h("td", { class: "r", "data-label": "Waiting" }, number(`${at}.tiers.*.queued`, sum((tier) => tier.queued))),
    h("td", { class: "r", "data-label": "Admitted /s" }, number(`${at}.tiers.*.last_minute.admitted_per_s`, sum((tier) => tier.last_minute.admitted_per_s), decimal)),
    h("td", { class: `r ${shed > 0 ? "warn" : ""}`, "data-label": "Shed /s" }, number(`${at}.tiers.*.last_minute.shed_per_s`, shed, decimal)),
    h("td", { class: "r", "data-label": "Replicas" }, `${count(serving)} of ${count(replicas.length)}`),
  );
}

/** Buttons to the pages before and after. */
export function pages({ page, all, next, previous, go }) {
  return h(
    "nav",
    { class: "pages", "aria-label": "Pages" },
    h("button", { class: "push", disabled: page === 0, onclick: previous }, "Previous"),
    h("span", { class: "quiet" }, `page ${count(page + 1)}, `, all, " in all"),
    h("button", { class: "push", disabled: next === null, onclick: go }, "Next"),
  );
}
