// What an operator can change, each behind a dialog that says what will happen. A change needs the token.

import { ask, segment, token } from "./api.js";
import { draw, h } from "./view.js";
import { compact, count, METERS, percent } from "./words.js";

const dialog = document.getElementById("dialog");

/** Shows a form; `send` gets the form's values and throws what is to be shown. Closes when it went well. */
function open({ title, text, fields, action, danger, send, done }) {
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
  dialog.replaceChildren();
  show(null, false);
  dialog.showModal();
}

function needsToken() {
  if (token.get()) return null;
  return h("label", { key: "token" }, "Admin token", h("input", { name: "token", type: "password", required: true, autocomplete: "off", spellcheck: "false" }), h("small", {}, "Kept in this tab until it is closed, and sent nowhere else."));
}

const input = (name, label, hint, attributes) => h("label", { key: name }, label, h("input", { name, autocomplete: "off", ...attributes }), hint && h("small", {}, hint));

/** Asks for the token alone: for reading, where the listener wants it. */
export function unlock(done) {
  token.forget();
  open({ title: "Admin token", text: ["Changes need it; off loopback, looking does too."], fields: null, action: "Use it", send: () => ask("version"), done });
}

/** Drains a replica, or puts it back. */
export function drain(deployment, replica, id, done) {
  const drained = !replica.drained;
  const text = drained
    ? [`Nothing new is sent to ${replica.replica}. Its ${count(replica.active)} requests finish by themselves.`, "The other replicas carry the load meanwhile; when this one has none left, it can be taken away."]
    : [`${replica.replica} takes requests again, as soon as it answers.`];
  open({
    title: drained ? `Drain a replica of ${deployment}?` : `Put a replica of ${deployment} back?`,
    text,
    fields: null,
    action: drained ? "Drain" : "Put back",
    danger: drained,
    send: () => ask(`deployments/${segment(deployment)}/replicas/${id}/drain`, { method: drained ? "POST" : "DELETE" }),
    done: () => done(drained ? `${replica.replica} drains.` : `${replica.replica} is back.`),
  });
}

/** Pretends that a part of the capacity is gone, for a while; or ends that. */
export function pressure(deployment, held, done) {
  const path = `deployments/${segment(deployment.name)}/pressure`;
  if (held) {
    open({ title: `Lift the pressure on ${deployment.name}?`, text: [`${percent(held.share)} of its capacity is held back now. It would end by itself.`], fields: null, action: "Lift", send: () => ask(path, { method: "DELETE" }), done: () => done("The pressure is lifted.") });
    return;
  }
  open({
    title: `Apply pressure to ${deployment.name}?`,
    text: ["A drill on live traffic: the gateway behaves as if a part of the capacity were gone. Regular requests will be turned away first.", "It ends by itself after the time below."],
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
    text: ["The file is judged whole. Where it has a fault nothing changes, and every fault is listed here.", "Requests that run keep what they began with."],
    fields: null,
    action: "Reload",
    send: () => ask("reload", { method: "POST" }),
    done: (state) => done(state.needs_restart.length > 0 ? `The configuration is in force; waiting for a restart: ${state.needs_restart.join(", ")}.` : "The configuration is in force."),
  });
}

/** Refuses an account's keys, or takes them again. */
export function disable(account, done) {
  const disabled = !account.disabled;
  open({
    title: disabled ? `Disable ${account.id}?` : `Enable ${account.id}?`,
    text: [disabled ? "From the next request on its keys are refused with 401. What runs, runs on; what it has used stays used." : "Its keys are taken again from the next request on."],
    fields: null,
    action: disabled ? "Disable" : "Enable",
    danger: disabled,
    send: () => ask(`accounts/${segment(account.id)}`, { method: "PATCH", body: { disabled } }),
    done: () => done(disabled ? `${account.id} is disabled.` : `${account.id} is enabled.`),
  });
}

const BODY = { prompt: "prompt", "uncached-prompt": "uncached_prompt", generated: "generated" };

/** Sets where an account's limits start, and between what they move. */
export function limits(account, model, done) {
  const field = (part, meter) => input(`${part} ${meter.meter}`, METERS[meter.meter], part === "floor" ? `now ${compact(meter.limit)}` : null, { type: "number", min: 1, step: 1, placeholder: part === "start" ? "" : String(meter[part]) });
  const group = (part, title) => h("fieldset", { key: part }, h("legend", {}, title), model.meters.map((meter) => field(part, meter)));
  open({
    title: `Limits of ${account} on ${model.model}`,
    text: ["Tokens per minute. What is left empty stays as it is. They hold until they are set again, also after a restart."],
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
