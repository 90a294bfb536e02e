// What an operator can change, each behind a dialog that says what will happen. A change needs the token.

import { ask, segment, token } from "./api.js";
import { draw, h } from "./view.js";
import { compact, count, METERS, percent } from "./words.js";

const dialog = document.getElementById("dialog");

/** Shows a form; `send` gets the form's values and throws what is to be shown. Closes when it went well. */
export function open({ title, text, fields, action, danger, send, done }) {
  const close = () => dialog.close();
  const show = (fault, busy) =>
    draw(
      dialog,
      h(
        "form",
        {
          method: "dialog",
          onsubmit: async (event) => {
            event.preventDefault();
            const values = Object.fromEntries(new FormData(event.target));
            if (values.token) token.set(values.token.trim());
            show(null, true);
            try {
              const answer = await send(values);
              close();
              done(answer);
            } catch (error) {
              if (error.status === 401) token.forget();
              show(error.status === 401 ? "This token is not known here." : error.message, false);
            }
          },
        },
        h("h2", { id: "dialog-title" }, title),
        text.map((line) => h("p", {}, line)),
        fields,
        needsToken(),
        h("p", { class: "fault bad", role: "alert" }, fault ?? ""),
        h("div", { class: "actions" }, h("button", { type: "button", class: "push", onclick: close }, "Cancel"), h("button", { type: "submit", class: danger ? "push danger" : "push main", disabled: busy }, busy ? "…" : action)),
      ),
    );
  dialog.onclose = null;
  dialog.replaceChildren();
  show(null, false);
  dialog.showModal();
}

/** Shows something until it is closed; then it is gone from the page. */
export function show({ title, body, actions, close, closed }) {
  dialog.replaceChildren();
  draw(dialog, h("form", { method: "dialog" }, h("h2", { id: "dialog-title" }, title), body, h("div", { class: "actions" }, actions, h("button", { type: "submit", class: "push main" }, close))));
  // A dialog that was closed just before this one tells of it only now.
  dialog.onclose = () => {
    if (dialog.open) return;
    dialog.replaceChildren();
    dialog.onclose = null;
    closed();
  };
  dialog.showModal();
}

function needsToken() {
  if (token.get()) return null;
  return h("label", { key: "token" }, "Admin token", h("input", { name: "token", type: "password", required: true, autocomplete: "off", spellcheck: "false" }), h("small", {}, "Kept in this tab until it is closed, and sent nowhere else."));
}

/** A field with its label and a hint. */
export const input = (name, label, hint, attributes) => h("label", { key: name }, label, h("input", { name, autocomplete: "off", ...attributes }), hint && h("small", {}, hint));

/** Asks for the token alone: for reading, where the listener wants it. */
export function unlock(done) {
  token.forget();
  open({ title: "Admin token", text: ["Changes need it; off loopback, looking does too."], fields: null, action: "Use it", send: () => ask("version"), done });
}

/** Drains a replica, or puts it back. */
export function drain(deployment, replica, id, done) {
  const drained = !replica.drained;
  const text = drained
    ? [`No new requests are sent to ${replica.replica}. Its ${count(replica.active)} requests finish: it is draining, then drained.`, "The other replicas carry the load meanwhile. A restart of the gateway forgets the drain."]
    : [`${replica.replica} takes requests again, as soon as it answers.`];
  open({
    title: drained ? `Drain a replica of ${deployment}?` : `Put a replica of ${deployment} back?`,
    text,
    fields: null,
    action: drained ? "Drain" : "Put back",
    danger: drained,
    send: () => ask(`deployments/${segment(deployment)}/replicas/${id}/drain`, { method: drained ? "POST" : "DELETE" }),
    done: () => done(drained ? `${replica.replica} drains.` : `${replica.replica} is back in service.`),
  });
}

/** Simulates the loss of a part of the capacity, for a while; or ends that. */
export function pressure(deployment, held, done) {
  const path = `deployments/${segment(deployment.name)}/pressure`;
  if (held) {
    open({ title: `Lift the pressure on ${deployment.name}?`, text: [`${percent(held.share)} of its capacity is held back now. It would end by itself.`], fields: null, action: "Lift", send: () => ask(path, { method: "DELETE" }), done: () => done("The pressure is lifted.") });
    return;
  }
  open({
    title: `Apply pressure to ${deployment.name}?`,
    text: ["A drill on live traffic: the gateway behaves as if a part of the capacity were gone. Regular requests are shed first.", "It ends by itself after the time below."],
    fields: [input("share", "Capacity to hold back, percent", null, { type: "number", min: 1, max: 90, value: 30, required: true }), input("minutes", "For how many minutes", null, { type: "number", min: 1, max: 60, value: 10, required: true })],
    action: "Apply",
    danger: true,
    send: ({ share, minutes }) => ask(path, { method: "POST", body: { share: Number(share) / 100, seconds: Math.round(60 * Number(minutes)) } }),
    done: () => done("The pressure is on."),
  });
}

