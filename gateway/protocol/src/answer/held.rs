//! The last chunk of a choice, held back until the event behind it is there.
//!
//! Usage is asked for always, and engines put what they tell at the end into the chunk with the usage: `timings`,
//! `system_fingerprint`. A client that asked for no usage does not get that chunk, because many read `choices[0]` of
//! whatever comes. What else is in it belongs to the chunk before, where the engine would have put it: so that one waits
//! for a moment. It holds one event, and whatever comes next lets it go.

use crate::json::members;
use bytes::BytesMut;

/// Members that every chunk has, or that are not the client's to see.
const OF_EVERY_CHUNK: [&str; 7] = ["id", "object", "created", "model", "choices", "usage", "service_tier"];

/// A chunk that waits, as the client gets it.
#[derive(Debug, Default)]
pub(super) struct Held {
    event: BytesMut,
    /// Bytes behind the JSON in it.
    behind: usize,
}

impl Held {
    /// Keeps what was appended to `out` from `from` on: an event with `behind` bytes after its JSON.
    pub(super) fn keep(&mut self, out: &mut BytesMut, from: usize, behind: usize) {
        if from <= out.len() {
            self.event = out.split_off(from);
            self.behind = behind;
        }
    }

    /// Lets it go.
    pub(super) fn release(&mut self, out: &mut BytesMut) {
        if !self.event.is_empty() {
            out.extend_from_slice(&std::mem::take(&mut self.event));
        }
    }

    /// Takes over the members of `chunk` that it has not itself. O(bytes of both).
    pub(super) fn take_over(&mut self, chunk: &str) {
        let Some(end) = self.event.len().checked_sub(self.behind) else { return };
        let Some(begin) = memchr::memchr(b'{', &self.event) else { return };
        let own = members::inside(&self.event, begin..end);
        let others = members::inside(chunk.as_bytes(), 0..chunk.len());
        let (Some(own), Some(others)) = (own, others) else { return };
        let mut moved = Vec::new();
        for member in &others {
            let name = member.name(chunk.as_bytes());
            let is_new = own.iter().all(|own| own.name(&self.event) != name);
            if is_new && !OF_EVERY_CHUNK.contains(&name) {
                moved.push(b',');
                moved.extend_from_slice(chunk.as_bytes().get(member.span()).unwrap_or_default());
            }
        }
        let tail = self.event.split_off(end.saturating_sub(1));
        self.event.extend_from_slice(&moved);
        self.event.extend_from_slice(&tail);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(event: &str, behind: usize, chunk: &str) -> String {
        let mut out = BytesMut::from(format!("before{event}").as_bytes());
        let mut held = Held::default();
        held.keep(&mut out, 6, behind);
        assert_eq!(&out[..], b"before");
        held.take_over(chunk);
        held.release(&mut out);
        held.release(&mut out);
        String::from_utf8(out.to_vec()).unwrap().replacen("before", "", 1)
    }

    #[test]
    fn what_is_new_is_taken_over_at_the_end_and_what_is_there_stays() {
        let chunk = r#"{"id":"2","choices":[],"usage":{"x":1},"fp":"b","timings":{"n":3},"es\"c" : 1}"#;
        assert_eq!(
            merged("data: {\"id\":\"1\",\"fp\":\"a\"}\r\n\r\n", 4, chunk),
            "data: {\"id\":\"1\",\"fp\":\"a\",\"timings\":{\"n\":3},\"es\\\"c\" : 1}\r\n\r\n"
        );
        assert_eq!(merged("data: {\"id\":1}\n\n", 2, "not JSON"), "data: {\"id\":1}\n\n");
    }
}
