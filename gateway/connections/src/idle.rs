//! Waits between two requests of one connection.
//!
//! The framework has one timeout for both the silence between requests and the reading of a head, so a head
//! that drips on a reused connection could live as long as an idle one. Here the two are apart: the
//! connection may be silent for the keep-alive time, and its first bytes start the head's own deadline: they
//! are handed to the next session as what was read already.

use crate::linger;
use crate::places::Place;
use bytes::BytesMut;
use pingora::apps::HttpPersistentSettings;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// Read buffer of an idle connection, bytes; it becomes the buffer of the next head.
const READ_BYTES: usize = 4096;

/// A connection whose next head begins.
pub struct Next {
    /// It.
    pub stream: Stream,
    /// What its next session takes over.
    pub settings: HttpPersistentSettings,
}

/// Ends the request and waits for the next one, at most `keepalive` and until `is_over`; `None` when the connection is over.
pub async fn next_request(
    session: ServerSession,
    mut settings: HttpPersistentSettings,
    place: &Place,
    keepalive: Duration,
    is_over: impl Future<Output = ()>,
) -> Option<Next> {
    let session = match session {
        ServerSession::H1(mut session) if !session.will_keepalive() => {
            // The answer is whole, and the client may have sent something behind its request.
            if session.finish_body().await.is_ok() && place.lingers() {
                linger::close(session.into_inner(), linger::SHORT).await;
            }
            return None;
        }
        session => session,
    };
    let (mut stream, overread) = session.finish().await.ok()??.into_parts();
    let prefix = match overread {
        Some(bytes) if !bytes.is_empty() => bytes,
        _ => {
            let mut buffer = BytesMut::with_capacity(READ_BYTES);
            tokio::select! {
                // A request that is here already is served, whatever else is.
                biased;
                read = tokio::time::timeout(keepalive, stream.read_buf(&mut buffer)) => match read {
                    Ok(Ok(n)) if n > 0 => {}
                    _ => return None,
                },
                () = is_over => return None,
            }
            buffer
        }
    };
    place.head_begins();
    settings.set_pipelined_prefix(prefix);
    Some(Next { stream, settings })
}
