// The page: asks each second what the gateway knows, and draws it.
//
// While nobody looks nothing is asked. Every question is bounded, so that a console left open costs the same on a fleet of
// a thousand accounts as on one.

import { account, budgets } from "./accounts.js";
import { ask, segment, token } from "./api.js";
import { deployments, pressureOf, remember } from "./deployments.js";
import * as dialogs from "./dialogs.js";
import { process } from "./process.js";
import { choices, refusals } from "./refusals.js";
import { draw, h } from "./view.js";
import { clock, number, seconds } from "./words.js";

const EVERY_MS = 1000;
// What changes rarely is asked every so many rounds.
const SLOW_ROUNDS = 5;
const STALE_MS = 4000;

const answers = {};
const history = new Map();
const state = { chosen: null, filter: "", kind: "all", all: false, paused: false, round: 0, heard: 0, sampled: 0, fault: null, busy: false };
const place = Object.fromEntries(["state", "trouble", "news", "deployments", "account", "budgets", "choices", "refusals", "process"].map((id) => [id, document.getElementById(id)]));

const act = {
  choose: (id) => {
    state.chosen = id === null ? null : { account: id };
    delete answers.account_limits;
    delete answers.account;
    refresh();
  },
  kind: (kind) => {
    state.kind = kind;
    render();
  },
  all: (all) => {
    state.all = all;
    render();
  },
  drain: (deployment, replica, id) => dialogs.drain(deployment, replica, id, told),
  pressure: (deployment) => dialogs.pressure(deployment, pressureOf(deployment.pressure), told),
  disable: (about) => dialogs.disable(about, told),
  reload: () => dialogs.reload(told),
  limits: (id, model) => dialogs.limits(id, model, told),
};

/** Says what was done, aloud too, and shows what came of it. */
function told(sentence) {
  place.news.textContent = sentence;
  setTimeout(() => place.news.textContent === sentence && (place.news.textContent = ""), 8000);
  refresh();
}

async function refresh() {
  if (state.busy) return;
  state.busy = true;
  const slow = state.round++ % SLOW_ROUNDS === 0;
  const wanted = { version: "version", deployments: "deployments", limits: "limits?limit=50", requests: "requests?limit=100" };
  if (slow || !answers.config) Object.assign(wanted, { config: "config", invariants: "invariants" });
  if (state.chosen) Object.assign(wanted, { account_limits: `accounts/${segment(state.chosen.account)}/limits`, account: `accounts/${segment(state.chosen.account)}` });
  try {
    const got = await Promise.all(Object.values(wanted).map((path) => ask(path)));
    Object.keys(wanted).forEach((name, nth) => (answers[name] = got[nth]));
    const now = Date.now();
    remember(history, answers.deployments, state.sampled ? (now - state.sampled) / 1000 : 0);
    state.heard = state.sampled = now;
    state.fault = null;
  } catch (error) {
    failed(error);
  }
  state.busy = false;
  render();
}

function failed(error) {
  if (error.status === 401) {
    state.fault = "The gateway wants its admin token.";
    if (!document.getElementById("dialog").open) dialogs.unlock(() => refresh());
  } else if (error.status === 404 && state.chosen) {
    state.fault = `There is no account ${state.chosen.account}.`;
    state.chosen = null;
  } else {
    state.fault = error.status ? error.message : "The gateway does not answer.";
  }
}

function render() {
  const now = Date.now();
  const stale = state.heard > 0 && now - state.heard > STALE_MS && !state.paused;
  document.body.classList.toggle("stale", stale);
  place.trouble.hidden = !state.fault;
  place.trouble.textContent = state.fault ? `${state.fault}${state.heard ? ` What is shown is from ${clock(state.heard)}.` : ""}` : "";
  draw(place.state, head());
  if (!answers.deployments) return;
  draw(place.deployments, deployments(answers.deployments, history, act));
  draw(place.budgets, budgets(answers.limits, state.chosen, state.filter, act));
  draw(place.account, account(answers.account_limits, answers.account, act, now) ?? []);
  draw(place.choices, choices(answers.requests, state.kind, act));
  draw(place.refusals, refusals(answers.requests, state.kind, state.all, act));
  draw(place.process, process(answers, act));
}

function head() {
  const { version } = answers;
  const live = state.paused ? ["chip", "paused"] : state.fault ? ["chip bad", "no answer"] : ["chip good", "live"];
  return [
    version && h("span", { key: "v", class: "quiet wide" }, `${version.version} · up `, number("version.uptime_seconds", version.uptime_seconds, seconds)),
    version && h("span", { key: "f" }, number("version.requests_in_flight", version.requests_in_flight), h("span", { class: "quiet" }, " in flight")),
    version && h("span", { key: "c", class: "wide" }, number("version.connections", version.connections), h("span", { class: "quiet" }, " connections")),
    version?.draining && h("span", { key: "d", class: "chip bad" }, "going down"),
    h("span", { key: "l", class: live[0] }, live[1]),
    h("button", { key: "p", class: "push", "aria-pressed": String(state.paused), onclick: pause }, state.paused ? "Resume" : "Pause"),
    h("button", { key: "t", class: "push", onclick: () => (token.get() ? (token.forget(), told("The token is forgotten.")) : dialogs.unlock(() => told("The token is right."))) }, token.get() ? "Forget token" : "Token…"),
  ];
}

function pause() {
  state.paused = !state.paused;
  // What was missed in between is no rate.
  state.sampled = 0;
  if (state.paused) render();
  else refresh();
}

document.getElementById("filter").addEventListener("input", (event) => {
  state.filter = event.target.value;
  render();
});
document.getElementById("find").addEventListener("submit", (event) => {
  event.preventDefault();
  if (state.filter.trim()) act.choose(state.filter.trim());
});
document.addEventListener("visibilitychange", () => {
  state.sampled = 0;
  if (!document.hidden && !state.paused) refresh();
});
setInterval(() => {
  if (!document.hidden && !state.paused) refresh();
}, EVERY_MS);
refresh();
