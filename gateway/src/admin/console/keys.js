// What an operator can change of accounts and their keys. A key that is made is shown once, in the dialog that made it, and
// is nowhere on the page afterwards.

import { ask, segment } from "./api.js";
import { input, open, show } from "./dialogs.js";
import { h } from "./view.js";

const SPENDING = ["1", "2", "3", "4", "unlimited", "enterprise"];
const DAY_S = 86_400;

/** The changes; each ends by telling what was done. */
export function keys(told) {
  return { account: () => account(told), create: (of) => create(of, told), rotate: (of) => rotate(of, told), end: (of, key) => end(of, key, told), disable: (of) => disable(of, told) };
}

/** Makes an account with its first key. */
function account(told) {
  open({
    title: "Make an account?",
    text: ["It is in force at once and kept in the state folder. Its first key is shown once."],
    fields: [
      input("id", "Id", "letters, digits and -._:@", { required: true, maxlength: 128, pattern: "[A-Za-z0-9._:@\\-]+", spellcheck: "false" }),
      h("label", { key: "spending" }, "Spending tier", h("select", { name: "spending" }, SPENDING.map((tier) => h("option", { value: tier }, tier))), h("small", {}, "sets how far its limits may grow")),
      h("label", { key: "priority", class: "tick" }, h("input", { name: "priority", type: "checkbox" }), "May ask for priority"),
    ],
    action: "Make",
    send: ({ id, spending, priority }) => ask("accounts", { method: "POST", body: { id: id.trim(), account: { spending_tier: SPENDING.indexOf(spending) < 4 ? Number(spending) : spending, tiers: priority ? ["priority", "regular"] : ["regular"] } } }),
    done: ({ account: of, key }) => once(key, `The account ${of.id} is made.`, told),
  });
}

/** Makes another key beside those that are there. */
function create(of, told) {
  open({
    title: `Make another key for ${of.id}?`,
    text: ["The keys that are there stay good. The new one is shown once."],
    fields: null,
    action: "Make",
    send: () => ask(`accounts/${segment(of.id)}/keys`, { method: "POST", body: { keep_others: true } }),
    done: ({ key }) => once(key, `${of.id} has another key.`, told),
  });
}

/** Makes a key in the place of those that are there. */
function rotate(of, told) {
  open({
    title: `Rotate the keys of ${of.id}?`,
    text: ["A new key is made and shown once. The keys that are there end after the time below; 0 ends them at once, as after a leak."],
    fields: [input("days", "Days that the old keys stay good", null, { type: "number", min: 0, max: 90, step: "any", value: 1, required: true })],
    action: "Rotate",
    danger: true,
    send: ({ days }) => ask(`accounts/${segment(of.id)}/keys`, { method: "POST", body: { overlap_seconds: Math.round(Number(days) * DAY_S) } }),
    done: ({ key }) => once(key, `The keys of ${of.id} are rotated.`, told),
  });
}

/** Ends one key. */
function end(of, key, told) {
  open({
    title: `End the key ${key}… of ${of.id}?`,
    text: ["From the next request on it is refused with 401. It cannot be brought back."],
    fields: null,
    action: "End it",
    danger: true,
    send: () => ask(`accounts/${segment(of.id)}/keys/${segment(key)}`, { method: "DELETE" }),
    done: () => told(`The key ${key}… is ended.`),
  });
}

/** Refuses an account's keys, or takes them again. */
function disable(of, told) {
  const disabled = !of.disabled;
  open({
    title: disabled ? `Disable ${of.id}?` : `Enable ${of.id}?`,
    text: [disabled ? "From the next request on its keys are refused with 401. Requests that run are not ended, and what it has used stays used." : "Its keys are taken again from the next request on."],
    fields: null,
    action: disabled ? "Disable" : "Enable",
    danger: disabled,
    send: () => ask(`accounts/${segment(of.id)}`, { method: "PATCH", body: { disabled } }),
    done: () => told(disabled ? `${of.id} is disabled.` : `${of.id} is enabled.`),
  });
}

/** Shows a key until the dialog is closed. */
function once(key, sentence, told) {
  if (!key) return told(sentence);
  const copy = async (event) => {
    const button = event.target;
    await navigator.clipboard.writeText(key).then(
      () => (button.textContent = "Copied"),
      () => getSelection().selectAllChildren(document.getElementById("new-key")),
    );
  };
  show({
    title: "The new key",
    body: [h("p", {}, "Copy it now: it is not kept and cannot be shown again."), h("p", {}, h("code", { id: "new-key", class: "secret mono", tabindex: 0 }, key))],
    actions: [h("button", { type: "button", class: "push", onclick: copy }, "Copy")],
    close: "I have it",
    closed: () => told(sentence),
  });
}
