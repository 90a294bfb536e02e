//! Checks a tree against the schema and builds the value that deserializes from it.
//!
//! The schema is made from the types of the config, so a key, its bounds, its default and its description
//! are written in one place, and what an editor underlines is what the loader refuses. Only the keywords
//! that those types produce are known here: `type`, `enum`, `const`, `oneOf`/`anyOf`, `properties`,
//! `required`, `items`, lengths and bounds, and four of our own:
//!
//! | keyword | meaning |
//! |---|---|
//! | `x-bytes` | a size: a number of bytes or a text such as `32MiB`; becomes the number |
//! | `x-secret` | never repeat the value in a message |
//! | `x-usual` | what is usual where there is no default, so that seconds in the place of milliseconds are noticed |
//! | `x-required` | this key must be there; only its absence is reported, and the mapping is kept without it |
//!
//! # Guarantees
//!
//! - Every value is looked at, whatever is wrong beside it. What is wrong is left out of the result (or, in
//!   a list, replaced by an empty entry, so that the positions stay), so later checks see the rest.
//! - Where all keys of a mapping are needed, as with the three meters, one that is wrong takes the mapping along.
//! - What is left out or `null` is absent, not wrong, unless it is required.

use serde_json::{Map, Value};

use crate::units::size;
use crate::yaml::faults::{At, Report, Shown};
use crate::yaml::suggest::nearest;
use crate::yaml::tree::{Entry, Kind, Node, Scalar};

/// Checks a value. Nothing comes back if it is absent or wrong; what is wrong is reported.
pub(crate) fn check(node: &Node, schema: &Value, at: &At<'_>, report: &mut Report) -> Option<Value> {
    match &node.kind {
        Kind::Empty | Kind::Faulty => None,
        kind => match branch(schema, kind) {
            Ok(schema) => fitting(node, kind, schema, at, report),
            Err(wanted) => {
                report.at_place(node.place, at, format!("must be {wanted}, is {}", is(kind, schema)));
                None
            }
        },
    }
}

fn fitting(node: &Node, kind: &Kind, schema: &Value, at: &At<'_>, report: &mut Report) -> Option<Value> {
    let checked = match kind {
        Kind::Empty | Kind::Faulty => return None,
        Kind::Map(entries) => return mapping(node, entries, schema, at, report),
        Kind::List(nodes) => return list(node, nodes, schema, at, report),
        Kind::Scalar(scalar) => self::scalar(scalar, schema),
    };
    match checked {
        Ok(value) => {
            if let Some(hint) = too_short(&value, schema, at) {
                report.hint(node.place, at, hint);
            }
            Some(value)
        }
        Err(wanted) => {
            let meant = meant(kind, schema, at).unwrap_or_default();
            report.at_place(node.place, at, format!("must be {wanted}, is {}{meant}", is(kind, schema)));
            None
        }
    }
}

/// How many times shorter than the usual time one is that was probably meant in seconds.
const SHORTER: u64 = 100;
/// Milliseconds that nobody means who means seconds: from here on they would be a quarter of an hour.
const SECONDS_MAX: u64 = 1000;

/// A hint at a time that is allowed and so short that seconds were probably meant: `ttft_ms: 2`.
fn too_short(value: &Value, schema: &Value, at: &At<'_>) -> Option<String> {
    let usual = schema.get("x-usual").or_else(|| schema.get("default")).and_then(Value::as_u64)?;
    let number = value.as_u64().filter(|number| (1..SECONDS_MAX).contains(number))?;
    let is_short = number.saturating_mul(SHORTER) <= usual;
    let seconds = bounded(Value::from(number.saturating_mul(1000)), schema).is_ok();
    (is_short && seconds && at.is_key_ending("_ms"))
        .then(|| format!("is {number} milliseconds; write {number}000 if {number} seconds are meant"))
}

