// A deployment over an hour or a day: charts on one time axis, their numbers at one moment, what happened, and a table behind
// each chart.

import { CHARTS, formOf } from "./charts.js";
import { RANGES } from "./history.js";
import { h } from "./view.js";
import { clock, day, EVENTS, number } from "./words.js";

/** Rows of a table at once: five minutes of the hour, an hour of the day. */
const ROWS = 60;
/** Events listed at once. */
const EVENTS_SHOWN_MAX = 30;
/** Samples that Page Up and Page Down move by. */
const PAGE = 12;

/** Events as they are drawn: with their second, a short word, and whether it is a fault. */
export const marked = (events) => events.map((event, nth) => ({ ...event, nth, seconds: event.time, short: EVENTS[event.kind]?.[0] ?? event.kind, grave: EVENTS[event.kind]?.[1] === true }));

/** All of it. `open` are the charts whose table is open, with the row that it begins at. */
export function timeline({ name, history, board, events, open, act }) {
  return h(
    "section",
    { key: `time ${name}`, class: "timeline", "aria-labelledby": "time-title" },
    h(
      "div",
      { class: "heading" },
      h("h4", { id: "time-title" }, "Latency, load and capacity"),
      h("div", { class: "choices", role: "group", "aria-label": "Time range" }, Object.entries(RANGES).map(([range, { label }]) => h("button", { key: range, class: "choice", "aria-pressed": String(range === history.range), onclick: () => act.range(range) }, label))),
    ),
    state(history, board),
    history.time.length > 0 && h("div", { class: "charts" }, CHARTS.map((chart) => figure(chart, history, board, open, act))),
    history.version > 0 && happened(board, events),
  );
}

function state(history, board) {
  if (history.version === 0) return h("p", { class: "empty" }, "Loading…");
  const { about } = RANGES[history.range];
  if (history.time.length === 0) return h("p", { class: "empty" }, "No samples yet: they are kept from a deployment's first request on.");
  const at = board.moment === null ? null : history.time[board.index];
  return h(
    "p",
    { class: "moment" },
    at === null ? h("span", { class: "quiet" }, `${about}; numbers are the newest. Point at a chart, or focus it and use the arrow keys.`) : [h("strong", {}, "At ", h("time", { datetime: new Date(1000 * at).toISOString() }, clock(1000 * at))), board.near.map(({ id, seconds, words, grave }) => h("span", { key: `${seconds} ${id}`, class: grave ? "bad" : "event" }, ` · ${words}`))],
    !history.complete && h("span", { class: "warn" }, " The gateway keeps less than this here: its memory for samples is used up."),
  );
}

function figure(chart, history, board, open, act) {
  const id = `chart-${chart.id}`;
  const index = board.index;
  const form = formOf(chart, history.step);
  const value = (of) => (index < 0 ? null : history.column(of)[index]);
  const text = (of) => (value(of) === null ? "none" : form(value(of)));
  return h(
    "figure",
    { key: `${history.deployment} ${history.range} ${chart.id}`, class: "chart", "aria-labelledby": `${id}-title` },
    h("figcaption", { id: `${id}-title` }, chart.title, chart.note && h("span", { class: "quiet" }, `, ${chart.note}`)),
    h(
      "dl",
      { class: "legend" },
      chart.series.map((series) => h("div", { key: series.of }, h("dt", {}, swatch(series), series.label), h("dd", {}, number(`history.${history.time[index]}.${series.of}`, value(series.of), form)))),
      chart.slo && history.slo && target(chart, history.slo),
    ),
    h("div", {
      class: "plot",
      id,
      tabindex: 0,
      role: "slider",
      "aria-label": `${chart.title}, ${RANGES[history.range].label.toLowerCase()}`,
      "aria-valuemin": 0,
      "aria-valuemax": Math.max(history.time.length - 1, 0),
      "aria-valuenow": Math.max(index, 0),
      "aria-valuetext": `${index < 0 ? "" : clock(1000 * history.time[index])}: ${chart.series.map((series) => `${series.label} ${text(series.of)}`).join(", ")}${board.near.map(({ words }) => `. ${words}`).join("")}`,
      onkeydown: (event) => moved(event, board),
      own: (node) => board.mount(node, chart),
    }),
    table(chart, history, form, open, act),
  );
}

