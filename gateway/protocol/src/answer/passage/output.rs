//! One piece of an answer on its way out, and how far a look into it reaches.
//!
//! A piece in which nothing is edited goes out as it came; what is written into one costs a copy of it.

use bytes::{Bytes, BytesMut};
use std::ops::Range;

/// Bytes written into a piece, as a rule: a tier, a model's name, a held key.
const WRITTEN_LIKELY: usize = 128;

/// What a client gets for one piece: the piece itself, or a slice of it, as long as nothing is written into it.
pub(super) struct Output<'a> {
    piece: &'a Bytes,
    /// The next byte.
    at: usize,
    /// Bytes of the piece that come behind what is built.
    run: Range<usize>,
    built: BytesMut,
}

impl<'a> Output<'a> {
    pub(super) fn new(piece: &'a Bytes) -> Self {
        Output { piece, at: 0, run: 0..0, built: BytesMut::new() }
    }

    /// What has not been looked at.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.piece.get(self.at..).unwrap_or_default()
    }

    /// The next `count` bytes.
    pub(super) fn ahead(&self, count: usize) -> &'a [u8] {
        self.rest().get(..count).unwrap_or_default()
    }

    /// Leaves out the next `count` bytes.
    pub(super) fn skip(&mut self, count: usize) {
        self.at += count;
    }

    /// Passes on the next `count` bytes.
    pub(super) fn pass(&mut self, count: usize) {
        if count == 0 {
            return;
        }
        if self.run.is_empty() {
            self.run = self.at..self.at;
        } else if self.run.end != self.at {
            self.build();
        }
        self.at += count;
        self.run.end = self.at;
    }

    /// Writes `bytes` before the next one.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.build();
        self.built.extend_from_slice(bytes);
    }

    /// Copies the run behind what is built, and begins another.
    fn build(&mut self) {
        if self.built.is_empty() {
            self.built.reserve(self.piece.len() + WRITTEN_LIKELY);
        }
        self.built.extend_from_slice(self.piece.get(self.run.clone()).unwrap_or_default());
        self.run = self.at..self.at;
    }

    pub(super) fn finish(mut self) -> Bytes {
        if self.built.is_empty() {
            return self.piece.slice(self.run);
        }
        self.build();
        self.built.freeze()
    }
}

/// How many bytes of white space lead `bytes`.
pub(super) fn blanks(bytes: &[u8]) -> usize {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    bytes.iter().position(|byte| !is_blank(byte)).unwrap_or(bytes.len())
}

/// How many of `bytes` belong to the string they are in, closing quote included, and whether it is closed.
pub(super) fn string_part(bytes: &[u8], escaped: &mut bool) -> (usize, bool) {
    let mut at = usize::from(std::mem::take(escaped));
    while let Some(found) = memchr::memchr2(b'"', b'\\', bytes.get(at..).unwrap_or_default()) {
        at += found;
        if bytes.get(at) == Some(&b'"') {
            return (at + 1, true);
        }
        at += 2;
    }
    *escaped = at > bytes.len();
    (bytes.len(), false)
}

/// How many bytes lead to the next bracket, brace or quote, or to the end.
pub(super) fn plain_part(bytes: &[u8]) -> usize {
    // `[` and `{` differ in one bit, and so do `]` and `}`.
    let is_structural = |byte: u8| matches!(byte | 0x20, b'{' | b'}') || byte == b'"';
    let (blocks, _) = bytes.as_chunks::<64>();
    // Without an early exit, so that a block is compared at once.
    let is_plain = |block: &&[u8; 64]| !block.iter().fold(false, |any, &byte| any | is_structural(byte));
    let plain = 64 * blocks.iter().take_while(is_plain).count();
    let rest = bytes.get(plain..).unwrap_or_default();
    plain + rest.iter().position(|&byte| is_structural(byte)).unwrap_or(rest.len())
}
