//! Those who hold connections open for as long as they are let.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::client::get;
use crate::front::client::{closing_chat, connect};
use crate::tls::{self, FIRST, H2};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Time between two bytes of those that drip.
const DRIP: Duration = Duration::from_millis(400);
/// Time after which one that was closed comes again.
const AGAIN: Duration = Duration::from_millis(500);

/// What an attacker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A head, byte by byte.
    SlowHead,
    /// A body, byte by byte, with a valid key.
    SlowBody,
    /// Streams that it asks for and never reads.
    SlowRead,
    /// Nothing.
    Silent,
    /// Nothing, where a TLS handshake is waited for.
    NoHandshake,
    /// Agrees on HTTP/2 and says nothing.
    NoPreface,
    /// Asks once over HTTP/2 and keeps the connection.
    IdleHttp2,
}

/// All of them.
pub const KINDS: [Kind; 7] = [
    Kind::SlowHead,
    Kind::SlowBody,
    Kind::SlowRead,
    Kind::Silent,
    Kind::NoHandshake,
    Kind::NoPreface,
    Kind::IdleHttp2,
];

impl Kind {
    /// For people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::SlowHead => "slow head",
            Kind::SlowBody => "slow body",
            Kind::SlowRead => "slow read",
            Kind::Silent => "silent",
            Kind::NoHandshake => "TLS without handshake",
            Kind::NoPreface => "HTTP/2 without preface",
            Kind::IdleHttp2 => "HTTP/2 idle",
        }
    }

    /// Whether it is of a gateway that speaks TLS.
    #[must_use]
    pub fn is_over_tls(self) -> bool {
        matches!(self, Kind::NoHandshake | Kind::NoPreface | Kind::IdleHttp2)
    }

    /// Does it until the connection is closed.
    async fn hold(self, stream: TcpStream) -> io::Result<()> {
        match self {
            Kind::Silent | Kind::NoHandshake => until_closed(stream).await,
            Kind::SlowHead => {
                let head = "GET /v1/models HTTP/1.1\r\nhost: a\r\nx-slow: ";
                drip(stream, head.to_owned() + &"a".repeat(1_000)).await
            }
            Kind::SlowBody => {
                let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer key-1\r\n\
                            content-type: application/json\r\ncontent-length: 5000\r\n\r\n";
                let mut stream = stream;
                stream.write_all(head.as_bytes()).await?;
                drip(stream, "{".repeat(1_000)).await
            }
            Kind::SlowRead => {
                let body = r#"{"model":"sim","stream":true,"max_tokens":60,"ignore_eos":true,"messages":[{"role":"user","content":"tide"}]}"#;
                let mut stream = stream;
                stream.write_all(&closing_chat("key-1", body)).await?;
                // Its end is not seen by who does not read: it comes again after a while.
                sleep(DRIP * 8).await;
                Ok(())
            }
            Kind::NoPreface => until_closed(tls::over(stream, &FIRST, &[b"h2"]).await?).await,
            Kind::IdleHttp2 => {
                let stream = tls::over(stream, &FIRST, &[b"h2"]).await?;
                let mut http2 = H2::on(stream).await.map_err(io::Error::other)?;
                let answer = http2.begin(get("/v1/models", Some("key-1"))).await;
                drop(answer.map_err(io::Error::other)?.whole().await);
                // Idle is the attack: an open connection without a stream.
                sleep(DRIP * 8).await;
                Ok(())
            }
        }
    }
}

/// Sends a text byte by byte, until it is sent or the other side closes.
async fn drip(mut stream: TcpStream, text: String) -> io::Result<()> {
    let mut read = [0; 1024];
    for byte in text.into_bytes() {
        stream.write_all(&[byte]).await?;
        if let Ok(read) = timeout(DRIP, stream.read(&mut read)).await
            && read? == 0
        {
            break;
        }
    }
    Ok(())
}

async fn until_closed(mut stream: impl AsyncReadExt + Unpin) -> io::Result<()> {
    let mut read = [0; 1024];
    while stream.read(&mut read).await? > 0 {}
    Ok(())
}

/// One attack.
#[derive(Debug, Clone, Copy)]
pub struct Attack {
    /// What each does.
    pub kind: Kind,
    /// Addresses that the attackers come from.
    pub addresses: usize,
    /// Attackers at once.
    pub count: usize,
    /// Where the gateway listens.
    pub target: SocketAddr,
}

impl Attack {
    /// Sends all of them; they end when what is returned is dropped.
    #[must_use]
    pub fn begin(self) -> JoinSet<()> {
        let mut attackers = JoinSet::new();
        for nth in 0..self.count {
            attackers.spawn(async move {
                let nth = nth % self.addresses;
                let source = Ipv4Addr::new(127, 0, 100, nth as u8 + 1);
                loop {
                    if let Ok(stream) = connect(source, self.target).await {
                        let _ = self.kind.hold(stream).await;
                    }
                    // Who was ended comes again, at a pace that is the attacker's.
                    sleep(AGAIN).await;
                }
            });
        }
        attackers
    }
}
