//! Cuts a server-sent-event stream into events as the standard says, however the bytes arrive.
//!
//! Lines end in LF, CRLF or CR; an event ends at an empty line. Bytes that hold whole events are not copied: the
//! event is a slice of what was read. Only an event that arrives in pieces is put together, up to a bound.
//!
//! A CR at the end of what was read may be half of a CRLF. For the empty line that ends an event the line before it
//! tells: after a CR alone the event ends at once, because in such a stream nothing else may follow; else the next
//! byte is waited for.
//!
//! # Guarantees
//! - Any way of splitting the bytes gives the same events.
//! - O(bytes) in all: a byte is searched once, a CR at the end of a piece twice.
//! - At most [`EVENT_BYTES_MAX`] bytes are held.

use bytes::{Bytes, BytesMut};
use std::borrow::Cow;

/// Longest event that is put together, bytes. Ordinary ones have a few hundred; the one that ends a stream of the
/// Responses API repeats the whole answer, and pictures and speech come in events of several megabytes.
pub const EVENT_BYTES_MAX: usize = 32 << 20;

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
    search: Search,
}

/// State of the search for the end of the first event.
#[derive(Debug, Default)]
struct Search {
    /// Bytes that were searched without finding it.
    searched: usize,
    /// Where the line that is being searched begins.
    line: usize,
    /// Set where the line before it ended in a CR alone.
    after_cr: bool,
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

    /// Bytes of events that are not whole yet.
    #[must_use]
    pub fn held(&self) -> usize {
        self.fresh.len() + self.pending.len()
    }

    /// The next whole event with its closing empty line.
    pub fn next_event(&mut self) -> Option<Bytes> {
        let held: &[u8] = if self.pending.is_empty() { &self.fresh } else { &self.pending };
        match self.search.event_end(held) {
            Some(end) => {
                self.search = Search::default();
                Some(if self.pending.is_empty() {
                    self.fresh.split_to(end)
                } else {
                    let event = self.pending.split_to(end).freeze();
                    if self.pending.is_empty() {
                        // It would keep the event's buffer for as long as the stream.
                        self.pending = BytesMut::new();
                    }
                    event
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
        self.search = Search::default();
        if self.pending.is_empty() { std::mem::take(&mut self.fresh) } else { self.pending.split().freeze() }
    }
}

impl Search {
    /// One past the empty line that ends the first event in `held`. Empty lines before the event belong to it.
    fn event_end(&mut self, held: &[u8]) -> Option<usize> {
        while let Some(found) = memchr::memchr2(b'\n', b'\r', held.get(self.searched..)?) {
            let at = self.searched + found;
            let ends_event = at == self.line && self.line > 0;
            let is_cr = held.get(at) == Some(&b'\r');
            if is_cr && ends_event && self.after_cr {
                return Some(at + 1);
            }
            let next = held.get(at + 1);
            if is_cr && next.is_none() {
                self.searched = at;
                return None;
            }
            let is_crlf = is_cr && next == Some(&b'\n');
            let end = at + 1 + usize::from(is_crlf);
            if ends_event {
                return Some(end);
            }
            (self.searched, self.line, self.after_cr) = (end, end, is_cr && !is_crlf);
        }
        self.searched = held.len();
        None
    }
}

/// The payload of an event.
#[derive(Debug, PartialEq, Eq)]
pub enum Payload<'a> {
    /// It has none: a comment, or a name alone.
    None,
    /// Its only `data:` line, without the optional space and the line end.
    Line(&'a [u8]),
    /// Several `data:` lines.
    Lines,
}

/// The payload of `event`, which begins after a byte order mark, if any.
#[must_use]
pub fn payload(event: &[u8]) -> Payload<'_> {
    let mut found = Payload::None;
    let mut rest = event;
    while !rest.is_empty() {
        let line = take_line(&mut rest);
        if let Some(data) = data_in(line) {
            if found != Payload::None {
                return Payload::Lines;
            }
            found = Payload::Line(data);
        }
    }
    found
}

/// Returns `true` for an event with the name `error`.
#[must_use]
pub fn is_named_error(event: &[u8]) -> bool {
    let mut rest = event;
    while !rest.is_empty() {
        if let Some(name) = take_line(&mut rest).strip_prefix(b"event:") {
            return name.trim_ascii() == b"error";
        }
    }
    false
}

/// The event with its `data:` lines as one, behind its other fields. JSON has line breaks between its tokens only, so
/// that they become spaces; all lines end in LF. O(bytes); allocates.
#[must_use]
pub fn on_one_line(event: &[u8]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(event.len() + 2);
    let mut payload: Vec<u8> = Vec::with_capacity(event.len());
    let mut rest = event;
    while !rest.is_empty() {
        let line = take_line(&mut rest);
        match data_in(line) {
            Some(data) => {
                payload.push(b' ');
                payload.extend_from_slice(data);
            }
            None if line.is_empty() => {}
            None => {
                joined.extend_from_slice(line);
                joined.push(b'\n');
            }
        }
    }
    joined.extend_from_slice(b"data:");
    joined.extend_from_slice(&payload);
    joined.extend_from_slice(b"\n\n");
    joined
}

/// The event with an empty line behind it, where it has none.
#[must_use]
pub fn closed(event: &[u8]) -> Cow<'_, [u8]> {
    let whole = [&b"\n\n"[..], b"\r\n\r\n", b"\r\r"].iter().any(|end| event.ends_with(end));
    if whole { Cow::Borrowed(event) } else { Cow::Owned([event.trim_ascii_end(), b"\n\n"].concat()) }
}

/// The next line without its end.
fn take_line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = memchr::memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
    let (line, after) = rest.split_at(end);
    let end = if after.starts_with(b"\r\n") { 2 } else { 1 };
    *rest = after.get(end..).unwrap_or_default();
    line
}

/// Returns the value of a `data` line.
fn data_in(line: &[u8]) -> Option<&[u8]> {
    let after = line.strip_prefix(b"data")?;
    if after.is_empty() {
        return Some(after);
    }
    let value = after.strip_prefix(b":")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
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
        for event in [
            &b"data: {}\n\n"[..],
            b"event: error\r\ndata:{}\r\n\r\n",
            b"id: 1\rretry: 5\rdata: {}\r\r",
            b"\n: note\ndatum: no\ndata: {}\n\n",
            b"data: {}",
        ] {
            assert_eq!(payload(event), Payload::Line(b"{}"), "{}", String::from_utf8_lossy(event));
        }
        assert_eq!(payload(b": keep-alive\n\n"), Payload::None);
        assert_eq!(payload(b"event: ping\n\n"), Payload::None);
        assert_eq!(payload(b"data\n\n"), Payload::Line(b""));
    }

