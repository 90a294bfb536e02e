//! The prefix index against what a person expects of it.

use std::time::Duration;

use proptest::prelude::*;
use tokenizer::{KNOWLEDGE_AGE_MAX, PrefixIndex, PrefixIndexConfig, PrefixKeys, PrefixMatch};

const ACCOUNT: u64 = 7;
const T0: Duration = Duration::ZERO;

fn index() -> PrefixIndex {
    PrefixIndex::new(PrefixIndexConfig::with_key([3; 16]))
}

fn text(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        b"abcdefghijklmnopqrstuvwxyz ,.\n".get((state >> 33) as usize % 30).copied().unwrap_or(b'!')
    })
    .take(bytes)
    .collect()
}

fn send(index: &mut PrefixIndex, prompt: &[u8], replica: u16, tokens: Option<u32>) {
    let mut keys = PrefixKeys::new();
    index.lookup(ACCOUNT, prompt, &mut keys);
    index.record(T0, &keys, replica, tokens);
}

/// Tokens that the best replica is expected to have cached.
fn cached_best(found: &PrefixMatch, prompt_tokens: u32, block_tokens: u32) -> u32 {
    let [best, ..] = found.best;
    best.map_or(0, |(_, bytes)| found.cached_tokens(bytes, prompt_tokens, block_tokens))
}

#[test]
fn an_unknown_prompt_has_no_match() {
    let found = index().lookup(ACCOUNT, &text(1, 5_000), &mut PrefixKeys::new());

    assert_eq!(found.bytes_known, 0);
    assert_eq!(found.tokens_known, None);
    assert_eq!(found.best, [None; 3]);
    assert_eq!(cached_best(&found, 1_000, 16), 0);
}

#[test]
fn the_next_turn_is_known_exactly_to_the_end_of_the_last() {
    let mut index = index();
    let first = text(1, 4_321);
    send(&mut index, &first, 2, Some(1_100));
    let next = [first.clone(), text(2, 900)].concat();

    let found = index.lookup(ACCOUNT, &next, &mut PrefixKeys::new());

    assert_eq!(found.bytes_known, 4_321);
    assert_eq!(found.tokens_known, Some(1_100), "the engine's own count");
    assert_eq!(found.best, [Some((2, 4_321)), None, None]);
    assert_eq!(cached_best(&found, 1_400, 16), 1_088, "whole blocks of 16");
}

#[test]
fn the_answer_to_the_last_turn_is_expected_to_be_cached_as_well() {
    let mut index = index();
    let mut keys = PrefixKeys::new();
    let first = text(1, 4_321);
    index.lookup(ACCOUNT, &first, &mut keys);
    index.record(T0, &keys, 0, Some(1_100));
    index.record_answer(&keys, 0, 180);

    let next = [first, text(2, 900)].concat();
    let found = index.lookup(ACCOUNT, &next, &mut keys);

    assert_eq!(cached_best(&found, 1_400, 16), 1_280);
}

#[test]
fn the_same_prompt_again_is_cached_but_for_its_last_block() {
    let mut index = index();
    let prompt = text(1, 4_096);
    send(&mut index, &prompt, 0, Some(1_024));

    let found = index.lookup(ACCOUNT, &prompt, &mut PrefixKeys::new());

    assert_eq!(cached_best(&found, 1_024, 16), 1_008, "the last token is always computed");
}

#[test]
fn prompts_that_differ_early_match_up_to_there_within_a_block() {
    let mut index = index();
    let one = text(1, 8_000);
    send(&mut index, &one, 0, Some(2_000));
    let other = [one[..1_000].to_vec(), text(2, 7_000)].concat();

    let found = index.lookup(ACCOUNT, &other, &mut PrefixKeys::new());

    assert!((936..=1_000).contains(&found.bytes_known), "{found:?}");
    let tokens = found.tokens_known.expect("in proportion to the bytes");
    assert!((230..=250).contains(&tokens), "{found:?}");
}

#[test]
fn the_replicas_that_saw_more_come_first() {
    let mut index = index();
    let prompt = text(1, 8_000);
    send(&mut index, &prompt[..1_024], 4, None);
    send(&mut index, &prompt, 5, None);
    send(&mut index, &prompt[..2_048], 6, None);

    let found = index.lookup(ACCOUNT, &prompt, &mut PrefixKeys::new());

    assert_eq!(found.best, [Some((5, 8_000)), Some((6, 2_048)), Some((4, 1_024))]);
}

