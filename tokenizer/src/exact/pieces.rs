//! Counting with a vocabulary that is given: normalize, cut into pieces, merge each piece.
//!
//! The pattern comes from a model's file, not from us, so it is not trusted to match everything or to come to an
//! end: what lies between two matches is a piece as well, and from where a search gives up the rest is one. That
//! may cost a few tokens of exactness, never a panic or an endless count.

use std::borrow::Cow;

use fancy_regex::{Regex, RegexBuilder};
use tiktoken_rs::CoreBPE;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use super::counter::VocabularyError;
use super::merges::TOKEN_BYTES_MAX;
use super::runs::segments;

/// Steps back that one search may take. Common patterns take as many as a run has characters, about 1,000.
const BACKTRACKS_MAX: usize = 100_000;

/// What is done to a text before it is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Normalization {
    /// Nothing.
    #[default]
    None,
    /// Unicode's canonical composition: `e` and a combining acute become `é`.
    Nfc,
}

pub(super) struct Pieces {
    normalization: Normalization,
    pattern: Regex,
    /// Takes any text as one piece.
    merges: CoreBPE,
}

impl Pieces {
    pub(super) fn new(
        tokens: impl IntoIterator<Item = Vec<u8>>,
        pattern: &str,
        normalization: Normalization,
    ) -> Result<Self, VocabularyError> {
        let refused = |cause: String| VocabularyError::Pattern { cause };
        let mut sorted: Vec<(Vec<u8>, u32)> = tokens.into_iter().zip(0..).collect();
        sorted.sort_unstable();
        check(&sorted)?;
        Ok(Self {
            normalization,
            pattern: RegexBuilder::new(pattern)
                .backtrack_limit(BACKTRACKS_MAX)
                .build()
                .map_err(|e| refused(e.to_string()))?,
            merges: CoreBPE::new(sorted.into_iter().collect(), [].into_iter().collect(), "(?s:.+)")
                .map_err(|e| refused(e.to_string()))?,
        })
    }

    /// Tokens of `text`.
    pub(super) fn count(&self, text: &str) -> usize {
        segments(&self.normalized(text)).map(|segment| self.count_segment(segment)).sum()
    }

    fn normalized<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let as_it_is = self.normalization == Normalization::None
            || text.is_ascii()
            || is_nfc_quick(text.chars()) == IsNormalized::Yes;
        if as_it_is { text.into() } else { text.nfc().collect::<String>().into() }
    }

    fn count_segment(&self, segment: &str) -> usize {
        let mut tokens = 0;
        let mut end = 0;
        // The first search that gives up ends the loop: the rest is one piece.
        for found in self.pattern.find_iter(segment).map_while(Result::ok) {
            tokens += self.count_piece(segment.get(end..found.start()));
            tokens += self.count_piece(segment.get(found.start()..found.end()));
            end = found.end();
        }
        tokens + self.count_piece(segment.get(end..))
    }

    fn count_piece(&self, piece: Option<&str>) -> usize {
        piece.filter(|piece| !piece.is_empty()).map_or(0, |piece| self.merges.count_ordinary(piece))
    }
}

/// Whether all bytes are tokens and no token is there twice.
fn check(sorted: &[(Vec<u8>, u32)]) -> Result<(), VocabularyError> {
    let has = |byte: u8| sorted.binary_search_by(|(token, _)| token.as_slice().cmp(&[byte])).is_ok();
    if let Some(byte) = (0..=u8::MAX).find(|byte| !has(*byte)) {
        return Err(VocabularyError::ByteMissing { byte });
    }
    let twice = sorted.windows(2).find_map(|pair| match pair {
        [(one, _), (other, rank)] if one == other => Some(*rank),
        _ => None,
    });
    let unfit = sorted.iter().find(|(token, _)| token.is_empty() || token.len() > TOKEN_BYTES_MAX);
    match twice.or(unfit.map(|(_, rank)| *rank)) {
        Some(rank) => Err(VocabularyError::Token { rank }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_and(tokens: &[&str]) -> Vec<Vec<u8>> {
        (0..=u8::MAX).map(|byte| vec![byte]).chain(tokens.iter().map(|token| (*token).into())).collect()
    }

    fn count(tokens: &[&str], pattern: &str, text: &str) -> usize {
        Pieces::new(bytes_and(tokens), pattern, Normalization::None).unwrap().count(text)
    }

    #[test]
    fn pieces_are_merged_by_rank_and_not_across_the_pattern() {
        let tokens = ["lo", "low", "er", "lower", " l"];

        assert_eq!(count(&tokens, r" ?\w+|\s+", "lower"), 1);
        assert_eq!(count(&tokens, r" ?\w+|\s+", " lower"), 2, "`lo` comes before ` l`: a space and `lower`");
        assert_eq!(count(&tokens, r"\w", "lower"), 5);
        assert_eq!(count(&tokens, r" ?\w+|\s+", ""), 0);
    }

    #[test]
    fn what_the_pattern_leaves_out_is_counted_as_well() {
        assert_eq!(count(&["--", "ab"], r"\w+", "--ab--"), 3, "the dashes merge on both sides");
        assert_eq!(
            count(&["ab"], r"x*", "abxab"),
            1 + 2 + 2,
            "matches of nothing are no pieces, but they cut"
        );
    }

    #[test]
    fn a_pattern_that_gives_up_ends_in_one_last_piece() {
        let text = format!("bb{} bb", "a".repeat(60));

        let tokens = count(&["bb"], r"b|(?:a|a)+(?=c)|\w", &text);

        assert_eq!(tokens, 2 + 60 + 1 + 1, "the pattern cuts the first `bb`, and never comes to the last");
    }

    #[test]
    fn letters_with_marks_are_composed_only_where_the_model_does() {
        let tokens = ["\u{e9}"];
        let counter = |normalization| Pieces::new(bytes_and(&tokens), r"\w+", normalization).unwrap();

        assert_eq!(counter(Normalization::Nfc).count("e\u{301}"), 1);
        assert_eq!(counter(Normalization::None).count("e\u{301}"), 3);
        assert_eq!(counter(Normalization::Nfc).count("\u{e9}"), 1);
    }

    #[test]
    fn a_vocabulary_that_cannot_be_used_is_refused() {
        let refused = |tokens: Vec<Vec<u8>>, pattern: &str| {
            Pieces::new(tokens, pattern, Normalization::None).map(|_| "taken").unwrap_err()
        };
        assert_eq!(refused(bytes_and(&[])[..255].to_vec(), "."), VocabularyError::ByteMissing { byte: 255 });
        assert_eq!(refused(bytes_and(&["ab", "ab"]), "."), VocabularyError::Token { rank: 257 });
        assert_eq!(refused(bytes_and(&[""]), "."), VocabularyError::Token { rank: 256 });
        assert!(matches!(refused(bytes_and(&[]), "("), VocabularyError::Pattern { .. }));
    }
}
