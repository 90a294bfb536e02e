//! What a request of each API is made of: its path, the members that decide, and how its prompt is counted.
//!
//! Data, not code, wherever the APIs differ in names only. So what is read, weighed, reserved and written into a request
//! is the same code for all of them, and an API that is not described here does not exist.

use crate::api::prompts::{self, Prompts};
use crate::json::members::{Member, Members};
use crate::refusal::Refusal;

/// Whose habits an API has: the shape of its errors, the names of its tiers and limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// OpenAI's, and of all who took over its shapes.
    OpenAi,
    /// Anthropic's.
    Anthropic,
}

impl Family {
    /// The family that a path belongs to, whether it exists or not: a client understands its own errors only.
    #[must_use]
    pub fn of_path(path: &str) -> Family {
        let path = path.strip_prefix(crate::api::route::PREFIX).unwrap_or(path);
        let path = path.strip_prefix(crate::api::route::AZURE).unwrap_or(path);
        match path.strip_prefix("/v1/messages") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Family::Anthropic,
            _ => Family::OpenAi,
        }
    }
}

/// One API's requests.
#[derive(Debug)]
pub struct Form {
    /// The path, here and at the engine.
    pub path: &'static str,
    /// Whose habits it has.
    pub family: Family,
    /// The member that has to be there: what is asked.
    pub asked: Member,
    /// The members that make up the prompt, in the order in which engines render them.
    pub prompt: &'static [Member],
    /// Checks the prompt and counts its parts.
    pub prompts: fn(&Members<'_>) -> Result<Prompts, Refusal>,
    /// The members that bound the tokens of one answer. Of several the largest counts: engines differ in which they
    /// obey, and the smaller must not cut what is reserved.
    pub maxima: &'static [Member],
    /// The members that multiply answers. Of several the largest counts, as with maxima.
    pub choices: &'static [Member],
    /// Whether it generates tokens at all.
    pub has_output: bool,
    /// Whether its answers can be streams.
    pub streams: bool,
    /// Whether `stream_options` is a parameter of it.
    pub stream_options: bool,
    /// Members that would make an engine do what cannot be metered here, and why.
    pub refused: &'static [(Member, &'static str)],
}

/// What most APIs of OpenAI's family have in common.
const OPEN_AI: Form = Form {
    path: "",
    family: Family::OpenAi,
    asked: Member::Prompt,
    prompt: &[],
    prompts: prompts::of_messages,
    maxima: &[],
    choices: &[],
    has_output: true,
    streams: true,
    stream_options: true,
    refused: &[],
};

/// What the routes without output have in common.
const POOLING: Form = Form { has_output: false, streams: false, stream_options: false, ..OPEN_AI };

/// Chat completions. `n_predict` and `n_cmpl` are llama.cpp's own names, which it prefers to the common ones, on every
/// API that it turns into this one.
pub static CHAT: Form = Form {
    path: "/v1/chat/completions",
    asked: Member::Messages,
    prompt: &[Member::Functions, Member::Messages],
    prompts: prompts::of_messages,
    maxima: &[Member::MaxTokens, Member::MaxCompletionTokens, Member::NPredict],
    choices: &[Member::N, Member::BestOf, Member::NCmpl],
    ..OPEN_AI
};

/// Completions.
pub static COMPLETIONS: Form = Form {
    path: "/v1/completions",
    asked: Member::Prompt,
    prompt: &[Member::Prompt, Member::Suffix],
    prompts: prompts::of_prompt,
    ..CHAT
};

const NOT_STORED: &str = "nothing is stored between requests here, so send the whole `input`";

/// The Responses API, as far as it needs no store.
pub static RESPONSES: Form = Form {
    path: "/v1/responses",
    asked: Member::Input,
    prompt: &[Member::Instructions, Member::Input],
    prompts: prompts::of_items,
    maxima: &[Member::MaxOutputTokens, Member::NPredict],
    stream_options: false,
    refused: &[
        (Member::PreviousResponseId, NOT_STORED),
        (Member::Conversation, NOT_STORED),
        (Member::Prompt, NOT_STORED),
        (Member::Background, "an answer that is generated in the background cannot be metered"),
    ],
    ..OPEN_AI
};

/// Anthropic's Messages API.
pub static MESSAGES: Form = Form {
    path: "/v1/messages",
    family: Family::Anthropic,
    asked: Member::Messages,
    prompt: &[Member::System, Member::Messages],
    prompts: prompts::of_messages,
    maxima: &[Member::MaxTokens, Member::NPredict],
    stream_options: false,
    ..OPEN_AI
};

/// How many tokens a message would have. Answered here, never by an engine.
pub static COUNT_TOKENS: Form =
    Form { path: "/v1/messages/count_tokens", has_output: false, streams: false, ..MESSAGES };

/// Embeddings, of texts or of messages.
pub static EMBEDDINGS: Form = Form {
    path: "/v1/embeddings",
    asked: Member::Input,
    prompt: &[Member::Input, Member::Messages],
    prompts: prompts::of_input,
    ..POOLING
};

/// Documents in the order of their relevance to a query.
pub static RERANK: Form = Form {
    path: "/v1/rerank",
    asked: Member::Documents,
    prompt: &[Member::Query, Member::Documents],
    prompts: prompts::of_documents,
    ..POOLING
};

/// Similarities of pairs of texts. `data_1`, `queries` and the like are vLLM's other names for the two sides.
pub static SCORE: Form = Form {
    path: "/v1/score",
    asked: Member::Text2,
    prompt: &[
        Member::Text1,
        Member::Queries,
        Member::Data1,
        Member::Text2,
        Member::Documents,
        Member::Items,
        Member::Data2,
    ],
    prompts: prompts::of_pairs,
    ..POOLING
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Api;

    #[test]
    fn a_path_belongs_to_the_family_whose_errors_its_clients_read() {
        for (path, family) in [
            ("/v1/messages", Family::Anthropic),
            ("/v1/messages/count_tokens", Family::Anthropic),
            ("/inference/v1/messages/batches", Family::Anthropic),
            ("/v1/messagesx", Family::OpenAi),
            ("/v1/chat/completions", Family::OpenAi),
            ("/", Family::OpenAi),
        ] {
            assert_eq!(Family::of_path(path), family, "{path}");
        }
        for api in Api::ALL {
            assert_eq!(Family::of_path(api.path()), api.form().family, "{api:?}");
        }
    }

    #[test]
    fn what_is_asked_is_part_of_the_prompt_and_routes_without_output_generate_nothing() {
        for api in Api::ALL {
            let form = api.form();
            assert!(form.prompt.contains(&form.asked), "{api:?}");
            assert_eq!(form.path, api.path());
            if !form.has_output {
                assert!(!form.streams && !form.stream_options, "{api:?}");
            }
        }
    }
}
