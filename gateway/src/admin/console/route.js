// The address of a view: `#/deployments/NAME`, `#/refusals?account=NAME`. What is chosen is in it, so that a view can be
// linked, reloaded and left with the browser's back button.

/** Views, with their titles, in the order of the menu. */
export const VIEWS = { deployments: "Deployments", accounts: "Accounts", refusals: "Refusals", drills: "Drills", process: "Process" };

/** The view, the name in it and the filters that an address means. */
export function parse(hash) {
  const [path, search = ""] = hash.replace(/^#\/?/, "").split("?");
  const [view, ...rest] = path.split("/");
  const query = Object.fromEntries(new URLSearchParams(search));
  return { view: view in VIEWS ? view : "deployments", id: view in VIEWS && rest.length ? decoded(rest.join("/")) : null, query };
}

/** The address of a view. */
export function address(view, id = null, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  const search = given.length ? `?${new URLSearchParams(given)}` : "";
  return `#/${view}${id === null ? "" : `/${encodeURIComponent(id)}`}${search}`;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
