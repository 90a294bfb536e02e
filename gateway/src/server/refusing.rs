//! Telling a client that there is no place for it, though its request was never read.
//!
//! In plain HTTP the answer is written at once, whatever the client sends, and the connection lingers a little so that it
//! is not lost. A bounded number are told at a time; a further one is closed without a word, which is counted like the rest.

use crate::downstream::respond;
use connections::socket::Socket;
use connections::{NoPlace, Place, Turned, linger};
use pingora::protocols::http::ServerSession;
use protocol::api::Family;
use protocol::refusal::{Reason, Refusal};
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Time until a client that is refused may come back.
const COME_BACK: Duration = Duration::from_secs(2);
/// Bytes of a request that are read before a socket is closed at once.
const READ_BYTES: usize = 16 << 10;

/// The label of a connection without a place.
#[must_use]
pub fn turned(none: NoPlace) -> Turned {
    match none {
        NoPlace::Total | NoPlace::NotYet => Turned::Total,
        NoPlace::Address => Turned::Address,
    }
}

/// The refusal for a connection, or a request of it, that has no place.
#[must_use]
pub fn no_place(none: NoPlace) -> Refusal {
    let message = match none {
        NoPlace::Total | NoPlace::NotYet => "Service Overloaded: all connections are in use. Retry shortly.",
        NoPlace::Address => {
            "Service Overloaded: too many connections from this address have a request running. Use fewer at once, or retry shortly."
        }
    };
    Refusal::new(Reason::Connections, message).retry(Some(COME_BACK))
}

/// The refusal for an HTTP/2 stream that has no place.
#[must_use]
pub fn no_stream() -> Refusal {
    let message = "Service Overloaded: all HTTP/2 streams are in use. Retry shortly.";
    Refusal::new(Reason::Connections, message).retry(Some(COME_BACK))
}

/// Tells of a refusal in a session whose request's own way has not begun.
pub async fn refuse(session: &mut ServerSession, refusal: &Refusal) {
    session.set_keepalive(None);
    let envelope = respond::Envelope::new(Family::OpenAi);
    if let Ok((head, body)) = respond::refusal(&envelope, refusal) {
        let _ = session.write_error_response(head, body).await;
    }
}

/// Those that are being told.
#[derive(Debug, Clone)]
pub struct Refusing(Arc<Semaphore>);

impl Refusing {
    /// So many at once.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Refusing(Arc::new(Semaphore::new(at_once)))
    }

    /// Tells a client that was just accepted. Where too many are being told, it gets its answer without lingering.
    pub fn tell_accepted(&self, stream: TcpStream, none: NoPlace) {
        match Arc::clone(&self.0).try_acquire_owned() {
            Ok(permit) => drop(tokio::spawn(told(stream, none, permit))),
            Err(_) => at_once(stream, &no_place(none)),
        }
    }

    /// Tells a client whose proxy has told who it is; holds its place meanwhile.
    pub fn tell(&self, socket: Socket, none: NoPlace, place: Place) {
        if let Ok(permit) = Arc::clone(&self.0).try_acquire_owned() {
            tokio::spawn(told(socket, none, (permit, place)));
        }
    }
}

/// Writes the refusal and closes the connection, with `held` until then.
async fn told(mut stream: impl AsyncRead + AsyncWrite + Unpin, none: NoPlace, held: impl Send) {
    let bytes = plain(&no_place(none));
    let written = async {
        stream.write_all(&bytes).await?;
        stream.flush().await
    };
    if timeout(linger::SHORT.silence, written).await.is_ok_and(|written| written.is_ok()) {
        linger::close(stream, linger::SHORT).await;
    }
    drop(held);
}

/// The refusal where no descriptor is left.
#[must_use]
pub fn no_descriptor() -> Refusal {
    let message = "Service Overloaded: no file descriptor is left here. Retry shortly.";
    Refusal::new(Reason::Descriptors, message).retry(Some(COME_BACK))
}

/// Tells a client without waiting for anything: its descriptor is needed back.
pub fn at_once(stream: TcpStream, refusal: &Refusal) {
    // What it sent already is read: a socket that is closed with unread bytes is reset, and the answer with it. By the
    // system's own calls, which do not wait here: the runtime does not know yet that the socket is ready.
    if let Ok(mut stream) = stream.into_std() {
        let _ = stream.read(&mut vec![0; READ_BYTES]);
        let _ = stream.write(&plain(refusal));
    }
}

/// A refusal as HTTP/1.1, for a client whose head nobody reads.
fn plain(refusal: &Refusal) -> Vec<u8> {
    let envelope = respond::Envelope::new(Family::OpenAi);
    let Ok((head, body)) = respond::refusal(&envelope, refusal) else { return Vec::new() };
    let mut bytes = format!("HTTP/1.1 {} Service Unavailable\r\nconnection: close\r\n", refusal.status());
    for (name, value) in &head.headers {
        bytes.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    bytes.push_str("\r\n");
    [bytes.as_bytes(), &body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_whole_http() {
        let text = String::from_utf8(plain(&no_place(NoPlace::Total))).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n"), "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        assert!(head.contains("x-tidegate-reason: connections") && head.contains("retry-after"), "{head}");
        assert!(body.contains("\"code\":\"load_shed\""), "{body}");
    }
}
