//! One pass over a text that counts its bytes by class, because a tokenizer treats classes differently.
//!
//! Bytes alone predict tokens badly: English prose has 4.5 bytes per token, digits 3, Chinese 2 to 4
//! by vocabulary. But every byte-pair vocabulary first cuts a text where letters, digits, punctuation and
//! whitespace meet, and within one class the cost of a byte is nearly constant. So the counts below are
//! what a calibrated linear estimate needs, and one branch-free loop over the bytes delivers them.
//!
//! A class that is counted *by starts* looks at the byte before; the byte before a text is a line break, so
//! the counts of two pieces of one text, scanned apart, differ from those of the whole by at most one per class.
//!
//! # Cost
//!
//! O(bytes), no allocation, no table. The loop is written so that the compiler makes vector code of it:
//! single-byte counters over blocks of at most 240 bytes. A block without a byte over 127 skips the scripts.

/// How many classes of text there are.
pub(crate) const TEXT_CLASSES: usize = 19;

/// Bytes after which the single-byte counters are emptied: a multiple of 16, at most 255.
const BLOCK_BYTES: usize = 240;

/// Counts of a text by class. Adding two of them gives the counts of both texts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TextClasses {
    /// ASCII letters that neither a letter nor punctuation precedes: the words.
    pub words: u32,
    /// ASCII letters that punctuation precedes (`_name`, `.field`): most vocabularies join the two.
    pub joined: u32,
    /// ASCII letters.
    pub letters: u32,
    /// ASCII upper-case letters that a letter precedes (`camelCase`, `SHOUTING`).
    pub humps: u32,
    /// ASCII digits.
    pub digits: u32,
    /// Digits that no digit precedes: the numbers.
    pub numbers: u32,
    /// ASCII punctuation, control characters included.
    pub punctuation: u32,
    /// Punctuation that no punctuation precedes.
    pub punctuation_runs: u32,
    /// Punctuation that a blank precedes: operators, opening brackets and quotes.
    pub spaced: u32,
    /// Line breaks that no line break precedes.
    pub lines: u32,
    /// Blanks right after a line break.
    pub indents: u32,
    /// Blanks after a blank.
    pub padding: u32,
    /// Characters of two bytes up to U+02BF: Latin with marks.
    pub latin: u32,
    /// The other characters of two bytes: Greek, Cyrillic, Hebrew, Arabic and more.
    pub alphabets: u32,
    /// Characters of three bytes up to U+1FFF: Indic scripts, Thai, Georgian and more.
    pub abugidas: u32,
    /// U+2000 to U+3FFF and U+F000 to U+FFFF: typographic signs, kana, full-width forms.
    pub signs: u32,
    /// U+4000 to U+9FFF: Han.
    pub han: u32,
    /// U+A000 to U+EFFF: mostly Hangul.
    pub hangul: u32,
    /// Characters of four bytes: emoji and rare scripts.
    pub astral: u32,
}

impl TextClasses {
    /// The classes of `bytes` bytes of English prose: what a text is taken for that was not scanned.
    pub fn prose(bytes: u64) -> Self {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let per_mille = |share: u64| (u64::from(bytes) * share / 1000) as u32;
        Self {
            words: per_mille(165),
            joined: per_mille(5),
            letters: per_mille(800),
            humps: per_mille(5),
            digits: per_mille(5),
            numbers: per_mille(2),
            punctuation: per_mille(30),
            punctuation_runs: per_mille(27),
            spaced: per_mille(4),
            lines: per_mille(6),
            ..Self::default()
        }
    }

    /// Adds the counts of another text, saturating at `u32::MAX`.
    pub fn add(&mut self, other: &Self) {
        let sum = self.counts().into_iter().zip(other.counts());
        let mut counts = [0u32; TEXT_CLASSES];
        for (slot, (a, b)) in counts.iter_mut().zip(sum) {
            *slot = a.saturating_add(b);
        }
        *self = Self::from_counts(counts);
    }

    /// The counts in the order of the fields.
    pub(crate) fn counts(&self) -> [u32; TEXT_CLASSES] {
        [
            self.words,
            self.joined,
            self.letters,
            self.humps,
            self.digits,
            self.numbers,
            self.punctuation,
            self.punctuation_runs,
            self.spaced,
            self.lines,
            self.indents,
            self.padding,
            self.latin,
            self.alphabets,
            self.abugidas,
            self.signs,
            self.han,
            self.hangul,
            self.astral,
        ]
    }

    fn from_counts(counts: [u32; TEXT_CLASSES]) -> Self {
        let [
            words,
            joined,
            letters,
            humps,
            digits,
            numbers,
            punctuation,
            punctuation_runs,
            spaced,
            lines,
            indents,
            padding,
            latin,
            alphabets,
            abugidas,
            signs,
            han,
            hangul,
            astral,
        ] = counts;
        Self {
            words,
            joined,
            letters,
            humps,
            digits,
            numbers,
            punctuation,
            punctuation_runs,
            spaced,
            lines,
            indents,
            padding,
            latin,
            alphabets,
            abugidas,
            signs,
            han,
            hangul,
            astral,
        }
    }
}