/// What was probably meant by a value that is refused: the word that is nearest, or seconds where milliseconds are wanted.
fn meant(kind: &Kind, schema: &Value, at: &At<'_>) -> Option<String> {
    let Kind::Scalar(Scalar { text, written: None, .. }) = kind else { return None };
    if schema.get("x-secret").is_some() {
        return None;
    }
    if let Some(words) = words(schema) {
        let word = nearest(text, words.iter().filter_map(|word| word.as_str()))?;
        return Some(format!("; did you mean `{word}`?"));
    }
    if has_type(schema, "boolean") {
        let word = match text.to_ascii_lowercase().as_str() {
            "yes" | "on" | "y" => "true",
            "no" | "off" | "n" => "false",
            _ => return None,
        };
        return Some(format!("; did you mean `{word}`?"));
    }
    let low = schema.get("minimum").and_then(Value::as_u64)?;
    let number = text.parse::<u64>().ok().filter(|number| (1..low).contains(number))?;
    let seconds = bounded(Value::from(number.saturating_mul(1000)), schema).is_ok();
    (seconds && at.is_key_ending("_ms"))
        .then(|| format!("; the unit is milliseconds, write {number}000 for {number} seconds"))
}

/// The part of a schema that describes a value of this kind, or what is wanted instead.
fn branch<'s>(schema: &'s Value, kind: &Kind) -> Result<&'s Value, String> {
    let branches = schema.get("anyOf").and_then(Value::as_array);
    let fits = |schema: &&Value| match kind {
        Kind::Map(_) => has_type(schema, "object"),
        Kind::List(_) => has_type(schema, "array"),
        _ => !has_type(schema, "object") && !has_type(schema, "array") && !has_type(schema, "null"),
    };
    match branches {
        None => Some(schema).filter(fits).ok_or_else(|| wanted(schema)),
        Some(branches) => branches.iter().find(fits).ok_or_else(|| {
            let wanted: Vec<String> = branches.iter().filter(|one| !only_null(one)).map(wanted).collect();
            wanted.join(" or ")
        }),
    }
}

fn has_type(schema: &Value, name: &str) -> bool {
    match schema.get("type") {
        Some(Value::String(one)) => one == name,
        // `["integer", "null"]`: an optional integer is no null.
        Some(Value::Array(several)) if name != "null" => several.iter().any(|one| one == name),
        _ => false,
    }
}

fn only_null(schema: &Value) -> bool {
    schema.get("type").is_some_and(|one| one == "null")
}

fn wanted(schema: &Value) -> String {
    if let Some(words) = words(schema) {
        return one_of(&words);
    }
    let what = if has_type(schema, "object") {
        "a mapping of keys to values"
    } else if has_type(schema, "array") {
        "a list"
    } else if schema.get("x-bytes").is_some() {
        "a size such as 65536, 512KiB or 32MiB"
    } else if has_type(schema, "integer") {
        "a whole number"
    } else if has_type(schema, "number") {
        "a number"
    } else if has_type(schema, "boolean") {
        "true or false"
    } else {
        "a text"
    };
    what.to_owned()
}

/// What a value is, for a message. Secrets and what came from variables are not repeated.
fn is(kind: &Kind, schema: &Value) -> String {
    match kind {
        Kind::Empty | Kind::Faulty => "empty".to_owned(),
        Kind::List(_) => "a list".to_owned(),
        Kind::Map(_) => "a mapping".to_owned(),
        Kind::Scalar(_) if schema.get("x-secret").is_some() => "a single value".to_owned(),
        Kind::Scalar(Scalar { written: Some(written), .. }) => format!("what {} holds", Shown(written)),
        Kind::Scalar(Scalar { text, quoted: true, .. }) => format!("the text \"{}\"", Shown(text)),
        Kind::Scalar(Scalar { text, .. }) => Shown(text).to_string(),
    }
}

