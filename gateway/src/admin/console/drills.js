// Drills on the configuration in force: what may be run, what runs, how it ended, and its report.

import { token } from "./api.js";
import { h } from "./view.js";
import { bytes, clock, count, day, number, seconds } from "./words.js";

const STATES = { running: ["running", ""], passed: ["passed", "good"], failed: ["failed", "bad"], broken: ["could not run", "bad"], stopped: ["stopped", "rest"], timed_out: ["out of time", "warn"] };
const PATIENCE_MS = 20_000;

/** The view. */
export function drills(answer, act) {
  const runs = answer.drills.some(({ state }) => state === "running");
  return [
    h(
      "div",
      { class: "heading" },
      h("p", { class: "prose" }, "A drill plays a load against the configuration in force in virtual time, and judges what the gateway would have done. It runs in a process of its own at the lowest priority, one at a time."),
      h("button", { class: "push main", disabled: !answer.available || runs || answer.scenarios.length === 0, onclick: act.drill.start }, "Run a drill…"),
    ),
    !answer.available && h("p", { class: "note warn" }, answer.words),
    answer.drills.length === 0 && h("p", { class: "empty" }, "No drill has run in this process."),
    answer.drills.map((run, nth) => card(run, `drills.drills.${nth}`, answer.seconds_max, act)),
    h(
      "details",
      {},
      h("summary", {}, `What can be run (${count(answer.scenarios.length)})`),
      h("dl", { class: "scenarios" }, answer.scenarios.map(({ name, title, shows }) => h("div", { key: name }, h("dt", {}, h("span", { class: "mono" }, name), title && title !== name && ` ${title}`), h("dd", { class: "quiet" }, shows)))),
    ),
  ];
}

function card(run, at, most, act) {
  const [word, kind] = STATES[run.state] ?? [run.state, ""];
  const runs = run.state === "running";
  const about = [run.scenario, run.model, run.calibrated && "engines as measured"].filter(Boolean).join(", ");
  return h(
    "article",
    { key: run.id, class: "card drill", "aria-labelledby": `drill-${run.id}` },
    h(
      "header",
      {},
      h("h3", { id: `drill-${run.id}` }, run.title || run.scenario),
      h("span", { class: `chip ${kind}`, role: "status" }, word),
      h("span", { class: "quiet" }, about && `${about} · `, h("time", { datetime: new Date(1000 * run.started).toISOString(), title: clock(1000 * run.started) }, day(1000 * run.started)), run.by && [" · by ", h("span", { class: "mono" }, run.by)], " · took ", number(`${at}.took_seconds`, run.took_seconds, seconds)),
      run.has_report && report(run, at),
      h("button", { class: "push", "aria-label": `${runs ? "Stop" : "Forget"} the drill ${run.scenario} of ${clock(1000 * run.started)}`, onclick: () => act.drill.stop(run) }, runs ? "Stop…" : "Forget…"),
    ),
    runs && h("progress", { max: most, value: Math.min(run.took_seconds ?? 0, most), "aria-label": `Time used, of at most ${most} seconds` }),
    run.words && h("p", {}, run.words),
    run.checks.length > 0 && h("ul", { class: "checks" }, run.checks.map(({ ok, text }, nth) => h("li", { key: nth }, h("span", { class: `chip ${ok ? "good" : "bad"}` }, ok ? "met" : "missed"), ` ${text}`))),
  );
}

/**
 * The report: in a new tab where looking needs no token; a tab cannot send one, so elsewhere the report is saved as a file.
 */
function report(run, at) {
  const path = `/api/v1/drills/${run.id}/report`;
  const size = run.report_bytes ? h("span", { class: "quiet" }, " ", number(`${at}.report_bytes`, run.report_bytes, bytes)) : null;
  if (!token.get()) return h("a", { class: "push", href: path, target: "_blank", rel: "noopener" }, "Report", size);
  return h("button", { class: "push", onclick: () => opened(path, `drill-${run.scenario}-${run.id}.html`) }, "Report", size);
}

async function opened(path, name) {
  const quiet = await fetch(path, { method: "HEAD", credentials: "omit", signal: AbortSignal.timeout(PATIENCE_MS) }).catch(() => null);
  if (quiet?.ok) return window.open(path, "_blank", "noopener");
  const answer = await fetch(path, { headers: { authorization: `Bearer ${token.get()}` }, credentials: "omit", signal: AbortSignal.timeout(PATIENCE_MS) });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await answer.blob());
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}
