// The page: asks what the view on it needs, each second, and draws it.
//
// While the page is hidden nothing is asked. Every question and every list is bounded, so that a console left open costs the same
// on a fleet of ten thousand accounts as on one.

import { account } from "./account.js";
import { accounts } from "./accounts.js";
import { ask, segment, token } from "./api.js";
import { deployment, pressureOf } from "./deployment.js";
import { list, ordered, summary } from "./deployments.js";
import * as dialogs from "./dialogs.js";
import { drills } from "./drills.js";
import { EVENTS_MAX, History, RANGES } from "./history.js";
import { keys } from "./keys.js";
import { Board } from "./plot.js";
import { process } from "./process.js";
import { refusals } from "./refusals.js";
import { address, parse, VIEWS } from "./route.js";
import { marked, timeline } from "./timeline.js";
import { draw, h } from "./view.js";
import { clock, number, seconds } from "./words.js";

const EVERY_MS = 1000;
// What changes rarely, or is large, is asked every so many rounds.
const SLOW_ROUNDS = 5;
const STALE_MS = 4000;
const DEPLOYMENTS_PAGE = 20;
/** Deployments whose models a drill is offered for. */
const MODELS_FROM = 1000;
const BUSIEST = 50;
const ACCOUNTS_PAGE = 25;
/** Refusals that are listed at first, and when more are asked for. */
const REFUSALS = [20, 200];

const answers = {};
const state = { route: parse(location.hash), sought: true, paused: false, round: 0, heard: 0, fault: null, busy: false, first: null, range: "hour", history: null, sampled: 0, tables: new Map(), deployments: { filter: "", order: "trouble", after: [] }, accounts: { filter: "", all: false, after: [] }, more: false, config: false };
const place = Object.fromEntries(["views", "state", "trouble", "news", "main"].map((id) => [id, document.getElementById(id)]));
const board = new Board(() => requestAnimationFrame(render));

const go = (view, id, query) => {
  location.hash = address(view, id, query);
};
const change = (part, values) => {
  Object.assign(part, values);
  render();
  refresh();
};

const act = {
  go,
  range: (range) => change(state, { range }),
  table: (chart, from) => {
    if (from === undefined) state.tables.delete(chart);
    else state.tables.set(chart, from);
    render();
  },
  filterDeployments: (filter) => change(state.deployments, { filter, after: [] }),
  orderDeployments: (order) => change(state.deployments, { order, after: [] }),
  deploymentsAfter: (after) => change(state.deployments, { after }),
  filterAccounts: (filter) => change(state.accounts, { filter, after: [] }),
  allAccounts: (all) => change(state.accounts, { all, after: [] }),
  accountsAfter: (after) => change(state.accounts, { after }),
  config: (config) => change(state, { config, round: 0 }),
  more: (more) => change(state, { more }),
  drain: (name, replica, id) => dialogs.drain(name, replica, id, told),
  pressure: (each) => dialogs.pressure(each, pressureOf(each.pressure), told),
  reload: () => dialogs.reload(told),
  limits: (id, model) => dialogs.limits(id, model, told),
  keys: keys((sentence) => told(sentence)),
  drill: {
    start: async () => {
      const { deployments } = await ask(`deployments?limit=${MODELS_FROM}`);
      dialogs.drill(answers.drills, [...new Set(deployments.flatMap(({ models }) => models))], told);
    },
    stop: (run) => dialogs.stopDrill(run, told),
  },
};

/** Says what was done, aloud too, and shows what came of it. */
function told(sentence) {
  place.news.textContent = sentence;
  setTimeout(() => place.news.textContent === sentence && (place.news.textContent = ""), 8000);
  state.sampled = 0;
  state.round = 0;
  refresh();
}

/** Which deployment is shown whole: the one in the address, else the first of the list as it was when the page came. */
function chosen() {
  if (state.route.view !== "deployments") return null;
  return state.route.id ?? state.first;
}