fn scalar(scalar: &Scalar, schema: &Value) -> Result<Value, String> {
    let text = scalar.text.as_str();
    if let Some(words) = words(schema) {
        let found = words.iter().find(|word| match word {
            Value::String(word) => word == text,
            word => word.to_string() == text,
        });
        return found.map(|word| (*word).clone()).ok_or_else(|| one_of(&words));
    }
    if schema.get("x-bytes").is_some() {
        let bytes = size::parse(text).ok_or_else(|| wanted(schema))?;
        return bounded(Value::from(bytes), schema);
    }
    if has_type(schema, "string") {
        return length(text, schema);
    }
    if scalar.quoted {
        return Err(format!("{} without quotes", wanted(schema)));
    }
    if has_type(schema, "integer") {
        return bounded(integer(text, schema)?, schema);
    }
    if has_type(schema, "number") {
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        return bounded(number.map(Value::from).ok_or_else(|| wanted(schema))?, schema);
    }
    match text {
        "true" | "True" | "TRUE" => Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => Ok(Value::Bool(false)),
        _ => Err(wanted(schema)),
    }
}

fn integer(text: &str, schema: &Value) -> Result<Value, String> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let bounds = bounds(schema).map_or_else(String::new, |bounds| format!(" {bounds}"));
        let plain: String = digits.chars().filter(|letter| !matches!(letter, '_' | ',')).collect();
        let grouped = plain.len() < digits.len() && plain.bytes().all(|byte| byte.is_ascii_digit());
        let hint = if grouped { " without separators" } else { "" };
        return Err(format!("a whole number{bounds}{hint}"));
    }
    // More digits than 64 bits hold is out of any bounds, not another type.
    let number = text.parse::<i64>().map(Value::from).or_else(|_| text.parse::<u64>().map(Value::from));
    number.map_err(|_| bounds(schema).unwrap_or_else(|| wanted(schema)))
}

fn bounded(number: Value, schema: &Value) -> Result<Value, String> {
    let value = number.as_f64().unwrap_or(f64::NAN);
    let low = schema.get("minimum").and_then(Value::as_f64).is_none_or(|low| value >= low);
    let high = schema.get("maximum").and_then(Value::as_f64).is_none_or(|high| value <= high);
    if low && high { Ok(number) } else { Err(bounds(schema).unwrap_or_else(|| wanted(schema))) }
}

/// `between 1 and 600000`, `at least 1`: the bounds of a number, if it has any.
fn bounds(schema: &Value) -> Option<String> {
    let show = |bound: &Value| match bound.as_u64() {
        Some(bytes) if schema.get("x-bytes").is_some() => size::show(bytes),
        _ => bound.to_string(),
    };
    match (schema.get("minimum").map(show), schema.get("maximum").map(show)) {
        (Some(low), Some(high)) => Some(format!("between {low} and {high}")),
        (Some(low), None) => Some(format!("at least {low}")),
        (None, Some(high)) => Some(format!("at most {high}")),
        (None, None) => None,
    }
}

fn length(text: &str, schema: &Value) -> Result<Value, String> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
    let chars = text.chars().count() as u64;
    match (bound("minLength"), bound("maxLength")) {
        (Some(low), _) if chars < low && low == 1 => Err("a text that is not empty".to_owned()),
        (Some(low), _) if chars < low => Err(format!("a text of at least {low} characters")),
        (_, Some(high)) if chars > high => Err(format!("a text of at most {high} characters")),
        _ => Ok(Value::from(text)),
    }
}

/// The values of an enumeration, or nothing if the schema is none.
fn words(schema: &Value) -> Option<Vec<&Value>> {
    if let Some(words) = schema.get("enum").and_then(Value::as_array) {
        return Some(words.iter().filter(|word| !word.is_null()).collect());
    }
    let variants = schema.get("oneOf")?.as_array()?.iter();
    // Variants without a description share one `enum`, each of the others is a `const`.
    Some(
        variants
            .flat_map(|one| one.get("const").map_or_else(|| words(one).unwrap_or_default(), |w| vec![w]))
            .collect(),
    )
}

