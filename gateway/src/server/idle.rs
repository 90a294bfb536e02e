//! Waits between two requests of one connection.
//!
//! The framework has one timeout for both the silence between requests and the reading of a head, so a head
//! that drips on a reused connection could live as long as an idle one. Here the two are apart: the
//! connection may be silent for the keep-alive time, and its first bytes start the head's own deadline: they
//! are handed to the next session as what was read already.

use crate::server::drain;
use crate::state::connections::ConnectionPlace;
use crate::state::gateway::Gateway;
use bytes::BytesMut;
use pingora::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use pingora::server::ShutdownWatch;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// Read buffer of an idle connection, bytes; it becomes the buffer of the next head.
const READ_BYTES: usize = 4096;

/// Ends the request and waits for the next one; `None` when the connection is over.
pub async fn next_request(
    session: ServerSession,
    place: Option<ConnectionPlace>,
    keep_alive: Duration,
    shutdown: &ShutdownWatch,
    gateway: &Gateway,
) -> Option<ReusedHttpStream> {
    let mut settings = HttpPersistentSettings::for_session(&session);
    let reusable = session.finish().await.ok()??;
    let (mut stream, overread) = reusable.into_parts();
    let prefix = match overread {
        Some(bytes) if !bytes.is_empty() => bytes,
        _ => {
            let mut buffer = BytesMut::with_capacity(READ_BYTES);
            tokio::select! {
                // A request that is here already is served, whatever else is.
                biased;
                read = tokio::time::timeout(keep_alive, stream.read_buf(&mut buffer)) => match read {
                    Ok(Ok(n)) if n > 0 => {}
                    _ => return None,
                },
                () = drain::idle_is_over(gateway, shutdown.clone()) => return None,
            }
            buffer
        }
    };
    settings.set_pipelined_prefix(prefix);
    if let Some(place) = place {
        settings.set_user_context(Box::new(place));
    }
    Some(ReusedHttpStream::new(stream, Some(settings)))
}
