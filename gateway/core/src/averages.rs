//! Averages that finished answers move: tokens of a usual answer, tokens per content chunk, bytes per token, tokens of a chat
//! template.
//!
//! Each is one number, so that a caller may keep it in an atomic: `From<f64>` and `get` are all that it takes.

/// Share of a new sample in these averages.
const GAIN: f64 = 0.1;
/// Tokens that one chunk may have: more is about something else.
const TOKENS_PER_CHUNK: (f64, f64) = (1.0, 64.0);
/// Bytes that one token may have: more is about something else.
const BYTES_PER_TOKEN: (f64, f64) = (0.5, 16.0);

/// An average that is one number.
pub trait Average: Copy {
    /// The average that stands at `value`.
    fn at(value: f64) -> Self;
    /// Where it stands.
    fn value(self) -> f64;
}

/// Tokens of a usual answer, per choice.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct UsualAnswer(f64);

/// Tokens per content chunk. Starts at 1; more with speculative decoding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokensPerChunk(f64);

/// Bytes of text per generated token. Starts at 4, as English has with common vocabularies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BytesPerToken(f64);

impl UsualAnswer {
    /// An average that nothing has moved yet.
    #[must_use]
    pub fn starting_at(tokens: u32) -> Self {
        UsualAnswer(f64::from(tokens))
    }

    /// Tokens.
    #[must_use]
    pub fn tokens(self) -> u64 {
        self.0.round() as u64
    }

    /// After an answer that finished with so many tokens per choice.
    #[must_use]
    pub fn after(self, tokens: u64) -> Self {
        UsualAnswer(moved(self.0, tokens as f64))
    }

    /// What a request will generate, as far as anybody can know, tokens: the usual answer, or less where it names a maximum,
    /// for each choice.
    #[must_use]
    pub fn expected(self, max_tokens: Option<u32>, choices: u32) -> u32 {
        let each = self.tokens().min(u64::from(max_tokens.unwrap_or(u32::MAX)));
        (each * u64::from(choices)).min(u64::from(u32::MAX)) as u32
    }
}

impl Default for TokensPerChunk {
    fn default() -> Self {
        TokensPerChunk(1.0)
    }
}

impl TokensPerChunk {
    /// After a stream that finished: `tokens` by the engine's usage in `chunks` content chunks.
    #[must_use]
    pub fn after(self, tokens: u64, chunks: u32) -> Self {
        if chunks == 0 || tokens == 0 {
            return self;
        }
        let (least, most) = TOKENS_PER_CHUNK;
        TokensPerChunk(moved(self.0, (tokens as f64 / f64::from(chunks)).clamp(least, most)))
    }
}

impl Default for BytesPerToken {
    fn default() -> Self {
        BytesPerToken(4.0)
    }
}

impl BytesPerToken {
    /// After an answer whose text has so many bytes, and so many tokens by the engine's usage.
    #[must_use]
    pub fn after(self, bytes: u64, tokens: u64) -> Self {
        if bytes == 0 || tokens == 0 {
            return self;
        }
        let (least, most) = BYTES_PER_TOKEN;
        BytesPerToken(moved(self.0, (bytes as f64 / tokens as f64).clamp(least, most)))
    }
}

/// Tokens that a chat template adds to each message, the opening of the answer counted as one. Starts at 4, as in ChatML and
/// Llama 3.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TemplateTokens(f64);

/// More that one message may have is about something else.
const TEMPLATE_TOKENS_MAX: f64 = 64.0;

impl Default for TemplateTokens {
    fn default() -> Self {
        TemplateTokens(4.0)
    }
}

impl TemplateTokens {
    /// Tokens of a prompt whose texts have so many.
    #[must_use]
    pub fn with(self, text_tokens: u32, messages: u32) -> u32 {
        text_tokens.saturating_add((self.0 * (f64::from(messages) + 1.0)).round() as u32)
    }

    /// After a prompt that has `tokens` by the engine's count: what its texts do not explain is the template's.
    #[must_use]
    pub fn after(self, tokens: u64, text_tokens: u32, messages: u32) -> Self {
        let rest = tokens as f64 - f64::from(text_tokens);
        let sample = (rest / (f64::from(messages) + 1.0)).clamp(0.0, TEMPLATE_TOKENS_MAX);
        TemplateTokens(moved(self.0, sample))
    }
}

fn moved(value: f64, target: f64) -> f64 {
    value + GAIN * (target - value)
}

macro_rules! is_one_number {
    ($($average:ty),*) => {
        $(impl Average for $average {
            fn at(value: f64) -> Self {
                Self(value)
            }

            fn value(self) -> f64 {
                self.0
            }
        })*
    };
}

is_one_number!(UsualAnswer, TokensPerChunk, BytesPerToken, TemplateTokens);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_way_with_each_answer() {
        let usual = UsualAnswer::starting_at(256).after(56).after(56);
        assert_eq!(usual.tokens(), 218, "256 → 236 → 218");
        assert_eq!((usual.expected(None, 2), usual.expected(Some(100), 3)), (436, 300));
        assert_eq!(usual.expected(None, u32::MAX), u32::MAX);
    }

    #[test]
    fn what_was_not_told_and_what_cannot_be_moves_little() {
        let chunks = TokensPerChunk::default();
        assert_eq!((chunks.after(0, 5), chunks.after(5, 0)), (chunks, chunks));
        assert_eq!(chunks.after(1, 10), chunks, "a chunk has a token at least");
        assert!((chunks.after(u64::MAX, 1).value() - 7.3).abs() < 1e-9, "as if it were 64");
        let bytes = BytesPerToken::default();
        assert_eq!((bytes.after(0, 5), bytes.after(5, 0)), (bytes, bytes));
        assert!((bytes.after(1_000, 1).value() - 5.2).abs() < 1e-9, "as if they were 16");
    }
}
