//! "Did you mean": the known word nearest to a mistyped one.
//!
//! Nearness is the optimal string alignment distance (insert, delete, replace, swap neighbours). A word is
//! suggested when at most a third of it would have to change, or when one starts with the other, as in
//! `api_key` and `api_key_file`.

/// Words longer than this, in bytes, are not compared: nobody mistypes a known word into that.
const WORD_BYTES_MAX: usize = 48;

/// The nearest of the known words, if any is near. O(words × length²), length at most [`WORD_BYTES_MAX`].
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // `llama.cpp`, `llama-cpp` and `Llama_CPP` are one word to whoever writes it.
    let plain = |word: &str| word.to_ascii_lowercase().replace(['-', '.', ' '], "_");
    let word = plain(word);
    if word.len() > WORD_BYTES_MAX {
        return None;
    }
    known
        .filter(|candidate| candidate.len() <= WORD_BYTES_MAX)
        .filter_map(|candidate| {
            let known = plain(candidate);
            let steps = distance(word.as_bytes(), known.as_bytes());
            let near = steps * 3 <= word.len().max(known.len());
            let begins =
                word.len() >= 3 && (known.starts_with(word.as_str()) || word.starts_with(known.as_str()));
            (near || begins).then_some((if near { steps } else { WORD_BYTES_MAX }, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut last_a = None;
    for (i, &x) in a.iter().enumerate() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i + 1);
        let mut last_b = None;
        for (j, &y) in b.iter().enumerate() {
            let at = |line: &[usize], place: usize| line.get(place).copied().unwrap_or(usize::MAX / 2);
            let replaced = at(&above, j) + usize::from(x != y);
            let mut best = replaced.min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            if last_a == Some(y) && last_b == Some(x) {
                best = best.min(at(&before, j.wrapping_sub(1)) + 1);
            }
            row.push(best);
            last_b = Some(y);
        }
        before = std::mem::replace(&mut above, row);
        last_a = Some(x);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 6] = ["name", "engine", "replicas", "api_key_file", "slots_max", "slo"];

    fn meant(word: &str) -> Option<&'static str> {
        nearest(word, KEYS.into_iter())
    }

    #[test]
    fn slips_of_the_keyboard_find_their_word() {
        assert_eq!(meant("replcias"), Some("replicas"));
        assert_eq!(meant("Replica"), Some("replicas"));
        assert_eq!(meant("nmae"), Some("name"));
        assert_eq!(meant("slots-max"), Some("slots_max"));
        assert_eq!(meant("api_key"), Some("api_key_file"));
    }

    #[test]
    fn other_words_find_nothing() {
        assert_eq!(meant("colour"), None);
        assert_eq!(meant(""), None);
        assert_eq!(meant(&"n".repeat(4000)), None);
    }

    #[test]
    fn the_distance_counts_a_swap_of_neighbours_as_one() {
        assert_eq!(distance(b"abcd", b"abdc"), 1);
        assert_eq!(distance(b"ab", b"ba"), 1);
        assert_eq!(distance(b"kitten", b"sitting"), 3);
        assert_eq!(distance(b"", b"abc"), 3);
    }
}
