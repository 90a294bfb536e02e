// The admin API: what is asked, with which token, and what went wrong in words.
//
// The token lives in this tab only (sessionStorage) and is sent to this origin only. A change needs it always; reading
// needs it where the listener is not on loopback.

const KEY = "tidegate-token";
const PATIENCE_MS = 5000;

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => sessionStorage.setItem(KEY, value),
  forget: () => sessionStorage.removeItem(KEY),
};

/** An answer that is not what was asked for. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Asks; the parsed answer. Throws `Refused`, or `TypeError` where there is no answer. */
export async function ask(path, { method = "GET", body } = {}) {
  const headers = {};
  if (token.get()) headers.authorization = `Bearer ${token.get()}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  const answer = await fetch(`/api/v1/${path}`, {
    method,
    headers,
    body: body === undefined ? undefined : JSON.stringify(body),
    cache: "no-store",
    credentials: "omit",
    redirect: "error",
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Refused(answer.status, said(text) || `${answer.status} ${answer.statusText}`);
  return text === "" ? null : JSON.parse(text);
}

/** The sentence in an error, which is plain or JSON. */
function said(text) {
  try {
    const problem = JSON.parse(text);
    return problem.error?.message ?? problem.faults ?? problem.message ?? problem.detail ?? text;
  } catch {
    return text.trim();
  }
}

/** One segment of a path, whatever is in the name. */
export const segment = encodeURIComponent;
