//! The hostile bodies: what makes parsers build trees, recurse, copy or hash.

use harness::tidegate::MODEL;

/// All kinds with about `bytes` bytes each, by name; made one at a time.
pub(super) fn all(bytes: usize) -> impl Iterator<Item = (&'static str, String)> {
    KINDS.iter().map(move |&(name, place, head, unit, tail)| {
        let filling = head.len() + tail.len();
        let count = bytes.saturating_sub(filling) / unit.len().max(1);
        let mut value = String::with_capacity(bytes + 256);
        value.push_str(head);
        for _ in 0..count {
            value.push_str(unit);
        }
        value.push_str(tail);
        (name, around(place, &value))
    })
}

/// A good request with a prompt of about this length.
pub(super) fn plain(bytes: usize) -> String {
    around(Place::Content, &format!("\"{}\"", "tide ".repeat(bytes / 5)))
}

/// Where the hostile value stands.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// In a member that nobody reads.
    Unknown,
    /// Instead of the messages.
    Messages,
    /// As the content of the only message.
    Content,
    /// As the tools.
    Tools,
    /// As further members of the request.
    Members,
    /// Instead of the whole body.
    Body,
}

fn around(place: Place, value: &str) -> String {
    let hello = "[{\"role\":\"user\",\"content\":\"hello\"}]";
    let request = |messages: &str, more: &str| {
        format!("{{\"model\":\"{MODEL}\",\"max_tokens\":1,\"messages\":{messages}{more}}}")
    };
    match place {
        Place::Unknown => request(hello, &format!(",\"x\":{value}")),
        Place::Messages => request(value, ""),
        Place::Content => request(&format!("[{{\"role\":\"user\",\"content\":{value}}}]"), ""),
        Place::Tools => request(hello, &format!(",\"tools\":{value}")),
        Place::Members => request(hello, value),
        Place::Body => value.to_owned(),
    }
}

/// Sixty levels down and up again, within the bound of 64.
const DEEP: &str = "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[\
                    ]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]],";
const DEEP_OBJECTS: &str =
    "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":0}}}}}}}}}},";

type Kind = (&'static str, Place, &'static str, &'static str, &'static str);

/// Name, place, beginning, what is repeated, end.
const KINDS: &[Kind] = &[
    ("numbers, unknown member", Place::Unknown, "[", "0,", "0]"),
    ("empty arrays, unknown member", Place::Unknown, "[", "[],", "0]"),
    ("empty objects, unknown member", Place::Unknown, "[", "{},", "0]"),
    ("empty strings, unknown member", Place::Unknown, "[", "\"\",", "0]"),
    ("deep arrays, unknown member", Place::Unknown, "[", DEEP, "0]"),
    ("deep objects, unknown member", Place::Unknown, "[", DEEP_OBJECTS, "0]"),
    ("long numbers", Place::Unknown, "[", "1234567890123456789012345678901234567890e-300,", "0]"),
    ("one endless number", Place::Unknown, "1", "7", ""),
    ("one string, unknown member", Place::Unknown, "\"", "a", "\""),
    ("one string of escapes, unknown member", Place::Unknown, "\"", "\\u0061", "\""),
    ("booleans and nulls", Place::Unknown, "[", "true,null,false,", "0]"),
    ("white space", Place::Unknown, "[", " \n\t", "0]"),
    ("one string as content", Place::Content, "\"", "tide ", "\""),
    ("escapes as content", Place::Content, "\"", "\\n", "\""),
    ("unicode escapes as content", Place::Content, "\"", "\\u00e9", "\""),
    ("surrogate pairs as content", Place::Content, "\"", "\\ud83c\\udf0a", "\""),
    ("quotes as content", Place::Content, "\"", "\\\"", "\""),
    ("beyond ASCII as content", Place::Content, "\"", "潮", "\""),
    ("one word as content", Place::Content, "\"", "x", "\""),
    (
        "small parts as content",
        Place::Content,
        "[",
        "{\"type\":\"text\",\"text\":\"a\"},",
        "{\"type\":\"text\",\"text\":\"a\"}]",
    ),
    ("numbers as messages", Place::Messages, "[", "0,", "0]"),
    ("empty objects as messages", Place::Messages, "[", "{},", "{}]"),
    (
        "small messages",
        Place::Messages,
        "[",
        "{\"role\":\"user\",\"content\":\"a\"},",
        "{\"role\":\"user\",\"content\":\"a\"}]",
    ),
    ("deep arrays as messages", Place::Messages, "[", DEEP, "0]"),
    ("empty objects as tools", Place::Tools, "[", "{},", "{}]"),
    ("one string as tools", Place::Tools, "\"", "b", "\""),
    ("equal members", Place::Members, "", ",\"x\":0", ""),
    ("members with escaped names", Place::Members, "", ",\"\\u0078\":0", ""),
    ("an array as body", Place::Body, "[", "0,", "0]"),
    ("too deep", Place::Body, "", "[", ""),
];
