//! Cases from outside: what real engines and clients do, each test by the case's id.
//!
//! | file | family |
//! |---|---|
//! | `blame` | F01–F04, F13: whose fault a failure is, and who pays for it |
//! | `callers` | E09, E10, E17: browsers, Azure's client, models of others |
//! | `demo` | O10: a demo that fits its terminal and puts it back |
//! | `errors` | F08–F12: what a client is told |
//! | `limits` | F05–F07: the gateway's own bounds and names |
//! | `logs` | O01, O04, O09: what becomes of a log's lines |
//! | `memory` | E06, O12: what is held, and what is counted |
//! | `operators` | E05: the admin listener under load |
//! | `neighbours` | E01, E11, E13, E15, E16: HTTP as proxies and clients speak it |
//! | `progress`, `relaying` | R01–R12: what counts as progress, content and end |
//! | `starting` | E12, E14: the first moments of a process, and what `tidegate check` finds |
//! | `states` | O02, O14, O15, O17: what is told of replicas, series, limits and a short queue |
//! | `weighing` | W02, W03: what a request weighs before the engine has said it |

mod blame;
mod callers;
mod demo;
mod errors;
mod limits;
mod logs;
mod memory;
mod neighbours;
mod operators;
mod progress;
mod relaying;
mod starting;
mod states;
mod weighing;

use crate::PROGRAM;
use kit::base_config::merge;
use kit::client::{Answer, Connection, post_to};
use kit::hostile::{Act, Asked, Hostile};
use kit::shape::request;
use kit::{Gateway, KEY, config};
use protocol::api::Api;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// A gateway before hostile engines.
struct Fleet {
    gateway: Gateway,
    engines: Vec<Hostile>,
}

/// A gateway before `count` engines that do what `script` says, with `deployment` in its deployment.
async fn fleet(
    count: usize,
    deployment: Value,
    script: impl Fn(&Asked) -> Vec<Act> + Clone + Send + Sync + 'static,
) -> Fleet {
    let mut engines = Vec::new();
    for _ in 0..count {
        engines.push(Hostile::start(script.clone()).await);
    }
    fleet_of(engines, json!({ "deployments": deployment })).await
}

/// A gateway before `engines`. `more` is merged into the config; under `deployments` and `models` into the first of them.
async fn fleet_of(engines: Vec<Hostile>, more: Value) -> Fleet {
    let mut config = config(engines.iter().map(Hostile::url));
    for (key, value) in more.as_object().unwrap() {
        let first = matches!(key.as_str(), "deployments" | "models");
        merge(if first { &mut config[key][0] } else { &mut config[key] }, value.clone());
    }
    Fleet { gateway: Gateway::start(PROGRAM, &config).await, engines }
}

impl Fleet {
    /// Sends a request of `api` as `acme`, with `more` in it, and reads the whole answer.
    async fn call(&self, api: Api, more: Value) -> Answer {
        self.call_as(KEY, api, more).await
    }

    /// The same with another key.
    async fn call_as(&self, key: &str, api: Api, more: Value) -> Answer {
        self.call_within(key, api, more, Duration::from_secs(20)).await.expect("an answer without an end")
    }

    /// The same, left after `time`: `None` then.
    async fn call_within(&self, key: &str, api: Api, more: Value, time: Duration) -> Option<Answer> {
        let body = request(api, 8, more);
        let mut connection = Connection::open(self.gateway.address).await;
        timeout(time, connection.send(post_to(api.path(), &body, Some(key)))).await.ok()
    }

    /// How often a body with `marker` was sent to an engine.
    fn sent(&self, marker: &str) -> usize {
        self.engines.iter().map(|engine| engine.count(marker)).sum()
    }

    /// Failures that are counted against replicas.
    async fn failures(&self) -> f64 {
        let page = self.gateway.admin("/metrics").await.text();
        let lines = page.lines().filter(|line| line.starts_with("tidegate_upstream_errors_total{"));
        lines.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
    }

    /// Whether each replica is in service, in the order of the config.
    async fn in_service(&self) -> Vec<bool> {
        let page = self.gateway.admin("/api/v1/deployments").await.json();
        let replicas = page["deployments"][0]["replicas"].as_array().unwrap();
        replicas.iter().map(|replica| replica["healthy"] == true).collect()
    }

    /// Asserts that no failure is counted against a replica and that none is out.
    async fn assert_nobody_blamed(&self, what: &str) {
        assert_eq!(self.failures().await, 0.0, "{what}: failures counted against replicas");
        assert!(self.in_service().await.iter().all(|up| *up), "{what}: a replica is out");
    }
}

/// The events of an answer as the standard of server-sent events reads them: name, data.
fn events(answer: &Answer) -> Vec<(String, String)> {
    let text = answer.text().replace("\r\n", "\n").replace('\r', "\n");
    let mut events = Vec::new();
    let (mut name, mut data) = (String::new(), Vec::new());
    for line in text.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut name),
            "data" => data.push(value.to_owned()),
            "" if line.is_empty() && !data.is_empty() => {
                events.push((std::mem::take(&mut name), data.join("\n")));
                data.clear();
            }
            _ => {}
        }
    }
    events
}

/// The values of the events that hold JSON.
fn values(answer: &Answer) -> Vec<Value> {
    events(answer).iter().filter_map(|(_, data)| serde_json::from_str(data).ok()).collect()
}

/// The sentence of an error, wherever its API has it: in a whole answer or in an event.
fn words(answer: &Answer) -> String {
    let values = if answer.header("content-type").starts_with("text/event-stream") {
        values(answer)
    } else {
        vec![serde_json::from_slice(&answer.body).unwrap_or(Value::Null)]
    };
    let paths = ["/error/message", "/response/error/message", "/message"];
    let found = values.iter().flat_map(|value| paths.iter().filter_map(|path| value.pointer(path)?.as_str()));
    found.collect::<Vec<_>>().join("\n")
}
