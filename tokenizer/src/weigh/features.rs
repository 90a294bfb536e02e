//! What the caller says about a request, and what each of these things weighs before anything was learnt.
//!
//! The weights of text were fitted by non-negative least squares on about 1,500 snippets of 1 to 6 KB of
//! English, code, JSON, Chinese, Japanese, Korean and eleven smaller samples against the `o200k_base`
//! vocabulary. They are a start, not a claim: [`Estimator`](crate::Estimator) corrects each by what the engine
//! reports. Before any correction the mean error per snippet is 4 to 9 %, with a vocabulary of another size 20 %
//! on English and up to 70 % on other scripts.

use super::classes::{TEXT_CLASSES, TextClasses};

/// How many weights are learnt: the groups of [`Weights::shares`].
pub(crate) const GROUPS: usize = 22;
/// The last of them are not text: envelope, messages, tools, images, other parts.
pub(crate) const NOT_TEXT: usize = 5;

/// Tokens per unit of each text class, in the order of the fields of [`TextClasses`].
const TEXT_WEIGHTS: [f64; TEXT_CLASSES] = [
    0.59, 0.34, 0.11, 0.175, 0.41, 0.60, 0.44, 0.17, 0.45, 0.55, 0.34, 0.05, 1.2, 0.35, 0.40, 0.72, 0.74,
    0.70, 2.1,
];

/// The size of a request, as far as it can be told without reading JSON here. Counts, not limits.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Features {
    /// Bytes of text in all messages, decoded where that is cheap.
    pub text_bytes: u64,
    /// The same text by class. `None`: it was not scanned, and is taken for English prose.
    pub text: Option<TextClasses>,
    /// Messages, the system prompt included.
    pub messages: u32,
    /// Bytes of JSON that describe tools and response formats.
    pub tool_bytes: u64,
    /// Images.
    pub images: u32,
    /// Parts that are neither text nor image: audio, files.
    pub other_parts: u32,
}

/// Tokens for what is not text. Defaults are typical of open chat models; all are corrected by calibration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// Tokens around the messages: begin-of-text, the opening of the answer, a template's own words.
    /// Default 8: 4 to 25 on common chat templates.
    pub per_request: f64,
    /// Tokens around one message: its role and its end mark. Default 4, as ChatML and Llama 3 have it.
    pub per_message: f64,
    /// Bytes of tool JSON per token. Default 3.9, measured on JSON schemas with `o200k_base`.
    pub bytes_per_tool_token: f64,
    /// Tokens per image. Default 1,024: a square of 896 pixels at one token per 28 × 28, the usual patch of
    /// open vision models; large images cost more, fixed-grid models (576) less.
    pub per_image: f64,
    /// Tokens per other part. Default 500: 20 s of audio at 25 tokens per second.
    pub per_other_part: f64,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            per_request: 8.0,
            per_message: 4.0,
            bytes_per_tool_token: 3.9,
            per_image: 1024.0,
            per_other_part: 500.0,
        }
    }
}

/// What a request weighs by the uncorrected weights, and which part of it each group has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    /// Tokens, at least 1.
    pub(crate) tokens: f64,
    /// The groups' parts of `tokens`; they sum to at most 1.
    pub(crate) of: [f64; GROUPS],
}

impl Weights {
    /// Splits a request into the groups whose weights are learnt apart.
    pub(crate) fn shares(&self, features: &Features) -> Shares {
        let text = features.text.unwrap_or_else(|| TextClasses::prose(features.text_bytes));
        let [words, joined, letters, humps, digits, numbers, others @ ..] = weighted(text.counts());
        let [marks, runs, spaced, lines, indents, padding, scripts @ ..] = others;
        let [latin, alphabets, abugidas, signs, han, hangul, astral] = scripts;
        let messages = self.per_message * f64::from(features.messages);
        let tools = features.tool_bytes as f64 / self.bytes_per_tool_token.max(1.0);
        let images = self.per_image * f64::from(features.images);
        let other_parts = self.per_other_part * f64::from(features.other_parts);
        // Line breaks, indents and padding rise and fall together: one weight, or it could not be told whose.
        let blanks = lines + indents + padding;
        let mut of = [
            words,
            joined,
            letters,
            humps,
            digits,
            numbers,
            marks,
            runs,
            spaced,
            blanks,
            latin,
            alphabets,
            abugidas,
            signs,
            han,
            hangul,
            astral,
            self.per_request,
            messages,
            tools,
            images,
            other_parts,
        ];
        let tokens = of.iter().sum::<f64>().max(1.0);
        for share in &mut of {
            *share /= tokens;
        }
        Shares { tokens, of }
    }
}

fn weighted(counts: [u32; TEXT_CLASSES]) -> [f64; TEXT_CLASSES] {
    let mut tokens = TEXT_WEIGHTS;
    for (weight, count) in tokens.iter_mut().zip(counts) {
        *weight *= f64::from(count);
    }
    tokens
}
