//! A list of merges as tokens in order of rank, proved to give the same counts.
//!
//! Model files name the *pairs* that byte-pair encoding merges, earlier pairs first. The counter merges any two
//! neighbours whose *bytes together* are a token, lower rank first. Trained vocabularies give the same tokens
//! either way, but a list of pairs can say things that ranks cannot: `b c` before `a bc`, with `a b` before both,
//! leaves `abc` two tokens, where ranks by bytes make it one. So each token is tried:
//!
//! ```text
//! token t of rank r is sound if    merging the bytes of t with the ranks below r leaves two parts,
//!                                  and this pair is in the list
//! or, where whole tokens win,      every pair of tokens that makes t is in the list
//! ```
//!
//! Why that is enough: what happens inside the bytes of a token depends on nothing outside of them while no merge
//! crosses their ends. So wherever two neighbours make a sound `t` of the first kind, their bytes went through the
//! very steps of the trial, which end in one pair, and that pair is listed; with the second kind every pair is. At
//! each step both ways have the same candidates in the same order, and take the same.
//!
//! One difference stays: a token of the second kind that overlaps itself (`aaa` as `a aa` and `aa a`) is found
//! leftmost by rank, and by the order of its pairs in the list. Such files have both orders in the wild.
//!
//! Cost: O(n²) lookups for a token of n bytes; 1.4 s for the 200,000 tokens of gpt-4o.

use std::collections::BTreeMap;
use std::ops::Range;

/// Longest token of a vocabulary, bytes: four times the longest of those in use, which are runs of blanks.
pub const TOKEN_BYTES_MAX: usize = 512;

/// Why a list of merges cannot be counted with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MergesError {
    /// A pair with a part that has no bytes.
    #[error("merge {nth} has an empty part")]
    Empty {
        /// Its place in the list, from 0.
        nth: usize,
    },
    /// A token beyond the bound.
    #[error("merge {nth} makes a token of {bytes} bytes, and at most {TOKEN_BYTES_MAX} are counted with")]
    TooLong {
        /// Its place in the list, from 0.
        nth: usize,
        /// The bytes of what it makes.
        bytes: usize,
    },
    /// A token that is made at two places of the list has no one rank.
    #[error("merge {nth} makes the token \"{token}\" again, later than others")]
    Scattered {
        /// Its place in the list, from 0.
        nth: usize,
        /// What it makes.
        token: String,
    },
    /// A token that its own bytes do not merge to.
    #[error("the token \"{token}\" is not what its own bytes merge to")]
    Unreachable {
        /// The token.
        token: String,
    },
}

/// The tokens of a list of merges in order of rank: the 256 bytes, then what the merges make. `whole` are all
/// tokens of the vocabulary where a piece that is one is taken whole, whatever the merges say of it.
///
/// # Errors
/// When ranks cannot give what the merges give.
pub fn tokens_by_rank(
    merges: &[(Vec<u8>, Vec<u8>)],
    whole: Option<&[Vec<u8>]>,
) -> Result<Vec<Vec<u8>>, MergesError> {
    let mut ranked = Ranked::new();
    for (nth, (left, right)) in merges.iter().enumerate() {
        ranked.add(nth, left, right)?;
    }
    for rank in 256..ranked.tokens.len() {
        ranked.judge(rank, merges, whole.is_some())?;
    }
    for token in whole.into_iter().flatten().filter(|token| !token.is_empty()) {
        ranked.add_whole(token)?;
    }
    Ok(ranked.tokens)
}

/// Tokens with their ranks and the merges that make them.
struct Ranked {
    tokens: Vec<Vec<u8>>,
    ranks: BTreeMap<Vec<u8>, usize>,
    /// By rank, the places in the list of the merges that make the token.
    makers: Vec<Range<usize>>,
}

impl Ranked {
    fn new() -> Self {
        let mut ranked = Self { tokens: Vec::new(), ranks: BTreeMap::new(), makers: Vec::new() };
        for byte in 0..=u8::MAX {
            ranked.push(vec![byte], 0..0);
        }
        ranked
    }

    fn push(&mut self, token: Vec<u8>, makers: Range<usize>) {
        self.ranks.insert(token.clone(), self.tokens.len());
        self.tokens.push(token);
        self.makers.push(makers);
    }

    fn add(&mut self, nth: usize, left: &[u8], right: &[u8]) -> Result<(), MergesError> {
        if left.is_empty() || right.is_empty() {
            return Err(MergesError::Empty { nth });
        }
        let token = [left, right].concat();
        if token.len() > TOKEN_BYTES_MAX {
            return Err(MergesError::TooLong { nth, bytes: token.len() });
        }
        match self.ranks.get(&token) {
            None => self.push(token, nth..nth + 1),
            Some(&rank) => match self.makers.get_mut(rank) {
                Some(makers) if makers.end == nth => makers.end = nth + 1,
                _ => return Err(MergesError::Scattered { nth, token: shown(&token) }),
            },
        }
        Ok(())
    }