#[test]
fn a_replica_that_was_forgotten_is_not_offered_until_it_sees_the_prompt_again() {
    let mut index = index();
    let prompt = text(1, 2_000);
    send(&mut index, &prompt, 1, Some(500));
    send(&mut index, &prompt, 2, Some(500));
    index.forget_replica(1);
    let found = index.lookup(ACCOUNT, &prompt, &mut PrefixKeys::new());
    assert_eq!(found.best, [Some((2, 2_000)), None, None]);
    assert_eq!(found.tokens_known, Some(500), "what was counted stays true");

    send(&mut index, &prompt, 1, Some(500));
    let found = index.lookup(ACCOUNT, &prompt, &mut PrefixKeys::new());
    assert_eq!(found.best, [Some((1, 2_000)), Some((2, 2_000)), None]);
}

#[test]
fn one_account_learns_nothing_of_another() {
    let mut index = index();
    let prompt = text(1, 2_000);
    send(&mut index, &prompt, 1, Some(500));

    let found = index.lookup(ACCOUNT + 1, &prompt, &mut PrefixKeys::new());

    assert_eq!(found.bytes_known, 0);
}

#[test]
fn accounts_of_one_owner_may_share() {
    let config = PrefixIndexConfig { shared_prefixes: true, ..PrefixIndexConfig::with_key([3; 16]) };
    let mut index = PrefixIndex::new(config);
    let prompt = text(1, 2_000);
    send(&mut index, &prompt, 1, Some(500));

    let found = index.lookup(ACCOUNT + 1, &prompt, &mut PrefixKeys::new());

    assert_eq!(found.bytes_known, 2_000);
}

#[test]
fn what_was_seen_long_ago_is_not_believed() {
    let mut index = index();
    let prompt = text(1, 2_000);
    send(&mut index, &prompt, 1, Some(500));
    let mut keys = PrefixKeys::new();
    index.lookup(ACCOUNT, &text(2, 2_000), &mut keys);
    index.record(KNOWLEDGE_AGE_MAX + Duration::from_secs(1), &keys, 1, None);

    let found = index.lookup(ACCOUNT, &prompt, &mut PrefixKeys::new());

    assert_eq!(found.bytes_known, 0);
}

#[test]
fn memory_stops_growing_at_its_bound_and_the_latest_is_kept() {
    let config = PrefixIndexConfig { entries_max: 1_000, ..PrefixIndexConfig::with_key([3; 16]) };
    let mut index = PrefixIndex::new(config);
    for seed in 0..1_000 {
        send(&mut index, &text(seed, 2_000), 0, None);
    }
    let full = index.bytes();
    for seed in 1_000..2_000 {
        send(&mut index, &text(seed, 2_000), 0, None);
    }

    assert_eq!(index.len(), 1_000);
    assert_eq!(index.bytes(), full);
    assert!(full <= 140 * 1_000, "{full} bytes for 1,000 boundaries");
    let found = index.lookup(ACCOUNT, &text(1_999, 2_000), &mut PrefixKeys::new());
    assert_eq!(found.bytes_known, 2_000);
}

#[test]
fn long_prompts_take_few_boundaries() {
    let mut index = index();

    send(&mut index, &text(1, 400_000), 0, None);

    assert!(index.len() <= 420, "{} boundaries", index.len());
}

