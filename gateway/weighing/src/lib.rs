//! Weighs requests before they run: prompt tokens, tokens expected to be cached, output tokens expected.

pub mod averages;
pub mod exact;
pub mod weigh;
