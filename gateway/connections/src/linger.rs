//! Closing a connection so that its last answer is not lost.
//!
//! A kernel that is told to close a socket with unread bytes, or that gets bytes for a closed one, sends a reset, and a
//! reset throws away what the client has not read yet: a 413 never reaches the client that is still sending its body. So the
//! sending half is closed first, and what the client still sends is read and dropped until it closes as well, is silent, or
//! a bound is reached. Servers have done so since RFC 7230, section 6.6, asked for it; nginx calls it lingering close.

use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

/// Bytes that are dropped at a time.
const PIECE: usize = 16 << 10;

/// How long a connection is kept for its answer's sake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lingering {
    /// In all.
    pub time: Duration,
    /// Without a byte.
    pub silence: Duration,
    /// Bytes that are read and dropped.
    pub bytes: u64,
}

/// After a refusal before the body was read: time for the rest of a large one.
pub const LONG: Lingering =
    Lingering { time: Duration::from_secs(15), silence: Duration::from_secs(3), bytes: 256 << 20 };
/// Where nothing but the rest of a small request is expected.
pub const SHORT: Lingering =
    Lingering { time: Duration::from_secs(2), silence: Duration::from_secs(1), bytes: 1 << 20 };

/// Where its descriptor is needed: what is here already is read.
pub const BRIEF: Lingering =
    Lingering { time: Duration::from_millis(50), silence: Duration::from_millis(10), bytes: 64 << 10 };

/// Closes `stream` within these bounds.
pub async fn close(mut stream: impl AsyncRead + AsyncWrite + Unpin, within: Lingering) {
    let closed = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut piece = vec![0; PIECE];
        let mut bytes = within.bytes;
        while bytes > 0 {
            match timeout(within.silence, stream.read(&mut piece)).await {
                Ok(Ok(count)) if count > 0 => bytes = bytes.saturating_sub(count as u64),
                _ => return,
            }
        }
    };
    let _ = timeout(within.time, closed).await;
}
