//! The OpenAPI 3.1 document, made from the table of entries and the types of their bodies.
//!
//! OpenAPI 3.1 uses JSON Schema 2020-12, which is what the types derive, so nothing is described twice.

use super::answer::Problem;
use super::call::MOMENT_MAX;
use super::entries::ENTRIES;
use super::guard::Role;
use super::table::{Entry, Query};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// How a body is described.
#[derive(Clone, Copy)]
pub(super) enum Schema {
    /// Any JSON.
    Any,
    /// A page.
    Page,
    /// By its type.
    Typed(fn(&mut SchemaGenerator) -> schemars::Schema),
}

impl Schema {
    /// The schema of a type.
    pub(super) const fn of<T: JsonSchema>() -> Schema {
        Schema::Typed(|generator| generator.subschema_for::<T>())
    }

    fn written(self, generator: &mut SchemaGenerator) -> Value {
        match self {
            Schema::Any => json!({ "type": "object" }),
            Schema::Page => json!({ "type": "string" }),
            Schema::Typed(schema) => schema(generator).to_value(),
        }
    }
}

/// The document.
pub(super) static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Problem>().to_value();
    let mut paths: Map<String, Value> = Map::new();
    for entry in ENTRIES {
        let operation = operation(entry, &mut generator);
        let path = paths.entry(entry.path).or_insert_with(|| json!({}));
        if let Value::Object(path) = path {
            path.insert(entry.verb.name().to_ascii_lowercase(), operation);
        }
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tidegate admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "State and changes of a running gateway. Reading is open on loopback; elsewhere it needs a token. A change always needs the operators' token.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {
                "Problem": {
                    "description": "Why not, and what to do.",
                    "content": { "application/json": { "schema": problem } },
                },
            },
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
});

fn operation(entry: &Entry, generator: &mut SchemaGenerator) -> Value {
    let content = match entry.gives {
        Some(schema) => {
            let kind = if matches!(schema, Schema::Page) { "text/html" } else { "application/json" };
            let schema = schema.written(generator);
            json!({ kind: { "schema": schema } })
        }
        None => json!({ "text/plain": { "schema": { "type": "string" } } }),
    };
    let good = entry.statuses.iter().map(|(status, meaning)| {
        ((*status).to_owned(), json!({ "description": meaning, "content": content }))
    });
    let mut answers = Value::Object(good.collect());
    if let (Value::Object(answers), true) = (&mut answers, entry.role != Role::Open) {
        answers.insert("default".to_owned(), json!({ "$ref": "#/components/responses/Problem" }));
    } else if let Value::Object(answers) = &mut answers {
        answers.insert("503".to_owned(), json!({ "description": "On its way out." }));
    }
    let mut operation = json!({
        "operationId": entry.name,
        "summary": entry.about,
        "x-role": entry.role.name(),
        "parameters": parameters(entry),
        "responses": answers,
        "security": match entry.role {
            Role::Open => json!([{}]),
            Role::Read => json!([{}, { "token": [] }]),
            Role::Operate => json!([{ "token": [] }]),
        },
    });
    if let (Some(schema), Value::Object(operation)) = (entry.takes, &mut operation) {
        let schema = schema.written(generator);
        let body = json!({ "required": true, "content": { "application/json": { "schema": schema } } });
        operation.insert("requestBody".to_owned(), body);
    }
    operation
}

fn parameters(entry: &Entry) -> Vec<Value> {
    let holes = entry.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let in_path = holes.map(|name| {
        json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } })
    });
    let in_query = entry.query.iter().map(|(name, kind, about)| {
        let schema = match kind {
            Query::Text => json!({ "type": "string" }),
            Query::Number(most) => json!({ "type": "integer", "minimum": 1, "maximum": most }),
            Query::Moment => json!({ "type": "number", "minimum": 0, "maximum": MOMENT_MAX }),
            Query::OneOf(all) => json!({ "type": "string", "enum": all }),
        };
        json!({ "name": name, "in": "query", "required": false, "description": about, "schema": schema })
    });
    in_path.chain(in_query).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every entry is in the document, and nothing else is.
    #[test]
    fn the_document_has_every_entry_of_the_table_and_no_other() {
        let document = &*DOCUMENT;
        let described: usize =
            document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(described, ENTRIES.len());
        for entry in ENTRIES {
            let method = entry.verb.name().to_ascii_lowercase();
            let operation = &document["paths"][entry.path][&method];
            assert_eq!(operation["operationId"], entry.name);
            assert_eq!(operation["requestBody"].is_object(), entry.takes.is_some(), "{}", entry.path);
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_field_is_explained() {
        let document = &*DOCUMENT;
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let path = reference.split('"').next().unwrap();
            assert!(document.pointer(path).is_some(), "{path} leads nowhere");
        }
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            for (field, about) in schema["properties"].as_object().into_iter().flatten() {
                assert!(about["description"].is_string(), "{name}.{field} is not explained");
            }
        }
    }
}
