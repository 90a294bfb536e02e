// What the console must be and do, in a real browser. Started by main.py.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { differences } from "./numbers.mjs";

const { ADMIN, TOKEN, CHROMIUM, SHOTS, PACKAGES } = process.env;
const require = createRequire(`${PACKAGES}/package.json`);
const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const SIZES = { wide: { width: 1280, height: 900 }, phone: { width: 390, height: 844 } };
const PATIENCE = 10_000;

const tally = { passed: 0, failed: 0 };
function check(what, faults) {
  const wrong = Array.isArray(faults) ? faults.length > 0 : Boolean(faults);
  tally[wrong ? "failed" : "passed"]++;
  console.log(`${wrong ? "FAIL" : "ok  "} ${what}${wrong ? `: ${Array.isArray(faults) ? faults.slice(0, 5).join("; ") : faults}` : ""}`);
}

const api = async (path, options = {}) => (await fetch(`${ADMIN}/api/v1/${path}`, options)).json();
const narrow = async () => (await api("deployments")).deployments.find(({ name }) => name === "narrow");
const wide = async () => (await api("deployments")).deployments.find(({ name }) => name === "wide");

/** Until `what` is true of what `ask` gives; the last that it gave. */
async function until(ask, what) {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const got = await ask();
    if (what(got) || Date.now() > end) return got;
    await new Promise((wake) => setTimeout(wake, 100));
  }
}

/** A page that remembers what it was told, what it asked for, and what went wrong in it. */
async function open(browser, size, scheme) {
  const context = await browser.newContext({ viewport: SIZES[size], colorScheme: scheme, reducedMotion: "reduce" });
  const page = await context.newPage();
  const seen = { answers: {}, errors: [], asked: new Set(), policy: null };
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && seen.errors.push(message.text()));
  page.on("pageerror", (error) => seen.errors.push(error.message));
  page.on("request", (request) => seen.asked.add(new URL(request.url()).origin));
  page.on("response", async (response) => {
    const path = new URL(response.url()).pathname;
    if (path === "/") seen.policy = response.headers()["content-security-policy"];
    const names = { "/api/v1/deployments": "deployments", "/api/v1/limits": "limits", "/api/v1/requests": "requests", "/api/v1/version": "version", "/api/v1/config": "config", "/api/v1/invariants": "invariants" };
    const name = names[path] ?? (/^\/api\/v1\/accounts\/[^/]+\/limits$/.test(path) ? "account_limits" : /^\/api\/v1\/accounts\/[^/]+$/.test(path) ? "account" : null);
    if (name && response.status() === 200) seen.answers[name] = await response.json().catch(() => seen.answers[name]);
  });
  await page.goto(`${ADMIN}/`);
  await page.locator(".gauge").first().waitFor({ timeout: PATIENCE });
  return { page, seen, context };
}

const button = (page, name) => page.getByRole("button", { name, exact: true });

/** What a screen reader would stumble over. */
async function axe(page, where) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  check(`axe finds nothing serious ${where}`, serious.map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 120)} (${nodes.length}) ${nodes[0].failureSummary.slice(0, 160)}`));
}

/** Stops the page and compares every number on it with the API's answers that it was given. */
async function numbers(page, seen, where, atLeast) {
  await button(page, "Pause").click();
  await page.waitForTimeout(700);
  const shown = await page.$$eval("[data-of]", (nodes) => nodes.map((node) => ({ of: node.dataset.of, form: node.dataset.form, text: node.textContent })));
  const faults = differences(seen.answers, shown);
  if (shown.length < atLeast) faults.push(`only ${shown.length} numbers`);
  check(`all ${shown.length} numbers ${where} are the API's`, faults);
  await button(page, "Resume").click();
  return shown;
}

async function looks(browser) {
  for (const size of Object.keys(SIZES)) {
    for (const scheme of ["light", "dark"]) {
      const { page, seen, context } = await open(browser, size, scheme);
      await page.locator(".refusals li").first().waitFor({ timeout: PATIENCE });
      await page.waitForTimeout(4000);
      await page.screenshot({ path: `${SHOTS}/console-${SIZES[size].width}-${scheme}.png`, fullPage: true });
      await axe(page, `at ${size}, ${scheme}`);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      check(`the page is not wider than the screen at ${size}, ${scheme}`, over > 0 && `${over} px`);
      check(`the browser has nothing to complain of at ${size}, ${scheme}`, seen.errors);
      check(`and asked nobody else`, [...seen.asked].filter((origin) => origin !== ADMIN));
      await context.close();
    }
  }
}