proptest! {
    /// Whatever was recorded before, a match is never longer than the longest common prefix.
    #[test]
    fn a_match_never_extends_past_the_first_difference(
        prompts in prop::collection::vec((0u64..3, 0usize..3_000, 0u64..3, 0usize..3_000, 0u16..3), 1..12)
    ) {
        let mut index = index();
        let mut sent: Vec<Vec<u8>> = Vec::new();
        for (head, head_bytes, tail, tail_bytes, replica) in prompts {
            let prompt = [text(head, head_bytes), text(tail + 10, tail_bytes)].concat();
            let mut keys = PrefixKeys::new();
            let found = index.lookup(ACCOUNT, &prompt, &mut keys);
            let common = |other: &Vec<u8>| {
                other.iter().zip(&prompt).take_while(|(a, b)| a == b).count() as u64
            };
            let longest = sent.iter().map(common).max().unwrap_or(0);
            prop_assert!(found.bytes_known <= longest);
            prop_assert!(found.best.iter().flatten().all(|(_, bytes)| *bytes <= found.bytes_known));
            prop_assert!(longest < 64 || found.bytes_known + 64.max(longest / 64 + 64) >= longest);
            index.record(T0, &keys, replica, Some(prompt.len() as u32 / 4));
            sent.push(prompt);
        }
    }

    #[test]
    fn any_bytes_and_any_counts_are_taken(
        prompt in prop::collection::vec(any::<u8>(), 0..2_000), block in 0u32..5_000, replica in any::<u16>(),
        tokens in any::<Option<u32>>(), now in any::<u64>(), entries in 0u32..50
    ) {
        let config = PrefixIndexConfig {
            entries_max: entries, block_bytes: block, replicas_per_block: block as u8,
            shared_prefixes: false, hash_key: [0; 16],
        };
        let mut index = PrefixIndex::new(config);
        let mut keys = PrefixKeys::new();
        for _ in 0..3 {
            let found = index.lookup(1, &prompt, &mut keys);
            prop_assert!(cached_best(&found, tokens.unwrap_or(0), block) <= tokens.unwrap_or(0));
            index.record(Duration::from_secs(now), &keys, replica, tokens);
            index.record_answer(&keys, replica, tokens.unwrap_or(3));
            index.observe_cached(&found, replica, tokens.unwrap_or(3));
            prop_assert!(index.len() <= entries.max(1) as usize);
        }
    }
}

/// Whatever was forgotten to make room, what is left of a prompt is its beginning.
#[test]
fn a_prompt_is_forgotten_from_its_end() {
    let config = PrefixIndexConfig { entries_max: 100, ..PrefixIndexConfig::with_key([3; 16]) };
    let mut index = PrefixIndex::new(config);
    let long = text(1, 4_096);
    send(&mut index, &long, 0, Some(1_000));
    let mut last = 4_096;
    for seed in 2..40 {
        send(&mut index, &text(seed, 128), 0, None);
        let known = index.lookup(ACCOUNT, &long, &mut PrefixKeys::new()).bytes_known;
        assert!(known <= last, "{known} after {last}");
        assert!(known + 64 * 4 >= last, "by three boundaries at a time: {known} after {last}");
        last = known;
    }
    assert_eq!(last, 0);
}

/// Another process goes on with it: the same prompts are known, on replicas that have other numbers there, and what is gone is
/// forgotten.
#[test]
fn an_index_is_handed_over_with_its_replicas_renumbered() {
    let mut old = index();
    let (one, other) = (text(1, 4_096), text(2, 4_096));
    send(&mut old, &one, 0, Some(1_024));
    send(&mut old, &other, 3, Some(1_000));

    let bytes = old.export();
    let config = || PrefixIndexConfig::with_key([3; 16]);
    let renumbered = |replica| (replica == 0).then_some(7);
    let mut new = PrefixIndex::import(config(), &bytes, renumbered).expect("its own bytes");

    let found = new.lookup(ACCOUNT, &one, &mut PrefixKeys::new());
    assert_eq!((found.best[0], found.tokens_known), (Some((7, 4_096)), Some(1_024)));
    assert_eq!(new.lookup(ACCOUNT, &other, &mut PrefixKeys::new()).best[0], None, "replica 3 is gone");
    assert_eq!(new.len(), old.len());
    // Its time begins anew, and what it was handed over does not: both grow old together.
    send(&mut new, &text(3, 4_096), 7, None);
    assert!(new.lookup(ACCOUNT, &one, &mut PrefixKeys::new()).best[0].is_some());

    for cut in [0, 3, 11, bytes.len() - 1] {
        assert!(PrefixIndex::import(config(), &bytes[..cut], renumbered).is_err(), "{cut} bytes");
    }
    assert!(PrefixIndex::import(config(), &[&bytes[..], &[0]].concat(), renumbered).is_err());
}
