//! Every seed and every input that was found, through its target; and each of them changed at random.
//!
//! Not guided by coverage: this keeps what was found from coming back, on any toolchain, in seconds. What looks for more is
//! `tests/fuzz/run.sh`.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test a panic is a failed assertion")]

use std::panic::catch_unwind;

use fuzz::{TARGETS, seeds};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Changed inputs of each target.
const CHANGED: u32 = 1_500;
/// Changes of one input, at most.
const CHANGES_MAX: u32 = 6;
/// Longest input that is changed, bytes.
const LENGTH_MAX: usize = 32 << 10;
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

fn changed(random: &mut SmallRng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let one = |random: &mut SmallRng| seeds[random.random_range(0..seeds.len())].clone();
    let mut bytes = one(random);
    bytes.truncate(LENGTH_MAX);
    for _ in 0..random.random_range(1..=CHANGES_MAX) {
        let at = random.random_range(0..=bytes.len());
        let until = (at + random.random_range(0..=32)).min(bytes.len());
        match random.random_range(0..5) {
            0 => drop(bytes.splice(at..at, PIECES[random.random_range(0..PIECES.len())].iter().copied())),
            1 => drop(bytes.drain(at..until)),
            2 => bytes[at..until].iter_mut().for_each(|byte| *byte ^= 1 << random.random_range(0..8)),
            3 => {
                let other = one(random);
                let from = random.random_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend(other[from..].iter().take(LENGTH_MAX));
            }
            _ => {
                let again = bytes[at..until].to_vec();
                drop(bytes.splice(at..at, again));
            }
        }
    }
    bytes
}

/// Plays one input; a panic is told with the input.
fn play(target: fuzz::Target, bytes: &[u8], what: &str) {
    let played = catch_unwind(|| (target.run)(bytes));
    assert!(
        played.is_ok(),
        "{} does not hold for {what}: {}; {:?}",
        target.name,
        target.holds,
        String::from_utf8_lossy(bytes)
    );
}

#[test]
fn every_input_that_was_found_holds() {
    for target in TARGETS {
        for (path, bytes) in seeds::of(target.name).unwrap() {
            play(target, &bytes, &path.display().to_string());
        }
    }
}

#[test]
fn every_input_changed_at_random_holds() {
    for target in TARGETS {
        let mut random = SmallRng::seed_from_u64(10);
        let mut seeds: Vec<Vec<u8>> =
            seeds::of(target.name).unwrap().into_iter().map(|(_, bytes)| bytes).collect();
        assert!(!seeds.is_empty(), "{} has no seed", target.name);
        seeds.push(Vec::new());
        for number in 0..CHANGED {
            let bytes = changed(&mut random, &seeds);
            play(target, &bytes, &format!("change {number}"));
        }
    }
}

/// A property that does not hold is found: the drivers would be of no use otherwise.
#[test]
fn what_does_not_hold_is_told() {
    let broken =
        fuzz::Target { name: "broken", holds: "no byte is 7", run: |bytes| assert!(!bytes.contains(&7)) };
    assert!(catch_unwind(|| play(broken, &[7], "seven")).is_err());
    assert!(catch_unwind(|| play(broken, &[8], "eight")).is_ok());
}
