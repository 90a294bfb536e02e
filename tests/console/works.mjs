// What an operator can do in the console, each by the controls that are there.

import { TOKEN, api, axe, button, check, numbers, PATIENCE, until } from "./browser.mjs";

const deployment = async (name) => (await api("deployments")).deployments.find((each) => each.name === name);
const go = (page, name) => page.getByRole("navigation", { name: "Views" }).getByRole("link", { name, exact: true }).click();

/** Limits of an account, with a wrong token, with limits that do not fit together, and well. */
export async function limits(page, seen) {
  await go(page, "Accounts");
  await page.getByLabel("Find").fill("tria");
  await page.locator(".accounts tbody tr").first().waitFor();
  check("an account is found by a part of its id", (await page.locator(".accounts tbody tr").count()) !== 1 && "not one row");
  await page.locator(".accounts a", { hasText: "trial" }).click();
  await page.locator("#account-name").waitFor();
  await page.locator(".meters").first().waitFor();
  await numbers(page, seen, "on an account's page", 40);
  await page.locator(".model", { hasText: "tiny" }).first().getByRole("button", { name: "Set limits…" }).click();
  await axe(page, "with a dialog open");
  await page.locator("input[name='floor generated']").fill("600");
  await page.getByRole("textbox", { name: "Admin token" }).fill("wrong");
  await button(page, "Set").click();
  await page.getByText("This token is not known here.").waitFor();
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
  await page.getByText("The limits of trial are set.").waitFor();
  const set = await until(() => api("accounts/trial/limits"), (answer) => meter(answer).limit === 600);
  check("limits are set", meter(set).limit !== 600 && meter(set).limit);
  const kept = await page.evaluate(() => [localStorage.length, document.cookie, sessionStorage.length]);
  check("the token is kept in this tab only", kept.join() !== "0,,1" && kept.join());
}

/** An account that is made, gets another key, and is disabled. Its keys are shown once. */
export async function accounts(page, served) {
  await go(page, "Accounts");
  await button(page, "New account…").click();
  await page.getByLabel("Id").fill("made-here");
  await button(page, "Make").click();
  const secret = page.locator("#new-key");
  await secret.waitFor();
  const first = await secret.textContent();
  check("a made account's key is shown", first.length < 20 && first);
  await axe(page, "with a key shown");
  await button(page, "I have it").click();
  await page.getByText("The account made-here is made.").waitFor();
  check("and is nowhere on the page afterwards", (await page.content()).includes(first) && "it is");
  check("it is taken by the gateway", (await served(first)) !== 200 && (await served(first)));

  await page.goto(`${page.url().split("#")[0]}#/accounts/made-here`);
  await page.locator(".keys li").first().waitFor();
  await button(page, "New key…").click();
  await button(page, "Make").click();
  await secret.waitFor();
  const second = await secret.textContent();
  await button(page, "I have it").click();
  await until(() => page.locator(".keys li").count(), (many) => many === 2);
  check("another key stands beside the first", (await page.locator(".keys li").count()) !== 2 && "not two");
  check("and both are taken", (await served(first)) !== 200 || (await served(second)) !== 200 ? "not" : "");
  await button(page, "Rotate…").click();
  await page.getByLabel("Days that the old keys stay good").fill("0");
  await button(page, "Rotate").click();
  await secret.waitFor();
  const third = await secret.textContent();
  await button(page, "I have it").click();
  check("after a rotation the new key alone is taken", (await served(first)) !== 401 || (await served(second)) !== 401 || (await served(third)) !== 200 ? "not" : "");
  await button(page, "Disable…").click();
  await button(page, "Disable").click();
  await page.getByText("made-here is disabled.").waitFor();
  check("a disabled account's key is refused", (await served(third)) !== 401 && (await served(third)));
}

/** A drain, with a keyboard, and what it is called; pressure. */
export async function operates(page) {
  await page.goto(`${page.url().split("#")[0]}#/deployments/wide`);
  await page.locator("#deployment-name", { hasText: "wide" }).waitFor();
  const replica = (await deployment("wide")).replicas[0];
  await page.getByRole("button", { name: `Drain ${replica.replica}` }).focus();
  await page.keyboard.press("Enter");
  await page.keyboard.press("Escape");
  const back = await page.evaluate(() => document.activeElement.getAttribute("aria-label"));
  check("a dialog is left with Escape, and the focus is where it was", back !== `Drain ${replica.replica}` && back);
  await page.keyboard.press("Enter");
  await button(page, "Drain").click();
  const drained = await until(() => deployment("wide"), ({ replicas }) => replicas[0].drained);
  check("a replica is drained", !drained.replicas[0].drained && "it is not");
  const chip = page.locator(".replicas tbody tr").first().locator(".chip");
  await chip.filter({ hasText: /drain(ing|ed)/ }).waitFor();
  check("it is called draining or drained, not down, and is not red", /bad/.test(await chip.getAttribute("class")) && "red");
  const event = page.locator(".events li", { hasText: "drain" }).first();
  await event.waitFor();
  check("the drain is among the events, with its words", !(await event.textContent()).includes(replica.replica) && (await event.textContent()));
  await event.getByRole("button").click();
  await page.locator(".moment", { hasText: "drained" }).waitFor();
  check("and moves the cursors to its moment", "");
  await page.getByRole("button", { name: `Put back ${replica.replica}` }).click();
  await button(page, "Put back").click();
  const returned = await until(() => deployment("wide"), ({ replicas }) => !replicas[0].drained);
  check("and put back", returned.replicas[0].drained && "it is still drained");

  await page.goto(`${page.url().split("#")[0]}#/deployments/narrow`);
  const card = page.locator("article", { has: page.locator("#deployment-name", { hasText: "narrow" }) });
  await card.getByRole("button", { name: "Apply pressure…" }).click();
  await page.getByLabel("Capacity to hold back, percent").fill("40");
  await page.getByLabel("For how many minutes").fill("5");
  await button(page, "Apply").click();
  const pressed = await until(() => deployment("narrow"), ({ pressure }) => pressure !== null);
  check("pressure is applied", pressed.pressure?.share !== 0.4 && JSON.stringify(pressed.pressure));
  await card.getByText("This is a drill.").waitFor();
  await card.getByRole("button", { name: "Lift pressure…" }).click();
  await button(page, "Lift").click();
  const lifted = await until(() => deployment("narrow"), ({ pressure }) => pressure === null);
  check("and lifted", lifted.pressure !== null && JSON.stringify(lifted.pressure));
}

