//! A prompt that exceeds the context window, in the words by which clients of each API know it.
//!
//! Clients shorten their conversation, or choose another model, when they find certain words: LiteLLM, aider and others
//! look for "This model's maximum context length is", LangChain's Anthropic client for "prompt is too long:", and many
//! for the code `context_length_exceeded`: LangChain's OpenAI client in the sentence, since the SDK beneath it no longer
//! shows the rest of the body. An engine says it in its own words, so these are put around them where they are missing.

use std::fmt::Write as _;

/// What OpenAI's clients look for.
const OPENAI_WORDS: &str = "This model's maximum context length is";
/// The code of it, and what LangChain's client of OpenAI's APIs looks for in the sentence.
const OPENAI_CODE: &str = "context_length_exceeded";
/// What Anthropic's clients look for.
const ANTHROPIC_WORDS: &str = "prompt is too long";
/// Members in which engines tell the length of the prompt.
const PROMPT_MEMBERS: [&str; 4] = ["n_prompt_tokens", "prompt_tokens", "input_tokens", "n_tokens"];
/// Members in which engines tell the window.
const WINDOW_MEMBERS: [&str; 4] = ["n_ctx", "max_model_len", "max_tokens", "context_length"];

/// A prompt, or a prompt and its answer, that exceed the window.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContextOverflow {
    /// Tokens that were asked for, where known.
    pub asked: Option<u64>,
    /// Tokens of the window, where known.
    pub window: Option<u64>,
    /// The engine's own words, where it was the engine that refused.
    pub words: Option<String>,
}

impl ContextOverflow {
    /// A prompt of at least `asked` tokens for a window of `window`, found here.
    #[must_use]
    pub fn counted(asked: u32, window: u32) -> Self {
        ContextOverflow { asked: Some(asked.into()), window: Some(window.into()), words: None }
    }

    /// What an engine's `words` and `numbers` say. `window` is the one that is known here.
    #[must_use]
    pub fn read(words: &str, numbers: &[(Box<str>, u64)], window: Option<u32>) -> Self {
        let member = |names: &[&str]| {
            names.iter().find_map(|name| numbers.iter().find(|(key, _)| **key == **name).map(|(_, n)| *n))
        };
        let said = integers(words);
        let window = member(&WINDOW_MEMBERS).or_else(|| after(words, OPENAI_WORDS)).or_else(|| {
            let known = window.map(u64::from).filter(|known| said.contains(known));
            known.or_else(|| second_largest(&said))
        });
        let asked = member(&PROMPT_MEMBERS).or_else(|| {
            said.iter().copied().max().filter(|asked| window.is_none_or(|window| *asked > window))
        });
        ContextOverflow { asked, window, words: Some(words.to_owned()) }
    }

    /// The sentence for clients of OpenAI's APIs.
    #[must_use]
    pub fn openai(&self) -> String {
        let mut text = self.sentence();
        if !text.contains(OPENAI_CODE) {
            let _ = write!(text, " Code: {OPENAI_CODE}.");
        }
        text
    }

    fn sentence(&self) -> String {
        if let Some(words) = self.words.as_ref().filter(|words| words.contains(OPENAI_WORDS)) {
            return words.clone();
        }
        let mut text = match self.window {
            Some(window) => format!("{OPENAI_WORDS} {window} tokens."),
            None => format!("{OPENAI_WORDS} exceeded."),
        };
        match (&self.words, self.asked) {
            (Some(words), _) => {
                let _ = write!(text, " However, the model server says: {words}");
            }
            (None, Some(asked)) => {
                let _ = write!(
                    text,
                    " However, your messages resulted in {asked} tokens. Please reduce the length of the messages."
                );
            }
            (None, None) => text.push_str(" Please reduce the length of the messages."),
        }
        text
    }

    /// The sentence for clients of Anthropic's APIs.
    #[must_use]
    pub fn anthropic(&self) -> String {
        match (self.asked, self.window, &self.words) {
            (Some(asked), Some(window), _) => {
                format!("{ANTHROPIC_WORDS}: {asked} tokens > {window} maximum")
            }
            (.., Some(words)) if words.starts_with(ANTHROPIC_WORDS) => words.clone(),
            (.., Some(words)) => format!("{ANTHROPIC_WORDS}: {words}"),
            _ => ANTHROPIC_WORDS.to_owned(),
        }
    }
}

/// The integers of two digits and more in a text; a few, since more are no count of tokens.
fn integers(text: &str) -> Vec<u64> {
    let digits = text.split(|c: char| !c.is_ascii_digit());
    digits.filter(|run| run.len() >= 2).filter_map(|run| run.parse().ok()).take(8).collect()
}

/// The first integer after some words.
fn after(text: &str, words: &str) -> Option<u64> {
    let at = text.find(words)? + words.len();
    integers(text.get(at..)?).first().copied()
}

fn second_largest(numbers: &[u64]) -> Option<u64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    sorted.dedup();
    sorted.get(1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case F09: the words that clients look for, whoever refuses.
    #[test]
    fn case_f09_clients_find_their_own_words() {
        let vllm = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens (8000 in the messages, 1000 in the completion).";
        let of = ContextOverflow::read(vllm, &[], None);
        assert_eq!((of.asked, of.window), (Some(9000), Some(8192)));
        assert_eq!(of.openai(), format!("{vllm} Code: context_length_exceeded."));
        assert_eq!(of.anthropic(), "prompt is too long: 9000 tokens > 8192 maximum");

        let llama = ContextOverflow::read(
            "request exceeds the available context size",
            &[("n_prompt_tokens".into(), 9000), ("n_ctx".into(), 8192)],
            None,
        );
        assert!(llama.openai().starts_with("This model's maximum context length is 8192 tokens. However, "));
        assert_eq!(llama.anthropic(), "prompt is too long: 9000 tokens > 8192 maximum");

        let own = ContextOverflow::counted(5000, 4096);
        assert!(own.openai().starts_with("This model's maximum context length is 4096 tokens. However, "));
        assert_eq!(own.anthropic(), "prompt is too long: 5000 tokens > 4096 maximum");
    }

    #[test]
    fn words_without_numbers_are_still_found() {
        let of = ContextOverflow::read("Input is too long for this model", &[], None);
        assert!(of.openai().contains(OPENAI_WORDS) && of.openai().contains("Input is too long"));
        assert!(of.anthropic().starts_with("prompt is too long: "));
        assert_eq!(ContextOverflow::default().anthropic(), "prompt is too long");
        let tgi = ContextOverflow::read(
            "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 20 `max_new_tokens`",
            &[],
            Some(4096),
        );
        assert_eq!((tgi.asked, tgi.window), (Some(5000), Some(4096)));
    }
}
