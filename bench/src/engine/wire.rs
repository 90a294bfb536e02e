//! The request bodies that the simulated server reads: typed, and no more of them than it needs.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::prompt::{MESSAGE_TOKENS, PART_TOKENS, PromptMeter, START_TOKENS};
use super::text::{mix, seed_of};

/// The APIs, by path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    Chat,
    Completions,
    Messages,
    Responses,
    /// These four read a prompt and generate nothing.
    Embeddings,
    Rerank,
    Score,
    CountTokens,
}

impl Api {
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            "/v1/chat/completions" => Some(Self::Chat),
            "/v1/completions" => Some(Self::Completions),
            "/v1/messages" => Some(Self::Messages),
            "/v1/responses" => Some(Self::Responses),
            "/v1/embeddings" => Some(Self::Embeddings),
            "/v1/rerank" => Some(Self::Rerank),
            "/v1/score" => Some(Self::Score),
            "/v1/messages/count_tokens" => Some(Self::CountTokens),
            _ => None,
        }
    }

    pub(super) fn generates(self) -> bool {
        matches!(self, Self::Chat | Self::Completions | Self::Messages | Self::Responses)
    }

    /// What ids of answers begin with.
    pub(super) fn id_prefix(self) -> &'static str {
        match self {
            Self::Completions => "cmpl-",
            Self::Responses => "resp_",
            _ => "chatcmpl-",
        }
    }
}

/// A body of any of the APIs; the fields of the others are absent.
#[derive(Debug, Deserialize)]
pub(super) struct Body<'a> {
    #[serde(borrow, default)]
    pub(super) model: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    messages: Option<Vec<Message<'a>>>,
    #[serde(borrow, default)]
    prompt: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) stream: Option<bool>,
    #[serde(default)]
    pub(super) stream_options: Option<StreamOptions>,
    #[serde(default)]
    max_tokens: Option<u32>,
    #[serde(default)]
    max_completion_tokens: Option<u32>,
    #[serde(default)]
    max_output_tokens: Option<u32>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
    #[serde(borrow, default)]
    instructions: Option<&'a RawValue>,
    #[serde(borrow, default)]
    system: Option<&'a RawValue>,
    #[serde(borrow, default)]
    metadata: Option<Metadata<'a>>,
    #[serde(borrow, default)]
    query: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) documents: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    text_1: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text_2: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) n: Option<u32>,
    #[serde(default)]
    pub(super) seed: Option<i64>,
    #[serde(default)]
    pub(super) ignore_eos: Option<bool>,
    #[serde(borrow, default)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    cache_salt: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_choice: Option<&'a RawValue>,
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

#[derive(Debug, Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    user_id: Option<Cow<'a, str>>,
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
        let parts: &[Option<&RawValue>] = match api {
            Api::Chat | Api::Messages | Api::CountTokens => {
                meter.special(0, START_TOKENS);
                if let Some(tools) = self.tools {
                    add(tools.get(), &mut meter);
                }
                content(self.system, &mut meter, &mut add)?;
                let messages = self.messages.as_deref().filter(|messages| !messages.is_empty());
                dialogue(messages.ok_or("`messages` is missing or empty")?, &mut meter, &mut add)?;
                &[]
            }
            Api::Responses => {
                meter.special(0, START_TOKENS);
                content(self.instructions, &mut meter, &mut add)?;
                let input = self.input.ok_or("`input` is missing")?;
                match serde_json::from_str::<Vec<Message<'_>>>(input.get()) {
                    Ok(messages) => dialogue(&messages, &mut meter, &mut add)?,
                    Err(_) => content(Some(input), &mut meter, &mut add)?,
                }
                &[]
            }
            Api::Completions => &[self.prompt],
            Api::Embeddings => &[self.input],
            Api::Rerank => &[self.query],
            Api::Score => &[self.text_1, self.text_2],
        };
        for part in parts {
            part.ok_or("the text is missing")?;
            content(*part, &mut meter, &mut add)?;
        }
        for document in self.documents.iter().flatten() {
            content(Some(document), &mut meter, &mut add)?;
        }
        let (tokens, block_hashes) = meter.finish();
        Ok(Prompt { tokens, block_hashes, seed })
    }

    /// The most tokens that one choice may have, as far as the request says.
    pub(super) fn output_max(&self) -> Option<u32> {
        self.max_completion_tokens.or(self.max_output_tokens).or(self.max_tokens)
    }

    /// What the client calls its own user.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref().or(self.metadata.as_ref().and_then(|metadata| metadata.user_id.as_deref()))
    }

    /// How many texts an embedding, rerank or score request has.
    pub(super) fn texts(&self) -> usize {
        let of = |raw: Option<&RawValue>| {
            raw.and_then(|raw| serde_json::from_str::<Vec<&RawValue>>(raw.get()).ok())
                .map_or(1, |texts| texts.len())
        };
        self.documents.as_ref().map_or_else(|| of(self.input).max(of(self.text_2)), Vec::len)
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

fn dialogue(
    messages: &[Message<'_>],
    meter: &mut PromptMeter,
    add: &mut impl FnMut(&str, &mut PromptMeter),
) -> Result<(), &'static str> {
    for message in messages {
        meter.special(message.role.as_deref().map_or(0, seed_of), MESSAGE_TOKENS);
        content(message.content, meter, add)?;
        content(message.tool_calls, meter, add)?;
    }
    Ok(())
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
