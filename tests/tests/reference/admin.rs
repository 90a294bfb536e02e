//! Every route of the admin listener, and the types of its bodies, from the OpenAPI document.

use super::markdown::{Page, code};
use serde_json::Value;

const ABOUT: &str = "
The listener at `admin.address` (default `127.0.0.1:9090`). `/api/v1/openapi.json` has the same for programs, as OpenAPI 3.1.

| role | who |
|---|---|
| `open` | everybody who reaches the listener |
| `read` | everybody on loopback; elsewhere who sends `Authorization: Bearer TOKEN` with the operators' or the reading token |
| `operate` | who sends the operators' token (`admin.token_file`), on loopback too |

Errors are `{\"error\": {\"code\": \"…\", \"message\": \"…\"}}`. A body has at most 64 KiB. `HEAD` is answered wherever `GET` is.";

/// The page.
pub(super) fn page() -> String {
    let document = gateway::admin::document();
    let mut page = Page::new("Admin API");
    page.paragraph(ABOUT);
    page.heading(2, "Routes");
    let rows: Vec<[String; 5]> =
        operations(document).map(|(path, method, one)| row(path, method, one)).collect();
    page.table(["route", "role", "does", "takes", "answers"], &rows);
    page.heading(2, "Types");
    let schemas = document["components"]["schemas"].as_object().into_iter().flatten();
    for (name, schema) in schemas {
        page.heading(3, name);
        if let Some(about) = schema["description"].as_str() {
            page.paragraph(about);
        }
        page.table(["field", "type", "meaning"], &fields(schema));
    }
    page.text()
}

fn operations(document: &Value) -> impl Iterator<Item = (&String, &String, &Value)> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, methods)| {
        methods.as_object().into_iter().flatten().map(move |(method, one)| (path, method, one))
    })
}

fn row(path: &str, method: &str, operation: &Value) -> [String; 5] {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let query: Vec<String> = parameters
        .filter(|one| one["in"] == "query")
        .map(|one| {
            let about = one["description"].as_str().unwrap_or_default();
            let most =
                one["schema"]["maximum"].as_u64().map(|most| format!(" At most {most}.")).unwrap_or_default();
            format!("`?{}=`: {about}{most}", one["name"].as_str().unwrap_or_default())
        })
        .collect();
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    let takes = if body.is_object() { kind(body) } else { query.join(" ") };
    let good = ["200", "202"].into_iter().find(|status| operation["responses"].get(status).is_some());
    let answer = &operation["responses"][good.unwrap_or("200")]["content"];
    let gives = &answer["application/json"]["schema"];
    [
        code(&format!("{} {path}", method.to_uppercase())),
        code(operation["x-role"].as_str().unwrap_or_default()),
        operation["summary"].as_str().unwrap_or_default().to_owned(),
        takes,
        if gives.is_object() { kind(gives) } else { "text".to_owned() },
    ]
}

fn fields(schema: &Value) -> Vec<[String; 3]> {
    let alternatives = schema["oneOf"].as_array().or_else(|| schema["anyOf"].as_array());
    let parts = alternatives.into_iter().flatten().chain(std::iter::once(schema));
    let properties = parts.flat_map(|one| one["properties"].as_object().into_iter().flatten());
    properties
        .map(|(name, schema)| {
            let about = schema["description"].as_str().unwrap_or_default();
            [code(name), kind(schema), about.to_owned()]
        })
        .collect()
}

/// The type of a value in a few words, with a link where it has a name.
fn kind(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("[{name}](#{})", name.to_lowercase());
    }
    let alternatives = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array());
    if let Some(alternatives) = alternatives {
        let mut kinds: Vec<String> = alternatives.iter().map(kind).collect();
        kinds.dedup();
        return kinds.join(" or ");
    }
    if let Some(words) = schema["enum"].as_array() {
        return words.iter().map(|word| code(word.as_str().unwrap_or("null"))).collect::<Vec<_>>().join(", ");
    }
    if let Some(word) = schema["const"].as_str() {
        return code(word);
    }
    match &schema["type"] {
        Value::String(one) => of_type(one, schema),
        Value::Array(several) => several
            .iter()
            .filter_map(Value::as_str)
            .map(|one| of_type(one, schema))
            .collect::<Vec<_>>()
            .join(" or "),
        _ => "any JSON".to_owned(),
    }
}

fn of_type(name: &str, schema: &Value) -> String {
    match name {
        "array" => format!("list of {}", kind(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("names to {}", kind(&schema["additionalProperties"]))
        }
        "integer" => "whole number".to_owned(),
        "null" => "null".to_owned(),
        "boolean" => "true or false".to_owned(),
        "string" => "text".to_owned(),
        other => other.to_owned(),
    }
}

#[test]
fn the_page_has_every_route_of_the_document() {
    let page = page();

    let operations: Vec<_> = operations(gateway::admin::document()).collect();
    assert!(operations.len() > 20, "{} routes", operations.len());
    for (path, method, _) in operations {
        assert!(page.contains(&format!("| `{} {path}` |", method.to_uppercase())), "{path}");
    }
}
