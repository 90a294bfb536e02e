//! The request bodies that the simulated server reads: typed, and no more of them than it needs.

mod inputs;

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::prompt::{MESSAGE_TOKENS, PromptMeter, START_TOKENS};
use crate::text::seed_of;
use crate::vocabulary::EngineVocabulary;
use inputs::{Input, several};

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
    documents: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text_1: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text_2: Option<&'a RawValue>,
    #[serde(default)]
    pub(super) top_n: Option<usize>,
    #[serde(default)]
    pub(super) dimensions: Option<usize>,
    #[serde(borrow, default)]
    pub(super) encoding_format: Option<Cow<'a, str>>,
    #[serde(default)]
    pub(super) echo: Option<bool>,
    #[serde(borrow, default)]
    reasoning_effort: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    reasoning: Option<Reasoning<'a>>,
    #[serde(borrow, default)]
    thinking: Option<Thinking<'a>>,
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

#[derive(Debug, Deserialize)]
struct Reasoning<'a> {
    #[serde(borrow, default)]
    effort: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
struct Thinking<'a> {
    #[serde(borrow, default)]
    r#type: Cow<'a, str>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct StreamOptions {
    #[serde(default)]
    pub(super) include_usage: Option<bool>,
    #[serde(default)]
    pub(super) continuous_usage_stats: Option<bool>,
}

/// A prompt as the engine sees it.
pub(super) struct Prompt {
    pub(super) tokens: u32,
    pub(super) block_hashes: Vec<u64>,
    /// From the text; a seed in the body goes before it.
    pub(super) seed: u64,
    /// What `echo` says again.
    pub(super) echo: String,
}