function target(chart, slo) {
  const [at, from] = chart.slo === "ttft_ms" ? ["slo.ttft_ms", slo.ttft_from] : ["slo.tpot_ms", slo.tpot_from];
  return h("div", { key: "slo" }, h("dt", { title: chart.slo === "ttft_ms" ? "the time that a request's own prompt takes is not counted in it" : null }, swatch({ tone: "slo", dash: [6, 4], width: 1.5 }), "SLO", h("span", { class: "quiet" }, from === "config" ? "" : ` (${from})`)), h("dd", {}, number(`history_answer.${at}`, slo[chart.slo], chart.form)));
}

function swatch({ tone, dash, width, faint, fill }) {
  return h("svg", { class: `swatch ${tone} ${faint ? "faint" : ""}`, width: 18, height: 8, "aria-hidden": "true" }, fill && h("rect", { width: 18, y: 4, height: 4 }), h("line", { x1: 0, x2: 18, y1: 4, y2: 4, "stroke-width": width, "stroke-dasharray": dash ? dash.join(" ") : null }));
}

function moved(event, board) {
  const by = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -PAGE, PageUp: PAGE, Home: -Infinity, End: Infinity }[event.key];
  if (event.key === "Escape") board.look(null);
  else if (by !== undefined) board.step(by);
  else return;
  event.preventDefault();
}

/** The numbers that the chart draws, the newest first. */
function table(chart, history, form, open, act) {
  const from = open.get(chart.id);
  const all = history.time.length;
  const rows = from === undefined ? [] : Array.from({ length: Math.min(ROWS, all - from) }, (_, nth) => all - 1 - from - nth);
  return h(
    "details",
    { open: from !== undefined, ontoggle: (event) => event.target.open !== open.has(chart.id) && act.table(chart.id, event.target.open ? 0 : undefined) },
    h("summary", {}, "Table", h("span", { class: "unseen" }, ` of ${chart.title}`)),
    from !== undefined && [
      h(
        "div",
        { class: "scroll tall", tabindex: 0, role: "region", "aria-label": `Table of ${chart.title}` },
        h(
          "table",
          { class: "samples" },
          h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Time"), chart.series.map(({ label }) => h("th", { scope: "col", class: "r" }, label)))),
          h("tbody", {}, rows.map((nth) => h("tr", { key: history.time[nth] }, h("th", { scope: "row" }, clock(1000 * history.time[nth])), chart.series.map(({ of, label }) => h("td", { class: "r", "data-label": label }, number(`history.${history.time[nth]}.${of}`, history.column(of)[nth], form)))))),
        ),
      ),
      h("p", { class: "choices" }, h("button", { class: "push", disabled: from + ROWS >= all, onclick: () => act.table(chart.id, from + ROWS) }, "Earlier"), h("button", { class: "push", disabled: from === 0, onclick: () => act.table(chart.id, Math.max(from - ROWS, 0)) }, "Later")),
    ],
  );
}

/** What happened in the range, newest first; each moves the cursors to its moment. */
function happened(board, events) {
  const [from, to] = board.span;
  const within = events.filter(({ seconds }) => seconds >= from && seconds <= to).reverse();
  return h(
    "section",
    { class: "events", "aria-labelledby": "events-title" },
    h("h4", { id: "events-title" }, "Events"),
    within.length === 0
      ? h("p", { class: "empty" }, "Nothing was changed and nothing failed in this time.")
      : h(
          "ol",
          {},
          within.slice(0, EVENTS_SHOWN_MAX).map(({ id, seconds, short, words, by, grave }) =>
            h("li", { key: `${seconds} ${id}` }, h("button", { class: "link", onclick: () => board.look(seconds), title: day(1000 * seconds) }, clock(1000 * seconds)), " ", h("span", { class: grave ? "chip bad" : "chip event" }, short), ` ${words}`, by && h("span", { class: "quiet" }, " · by ", h("span", { class: "mono" }, by))),
          ),
        ),
    within.length > EVENTS_SHOWN_MAX && h("p", { class: "quiet" }, `The newest ${EVENTS_SHOWN_MAX} of ${within.length}.`),
  );
}
