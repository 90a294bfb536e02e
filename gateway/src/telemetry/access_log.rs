//! One line of JSON for each request: who, what, where, how long, how many tokens. No prompts, no keys.

use crate::clock;
use crate::telemetry::record::Record;
use config;
use rustix::fs::OFlags;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The log cannot be opened. Usually its folder is missing, or belongs to another user.
#[derive(Debug, thiserror::Error)]
#[error("{path} cannot be opened for appending: {cause}")]
pub struct AccessLogError {
    path: PathBuf,
    cause: io::Error,
}

/// Where lines go.
#[derive(Debug)]
pub struct AccessLog {
    sink: Option<BufWriter<Sink>>,
}

#[derive(Debug)]
enum Sink {
    Stdout(io::Stdout),
    File(File),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sink::Stdout(stdout) => stdout.write(bytes),
            Sink::File(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sink::Stdout(stdout) => stdout.flush(),
            Sink::File(file) => file.flush(),
        }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    msg: &'static str,
    request_id: &'a str,
    client_request_id: Option<&'a str>,
    traceparent: Option<&'a str>,
    account: Option<&'a str>,
    model: Option<&'a str>,
    api: Option<&'static str>,
    tier: Option<&'static str>,
    stream: bool,
    status: u16,
    reason: Option<&'static str>,
    /// Where it was served; without a replica, where it waited or was refused for load.
    deployment: Option<&'a str>,
    replica: Option<u16>,
    body_bytes: u64,
    weighed_prompt_tokens: u32,
    prompt_tokens: Option<u64>,
    cached_tokens: Option<u64>,
    uncached_tokens: Option<u64>,
    generated_tokens: Option<u64>,
    usage_missing: bool,
    queue_ms: f64,
    ttft_ms: Option<f64>,
    total_ms: f64,
    retries: u32,
    withdrawals: u32,
    client_retry: u32,
    client_gone: bool,
}

impl AccessLog {
    /// Opens the log as configured.
    ///
    /// # Errors
    /// When the file cannot be opened for appending; a pipe, when nobody reads it.
    pub fn open(config: &config::AccessLog) -> Result<Self, AccessLogError> {
        let sink = match config {
            config::AccessLog::Off => None,
            config::AccessLog::Stdout => Some(Sink::Stdout(io::stdout())),
            config::AccessLog::File(path) => {
                let opened = append_to(path).map_err(|cause| AccessLogError { path: path.clone(), cause });
                Some(Sink::File(opened?))
            }
        };
        Ok(AccessLog { sink: sink.map(|sink| BufWriter::with_capacity(64 << 10, sink)) })
    }

    /// Writes a line into the buffer. A full disk costs lines, never requests.
    pub fn write(&mut self, record: &Record) {
        let Some(sink) = &mut self.sink else { return };
        if serde_json::to_writer(&mut *sink, &line(record)).is_ok() {
            let _ = sink.write_all(b"\n");
        }
    }

    /// Writes the buffer out.
    pub fn flush(&mut self) {
        if let Some(sink) = &mut self.sink {
            let _ = sink.flush();
        }
    }
}

/// Opens a file for appending, without waiting: a pipe that nobody reads would keep the start from ever going on.
fn append_to(path: &Path) -> io::Result<File> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let opened = OpenOptions::new().create(true).append(true).custom_flags(nonblocking).open(path);
    let kind = |path: &Path| std::fs::metadata(path).map(|found| found.file_type());
    let file = opened.map_err(|e| match kind(path) {
        Ok(kind) if kind.is_fifo() => io::Error::new(e.kind(), "it is a pipe that nobody reads"),
        Ok(kind) if kind.is_socket() => io::Error::new(e.kind(), "it is a socket"),
        _ => e,
    })?;
    if file.metadata()?.file_type().is_block_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a disk"));
    }
    // A reader that is slow is waited for, on the thread that does nothing else.
    rustix::fs::fcntl_setfl(&file, rustix::fs::fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

fn line(record: &Record) -> Line<'_> {
    let used = record.used;
    Line {
        time: clock::rfc3339(record.arrived_wall),
        msg: "request",
        request_id: &record.id,
        client_request_id: record.client_id.as_deref(),
        traceparent: record.trace.as_ref().and_then(|trace| trace.to_str().ok()),
        account: record.account.as_deref(),
        model: record.model.as_deref(),
        api: record.api.map(|api| api.path()),
        tier: record.tier.map(config::Tier::name),
        stream: record.stream,
        status: record.status,
        reason: Some(record.reason).filter(|reason| !reason.is_empty()),
        deployment: record.deployment.as_ref().or(record.offered_to.as_ref()).map(AsRef::as_ref),
        replica: record.replica,
        body_bytes: record.body_bytes,
        weighed_prompt_tokens: record.weighed_prompt,
        prompt_tokens: used.map(|used| used.prompt),
        cached_tokens: record.cached,
        uncached_tokens: used.map(|used| used.uncached_prompt),
        generated_tokens: used.map(|used| used.generated),
        usage_missing: record.usage_missing,
        queue_ms: milliseconds(record.queued),
        ttft_ms: record.first_token.map(|at| milliseconds(at.saturating_sub(record.arrived))),
        total_ms: milliseconds(record.ended.saturating_sub(record.arrived)),
        retries: record.retries,
        withdrawals: record.withdrawals,
        client_retry: record.client_retry,
        client_gone: record.client_gone,
    }
}

/// Milliseconds with three decimals.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
