//! Counting exactly, with the vocabulary of the engine.

mod counter;
mod merges;
mod pieces;
mod published;
mod runs;

pub use counter::{Counter, EXACT_BYTES_MAX, Vocabulary, VocabularyError};
pub use merges::{MergesError, TOKEN_BYTES_MAX, tokens_by_rank};
pub use pieces::Normalization;
pub use runs::{RUN_CHARS_MAX, segments};
