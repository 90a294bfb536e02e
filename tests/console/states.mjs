// Pictures of every view in every state, at three widths, light and dark. Started by main.py.

import { CHROMIUM, FLAGS, PATIENCE, SIZES, axe, check, chromium, ended, numbers, open } from "./browser.mjs";
import { VIEWS } from "./looks.mjs";

const { STATES, SHOTS } = process.env;
const SCHEMES = ["light", "dark"];
/** Numbers that a view of deployments shows at least, whatever the state. */
const NUMBERS_MIN = 20;

const views = ({ account, deployment }) => ({
  ...VIEWS,
  deployments: { hash: "", ready: ".gauge" },
  deployment: { hash: `#/deployments/${deployment}`, ready: ".gauge" },
  account: { hash: `#/accounts/${account}`, ready: ".meters" },
  accounts: { hash: "#/accounts", ready: ".budgets, .empty" },
  refusals: { hash: "#/refusals", ready: ".refusals, .empty" },
  drills: { hash: "#/drills", ready: ".scenarios" },
});

/** Regions that scroll sideways: only a table of measurements may, on a page that is not wide. */
const scrolling = (page, size) =>
  page.$$eval(size === "desk" ? ".scroll" : ".sheet", (regions) => regions.filter((region) => region.scrollWidth > region.clientWidth + 1).map((region) => `${region.getAttribute("aria-label")} scrolls sideways`));

/** What the words of a view must be in this state. */
async function words(page, { says, state }, view) {
  if (view === "deployment") {
    const told = await page.locator(".card > header .chip").textContent();
    check(`${state}: the deployment is told as ${says}`, !told.startsWith(says) && told);
    const top = await page.locator("#deployment-name").evaluate((node) => node.getBoundingClientRect().top / innerHeight);
    check(`${state}: who opens a deployment sees it`, (top < 0 || top > 0.6) && `at ${Math.round(100 * top)} % of the screen`);
    const red = await page.$$eval(".replicas .chip.bad", (chips) => chips.map((chip) => chip.textContent));
    check(`${state}: only what is down is red`, red.filter((text) => text !== "down"));
  }
  if (view === "account" && (await page.locator(".model .chip", { hasText: "no limit grows" }).count()) > 0) {
    const growth = await page.$$eval(".meters tbody tr", (rows) => rows.map((row) => row.querySelector(".step").textContent));
    check(`${state}: a limit that does not grow is given no time for it`, growth.filter((text) => / in \d| now/.test(text)));
  }
}

/** Words that are cut off where nothing says so. */
const cut = (page) =>
  page.$$eval("main *", (nodes) =>
    nodes
      .filter((node) => node.childElementCount === 0 && node.textContent.trim() && node.closest(".scroll, pre, .u-wrap, svg, .unseen, .clip, option, details:not([open]) > :not(summary)") === null)
      .filter((node) => {
        const { left, right, width } = node.getBoundingClientRect();
        return width > 0 && (left < -1 || right > document.documentElement.clientWidth + 1);
      })
      .map((node) => node.textContent.trim().slice(0, 40)),
  );

async function look(browser, place, scheme) {
  const { page, seen, context } = await open(browser, "desk", scheme, "", place.admin);
  for (const [view, { hash, ready }] of Object.entries(views(place))) {
    await page.goto(`${place.admin}/${hash}`);
    await page.locator(ready).first().waitFor({ state: "attached", timeout: PATIENCE });
    if (place.traffic && view.startsWith("deployment")) await page.locator(".plot canvas").first().waitFor({ timeout: PATIENCE });
    await words(page, place, view);
    for (const [size, viewport] of Object.entries(SIZES)) {
      await page.setViewportSize(viewport);
      await page.waitForTimeout(500);
      const where = `${place.state}: ${view} at ${size}, ${scheme}`;
      await page.screenshot({ path: `${SHOTS}/${place.state}-${view}-${viewport.width}-${scheme}.png`, fullPage: true });
      const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      check(`${where}: nothing is wider than the screen or cut`, [over > 0 && `${over} px`, ...(await cut(page)), ...(await scrolling(page, size))].filter(Boolean));
    }
    await axe(page, `${place.state}: ${view}, ${scheme}`);
    if (view === "deployment" && scheme === "light") await numbers(page, seen, `${place.state}: ${view}`, NUMBERS_MIN);
  }
  check(`${place.state}: the browser has nothing to complain of, ${scheme}`, seen.errors);
  await context.close();
}

const browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
for (const place of JSON.parse(STATES)) {
  await Promise.all(SCHEMES.map((scheme) => look(browser, place, scheme).catch((error) => check(`${place.state}: the pictures are taken, ${scheme}`, error.stack ?? String(error)))));
}
await browser.close();
ended();
