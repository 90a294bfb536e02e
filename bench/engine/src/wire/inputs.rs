//! Texts to read, where an API takes one or a list: a text, token ids, an object with a text in it, or several of them.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::prompt::{PART_TOKENS, PromptMeter};
use crate::text::{mix, seed_of};

/// One text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input<'a> {
    Text(Cow<'a, str>),
    Ids(Vec<u32>),
    /// Something else than text, as a picture.
    Other,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
}

impl<'a> Input<'a> {
    fn read(raw: &'a str) -> Option<Self> {
        if let Ok(Text(text)) = serde_json::from_str(raw) {
            return Some(Self::Text(text));
        }
        match serde_json::from_str::<Vec<u32>>(raw) {
            Ok(ids) if !ids.is_empty() => return Some(Self::Ids(ids)),
            _ => {}
        }
        let part: Part<'a> = serde_json::from_str(raw).ok().filter(|_| raw.starts_with('{'))?;
        Some(part.text.map_or(Self::Other, Self::Text))
    }

    /// Counts it, and mixes it into `seed`.
    pub(crate) fn meter(&self, meter: &mut PromptMeter, seed: &mut u64) {
        match self {
            Self::Text(text) => {
                meter.text(text);
                *seed = mix(*seed ^ seed_of(text));
            }
            Self::Ids(ids) => ids.iter().for_each(|id| meter.special(u64::from(*id) + 2, 1)),
            Self::Other => meter.special(1, PART_TOKENS),
        }
    }

    /// The text, as an engine says it again. What ids stand for is not known here: they are said as numbers.
    pub(crate) fn said(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Ids(ids) => Cow::Owned(ids.iter().map(|id| format!("<{id}>")).collect()),
            Self::Other => Cow::Borrowed(""),
        }
    }
}

/// The texts of a member, at least one.
pub(crate) fn several<'a>(raw: Option<&'a RawValue>) -> Result<Vec<Input<'a>>, &'static str> {
    let raw = raw.ok_or("the text is missing")?.get();
    if let Some(one) = Input::read(raw) {
        return Ok(vec![one]);
    }
    let listed: Vec<&RawValue> = serde_json::from_str(raw).map_err(|_| NO_TEXTS)?;
    let inputs: Option<Vec<_>> = listed.into_iter().map(|raw| Input::read(raw.get())).collect();
    inputs.filter(|inputs| !inputs.is_empty()).ok_or(NO_TEXTS)
}

const NO_TEXTS: &str = "it must be a text, token ids, or a list of one of them";

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Vec<String>, &'static str> {
        let raw: &RawValue = serde_json::from_str(json).expect("JSON");
        several(Some(raw)).map(|inputs| inputs.iter().map(|input| input.said().into_owned()).collect())
    }

    #[test]
    fn one_and_several_are_told_apart() {
        for (json, said) in [
            (r#""a b""#, vec!["a b"]),
            (r#"["a","b\n"]"#, vec!["a", "b\n"]),
            ("[1,22]", vec!["<1><22>"]),
            ("[[1],[2,3]]", vec!["<1>", "<2><3>"]),
            (r#"[{"text":"a"},{"image_url":"x"}]"#, vec!["a", ""]),
        ] {
            assert_eq!(
                read(json).as_deref(),
                Ok(&said.iter().map(|s| s.to_string()).collect::<Vec<_>>()[..])
            );
        }
        for json in ["[]", "7", "[[]]", "[-1]", "[true]", "[[[1]]]"] {
            assert_eq!(read(json), Err(NO_TEXTS), "{json}");
        }
    }
}
