//! Exact token counts with a known vocabulary.
//!
//! Exact means: what the tokenizer itself would count for the text, special tokens taken as plain text. What
//! a chat template adds is not in it. Worth its cost where a prompt may not fit the context window, and for
//! short prompts; everything else is estimated and corrected by the engine's own count.
//!
//! # Cost
//!
//! About 30 MB/s on one core, several allocations per call; below 10 MB/s where a text was made to be slow.
//! Up to [`EXACT_BYTES_MAX`] a count may be made in a request's own thread; above it belongs elsewhere.
//! A vocabulary takes 20 to 60 MB and a tenth of a second to load, once per process. One that is given as
//! tokens counts at half to four fifths of that speed: its pattern is searched with more care.

use std::fmt;
use std::sync::Arc;

use tiktoken_rs::CoreBPE;

use super::pieces::{Normalization, Pieces};
use super::published;
use super::runs::segments;

/// Bytes of text up to which counting exactly may be done on a request's way: 0.15 ms, at worst 1 ms.
pub const EXACT_BYTES_MAX: usize = 4096;

/// The vocabularies that need no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Vocabulary {
    /// gpt-4o, gpt-4.1, gpt-5 and the o-series.
    O200kBase,
    /// gpt-oss: `O200kBase` with other special tokens.
    O200kHarmony,
    /// gpt-4, gpt-3.5-turbo, the text-embedding models.
    Cl100kBase,
    /// Older code models.
    P50kBase,
    /// gpt-2, gpt-3.
    R50kBase,
}

impl Vocabulary {
    /// The vocabulary of this name, as published (`o200k_base`), or `None`.
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "o200k_base" => Some(Self::O200kBase),
            "o200k_harmony" => Some(Self::O200kHarmony),
            "cl100k_base" => Some(Self::Cl100kBase),
            "p50k_base" => Some(Self::P50kBase),
            "r50k_base" | "gpt2" => Some(Self::R50kBase),
            _ => None,
        }
    }
}

/// Why a vocabulary cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VocabularyError {
    /// The tables that are compiled in could not be read: a broken build.
    #[error("vocabulary {vocabulary:?} cannot be built: {cause}")]
    Build {
        /// Which one.
        vocabulary: Vocabulary,
        /// What the tokenizer library says.
        cause: String,
    },
    /// A byte that is no token of its own: some text could not be counted.
    #[error("the byte {byte:#04x} is no token")]
    ByteMissing {
        /// The first such byte.
        byte: u8,
    },
    /// A token that is empty, too long, or there already.
    #[error("the token of rank {rank} is empty, longer than 512 bytes, or there twice")]
    Token {
        /// Its rank.
        rank: u32,
    },
    /// The pattern that cuts a text into pieces is not understood.
    #[error("the pattern that cuts the text is not understood: {cause}")]
    Pattern {
        /// What the library for patterns says.
        cause: String,
    },
}

/// Counts tokens with one vocabulary. Cheap to clone, safe to share between threads.
#[derive(Clone)]
pub struct Counter {
    tokenizer: Arc<Tokenizer>,
}

enum Tokenizer {
    /// One of [`Vocabulary`].
    Published(CoreBPE),
    /// One that was given.
    Given(Pieces),
}

impl fmt::Debug for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counter").finish_non_exhaustive()
    }
}

impl Counter {
    /// Loads a vocabulary: a tenth of a second and tens of megabytes, so keep one and clone it.
    pub fn new(vocabulary: Vocabulary) -> Result<Self, VocabularyError> {
        match published::tables(vocabulary) {
            Ok(tokenizer) => Ok(Self { tokenizer: Arc::new(Tokenizer::Published(tokenizer)) }),
            Err(cause) => Err(VocabularyError::Build { vocabulary, cause }),
        }
    }

    /// A counter of `tokens` in order of rank, lowest first, as byte-pair encoding merges them: all 256 bytes
    /// among them, none twice. `pattern` cuts a text into pieces that are merged apart from each other.
    /// O(tokens · log tokens); takes about 200 bytes of memory per token.
    ///
    /// # Errors
    /// When a byte is missing, a token is there twice, or the pattern is not understood.
    pub fn from_ranks(
        tokens: impl IntoIterator<Item = Vec<u8>>,
        pattern: &str,
        normalization: Normalization,
    ) -> Result<Self, VocabularyError> {
        let pieces = Pieces::new(tokens, pattern, normalization)?;
        Ok(Self { tokenizer: Arc::new(Tokenizer::Given(pieces)) })
    }

    /// Tokens of `text`, special tokens taken as plain text. Runs longer than
    /// [`RUN_CHARS_MAX`](crate::RUN_CHARS_MAX) characters without a break are cut, see [`segments`].
    pub fn count(&self, text: &str) -> u32 {
        let tokens = match &*self.tokenizer {
            Tokenizer::Published(tables) => {
                segments(text).map(|segment| tables.count_ordinary(segment)).sum()
            }
            Tokenizer::Given(pieces) => pieces.count(text),
        };
        u32::try_from(tokens).unwrap_or(u32::MAX)
    }
}
