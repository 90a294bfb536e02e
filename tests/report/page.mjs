// What a report must be and do, in a real browser. Started by run.sh.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";

const { CHROMIUM, KEPT } = process.env;
const require = createRequire(`${KEPT}/package.json`);
const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
const WIDTHS = { phone: 360, tablet: 900, desk: 1440 };
const SCREENS = Object.fromEntries(Object.entries(WIDTHS).flatMap(([name, width]) =>
  ["light", "dark"].map((colorScheme) => [`${name}-${colorScheme}`, { viewport: { width, height: 900 }, colorScheme }])));

const tally = { passed: 0, failed: 0 };
function check(what, wrong) {
  tally[wrong ? "failed" : "passed"]++;
  console.log(`${wrong ? "FAIL" : "ok  "} ${what}${wrong ? `: ${wrong}` : ""}`);
}

async function open(browser, name, screen) {
  const page = await (await browser.newContext(SCREENS[screen])).newPage();
  const errors = [], asked = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("request", (request) => /^(file|data|blob):/.test(request.url()) || asked.push(request.url()));
  await page.goto(`file://${KEPT}/${name}.html`);
  await page.screenshot({ path: `${KEPT}/${name}-${screen}.png`, fullPage: true });
  return { page, errors, asked };
}

const browser = await chromium.launch({ executablePath: CHROMIUM, args: FLAGS });
for (const name of ["noisy-neighbour", "launch-day", "plan-azure"]) {
  for (const screen of Object.keys(SCREENS)) {
    const { page, errors, asked } = await open(browser, name, screen);
    check(`${name}, ${screen}: no error`, errors.join("; "));
    check(`${name}, ${screen}: no request`, asked.join("; "));
    const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
    check(`${name}, ${screen}: nothing is wider than the screen`, wide > room && `${wide} of ${room} pixels`);
    const small = await page.evaluate(() =>
      [...document.querySelectorAll("svg text")].filter((text) => {
        const box = text.getBoundingClientRect();
        return box.width > 0 && box.height < 9;
      }).length,
    );
    check(`${name}, ${screen}: the charts' words can be read`, small && `${small} are too small`);
    // The page's own policy forbids scripts from elsewhere, not ours.
    await page.evaluate(AXE);
    const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
    const told = violations.map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 120)} (${nodes.length}) ${nodes[0].failureSummary.slice(0, 200)}`);
    check(`${name}, ${screen}: axe finds nothing`, told.join("; "));
    const deaf = await page.evaluate(() => [...document.querySelectorAll("*")].filter((one) =>
      one.scrollWidth > one.clientWidth + 1 && /auto|scroll/.test(getComputedStyle(one).overflowX) && one.tabIndex < 0).length);
    check(`${name}, ${screen}: a keyboard reaches all that scrolls`, deaf && `${deaf} are out of reach`);
    await page.context().close();
  }
}

const figures = JSON.parse(readFileSync(`${KEPT}/noisy-neighbour.json`, "utf8"));
const { page } = await open(browser, "noisy-neighbour", "desk-light");
const said = await page.locator(".words p").allInnerTexts();
check("the conclusion is the figures'", JSON.stringify(said) !== JSON.stringify(figures.conclusion) && said.join(" | "));
const date = await page.locator("time").first().getAttribute("datetime");
const age = (Date.now() - Date.parse(date)) / 1000;
check("it says when it was played", (date !== figures.how.at || !(age >= 0 && age < 600)) && date);
const launch = JSON.parse(readFileSync(`${KEPT}/launch-day.json`, "utf8"));
const enough = launch.enough.replicas?.[0];
check("a drill that was short says what would have sufficed", !launch.conclusion.some((text) => text.includes(`${enough} replicas in place of ${launch.replicas}`)) && launch.conclusion.join(" | "));
const verdict = await page.locator(".verdict b").innerText();
check("the verdict is the figures'", verdict !== (figures.passed ? "Passed" : "Failed") && verdict);
const embedded = await page.evaluate(() => JSON.parse(document.getElementById("figures").textContent));
check("the page carries its figures", JSON.stringify(embedded) !== JSON.stringify(figures) && "they differ from the file");
const plot = page.locator("#offered-regular .plot");
await plot.scrollIntoViewIfNeeded();
const box = await plot.boundingBox();
await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
const tip = await plot.locator(".tip").innerText();
const bin = Math.floor(((0.5 * 860 - 46) / (850 - 46)) * figures.timeline.regular.length);
const met = Math.round(figures.timeline.regular[bin].met * 100) / 100;
check("the values under the pointer are the figures'", !tip.includes(`served within the SLO: ${met}`) && `${tip}, not ${met}`);
await page.emulateMedia({ media: "print" });
const pdf = await page.pdf({ path: `${KEPT}/noisy-neighbour.pdf`, format: "A4", printBackground: true });
check("it prints", pdf.length < 10_000 && `${pdf.length} bytes`);
await browser.close();

console.log(`${tally.passed} passed, ${tally.failed} failed`);
process.exit(tally.failed ? 1 : 0);
