//! Cuts a server-sent-event stream into events, however the bytes arrive.
//!
//! An event ends at an empty line; lines end in LF or CRLF. Bytes that hold whole events are not copied: the
//! event is a slice of what was read. Only an event that arrives in pieces is put together, up to a bound.
//!
//! # Guarantees
//! - Any way of splitting the bytes gives the same events.
//! - O(bytes) in all: a byte is searched once.
//! - At most [`EVENT_BYTES_MAX`] bytes are held.

use bytes::{Bytes, BytesMut};

/// Longest event that is put together, bytes. Ordinary ones have a few hundred; one with many log
/// probabilities or a large tool call has some ten thousand.
pub const EVENT_BYTES_MAX: usize = 4 << 20;

/// An event exceeded [`EVENT_BYTES_MAX`]: this is no event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream exceeds {EVENT_BYTES_MAX} bytes")]
pub struct EventTooLong;

/// The splitter of one stream.
#[derive(Debug, Default)]
pub struct SseSplitter {
    /// The last read, when no event is pending from before.
    fresh: Bytes,
    /// An event that began in an earlier read, and what came after it.
    pending: BytesMut,
    /// Bytes of `fresh` or `pending` that were searched without finding the event's end.
    searched: usize,
    /// Where the line that is being searched begins.
    line: usize,
}

impl SseSplitter {
    /// Adds what was read. Call [`next_event`](Self::next_event) until it gives none before the next push.
    ///
    /// # Errors
    /// When the event being put together exceeds its bound.
    pub fn push(&mut self, bytes: Bytes) -> Result<(), EventTooLong> {
        if self.pending.is_empty() && self.fresh.is_empty() {
            self.fresh = bytes;
            return Ok(());
        }
        if self.pending.len() + bytes.len() > EVENT_BYTES_MAX {
            return Err(EventTooLong);
        }
        self.pending.extend_from_slice(&bytes);
        Ok(())
    }

    /// The next whole event with its closing empty line.
    pub fn next_event(&mut self) -> Option<Bytes> {
        let held: &[u8] = if self.pending.is_empty() { &self.fresh } else { &self.pending };
        match event_end(held, &mut self.searched, &mut self.line) {
            Some(end) => {
                (self.searched, self.line) = (0, 0);
                Some(if self.pending.is_empty() {
                    self.fresh.split_to(end)
                } else {
                    self.pending.split_to(end).freeze()
                })
            }
            None => {
                if self.pending.is_empty() && !self.fresh.is_empty() {
                    self.pending.extend_from_slice(&self.fresh);
                    self.fresh = Bytes::new();
                }
                None
            }
        }
    }

    /// What is held of an unfinished event: at the end of the stream, a last event without its empty line.
    pub fn take_rest(&mut self) -> Bytes {
        (self.searched, self.line) = (0, 0);
        if self.pending.is_empty() { std::mem::take(&mut self.fresh) } else { self.pending.split().freeze() }
    }
}

/// One past the empty line that ends the first event in `held`. Empty lines before the event belong to it.
fn event_end(held: &[u8], searched: &mut usize, line: &mut usize) -> Option<usize> {
    while let Some(found) = memchr::memchr(b'\n', held.get(*searched..)?) {
        let at = *searched + found;
        let content = held.get(*line..at).unwrap_or_default();
        let ends_event = matches!(content, [] | [b'\r']) && *line > 0;
        *searched = at + 1;
        *line = at + 1;
        if ends_event {
            return Some(at + 1);
        }
    }
    *searched = held.len();
    None
}

/// The payload of an event's first `data:` line, without the optional space and the line end.
#[must_use]
pub fn data_of(event: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = event.strip_prefix(b"data:") {
        return Some(payload(rest));
    }
    event.split(|&b| b == b'\n').find_map(|line| line.strip_prefix(b"data:")).map(payload)
}

fn payload(after_colon: &[u8]) -> &[u8] {
    let line = match memchr::memchr(b'\n', after_colon) {
        Some(end) => after_colon.get(..end).unwrap_or_default(),
        None => after_colon,
    };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    line.strip_prefix(b" ").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut splitter = SseSplitter::default();
        let mut found = Vec::new();
        for piece in pieces {
            splitter.push(Bytes::copy_from_slice(piece)).unwrap();
            while let Some(event) = splitter.next_event() {
                found.push(event.to_vec());
            }
        }
        (found, splitter.take_rest().to_vec())
    }

    #[test]
    fn an_event_ends_at_an_empty_line_with_lf_or_crlf() {
        let (found, rest) = events(&[b"data: 1\n\nevent: x\r\ndata: 2\r\n\r\n: comment\n\ndata: [DO"]);
        assert_eq!(found, [&b"data: 1\n\n"[..], b"event: x\r\ndata: 2\r\n\r\n", b": comment\n\n"]);
        assert_eq!(rest, b"data: [DO");
    }

    #[test]
    fn the_payload_is_found_behind_other_fields() {
        assert_eq!(data_of(b"data: {}\n\n"), Some(&b"{}"[..]));
        assert_eq!(data_of(b"event: error\r\ndata:{}\r\n\r\n"), Some(&b"{}"[..]));
        assert_eq!(data_of(b": keep-alive\n\n"), None);
    }

    #[test]
    fn an_endless_event_is_refused_at_its_bound() {
        let mut splitter = SseSplitter::default();
        let piece = Bytes::from(vec![b'x'; 1 << 20]);
        let refused = (0..6).map(|_| {
            let pushed = splitter.push(piece.clone());
            assert_eq!(splitter.next_event(), None);
            pushed
        });
        assert!(refused.collect::<Result<Vec<_>, _>>().is_err());
    }

    proptest! {
        /// Any split of any bytes gives the same events, and no byte is lost.
        #[test]
        fn any_split_gives_the_same_events(
            bytes in proptest::collection::vec(prop_oneof![3 => Just(b'\n'), 1 => Just(b'\r'), 3 => Just(b'd'), 1 => any::<u8>()], 0..120),
            cuts in proptest::collection::vec(0usize..120, 0..6),
        ) {
            let mut at: Vec<usize> = cuts.into_iter().map(|c| c.min(bytes.len())).collect();
            at.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in at {
                pieces.push(&bytes[from..cut]);
                from = cut;
            }
            pieces.push(&bytes[from..]);

            let split = events(&pieces);
            let whole = events(&[&bytes]);

            prop_assert_eq!(&split, &whole);
            let mut all = split.0.concat();
            all.extend(split.1);
            prop_assert_eq!(all, bytes);
        }
    }
}
