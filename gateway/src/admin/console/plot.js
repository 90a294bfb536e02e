// Draws the charts of a deployment with uPlot, keeps their cursors on one moment, and marks what happened.

import { top } from "./charts.js";
import { RANGES } from "./history.js";
import uPlot from "./uplot.js";
import { clock, compact, count, ticks } from "./words.js";

const HEIGHT = 150;
/** Room for the numbers of an axis, so that the time axes of all charts lie above each other. */
const LEFT = 56;
const RIGHT = 20;
const NARROW = 520;
/** Steps of an axis that counts: what it writes has no fraction. */
const WHOLE = [0, 1, 2, 3, 4, 5, 6].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));
/** Steps of the time axis, seconds: so that any span has three or more on a narrow chart. */
const TIMES = [60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200];
const FONT = "11px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
/** How near to an event a moment is still that event's, as a part of the range. */
const NEAR = 1 / 120;

const written = (chart) => chart.axis ?? chart.form ?? ticks;
const tone = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** The charts that are on the page now: one clock, one cursor. */
export class Board {
  constructor(changed) {
    this.changed = changed;
    this.plots = new Map();
    this.moment = null;
    this.history = null;
    this.events = [];
    this.slo = null;
    const redraw = () => this.plots.forEach(({ plot }) => plot.redraw(false));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
    this.resized = new ResizeObserver((entries) => entries.forEach(({ target }) => target.clientWidth > 0 && this.find(target)?.setSize({ width: target.clientWidth, height: HEIGHT })));
  }

  find(node) {
    for (const each of this.plots.values()) if (each.node === node) return each.plot;
    return undefined;
  }

  /** What is drawn from now on. */
  show(history, events) {
    const other = this.history !== history;
    Object.assign(this, { history, events, slo: history.slo });
    if (other) this.moment = null;
    for (const [id, { node }] of this.plots) if (!node.isConnected) this.drop(id);
  }

  drop(id) {
    const { plot, node } = this.plots.get(id);
    this.resized.unobserve(node);
    plot.destroy();
    this.plots.delete(id);
  }

  /** First and last second of the axis: from the first sample on, within the range. */
  get span() {
    const { now: end, time, range } = this.history;
    const { span, least } = RANGES[range];
    return [end - Math.min(Math.max(end - (time[0] ?? end), least), span), end];
  }

  /** The sample that is spoken of: at the cursor, else the newest. */
  get index() {
    return this.moment === null ? this.history.time.length - 1 : this.history.nearest(this.moment);
  }

  /** The events at the moment that is looked at. */
  get near() {
    if (this.moment === null) return [];
    const [from, to] = this.span;
    const within = Math.max((to - from) * NEAR, this.history.step);
    return this.events.filter(({ seconds }) => Math.abs(seconds - this.moment) <= within);
  }

  /** Draws one chart into an element of the page, or brings it up to date. */
  mount(node, chart) {
    const known = this.plots.get(chart.id);
    if (known && known.node !== node) this.drop(chart.id);
    const mark = `${this.history.version} ${this.events.length} ${this.events.at(-1)?.id} ${this.slo?.[chart.slo]} ${this.span[1]}`;
    const data = () => [this.history.time, ...chart.series.map(({ of }) => this.scaled(chart, this.history.column(of)))];
    if (!this.plots.has(chart.id)) {
      if (node.clientWidth === 0) return;
      const plot = new uPlot(this.options(chart, node.clientWidth), data(), node);
      this.plots.set(chart.id, { plot, node, mark });
      this.resized.observe(node);
    } else if (known.mark !== mark) {
      known.mark = mark;
      known.plot.setData(data());
      this.place(known.plot);
    }
  }

  scaled(chart, column) {
    return chart.rate ? column.map((value) => (value === null ? null : value / this.history.step)) : column;
  }

  /** Moves all cursors to a moment; null: away. */
  look(moment) {
    this.moment = moment;
    this.plots.forEach(({ plot }) => this.place(plot));
    this.changed();
  }

  /** Moves by so many samples. */
  step(by) {
    const most = this.history.time.length - 1;
    if (most < 0) return;
    const to = Math.min(Math.max(this.index + by, 0), most);
    this.look(this.history.time[to]);
  }

  place(plot) {
    const left = this.moment === null ? -10 : plot.valToPos(this.moment, "x");
    this.placing = true;
    plot.setCursor({ left, top: this.moment === null ? -10 : 1 }, false);
    this.placing = false;
  }

