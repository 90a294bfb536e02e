//! Takes in a request body: bounded in bytes, in time and in slowness.
//!
//! Bytes are reserved before they are read: at once when the length is announced, else piece by piece. A body
//! may take its whole time only while it keeps coming; one that crawls is cut as soon as it falls behind the
//! least rate.

use accounts::memory::{MemoryBound, MemoryGuard};
use bytes::{Bytes, BytesMut};
use http::{HeaderValue, header};
use pingora::protocols::http::ServerSession;
use protocol::framing::chunked::Decoder;
use protocol::refusal::{Reason, Refusal};
use std::time::Duration;
use tokio::time::timeout;

/// Bounds of a body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Most bytes.
    pub bytes_max: u64,
    /// Longest time from the head to the last byte.
    pub deadline: Duration,
    /// Least rate, bytes per second, judged after [`GRACE`].
    pub rate_min: u64,
}

/// A body may be slower than the least rate for this long at its start.
pub const GRACE: Duration = Duration::from_secs(5);
/// Bytes that are reserved at a time when no length is announced.
const STEP: u64 = 64 << 10;
/// A body that was not asked for is read and dropped up to this size, to keep the connection; a larger one
/// ends it.
pub const DRAIN_MAX: u64 = 64 << 10;

/// What the framework is told of a body in chunks: more bytes than any body has.
const NO_END: HeaderValue = HeaderValue::from_static("4611686018427387904");

/// The reader of a body in chunks. The framework has one that takes more than the letter allows, so it is made to hand
/// over the bytes as they come, as if a length without end had been announced. `None`: another framing, which the
/// framework reads. To be called before anything of the body is read or anything is answered.
///
/// The price is that the connection ends with the answer, which says so: the framework would wait for the end of what it
/// takes for the body.
pub fn chunks(session: &mut ServerSession) -> Option<Decoder> {
    if session.is_http2() {
        return None;
    }
    let head = session.req_header_mut();
    head.remove_header(&header::TRANSFER_ENCODING)?;
    head.insert_header(header::CONTENT_LENGTH, NO_END).ok()?;
    Some(Decoder::new())
}

/// Reads the whole body.
///
/// # Errors
/// 413 over the size, 408 when too slow, 400 when it breaks off, 503 when its bytes cannot be held.
pub async fn read(
    session: &mut ServerSession,
    announced: Option<u64>,
    decoder: Option<Decoder>,
    limits: BodyLimits,
    memory: &mut MemoryGuard,
) -> Result<Bytes, Refusal> {
    let mut incoming = Incoming { session, decoder, received: Bytes::new() };
    if announced.is_some_and(|length| length > limits.bytes_max) {
        return Err(too_large(limits));
    }
    let mut reserved = announced.unwrap_or(0);
    memory.grow(reserved).map_err(no_memory)?;
    let began = process::clock::now();
    let mut whole = BytesMut::new();
    let mut first: Option<Bytes> = None;
    loop {
        let received = (whole.len() + first.as_ref().map_or(0, Bytes::len)) as u64;
        let left = time_left(received, limits).saturating_sub(process::clock::now().saturating_sub(began));
        let piece = match timeout(left, incoming.next()).await {
            Err(_) => return Err(too_slow()),
            Ok(None) => return Err(Refusal::bad("The request body broke off or was framed wrongly.")),
            Ok(Some(None)) => break,
            Ok(Some(Some(piece))) => piece,
        };
        let received = received + piece.len() as u64;
        if received > limits.bytes_max {
            return Err(too_large(limits));
        }
        if received > reserved {
            let more = (received - reserved).next_multiple_of(STEP);
            memory.grow(more).map_err(no_memory)?;
            reserved += more;
        }
        // Most bodies come in one piece: that one is kept as it is.
        match first.take() {
            None if whole.is_empty() => first = Some(piece),
            None => whole.extend_from_slice(&piece),
            Some(earlier) => {
                whole.reserve(announced.unwrap_or(0).min(limits.bytes_max) as usize);
                whole.extend_from_slice(&earlier);
                whole.extend_from_slice(&piece);
            }
        }
    }
    Ok(first.unwrap_or_else(|| whole.freeze()))
}

/// What comes of a body.
struct Incoming<'s> {
    session: &'s mut ServerSession,
    /// Of a body in chunks, whose bytes are handed over as they come.
    decoder: Option<Decoder>,
    /// Bytes of such a body that were not decoded yet.
    received: Bytes,
}

impl Incoming<'_> {
    /// The next piece; `Some(None)` at the end, `None` where it broke off or was framed wrongly. Cancel-safe.
    async fn next(&mut self) -> Option<Option<Bytes>> {
        loop {
            if let Some(decoder) = &mut self.decoder {
                let piece = decoder.next(&mut self.received).ok()?;
                if piece.is_some() || decoder.is_done() {
                    return Some(piece);
                }
            }
            let received = self.session.read_request_body().await.ok()?;
            match (&self.decoder, received) {
                (Some(_), received) => self.received = received?,
                (None, received) => return Some(received),
            }
        }
    }
}

/// Until when, from the start, the next byte must come.
fn time_left(received: u64, limits: BodyLimits) -> Duration {
    let by_rate = GRACE + Duration::from_secs_f64(received as f64 / limits.rate_min.max(1) as f64);
    by_rate.min(limits.deadline)
}

/// Reads and drops a small body that is not wanted. `false`: the connection must end instead.
pub async fn drain(session: &mut ServerSession, announced: Option<u64>, has_body: bool) -> bool {
    if !has_body {
        return true;
    }
    if announced.is_none_or(|length| length > DRAIN_MAX) {
        return false;
    }
    let drained = async {
        while let Ok(piece) = session.read_request_body().await {
            if piece.is_none() {
                return true;
            }
        }
        false
    };
    timeout(GRACE, drained).await.unwrap_or(false)
}

fn too_large(limits: BodyLimits) -> Refusal {
    Refusal::new(Reason::TooLarge, format!("The request body exceeds {} bytes.", limits.bytes_max))
}

fn too_slow() -> Refusal {
    Refusal::new(
        Reason::RequestTimeout,
        "The request body came too slowly. Send it again over a faster connection.",
    )
}

fn no_memory(bound: MemoryBound) -> Refusal {
    let message = match bound {
        MemoryBound::Account(bytes) => {
            format!(
                "Service Overloaded: this account's requests in flight already hold {bytes} bytes. Send fewer at once."
            )
        }
        MemoryBound::Connection(bytes) => {
            format!(
                "Service Overloaded: this connection's requests in flight already hold {bytes} bytes. Send fewer at once on it."
            )
        }
        MemoryBound::Total(_) => {
            "Service Overloaded: no memory for this request's body. Retry shortly.".to_owned()
        }
    };
    Refusal::new(Reason::Memory, message).retry(Some(Duration::from_secs(2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_its_whole_time_only_while_it_keeps_coming() {
        let limits = BodyLimits { bytes_max: 1 << 20, deadline: Duration::from_secs(30), rate_min: 1024 };
        assert_eq!(time_left(0, limits), Duration::from_secs(5));
        assert_eq!(time_left(10 * 1024, limits), Duration::from_secs(15));
        assert_eq!(time_left(1 << 19, limits), Duration::from_secs(30));
    }
}
