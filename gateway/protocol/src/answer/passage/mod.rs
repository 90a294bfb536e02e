//! Edits a whole answer while it passes, piece by piece, without ever holding it.
//!
//! Routes without output answer with one JSON object that can be large: 1,400 embeddings of 4,096 numbers are 80 MB. Of
//! it only a few members at the top matter. [`Passage`] follows strings, escapes and depth over pieces that may be split
//! anywhere, and recognises keys of the outermost object only:
//!
//! - `service_tier` becomes the served tier. It is written as the first member, because nobody knows yet whether one will
//!   come; a later one is left out with the comma before it. One that is itself first is replaced in its place.
//! - `model` becomes the name that the client used, where the engine knows it by another.
//! - `usage` passes and is read.
//! - `error`, other than `null`, passes and is read. A caller that holds back the first [`HEAD_MAX`] bytes before it sends
//!   any still tells an error with a 200 apart.
//!
//! Everything else stays byte for byte. For an answer without `service_tier`, or with it in the first place, the bytes are
//! those of [`read_whole`](super::read_whole). The members are those of OpenAI's APIs.
//!
//! ```
//! use bytes::Bytes;
//! use protocol::answer::Stamp;
//! use protocol::answer::passage::{Ending, Passage};
//! use shedder::Tier;
//!
//! let mut passage = Passage::new(Stamp::of(Tier::Regular));
//! let mut sent = Vec::new();
//! for piece in [r#"{"data":[[0.5,"#, r#"0.25]],"usage":{"total_to"#, r#"kens":7}}"#] {
//!     sent.extend_from_slice(&passage.push(Bytes::from_static(piece.as_bytes())));
//!     // Once as much as `HEAD_MAX` is held, or at the end, and before anything is sent:
//!     assert!(!passage.is_unreadable() && passage.error().is_none());
//! }
//! let (rest, ending) = passage.finish();
//! sent.extend_from_slice(&rest);
//!
//! assert_eq!(ending, Ending::Complete);
//! assert_eq!(passage.usage().map(|usage| usage.prompt), Some(7));
//! assert_eq!(sent, br#"{"service_tier":"default","data":[[0.5,0.25]],"usage":{"total_tokens":7}}"#);
//! ```
//!
//! # Guarantees
//!
//! - Cost: O(bytes); strings are jumped over with `memchr`, numbers are passed 64 bytes at a time. A piece in which nothing
//!   is edited is returned as it came; one with an edit, or with a comma of the outermost object, is copied once.
//! - Memory: at most [`HELD_MAX`] and a key of bytes held back, and [`CAPTURE_MAX`] for each member that is read.
//! - Where the pieces are split makes no difference to the bytes.
//! - What turns out to be malformed passes as it came from there on, and [`Passage::finish`] says that it is incomplete.
//!   Values are not validated beyond strings and the number of open brackets.

mod output;

#[cfg(test)]
mod differential;

use crate::answer::Stamp;
use crate::answer::edits::Written;
use crate::answer::upstream_error::UpstreamError;
use crate::answer::usage::Usage;
use bytes::Bytes;
use output::{Output, blanks, plain_part, string_part};

/// Bytes of an answer that a caller holds back to tell an error from an answer.
pub const HEAD_MAX: usize = 64 * 1024;
/// Most bytes kept of one member that is read. A usage that is longer is not known, an error that is longer has no words.
pub const CAPTURE_MAX: usize = 64 * 1024;
/// Most bytes held back of white space before a key, and of a value that is replaced or left out.
pub const HELD_MAX: usize = 1024;
/// Most bytes of a key that decides something: twelve characters, each an escape, and two quotes.
const KEY_MAX: usize = 12 * 6 + 2;

/// The end of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// One object, closed, with nothing but white space behind it.
    Complete,
    /// It stopped before its end, or is not JSON.
    Incomplete,
    /// It did not begin as an object.
    Unreadable,
}

