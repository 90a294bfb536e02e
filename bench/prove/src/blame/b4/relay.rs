//! A relay before a simulated engine that makes it an engine with a long `stop`.
//!
//! Where the request has a `stop`, each chunk's content is blanked: `"content":"tide"` becomes `"content":""` and as many
//! blanks, which JSON allows between tokens. Nothing moves in time or in length, so that the two runs of a comparison
//! differ in what the chunks say and in nothing else. The last chunks, finish and usage, have no content.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const READ: usize = 64 << 10;
/// What a request has whose text is held back.
const STOP: &[u8] = b"\"stop\":[";
const CONTENT: &[u8] = b"\"content\":\"";

/// The relay. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) addr: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    /// Starts on a free port.
    ///
    /// # Errors
    /// There is none.
    pub(super) async fn start(engine: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let task = tokio::spawn(async move {
            while let Ok((gateway, _)) = listener.accept().await {
                // How a connection ends is the business of both its ends.
                tokio::spawn(async move { drop(connection(gateway, engine).await) });
            }
        });
        Ok(Self { addr, task })
    }
}

async fn connection(gateway: TcpStream, engine: SocketAddr) -> io::Result<()> {
    let engine = TcpStream::connect(engine).await?;
    gateway.set_nodelay(true)?;
    engine.set_nodelay(true)?;
    let (from_gateway, to_gateway) = gateway.into_split();
    let (from_engine, to_engine) = engine.into_split();
    let (holds_back, is_held_back) = watch::channel(false);
    // Whichever side ends, the other does: a client that leaves is seen by the engine.
    tokio::select! {
        ended = requests(from_gateway, to_engine, &holds_back) => ended,
        ended = answers(from_engine, to_gateway, &is_held_back) => ended,
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    holds_back: &watch::Sender<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; READ];
    loop {
        let read = from.read(&mut buffer).await?;
        let bytes = buffer.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        if bytes.starts_with(b"POST ") || bytes.starts_with(b"GET ") {
            holds_back.send_replace(false);
        }
        if memmem::find(bytes, STOP).is_some() {
            holds_back.send_replace(true);
        }
        to.write_all(bytes).await?;
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    is_held_back: &watch::Receiver<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; READ];
    let mut blanking = Blanking::default();
    loop {
        let read = from.read(&mut buffer).await?;
        let Some(bytes) = buffer.get_mut(..read).filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        if *is_held_back.borrow() {
            blanking.take(bytes);
        }
        to.write_all(bytes).await?;
    }
}

/// Takes contents out, split anywhere.
#[derive(Debug, Default)]
struct Blanking {
    /// Bytes of [`CONTENT`] that were seen last.
    matched: usize,
    inside: Option<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    /// The closing quote has been put at the first byte.
    closed: bool,
    escaped: bool,
}

impl Blanking {
    fn take(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            let was = *byte;
            if let Some(inside) = &mut self.inside {
                *byte = if inside.closed { b' ' } else { b'"' };
                inside.closed = true;
                if was == b'"' && !inside.escaped {
                    self.inside = None;
                } else {
                    inside.escaped = was == b'\\' && !inside.escaped;
                }
                continue;
            }
            self.matched = match CONTENT.get(self.matched) {
                Some(wanted) if *wanted == was => self.matched + 1,
                _ => usize::from(was == b'"'),
            };
            if self.matched == CONTENT.len() {
                self.matched = 0;
                self.inside = Some(Inside::default());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn contents_are_blank_and_everything_else_stays_wherever_it_is_split() {
        let event =
            r#"{"choices":[{"delta":{"role":"assistant","content":"a \"tide\" \\"},"index":0}],"n":1}"#;
        for at in 0..event.len() {
            let mut bytes = event.as_bytes().to_vec();
            let (first, second) = bytes.split_at_mut(at);
            let mut blanking = Blanking::default();
            blanking.take(first);
            blanking.take(second);
            assert_eq!(bytes.len(), event.len());
            let value: Value = serde_json::from_slice(&bytes).expect("JSON");
            let delta = json!({ "role": "assistant", "content": "" });
            assert_eq!(
                value,
                json!({ "choices": [{ "delta": delta, "index": 0 }], "n": 1 }),
                "split at {at}"
            );
        }
    }
}
