// How a number of the API has to look on the page: written apart from the page's own code, so that both can be wrong only
// in different ways.

const grouped = (value) => {
  const text = String(Math.round(Math.abs(value)));
  const parts = [];
  for (let end = text.length; end > 0; end -= 3) parts.unshift(text.slice(Math.max(0, end - 3), end));
  return parts.join(",");
};
const tenths = (value) => (Math.round(value * 10) / 10).toFixed(1);

const FORMS = {
  count: grouped,
  percent: (value) => `${grouped(100 * value)} %`,
  decimal: tenths,
  compact: (value) => {
    if (value < 10_000) return grouped(value);
    const [unit, name] = value < 999_950 ? [1e3, "K"] : value < 999_950_000 ? [1e6, "M"] : [1e9, "B"];
    const short = Math.round((value / unit) * 10) / 10;
    return `${Number.isInteger(short) ? short : short.toFixed(1)}${name}`;
  },
  span: (ms) => {
    if (ms < 1000) return `${grouped(ms)} ms`;
    if (ms < 60_000) return `${tenths(ms / 1000)} s`;
    if (ms < 3_600_000) return `${grouped(ms / 60_000)} min`;
    if (ms < 172_800_000) return `${tenths(ms / 3_600_000)} h`;
    return `${grouped(ms / 86_400_000)} d`;
  },
  seconds: (value) => FORMS.span(1000 * value),
  bytes: (value) => `${grouped(value / 1000)} kB`,
  per5s: (value) => tenths(value / 5),
  perMinute: (value) => tenths(value / 60),
};

/**
 * The value at a path such as `deployments.deployments.0.limit`; names with dots in them are found too, and a `*` adds up
 * what is at the rest of the path in each entry.
 */
export function at(answers, path) {
  const walk = (value, parts) => {
    if (parts.length === 0) return value;
    if (parts[0] === "*" && Array.isArray(value)) return value.reduce((sum, entry) => sum + walk(entry, parts.slice(1)), 0);
    for (let many = 1; many <= parts.length && value !== null && typeof value === "object"; many++) {
      const found = walk(value[parts.slice(0, many).join(".")], parts.slice(many));
      if (found !== undefined) return found;
    }
    return undefined;
  };
  return walk(answers, path.split("."));
}

/** What is wrong with what the page shows: `shown` are path, form and text of each number. */
export function differences(answers, shown) {
  return shown.flatMap(({ of, form, text }) => {
    const value = at(answers, of);
    if (typeof value !== "number") return [`${of}: the API has ${JSON.stringify(value)}, the page ${text}`];
    const wanted = FORMS[form]?.(value);
    // 49.95 may be either: two correct roundings of one number.
    const near = FORMS[form]?.(value * (1 + 1e-9));
    return text === wanted || text === near ? [] : [`${of}: the API has ${value}, so ${wanted}, the page ${text}`];
  });
}

/** A history's samples by their time, as the page refers to them: `1764509035` has `saturation`, `priority.ttft_ms.p95`, … */
export function samples({ time, tiers, ...columns }) {
  const nth = (value, index) => {
    if (Array.isArray(value)) return value[index];
    if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, nth(inner, index)]));
    return undefined;
  };
  return Object.fromEntries(time.map((moment, index) => [moment, { ...nth(columns, index), ...Object.fromEntries(tiers.map(({ tier, ...of }) => [tier, nth(of, index)])) }]));
}
