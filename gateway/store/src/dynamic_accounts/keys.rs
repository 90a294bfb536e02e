//! The keys of one account as its line has them: digests, and mappings with a digest, a name and rights.
//!
//! Lines of earlier versions have digests alone.

use config::keys::Digest;
use config::{Config, KeyLimit, NamedKey};
use serde_json::{Map, Value};
use std::sync::Arc;

/// What belongs to one entry of a name; the rest is the same in all of them.
const OF_ONE: [&str; 2] = ["expires", "disabled"];

/// The entries of an account, as they stand there.
pub(super) fn entries(account: Option<&Map<String, Value>>) -> Vec<Value> {
    let keys = account.and_then(|account| account.get("keys")?.as_array());
    keys.into_iter().flatten().filter(|entry| digest(entry).is_some()).cloned().collect()
}

/// The digest of an entry, as it is written.
pub(super) fn digest(entry: &Value) -> Option<&str> {
    match entry {
        Value::String(digest) => Some(digest),
        other => other.get("key")?.as_str(),
    }
}

/// Whether an entry has that name.
pub(super) fn is_called(entry: &Value, name: &str) -> bool {
    entry.get("name").and_then(Value::as_str) == Some(name)
}

/// The entry of a key with these fields of `accounts[].keys[]`; a digest alone where there are none.
pub(super) fn entry(key: Digest, fields: Map<String, Value>) -> Value {
    if fields.is_empty() {
        return Value::String(key.to_string());
    }
    let mut entry = fields;
    entry.insert("key".to_owned(), key.to_string().into());
    entry.retain(|_, value| !value.is_null());
    Value::Object(entry)
}

/// An entry for the key that replaces this one: its name and rights, with an end of its own.
pub(super) fn successor(old: &Value, key: Digest, fields: Map<String, Value>) -> Value {
    let mut next = old.as_object().cloned().unwrap_or_default();
    next.retain(|name, _| !OF_ONE.contains(&name.as_str()));
    next.extend(fields.into_iter().filter(|(name, _)| OF_ONE.contains(&name.as_str())));
    entry(key, next)
}

/// Sets fields of the entry `at`, and what all entries of its name have in common in the others too; `null` puts the
/// default in force.
pub(super) fn change(entries: &mut [Value], at: usize, fields: &Map<String, Value>) {
    let name = entries.get(at).and_then(|entry| Some(entry.get("name")?.as_str()?.to_owned()));
    for (nth, entry) in entries.iter_mut().enumerate() {
        let shares = name.as_ref().is_some_and(|name| is_called(entry, name));
        if nth != at && !shares {
            continue;
        }
        let alone = || Map::from_iter([("key".to_owned(), entry.clone())]);
        let mut changed = entry.as_object().cloned().unwrap_or_else(alone);
        for (field, value) in
            fields.iter().filter(|(field, _)| nth == at || !OF_ONE.contains(&field.as_str()))
        {
            match value.is_null() {
                true => drop(changed.remove(field)),
                false => drop(changed.insert(field.clone(), value.clone())),
            }
        }
        *entry = Value::Object(changed);
    }
}

/// Takes out of a record what names models: it is judged only where it was just named.
pub(super) fn without_models(record: &mut Map<String, Value>) {
    let keys = record.get_mut("keys").and_then(Value::as_array_mut);
    for entry in keys.into_iter().flatten().filter_map(Value::as_object_mut) {
        entry.remove("models");
        if let Some(limits) = entry.get_mut("limits").and_then(Value::as_array_mut) {
            limits.retain(|limit| limit.get("model").is_none_or(Value::is_null));
        }
    }
}

/// A key as it is under a config: with the models of its line that the config knows.
pub(super) fn fitted(key: &Arc<NamedKey>, entries: &[Value], config: &Config) -> Arc<NamedKey> {
    let own = |name: &str| config.model(name).map(|model| Arc::clone(&model.name));
    let is_it = |entry: &&Value| digest(entry).and_then(|text| Digest::parse(text).ok()) == Some(key.digest);
    let Some(entry) = entries.iter().find(is_it) else { return Arc::clone(key) };
    let listed = entry.get("models").and_then(Value::as_array);
    let models = listed.map(|names| names.iter().filter_map(|name| own(name.as_str()?)).collect());
    let limits = entry.get("limits").and_then(Value::as_array).into_iter().flatten();
    let limits = limits.filter_map(|limit| {
        let limit: KeyLimit = serde_json::from_value(limit.clone()).ok()?;
        match &limit.model {
            Some(name) => Some(KeyLimit { model: Some(own(name)?), ..limit }),
            None => Some(limit),
        }
    });
    let rights = config::KeyRights { models, limits: limits.collect(), ..key.rights.clone() };
    if rights == key.rights { Arc::clone(key) } else { Arc::new(NamedKey { rights, ..NamedKey::clone(key) }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_changed_of_a_key_is_changed_of_the_one_that_replaces_it_too_but_for_its_end() {
        let mut entries = vec![
            json!("sha256:other"),
            json!({ "key": "sha256:old", "name": "ci", "share": 0.5, "tiers": ["priority"] }),
            json!({ "key": "sha256:new", "name": "ci", "share": 0.5, "tiers": ["priority"] }),
        ];
        let fields = json!({ "share": 0.25, "tiers": null, "disabled": true });

        change(&mut entries, 1, fields.as_object().unwrap());

        assert_eq!(
            entries,
            [
                json!("sha256:other"),
                json!({ "key": "sha256:old", "name": "ci", "share": 0.25, "disabled": true }),
                json!({ "key": "sha256:new", "name": "ci", "share": 0.25 }),
            ]
        );
    }

    #[test]
    fn a_key_of_an_earlier_version_gets_a_name() {
        let mut entries = vec![json!("sha256:old")];

        change(&mut entries, 0, json!({ "name": "ci" }).as_object().unwrap());

        assert_eq!(entries, [json!({ "key": "sha256:old", "name": "ci" })]);
    }
}