/** Refusals are grouped, narrowed and found. */
export async function refusals(page, seen) {
  await go(page, "Refusals");
  await page.locator(".refusals li").first().waitFor();
  const shown = await numbers(page, seen, "on the refusals", 20);
  check("some are of refusals that explain themselves", !shown.some(({ of }) => /requests\.refusals\.\d+\.(budget\.over_by|load\.)/.test(of)));
  check("and of groups", !shown.some(({ of }) => /groups\.groups\.\d+\.count/.test(of)));
  await page.getByLabel("Status").selectOption("429");
  await until(() => page.$$eval(".refusals .chip", (chips) => [...new Set(chips.map((chip) => chip.textContent))].join()), (kinds) => kinds === "429");
  const kinds = await page.$$eval(".refusals .chip", (chips) => [...new Set(chips.map((chip) => chip.textContent))]);
  check("refusals can be chosen by status", kinds.join() !== "429" && kinds.join());
  check("and the choice is in the address", !page.url().includes("status=429") && page.url());
  const id = (await api("requests?limit=1&status=503")).refusals[0].request_id;
  await page.getByRole("link", { name: "All refusals" }).click();
  await page.getByLabel("Request id").fill(id);
  await page.keyboard.press("Enter");
  await until(() => page.locator(".refusals li").count(), (many) => many === 1);
  check("one is found by its request id", !(await page.locator(".refusals").textContent()).includes(id) && "not found");
}

/** A drill on the running config: started, followed, its report opened in a new tab. */
export async function drills(page, open) {
  await go(page, "Drills");
  await button(page, "Run a drill…").click();
  await button(page, "Run").click();
  const card = page.locator(".drill").first();
  await card.waitFor();
  const end = Date.now() + 90_000;
  let word = "";
  while (Date.now() < end) {
    word = await card.locator("header .chip").textContent();
    if (word !== "running") break;
    await page.waitForTimeout(500);
  }
  check("a drill runs to its end", !["passed", "failed"].includes(word) && `${word}: ${await card.textContent()}`);
  check("its conditions are listed", (await card.locator(".checks li").count()) === 0 && "none");
  // Without the token the report is a link; looking is open on loopback.
  const reader = await open();
  await reader.getByRole("link", { name: "Report" }).first().waitFor();
  const [report] = await Promise.all([reader.context().waitForEvent("page", { timeout: PATIENCE }), reader.getByRole("link", { name: "Report" }).first().click()]);
  await report.locator("h1").waitFor();
  check("and its report opens in a tab of its own", (await report.locator("svg").count()) === 0 && "nothing is drawn in it");
  await reader.context().close();
}

/** From the top of the page to a refused request's account with nothing but a keyboard. */
export async function keyboard(page) {
  await page.goto(`${page.url().split("#")[0]}#/deployments`);
  await page.locator(".plot canvas").first().waitFor();
  // Tab goes on from where the focus was; a fresh page begins at its top.
  await page.reload();
  await page.locator(".plot canvas").first().waitFor();
  const focused = () => page.evaluate(() => [document.activeElement.tagName, document.activeElement.textContent.trim().slice(0, 40), document.activeElement.getAttribute("role")]);
  const tabTo = async (what, most) => {
    for (let nth = 0; nth < most; nth++) {
      await page.keyboard.press("Tab");
      if (what(await focused())) return true;
    }
    return false;
  };
  await page.keyboard.press("Tab");
  check("the first stop skips to the content", (await focused())[1] !== "Skip to the content" && (await focused()).join());
  await page.keyboard.press("Enter");
  check("and does", (await page.evaluate(() => document.activeElement.id)) !== "main" && "not");
  check("a chart is reached with Tab", !(await tabTo(([, , role]) => role === "slider", 60)) && "not in 60 stops");
  await page.evaluate(() => document.querySelector("#top").querySelector("a").focus());
  check("so is the view of refusals", !(await tabTo(([tag, text]) => tag === "A" && text === "Refusals", 8)) && "not in 8 stops");
  await page.keyboard.press("Enter");
  await page.locator(".groups").waitFor();
  check("a new view is read from its title on", (await page.evaluate(() => document.activeElement.id)) !== "view-title" && "not");
  check("and an account in it is reached", !(await tabTo(([tag, text]) => tag === "A" && ["acme", "startup", "trial"].includes(text), 20)) && "not in 20 stops");
  await page.keyboard.press("Enter");
  await page.locator("#account-name").waitFor();
}
