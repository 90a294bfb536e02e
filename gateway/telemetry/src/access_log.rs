//! The access log: a line for each request, in a file or on standard output. What it says is in [`fields`].
//!
//! A full disk costs lines, never requests, and each line that is lost is counted.

use crate::fields;
use crate::record::Record;
use config::ClientAddress;
use process::sink::{Sink, SinkError};
use std::io::{self, IsTerminal as _};

/// Where lines go.
#[derive(Debug)]
pub struct AccessLog {
    sink: Option<Sink>,
    client_address: ClientAddress,
    as_text: bool,
}

impl AccessLog {
    /// Opens the log as configured.
    ///
    /// # Errors
    /// When the file cannot be opened for appending; a pipe, when nobody reads it.
    pub fn open(config: &config::Log) -> Result<Self, SinkError> {
        let (sink, is_terminal) = match &config.access {
            config::AccessLog::Off => (None, false),
            config::AccessLog::Stdout => (Some(Sink::stdout()), io::stdout().is_terminal()),
            config::AccessLog::File(path) => (Some(Sink::file(path)?), false),
        };
        let as_text = fields::is_text(config.format, is_terminal);
        Ok(AccessLog { sink, client_address: config.client_address, as_text })
    }

    /// Puts a line into the buffer. Returns how many lines were lost.
    pub fn write(&mut self, record: &Record) -> u64 {
        let Some(sink) = &mut self.sink else { return 0 };
        fields::write(sink.buffer(), record, self.client_address, self.as_text);
        sink.put()
    }

    /// Writes the buffer out. Returns how many lines were lost.
    pub fn flush(&mut self) -> u64 {
        self.sink.as_mut().map_or(0, Sink::flush)
    }

    /// Opens the file anew, after it was moved away. Returns how many lines were lost.
    ///
    /// # Errors
    /// When it cannot be opened: the old one is written on.
    pub fn reopen(&mut self) -> Result<u64, SinkError> {
        self.sink.as_mut().map_or(Ok(0), Sink::reopen)
    }

    /// Why the last lines could not be written; `None`: they were.
    #[must_use]
    pub fn failure(&self) -> Option<&io::Error> {
        self.sink.as_ref().and_then(Sink::failure)
    }
}
