//! Bytes on a socket: for requests that no library would send, and for leaving in every way.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::wait::PATIENCE;

/// A connection.
pub struct Raw {
    stream: TcpStream,
    /// Bytes read and not yet taken.
    buffer: Vec<u8>,
}

/// An answer as it came, its body complete.
#[derive(Debug)]
pub struct RawAnswer {
    /// Its status.
    pub status: u16,
    /// Status line and headers, in lower case.
    pub head: String,
    /// Its body.
    pub body: Vec<u8>,
}

impl Raw {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Raw {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Raw { stream, buffer: Vec::new() }
    }

    /// Connects from an address of its own; all of 127.0.0.0/8 is this machine.
    pub async fn connect_from(source: Ipv4Addr, address: SocketAddr) -> Raw {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from((source, 0))).unwrap();
        let stream = socket.connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Raw { stream, buffer: Vec::new() }
    }

    /// Sends bytes. A peer that has closed already is no failure: what it said can still be read.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Sends bytes as a client does that gives up when it cannot.
    ///
    /// # Errors
    /// When the peer has closed the connection meanwhile.
    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Ends the connection with RST.
    pub fn reset(self) {
        self.stream.set_zero_linger().unwrap();
    }

    /// Reads more; `false` at the end of the connection.
    async fn fill(&mut self) -> bool {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
        read.expect("silence on the connection").is_ok_and(|n| n > 0)
    }

    /// Reads the next head, informational ones too: status, text in lower case.
    pub async fn head(&mut self) -> Option<(u16, String)> {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            if !self.fill().await {
                return None;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_lowercase();
        self.buffer.drain(..end);
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Some((status, head))
    }

    /// Reads an answer with a `content-length`. `None`: the connection ended before it was whole.
    pub async fn answer(&mut self) -> Option<RawAnswer> {
        let (status, head) = self.head().await?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
        while self.buffer.len() < length {
            if !self.fill().await {
                return None;
            }
        }
        let body = self.buffer.drain(..length).collect();
        Some(RawAnswer { status, head, body })
    }

    /// Whether the other side ends the connection within `bound`, reading what comes until then.
    pub async fn ends_within(&mut self, bound: Duration) -> bool {
        let end = async { while self.fill().await {} };
        timeout(bound, end).await.is_ok()
    }
}

/// A chat request with `body`, its head ended by whoever sends it: `extra` are further header lines, each with its
/// line end.
pub fn chat_request(key: &str, extra: &str, body: &str) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: gateway.test\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\n{extra}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}