/// A position in the outermost object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the object.
    Start,
    /// Before a key.
    Key,
    /// In a key that is held back.
    InKey,
    /// In a key too long to matter.
    InLongKey,
    /// Between a key and its colon.
    Colon,
    /// Between a colon and its value.
    Value,
    /// In a value that is a string.
    Text,
    /// In a value that is a number, `true`, `false` or `null`.
    Scalar,
    /// In an array or an object, or in a string there.
    Nested { depth: u64, in_string: bool },
    /// Behind a value.
    Comma,
    /// Behind the object.
    End,
    /// Behind something that is not JSON.
    Broken,
    /// Behind something that is no object.
    Unreadable,
}

/// A member that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Read {
    Usage,
    Error,
    ErrorType,
}

/// The treatment of the current member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Treatment {
    Pass,
    Read(Read),
    WriteTier,
    WriteModel,
    Drop,
}

/// A value that is read while it passes.
#[derive(Debug, Default)]
struct Capture {
    /// At most [`CAPTURE_MAX`].
    bytes: Vec<u8>,
    cut: bool,
}

impl Capture {
    fn clear(&mut self) {
        self.bytes.clear();
        self.cut = false;
    }

    fn extend(&mut self, bytes: &[u8]) {
        let room = CAPTURE_MAX.saturating_sub(self.bytes.len());
        self.cut |= bytes.len() > room;
        self.bytes.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    }

    /// The value. `None`: it was too long, or is not UTF-8.
    fn json(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok().filter(|_| !self.cut)
    }

    /// Whether something other than `null` has begun.
    fn is_set(&self) -> bool {
        !b"null".starts_with(&self.bytes)
    }
}

/// One answer on its way through.
#[derive(Debug)]
pub struct Passage {
    tier: Written,
    model: Option<Box<str>>,
    place: Place,
    treatment: Treatment,
    /// Whether no key has been decided on yet.
    first: bool,
    /// Whether the last byte of the current string was a backslash that escapes the next one.
    escaped: bool,
    /// Whether the comma before the current member is held back.
    comma: bool,
    /// What else is held back, behind the comma.
    held: Vec<u8>,
    /// Bytes of white space before the current key.
    blanks: usize,
    /// Where in `held` the key begins.
    key_at: usize,
    usage: Option<Usage>,
    raw_usage: Capture,
    error: Capture,
    error_type: Capture,
}

impl Passage {
    /// An answer of which nothing has come.
    #[must_use]
    pub fn new(stamp: Stamp<'_>) -> Passage {
        Passage {
            tier: stamp.openai_tier(),
            model: stamp.model.map(Box::from),
            place: Place::Start,
            treatment: Treatment::Pass,
            first: true,
            escaped: false,
            comma: false,
            held: Vec::new(),
            blanks: 0,
            key_at: 0,
            usage: None,
            raw_usage: Capture::default(),
            error: Capture::default(),
            error_type: Capture::default(),
        }
    }

    /// Takes the next piece and returns what the client gets for it; it may be empty. O(bytes).
    pub fn push(&mut self, piece: Bytes) -> Bytes {
        let mut out = Output::new(&piece);
        while !out.rest().is_empty() {
            match self.place {
                Place::Start => self.start(&mut out),
                Place::Key => self.before_key(&mut out),
                Place::InKey => self.in_key(&mut out),
                Place::InLongKey => self.in_long_key(&mut out),
                Place::Colon => self.before_colon(&mut out),
                Place::Value => self.before_value(&mut out),
                Place::Text => self.in_text(&mut out),
                Place::Scalar => self.in_scalar(&mut out),
                Place::Nested { depth, in_string } => self.in_nested(&mut out, depth, in_string),
                Place::Comma => self.behind_value(&mut out),
                Place::End => self.behind_object(&mut out),
                Place::Broken | Place::Unreadable => out.pass(out.rest().len()),
            }
        }
        out.finish()
    }

    /// Ends the answer. Returns what was still held back, empty where the answer is complete.
    pub fn finish(&mut self) -> (Bytes, Ending) {
        let ending = match self.place {
            Place::End => Ending::Complete,
            Place::Start | Place::Unreadable => Ending::Unreadable,
            _ => Ending::Incomplete,
        };
        let nothing = Bytes::new();
        let mut out = Output::new(&nothing);
        self.release(&mut out);
        (out.finish(), ending)
    }

