//! The APIs that are spoken: what to read in a request, what to change, and how an answer shows its tokens.
//!
//! One small adapter for each API behind one interface. Everything that is metered goes through it: a path
//! that has no [`Api`] has no way to an engine.

pub mod chat;
pub mod error;
pub mod sse;
pub mod upstream_error;
pub mod usage;

use crate::refusal::Refusal;
use crate::request::call::token_maximum;
use crate::request::members::{Member, Members};

/// An API with a metered path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Api {
    /// `POST /v1/chat/completions`.
    Chat,
}

impl Api {
    /// Every API.
    pub const ALL: [Api; 1] = [Api::Chat];

    /// The path that clients call, and that is called at the engine.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Api::Chat => "/v1/chat/completions",
        }
    }

    /// The members that make up the prompt, in the order in which engines render them.
    #[must_use]
    pub fn prompt_members(self) -> &'static [Member] {
        match self {
            Api::Chat => &[Member::Messages],
        }
    }

    /// Whether `stream_options` is a parameter of this API.
    #[must_use]
    pub fn takes_stream_options(self) -> bool {
        match self {
            Api::Chat => true,
        }
    }

    /// Checks that there is a prompt.
    ///
    /// # Errors
    /// 400 that names the missing member.
    pub fn require_prompt(self, members: &Members<'_>) -> Result<(), Refusal> {
        match self {
            Api::Chat => match members.raw(Member::Messages) {
                Some(raw) if raw.starts_with('[') => Ok(()),
                _ => Err(Refusal::bad("`messages` must be an array of messages.").param("messages")),
            },
        }
    }

    /// The largest answer allowed, tokens per choice. Of two fields the larger counts: engines differ in
    /// which they obey, and the smaller must not cut what is reserved.
    ///
    /// # Errors
    /// 400 when a field is not a positive integer.
    pub fn max_tokens(self, members: &Members<'_>) -> Result<Option<u32>, Refusal> {
        match self {
            Api::Chat => {
                let old = token_maximum(members, Member::MaxTokens, "max_tokens")?;
                let new = token_maximum(members, Member::MaxCompletionTokens, "max_completion_tokens")?;
                Ok(old.max(new))
            }
        }
    }
}
