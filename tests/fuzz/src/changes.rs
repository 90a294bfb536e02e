//! Inputs changed at random: what keeps a mended defect from coming back, on any toolchain and in seconds.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Changes of one input, at most.
const CHANGES_MAX: u32 = 6;
/// Longest input that is changed, bytes.
const LENGTH_MAX: usize = 32 << 10;
/// Bytes that one change takes away, turns or repeats, at most.
const SPAN_MAX: usize = 32;
/// What is put in: pieces that mean something to one reader or another.
const PIECES: [&[u8]; 24] = [
    b"\"",
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"data: ",
    b"data: [DONE]\n\n",
    b"\"usage\":{\"prompt_tokens\":18446744073709551615}",
    b"\"error\":",
    b"null",
    b"1e999",
    b"-0",
    b"\\ud800",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\0",
    b"0;x=",
    b"event: error\n",
];

/// Changed inputs, the same ones for the same seeds and number.
#[derive(Debug)]
pub struct Changes<'a> {
    seeds: &'a [Vec<u8>],
    random: SmallRng,
}

impl<'a> Changes<'a> {
    /// Changes of `seeds`.
    #[must_use]
    pub fn of(seeds: &'a [Vec<u8>], number: u64) -> Self {
        Changes { seeds, random: SmallRng::seed_from_u64(number) }
    }

    /// The next one.
    pub fn next_input(&mut self) -> Vec<u8> {
        let mut bytes = self.one();
        bytes.truncate(LENGTH_MAX);
        for _ in 0..self.random.random_range(1..=CHANGES_MAX) {
            self.change(&mut bytes);
        }
        bytes
    }

    fn one(&mut self) -> Vec<u8> {
        let at = self.random.random_range(0..self.seeds.len().max(1));
        self.seeds.get(at).cloned().unwrap_or_default()
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        let at = self.random.random_range(0..=bytes.len());
        let until = (at + self.random.random_range(0..=SPAN_MAX)).min(bytes.len());
        match self.random.random_range(0..5) {
            0 => {
                let piece =
                    PIECES.get(self.random.random_range(0..PIECES.len())).copied().unwrap_or_default();
                drop(bytes.splice(at..at, piece.iter().copied()));
            }
            1 => drop(bytes.drain(at..until)),
            2 => bytes
                .iter_mut()
                .take(until)
                .skip(at)
                .for_each(|byte| *byte ^= 1 << self.random.random_range(0..8)),
            3 => {
                let other = self.one();
                let from = self.random.random_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend(other.into_iter().skip(from).take(LENGTH_MAX));
            }
            _ => {
                let again: Vec<u8> = bytes.iter().copied().take(until).skip(at).collect();
                drop(bytes.splice(at..at, again));
            }
        }
    }
}
