//! Lines of a log that were lost: counted, said once when it begins and once when it is over, with how many they were.

use std::time::Duration;

/// How long nothing may be lost until it is over: a disk that is full now and then is told of once.
const QUIET: Duration = Duration::from_secs(10);

/// Follows a counter of what was lost.
#[derive(Debug, Default)]
pub struct Losses {
    seen: u64,
    /// How many were lost before the spell that lasts, if one does.
    before: Option<u64>,
    last: Duration,
}

/// What there is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Lines are being lost; so many so far.
    Begin(u64),
    /// It is over; so many were lost.
    Over(u64),
}

impl Losses {
    /// Looks at the counter. `works`: whether the last line that was written came through. `None`: nothing new.
    pub fn look(&mut self, lost: u64, works: bool, now: Duration) -> Option<News> {
        if lost > self.seen {
            let before = std::mem::replace(&mut self.seen, lost);
            self.last = now;
            if self.before.is_none() {
                self.before = Some(before);
                return Some(News::Begin(lost - before));
            }
            return None;
        }
        let is_over = works && now >= self.last + QUIET;
        let before = self.before.take_if(|_| is_over)?;
        Some(News::Over(lost - before))
    }

    /// How many were lost in the spell that lasts; `None`: none does. To be asked at the end of the process.
    pub fn end(&mut self, lost: u64) -> Option<u64> {
        self.before.take().map(|before| lost - before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spell_is_told_when_it_begins_and_when_it_is_over_with_the_count() {
        let mut losses = Losses::default();
        let mut look = |lost, works, s| losses.look(lost, works, Duration::from_secs(s));

        assert_eq!(look(0, true, 0), None);
        assert_eq!(look(3, false, 1), Some(News::Begin(3)));
        assert_eq!(
            [look(50, false, 2), look(50, false, 60)],
            [None; 2],
            "it lasts while nothing comes through"
        );
        assert_eq!(look(50, true, 61), Some(News::Over(50)));
        assert_eq!(look(50, true, 100), None);
        assert_eq!(look(51, true, 101), Some(News::Begin(1)));
        assert_eq!(look(51, true, 110), None, "it may go on");
        assert_eq!(look(51, true, 111), Some(News::Over(1)));
    }
}
