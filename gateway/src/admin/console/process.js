// The process: the configuration in force, whether the last change was taken, and what must be zero at rest.

import { h } from "./view.js";
import { count, day, number } from "./words.js";

/** Everything about the process. */
export function process({ version, config, invariants, log }, act) {
  return [version && about(version, log, act), invariants && rest(invariants), inForce(config, act), licenses()];
}

function about(version, log, act) {
  const { config } = version;
  const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, ...value));
  return h(
    "dl",
    { class: "figures card" },
    fact("Version", version.version, h("span", { class: "quiet" }, ` · process ${version.pid}`)),
    fact("Started", h("time", { datetime: version.started }, day(version.started))),
    config && fact("Configuration", h("span", { class: config.last_reload_failed ? "chip bad" : "chip good" }, config.last_reload_failed ? "last change refused" : "in force"), config.loaded && h("span", { class: "quiet" }, " since ", day(config.loaded)), " ", h("button", { class: "push", onclick: act.reload }, "Reload…")),
    fact("Connections", number("version.connections", version.connections), h("span", { class: "quiet" }, " · requests in flight "), number("version.requests_in_flight", version.requests_in_flight)),
    log && fact("Log level", log.level ?? "as RUST_LOG says", h("span", { class: log.dropped > 0 ? "warn" : "quiet" }, " · lines dropped "), number("log.dropped", log.dropped)),
    config?.last_fault && h("div", { class: "whole" }, h("dt", {}, "Why it was refused"), h("dd", {}, h("pre", { tabindex: 0 }, config.last_fault))),
  );
}

function rest({ at_rest: quiet, counters }) {
  const names = Object.keys(counters).sort();
  return h(
    "details",
    {},
    h("summary", {}, "Counters that are zero at rest ", h("span", { class: quiet ? "chip good" : "chip" }, quiet ? "all zero" : "requests in flight")),
    h("ul", { class: "counters" }, names.map((name) => h("li", { key: name }, h("span", { class: "mono" }, name), " ", number(`invariants.counters.${name}`, counters[name], count)))),
  );
}

/** Characters of the configuration that are shown: it may name ten thousand accounts. */
const SHOWN_MAX = 200_000;

function inForce(config, act) {
  const text = config ? JSON.stringify(config, null, 2) : "";
  return h(
    "details",
    { ontoggle: (event) => act.config(event.target.open) },
    h("summary", {}, "Configuration in force, without secrets"),
    config && h("pre", { tabindex: 0, "aria-label": "Configuration" }, text.slice(0, SHOWN_MAX)),
    text.length > SHOWN_MAX && h("p", { class: "quiet" }, `The first ${count(SHOWN_MAX)} of ${count(text.length)} characters.`),
  );
}

function licenses() {
  return h("p", { class: "quiet" }, "The charts are drawn by uPlot 1.6.32, under the ", h("a", { href: "/console/uplot-license.txt" }, "MIT license"), ".");
}
