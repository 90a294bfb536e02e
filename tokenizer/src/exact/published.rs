//! The published vocabularies, compiled in as bytes.
//!
//! The library has them too, each rank as a line of base64: 7 MB, of which `r50k_base` is there twice. Here they are the
//! tokens themselves in order of rank, each after a byte with its length, 2.7 MB, and `r50k_base` is where
//! `p50k_base` begins. What the library has is what a test compares them with, token by token.

use tiktoken_rs::{CoreBPE, O200K_BASE_PAT_STR, Rank};

use super::counter::Vocabulary;

const O200K: &[u8] = include_bytes!("vocabularies/o200k_base.tokens");
const CL100K: &[u8] = include_bytes!("vocabularies/cl100k_base.tokens");
const P50K: &[u8] = include_bytes!("vocabularies/p50k_base.tokens");

/// How many tokens of `p50k_base` are those of `r50k_base`.
const R50K_TOKENS: usize = 50_256;

const CL100K_PATTERN: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s";
const P50K_PATTERN: &str = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s";

/// The tables of a vocabulary, without special tokens, which are plain text here.
///
/// # Errors
/// What the library says of the tables: a broken build.
pub(super) fn tables(vocabulary: Vocabulary) -> Result<CoreBPE, String> {
    let (bytes, tokens_max, pattern) = match vocabulary {
        Vocabulary::O200kBase | Vocabulary::O200kHarmony => (O200K, usize::MAX, O200K_BASE_PAT_STR),
        Vocabulary::Cl100kBase => (CL100K, usize::MAX, CL100K_PATTERN),
        Vocabulary::P50kBase => (P50K, usize::MAX, P50K_PATTERN),
        Vocabulary::R50kBase => (P50K, R50K_TOKENS, P50K_PATTERN),
    };
    let of_rank = (0..).zip(Tokens(bytes)).take(tokens_max);
    let ranks =
        of_rank.filter(|(_, token)| !token.is_empty()).map(|(rank, token): (Rank, _)| (token.to_vec(), rank));
    CoreBPE::new(ranks.collect(), std::iter::empty().collect(), pattern).map_err(|e| e.to_string())
}

/// The tokens in order of rank; an empty one is a rank that no token has.
struct Tokens(&'static [u8]);

impl Iterator for Tokens {
    type Item = &'static [u8];

    fn next(&mut self) -> Option<&'static [u8]> {
        let (length, rest) = self.0.split_first()?;
        let (token, rest) = rest.split_at_checked(usize::from(*length))?;
        self.0 = rest;
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every token and rank of the library's, and none beside; patterns by texts in which they differ.
    fn are_the_same(vocabulary: Vocabulary, published: &CoreBPE, bytes: &'static [u8], ranks: usize) {
        let ours = tables(vocabulary).unwrap();
        let mut tokens = 0;
        for (rank, token) in (0..).zip(Tokens(bytes)).take(ranks) {
            if token.is_empty() {
                assert!(ours.decode_bytes(&[rank]).is_err(), "{vocabulary:?}: rank {rank}");
                continue;
            }
            assert_eq!(published.decode_bytes(&[rank]).unwrap(), token, "{vocabulary:?}: rank {rank}");
            assert_eq!(ours.decode_bytes(&[rank]).unwrap(), token, "{vocabulary:?}: rank {rank}");
            tokens += 1;
        }
        assert!(ours.decode_bytes(&[u32::try_from(ranks).unwrap()]).is_err());
        assert!(tokens >= ranks - 1, "{vocabulary:?}: {tokens} of {ranks}");
        for text in [
            "I'LL we'll  12345\r\n\r\n  x \t",
            "Grüße,  \n日本語のテキスト <|endoftext|>",
            "fn main() {\n    a/b//c;\n}\n   ",
        ] {
            assert_eq!(ours.encode_ordinary(text), published.encode_ordinary(text), "{vocabulary:?}: {text}");
        }
    }

    #[test]
    fn the_tables_are_those_that_are_published() {
        are_the_same(Vocabulary::O200kBase, &tiktoken_rs::o200k_base().unwrap(), O200K, 199_998);
        are_the_same(Vocabulary::O200kHarmony, &tiktoken_rs::o200k_harmony().unwrap(), O200K, 199_998);
        are_the_same(Vocabulary::Cl100kBase, &tiktoken_rs::cl100k_base().unwrap(), CL100K, 100_256);
        are_the_same(Vocabulary::P50kBase, &tiktoken_rs::p50k_base().unwrap(), P50K, 50_281);
        are_the_same(Vocabulary::R50kBase, &tiktoken_rs::r50k_base().unwrap(), P50K, R50K_TOKENS);
    }
}
