// How the console looks and reads: each view at three widths, light and dark, for eyes, screen readers and browsers.

import { ADMIN, SHOTS, SIZES, axe, check, open, PATIENCE } from "./browser.mjs";

/** What has to be there before a view is looked at. */
export const VIEWS = {
  deployments: { hash: "", ready: ".plot canvas" },
  accounts: { hash: "#/accounts", ready: ".budgets tbody tr" },
  account: { hash: "#/accounts/acme", ready: ".meters" },
  refusals: { hash: "#/refusals", ready: ".refusals li" },
  drills: { hash: "#/drills", ready: ".scenarios" },
  process: { hash: "#/process", ready: ".counters" },
};

/** The first view at all sizes in both colours, the others in one each. */
const LOOKS = [
  ...Object.keys(SIZES).flatMap((size) => ["light", "dark"].map((scheme) => ["deployments", size, scheme])),
  ...["accounts", "account", "refusals", "drills", "process"].flatMap((view) => [
    [view, "phone", "dark"],
    [view, "desk", "light"],
  ]),
];

export async function looks(browser) {
  await narrows(browser);
  for (const [view, size, scheme] of LOOKS) {
    const { page, seen, context } = await open(browser, size, scheme, VIEWS[view].hash);
    const where = `on ${view} at ${size}, ${scheme}`;
    await page.locator(VIEWS[view].ready).first().waitFor({ state: "attached", timeout: PATIENCE });
    await page.waitForTimeout(800);
    await page.screenshot({ path: `${SHOTS}/console-${view}-${SIZES[size].width}-${scheme}.png`, fullPage: true });
    await axe(page, where);
    const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    check(`nothing is wider than the screen ${where}`, over > 0 && `${over} px`);
    check(`the browser has nothing to complain of ${where}`, seen.errors);
    check("and asked nobody else", [...seen.asked].filter((origin) => origin !== ADMIN));
    await context.close();
  }
}

/** A wide page that becomes narrow, as when a telephone is turned, takes its charts along. */
async function narrows(browser) {
  const { page, context } = await open(browser, "desk", "light");
  await page.locator(".plot canvas").first().waitFor({ timeout: PATIENCE });
  for (const size of ["half", "phone"]) {
    await page.setViewportSize(SIZES[size]);
    await page.waitForTimeout(500);
    const over = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    const charts = await page.$$eval(".plot", (plots) => Math.max(...plots.map((plot) => plot.querySelector("canvas").clientWidth - plot.clientWidth)));
    check(`a wide page made as narrow as ${size} fits, and so do its charts`, over > 0 || charts > 0 ? `${over} px, charts ${charts} px` : "");
  }
  await context.close();
}

/** All charts are drawn: something of each series' colour is on the canvas, and the axes lie above each other. */
export async function charts(page, seen) {
  await page.locator(".plot canvas").first().waitFor();
  const drawn = await page.$$eval(".plot", (plots) =>
    plots.map((plot) => {
      const canvas = plot.querySelector("canvas");
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      let coloured = 0;
      for (let at = 0; at < data.length; at += 4) if (data[at + 3] > 100 && Math.max(data[at], data[at + 1], data[at + 2]) - Math.min(data[at], data[at + 1], data[at + 2]) > 30) coloured++;
      return { id: plot.id, coloured, width: plot.clientWidth };
    }),
  );
  check("there are eleven charts", drawn.length !== 11 && drawn.length);
  check("each has something drawn on it", drawn.filter(({ coloured }) => coloured < 40).map(({ id, coloured }) => `${id}: ${coloured} pixels`));
  check("and all are as wide as each other", Math.max(...drawn.map(({ width }) => width)) - Math.min(...drawn.map(({ width }) => width)) > 1 && "not");
  const { slo } = seen.answers.history_answer;
  const promise = await page.locator("figure", { has: page.locator("#chart-ttft") }).locator("dd").last().textContent();
  check("the promised time to first token is told", promise !== `${(slo.ttft_ms / 1000).toFixed(1)} s` && promise);
}

/** A keyboard moves all cursors to one moment, and the numbers are that moment's. */
export async function cursors(page) {
  const told = (id) => page.locator(`#chart-${id}`).getAttribute("aria-valuetext");
  await page.locator("#chart-ttft").focus();
  for (const key of ["ArrowLeft", "ArrowLeft", "ArrowLeft"]) await page.keyboard.press(key);
  await page.waitForTimeout(300);
  const [time, other] = [(await told("ttft")).slice(0, 8), (await told("generated")).slice(0, 8)];
  check("the arrow keys move all cursors to one moment", time !== other && `${time}, ${other}`);
  const moment = await page.locator(".moment strong time").textContent();
  check("and the moment is told", moment !== time && `${moment}, ${time}`);
  const lines = await page.$$eval(".u-cursor-x", (cursors) => cursors.map((cursor) => cursor.style.transform));
  check("each chart shows its cursor there", new Set(lines).size !== 1 && [...new Set(lines)].join());
  await page.keyboard.press("Escape");
  await page.waitForTimeout(200);
  check("Escape takes them away", (await page.locator(".moment strong").count()) !== 0 && "still there");

  const box = await page.locator("#chart-queue .u-over").boundingBox();
  await page.mouse.move(box.x + box.width - 3, box.y + 20);
  await page.waitForTimeout(300);
  check("a pointer moves them, too", (await told("ttft")).slice(0, 8) !== (await told("queue")).slice(0, 8) && "not together");
  await page.mouse.move(2, 2);
}
