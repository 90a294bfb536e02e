//! The JSON Schema of a document, made from the types that its keys are defined in.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;

/// The JSON Schema (draft 7) of a file's type, without references.
pub fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    tidy(&mut schema);
    schema
}

/// Takes out defaults that only say "none", lists what is required (the types have a default for everything,
/// so that a fault in one key does not take its neighbours along), and lets the entries of a secret list be
/// secret as well.
fn tidy(schema: &mut Value) {
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let marked = properties.filter(|(_, schema)| schema.get("x-required").is_some());
    let required: Vec<Value> = marked.map(|(key, _)| Value::from(key.as_str())).collect();
    if let (false, Value::Object(keywords)) = (required.is_empty(), &mut *schema) {
        keywords.insert("required".to_owned(), Value::Array(required));
    }
    let secret = schema.get("x-secret").cloned();
    if let (Some(secret), Some(Value::Object(items))) = (secret, schema.get_mut("items")) {
        items.insert("x-secret".to_owned(), secret);
    }
    match schema {
        Value::Object(keywords) => {
            let says_nothing =
                keywords.get("default").is_some_and(|one| one.is_null() || *one == serde_json::json!({}));
            if says_nothing {
                keywords.remove("default");
            }
            keywords.values_mut().for_each(tidy);
        }
        Value::Array(parts) => parts.iter_mut().for_each(tidy),
        _ => {}
    }
}
