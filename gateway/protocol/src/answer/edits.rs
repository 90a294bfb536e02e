//! A few replacements in bytes that otherwise stay as they came.
//!
//! What an engine sends is not parsed into a tree and written again: values that we have to change are found as
//! slices of it, and only those bytes are exchanged. So numbers, escapes, order and unknown members stay byte for
//! byte.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::value::RawValue;

/// Most replacements in one event: tier, model, usage, timings.
const EDITS_MAX: usize = 4;

/// A member whose value we write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// The value.
    pub value: &'static str,
    /// The whole member with a comma behind it, for an object that has none of that name.
    pub member: &'static str,
}

/// Replacements in `source`, in any order, none overlapping another.
#[derive(Debug)]
pub struct Edits<'a> {
    source: &'a [u8],
    /// Start, end, replacement.
    edits: [(usize, usize, &'a str); EDITS_MAX],
    count: usize,
}

impl<'a> Edits<'a> {
    /// No replacement in `source` yet.
    #[must_use]
    pub fn new(source: &'a [u8]) -> Self {
        Edits { source, edits: [(0, 0, ""); EDITS_MAX], count: 0 }
    }

    /// Replaces `part`, which must be a slice of the source; one that is not changes nothing.
    pub fn replace(&mut self, part: &str, with: &'a str) {
        let Some(start) = (part.as_ptr() as usize).checked_sub(self.source.as_ptr() as usize) else { return };
        if start + part.len() > self.source.len() {
            return;
        }
        if let Some(slot) = self.edits.get_mut(self.count) {
            *slot = (start, start + part.len(), with);
            self.count += 1;
        }
    }

    /// Writes a member into `object`, a slice of the source: in place of its `present` value or as the first one.
    pub fn write_member(&mut self, object: &str, present: Option<&RawValue>, written: Written) {
        if let Some(value) = present {
            return self.replace(value.get(), written.value);
        }
        let Some(brace) = object.find('{') else { return };
        let (Some(after), Some(rest)) = (object.get(brace + 1..brace + 1), object.get(brace + 1..)) else {
            return;
        };
        let is_empty = rest.trim_start().starts_with('}');
        let member = if is_empty { written.member.trim_end_matches(',') } else { written.member };
        self.replace(after, member);
    }

    /// Takes out the members with these values, slices of the source, each with the comma that goes with it.
    pub fn remove_members(&mut self, mut values: [Option<&str>; 2]) {
        // In the order of their places: the comma behind a first member may be the one before the next.
        values.sort_by_key(|value| value.map(|value| value.as_ptr() as usize));
        let mut taken = 0;
        for value in values.into_iter().flatten() {
            let Some((start, end)) = self.member_with_comma(value, taken) else { continue };
            if let Some(slot) = self.edits.get_mut(self.count) {
                *slot = (start, end, "");
                self.count += 1;
                taken = end;
            }
        }
    }

    /// Returns the place of the member with `value`, with the comma before it, or behind it where all before `taken` is
    /// gone.
    fn member_with_comma(&self, value: &str, taken: usize) -> Option<(usize, usize)> {
        let start = (value.as_ptr() as usize).checked_sub(self.source.as_ptr() as usize)?;
        let end = start + value.len();
        let before = self.source.get(..start)?.trim_ascii_end().strip_suffix(b":")?;
        let key = before.trim_ascii_end().strip_suffix(b"\"")?;
        let key = memchr::memrchr(b'"', key)?;
        let before = self.source.get(..key)?.trim_ascii_end();
        if let Some(comma) = before.strip_suffix(b",").map(<[u8]>::len).filter(|comma| *comma >= taken) {
            return Some((comma, end));
        }
        let behind = self.source.get(end..)?;
        let blanks = behind.len() - behind.trim_ascii_start().len();
        let comma = usize::from(behind.get(blanks) == Some(&b','));
        Some((key, end + if comma == 1 { blanks + 1 } else { 0 }))
    }

    /// Appends the source with its replacements to `out`. One copy.
    pub fn append_to(mut self, out: &mut BytesMut) {
        let edits = self.edits.get_mut(..self.count).unwrap_or_default();
        edits.sort_unstable_by_key(|(start, end, _)| (*start, *end));
        let mut from = 0;
        for (start, end, with) in edits {
            out.put_slice(self.source.get(from..*start).unwrap_or_default());
            out.put_slice(with.as_bytes());
            from = *end;
        }
        out.put_slice(self.source.get(from..).unwrap_or_default());
    }

    /// The source with its replacements.
    #[must_use]
    pub fn apply(self) -> Bytes {
        let grown: usize = self.edits.iter().map(|(.., with)| with.len()).sum();
        let mut out = BytesMut::with_capacity(self.source.len() + grown);
        self.append_to(&mut out);
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIER: Written = Written { value: "\"default\"", member: "\"service_tier\":\"default\"," };

    fn written(json: &str, present: Option<&str>) -> String {
        let mut edits = Edits::new(json.as_bytes());
        let at = present.map(|value| json.find(value).unwrap());
        let raw =
            at.map(|at| serde_json::from_str::<&RawValue>(&json[at..at + present.unwrap().len()]).unwrap());
        edits.write_member(json, raw, TIER);
        String::from_utf8(edits.apply().to_vec()).unwrap()
    }

    #[test]
    fn a_member_is_written_in_its_place_or_as_the_first() {
        assert_eq!(written(r#"{"a":1,"t":null}"#, Some("null")), r#"{"a":1,"t":"default"}"#);
        assert_eq!(written(r#"{"a":1}"#, None), r#"{"service_tier":"default","a":1}"#);
        assert_eq!(written("{ }", None), r#"{"service_tier":"default" }"#);
        assert_eq!(written("[]", None), "[]");
    }

    #[test]
    fn members_go_with_one_comma_each_wherever_they_are() {
        for (json, left) in [
            (r#"{"a":1,"u":{"x":2},"b":3}"#, r#"{"a":1,"b":3}"#),
            (r#"{"u" : 1 , "a":2}"#, r#"{ "a":2}"#),
            (r#"{"a":1 , "u":2 }"#, r#"{"a":1  }"#),
            (r#"{"u":1}"#, "{}"),
            (r#"{"u":1,"t":2,"a":3}"#, r#"{"a":3}"#),
            (r#"{"t":1,"u":2,"a":3}"#, r#"{"a":3}"#),
            (r#"{"a":1,"t":2,"u":3}"#, r#"{"a":1}"#),
            (r#"{"u":1,"a":2,"t":3}"#, r#"{"a":2}"#),
            (r#"{"u":1,"t":2}"#, "{}"),
        ] {
            let value = |key: &str| {
                let at = json.find(&format!("\"{key}\"")).map(|at| at + 3)?;
                let rest = json[at..].trim_start_matches([' ', ':']);
                let end = if rest.starts_with('{') { rest.find('}').unwrap() + 1 } else { 1 };
                Some(&rest[..end])
            };
            let mut edits = Edits::new(json.as_bytes());
            edits.remove_members([value("u"), value("t")]);
            assert_eq!(edits.apply(), left, "{json}");
        }
    }

    #[test]
    fn replacements_apply_in_the_order_of_their_places() {
        let source = "one two three";
        let mut edits = Edits::new(source.as_bytes());
        edits.replace(&source[8..], "3");
        edits.replace(&source[..3], "1");
        assert_eq!(edits.apply(), "1 two 3");
    }

    #[test]
    fn a_slice_of_something_else_changes_nothing() {
        let mut edits = Edits::new(b"text");
        edits.replace("elsewhere", "x");
        assert_eq!(edits.apply(), "text");
    }
}
