//! Weighs requests before they run: prompt tokens, tokens expected to be cached, output tokens expected.
//!
//! Holds what is learnt from the engines' own counts, behind one lock per model and one per prefix index; no I/O and no
//! clock.

pub mod averages;
pub mod exact;
mod parts;
pub mod weigh;