fn one_of(words: &[&Value]) -> String {
    let words: Vec<String> =
        words.iter().map(|word| word.as_str().map_or_else(|| word.to_string(), str::to_owned)).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

fn mapping(
    node: &Node,
    entries: &[Entry],
    schema: &Value,
    at: &At<'_>,
    report: &mut Report,
) -> Option<Value> {
    let known = schema.get("properties")?.as_object()?;
    let mut checked = Map::new();
    let mut meant = Vec::new();
    for entry in entries {
        let at = at.key(&entry.key);
        if let Some(schema) = known.get(&entry.key) {
            checked.extend(check(&entry.node, schema, &at, report).map(|value| (entry.key.clone(), value)));
        } else if report.is_full() {
            report.at_place(entry.key_place, &at, "");
        } else {
            let nearest = nearest(&entry.key, known.keys().map(String::as_str));
            report.at_place(entry.key_place, &at, unknown_key(nearest, known));
            meant.extend(nearest);
        }
    }
    let mut usable = true;
    for (key, schema) in required(schema, known).filter(|(key, _)| !checked.contains_key(*key)) {
        usable &= schema.get("x-required").is_some();
        let empty = node.value(key).is_none_or(|node| matches!(node.kind, Kind::Empty));
        // A mistyped key was reported already, with what was meant.
        if empty && !meant.contains(&key) {
            let place = node.value(key).map_or(node.place, |node| node.place);
            report.at_place(place, &at.key(key), format!("is missing{}", gloss(schema)));
        }
    }
    usable.then_some(Value::Object(checked))
}

fn required<'s>(
    schema: &'s Value,
    known: &'s Map<String, Value>,
) -> impl Iterator<Item = (&'s str, &'s Value)> {
    let names = schema.get("required").and_then(Value::as_array).into_iter().flatten();
    names.filter_map(|name| name.as_str()).filter_map(|name| Some((name, known.get(name)?)))
}

/// The first sentence of a description, as an explanation.
fn gloss(schema: &Value) -> String {
    let text = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    let first = text.split(". ").next().unwrap_or_default().trim_end_matches('.');
    if first.is_empty() { String::new() } else { format!("; what belongs here: {first}") }
}

fn unknown_key(meant: Option<&str>, known: &Map<String, Value>) -> String {
    match meant {
        Some(meant) => format!("is not a known key; did you mean `{meant}`?"),
        None => {
            let keys: Vec<&str> = known.keys().map(String::as_str).collect();
            format!("is not a known key; known here: {}", keys.join(", "))
        }
    }
}

fn list(
    node: &Node,
    nodes: &[std::rc::Rc<Node>],
    schema: &Value,
    at: &At<'_>,
    report: &mut Report,
) -> Option<Value> {
    let bound = |name: &str| schema.get(name).and_then(Value::as_u64);
    let count = nodes.len() as u64;
    if bound("minItems").is_some_and(|low| count < low) {
        report.at_place(node.place, at, "must not be empty");
        return None;
    }
    if let Some(high) = bound("maxItems").filter(|high| count > *high) {
        report.at_place(node.place, at, format!("must have at most {high} entries, has {count}"));
        return None;
    }
    let items = schema.get("items")?;
    let entries = nodes.iter().enumerate().filter_map(|(nth, node)| {
        let at = at.item(nth);
        if matches!(node.kind, Kind::Empty) {
            report.at_place(node.place, &at, "is empty; fill it in or remove it");
        }
        check(node, items, &at, report).or_else(|| empty_entry(items))
    });
    Some(Value::Array(entries.collect()))
}

/// What stands in for a wrong entry of a list, so that the others keep their positions.
fn empty_entry(items: &Value) -> Option<Value> {
    if words(items).is_some() {
        return None;
    }
    let first =
        items.get("anyOf").and_then(Value::as_array).and_then(|branches| branches.first()).unwrap_or(items);
    Some(if has_type(first, "object") { Value::Object(Map::new()) } else { Value::from("") })
}
