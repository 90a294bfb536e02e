//! The request bodies that the simulated server reads: typed, and no more of them than it needs.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::prompt::{MESSAGE_TOKENS, PART_TOKENS, PromptMeter, START_TOKENS};
use super::text::{mix, seed_of};

/// The APIs that generate text, by path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    Chat,
    Completions,
}

/// A body of either API; the fields of the other one are absent.
#[derive(Debug, Deserialize)]
pub(super) struct Body<'a> {
    #[serde(borrow, default)]
    pub(super) model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) messages: Option<Vec<Message<'a>>>,
    #[serde(borrow, default)]
    pub(super) prompt: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) stream: Option<bool>,
    #[serde(default)]
    pub(super) stream_options: Option<StreamOptions>,
    #[serde(default)]
    pub(super) max_tokens: Option<u32>,
    #[serde(default)]
    pub(super) max_completion_tokens: Option<u32>,
    #[serde(default)]
    pub(super) n: Option<u32>,
    #[serde(default)]
    pub(super) seed: Option<i64>,
    #[serde(default)]
    pub(super) ignore_eos: Option<bool>,
    #[serde(borrow, default)]
    pub(super) user: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) cache_salt: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(super) tools: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) tool_choice: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, default)]
    role: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<&'a RawValue>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct StreamOptions {
    #[serde(default)]
    pub(super) include_usage: Option<bool>,
    #[serde(default)]
    pub(super) continuous_usage_stats: Option<bool>,
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
}

/// A prompt as the engine sees it.
pub(super) struct Prompt {
    pub(super) tokens: u32,
    pub(super) block_hashes: Vec<u64>,
    /// From the text; a seed in the body goes before it.
    pub(super) seed: u64,
}

impl<'a> Body<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Counts and hashes the prompt. O(bytes).
    pub(super) fn prompt(&self, api: Api, block_tokens: u32) -> Result<Prompt, &'static str> {
        let salt = self.cache_salt.as_deref().map_or(0, seed_of);
        let mut meter = PromptMeter::new(salt, block_tokens);
        let mut seed = 0;
        let mut add = |text: &str, meter: &mut PromptMeter| {
            meter.text(text);
            seed = mix(seed ^ seed_of(text));
        };
        match api {
            Api::Chat => {
                let messages = self.messages.as_deref().filter(|messages| !messages.is_empty());
                let messages = messages.ok_or("`messages` is missing or empty")?;
                meter.special(0, START_TOKENS);
                if let Some(tools) = self.tools {
                    add(tools.get(), &mut meter);
                }
                for message in messages {
                    meter.special(message.role.as_deref().map_or(0, seed_of), MESSAGE_TOKENS);
                    content(message.content, &mut meter, &mut add)?;
                    content(message.tool_calls, &mut meter, &mut add)?;
                }
            }
            Api::Completions => content(self.prompt, &mut meter, &mut add)?,
        }
        let (tokens, block_hashes) = meter.finish();
        Ok(Prompt { tokens, block_hashes, seed })
    }

    /// The most tokens that one choice may have, as far as the request says.
    pub(super) fn output_max(&self) -> Option<u32> {
        self.max_completion_tokens.or(self.max_tokens)
    }

    /// The name of the function that the answer must call, if `tool_choice` forces one.
    pub(super) fn forced_tool(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Named {
            function: Function,
        }
        #[derive(Deserialize)]
        struct Function {
            name: String,
        }
        let choice = self.tool_choice?.get();
        let tools = self.tools.map_or("[]", RawValue::get);
        let first =
            || serde_json::from_str::<Vec<Named>>(tools).ok()?.into_iter().next().map(|t| t.function.name);
        match choice {
            "\"required\"" => first(),
            _ => serde_json::from_str::<Named>(choice).ok().map(|named| named.function.name),
        }
    }
}

/// Text, or a list of parts, of texts or of token ids.
fn content(
    raw: Option<&RawValue>,
    meter: &mut PromptMeter,
    add: &mut impl FnMut(&str, &mut PromptMeter),
) -> Result<(), &'static str> {
    let Some(raw) = raw.map(RawValue::get) else { return Ok(()) };
    if raw == "null" {
        return Ok(());
    }
    if let Ok(Text(text)) = serde_json::from_str(raw) {
        add(&text, meter);
    } else if let Ok(parts) = serde_json::from_str::<Vec<Part<'_>>>(raw) {
        for part in parts {
            match part.text {
                Some(text) => add(&text, meter),
                None => meter.special(1, PART_TOKENS),
            }
        }
    } else if let Ok(texts) = serde_json::from_str::<Vec<Text<'_>>>(raw) {
        texts.iter().for_each(|Text(text)| add(text, meter));
    } else if let Ok(ids) = serde_json::from_str::<Vec<u32>>(raw) {
        ids.iter().for_each(|id| meter.special(u64::from(*id) + 2, 1));
    } else {
        return Err("content must be text or a list of parts");
    }
    Ok(())
}
