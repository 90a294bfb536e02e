//! Exact counts of chat prompts, for models whose vocabulary is configured.
//!
//! The text of the messages is counted with the model's own vocabulary. What the chat template puts around them
//! is learnt from the engine's counts, as tokens per message. Short prompts are counted on the request's way; a
//! long one only when it matters, near the end of the context window, and then on one worker beside the request
//! threads: byte-pair encoding is superlinear on hostile text and must not be a lever.

use crate::averages::Shared;
use gateway_core::averages::TemplateTokens;
use protocol::request::prompt_text::PromptText;
use std::sync::Arc;
use tokenizer::{Counter, EXACT_BYTES_MAX};
use tokio::sync::Semaphore;

/// Longest prompt that is counted exactly at all, bytes: twenty million tokens' worth of windows do not exist.
pub const EXACT_BYTES_EVER: usize = 4 << 20;

/// The count of a short prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShortCount {
    /// Tokens of the text alone: exact.
    pub text: u32,
    /// The same with what the template adds, as far as that was learnt.
    pub prompt: u32,
}

/// The exact counter of one model.
#[derive(Debug)]
pub struct ExactCounter {
    counter: Counter,
    /// What the template adds.
    template: Shared<TemplateTokens>,
    /// One long count at a time.
    worker: Arc<Semaphore>,
}

impl ExactCounter {
    /// Counts with `counter`, and has learnt nothing of the template.
    #[must_use]
    pub fn new(counter: Counter) -> Self {
        ExactCounter { counter, template: Shared::default(), worker: Arc::new(Semaphore::new(1)) }
    }

    /// The prompt's tokens, if it is short enough to be counted on the request's way.
    #[must_use]
    pub fn count_short(&self, prompt: &PromptText) -> Option<ShortCount> {
        (prompt.bytes() <= EXACT_BYTES_MAX).then(|| {
            let text = self.text_tokens(prompt);
            ShortCount { text, prompt: self.with_template(text, prompt.messages) }
        })
    }

    /// The tokens of a long prompt's text alone, counted beside the request threads. `None`: too long to count.
    pub async fn count_long(self: &Arc<Self>, prompt: PromptText) -> Option<u32> {
        if prompt.bytes() > EXACT_BYTES_EVER {
            return None;
        }
        let _place = self.worker.acquire().await.ok()?;
        let this = Arc::clone(self);
        tokio::task::spawn_blocking(move || this.text_tokens(&prompt)).await.ok()
    }

    fn text_tokens(&self, prompt: &PromptText) -> u32 {
        prompt.text.iter().fold(0, |sum, text| sum.saturating_add(self.counter.count(text)))
    }

    fn with_template(&self, text_tokens: u32, messages: u32) -> u32 {
        self.template.get().with(text_tokens, messages)
    }

    /// The engine counted `tokens` for `prompt`: what its text does not explain is the template's.
    pub fn learn(&self, prompt: &PromptText, tokens: u64) {
        if prompt.bytes() <= EXACT_BYTES_MAX {
            let text = self.text_tokens(prompt);
            self.template.learn(|average| average.after(tokens, text, prompt.messages));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizer::Vocabulary;

    fn of(json: &str) -> Option<PromptText> {
        PromptText::of_dialogue([Some(json)].into_iter())
    }

    #[test]
    fn the_template_is_learnt_from_the_engines_counts() {
        let counter = ExactCounter::new(Counter::new(Vocabulary::Cl100kBase).unwrap());
        let prompt = of(r#"[{"role":"user","content":"hello world"}]"#).unwrap();
        assert_eq!(counter.count_short(&prompt), Some(ShortCount { text: 1 + 2, prompt: 1 + 2 + 8 }));
        for _ in 0..100 {
            counter.learn(&prompt, 3 + 14);
        }
        assert_eq!(
            counter.count_short(&prompt).map(|count| count.prompt),
            Some(3 + 14),
            "seven tokens for each of two messages"
        );
    }

    #[test]
    fn long_prompts_are_not_counted_on_the_way() {
        let counter = ExactCounter::new(Counter::new(Vocabulary::Cl100kBase).unwrap());
        let json = format!(r#"[{{"role":"user","content":"{}"}}]"#, "word ".repeat(2000));
        let prompt = of(&json).unwrap();
        assert_eq!(counter.count_short(&prompt), None);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let counted = runtime.block_on(Arc::new(counter).count_long(prompt));
        assert!(counted.is_some_and(|tokens| (2000..2010).contains(&tokens)), "{counted:?}");
    }
}
