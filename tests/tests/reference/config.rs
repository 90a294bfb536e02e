//! Every key of the config with its value, unit, bounds and default, from the JSON Schema that `tidegate schema` prints.

use super::markdown::{Page, code, grouped};
use serde_json::Value;

const ABOUT: &str = "
Every key of the config, as `tidegate schema` describes it. [A whole commented example](../../examples/reference.yaml) has
them all in one file, [the smallest](../../examples/smallest.yaml) only those that are needed.

The file is YAML. Unknown keys are refused, and `tidegate check --config FILE` reports every fault at once, with key and
line. Values may hold `${VAR}`, which must be set, or `${VAR:-default}`; `$${` stands for a plain `${`. Relative paths start
at the folder of the file. Secrets are never in the file: customers' keys are there as digests, everything else is read from
the file that a key ending in `_file` names. Sizes are written as `65536`, `64KiB`, `32MiB` or `2GiB`; durations are whole
numbers in the unit that ends the key.

`SIGHUP`, or `POST /api/v1/reload`, puts a changed file in force, whole or not at all. Listeners, threads,
state folder and log need a restart; the log names them when they changed.";

/// Units of numbers whose key does not end in one: the last part of the path, or its last two, and the unit.
const UNITS: &[(&str, &str)] = &[
    ("threads", "threads"),
    ("header_lines", "lines"),
    ("keepalive_requests", "requests"),
    ("json_depth", "levels"),
    ("tcp_keepalive_probes", "probes"),
    ("connections_per_address", "connections"),
    ("h2_streams_per_connection", "streams"),
    ("h2_streams", "streams"),
    ("replicas_max", "replicas"),
    ("queue.requests", "requests"),
    ("queue.tokens", "tokens"),
    ("limit", "requests"),
    ("slots_max", "requests"),
    ("context", "tokens"),
    ("kv_tokens", "tokens"),
    ("step_tokens", "tokens"),
    ("default_output", "tokens"),
    ("per_request", "tokens"),
    ("per_message", "tokens"),
    ("per_image", "tokens"),
    ("per_other_part", "tokens"),
    ("bytes_per_tool_token", "bytes per token"),
    ("at_most", "as the parameter's"),
    ("ceilings.priority", "share"),
    ("ceilings.regular", "share"),
    ("ceilings.flex", "share"),
    ("accounts[].weight", "relative"),
    ("deployments[].weight", "relative"),
    ("requests_per_minute", "requests per minute"),
    ("concurrency", "requests"),
    ("prompt", "tokens per minute"),
    ("uncached_prompt", "tokens per minute"),
    ("generated", "tokens per minute"),
    ("factor", "factor"),
    ("use_over", "share"),
    ("use_under", "share"),
    ("unless_over", "share"),
    ("days", "days"),
    ("retention_days", "days"),
    ("rows_max", "rows"),
];

/// Ends of keys that say the unit themselves.
const ENDINGS: &[(&str, &str)] = &[
    ("_ms", "ms"),
    ("_seconds", "s"),
    ("_minutes", "minutes"),
    ("_hours", "hours"),
    ("_days", "days"),
    ("_bytes", "bytes"),
    ("_per_second_min", "bytes per second"),
];

/// The page.
pub(super) fn page() -> String {
    let mut page = Page::new("Configuration");
    page.paragraph(ABOUT);
    section(&schema(), "", &mut page);
    page.text()
}

fn schema() -> Value {
    serde_json::from_str(&::config::schema_json()).unwrap()
}