    /// Whether the answer did not begin as an object.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        self.place == Place::Unreadable
    }

    /// The usage, where it came, the last of several.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// The error that the answer carries instead of a result, where its value has at least begun.
    ///
    /// One that has not yet ended has no words: ask when the head is complete, not after each piece. Parses and allocates.
    #[must_use]
    pub fn error(&self) -> Option<UpstreamError> {
        if !self.error.is_set() {
            return None;
        }
        let read = self.error.json().and_then(|error| {
            // TGI names the kind beside the error.
            let kind = self.error_type.json().filter(|kind| !kind.is_empty()).unwrap_or("null");
            UpstreamError::from_json(&format!(r#"{{"error":{error},"error_type":{kind}}}"#))
                .or_else(|| UpstreamError::from_json(&format!(r#"{{"error":{error}}}"#)))
        });
        Some(read.unwrap_or_else(UpstreamError::without_message))
    }

    fn start(&mut self, out: &mut Output<'_>) {
        out.pass(blanks(out.rest()));
        match out.rest().first() {
            None => {}
            Some(b'{') => {
                out.pass(1);
                self.place = Place::Key;
            }
            Some(_) => self.place = Place::Unreadable,
        }
    }

    fn before_key(&mut self, out: &mut Output<'_>) {
        let count = blanks(out.rest());
        self.blanks += count;
        if self.blanks > HELD_MAX {
            // White space may as well stand before the comma.
            out.write(&self.held);
            self.held.clear();
            out.pass(count);
        } else {
            self.hold(out, count);
        }
        match out.rest().first() {
            None => {}
            Some(b'"') => {
                self.key_at = self.held.len();
                self.hold(out, 1);
                self.place = Place::InKey;
            }
            Some(b'}') if self.first => {
                out.write(self.tier.member.trim_end_matches(',').as_bytes());
                self.release(out);
                out.pass(1);
                self.place = Place::End;
            }
            Some(_) => self.break_off(out),
        }
    }

    fn in_key(&mut self, out: &mut Output<'_>) {
        let (length, closed) = string_part(out.rest(), &mut self.escaped);
        if self.held.len() - self.key_at + length > KEY_MAX {
            self.decide(Treatment::Pass, out);
            out.pass(length);
            self.place = if closed { Place::Colon } else { Place::InLongKey };
            return;
        }
        self.hold(out, length);
        if closed {
            self.decide(self.treatment_of_key(), out);
            self.place = Place::Colon;
        }
    }

    fn in_long_key(&mut self, out: &mut Output<'_>) {
        let (length, closed) = string_part(out.rest(), &mut self.escaped);
        out.pass(length);
        if closed {
            self.place = Place::Colon;
        }
    }

    /// The treatment of the member whose key ends what is held.
    fn treatment_of_key(&self) -> Treatment {
        let raw = self.held.get(self.key_at..).unwrap_or_default();
        let unescaped: String;
        let key = if raw.contains(&b'\\') {
            unescaped = serde_json::from_slice(raw).unwrap_or_default();
            unescaped.as_bytes()
        } else {
            raw.get(1..raw.len() - 1).unwrap_or_default()
        };
        match key {
            b"service_tier" if self.first => Treatment::WriteTier,
            b"service_tier" => Treatment::Drop,
            b"model" if self.model.is_some() => Treatment::WriteModel,
            b"usage" => Treatment::Read(Read::Usage),
            b"error" => Treatment::Read(Read::Error),
            b"error_type" => Treatment::Read(Read::ErrorType),
            _ => Treatment::Pass,
        }
    }

    fn decide(&mut self, treatment: Treatment, out: &mut Output<'_>) {
        if self.first && treatment != Treatment::WriteTier {
            out.write(self.tier.member.as_bytes());
        }
        self.first = false;
        self.treatment = treatment;
        if treatment != Treatment::Drop {
            self.release(out);
        }
        if let Treatment::Read(member) = treatment {
            self.capture(member).clear();
        }
    }

    fn before_colon(&mut self, out: &mut Output<'_>) {
        self.take_blanks(out);
        match out.rest().first() {
            None => {}
            Some(b':') => {
                self.take_between(out, 1);
                self.place = Place::Value;
            }
            Some(_) => self.break_off(out),
        }
    }

    fn before_value(&mut self, out: &mut Output<'_>) {
        self.take_blanks(out);
        let Some(&byte) = out.rest().first() else { return };
        self.place = match byte {
            b'"' => Place::Text,
            b'{' | b'[' => Place::Nested { depth: 1, in_string: false },
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => Place::Scalar,
            _ => return self.break_off(out),
        };
        self.take_value(out, 1);
    }

    fn in_text(&mut self, out: &mut Output<'_>) {
        let (length, closed) = string_part(out.rest(), &mut self.escaped);
        self.take_value(out, length);
        if closed {
            self.end_value(out);
        }
    }

    fn in_scalar(&mut self, out: &mut Output<'_>) {
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let rest = out.rest();
        let length = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        let ended = length < rest.len();
        self.take_value(out, length);
        if ended {
            self.end_value(out);
        }
    }

    fn in_nested(&mut self, out: &mut Output<'_>, mut depth: u64, mut in_string: bool) {
        let rest = out.rest();
        let mut length = 0;
        while depth > 0 {
            let ahead = rest.get(length..).unwrap_or_default();
            if ahead.is_empty() {
                break;
            }
            if in_string {
                let (part, closed) = string_part(ahead, &mut self.escaped);
                length += part;
                in_string = !closed;
                continue;
            }
            let plain = plain_part(ahead);
            match ahead.get(plain) {
                None => {}
                Some(b'"') => in_string = true,
                Some(b'{' | b'[') => depth += 1,
                Some(_) => depth -= 1,
            }
            length = (length + plain + 1).min(rest.len());
        }
        self.place = Place::Nested { depth, in_string };
        self.take_value(out, length);
        if depth == 0 {
            self.end_value(out);
        }
    }

    fn end_value(&mut self, out: &mut Output<'_>) {
        self.place = Place::Comma;
        match std::mem::replace(&mut self.treatment, Treatment::Pass) {
            Treatment::WriteTier => out.write(self.tier.value.as_bytes()),
            Treatment::WriteModel => out.write(self.model.as_deref().unwrap_or_default().as_bytes()),
            Treatment::Drop => self.comma = false,
            Treatment::Read(Read::Usage) => {
                self.usage = self.raw_usage.json().and_then(Usage::from_openai).or(self.usage);
            }
            Treatment::Pass | Treatment::Read(_) => {}
        }
        self.held.clear();
    }

    fn behind_value(&mut self, out: &mut Output<'_>) {
        out.pass(blanks(out.rest()));
        match out.rest().first() {
            None => {}
            Some(b',') => {
                out.skip(1);
                self.comma = true;
                self.blanks = 0;
                self.place = Place::Key;
            }
            Some(b'}') => {
                out.pass(1);
                self.place = Place::End;
            }
            Some(_) => self.break_off(out),
        }
    }

    fn behind_object(&mut self, out: &mut Output<'_>) {
        out.pass(blanks(out.rest()));
        if !out.rest().is_empty() {
            self.break_off(out);
        }
    }

    /// Takes white space between a key and its value.
    fn take_blanks(&mut self, out: &mut Output<'_>) {
        self.take_between(out, blanks(out.rest()));
    }

    fn take_between(&mut self, out: &mut Output<'_>, count: usize) {
        match self.treatment {
            Treatment::Drop => self.hold(out, count),
            _ => out.pass(count),
        }
    }

    fn take_value(&mut self, out: &mut Output<'_>, count: usize) {
        match self.treatment {
            Treatment::Pass => out.pass(count),
            Treatment::Read(member) => {
                self.capture(member).extend(out.ahead(count));
                out.pass(count);
            }
            Treatment::WriteTier | Treatment::WriteModel | Treatment::Drop => self.hold(out, count),
        }
    }

    fn capture(&mut self, member: Read) -> &mut Capture {
        match member {
            Read::Usage => &mut self.raw_usage,
            Read::Error => &mut self.error,
            Read::ErrorType => &mut self.error_type,
        }
    }

    /// Holds back the next bytes, as many of them as there is room for.
    fn hold(&mut self, out: &mut Output<'_>, count: usize) {
        let room = (HELD_MAX + KEY_MAX).saturating_sub(self.held.len());
        self.held.extend_from_slice(out.ahead(count.min(room)));
        out.skip(count);
    }

    /// Writes what is held back.
    fn release(&mut self, out: &mut Output<'_>) {
        if std::mem::take(&mut self.comma) {
            out.write(b",");
        }
        out.write(&self.held);
        self.held.clear();
    }

    fn break_off(&mut self, out: &mut Output<'_>) {
        self.release(out);
        self.place = Place::Broken;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shedder::Tier;

    pub(super) const STAMP: Stamp<'static> = Stamp::of(Tier::Regular);
    pub(super) const NAMED: Stamp<'static> = Stamp { model: Some("\"llama\""), ..STAMP };

    /// `body` in pieces that end at `cuts`, and all that was learnt.
    pub(super) struct Passed {
        pub(super) output: String,
        pub(super) ending: Ending,
        pub(super) passage: Passage,
    }

    pub(super) fn pass(body: &[u8], cuts: &[usize], stamp: Stamp<'_>) -> Passed {
        let mut passage = Passage::new(stamp);
        let (mut output, mut from) = (Vec::new(), 0);
        for &cut in cuts.iter().chain([&body.len()]) {
            output.extend_from_slice(&passage.push(Bytes::copy_from_slice(&body[from..cut])));
            from = cut;
        }
        let (rest, ending) = passage.finish();
        output.extend_from_slice(&rest);
        Passed { output: String::from_utf8_lossy(&output).into_owned(), ending, passage }
    }

    pub(super) fn pass_whole(body: &str, stamp: Stamp<'_>) -> Passed {
        pass(body.as_bytes(), &[], stamp)
    }

    #[test]
    fn case_f06_an_answer_of_many_pieces_is_never_held_and_its_inner_pieces_are_not_copied() {
        let head = Bytes::from_static(br#"{"object":"list","model":"/m","data":[{"embedding":["#);
        let inner = Bytes::from("0.125,-1.5e-3,".repeat(4096));
        let tail = Bytes::from_static(br#"1]}],"usage":{"prompt_tokens":9,"total_tokens":9}}"#);
        let mut passage = Passage::new(NAMED);

        assert_eq!(
            passage.push(head),
            r#"{"service_tier":"default","object":"list","model":"llama","data":[{"embedding":["#
        );
        for _ in 0..100 {
            let passed = passage.push(inner.clone());
            assert_eq!((passed.as_ptr(), passed.len()), (inner.as_ptr(), inner.len()));
        }
        assert_eq!(passage.push(tail.clone()), tail);
        assert_eq!(passage.finish(), (Bytes::new(), Ending::Complete));
        assert_eq!(passage.usage().map(|usage| usage.prompt), Some(9));
        assert_eq!(passage.error(), None);
    }

    #[test]
    fn the_served_tier_is_the_first_member_whatever_the_engine_wrote_and_where() {
        for (body, expected) in [
            (r#"{}"#, r#"{"service_tier":"default"}"#),
            (r#"{ }"#, r#"{"service_tier":"default" }"#),
            (r#"{ "a":1}"#, r#"{"service_tier":"default", "a":1}"#),
            (r#"{ "service_tier" : null , "a":1}"#, r#"{ "service_tier" : "default" , "a":1}"#),
            (r#"{"a":1 , "service_tier":"x" , "b":2}"#, r#"{"service_tier":"default","a":1  , "b":2}"#),
            (r#"{"a":1,"service_tier":{"x":[1]}}"#, r#"{"service_tier":"default","a":1}"#),
            (r#"{"a":1,"service\u005ftier":7}"#, r#"{"service_tier":"default","a":1}"#),
            (r#"{"service_tier":1,"service_tier":2}"#, r#"{"service_tier":"default"}"#),
        ] {
            let passed = pass_whole(body, STAMP);
            assert_eq!((&*passed.output, passed.ending), (expected, Ending::Complete), "{body}");
        }
    }

    #[test]
    fn members_of_inner_objects_and_texts_that_look_like_members_stay() {
        let inner =
            r#"[{"model":"x","service_tier":1,"usage":{"total_tokens":1},"error":"y"},"\",\"model\":1"]"#;
        let passed = pass_whole(&format!(r#"{{"data":{inner}}}"#), NAMED);
        assert_eq!(passed.output, format!(r#"{{"service_tier":"default","data":{inner}}}"#));
        assert_eq!((passed.passage.usage(), passed.passage.error()), (None, None));
    }

    #[test]
    fn an_error_with_a_200_is_told_apart_before_anything_is_sent() {
        for body in [
            r#"{"object":"x","error":{"message":"busy","type":"overloaded","code":503},"data":[1,"#,
            r#"{"error":"busy","error_type":"overloaded"}"#,
        ] {
            assert!(pass_whole(body, STAMP).passage.error().is_some_and(|error| error.busy), "{body}");
        }
        let endless = format!(r#"{{"error":{{"message":"{}"#, "x".repeat(2 * CAPTURE_MAX));
        assert_eq!(pass_whole(&endless, STAMP).passage.error(), Some(UpstreamError::without_message()));
        for no_error in [r#"{"error":null,"data":[]}"#, r#"{"error":nul"#, r#"{"data":[{"error":1}]}"#] {
            assert_eq!(pass_whole(no_error, STAMP).passage.error(), None, "{no_error}");
        }
    }

    #[test]
    fn a_usage_beyond_the_bound_passes_and_is_not_known() {
        let body = format!(r#"{{"usage":{{"total_tokens":1,"x":"{}"}}}}"#, "y".repeat(CAPTURE_MAX));
        let passed = pass_whole(&body, STAMP);
        assert_eq!((passed.passage.usage(), passed.ending), (None, Ending::Complete));
        assert!(passed.output.ends_with(&body[1..]));
    }

    #[test]
    fn what_does_not_begin_as_an_object_is_unreadable() {
        for body in ["", "  ", "<html>", "[1]", "7", "\"{\""] {
            let passed = pass_whole(body, STAMP);
            assert_eq!((&*passed.output, passed.ending), (body, Ending::Unreadable));
            assert_eq!(passed.passage.is_unreadable(), !body.trim().is_empty());
        }
    }

    #[test]
    fn what_is_malformed_passes_as_it_came_from_there_on_and_is_incomplete() {
        for body in [
            r#"{"a":1,}"#,
            r#"{"a":1 2}"#,
            r#"{"a" 1}"#,
            r#"{"a":}"#,
            r#"{"a":1]"#,
            r#"{"a":1}}"#,
            r#"{"a":1} x"#,
            r#"{"a":1,,"b":2}"#,
            r#"{"a":1,"service_tier" 5}"#,
            r#"{"a":1,"service_tier":"default"#,
            r#"{"a":1,"model":{"x":1"#,
            r#"{"a":[1,2"#,
        ] {
            let passed = pass_whole(body, NAMED);
            let expected = body.replacen('{', r#"{"service_tier":"default","#, 1);
            assert_eq!((passed.output, passed.ending), (expected, Ending::Incomplete));
        }
        assert_eq!(pass_whole("{,}", STAMP).output, "{,}");
    }

    #[test]
    fn white_space_and_keys_beyond_the_bound_are_not_held() {
        let (blank, key) = (" ".repeat(3 * HELD_MAX), "k".repeat(3 * HELD_MAX));
        let body = format!(r#"{{"a":1,{blank}"service_tier":null,{blank}"{key}":2}}"#);
        let expected = format!(r#"{{"service_tier":"default","a":1{blank}{blank},"{key}":2}}"#);
        for step in [1, 700, body.len()] {
            let mut passage = Passage::new(STAMP);
            let mut output = Vec::new();
            for piece in body.as_bytes().chunks(step) {
                output.extend_from_slice(&passage.push(Bytes::copy_from_slice(piece)));
                assert!(passage.held.len() <= HELD_MAX + KEY_MAX);
            }
            assert_eq!(passage.finish(), (Bytes::new(), Ending::Complete));
            assert_eq!(String::from_utf8(output).unwrap(), expected, "pieces of {step}");
        }
    }
}