async function shows(page, seen) {
  check("the policy lets nothing inline run", !seen.policy?.includes("script-src 'self'") || seen.policy.includes("unsafe"));
  const shown = await numbers(page, seen, "on the page", 60);
  for (const part of ["deployments.deployments.0.replicas.1.saturation", "deployments.deployments.1.tiers.1.queued", "deployments.deployments.1.tiers.1.last_minute.shed_per_s", "limits.budgets.0.used.2", "version.requests_in_flight"]) {
    check(`one of them is ${part}`, !shown.some(({ of }) => of === part));
  }
  check("some are of refusals that explain themselves", !shown.some(({ of }) => /requests\.refusals\.\d+\.budget\.over_by/.test(of)) || !shown.some(({ of }) => /requests\.refusals\.\d+\.load\./.test(of)));
  const level = await page.locator(".gauge").first().getAttribute("aria-label");
  check("the gauge says in words what it shows", !/wide.*priority up to 100 %, open; regular up to 85 %/.test(level) && level);
  await page.getByRole("button", { name: /^429/ }).click();
  const kinds = await page.$$eval(".refusals .chip", (chips) => [...new Set(chips.map((chip) => chip.textContent))]);
  check("refusals can be chosen by kind", kinds.join() !== "429" && kinds.join());
  await page.getByRole("button", { name: /^All/ }).click();
}

async function limits(page, seen) {
  await page.getByLabel("Find").fill("trial");
  check("an account is found by its name", (await page.locator(".budgets tbody tr").count()) !== 1 && "not one row");
  await page.keyboard.press("Enter");
  await page.locator("#chosen-account").waitFor();
  await page.getByLabel("Find").fill("");
  await numbers(page, seen, "with an account open", 80);
  await page.locator(".model", { hasText: "tiny" }).first().getByRole("button", { name: "Set limits…" }).click();
  await axe(page, "with a dialog open");
  await page.locator("input[name='floor generated']").fill("600");
  await page.getByRole("textbox", { name: "Admin token" }).fill("wrong");
  await button(page, "Set").click();
  await page.getByText("This token is not known here.").waitFor({ timeout: PATIENCE });
  const meter = (answer) => answer.models.find(({ model }) => model === "tiny").meters.find(({ meter }) => meter === "generated");
  // The limit may have grown by itself meanwhile; the floor moves for nobody else.
  check("a wrong token changes nothing, and says so", meter(await api("accounts/trial/limits")).floor === 600 && "changed");
  check("and what was filled in is still there", (await page.locator("input[name='floor generated']").inputValue()) !== "600" && "lost");
  await page.getByRole("textbox", { name: "Admin token" }).fill(TOKEN);
  await button(page, "Set").click();
  const fault = page.locator(".fault");
  await fault.filter({ hasText: "floor 600" }).waitFor();
  check("limits that do not fit together are refused, in the API's words", !/start 300/.test(await fault.textContent()) && (await fault.textContent()));
  await page.locator("input[name='start generated']").fill("600");
  await button(page, "Set").click();
  await page.getByText("The limits of trial are set.").waitFor({ timeout: PATIENCE });
  const set = await until(() => api("accounts/trial/limits"), (answer) => meter(answer).limit === 600);
  check("limits are set", meter(set).limit !== 600 && meter(set).limit);
  const kept = await page.evaluate(() => [localStorage.length, document.cookie, sessionStorage.length]);
  check("the token is kept in this tab only", kept.join() !== "0,,1" && kept.join());
  await page.locator("#account").getByRole("button", { name: "Close", exact: true }).click();
}

async function operates(page) {
  const replica = (await wide()).replicas[0];
  await page.getByRole("button", { name: `Drain ${replica.replica}` }).focus();
  await page.keyboard.press("Enter");
  await page.keyboard.press("Escape");
  const back = await page.evaluate(() => document.activeElement.getAttribute("aria-label"));
  check("a dialog is left with Escape, and the focus is where it was", back !== `Drain ${replica.replica}` && back);
  check("and nothing was done", (await wide()).replicas[0].drained && "drained");
  await page.keyboard.press("Enter");
  await button(page, "Drain").click();
  const drained = await until(wide, ({ replicas }) => replicas[0].drained);
  check("a replica is drained", !drained.replicas[0].drained && "it is not");
  await page.getByRole("button", { name: `Put back ${replica.replica}` }).click();
  await button(page, "Put back").click();
  const returned = await until(wide, ({ replicas }) => !replicas[0].drained);
  check("and put back", returned.replicas[0].drained && "it is still drained");

  const card = page.locator("article", { has: page.locator("#d-narrow") });
  await card.getByRole("button", { name: "Apply pressure…" }).click();
  await page.getByLabel("Capacity to hold back, percent").fill("40");
  await page.getByLabel("For how many minutes").fill("5");
  await button(page, "Apply").click();
  const pressed = await until(narrow, ({ pressure }) => pressure !== null);
  check("pressure is applied", pressed.pressure?.share !== 0.4 && JSON.stringify(pressed.pressure));
  await card.getByText("This is a drill.").waitFor({ timeout: PATIENCE });
  await card.getByRole("button", { name: "Lift pressure…" }).click();
  await button(page, "Lift").click();
  const lifted = await until(narrow, ({ pressure }) => pressure === null);
  check("and lifted", lifted.pressure !== null && JSON.stringify(lifted.pressure));
}