/// A mapping: its keys as a table, then those that are mappings themselves.
fn section(schema: &Value, path: &str, page: &mut Page) {
    if !path.is_empty() {
        page.heading(if path.contains('.') { 3 } else { 2 }, &code(path));
        page.paragraph(&sentence(schema));
    }
    let properties = || schema["properties"].as_object().into_iter().flatten();
    let mut rows = Vec::new();
    let mut inner = Vec::new();
    for (key, schema) in properties() {
        let below = path_of(path, key, schema);
        if let Some(mapping) = mapping(schema) {
            inner.push((below.clone(), mapping.clone(), description(schema)));
            let anchor: String = below.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect();
            rows.push([
                code(key),
                format!("[{}](#{anchor})", shape(schema)),
                of_mapping(schema),
                description(schema),
            ]);
        } else {
            rows.push([code(key), value(schema, &below), default(schema), meaning(schema)]);
        }
    }
    page.table(["key", "value", "default", "meaning"], &rows);
    for (below, mut mapping, description) in inner {
        mapping["description"] = Value::from(description);
        section(&mapping, &below, page);
    }
}

fn path_of(path: &str, key: &str, schema: &Value) -> String {
    let list = if is_list(schema) { "[]" } else { "" };
    if path.is_empty() { format!("{key}{list}") } else { format!("{path}.{key}{list}") }
}

fn is_list(schema: &Value) -> bool {
    branches(schema).any(|one| has_type(one, "array"))
}

/// The schema itself, or each of those that it may be.
fn branches(schema: &Value) -> impl Iterator<Item = &Value> {
    let any = schema["anyOf"].as_array();
    any.into_iter().flatten().chain(any.is_none().then_some(schema))
}

fn has_type(schema: &Value, name: &str) -> bool {
    let kind = &schema["type"];
    kind == name || kind.as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == name))
}

/// The mapping that a key holds, or each entry of its list.
fn mapping(schema: &Value) -> Option<&Value> {
    branches(schema).find_map(|one| {
        let inside = if has_type(one, "array") { &one["items"] } else { one };
        branches(inside).find(|one| one["properties"].is_object())
    })
}

fn shape(schema: &Value) -> String {
    let list = branches(schema).find(|one| has_type(one, "array"));
    match list {
        Some(list) => format!("list{}", most(list)),
        None => "mapping".to_owned(),
    }
}

fn most(list: &Value) -> String {
    match (list["minItems"].as_f64(), list["maxItems"].as_f64()) {
        (Some(low), Some(high)) => format!(", {} to {} entries", grouped(low), grouped(high)),
        (None, Some(high)) => format!(", at most {} entries", grouped(high)),
        _ => String::new(),
    }
}

/// What may stand there, with unit and bounds.
fn value(schema: &Value, path: &str) -> String {
    if let Some(words) = words(schema) {
        return words.join(", ");
    }
    let Some(one) = branches(schema).find(|one| !has_type(one, "null") || one["type"].is_array()) else {
        return String::new();
    };
    if has_type(one, "array") {
        let items = value(&one["items"], path);
        return format!("list of {items}{}", most(one));
    }
    if one["x-bytes"] == true || schema["x-bytes"] == true {
        return format!("size, {}", bounds(schema, size));
    }
    if has_type(one, "integer") || has_type(one, "number") {
        return format!("{}, {}", unit(path), bounds(one, grouped));
    }
    if has_type(one, "boolean") {
        return "`true` or `false`".to_owned();
    }
    let secret = if schema["x-secret"] == true || one["x-secret"] == true { "digest" } else { "text" };
    match one["maxLength"].as_f64() {
        Some(most) => format!("{secret}, at most {} characters", grouped(most)),
        None => secret.to_owned(),
    }
}

fn bounds(schema: &Value, show: fn(f64) -> String) -> String {
    match (schema["minimum"].as_f64(), schema["maximum"].as_f64()) {
        (Some(low), Some(high)) => format!("{} to {}", show(low), show(high)),
        _ => "without bounds".to_owned(),
    }
}

fn size(bytes: f64) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let whole = units.into_iter().find(|(_, shift)| bytes > 0.0 && bytes % 2f64.powi(*shift) == 0.0);
    whole.map_or(grouped(bytes), |(unit, shift)| format!("{}{unit}", grouped(bytes / 2f64.powi(shift))))
}

