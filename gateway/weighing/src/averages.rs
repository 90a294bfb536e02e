//! Averages that finished answers move: tokens of a usual answer, tokens per content chunk.

use std::sync::atomic::{AtomicU64, Ordering};

/// An average that finished answers move, shared by all accounts of a model. Starts at the model's default.
#[derive(Debug)]
pub struct UsualAnswer(AtomicF64);

/// Tokens per content chunk, moved by finished streams. Starts at 1; more with speculative decoding.
#[derive(Debug)]
pub struct TokensPerChunk(AtomicF64);

/// Bytes of text per generated token, moved by finished whole answers. Starts at 4, as English has with common
/// vocabularies.
#[derive(Debug)]
pub struct BytesPerToken(AtomicF64);

impl Default for BytesPerToken {
    fn default() -> Self {
        BytesPerToken(AtomicF64::new(4.0))
    }
}

impl BytesPerToken {
    /// Bytes per token.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.0.load()
    }

    /// An answer with so many bytes of text had so many tokens, by the engine's usage.
    pub fn learn(&self, bytes: u64, tokens: u64) {
        if bytes > 0 && tokens > 0 {
            self.0.move_towards((bytes as f64 / tokens as f64).clamp(0.5, 16.0), GAIN);
        }
    }
}

/// Share of a new sample in these averages.
const GAIN: f64 = 0.1;

impl UsualAnswer {
    /// An average that nothing has moved yet.
    #[must_use]
    pub fn starting_at(tokens: u32) -> Self {
        UsualAnswer(AtomicF64::new(f64::from(tokens)))
    }

    /// Tokens.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.0.load().round() as u64
    }

    /// An answer finished with so many tokens per choice.
    pub fn learn(&self, tokens: u64) {
        self.0.move_towards(tokens as f64, GAIN);
    }
}

impl Default for TokensPerChunk {
    fn default() -> Self {
        TokensPerChunk(AtomicF64::new(1.0))
    }
}

impl TokensPerChunk {
    /// Tokens per chunk, at least 1.
    #[must_use]
    pub fn value(&self) -> f64 {
        self.0.load()
    }

    /// A stream finished: `tokens` by the engine's usage in `chunks` content chunks.
    pub fn learn(&self, tokens: u64, chunks: u32) {
        if chunks > 0 && tokens > 0 {
            self.0.move_towards((tokens as f64 / f64::from(chunks)).clamp(1.0, 64.0), GAIN);
        }
    }
}

#[derive(Debug)]
struct AtomicF64(AtomicU64);

impl AtomicF64 {
    fn new(value: f64) -> Self {
        AtomicF64(AtomicU64::new(value.to_bits()))
    }

    fn load(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    /// Concurrent moves may lose one of them, which an average forgives.
    fn move_towards(&self, target: f64, gain: f64) {
        let value = self.load();
        self.0.store((value + gain * (target - value)).to_bits(), Ordering::Relaxed);
    }
}
