//! What `tidegate serve` needs beside a config without faults: a certificate with its key, logs and a state folder that
//! can be written.
//!
//! `tidegate check` asks for all of it without serving, so that the restart after it does not fail; `serve` asks first,
//! and so tells the same sentences, each with its key and file. Nothing is left behind: what has to be made to know
//! whether it can be made is removed again. Whether a port is free is not asked: the gateway that runs has it.

use crate::state::journal;
use crate::telemetry::access_log::AccessLog;
use config::{AccessLog as Sink, Config, Fault, Faults, Log};
use connections::tls::Certificates;
use std::path::Path;

/// What is missing for `config`, which was read from `origin`. Writes and removes a file in the folders that it names.
#[must_use]
pub fn missing(config: &Config, origin: &Path) -> Option<Faults> {
    let tls = config.listen.tls.as_ref();
    let tls = tls.and_then(|tls| Certificates::load(&tls.cert_file, &tls.key_file).err());
    let list: Vec<Fault> = [
        tls.map(|e| (e.key(), e.to_string())),
        access_log(&config.log).map(|e| ("log.access", e)),
        process_log(&config.log).map(|e| ("log.file", e)),
        config
            .state
            .dir
            .as_deref()
            .and_then(|folder| Some(("state.dir", journal::usable(folder).err()?.to_string()))),
    ]
    .into_iter()
    .flatten()
    .map(|(path, message)| Fault { line: 0, column: 0, path: path.to_owned(), message })
    .collect();
    (!list.is_empty()).then(|| Faults { origin: origin.display().to_string(), list, more: 0 })
}

/// Why the access log cannot be opened.
fn access_log(log: &Log) -> Option<String> {
    let Sink::File(path) = &log.access else { return None };
    unopened(path, || AccessLog::open(log).map(drop))
}

/// Why the process's own log cannot be opened.
fn process_log(log: &Log) -> Option<String> {
    let path = log.file.as_deref()?;
    unopened(path, || process::sink::Sink::file(path).map(drop))
}

/// Why a file cannot be opened. One that is new is removed again.
fn unopened(path: &Path, open: impl FnOnce() -> Result<(), process::sink::SinkError>) -> Option<String> {
    let is_new = !path.exists();
    let opened = open();
    if is_new && opened.is_ok() {
        let _ = std::fs::remove_file(path);
    }
    opened.err().map(|e| e.to_string())
}
