//! Single keys from the keyboard of a terminal that was taken.

use std::io::Read as _;
use std::sync::mpsc::{Receiver, sync_channel};

/// Keys that wait to be looked at; more are forgotten.
const WAITING_MAX: usize = 16;

/// What a key does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// A replica dies.
    Lose,
    /// Twice the regular traffic, or no longer.
    DoubleRegular,
    /// Four times the priority traffic, or no longer.
    PrioritySurge,
    /// Everything as it was.
    Recover,
    /// The end.
    Quit,
}

impl Key {
    /// The key of that letter.
    pub(super) fn of(letter: u8) -> Option<Key> {
        match letter.to_ascii_lowercase() {
            b'l' => Some(Key::Lose),
            b'd' => Some(Key::DoubleRegular),
            b'p' => Some(Key::PrioritySurge),
            b'r' => Some(Key::Recover),
            b'q' => Some(Key::Quit),
            _ => None,
        }
    }
}

/// The keyboard; without one no key is ever pressed.
pub(super) struct Keyboard {
    keys: Option<Receiver<Key>>,
}

impl Keyboard {
    /// Reads standard input, a terminal's, on a thread of its own.
    pub(super) fn open() -> Keyboard {
        let (send, keys) = sync_channel(WAITING_MAX);
        let reader = std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
            for letter in std::io::stdin().lock().bytes().map_while(Result::ok) {
                if let Some(key) = Key::of(letter) {
                    // Full: somebody leans on the keyboard.
                    let _ = send.try_send(key);
                }
            }
        });
        Keyboard { keys: reader.is_ok().then_some(keys) }
    }

    /// No keys.
    pub(super) fn none() -> Keyboard {
        Keyboard { keys: None }
    }

    /// The next key that was pressed.
    pub(super) fn pressed(&self) -> Option<Key> {
        self.keys.as_ref()?.try_recv().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_letter_has_its_meaning_in_either_case() {
        let keys = [b'l', b'D', b'p', b'R', b'q'].map(Key::of);
        let expected = [Key::Lose, Key::DoubleRegular, Key::PrioritySurge, Key::Recover, Key::Quit];
        assert_eq!(keys, expected.map(Some));
        assert_eq!(Key::of(b'x'), None);
    }
}
