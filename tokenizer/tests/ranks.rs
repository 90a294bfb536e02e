//! Vocabularies given as ranks or merges, against the tokenizer that has the same ones built in.

mod texts;

use std::collections::BTreeMap;

use texts::{Dice, KINDS, text};
use tiktoken_rs::CoreBPE;
use tokenizer::{Counter, Normalization, Vocabulary, tokens_by_rank};

/// The pattern of gpt-2, as byte-level model files imply it.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
/// The pattern of gpt-4o.
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// All tokens in order of rank.
fn table(vocabulary: &CoreBPE, tokens: u32) -> Vec<Vec<u8>> {
    (0..tokens).filter_map(|rank| vocabulary.decode_bytes(&[rank]).ok()).collect()
}

/// The pair that each token of more than one byte is made of, as converters of model files find it.
fn merges(table: &[Vec<u8>]) -> Vec<(Vec<u8>, Vec<u8>)> {
    let ranks: BTreeMap<&[u8], usize> =
        table.iter().enumerate().map(|(rank, token)| (&token[..], rank)).collect();
    let pair = |(rank, token): (usize, &Vec<u8>)| {
        let mut parts: Vec<Vec<u8>> = token.iter().map(|byte| vec![*byte]).collect();
        while parts.len() > 2 {
            let joined = parts.windows(2).enumerate().filter_map(|(at, two)| {
                let found = ranks.get(two.concat().as_slice()).filter(|found| **found < rank)?;
                Some((*found, at))
            });
            let (_, at) = joined.min()?;
            let right = parts.remove(at + 1);
            parts.get_mut(at)?.extend(right);
        }
        let [left, right] = <[Vec<u8>; 2]>::try_from(parts).ok()?;
        Some((left, right))
    };
    table.iter().enumerate().filter(|(_, token)| token.len() > 1).filter_map(pair).collect()
}

fn assert_same(ours: &Counter, theirs: &Counter) {
    let mut dice = Dice::new(7);
    for kind in KINDS {
        for _ in 0..20 {
            let text = text(kind, 2_000, &mut dice);
            assert_eq!(ours.count(&text), theirs.count(&text), "{kind:?}: {text}");
        }
    }
    for text in
        ["", " ", "don't", "a\u{301}\u{e9} 한국어 \u{1f600}", "\u{85}\u{a0}  x\n\n\n", "<|endoftext|>"]
    {
        assert_eq!(ours.count(text), theirs.count(text), "{text:?}");
    }
}

#[test]
fn the_ranks_of_o200k_count_as_o200k_does() {
    let ranks = table(&tiktoken_rs::o200k_base().unwrap(), 199_998);
    assert_eq!(ranks.len(), 199_998);

    let ours = Counter::from_ranks(ranks, O200K, Normalization::None).unwrap();

    assert_same(&ours, &Counter::new(Vocabulary::O200kBase).unwrap());
}

#[test]
fn the_merges_of_gpt2_count_as_gpt2_does() {
    let table = table(&tiktoken_rs::r50k_base().unwrap(), 50_256);
    let merges = merges(&table);
    assert_eq!(merges.len(), 50_000, "one for each token but the bytes");

    let tokens = tokens_by_rank(&merges, None).unwrap();

    assert_eq!(tokens[256..], table[256..]);
    let ours = Counter::from_ranks(tokens, GPT2, Normalization::None).unwrap();
    assert_same(&ours, &Counter::new(Vocabulary::R50kBase).unwrap());
}
