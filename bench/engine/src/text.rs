//! The text that the simulated engine answers with: a function of a seed, so that a client can check every byte.
//!
//! Token `i` of the answer with seed `s` is `PIECES[mix(s, i) mod 64]`; the answer is their concatenation. The rule
//! needs no state, so a check can begin anywhere, and neighbouring answers differ within a few tokens, so bytes that
//! went to the wrong client are noticed. Some pieces hold quotes, line ends and characters of two to four bytes: a
//! relay that cuts, unescapes or re-encodes is noticed too.
//!
//! The seed of an answer is the request's `seed`, or else [`seed_of_texts`] of all texts in its prompt (definitions of
//! tools first, then each message's parts); choice `c` of several has `seed + c`. A forced tool call has the
//! arguments `{"text": …}` with this text in it.

const PIECES: [&str; 64] = [
    " the", " a", " of", " and", " to", " in", " is", " it", " that", " for", " on", " with", " as", " at",
    " by", " this", " tide", " gate", " wave", " water", " harbour", " ebb", " flow", " shore", " current",
    " level", " rises", " falls", " holds", " opens", " closes", " waits", ",", ".", ";", " \"", "\"", "\n",
    "\n\n", "\\", "/", " {", "}", " [", "]", "<", ">", "&", "'", "\t", " é", "ü", " ß", " →", "…", " 漢",
    "字", " 潮", "🌊", " data:", ": ", " [DONE", "0", " 42",
];

/// Token `i` of the answer with this seed.
#[must_use]
pub fn piece(seed: u64, i: u32) -> &'static str {
    let at = mix(seed ^ mix(u64::from(i))) % PIECES.len() as u64;
    PIECES.get(at as usize).copied().unwrap_or_default()
}

/// The first `n_tokens` tokens of the answer with this seed. Allocates the result.
#[must_use]
pub fn expected_text(seed: u64, n_tokens: u32) -> String {
    let mut text = String::with_capacity(n_tokens as usize * 5);
    for i in 0..n_tokens {
        text.push_str(piece(seed, i));
    }
    text
}

/// A hash of one text.
#[must_use]
pub fn seed_of(prompt: &str) -> u64 {
    let hash = prompt.bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    mix(hash)
}

/// The seed of a prompt that consists of these texts.
#[must_use]
pub fn seed_of_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> u64 {
    texts.into_iter().fold(0, |seed, text| mix(seed ^ seed_of(text)))
}

/// How long an answer is that nothing but the model ends: 32 … 400 tokens, by its seed.
#[must_use]
pub fn natural_length(seed: u64) -> u32 {
    32 + (mix(seed ^ 0x006C_656E) % 369) as u32
}

/// The finalizer of splitmix64: a seed for each number of a sequence.
#[must_use]
pub fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_answer_continues_the_shorter_one() {
        let long = expected_text(7, 50);
        assert!(long.starts_with(&expected_text(7, 49)));
        assert_ne!(expected_text(8, 50), long);
    }

    #[test]
    fn every_piece_is_text_and_no_piece_ends_a_stream_by_itself() {
        assert!(PIECES.iter().all(|piece| !piece.is_empty()));
        assert!(PIECES.iter().all(|piece| !piece.contains("[DONE]")));
    }

    #[test]
    fn the_rule_is_fixed() {
        let text =
            " by closes inü\\ rises [ waits current → ß water' rises [DONE< harbour holds onü…\\ ebb falls";
        assert_eq!(expected_text(1, 24), text);
    }

    #[test]
    fn natural_lengths_stay_in_their_range() {
        assert!((0..10_000).map(natural_length).all(|n| (32..=400).contains(&n)));
    }
}
