//! The model's name: from the body, or from a path that names it, and how the engine and the client see it.
//!
//! Azure's clients name the model in the path, and may leave it out of the body. Then it is written into the body that
//! goes to the engine, and the answer shows it as the path had it.

use crate::json::members::{Member, Members};
use crate::refusal::Refusal;
use crate::request::call::parse;
use crate::request::policy::Edits;
use bytes::Bytes;
use std::ops::Range;

/// Longest model name that is looked up, bytes.
const NAME_MAX: usize = 256;

/// Where the name stands.
#[derive(Debug)]
pub(super) struct ModelName {
    /// Place of the body's member, `null` included.
    at: Option<Range<usize>>,
    /// As the client wrote it, a JSON string; made of the path's name where the body has none.
    written: Box<str>,
}

impl ModelName {
    /// The name, and where it stands. `named`: what the path says, which is used where the body says nothing.
    pub(super) fn read(members: &Members<'_>, named: Option<&str>) -> Result<(String, ModelName), Refusal> {
        let raw = members.raw(Member::Model);
        let in_body = raw.map(|raw| parse(raw, "model", "a string")).transpose()?;
        let name: String = in_body.or_else(|| named.map(str::to_owned)).ok_or_else(|| {
            Refusal::bad("The request has no `model`. Name one of GET /v1/models.").param("model")
        })?;
        if name.is_empty() || name.len() > NAME_MAX {
            return Err(Refusal::bad(format!("`model` must have 1 to {NAME_MAX} bytes.")).param("model"));
        }
        let written = raw.map_or_else(|| quoted(&name), str::to_owned).into_boxed_str();
        Ok((name, ModelName { at: members.span(Member::Model), written }))
    }

    /// Writes the name that the engine knows: over the body's member, or as a new one among `members`.
    pub(super) fn write(&self, served: &str, edits: &mut Edits, members: &mut String) {
        match &self.at {
            Some(at) => edits.push((at.clone(), Bytes::from(quoted(served)))),
            None => members.extend(["\"model\":", &quoted(served), ","]),
        }
    }

    /// The name as the client wrote it, a JSON string.
    pub(super) fn shown(&self) -> &str {
        &self.written
    }
}

fn quoted(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}

#[cfg(test)]
mod tests {
    use crate::api::Api;
    use crate::engine::Engine;
    use crate::refusal::Refusal;
    use crate::request::call::Call;
    use bytes::Bytes;
    use shedder::Tier;

    fn read(body: &'static str, named: Option<&str>) -> Result<Call, Refusal> {
        Call::read_named(Api::Chat, Bytes::from_static(body.as_bytes()), 64, named)
    }

    fn sent(call: &Call) -> serde_json::Value {
        let pieces = call.forwarded("served", Engine::Openai, Tier::Regular, Vec::new());
        serde_json::from_slice(&pieces.concat()).unwrap()
    }

    #[test]
    fn the_path_names_the_model_where_the_body_does_not() {
        for body in [
            r#"{"messages":[],"stream":true}"#,
            r#" {"model":null,"messages":[]}"#,
            "\u{feff}{\"messages\":[]}",
        ] {
            let call = read(body, Some("a\"b")).unwrap();
            assert_eq!(call.model, "a\"b");
            assert_eq!(sent(&call)["model"], "served", "{body}");
            assert_eq!(call.name_shown("served"), Some(r#""a\"b""#));
        }
    }

    #[test]
    fn the_body_goes_before_the_path() {
        let call = read(r#"{"model":"m","messages":[]}"#, Some("other")).unwrap();
        assert_eq!((call.model.as_str(), call.name_shown("served")), ("m", Some(r#""m""#)));
        assert_eq!(sent(&call)["model"], "served");
        assert!(read(r#"{"model":1,"messages":[]}"#, Some("other")).is_err());
        assert!(read(r#"{"messages":[]}"#, None).is_err());
        assert!(read(r#"{"messages":[]}"#, Some(&"x".repeat(257))).is_err());
    }
}