    /// A CR alone ends lines, too, and the event is there with its last byte, not with the first of the next one.
    #[test]
    fn case_r11_events_whose_lines_end_in_cr_are_cut_at_once() {
        let (found, rest) = events(&[b"data: 1\r\r", b"event: x\rdata: 2\r", b"\r", b"data: [DONE]\r\r"]);
        assert_eq!(found, [&b"data: 1\r\r"[..], b"event: x\rdata: 2\r\r", b"data: [DONE]\r\r"]);
        assert_eq!(rest, b"");
    }

    #[test]
    fn case_r11_a_crlf_that_comes_in_two_pieces_is_one_line_end() {
        let (found, rest) = events(&[b"data: 1\r", b"\n\r", b"\ndata: 2\r\n\r", b"\n"]);
        assert_eq!(found, [b"data: 1\r\n\r\n", b"data: 2\r\n\r\n"]);
        assert_eq!(rest, b"");
    }

    #[test]
    fn case_r11_several_data_lines_become_one() {
        let event = b"event: x\r\ndata: {\r\ndata:\"a\":\r\nid: 7\r\ndata: 1}\r\n\r\n";
        assert_eq!(payload(event), Payload::Lines);
        assert_eq!(on_one_line(event), b"event: x\nid: 7\ndata: { \"a\": 1}\n\n");
    }

    #[test]
    fn the_name_of_an_error_is_found_before_and_behind_its_payload() {
        for event in [&b"event: error\ndata: {}\n\n"[..], b"data: {}\revent:error\r\r"] {
            assert!(is_named_error(event));
        }
        for event in [&b"data: event: error\n\n"[..], b"event: errors\n\n", b": event: error\n\n"] {
            assert!(!is_named_error(event));
        }
    }

    #[test]
    fn a_last_event_gets_the_empty_line_that_it_lacks() {
        for event in [&b"data: 1"[..], b"data: 1\n", b"data: 1\r\n", b"data: 1\n\n"] {
            assert_eq!(&*closed(event), b"data: 1\n\n");
        }
        assert_eq!(&*closed(b"data: 1\r\r"), b"data: 1\r\r");
    }

    /// Case F06: events of several megabytes are ordinary where an answer is repeated at the end.
    #[test]
    fn case_f06_an_event_of_six_megabytes_passes() {
        let event = [b"data: ".to_vec(), vec![b'x'; 6_000_000], b"\n\n".to_vec()].concat();
        let pieces: Vec<&[u8]> = event.chunks(16 << 10).collect();
        let (found, rest) = events(&pieces);
        assert!(found == [event.clone()] && rest.is_empty());
    }

    #[test]
    fn an_endless_event_is_refused_at_its_bound() {
        let mut splitter = SseSplitter::default();
        let piece = Bytes::from(vec![b'x'; 1 << 20]);
        let refused = (0..=EVENT_BYTES_MAX >> 20).map(|_| {
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
            bytes in proptest::collection::vec(prop_oneof![3 => Just(b'\n'), 3 => Just(b'\r'), 3 => Just(b'd'), 1 => any::<u8>()], 0..120),
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

        /// Whichever way lines end and bytes are split, the payloads are those of the standard.
        #[test]
        fn case_r11_every_line_end_gives_the_same_payloads(
            texts in proptest::collection::vec("[a-z :]{0,6}", 1..6),
            end in 0..3usize,
            cuts in proptest::collection::vec(0usize..200, 0..9),
        ) {
            let end = ["\n", "\r\n", "\r"][end];
            let stream: String = texts.iter().map(|text| format!("id: 1{end}data: {text}{end}{end}")).collect();
            let mut at: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            at.extend([0, stream.len()]);
            at.sort_unstable();
            let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &stream.as_bytes()[pair[0]..pair[1]]).collect();

            let (found, rest) = events(&pieces);

            prop_assert!(rest.is_empty());
            let payloads: Vec<Payload<'_>> = found.iter().map(|event| payload(event)).collect();
            let expected: Vec<Payload<'_>> = texts.iter().map(|text| Payload::Line(text.as_bytes())).collect();
            prop_assert_eq!(payloads, expected);
        }
    }
}
