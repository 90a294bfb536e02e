// The process: the configuration in force, whether the last change was taken, and what must be zero at rest.

import { h } from "./view.js";
import { count, day, number } from "./words.js";

/** Everything about the process. */
export function process({ version, config, invariants }, act) {
  return [version && about(version, act), invariants && rest(invariants), config && inForce(config)];
}

function about(version, act) {
  const { config } = version;
  const fact = (name, ...value) => h("div", {}, h("dt", {}, name), h("dd", {}, ...value));
  return h(
    "dl",
    { class: "figures card" },
    fact("Version", version.version, h("span", { class: "quiet" }, ` · process ${version.pid}`)),
    fact("Started", h("time", { datetime: version.started }, day(version.started))),
    config && fact("Configuration", h("span", { class: config.last_reload_failed ? "chip bad" : "chip good" }, config.last_reload_failed ? "last change refused" : "in force"), config.loaded && h("span", { class: "quiet" }, " since ", day(config.loaded)), " ", h("button", { class: "push", onclick: act.reload }, "Reload…")),
    config?.last_fault && h("div", { class: "whole" }, h("dt", {}, "Why it was refused"), h("dd", {}, h("pre", { tabindex: 0 }, config.last_fault))),
  );
}

function rest({ at_rest: quiet, counters }) {
  const names = Object.keys(counters).sort();
  return h(
    "details",
    {},
    h("summary", {}, "Counters that are zero at rest ", h("span", { class: quiet ? "chip good" : "chip" }, quiet ? "all zero" : "at work")),
    h("ul", { class: "counters" }, names.map((name) => h("li", { key: name }, h("span", { class: "mono" }, name), " ", number(`invariants.counters.${name}`, counters[name], count)))),
  );
}

function inForce(config) {
  return h("details", {}, h("summary", {}, "Configuration in force, without secrets"), h("pre", { tabindex: 0, "aria-label": "Configuration" }, JSON.stringify(config, null, 2)));
}