/** What each view asks, by the name that its numbers refer to. `slow`: only now and then. */
const WANTS = {
  deployments: (slow) => {
    const name = chosen();
    const { filter, order, after } = state.deployments;
    const wanted = { deployments: `deployments?limit=${DEPLOYMENTS_PAGE}&order=${order}${filter ? `&containing=${segment(filter)}` : ""}${after.length ? `&after=${segment(after.at(-1))}` : ""}` };
    if (name === null) return wanted;
    wanted.deployment = `deployments/${segment(name)}`;
    if (state.history?.deployment !== name || state.history.range !== state.range) {
      state.history = new History(name, state.range);
      state.sampled = 0;
    }
    const { last, step, events } = state.history;
    if (Date.now() - state.sampled >= Math.min(1000 * step, 15_000)) wanted.history = `history?deployment=${segment(name)}&resolution=${RANGES[state.range].resolution}${last === undefined ? "" : `&since=${last}`}`;
    if (slow || state.sampled === 0) wanted.events = `events?limit=${EVENTS_MAX}&deployment=${segment(name)}${events.length ? `&since=${events.at(-1).time}` : ""}`;
    return wanted;
  },
  accounts: (slow) => {
    const { id } = state.route;
    if (id !== null) return { account: `accounts/${segment(id)}`, account_limits: `accounts/${segment(id)}/limits`, ...(slow && { groups: `requests/groups?account=${segment(id)}&limit=20` }) };
    const { filter, all, after } = state.accounts;
    if (!filter && !all) return { limits: `limits?limit=${BUSIEST}` };
    return { accounts: `accounts?limit=${ACCOUNTS_PAGE}${filter ? `&containing=${segment(filter)}` : ""}${after.length ? `&after=${segment(after.at(-1))}` : ""}` };
  },
  refusals: (slow) => {
    const query = new URLSearchParams(state.route.query);
    query.delete("id");
    const filters = query.size ? `&${query}` : "";
    const id = state.route.query.id ? `&id=${segment(state.route.query.id)}` : "";
    return { requests: `requests?limit=${REFUSALS[Number(state.more)]}${filters}${id}`, ...((slow || !answers.groups) && { groups: `requests/groups?limit=100${filters}` }) };
  },
  drills: () => ({ drills: "drills" }),
  process: (slow) => ({ ...(slow && { invariants: "invariants", log: "log" }), ...(slow && state.config && { config: "config" }) }),
};

/** Answers that belong to one view's choice, so that another choice never shows them. */
const OF_CHOICE = ["deployment", "account", "account_limits", "groups", "requests", "accounts"];

async function refresh() {
  if (state.busy) return (state.again = true);
  Object.assign(state, { busy: true, again: false });
  const slow = state.round++ % SLOW_ROUNDS === 0;
  const { route } = state;
  const about = chosen();
  const wanted = { version: "version", ...WANTS[route.view](slow) };
  const kept = state.history;
  try {
    const got = await Promise.all(Object.values(wanted).map((path) => ask(path)));
    if (route === state.route && about === chosen()) {
      Object.keys(wanted).forEach((name, nth) => (answers[name] = got[nth]));
      if (wanted.history && kept === state.history) {
        kept.merge(answers.history);
        state.sampled = Date.now();
      }
      if (wanted.events && kept === state.history) kept.tell(answers.events);
      Object.assign(state, { heard: Date.now(), fault: null });
    }
  } catch (error) {
    if (route === state.route) failed(error);
  }
  state.busy = false;
  if (state.first === null && answers.deployments?.deployments.length) {
    state.first = ordered(answers.deployments, "trouble")[0].deployment.name;
    state.again = route.view === "deployments";
  }
  render();
  if (state.again) refresh();
}

function failed(error) {
  const { view, id } = state.route;
  if (error.status === 401) {
    state.fault = "The gateway asks for its admin token.";
    if (!document.getElementById("dialog").open) dialogs.unlock(() => refresh());
  } else if (error.status === 404 && (id !== null || state.first !== null) && ["accounts", "deployments"].includes(view)) {
    state.fault = `There is no ${view.slice(0, -1)} ${id ?? state.first} any more.`;
    state.first = null;
    if (id !== null) go(view);
  } else {
    state.fault = error.status ? error.message : "The gateway does not answer.";
  }
}

const PAGES = {
  deployments: () => {
    // Until it was asked for by itself, what the list says of it.
    const about = [answers.deployment, ...answers.deployments.deployments].find((each) => each?.name === chosen());
    const events = marked(state.history?.events ?? []);
    const kept = about && state.history?.deployment === about.name ? state.history : null;
    if (kept) board.show(kept, events);
    const many = answers.deployments.total > 1 || state.deployments.filter !== "";
    const { order, filter } = state.deployments;
    return [
      h("div", { class: "heading" }, title(), many && find("part of a name", filter, act.filterDeployments)),
      // A page of another order, or a part of the names, says nothing of all.
      order === "trouble" && !filter && h("p", { class: "summary", role: "status" }, summary(answers.deployments)),
      list(answers.deployments, { chosen: chosen(), ...state.deployments }, act),
      about && deployment(about, kept && timeline({ name: about.name, history: kept, board, events, open: state.tables, act }), act),
    ];
  },
  accounts: (now) => {
    const { id } = state.route;
    if (id === null) return [h("div", { class: "heading" }, title(), find("part of an id", state.accounts.filter, act.filterAccounts, () => answers.accounts?.accounts.length === 1 && go("accounts", answers.accounts.accounts[0].id))), accounts(answers, state.accounts, act)];
    return [h("div", { class: "heading" }, title(), h("a", { class: "back", href: address("accounts") }, "All accounts")), answers.account?.id === id && account(answers, act, now)];
  },
  refusals: () => [title(), answers.requests && refusals(answers, state.route.query, state.more, act)],
  drills: () => [title(), answers.drills && drills(answers.drills, act)],
  process: () => [title(), process(answers, act)],
};

