//! One line of JSON for each request: who, what, where, how long, how many tokens. No prompts, no keys.

use crate::clock;
use crate::telemetry::record::Record;
use config::ClientAddress;
use rustix::fs::OFlags;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
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
    client_address: ClientAddress,
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
    client_address: Option<IpAddr>,
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
    pub fn open(config: &config::Log) -> Result<Self, AccessLogError> {
        let sink = match &config.access {
            config::AccessLog::Off => None,
            config::AccessLog::Stdout => Some(Sink::Stdout(io::stdout())),
            config::AccessLog::File(path) => {
                let opened = append_to(path).map_err(|cause| AccessLogError { path: path.clone(), cause });
                Some(Sink::File(opened?))
            }
        };
        let sink = sink.map(|sink| BufWriter::with_capacity(64 << 10, sink));
        Ok(AccessLog { sink, client_address: config.client_address })
    }

    /// Writes a line into the buffer. A full disk costs lines, never requests.
    pub fn write(&mut self, record: &Record) {
        let Some(sink) = &mut self.sink else { return };
        if serde_json::to_writer(&mut *sink, &line(record, self.client_address)).is_ok() {
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

/// As much of an address as is to be logged.
fn shown(address: IpAddr, how: ClientAddress) -> Option<IpAddr> {
    match (how, address) {
        (ClientAddress::Off, _) => None,
        (ClientAddress::Full, _) => Some(address),
        (ClientAddress::Prefix, IpAddr::V4(v4)) => {
            Some(Ipv4Addr::from_bits(v4.to_bits() & (u32::MAX << 8)).into())
        }
        (ClientAddress::Prefix, IpAddr::V6(v6)) => {
            Some(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << 80)).into())
        }
    }
}

fn line(record: &Record, address: ClientAddress) -> Line<'_> {
    let used = record.used;
    Line {
        time: clock::rfc3339(record.arrived_wall),
        msg: "request",
        request_id: &record.id,
        client_address: record.client_address.and_then(|client| shown(client, address)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_whole_by_its_network_or_not_at_all() {
        let (four, six) = ("192.0.2.77".parse().unwrap(), "2001:db8:1:2::3".parse().unwrap());
        let text = |address, how| shown(address, how).map(|shown| shown.to_string());
        assert_eq!(text(four, ClientAddress::Full).unwrap(), "192.0.2.77");
        assert_eq!(text(four, ClientAddress::Prefix).unwrap(), "192.0.2.0");
        assert_eq!(text(six, ClientAddress::Prefix).unwrap(), "2001:db8:1::");
        assert_eq!(text(four, ClientAddress::Off), None);
    }
}
