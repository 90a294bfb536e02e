//! The texts at which an answer stops, bounded.
//!
//! An engine looks for all of them with each step, and holds as much of the answer back as the longest has: a client could
//! make a step cost what it likes and see nothing of it. What is refused here is far beyond what anybody needs.

use crate::json::members::{Member, Members};
use crate::refusal::Refusal;
use crate::request::call::parse;
use serde_json::value::RawValue;

/// Most texts at which an answer is to stop. OpenAI's API takes 4; each step of an engine looks for all of them.
pub const STOPS_MAX: usize = 128;
/// Longest text of all stops together, bytes. Engines hold as much of an answer back as the longest has, and look for it
/// again with each step.
pub const STOP_BYTES_MAX: usize = 128 << 10;
/// Refuses stops that each step of an engine would pay for. What is neither a text nor a list is the engine's to refuse.
pub(super) fn check(members: &Members<'_>) -> Result<(), Refusal> {
    for member in [Member::Stop, Member::StopSequences] {
        let Some(raw) = members.raw(member) else { continue };
        let name = member.name();
        let list: Vec<&RawValue> =
            if raw.starts_with('[') { parse(raw, name, "a list")? } else { Vec::new() };
        if list.len() > STOPS_MAX {
            let message = format!("`{name}` has {} texts; at most {STOPS_MAX} are taken.", list.len());
            return Err(Refusal::bad(message).param(name));
        }
        // Escapes are longer than what they stand for, so that only what is long is looked at closely.
        if raw.len() > STOP_BYTES_MAX {
            let texts =
                if raw.starts_with('"') { vec![raw] } else { list.iter().map(|raw| raw.get()).collect() };
            let bytes = texts.iter().map(|text| text_bytes(text)).fold(0, usize::saturating_add);
            if bytes > STOP_BYTES_MAX || texts.is_empty() {
                let message = format!("`{name}` is too long; at most {STOP_BYTES_MAX} bytes are taken.");
                return Err(Refusal::bad(message).param(name));
            }
        }
    }
    Ok(())
}

/// Bytes of a JSON string's text; of another value, as it is written.
fn text_bytes(raw: &str) -> usize {
    serde_json::from_str::<String>(raw).map_or(raw.len(), |text| text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Api;
    use crate::refusal::Reason;
    use crate::request::call::Call;
    use bytes::Bytes;

    /// Case R01: each step of an engine pays for `stop`.
    #[test]
    fn case_r01_stops_are_bounded_in_number_and_length() {
        let with = |api: Api, name: &str, value: &str| {
            let body = format!(r#"{{"model":"m","messages":[],"input":"x","prompt":null,"{name}":{value}}}"#);
            let body = if api == Api::Completions { body.replacen("null", "\"x\"", 1) } else { body };
            Call::read(api, Bytes::from(body), 64).map_err(|refusal| (refusal.reason, refusal.param))
        };
        let list = |count: usize, each: &str| format!("[{}]", vec![format!("\"{each}\""); count].join(","));
        let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes));
        for (api, name) in [
            (Api::Chat, "stop"),
            (Api::Completions, "stop"),
            (Api::Responses, "stop"),
            (Api::Messages, "stop_sequences"),
        ] {
            for taken in [
                "null".to_owned(),
                text(50_000),
                text(STOP_BYTES_MAX),
                format!("\"{}\"", r"\u00e9".repeat(50_000)),
                list(STOPS_MAX, "a"),
                list(2, &"x".repeat(STOP_BYTES_MAX / 2)),
                "7".to_owned(),
            ] {
                assert!(with(api, name, &taken).is_ok(), "{api:?} {}", taken.len());
            }
            for refused in [
                text(STOP_BYTES_MAX + 1),
                list(STOPS_MAX + 1, "a"),
                list(3, &"x".repeat(STOP_BYTES_MAX / 2)),
                format!("{{\"a\":{}}}", text(STOP_BYTES_MAX)),
                format!("[[{}]]", text(STOP_BYTES_MAX)),
            ] {
                let refusal = with(api, name, &refused).err();
                assert_eq!(refusal, Some((Reason::BadRequest, Some(name))), "{api:?} {}", refused.len());
            }
        }
    }
}
