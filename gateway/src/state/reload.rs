//! Reading the config again while requests run: judged whole, swapped at once, the last good one kept.
//!
//! `SIGHUP`, a change of the file and the admin API ask for it. A file with any fault changes nothing and is told. A good
//! one becomes a new snapshot: a request keeps the one that it began with, so none sees half of one config and half of
//! another. What is known by name goes on: the shedder of a deployment with all that it learnt and who waits in it,
//! budgets, requests of an account. Listeners, threads, logs and folders are taken at the start; where the file changed
//! one of those, that is said, and is in force after a restart.

use crate::clock;
use crate::state::gateway::Gateway;
use config::{Config, redacted};
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, bounded};
use history::events::{Kind, Subject};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

/// How often the file is looked at. A change is taken when two looks in a row see the same file, so that one that is
/// being written is not read by half.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Signals that may wait: each reads the whole file, so one that waits is as good as many.
const ASKED_MAX: usize = 1;

/// Keys that are taken at the start only, as paths in the config.
const AT_START: &[&str] = &[
    "/listen/address",
    "/listen/tls",
    "/listen/threads",
    "/listen/limits/keepalive_requests",
    "/listen/limits/inflight_bytes",
    "/listen/limits/inflight_account_share",
    "/listen/limits/inflight_priority_share",
    "/listen/limits/tcp_keepalive_idle_ms",
    "/listen/limits/tcp_keepalive_interval_ms",
    "/listen/limits/tcp_keepalive_probes",
    "/listen/limits/tcp_user_timeout_ms",
    "/listen/limits/connections_share",
    "/listen/limits/connections_per_address",
    "/listen/limits/read_buffer_bytes",
    "/listen/shutdown/grace_ms",
    "/admin/address",
    "/state",
    "/usage",
    "/log",
];

/// Keys of a model that are taken when its name is first seen.
const AT_FIRST_SIGHT: &[&str] = &["weights", "vocabulary", "tokenizer_file"];

/// Who asked for a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// `SIGHUP`.
    Signal,
    /// The file changed.
    File,
    /// The admin API.
    Api,
}

impl Trigger {
    /// Its name in the log and the admin API.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Trigger::Signal => "signal",
            Trigger::File => "file",
            Trigger::Api => "api",
        }
    }
}

/// What became of the last reload.
#[derive(Debug, Clone)]
pub struct Last {
    /// Wall time since the epoch.
    pub at: Duration,
    /// Who asked.
    pub by: Trigger,
    /// Why the file was refused; `None`: it is in force.
    pub faults: Option<String>,
}

/// Reloads so far.
#[derive(Debug, Default, Clone)]
pub struct Reloads {
    /// Configs that came into force after the first.
    pub generation: u64,
    /// When the one in force came into force; `None`: at the start.
    pub loaded: Option<Duration>,
    /// Keys whose new value waits for a restart.
    pub needs_restart: Vec<String>,
    /// The last attempt.
    pub last: Option<Last>,
}

/// The config's file, and what became of reading it again.
#[derive(Debug, Default)]
pub struct Reloader {
    source: OnceLock<(PathBuf, Sender<Trigger>)>,
    state: Mutex<Reloads>,
    /// One reload at a time.
    turn: Mutex<()>,
}

/// There is no file that could be read again: the config was made by the program itself.
#[derive(Debug, thiserror::Error)]
#[error("this gateway's config is not from a file, so there is nothing to reload")]
pub struct NoFile;

impl Reloader {
    /// The config's file.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.source.get().map(|(path, _)| path.as_path())
    }

    /// What became of the reloads so far.
    #[must_use]
    pub fn state(&self) -> Reloads {
        self.state.lock().clone()
    }

    /// Asks the thread for a reload. Never blocks: one that already waits reads the same file.
    pub fn ask(&self, by: Trigger) {
        match self.source.get() {
            Some((_, asked)) => {
                let _ = asked.try_send(by);
            }
            None => tracing::warn!("{NoFile}"),
        }
    }
}