/// Texts to embed or pairs to compare: the tokens of all, and a number of each that its result follows from.
pub(super) struct Pool {
    pub(super) tokens: u32,
    pub(super) items: Vec<Pooled>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pooled {
    pub(super) seed: u64,
    /// The text, or the second one of the pair.
    pub(super) text: String,
}

impl<'a> Body<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Counts and hashes the prompts that are answered each: several only where the API takes a list. O(bytes).
    pub(super) fn prompts(
        &self,
        api: Api,
        block_tokens: u32,
        vocabulary: Option<EngineVocabulary>,
    ) -> Result<Vec<Prompt>, &'static str> {
        let salt = self.cache_salt.as_deref().map_or(0, seed_of);
        let meter = PromptMeter::new(salt, block_tokens).with_vocabulary(vocabulary);
        if api != Api::Completions {
            return Ok(vec![self.conversation(api, meter)?]);
        }
        let read = |input: &Input<'_>| {
            let (mut meter, mut seed) = (meter.clone(), 0);
            input.meter(&mut meter, &mut seed);
            let (tokens, block_hashes) = meter.finish();
            let echo = if self.echo == Some(true) { input.said().into_owned() } else { String::new() };
            Prompt { tokens, block_hashes, seed, echo }
        };
        Ok(several(self.prompt)?.iter().map(read).collect())
    }

    /// One prompt of instructions, tools and messages.
    fn conversation(&self, api: Api, mut meter: PromptMeter) -> Result<Prompt, &'static str> {
        let mut seed = 0;
        meter.special(0, START_TOKENS);
        if api == Api::Responses {
            content(self.instructions, &mut meter, &mut seed)?;
            let input = self.input.ok_or("`input` is missing")?;
            match serde_json::from_str::<Vec<Message<'_>>>(input.get()) {
                Ok(messages) => dialogue(&messages, &mut meter, &mut seed)?,
                Err(_) => content(Some(input), &mut meter, &mut seed)?,
            }
        } else {
            if let Some(tools) = self.tools {
                Input::Text(Cow::Borrowed(tools.get())).meter(&mut meter, &mut seed);
            }
            content(self.system, &mut meter, &mut seed)?;
            let messages = self.messages.as_deref().filter(|messages| !messages.is_empty());
            dialogue(messages.ok_or("`messages` is missing or empty")?, &mut meter, &mut seed)?;
        }
        let (tokens, block_hashes) = meter.finish();
        Ok(Prompt { tokens, block_hashes, seed, echo: String::new() })
    }

    /// Counts what is read and not answered in words. A pair is read as one, so the side that is one text is read again
    /// with each text of the other side, as engines do that rank pairs. O(bytes).
    pub(super) fn pool(&self, api: Api) -> Result<Pool, &'static str> {
        let pairs = match api {
            Api::Rerank => pairs(&several(self.query)?, &several(self.documents)?)?,
            Api::Score => pairs(&several(self.text_1)?, &several(self.text_2)?)?,
            Api::Embeddings if self.input.is_none() => {
                let Prompt { tokens, seed, .. } = self.conversation(api, PromptMeter::new(0, 0))?;
                return Ok(Pool { tokens, items: vec![Pooled { seed, text: String::new() }] });
            }
            Api::Embeddings => several(self.input)?.into_iter().map(|input| vec![input]).collect(),
            _ => {
                let prompt = self.conversation(api, PromptMeter::new(0, 0))?;
                return Ok(Pool { tokens: prompt.tokens, items: Vec::new() });
            }
        };
        let mut pool = Pool { tokens: 0, items: Vec::with_capacity(pairs.len()) };
        for read in &pairs {
            let (mut meter, mut seed) = (PromptMeter::new(0, 0), 0);
            read.iter().for_each(|input| input.meter(&mut meter, &mut seed));
            pool.tokens = pool.tokens.saturating_add(meter.finish().0);
            let text = read.last().map(|input| input.said().into_owned()).unwrap_or_default();
            pool.items.push(Pooled { seed, text });
        }
        Ok(pool)
    }

    /// Whether the request wants the model to think before it speaks, in the words of any of the APIs.
    pub(super) fn thinks(&self) -> bool {
        let effort = self.reasoning.as_ref().and_then(|reasoning| reasoning.effort.as_deref());
        let effort = effort.or(self.reasoning_effort.as_deref());
        effort.is_some_and(|effort| !matches!(effort, "none" | "minimal"))
            || self.thinking.as_ref().is_some_and(|thinking| thinking.r#type == "enabled")
    }

    /// The most tokens that one choice may have, as far as the request says.
    pub(super) fn output_max(&self) -> Option<u32> {
        self.max_completion_tokens.or(self.max_output_tokens).or(self.max_tokens)
    }

    /// What the client calls its own user.
    pub(super) fn user(&self) -> Option<&str> {
        self.user.as_deref().or(self.metadata.as_ref().and_then(|metadata| metadata.user_id.as_deref()))
    }

    /// The name of the function that the answer must call, if `tool_choice` forces one. The APIs differ in where they
    /// put names, and Anthropic's calls `any` what the others call `required`.
    pub(super) fn forced_tool(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Named {
            #[serde(default)]
            r#type: String,
            name: Option<String>,
            function: Option<Function>,
        }
        #[derive(Deserialize)]
        struct Function {
            name: String,
        }
        let name = |named: Named| named.function.map(|function| function.name).or(named.name);
        let first = || {
            let tools = self.tools.map_or("[]", RawValue::get);
            serde_json::from_str::<Vec<Named>>(tools).ok()?.into_iter().find_map(name)
        };
        match self.tool_choice?.get() {
            "\"required\"" => first(),
            choice => match serde_json::from_str::<Named>(choice).ok()? {
                any if any.r#type == "any" => first(),
                named => name(named),
            },
        }
    }
}

/// One with each, or one by one.
fn pairs<'a>(one: &[Input<'a>], other: &[Input<'a>]) -> Result<Vec<Vec<Input<'a>>>, &'static str> {
    match one {
        [only] => Ok(other.iter().map(|other| vec![only.clone(), other.clone()]).collect()),
        many if many.len() == other.len() => {
            Ok(many.iter().zip(other).map(|(one, other)| vec![one.clone(), other.clone()]).collect())
        }
        _ => Err("the two sides must be one with many, or as many as each other"),
    }
}

fn dialogue(messages: &[Message<'_>], meter: &mut PromptMeter, seed: &mut u64) -> Result<(), &'static str> {
    for message in messages {
        meter.special(message.role.as_deref().map_or(0, seed_of), MESSAGE_TOKENS);
        content(message.content, meter, seed)?;
        content(message.tool_calls, meter, seed)?;
    }
    Ok(())
}

/// Text, or a list of parts, of texts or of token ids.
fn content(raw: Option<&RawValue>, meter: &mut PromptMeter, seed: &mut u64) -> Result<(), &'static str> {
    let Some(raw) = raw.filter(|raw| !matches!(raw.get(), "null" | "[]")) else { return Ok(()) };
    let inputs = several(Some(raw)).map_err(|_| "content must be text or a list of parts")?;
    inputs.iter().for_each(|input| input.meter(meter, seed));
    Ok(())
}
