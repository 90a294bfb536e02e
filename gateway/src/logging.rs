//! The process's own messages: JSON lines when a program reads them, plain lines on a terminal.

use crate::config::{Log, LogFormat, LogLevel};
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;

/// Starts logging to standard error. `RUST_LOG` wins over the config's level.
pub fn start(log: &Log) {
    let level = match log.level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let plain = match log.format {
        LogFormat::Json => false,
        _ => std::io::stderr().is_terminal(),
    };
    // A second start in one process keeps the first: only tests do that.
    let _ = if plain { builder.try_init() } else { builder.json().try_init() };
}