/// Reads the file again now. Blocks for the file, and for DNS where a deployment is new. `token`: the first digits of the
/// digest of the token of whoever asked.
///
/// # Errors
/// When the config is not from a file.
pub fn reload(gateway: &Gateway, by: Trigger, token: Option<&str>) -> Result<Reloads, NoFile> {
    let reloader = &gateway.reloader;
    let path = reloader.file().ok_or(NoFile)?;
    let _turn = reloader.turn.lock();
    let (at, by_name) = (clock::wall(), by.name());
    let note = |kind, words: &str| gateway.accounts.recorder.note(kind, Subject::PROCESS, words, token);
    match Config::load(path) {
        Ok(config) => {
            let needs_restart = waiting_for_restart(&gateway.started_with, &redacted(&config));
            gateway.adopt(Arc::new(config));
            let mut state = reloader.state.lock();
            state.generation += 1;
            state.loaded = Some(at);
            state.last = Some(Last { at, by, faults: None });
            let generation = state.generation;
            tracing::info!(by = by_name, generation, "the config was reloaded");
            note(Kind::Reload, &format!("The config was reloaded ({by_name}); it is number {generation}."));
            if !needs_restart.is_empty() {
                tracing::warn!(
                    keys = needs_restart.join(", "),
                    "these changes need a restart to be in force"
                );
            }
            state.needs_restart = needs_restart;
        }
        Err(faults) => {
            let faults = faults.to_string();
            tracing::error!(
                by = by_name,
                faults,
                "the config was not reloaded; the last good one stays in force"
            );
            note(Kind::ReloadRefused, &format!("The config was not reloaded ({by_name}): {faults}"));
            reloader.state.lock().last = Some(Last { at, by, faults: Some(faults) });
        }
    }
    Ok(reloader.state())
}

/// Keys whose value in `now` is not the one that the process started with.
fn waiting_for_restart(before: &Value, now: &Value) -> Vec<String> {
    let differs = |path: &&&str| before.pointer(path) != now.pointer(path);
    let named = |path: &str| path.trim_start_matches('/').replace('/', ".");
    let mut keys: Vec<String> = AT_START.iter().filter(differs).map(|path| named(path)).collect();
    let known = models(before);
    for (name, model) in models(now) {
        let Some(old) = known.get(name) else { continue };
        let changed = AT_FIRST_SIGHT.iter().filter(|key| old.get(**key) != model.get(**key));
        keys.extend(changed.map(|key| format!("models.{name}.{key}")));
    }
    keys
}

/// A config's models by name.
fn models(config: &Value) -> BTreeMap<&str, &Value> {
    let models = config.get("models").and_then(Value::as_array).into_iter().flatten();
    models.filter_map(|model| Some((model.get("name")?.as_str()?, model))).collect()
}

/// Watches `path` and takes what asks for a reload, on a thread of its own, until the process ends.
///
/// # Errors
/// When the operating system gives no thread.
pub fn start(gateway: Arc<Gateway>, path: &Path) -> io::Result<()> {
    let (sender, asked) = bounded(ASKED_MAX);
    let _ = gateway.reloader.source.set((path.to_owned(), sender));
    let path = path.to_owned();
    std::thread::Builder::new().name("reload".to_owned()).spawn(move || follow(&gateway, &path, &asked))?;
    Ok(())
}

fn follow(gateway: &Gateway, path: &Path, asked: &Receiver<Trigger>) {
    let mut taken = look(path);
    let mut seen = taken;
    loop {
        match asked.recv_timeout(LOOK_EVERY) {
            Ok(by) => {
                taken = look(path);
                let _ = reload(gateway, by, None);
            }
            Err(RecvTimeoutError::Timeout) => {
                let now = look(path);
                let settled = now.is_some() && now == seen && now != taken;
                seen = now;
                if settled {
                    taken = now;
                    let _ = reload(gateway, Trigger::File, None);
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// What tells one version of a file from another; a link is followed.
fn look(path: &Path) -> Option<(SystemTime, u64)> {
    let about = std::fs::metadata(path).ok()?;
    Some((about.modified().ok()?, about.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn keys_of_listeners_wait_for_a_restart_and_others_do_not() {
        let config = |port: u16, keepalive: u32, image: u32| {
            json!({
                "listen": { "address": format!("127.0.0.1:{port}"), "limits": { "keepalive_ms": keepalive } },
                "models": [{ "name": "m", "weights": { "per_image": image } }],
            })
        };
        assert!(waiting_for_restart(&config(1, 5, 9), &config(1, 6, 9)).is_empty());
        assert_eq!(
            waiting_for_restart(&config(1, 5, 9), &config(2, 5, 8)),
            ["listen.address", "models.m.weights"]
        );
    }
}
