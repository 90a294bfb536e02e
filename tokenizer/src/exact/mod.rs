//! Counting exactly, with the vocabulary of the engine.

mod counter;
mod runs;

pub use counter::{Counter, EXACT_BYTES_MAX, Vocabulary, VocabularyError};
pub use runs::{RUN_CHARS_MAX, segments};