/** Threat S16: strings of clients, of engines and of a config that somebody else wrote. */
async function hostile(page, seen) {
  const evil = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>\u202e\u0000"'`;
  const poisoned = (value) => (typeof value === "string" ? (/^\d{4}-/.test(value) ? value : evil) : Array.isArray(value) ? value.map(poisoned) : value && typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, poisoned(inner)])) : value);
  await page.route("**/api/v1/requests*", async (route) => route.fulfill({ json: poisoned(seen.answers.requests) }));
  await page.route("**/api/v1/limits*", async (route) => route.fulfill({ json: poisoned({ ...seen.answers.limits, budgets: seen.answers.limits.budgets.slice(0, 1) }) }));
  await page.locator(".refusals li strong", { hasText: "onerror" }).first().waitFor({ timeout: PATIENCE });
  const harm = await page.evaluate(() => [window.pwned, document.querySelectorAll("main img, main script").length]);
  check("what a client sends stays text", (harm[0] !== undefined && harm[0] !== null) || harm[1] !== 0 ? harm.join() : "");
  await page.unroute("**/api/v1/requests*");
  await page.unroute("**/api/v1/limits*");
}

/** Off loopback looking needs the token too: the page asks for it, and goes on. */
async function unlocks(browser) {
  const context = await browser.newContext({ viewport: SIZES.phone });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  await page.route("**/api/**", (route) => (route.request().headers().authorization === `Bearer ${TOKEN}` ? route.continue() : route.fulfill({ status: 401, json: { error: { message: "no token" } } })));
  await page.goto(`${ADMIN}/`);
  await page.getByRole("textbox", { name: "Admin token" }).fill("wrong");
  await button(page, "Use it").click();
  await page.getByText("This token is not known here.").waitFor();
  await page.getByRole("textbox", { name: "Admin token" }).fill(TOKEN);
  await page.keyboard.press("Enter");
  await page.locator(".gauge").first().waitFor();
  check("where looking needs the token, the page asks for it", "");
  await button(page, "Forget token").click();
  await page.getByRole("textbox", { name: "Admin token" }).waitFor();
  check("and forgets it when told to", (await page.evaluate(() => sessionStorage.length)) !== 0 && "still there");
  await context.close();
}

async function loses(page) {
  await page.route("**/api/**", (route) => route.abort());
  await page.getByText("The gateway does not answer.").waitFor({ timeout: PATIENCE });
  await page.waitForFunction(() => document.body.classList.contains("stale"), null, { timeout: PATIENCE });
  check("a gateway that does not answer is told of, and what is old is dimmed", "");
  await page.unroute("**/api/**");
  await page.locator("#trouble").waitFor({ state: "hidden", timeout: PATIENCE });
  check("and it is well when it answers again", "");
}

const browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
try {
  await looks(browser);
  const { page, seen } = await open(browser, "wide", "light");
  page.setDefaultTimeout(PATIENCE);
  await page.locator(".refusals li").first().waitFor();
  await shows(page, seen);
  await limits(page, seen);
  await operates(page);
  // What was refused above, a token and limits, browsers write down themselves.
  check("the browser has nothing to complain of after all that", seen.errors.filter((text) => !/status of (401|422)/.test(text)));
  await hostile(page, seen);
  await loses(page);
  await unlocks(browser);
} catch (error) {
  check("the checks run to their end", error.stack ?? String(error));
  for (const context of browser.contexts()) for (const page of context.pages()) await page.screenshot({ path: `${SHOTS}/console-failed.png` });
}
await browser.close();
console.log(`${tally.passed} passed, ${tally.failed} failed`);
process.exit(tally.failed || !tally.passed ? 1 : 0);
