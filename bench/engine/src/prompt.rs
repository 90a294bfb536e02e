//! How the simulated engine counts a prompt: a rule of its own, near to what real vocabularies give.
//!
//! It must not agree with a gateway's estimate by construction, so it looks at words and not at bytes: a run of ASCII
//! letters and digits costs one token per six begun, a run of other ASCII signs one per three begun, a run of
//! non-ASCII bytes one per three begun, white space one per eight full. English prose comes to about 4.4 bytes per
//! token, source code to about 3. On top: [`MESSAGE_TOKENS`] per message for its frame, [`START_TOKENS`] once.
//!
//! The same walk makes the chained block hashes of the prefix cache: one after every full block of tokens, over all
//! bytes so far. O(bytes), one allocation per doubling of the hashes.

use crate::text::mix;
use crate::vocabulary::EngineVocabulary;

/// Tokens that frame a message.
pub const MESSAGE_TOKENS: u32 = 4;

/// Tokens before the first message.
pub const START_TOKENS: u32 = 2;

/// Tokens of an image or any other part that is not text.
pub const PART_TOKENS: u32 = 256;

/// Counts and hashes a prompt that is fed in parts.
#[derive(Debug, Clone)]
pub struct PromptMeter {
    tokens: u32,
    block_tokens: u32,
    class: Class,
    run: u32,
    chain: u64,
    hashes: Vec<u64>,
    vocabulary: Option<EngineVocabulary>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Word,
    Sign,
    Space,
    Beyond,
}

impl Class {
    fn of(byte: u8) -> Self {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => Self::Word,
            b' ' | b'\t' | b'\n' | b'\r' => Self::Space,
            0x80..=0xFF => Self::Beyond,
            _ => Self::Sign,
        }
    }

    fn bytes_per_token(self) -> u32 {
        match self {
            Self::Word => 6,
            Self::Sign | Self::Beyond => 3,
            Self::Space => 8,
        }
    }
}

impl PromptMeter {
    /// `salt` separates caches that must not share (model, cache salt). `block_tokens` 0: no hashes.
    #[must_use]
    pub fn new(salt: u64, block_tokens: u32) -> Self {
        Self {
            tokens: 0,
            block_tokens,
            class: Class::Space,
            run: 0,
            chain: mix(salt),
            hashes: Vec::new(),
            vocabulary: None,
        }
    }

    /// Counts texts with a real vocabulary from here on; `None`: by the rule above.
    #[must_use]
    pub fn with_vocabulary(self, vocabulary: Option<EngineVocabulary>) -> Self {
        Self { vocabulary, ..self }
    }

    /// Adds text. Two calls are two runs: a boundary between parts always ends a token.
    pub fn text(&mut self, text: &str) {
        if let Some(vocabulary) = self.vocabulary {
            vocabulary.tokens(text).into_iter().for_each(|token| self.special(u64::from(token), 1));
            return;
        }
        for byte in text.bytes() {
            let class = Class::of(byte);
            if class != self.class {
                self.end_run();
                self.class = class;
            }
            self.chain = (self.chain ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
            self.run += 1;
            if self.run == class.bytes_per_token() {
                self.run = 0;
                self.token();
            }
        }
        self.end_run();
    }

    /// Adds tokens that stand for no text; `kind` tells them apart in the hashes.
    pub fn special(&mut self, kind: u64, tokens: u32) {
        self.chain = (self.chain ^ kind).wrapping_mul(0x0100_0000_01B3);
        for _ in 0..tokens {
            self.token();
        }
    }

    /// Tokens and block hashes.
    #[must_use]
    pub fn finish(self) -> (u32, Vec<u64>) {
        (self.tokens.max(1), self.hashes)
    }

    fn end_run(&mut self) {
        if self.run > 0 && self.class != Class::Space {
            self.token();
        }
        self.run = 0;
    }

    fn token(&mut self) {
        self.tokens += 1;
        if self.block_tokens > 0 && self.tokens.is_multiple_of(self.block_tokens) {
            self.hashes.push(mix(self.chain));
        }
    }
}

/// Tokens of a text by this rule.
#[must_use]
pub fn count(text: &str) -> u32 {
    let mut meter = PromptMeter::new(0, 0);
    meter.text(text);
    meter.tokens
}

/// A prompt text of exactly `tokens` tokens, a function of `seed`; two seeds differ from the first word on.
#[must_use]
pub fn text_of(seed: u64, tokens: u32) -> String {
    let mut text = String::with_capacity(tokens as usize * 6);
    for i in 0..tokens {
        let mut bits = mix(seed ^ mix(u64::from(i) + 1));
        if i > 0 {
            text.push(' ');
        }
        for _ in 0..2 + bits % 5 {
            bits = bits.rotate_right(7);
            text.push(char::from(b'a' + (bits % 26) as u8));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_signs_and_spaces_have_their_prices() {
        assert_eq!(count("harbour"), 2, "seven letters are two tokens");
        assert_eq!(count("a b c"), 3, "single spaces are free");
        assert_eq!(count("----"), 2);
        assert_eq!(count("                "), 2, "sixteen spaces");
        assert_eq!(count("潮流"), 2, "six bytes beyond ASCII");
    }

    #[test]
    fn a_generated_prompt_has_exactly_the_tokens_asked_for() {
        for tokens in [0, 1, 17, 1155] {
            assert_eq!(count(&text_of(3, tokens)), tokens);
        }
        assert_ne!(text_of(1, 5), text_of(2, 5));
    }

    #[test]
    fn a_real_vocabulary_counts_its_own_tokens() {
        use crate::vocabulary::{CL100K, P50K};
        let tokens = |vocabulary, text: &str| {
            let mut meter = PromptMeter::new(0, 0).with_vocabulary(Some(vocabulary));
            meter.text(text);
            meter.finish().0
        };
        assert_eq!(tokens(CL100K, "harbour master"), 3);
        assert!(tokens(P50K, "潮水每天涨落两次") > 2 * 8, "two or three tokens for each character");
    }

    #[test]
    fn equal_beginnings_give_equal_hashes_and_no_more() {
        let hashes = |text: &str| {
            let mut meter = PromptMeter::new(9, 16);
            meter.text(text);
            meter.finish().1
        };
        let shared = text_of(1, 64);
        let a = hashes(&format!("{shared} {}", text_of(2, 64)));
        let b = hashes(&format!("{shared} {}", text_of(3, 64)));

        assert_eq!(a.len(), 8);
        assert_eq!(a[..4], b[..4]);
        assert!(a[4..].iter().zip(&b[4..]).all(|(x, y)| x != y));
    }
}
