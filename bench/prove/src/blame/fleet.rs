//! Scripted engines behind one gateway, which keep when which request reached which of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use memchr::memmem;
use serde_json::Value;
use tokio::task::JoinSet;

use crate::harness::proof::{Setting, Trouble};
use crate::harness::raw::Connection;
use crate::harness::tidegate::{Admin, Config, Tidegate, post};
use engine::clock;
use kit::hostile::{Act, Asked, Hostile};

/// What an engine answers.
pub(super) type Script = fn(&Asked) -> Vec<Act>;

/// Requests that are kept.
const SENT_MAX: usize = 200_000;

/// One sending of a request to an engine.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) at: Duration,
    /// Number of the replica.
    pub(super) replica: usize,
    pub(super) model: String,
    /// The request's `user`, by which it is known.
    pub(super) user: String,
}

/// A gateway and its engines.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) gateway: Tidegate,
    sent: Arc<Mutex<Vec<Sent>>>,
    _engines: Vec<Hostile>,
}

impl Fleet {
    /// Starts an engine for each script, then the gateway with `config` before them.
    ///
    /// # Errors
    /// The gateway does not build or start.
    pub(super) async fn start(
        setting: &Setting,
        name: &str,
        mut config: Config,
        scripts: &[Script],
    ) -> Result<Self, Trouble> {
        let sent: Arc<Mutex<Vec<Sent>>> = Arc::default();
        let mut engines = Vec::with_capacity(scripts.len());
        for (replica, script) in scripts.iter().copied().enumerate() {
            let sent = Arc::clone(&sent);
            let keeping = move |asked: &Asked| {
                let body = asked.json();
                let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
                let mut kept = sent.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() < SENT_MAX {
                    let (model, user) = (text("model"), text("user"));
                    kept.push(Sent { at: clock::now(), replica, model, user });
                }
                drop(kept);
                script(asked)
            };
            engines.push(Hostile::start(keeping).await);
        }
        config.replicas = engines.iter().map(Hostile::address).collect();
        let gateway = Tidegate::start(setting, name, &config).await?;
        Ok(Self { gateway, sent, _engines: engines })
    }

    /// All sendings so far, in their order.
    pub(super) fn sent(&self) -> Vec<Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sendings of each request so far, by its `user`.
    pub(super) fn times_sent(&self) -> BTreeMap<String, u32> {
        let mut times = BTreeMap::new();
        for sent in self.sent() {
            *times.entry(sent.user).or_insert(0) += 1;
        }
        times
    }

    /// Failures that are counted against replicas, by replica and kind.
    ///
    /// # Errors
    /// The admin listener does not answer.
    pub(super) async fn failures(&self) -> Result<BTreeMap<(String, String), u64>, Trouble> {
        let page = Admin::open(self.gateway.admin).await?.page("/metrics").await?;
        Ok(failures_of(&String::from_utf8_lossy(&page)))
    }
}

fn failures_of(metrics: &str) -> BTreeMap<(String, String), u64> {
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let of = |line: &str| {
        let value = line.rsplit_once(' ')?.1.parse::<f64>().ok()?;
        Some(((label(line, "replica")?, label(line, "kind")?), value as u64))
    };
    metrics
        .lines()
        .filter(|line| line.starts_with("tidegate_upstream_errors_total{"))
        .filter_map(of)
        .collect()
}

/// Replicas that are out of service at this moment.
///
/// # Errors
/// The admin listener does not answer, or with something else.
pub(super) async fn replicas_out(admin: &mut Admin) -> Result<Vec<usize>, Trouble> {
    let page = admin.page("/api/v1/deployments").await?;
    let page: Value = serde_json::from_slice(&page).unwrap_or_default();
    let replicas = page.pointer("/deployments/0/replicas").and_then(Value::as_array);
    let Some(replicas) = replicas else {
        return Err(Trouble::Unexpected(format!("no replicas in {page}")));
    };
    let is_out = |replica: &Value| replica.get("healthy") != Some(&Value::Bool(true));
    Ok(replicas.iter().enumerate().filter(|(_, replica)| is_out(replica)).map(|(number, _)| number).collect())
}

/// Sets a member of a body.
pub(super) fn set(body: &mut Value, name: &str, value: Value) {
    if let Some(members) = body.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
}

/// What a client got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Got {
    /// A whole answer.
    Served,
    /// Another status than 200.
    Status(u16),
    /// An answer that broke off, or an error inside it.
    Broken,
}

/// Sends a request on a connection of its own.
pub(super) async fn ask(target: SocketAddr, path: &'static str, key: String, body: String) -> Got {
    let Ok(mut connection) = Connection::open(target).await else { return Got::Broken };
    let mut text = Vec::new();
    let answer = connection.exchange(&post(path, &key, &body), |piece| text.extend_from_slice(piece)).await;
    match answer {
        Ok(answer) if answer.status != 200 => Got::Status(answer.status),
        Ok(_) if memmem::find(&text, b"\"error\"").is_none() => Got::Served,
        _ => Got::Broken,
    }
}

/// Starts `request` with 0, 1, 2 …, so many a second, so many in all, whatever becomes of those before; what came of
/// each, in any order. When the machine stood still, what was due meanwhile comes later instead of all at once: a burst of
/// a second's requests is load that a gateway may refuse, and is not what is asked here.
pub(super) async fn paced<T, F>(per_s: f64, count: u64, request: impl Fn(u64) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let gap = Duration::from_secs_f64(1.0 / per_s);
    let mut due = clock::now();
    let mut running = JoinSet::new();
    for number in 0..count {
        tokio::time::sleep(due.saturating_sub(clock::now())).await;
        running.spawn(request(number));
        due = (due + gap).max(clock::now().saturating_sub(gap));
    }
    let mut all = Vec::new();
    while let Some(ended) = running.join_next().await {
        all.extend(ended);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_read_from_the_metrics_by_replica_and_kind() {
        let page = "# TYPE tidegate_upstream_errors_total counter\n\
                    tidegate_upstream_errors_total{deployment=\"d\",replica=\"2\",kind=\"absent\"} 7\n\
                    tidegate_replica_up{deployment=\"d\",replica=\"2\"} 1\n";
        let read = failures_of(page);
        assert_eq!(read.get(&("2".to_owned(), "absent".to_owned())), Some(&7));
        assert_eq!(read.len(), 1);
    }
}