/** Reads the configuration's file again. */
export function reload(done) {
  open({
    title: "Read the configuration again?",
    text: ["The file is checked whole. Where it has an error nothing changes, and every error is listed here.", "Requests that run keep the configuration that they began with."],
    fields: null,
    action: "Reload",
    send: () => ask("reload", { method: "POST" }),
    done: (state) => done(state.needs_restart.length > 0 ? `The configuration is in force; waiting for a restart: ${state.needs_restart.join(", ")}.` : "The configuration is in force."),
  });
}

const BODY = { prompt: "prompt", "uncached-prompt": "uncached_prompt", generated: "generated" };

/** Sets where an account's limits start, and between what they move. */
export function limits(account, model, done) {
  const field = (part, meter) => input(`${part} ${meter.meter}`, METERS[meter.meter], part === "floor" ? `now ${compact(meter.limit)}` : null, { type: "number", min: 1, step: 1, placeholder: part === "start" ? "" : String(meter[part]) });
  const group = (part, title) => h("fieldset", { key: part }, h("legend", {}, title), model.meters.map((meter) => field(part, meter)));
  open({
    title: `Limits of ${account} on ${model.model}`,
    text: ["Tokens per minute. Empty fields stay as they are. What is set holds until it is set again, also after a restart."],
    fields: [group("floor", "Never below: a lower limit rises to it now"), group("ceiling", "Never above: a higher limit falls to it now"), group("start", "Where a new budget starts, and one returns to after a long rest")],
    action: "Set",
    send: (values) => {
      const body = { model: model.model };
      for (const [name, value] of Object.entries(values)) {
        const [part, meter] = name.split(" ");
        if (value !== "" && BODY[meter]) (body[part] ??= {})[BODY[meter]] = Number(value);
      }
      if (Object.keys(body).length === 1) throw new Error("Nothing is filled in.");
      return ask(`accounts/${segment(account)}/limits`, { method: "PUT", body });
    },
    done: () => done(`The limits of ${account} are set.`),
  });
}

/** Starts a drill on the configuration in force. */
export function drill({ scenarios, seconds_max: most }, models, done) {
  open({
    title: "Run a drill?",
    text: [`It plays a load against the configuration in force, in virtual time and in a process of its own at the lowest priority: live traffic is not touched. At most ${count(most)} s.`],
    fields: [
      h("label", { key: "scenario" }, "Scenario", h("select", { name: "scenario" }, scenarios.map(({ name, title, shows }) => h("option", { value: name, title: shows }, title === name ? name : `${name}: ${title}`)))),
      h("label", { key: "model" }, "Model", h("select", { name: "model" }, h("option", { value: "" }, "as the scenario says"), models.map((model) => h("option", { value: model }, model)))),
      input("rate", "Requests per second", "empty: as the scenario says", { type: "number", min: 0.01, step: "any" }),
      h("label", { key: "calibrate", class: "tick" }, h("input", { name: "calibrate", type: "checkbox" }), "Simulate the engines as they were measured here"),
    ],
    action: "Run",
    send: ({ scenario, model, rate, calibrate }) => ask("drills", { method: "POST", body: { scenario, ...(model && { model }), ...(rate && { rate_per_s: Number(rate) }), calibrate: calibrate === "on" } }),
    done: (run) => done(`The drill ${run.scenario} runs.`),
  });
}

/** Ends a drill that runs, or forgets one that is over, with its report. */
export function stopDrill(run, done) {
  const runs = run.state === "running";
  open({
    title: runs ? `Stop the drill ${run.scenario}?` : `Forget the drill ${run.scenario}?`,
    text: [runs ? "Its process is ended; there will be no report." : "Its report is forgotten, too."],
    fields: null,
    action: runs ? "Stop" : "Forget",
    danger: true,
    send: () => ask(`drills/${run.id}`, { method: "DELETE" }),
    done: () => done(runs ? "The drill is stopped." : "The drill is forgotten."),
  });
}
