//! How deep does this JSON nest? One pass, before any parser recurses.
//!
//! A typed parse with borrowed values does not limit depth by itself, and engines written in Python fail at
//! about a thousand levels. So bodies deeper than a small bound are refused before they are parsed. The pass
//! needs no memory and jumps over strings with `memchr`.

/// Whether `json` nests at most `depth_max` arrays and objects. O(bytes), no allocation.
///
/// Says nothing of validity: an unterminated string simply ends the scan, and the parser refuses it.
#[must_use]
pub fn nests_at_most(json: &[u8], depth_max: u32) -> bool {
    let mut depth: u32 = 0;
    let mut rest = json;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match byte {
            b'"' => rest = after_string(tail),
            b'{' | b'[' => {
                depth += 1;
                if depth > depth_max {
                    return false;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    true
}

/// What follows the closing quote of a string whose opening quote is just behind.
fn after_string(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        let escaped = rest.get(at) == Some(&b'\\');
        rest = rest.get(at + 1 + usize::from(escaped)..).unwrap_or_default();
        if !escaped {
            return rest;
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nested(depth: usize) -> Vec<u8> {
        [vec![b'['; depth], vec![b']'; depth]].concat()
    }

    #[test]
    fn the_bound_is_inclusive() {
        assert!(nests_at_most(&nested(63), 64));
        assert!(nests_at_most(&nested(64), 64));
        assert!(!nests_at_most(&nested(65), 64));
        assert!(!nests_at_most(&vec![b'['; 1_000_000], 64));
    }

    #[test]
    fn brackets_inside_strings_do_not_count() {
        let text = format!(r#"{{"a\"[[[":"{}\\","b":[1]}}"#, "[".repeat(1000));
        assert!(nests_at_most(text.as_bytes(), 2));
        assert!(!nests_at_most(text.as_bytes(), 1));
    }

    proptest! {
        /// Against a slow reading of the same rule, on any bytes.
        #[test]
        fn agrees_with_a_byte_by_byte_scan(bytes in proptest::collection::vec(
            prop_oneof![Just(b'"'), Just(b'\\'), Just(b'['), Just(b']'), Just(b'{'), Just(b'}'), any::<u8>()], 0..200)
        , max in 0u32..6) {
            let (mut depth, mut deepest, mut inside, mut escaped) = (0u32, 0u32, false, false);
            for &b in &bytes {
                if inside {
                    if escaped { escaped = false } else if b == b'\\' { escaped = true } else if b == b'"' { inside = false }
                } else {
                    match b {
                        b'"' => inside = true,
                        b'[' | b'{' => { depth += 1; deepest = deepest.max(depth) }
                        b']' | b'}' => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                }
            }
            prop_assert_eq!(nests_at_most(&bytes, max), deepest <= max);
        }
    }
}