const title = () => h("h2", { id: "view-title", tabindex: -1 }, VIEWS[state.route.view]);

/** A field that narrows a list while it is typed in; Enter opens the one that is left. */
function find(hint, value, typed, entered) {
  return h(
    "form",
    {
      id: "find",
      role: "search",
      onsubmit: (event) => {
        event.preventDefault();
        entered?.();
      },
    },
    h("label", { for: "filter" }, "Find"),
    h("input", { id: "filter", type: "search", placeholder: hint, autocomplete: "off", spellcheck: "false", value, oninput: (event) => typed(event.target.value) }),
  );
}

function render() {
  const now = Date.now();
  const stale = state.heard > 0 && now - state.heard > STALE_MS && !state.paused;
  document.body.classList.toggle("stale", stale);
  place.trouble.hidden = !state.fault;
  place.trouble.textContent = state.fault ? `${state.fault}${state.heard ? ` What is shown is from ${clock(state.heard)}.` : ""}` : "";
  draw(place.views, Object.entries(VIEWS).map(([view, name]) => h("a", { key: view, href: address(view), "aria-current": view === state.route.view ? "page" : null }, name)));
  draw(place.state, head());
  if (!state.heard || (state.route.view === "deployments" && !answers.deployments)) return;
  draw(place.main, h("div", { key: state.route.view, class: "view" }, PAGES[state.route.view](now)));
  if (state.sought) found();
}

/** Once, where a deployment was asked for by its name: it stands below a list that may be long. */
function found() {
  const { view, id } = state.route;
  const name = document.getElementById("deployment-name");
  state.sought = view === "deployments" && id !== null && name?.textContent !== id;
  if (id !== null && name?.textContent === id && name.getBoundingClientRect().top > innerHeight / 2) name.scrollIntoView();
}

function head() {
  const { version } = answers;
  const live = state.paused ? ["chip", "paused"] : state.fault ? ["chip bad", "no answer"] : ["chip good", "live"];
  return [
    version && h("span", { key: "v", class: "quiet wide" }, `${version.version} · up `, number("version.uptime_seconds", version.uptime_seconds, seconds)),
    version && h("span", { key: "f", class: "wide" }, number("version.requests_in_flight", version.requests_in_flight), h("span", { class: "quiet" }, " in flight")),
    version && h("span", { key: "c", class: "wide" }, number("version.connections", version.connections), h("span", { class: "quiet" }, " connections")),
    version?.draining && h("span", { key: "d", class: "chip warn" }, "shutting down"),
    h("span", { key: "l", class: live[0] }, live[1]),
    h("button", { key: "p", class: "push", "aria-pressed": String(state.paused), onclick: pause }, state.paused ? "Resume" : "Pause"),
    h("button", { key: "t", class: "push", onclick: () => (token.get() ? (token.forget(), told("The token is forgotten.")) : dialogs.unlock(() => told("The token is right."))) }, token.get() ? "Forget token" : "Token…"),
  ];
}

function pause() {
  state.paused = !state.paused;
  if (state.paused) render();
  else refresh();
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  place.main.focus();
});
window.addEventListener("hashchange", () => {
  const before = state.route;
  state.route = parse(location.hash);
  for (const name of OF_CHOICE) delete answers[name];
  Object.assign(state, { round: 0, sampled: 0, more: false, sought: true });
  document.title = `${state.route.id ?? VIEWS[state.route.view]} · Tidegate`;
  render();
  // A new view is read from its title on; another choice in the same view leaves the focus where it is.
  if (before.view !== state.route.view) document.getElementById("view-title")?.focus();
  // The focus took the page to its top.
  found();
  refresh();
});
document.addEventListener("visibilitychange", () => !document.hidden && !state.paused && refresh());
setInterval(() => !document.hidden && !state.paused && !state.busy && refresh(), EVERY_MS);
refresh();
