//! The text of a dialogue, taken out of its JSON for an exact count.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The text of a prompt, taken out of its JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptText {
    /// The texts in order, each message's role before what it says.
    pub text: Vec<String>,
    /// Messages; a system text counts as one.
    pub messages: u32,
}

#[derive(Deserialize)]
struct Message<'a> {
    #[serde(borrow, default)]
    role: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
}

impl PromptText {
    /// The text of a dialogue, in parts of JSON: texts, and lists of messages. `None` where there is more than text
    /// in it.
    #[must_use]
    pub fn of_dialogue<'a>(parts: impl Iterator<Item = Option<&'a str>>) -> Option<Self> {
        let mut text = PromptText { text: Vec::new(), messages: 0 };
        for part in parts {
            let part = part?;
            if part.starts_with('"') {
                text.text.push(serde_json::from_str(part).ok()?);
                text.messages += 1;
            } else {
                text.add_messages(part)?;
            }
        }
        Some(text)
    }

    fn add_messages(&mut self, json: &str) -> Option<()> {
        let messages: Vec<Message<'_>> = serde_json::from_str(json).ok()?;
        self.messages += messages.len() as u32;
        for message in &messages {
            if message.tool_calls.is_some_and(|calls| !matches!(calls.get(), "null" | "[]")) {
                return None;
            }
            self.text.push(message.role.clone()?.into_owned());
            match message.content.map(RawValue::get) {
                None | Some("null") => {}
                Some(raw) if raw.starts_with('"') => self.text.push(serde_json::from_str(raw).ok()?),
                Some(raw) => {
                    let parts: Vec<Part<'_>> = serde_json::from_str(raw).ok()?;
                    for part in parts {
                        self.text.push(part.text?.into_owned());
                    }
                }
            }
        }
        Some(())
    }

    /// Length of all texts, bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.text.iter().map(String::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Option<PromptText> {
        PromptText::of_dialogue([Some(json)].into_iter())
    }

    #[test]
    fn a_system_text_is_one_more_message() {
        let parts = [Some("\"be brief\""), Some(r#"[{"role":"user","content":"x"}]"#)];
        let dialogue = PromptText::of_dialogue(parts.into_iter()).unwrap();
        assert_eq!((dialogue.text.join("|").as_str(), dialogue.messages), ("be brief|user|x", 2));
    }

    #[test]
    fn text_is_taken_from_strings_and_parts_and_nothing_else_is_guessed() {
        let plain = of(r#"[{"role":"user","content":"a\nb"},{"role":"assistant","content":null}]"#).unwrap();
        assert_eq!(
            (plain.text, plain.messages),
            (vec!["user".to_owned(), "a\nb".into(), "assistant".into()], 2)
        );
        let parts =
            of(r#"[{"role":"user","content":[{"type":"text","text":"x"},{"type":"text","text":"y"}]}]"#);
        assert_eq!(parts.unwrap().text, ["user", "x", "y"]);
        assert!(
            of(r#"[{"role":"user","content":[{"type":"image_url","image_url":{"url":"http://x"}}]}]"#)
                .is_none()
        );
        assert!(of(r#"[{"role":"assistant","tool_calls":[{"id":"1"}]}]"#).is_none());
        assert!(of(r#"[1]"#).is_none());
    }
}
