//! An operator's own config for a drill in real time: the very file, with other places.
//!
//! | of the file | becomes |
//! |---|---|
//! | `listen`, `admin` | free ports of loopback, without TLS, proxies and CORS; `listen.limits` and `listen.shutdown` stay |
//! | `deployments[].replicas` | simulated engines; `engine` is `vllm`, as they speak; without `dns`, `tls`, `api_key_file` and `parameters` |
//! | `models[].tokenizer_file` | left out: prompts are estimated |
//! | `accounts` | those of the scenario, each with a key of the drill's own; of several that are like one, that many |
//! | `state`, `log` | a folder of the drill's own; no access log |
//!
//! All else is as the operator wrote it, defaults included.

use super::configured::Configured;
use super::stage::key;
use crate::script::Drill;
use config::keys::Digest;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

/// Where everything is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places<'a> {
    /// Where customers connect.
    pub(super) address: SocketAddr,
    /// Where operators connect.
    pub(super) admin: SocketAddr,
    /// The file of the operators' token.
    pub(super) token_file: &'a Path,
    /// The drill's folder.
    pub(super) state: &'a Path,
    /// Of each deployment that is played, in the scenario's order.
    pub(super) replicas: &'a [Vec<SocketAddr>],
}

/// The config to play on, as JSON, which is YAML too.
pub(super) fn rewritten(configured: &Configured, drill: &Drill, places: &Places<'_>) -> String {
    let mut file = configured.written().clone();
    let Some(root) = file.as_object_mut() else { return String::new() };
    let of_listen = |name: &str| configured.written().pointer(&format!("/listen/{name}")).cloned();
    let mut listen = Map::new();
    listen.insert("address".to_owned(), json!(places.address.to_string()));
    let mut limits = of_listen("limits").and_then(|limits| limits.as_object().cloned()).unwrap_or_default();
    // All of the drill's clients have one address.
    limits.insert("connections_per_address".to_owned(), json!(100_000));
    listen.insert("limits".to_owned(), Value::Object(limits));
    listen.extend(of_listen("shutdown").map(|shutdown| ("shutdown".to_owned(), shutdown)));
    root.insert("listen".to_owned(), Value::Object(listen));
    let token_file = places.token_file.display().to_string();
    root.insert("admin".to_owned(), json!({ "address": places.admin.to_string(), "token_file": token_file }));
    root.insert("state".to_owned(), json!({ "dir": places.state.display().to_string() }));
    root.insert("log".to_owned(), json!({ "access": "off", "level": "warn" }));
    deployments(root, drill, places);
    models(root, drill);
    accounts(root, configured, drill);
    serde_json::to_string(&file).unwrap_or_default()
}

fn entries<'a>(
    root: &'a mut Map<String, Value>,
    list: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    let entries = root.get_mut(list).and_then(Value::as_array_mut);
    entries.into_iter().flatten().filter_map(Value::as_object_mut)
}

fn is_named(entry: &Map<String, Value>, name: &str) -> bool {
    entry.get("name").and_then(Value::as_str) == Some(name)
}

fn deployments(root: &mut Map<String, Value>, drill: &Drill, places: &Places<'_>) {
    let played = &drill.scenario.deployments;
    for (deployment, replicas) in played.iter().zip(places.replicas) {
        for entry in entries(root, "deployments").filter(|entry| is_named(entry, &deployment.name)) {
            let urls: Vec<String> = replicas.iter().map(|address| format!("http://{address}")).collect();
            entry.insert("replicas".to_owned(), json!(urls));
            entry.insert("engine".to_owned(), json!("vllm"));
            ["dns", "tls", "api_key_file", "parameters"].into_iter().for_each(|key| {
                entry.remove(key);
            });
        }
    }
    let is_played = |entry: &Value| {
        entry
            .get("name")
            .and_then(Value::as_str)
            .is_some_and(|name| played.iter().any(|one| one.name == name))
    };
    if let Some(Value::Array(all)) = root.get_mut("deployments") {
        all.retain(is_played);
    }
}

/// The models that are played, on the deployments that are.
fn models(root: &mut Map<String, Value>, drill: &Drill) {
    let scenario = &drill.scenario;
    if let Some(Value::Array(all)) = root.get_mut("models") {
        all.retain(|entry| {
            let name = entry.get("name").and_then(Value::as_str);
            name.is_some_and(|name| scenario.models.iter().any(|model| model.name == name))
        });
    }
    for entry in entries(root, "models") {
        entry.remove("tokenizer_file");
        if let Some(Value::Array(routes)) = entry.get_mut("deployments") {
            routes.retain(|route| {
                let name = route.as_str().or_else(|| route.get("name").and_then(Value::as_str));
                name.is_some_and(|name| scenario.deployments.iter().any(|one| one.name == name))
            });
        }
    }
}

/// One entry for each account of the drill, as its own in the config; lists that name accounts name all that are like them.
fn accounts(root: &mut Map<String, Value>, configured: &Configured, drill: &Drill) {
    let written: BTreeMap<String, Map<String, Value>> = entries(root, "accounts")
        .filter_map(|entry| Some((entry.get("id")?.as_str()?.to_owned(), entry.clone())))
        .collect();
    let mut like: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut all = Vec::new();
    for group in &drill.groups {
        for number in group.first..group.first + group.count {
            let id = drill.account(number);
            let Some(account) = configured.account(drill, number, &group.id) else { continue };
            let Some(entry) = written.get(&*account.id) else { continue };
            let mut entry = entry.clone();
            like.entry(account.id.to_string()).or_default().push(id.clone());
            entry.insert("id".to_owned(), json!(id));
            entry.insert("keys".to_owned(), json!([Digest::of(&key(number)).to_string()]));
            all.push(Value::Object(entry));
        }
    }
    root.insert("accounts".to_owned(), Value::Array(all));
    for list in ["deployments", "models"] {
        for entry in entries(root, list) {
            entry.values_mut().for_each(|value| name_alike(value, &like));
        }
    }
}

/// In lists called `accounts`, all that are like one that is named.
fn name_alike(value: &mut Value, like: &BTreeMap<String, Vec<String>>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::Array(ids) if key == "accounts" => {
                        let named = |id: &Value| like.get(id.as_str().unwrap_or_default()).cloned();
                        *ids = ids
                            .iter()
                            .flat_map(|id| named(id).unwrap_or_default())
                            .map(Value::String)
                            .collect();
                    }
                    other => name_alike(other, like),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|value| name_alike(value, like)),
        _ => {}
    }
}