/// Counts the bytes of `text` by class. Any bytes will do, UTF-8 or not. O(bytes), no allocation.
pub fn scan(text: &[u8]) -> TextClasses {
    let mut scan = TextScan::new();
    scan.feed(text);
    scan.classes()
}

/// A scan over a text that comes in pieces: any cutting gives the counts of the whole.
#[derive(Debug, Clone)]
pub struct TextScan {
    totals: [u64; TEXT_CLASSES],
    last: u8,
}

impl Default for TextScan {
    fn default() -> Self {
        Self::new()
    }
}

impl TextScan {
    /// A scan that has seen nothing.
    pub fn new() -> Self {
        Self { totals: [0; TEXT_CLASSES], last: b'\n' }
    }

    /// Counts the next piece.
    pub fn feed(&mut self, piece: &[u8]) {
        let Some((&first, rest)) = piece.split_first() else { return };
        // The first byte's neighbour lies in the piece before; every other byte's lies in this one.
        self.block(&[first], &[self.last]);
        let mut before = piece;
        let mut rest = rest;
        while !rest.is_empty() {
            let (block, later) = rest.split_at(rest.len().min(BLOCK_BYTES));
            let (neighbours, before_later) = before.split_at(block.len());
            self.block(block, neighbours);
            rest = later;
            before = before_later;
        }
        self.last = piece.last().copied().unwrap_or(self.last);
    }

    /// What was counted so far, each count at most `u32::MAX`.
    pub fn classes(&self) -> TextClasses {
        TextClasses::from_counts(self.totals.map(|total| u32::try_from(total).unwrap_or(u32::MAX)))
    }

    fn block(&mut self, block: &[u8], before: &[u8]) {
        let ascii = ascii_counts(block, before);
        for (total, count) in self.totals.iter_mut().zip(ascii) {
            *total += u64::from(count);
        }
        if !block.is_ascii() {
            for (total, count) in self.totals.iter_mut().skip(ascii.len()).zip(script_counts(block)) {
                *total += u64::from(count);
            }
        }
    }
}

const fn is_letter(byte: u8) -> bool {
    (byte | 0x20).wrapping_sub(b'a') < 26
}

const fn is_upper(byte: u8) -> bool {
    byte.wrapping_sub(b'A') < 26
}

const fn is_digit(byte: u8) -> bool {
    byte.wrapping_sub(b'0') < 10
}

const fn is_blank(byte: u8) -> bool {
    (byte == b' ') | (byte == b'\t')
}

const fn is_break(byte: u8) -> bool {
    (byte == b'\n') | (byte == b'\r')
}

const fn is_punctuation(byte: u8) -> bool {
    (byte < 0x80) & !is_letter(byte) & !is_digit(byte) & !is_blank(byte) & !is_break(byte)
}

/// The twelve ASCII classes of a block of at most `BLOCK_BYTES`, each byte with the one before it.
fn ascii_counts(block: &[u8], before: &[u8]) -> [u8; 12] {
    let [mut words, mut joined, mut letters, mut humps, mut digits, mut numbers] = [0u8; 6];
    let [mut marks, mut runs, mut spaced, mut lines, mut indents, mut padding] = [0u8; 6];
    for (&byte, &prior) in block.iter().zip(before) {
        let (letter, after_letter) = (is_letter(byte), is_letter(prior));
        let (mark, after_mark) = (is_punctuation(byte), is_punctuation(prior));
        let (blank, after_blank) = (is_blank(byte), is_blank(prior));
        let (digit, after_break) = (is_digit(byte), is_break(prior));
        words += u8::from(letter & !after_letter & !after_mark);
        joined += u8::from(letter & after_mark);
        letters += u8::from(letter);
        humps += u8::from(is_upper(byte) & after_letter);
        digits += u8::from(digit);
        numbers += u8::from(digit & !is_digit(prior));
        marks += u8::from(mark);
        runs += u8::from(mark & !after_mark);
        spaced += u8::from(mark & after_blank);
        lines += u8::from(is_break(byte) & !after_break);
        indents += u8::from(blank & after_break);
        padding += u8::from(blank & after_blank);
    }
    [words, joined, letters, humps, digits, numbers, marks, runs, spaced, lines, indents, padding]
}

/// The seven classes of characters beyond ASCII, told by the first byte of each.
fn script_counts(block: &[u8]) -> [u8; 7] {
    let [mut latin, mut alphabets, mut abugidas, mut signs, mut han, mut hangul, mut astral] = [0u8; 7];
    for &byte in block {
        latin += u8::from(byte.wrapping_sub(0xC2) < 0x09);
        alphabets += u8::from(byte.wrapping_sub(0xCB) < 0x15);
        abugidas += u8::from(byte.wrapping_sub(0xE0) < 2);
        signs += u8::from((byte.wrapping_sub(0xE2) < 2) | (byte == 0xEF));
        han += u8::from(byte.wrapping_sub(0xE4) < 6);
        hangul += u8::from(byte.wrapping_sub(0xEA) < 5);
        astral += u8::from(byte >= 0xF0);
    }
    [latin, alphabets, abugidas, signs, han, hangul, astral]
}