fn unit(path: &str) -> &'static str {
    let key = path.trim_end_matches("[]");
    if key.contains("share") {
        return "share";
    }
    let listed = UNITS.iter().find(|(name, _)| key == *name || key.ends_with(&format!(".{name}")));
    let ending = || ENDINGS.iter().find(|(end, _)| key.ends_with(end));
    listed.or_else(ending).map_or("", |(_, unit)| unit)
}

/// The words of an enumeration.
fn words(schema: &Value) -> Option<Vec<String>> {
    let shown = |word: &Value| code(&word.as_str().map_or_else(|| word.to_string(), str::to_owned));
    branches(schema).find_map(|one| {
        if let Some(words) = one["enum"].as_array() {
            return Some(words.iter().filter(|word| !word.is_null()).map(shown).collect());
        }
        let variants = one["oneOf"].as_array()?.iter();
        let of = |one: &Value| match (&one["const"], one["enum"].as_array()) {
            (Value::Null, Some(words)) => words.iter().map(shown).collect::<Vec<_>>(),
            (word, _) => vec![shown(word)],
        };
        Some(variants.flat_map(of).collect())
    })
}

fn description(schema: &Value) -> String {
    let own = schema["description"].as_str();
    own.or_else(|| branches(schema).find_map(|one| one["description"].as_str()))
        .unwrap_or_default()
        .to_owned()
}

/// The description without its last words, for the head of a section.
fn sentence(schema: &Value) -> String {
    description(schema)
}

/// The description, with what each word of an enumeration means.
fn meaning(schema: &Value) -> String {
    let variants = branches(schema).flat_map(|one| one["oneOf"].as_array().into_iter().flatten());
    let told = variants.filter_map(|one| {
        Some(format!("{}: {}", code(one["const"].as_str()?), one["description"].as_str()?))
    });
    std::iter::once(description(schema)).chain(told).collect::<Vec<_>>().join(" ")
}

/// The default: the schema's own, else the words after "Default" in the description.
fn default(schema: &Value) -> String {
    if schema["x-required"] == true {
        return "required".to_owned();
    }
    let own = &schema["default"];
    let is_size = schema["x-bytes"] == true;
    match own {
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            return code(&if is_size { size(number) } else { grouped(number) });
        }
        Value::Bool(_) => return code(&own.to_string()),
        Value::String(text) => return code(text),
        Value::Array(entries) if entries.is_empty() => return "none".to_owned(),
        _ => {}
    }
    let description = description(schema);
    let told = description.split_once("Default").map(|(_, rest)| rest.trim_start_matches([':', ' ']));
    let end = |text: &str| {
        let ends = [". ", ": ", "; "].iter().filter_map(|end| text.find(end));
        ends.min().unwrap_or(text.len())
    };
    told.map_or_else(
        || "none".to_owned(),
        |text| text.get(..end(text)).unwrap_or(text).trim_end_matches('.').to_owned(),
    )
}

/// The default of a mapping: that of its keys, unless the description says another.
fn of_mapping(schema: &Value) -> String {
    let told = default(schema);
    if told == "none" { "–".to_owned() } else { told }
}

/// All keys that hold no mapping, with their paths.
fn leaves(schema: &Value, path: &str, found: &mut Vec<(String, Value)>) {
    for (key, schema) in schema["properties"].as_object().into_iter().flatten() {
        let below = path_of(path, key, schema);
        match mapping(schema) {
            Some(inside) => leaves(inside, &below, found),
            None => found.push((below, schema.clone())),
        }
    }
}

#[test]
fn every_key_has_a_value_with_unit_and_bounds_a_default_and_a_meaning() {
    let mut found = Vec::new();
    leaves(&schema(), "", &mut found);

    assert!(found.len() > 100, "{} keys", found.len());
    for (path, schema) in &found {
        let shown = value(schema, path);
        assert!(!shown.is_empty() && !shown.starts_with(','), "{path}: no unit; add it to UNITS");
        assert!(!shown.contains("without bounds"), "{path}: {shown}");
        assert!(!default(schema).is_empty(), "{path}: the description says no default");
        assert!(description(schema).len() > 5, "{path}: no description");
    }
}
