//! Which end user of the customer's a request names, in the words of each API.

use crate::json::members::{Parameter, inside};

/// Members that name one, the first that is there counts: OpenAI's, and what it had before.
const NAMES: [&str; 2] = ["safety_identifier", "user"];

/// The end user that a body names: `safety_identifier`, `user`, or Anthropic's `metadata.user_id`. `None`: none, or no text.
/// O(members), and O(bytes of `metadata`) where the others are absent; allocates the name.
#[must_use]
pub fn end_user(body: &[u8], parameters: &[Parameter]) -> Option<String> {
    let text = |parameter: &Parameter| {
        let text: String = serde_json::from_slice(body.get(parameter.value.clone())?).ok()?;
        (!text.is_empty()).then_some(text)
    };
    let of = |list: &[Parameter], name: &str| list.iter().find(|one| one.name(body) == name).cloned();
    let plain = NAMES.into_iter().find_map(|name| text(&of(parameters, name)?));
    plain.or_else(|| {
        let metadata = of(parameters, "metadata")?;
        text(&of(&inside(body, metadata.value)?, "user_id")?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::members::Members;

    fn named(body: &str) -> Option<String> {
        end_user(body.as_bytes(), &Members::read(body).unwrap().parameters(body))
    }

    #[test]
    fn each_api_names_its_end_user_in_its_own_way() {
        for (body, expected) in [
            (r#"{"user":"ann"}"#, Some("ann")),
            (r#"{"user":"ann","safety_identifier":"bea"}"#, Some("bea")),
            (r#"{"metadata":{"user_id":"cy","x":1}}"#, Some("cy")),
            (r#"{"us\u0065r":"d\u0061n"}"#, Some("dan")),
            (r#"{"user":"","metadata":{"user_id":"cy"}}"#, Some("cy")),
            (r#"{"user":7}"#, None),
            (r#"{"metadata":"user_id"}"#, None),
            (r#"{"metadata":{"user":"x"}}"#, None),
            (r#"{"user":null}"#, None),
            (r"{}", None),
        ] {
            assert_eq!(named(body).as_deref(), expected, "{body}");
        }
    }
}
