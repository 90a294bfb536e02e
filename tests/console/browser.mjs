// A browser on the console: pages that remember what they were told, what they asked for, and what went wrong in them.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { differences, samples } from "./numbers.mjs";

export const { ADMIN, TOKEN, CHROMIUM, SHOTS, PACKAGES } = process.env;
const require = createRequire(`${PACKAGES}/package.json`);
export const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
export const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
export const SIZES = { desk: { width: 1440, height: 900 }, half: { width: 900, height: 900 }, phone: { width: 360, height: 780 } };
export const PATIENCE = 10_000;

const tally = { passed: 0, failed: 0 };
/** Passed where `faults` is empty or false. */
export function check(what, faults) {
  const wrong = Array.isArray(faults) ? faults.length > 0 : Boolean(faults);
  tally[wrong ? "failed" : "passed"]++;
  console.log(`${wrong ? "FAIL" : "ok  "} ${what}${wrong ? `: ${Array.isArray(faults) ? faults.slice(0, 5).join("; ") : faults}` : ""}`);
}

/** The last line, and the exit status. */
export function ended() {
  console.log(`${tally.passed} passed, ${tally.failed} failed`);
  process.exit(tally.failed || !tally.passed ? 1 : 0);
}

export const api = async (path, options = {}) => (await fetch(`${ADMIN}/api/v1/${path}`, options)).json();
export const button = (page, name) => page.getByRole("button", { name, exact: true });

/** Until `what` is true of what `ask` gives; the last that it gave. */
export async function until(ask, what) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const got = await ask();
    if (what(got) || Date.now() > end) return got;
    await new Promise((wake) => setTimeout(wake, 100));
  }
}

/** The name by which the page refers to an answer of the API. */
function nameOf(path) {
  const plain = { deployments: "deployments", limits: "limits", requests: "requests", "requests/groups": "groups", version: "version", config: "config", invariants: "invariants", log: "log", accounts: "accounts", drills: "drills", events: "events", history: "history" };
  const patterns = [[/^accounts\/[^/]+\/limits$/, "account_limits"], [/^accounts\/[^/]+$/, "account"], [/^deployments\/[^/]+$/, "deployment"]];
  return plain[path] ?? patterns.find(([pattern]) => pattern.test(path))?.[1] ?? null;
}

/** A page on a view, and what it saw. */
export async function open(browser, size, scheme, hash = "", admin = ADMIN) {
  const context = await browser.newContext({ viewport: SIZES[size], colorScheme: scheme, reducedMotion: "reduce" });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const seen = { answers: {}, errors: [], asked: new Set(), policy: null };
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && seen.errors.push(message.text()));
  page.on("pageerror", (error) => seen.errors.push(error.message));
  page.on("request", (request) => seen.asked.add(new URL(request.url()).origin));
  page.on("response", async (response) => {
    const url = new URL(response.url());
    if (url.pathname === "/") seen.policy = response.headers()["content-security-policy"];
    const name = nameOf(url.pathname.replace("/api/v1/", ""));
    if (!name || response.status() !== 200 || response.request().method() !== "GET") return;
    const answer = await response.json().catch(() => null);
    if (answer) remember(seen.answers, name, answer, url.searchParams);
  });
  await page.goto(`${admin}/${hash}`);
  return { page, seen, context };
}

function remember(answers, name, answer, query) {
  if (name !== "history") {
    answers[name] = answer;
    return;
  }
  // The first answer of a range is whole; later ones add to it.
  answers.history_answer = answer;
  answers.history = { ...(query.has("since") ? answers.history : {}), ...samples(answer) };
}

/** What a screen reader would stumble over. */
export async function axe(page, where) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(async () => {
    // Before a gradient it judges no contrast.
    const sheet = document.styleSheets[0];
    const rule = sheet.insertRule(".scroll { background-image: none !important; }", sheet.cssRules.length);
    const found = await window.axe.run(document, { resultTypes: ["violations"] });
    sheet.deleteRule(rule);
    return found;
  });
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  check(`axe finds nothing serious ${where}`, serious.map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 120)} (${nodes.length}) ${nodes[0].failureSummary.slice(0, 160)}`));
}

/** Stops the page and compares every number on it with the API's answers that it was given. */
export async function numbers(page, seen, where, atLeast) {
  await button(page, "Pause").click();
  await page.waitForTimeout(700);
  const read = () => page.$$eval("[data-of]", (nodes) => nodes.map((node) => ({ of: node.dataset.of, form: node.dataset.form, text: node.textContent })));
  let shown = [];
  // What was asked before the pause is drawn when all of it has come, on a busy machine later than that.
  const faults = await until(async () => differences(seen.answers, (shown = await read())), (found) => found.length === 0);
  if (shown.length < atLeast) faults.push(`only ${shown.length} numbers, not ${atLeast}`);
  check(`all ${shown.length} numbers ${where} are the API's`, faults);
  await button(page, "Resume").click();
  return shown;
}
