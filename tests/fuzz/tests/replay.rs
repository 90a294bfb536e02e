//! Every seed and every input that was found, through its target; and each of them changed at random.
//!
//! Not guided by coverage: this keeps what was found from coming back, on any toolchain, in seconds. What looks for more is
//! `tests/fuzz/run.sh`.

use fuzz::{Changes, TARGETS, Target, breaks, seeds};

/// Changed inputs of each target.
const CHANGED: u32 = 1_500;

#[track_caller]
fn assert_holds(target: Target, bytes: &[u8], what: &str) {
    let text = String::from_utf8_lossy(bytes);
    assert!(!breaks(target, bytes), "{} does not hold for {what}: {}; {text:?}", target.name, target.holds);
}

#[test]
fn every_input_that_was_found_holds() {
    for target in TARGETS {
        for (path, bytes) in seeds::of(target.name).unwrap() {
            assert_holds(target, &bytes, &path.display().to_string());
        }
    }
}

#[test]
fn every_input_changed_at_random_holds() {
    for target in TARGETS {
        let seeds: Vec<Vec<u8>> =
            seeds::of(target.name).unwrap().into_iter().map(|(_, bytes)| bytes).collect();
        assert!(!seeds.is_empty(), "{} has no seed", target.name);
        let mut changes = Changes::of(&seeds, 10);
        for number in 0..CHANGED {
            assert_holds(target, &changes.next_input(), &format!("change {number}"));
        }
    }
}

/// A property that does not hold is found: the drivers would be of no use otherwise.
#[test]
fn what_does_not_hold_is_told() {
    let broken = Target { name: "broken", holds: "no byte is 7", run: |bytes| assert!(!bytes.contains(&7)) };

    assert!(breaks(broken, &[7]));
    assert!(!breaks(broken, &[8]));
}
