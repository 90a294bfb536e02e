//! Cuts a text inside runs that a tokenizer could not cut itself, so that exact counting stays linear.
//!
//! A byte-pair tokenizer first splits a text by a pattern, where letters, digits, punctuation and whitespace
//! meet, and merges inside each piece at a cost above linear; a pattern with look-ahead may also backtrack over
//! a whole run of blanks. 50,000 underscores are one piece. So a run in which no split is certain is cut every
//! [`RUN_CHARS_MAX`] characters. Real text has no such runs (a word, a line of `=`), and is handed on whole.
//!
//! A split is certain between two characters that are both of a known kind and of different kinds. Beyond ASCII
//! only scripts without marks and the commonest signs have a known kind; a run of others continues whatever
//! is beside it. That errs to the safe side: text in Thai or Devanagari is cut every 512 characters.
//!
//! # Guarantees
//!
//! - The segments, joined, are the text; each ends on a character boundary.
//! - No piece of a known tokenizer pattern inside a segment is longer than two runs and a few characters.
//! - A text without such a run is one segment: its count is the tokenizer's own.
//! - A cut changes the count by a token or two.

/// Characters of a run after which it is cut. The longest tokens of common vocabularies have 128.
pub const RUN_CHARS_MAX: u32 = 512;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Letter,
    Digit,
    Space,
    Sign,
    Unknown,
}

/// The segments of `text`, in order. An empty text has none. O(bytes), no allocation.
pub fn segments(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (segment, later) = rest.split_at_checked(first_cut(rest)).unwrap_or((rest, ""));
        rest = later;
        Some(segment)
    })
}

/// Where the first segment of `text` ends: a character boundary, above 0 for a text that is not empty.
fn first_cut(text: &str) -> usize {
    // What is not longer in bytes than a run may be in characters holds no run that is too long.
    if text.len() <= RUN_CHARS_MAX as usize {
        return text.len();
    }
    let mut run = 0;
    let mut last = Kind::Unknown;
    for (at, character) in text.char_indices() {
        let kind = kind(character);
        let splits = kind != last && kind != Kind::Unknown && last != Kind::Unknown;
        run = if splits { 1 } else { run + 1 };
        if run > RUN_CHARS_MAX {
            return at;
        }
        last = kind;
    }
    text.len()
}

fn kind(character: char) -> Kind {
    match character {
        'a'..='z' | 'A'..='Z' => Kind::Letter,
        ' ' | '\t' | '\n' | '\r' => Kind::Space,
        '0'..='9' => Kind::Digit,
        '!'..='~' => Kind::Sign,
        // Latin with marks, Greek and Cyrillic letters, kana, Han, Hangul.
        'À'..='Ö' | 'Ø'..='ö' | 'ø'..='ʯ' | 'Α'..='Ρ' | 'Σ'..='ώ' | 'А'..='ѵ' => Kind::Letter,
        'ぁ'..='ゖ' | 'ァ'..='ヺ' | '一'..='鿋' | '가'..='힣' => Kind::Letter,
        // Typographic dashes and quotes, ideographic and full-width punctuation.
        '‐'..='‧' | '、'..='〃' | '〈'..='】' | '！'..='／' | '：'..='＠' => Kind::Sign,
        _ => Kind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn longest_run(text: &str) -> u32 {
        let mut longest = 0;
        let mut run = 0;
        let mut last = None;
        for character in text.chars() {
            let now = kind(character);
            let joined =
                last.is_some_and(|last| now == last || now == Kind::Unknown || last == Kind::Unknown);
            run = if joined { run + 1 } else { 1 };
            longest = longest.max(run);
            last = Some(now);
        }
        longest
    }

    #[test]
    fn text_with_breaks_is_one_segment_however_long() {
        let prose = "The quick brown fox, 42 times; ".repeat(10_000);

        assert_eq!(segments(&prose).count(), 1);
    }

    #[test]
    fn chinese_with_punctuation_is_one_segment() {
        let text = "今天的天气很好，我们一起去公园散步。".repeat(1_000);

        assert_eq!(segments(&text).count(), 1);
    }

    #[test]
    fn fifty_thousand_underscores_are_cut_at_every_bound() {
        let text = "_".repeat(50_000);

        let lengths: Vec<usize> = segments(&text).map(str::len).collect();

        assert_eq!(lengths.len(), 50_000usize.div_ceil(RUN_CHARS_MAX as usize));
        assert!(lengths.iter().all(|&length| length <= RUN_CHARS_MAX as usize));
    }

    #[test]
    fn signs_that_could_be_letters_do_not_hide_a_run() {
        let text = "a\u{0301}-\u{0301}".repeat(1_000);

        assert!(segments(&text).count() > 1, "marks join what is beside them");
    }

    proptest! {
        #[test]
        fn segments_are_the_text_and_hold_no_long_run(
            pieces in prop::collection::vec(
                prop_oneof!["\\PC{0,20}", "[a-z]{0,900}", " {0,900}", "[-_=]{0,900}", "[一-龥]{0,900}"], 0..6)
        ) {
            let text = pieces.concat();

            let cut: Vec<&str> = segments(&text).collect();

            prop_assert_eq!(cut.concat(), text.clone());
            for segment in cut {
                prop_assert!(!segment.is_empty());
                prop_assert!(longest_run(segment) <= RUN_CHARS_MAX);
            }
        }
    }
}