  /** The pointer moved in one of them. */
  pointed(plot) {
    if (this.placing) return;
    const { idx, left } = plot.cursor;
    const moment = idx === null || idx === undefined || left < 0 ? null : this.history.time[idx];
    if (moment === this.moment || (moment === undefined)) return;
    this.moment = moment;
    for (const other of this.plots.values()) if (other.plot !== plot) this.place(other.plot);
    this.changed();
  }

  options(chart, width) {
    const axis = { stroke: () => tone("quiet"), grid: { stroke: () => tone("line"), width: 1 }, ticks: { show: false }, font: FONT };
    return {
      width,
      height: HEIGHT,
      padding: [16, RIGHT, 0, 0],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 6, width: 1 } },
      scales: { x: { time: true, range: () => this.span }, y: { range: (_, low, high) => [0, top(chart, high, this.slo?.[chart.slo])] } },
      axes: [
        { ...axis, size: 22, gap: 3, space: 62, incrs: TIMES, values: (_, splits) => splits.map((second) => clock(1000 * second).slice(0, 5)) },
        { ...axis, size: LEFT, gap: 4, space: 30, ...([count, compact].includes(written(chart)) && { incrs: WHOLE }), values: (_, splits) => splits.map((value) => written(chart)(value)) },
      ],
      series: [
        {},
        ...chart.series.map(({ tone: name, width: thick, dash, faint, fill }) => ({
          stroke: () => tone(`series-${name}`) + (faint ? "99" : ""),
          fill: fill ? () => tone(`series-${name}`) + "2e" : undefined,
          width: thick,
          dash,
          points: { show: false },
          spanGaps: false,
        })),
      ],
      hooks: { draw: [(plot) => this.decorate(plot, chart)], setCursor: [(plot) => this.pointed(plot)] },
    };
  }

  /** Whether there is nothing to draw: only what is measured of answers is ever unknown all the time. */
  isEmpty(chart) {
    return chart.series.every(({ of }) => this.history.column(of).every((value) => value === null));
  }

  /** The promise as a line, and what happened as marks with their words. */
  decorate(plot, chart) {
    const { ctx, bbox } = plot;
    const ratio = uPlot.pxRatio;
    ctx.save();
    ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    ctx.textBaseline = "alphabetic";
    ctx.textAlign = "left";
    const target = this.slo?.[chart.slo];
    if (target !== undefined && target !== null) {
      const y = plot.valToPos(target, "y", true);
      line(ctx, tone("green"), [6 * ratio, 4 * ratio], 1.5 * ratio, [bbox.left, y], [bbox.left + bbox.width, y]);
      // At the old end, on a piece of paper: lines that run behind words make them unreadable, and the newest is what is looked for.
      const words = `SLO ${written(chart)(target)}`;
      const [left, below] = [bbox.left + 3 * ratio, y - 4 * ratio];
      ctx.fillStyle = tone("card");
      ctx.fillRect(left - 2 * ratio, below - 10 * ratio, ctx.measureText(words).width + 4 * ratio, 12 * ratio);
      ctx.fillStyle = tone("green");
      ctx.fillText(words, left, below);
    }
    const taken = [];
    const [from, to] = this.span;
    const within = this.events.filter(({ seconds }) => seconds >= from && seconds <= to);
    // Where there is no room for all words, faults keep theirs.
    for (const { seconds, short, grave } of [...within.filter(({ grave }) => grave), ...within.filter(({ grave }) => !grave)]) {
      const x = plot.valToPos(seconds, "x", true);
      const color = tone(grave ? "red" : "event");
      line(ctx, color, [2 * ratio, 3 * ratio], ratio, [x, bbox.top - 3 * ratio], [x, bbox.top + bbox.height]);
      const wide = ctx.measureText(short).width;
      const at = Math.min(x + 3 * ratio, bbox.left + bbox.width - wide);
      ctx.fillStyle = color;
      if (plot.width >= NARROW / 2 && taken.every(([left, right]) => at >= right || at + wide + 6 * ratio <= left)) {
        ctx.fillText(short, at, bbox.top - 5 * ratio);
        taken.push([at, at + wide + 6 * ratio]);
      }
    }
    if (this.isEmpty(chart)) {
      ctx.textAlign = "center";
      ctx.fillStyle = tone("quiet");
      ctx.fillText("No answers in this time", bbox.left + bbox.width / 2, bbox.top + bbox.height / 2);
    }
    ctx.restore();
  }
}

function line(ctx, color, dash, width, from, to) {
  ctx.strokeStyle = color;
  ctx.lineWidth = width;
  ctx.setLineDash(dash);
  ctx.beginPath();
  ctx.moveTo(...from);
  ctx.lineTo(...to);
  ctx.stroke();
}
