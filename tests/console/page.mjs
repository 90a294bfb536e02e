// What the console must be and do, in a real browser. Started by main.py.

import { ADMIN, CHROMIUM, FLAGS, PATIENCE, SHOTS, SIZES, TOKEN, api, button, check, chromium, ended, numbers, open } from "./browser.mjs";
import { charts, cursors, looks } from "./looks.mjs";
import * as works from "./works.mjs";

async function shows(page, seen) {
  check("the policy lets nothing inline run", !seen.policy?.includes("script-src 'self'") || seen.policy.includes("unsafe"));
  const shown = await numbers(page, seen, "on the page", 60);
  for (const part of ["deployments.deployments.1.tiers.*.queued", "deployment.replicas.0.saturation", "deployment.tiers.1.queued", "deployment.tiers.1.ceiling_in_force", "deployment.tiers.1.last_minute.shed_per_s", "version.uptime_seconds", "history_answer.slo.ttft_ms"]) {
    check(`one of them is ${part}`, !shown.some(({ of }) => of === part));
  }
  check("and some are of the history", shown.filter(({ of }) => /^history\.\d+\./.test(of)).length < 20);
  const level = await page.locator(".gauge").first().getAttribute("aria-label");
  check("the gauge says in words what it shows", !/narrow.*priority up to \d+ %.*regular up to \d+ %/.test(level) && level);
  // Ceilings in force, not the configured ones alone.
  const { tiers } = seen.answers.deployment;
  const lines = await page.$$eval(".gauge .ceiling text", (texts) => texts.map((text) => text.textContent));
  const wanted = tiers.map((tier) => `${tier.tier} ${Math.round(100 * tier.ceiling_in_force)} %`);
  check("and draws the lines that are in force", lines.join() !== wanted.join() && `${lines.join()}, not ${wanted.join()}`);
}

async function tables(page, seen) {
  for (const chart of ["ttft", "regular"]) {
    await page.locator("figure", { has: page.locator(`#chart-${chart}`) }).locator("summary").click();
    await page.locator("figure", { has: page.locator(`#chart-${chart}`) }).locator("tbody tr").first().waitFor();
  }
  await numbers(page, seen, "with two charts' tables open", 100);
  await button(page, "Last day").click();
  await page.locator(".choice[aria-pressed='true']", { hasText: "Last day" }).waitFor();
  await page.waitForTimeout(1500);
  await numbers(page, seen, "over the day", 40);
  await button(page, "Last hour").click();
}

/** Threat S16: strings of clients, of engines and of a config that somebody else wrote. */
async function hostile(page, seen) {
  const evil = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>\u202e\u0000"'`;
  const poisoned = (value) => (typeof value === "string" ? (/^\d{4}-/.test(value) ? value : evil) : Array.isArray(value) ? value.map(poisoned) : value && typeof value === "object" ? Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, poisoned(inner)])) : value);
  const requests = await api("requests?limit=5");
  const groups = await api("requests/groups");
  await page.route("**/api/v1/requests?*", (route) => route.fulfill({ json: poisoned(requests) }));
  await page.route("**/api/v1/requests/groups?*", (route) => route.fulfill({ json: poisoned({ ...groups, groups: groups.groups.slice(0, 1) }) }));
  await page.goto(`${ADMIN}/#/refusals`);
  await page.locator(".refusals li a", { hasText: "onerror" }).first().waitFor();
  const harm = await page.evaluate(() => [window.pwned, document.querySelectorAll("main img, main script").length]);
  check("what a client sends stays text", (harm[0] !== undefined && harm[0] !== null) || harm[1] !== 0 ? harm.join() : "");
  await page.unroute("**/api/v1/requests?*");
  await page.unroute("**/api/v1/requests/groups?*");
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
  await page.getByText("The gateway does not answer.").waitFor();
  await page.waitForFunction(() => document.body.classList.contains("stale"), null, { timeout: PATIENCE });
  check("a gateway that does not answer is told of, and what is old is dimmed", "");
  await page.unroute("**/api/**");
  await page.locator("#trouble").waitFor({ state: "hidden" });
  check("and it is well when it answers again", "");
}

/** Whether the gateway takes a key: the status of a request with it. */
const served = async (key) => (await fetch(`${process.env.URL_SERVED}/v1/models`, { headers: { authorization: `Bearer ${key}` } })).status;

const browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
try {
  await looks(browser);
  const { page, seen } = await open(browser, "desk", "light", "#/deployments/narrow");
  await page.locator(".plot canvas").first().waitFor();
  await charts(page, seen);
  await cursors(page);
  await shows(page, seen);
  await tables(page, seen);
  await works.refusals(page, seen);
  await works.limits(page, seen);
  await works.accounts(page, served);
  await works.operates(page);
  await works.drills(page, async () => (await open(browser, "desk", "light", "#/drills")).page);
  await works.keyboard(page);
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
ended();