    /// Whether the token of this rank is sound.
    fn judge(&self, rank: usize, merges: &[(Vec<u8>, Vec<u8>)], whole: bool) -> Result<(), MergesError> {
        let (Some(token), Some(makers)) = (self.tokens.get(rank), self.makers.get(rank)) else {
            return Ok(());
        };
        let listed = |at: usize| {
            let pairs = merges.get(makers.clone()).unwrap_or_default();
            token.split_at_checked(at).is_some_and(|(l, r)| pairs.iter().any(|(x, y)| x == l && y == r))
        };
        let sound = match self.bounds(token, rank).as_slice() {
            [_, at, _] if listed(*at) => true,
            _ => whole && self.cuts(token).all(listed),
        };
        if sound { Ok(()) } else { Err(MergesError::Unreachable { token: shown(token) }) }
    }

    /// Where the parts of `token` begin after merging with the ranks `below`, and its end.
    fn bounds(&self, token: &[u8], below: usize) -> Vec<usize> {
        let mut bounds: Vec<usize> = (0..=token.len()).collect();
        loop {
            let candidates = bounds.windows(3).enumerate().filter_map(|(at, window)| match window {
                &[from, _, to] => Some((*self.ranks.get(token.get(from..to)?)?, at)),
                _ => None,
            });
            let Some((_, at)) = candidates.filter(|(rank, _)| *rank < below).min() else { return bounds };
            bounds.remove(at + 1);
        }
    }

    /// Where `token` can be cut into two tokens.
    fn cuts(&self, token: &[u8]) -> impl Iterator<Item = usize> {
        let known = |part: &[u8]| self.ranks.contains_key(part);
        (1..token.len())
            .filter(move |at| token.split_at_checked(*at).is_some_and(|(l, r)| known(l) && known(r)))
    }

    /// Adds a token that is only taken whole: sound if no two tokens make it, else ranks would merge them.
    fn add_whole(&mut self, token: &[u8]) -> Result<(), MergesError> {
        if self.ranks.contains_key(token) {
            return Ok(());
        }
        if token.len() > TOKEN_BYTES_MAX || self.cuts(token).next().is_some() {
            return Err(MergesError::Unreachable { token: shown(token) });
        }
        self.push(token.to_vec(), 0..0);
        Ok(())
    }
}

/// A token for a message, at most 32 characters of it.
fn shown(token: &[u8]) -> String {
    String::from_utf8_lossy(token).chars().take(32).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merges(pairs: &[&str]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let halves = pairs.iter().map(|pair| pair.split_once(' ').unwrap());
        halves.map(|(left, right)| (left.into(), right.into())).collect()
    }

    fn made(pairs: &[&str], whole: Option<&[&str]>) -> Result<Vec<String>, MergesError> {
        let whole: Option<Vec<Vec<u8>>> = whole.map(|all| all.iter().map(|one| (*one).into()).collect());
        let tokens = tokens_by_rank(&merges(pairs), whole.as_deref())?;
        Ok(tokens[256..].iter().map(|token| String::from_utf8(token.clone()).unwrap()).collect())
    }

    fn unreachable(token: &str) -> Result<Vec<String>, MergesError> {
        Err(MergesError::Unreachable { token: token.to_owned() })
    }

    #[test]
    fn the_order_of_merges_is_the_order_of_ranks() {
        let tokens = tokens_by_rank(&merges(&["l o", "lo w", "e r", "low er"]), None).unwrap();

        assert_eq!(tokens[..256].concat(), (0..=255).collect::<Vec<u8>>());
        assert_eq!(tokens[256..], [b"lo".to_vec(), b"low".into(), b"er".into(), b"lower".into()]);
    }

    /// `a b` comes first and takes the `b`: the file's own algorithm never makes `abc` of these bytes.
    #[test]
    fn a_token_that_its_bytes_do_not_merge_to_is_refused() {
        assert_eq!(made(&["a b", "b c", "a bc"], None), unreachable("abc"));
        assert_eq!(made(&["b c", "a bc", "a b"], None).unwrap(), ["bc", "abc", "ab"]);
    }

    /// Files made from a table of ranks list every pair that makes a token.
    #[test]
    fn where_whole_tokens_win_it_is_enough_that_every_pair_is_listed() {
        let pairs = ["a b", "b c", "b cd", "bc d", "a bcd"];

        assert_eq!(made(&["a b", "b c", "c d", "b cd", "bc d"], None).unwrap().len(), 4, "`bc d` is reached");
        assert_eq!(made(&pairs, None), unreachable("abcd"));
        assert_eq!(made(&pairs, Some(&[])).unwrap().len(), 4, "`a` and `bcd` is its only pair");
        assert_eq!(
            made(&["a b", "b c", "c d", "a bc"], Some(&[])),
            unreachable("abc"),
            "`ab c` is not listed"
        );
    }

    #[test]
    fn a_token_without_merges_is_taken_whole_unless_two_others_make_it() {
        assert_eq!(made(&["a b"], Some(&["ab", "xyz", "x"])).unwrap(), ["ab", "xyz"]);
        assert_eq!(made(&["a b"], Some(&["abc"])), unreachable("abc"));
    }

    #[test]
    fn merges_that_have_no_one_rank_or_no_bound_are_refused() {
        let scattered = MergesError::Scattered { nth: 4, token: "abc".into() };
        assert_eq!(made(&["b c", "a bc", "a b", "x y", "ab c"], None), Err(scattered));
        assert_eq!(made(&["a "], None), Err(MergesError::Empty { nth: 0 }));
        let long = format!("{} b", "a".repeat(TOKEN_BYTES_MAX));
        assert_eq!(made(&[&long], None), Err(MergesError::TooLong { nth: 0, bytes: TOKEN_BYTES_MAX + 1 }));
    }
}
