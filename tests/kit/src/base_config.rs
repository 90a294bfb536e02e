//! The config that tests begin with: nothing in it limits anything by itself.
//!
//! It is a JSON value, which is also YAML, so a test changes a key by its path and the rest stays as it is.

use serde_json::{Value, json};

/// The key of the account `acme`, which may use both tiers.
pub const KEY: &str = "tg-acme";
/// The key of the account `plain`, which may use regular only and is served as regular if it asks for more.
pub const PLAIN_KEY: &str = "tg-plain";
/// The key of the account `strict`, which is refused if it asks for priority, or for another model than `sim`.
pub const STRICT_KEY: &str = "tg-strict";

/// Tokens per minute that no test uses up.
const PLENTY: u64 = 1_000_000_000;

/// A deployment and a model `sim` before these engines, and three accounts.
pub fn config(replicas: impl IntoIterator<Item = String>) -> Value {
    let replicas: Vec<String> = replicas.into_iter().collect();
    json!({
        "listen": {
            "address": "127.0.0.1:0",
            "threads": 2,
            "expose_upstream": true,
            "shutdown": { "lame_duck_ms": 0, "grace_ms": 60_000 },
        },
        "admin": { "address": "127.0.0.1:0" },
        "log": { "level": "warn", "format": "json" },
        "deployments": [{ "name": "sim", "replicas": replicas, "limit": 256 }],
        "models": [
            { "name": "sim", "deployments": ["sim"], "size_class": "small" },
            { "name": "other-model", "deployments": ["sim"], "size_class": "small" },
        ],
        "accounts": [
            account("acme", KEY, json!({ "tiers": ["priority", "regular"] })),
            account("plain", PLAIN_KEY, json!({})),
            account("strict", STRICT_KEY, json!({ "on_forbidden_tier": "refuse", "models": ["sim"] })),
        ],
        "limits": { "policy": "fixed" },
    })
}

/// An account that nothing limits, with `more` on top.
pub fn account(id: &str, key: &str, more: Value) -> Value {
    let mut account = json!({
        "id": id,
        "keys": [config::keys::Digest::of(key).to_string()],
        "requests_per_minute": 1_000_000,
        "concurrency": 100_000,
        "limits": [budget(PLENTY, PLENTY, PLENTY)],
    });
    merge(&mut account, more);
    account
}

/// Limits for every model, tokens per minute, that neither grow nor shrink.
pub fn budget(prompt: u64, uncached_prompt: u64, generated: u64) -> Value {
    let meters = json!({ "prompt": prompt, "uncached_prompt": uncached_prompt, "generated": generated });
    json!({ "start": meters, "ceiling": meters })
}

/// Sets the members of `more` in `value`; objects are merged, everything else is replaced.
pub fn merge(value: &mut Value, more: Value) {
    match (value, more) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                merge(old.entry(key).or_insert(Value::Null), value);
            }
        }
        (value, more) => *value = more,
    }
}
