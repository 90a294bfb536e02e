//! The APIs that are spoken: what to read in a request, what to change, and how an answer shows its tokens.
//!
//! One small adapter for each API behind one interface. Everything that is metered goes through it: a path
//! that has no [`Api`] has no way to an engine, and every [`Api`] says what its requests are made of ([`Form`]).

pub mod form;
pub mod prompts;
pub mod route;

pub use form::{Family, Form};

/// An API with a metered path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Api {
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/completions`.
    Completions,
    /// `POST /v1/responses`.
    Responses,
    /// `POST /v1/messages`.
    Messages,
    /// `POST /v1/messages/count_tokens`.
    CountTokens,
    /// `POST /v1/embeddings`.
    Embeddings,
    /// `POST /v1/rerank`.
    Rerank,
    /// `POST /v1/score`.
    Score,
}

impl Api {
    /// Every API.
    pub const ALL: [Api; 8] = [
        Api::Chat,
        Api::Completions,
        Api::Responses,
        Api::Messages,
        Api::CountTokens,
        Api::Embeddings,
        Api::Rerank,
        Api::Score,
    ];

    /// What its requests are made of.
    #[must_use]
    pub fn form(self) -> &'static Form {
        match self {
            Api::Chat => &form::CHAT,
            Api::Completions => &form::COMPLETIONS,
            Api::Responses => &form::RESPONSES,
            Api::Messages => &form::MESSAGES,
            Api::CountTokens => &form::COUNT_TOKENS,
            Api::Embeddings => &form::EMBEDDINGS,
            Api::Rerank => &form::RERANK,
            Api::Score => &form::SCORE,
        }
    }

    /// The path that clients call, and that is called at the engine.
    #[must_use]
    pub fn path(self) -> &'static str {
        self.form().path
    }
}
