//! Which lines of which files count, so that none counts twice.
//!
//! Each process is a writer with an id of its own and numbers its lines from 1. A file of a month is made by merging lines; it
//! says of each writer up to which number its lines of that month are in it. Such a file is read before the writers' own.
//!
//! # Guarantees
//!
//! - A line is counted once, however often it is read: in a copy of its file, or beside the month into which it was merged.
//! - A line that is missing in the middle, because a disk or a person lost it, keeps no later one from counting.

use std::collections::BTreeMap;

/// A process that writes.
pub type Writer = u64;

/// What was read so far.
#[derive(Debug, Clone, Default)]
pub struct Counted {
    /// The highest number of each writer that was counted from a file of its own.
    last: BTreeMap<Writer, u64>,
    /// The same of what was merged, by the first hour of the month.
    merged: BTreeMap<(u32, Writer), u64>,
}

impl Counted {
    /// The file of the month that begins with that hour has the lines of a writer up to this number.
    pub fn merged(&mut self, month: u32, writer: Writer, up_to: u64) {
        let known = self.merged.entry((month, writer)).or_default();
        *known = (*known).max(up_to);
    }

    /// Whether a line of a writer's own file counts, which has this number and is of this month. It does once.
    pub fn is_new(&mut self, month: u32, writer: Writer, number: u64) -> bool {
        let last = self.last.entry(writer).or_default();
        if number <= *last {
            return false;
        }
        *last = number;
        self.merged.get(&(month, writer)).is_none_or(|merged| number > *merged)
    }

    /// The highest number of each writer that was read from a file of its own.
    pub fn writers(&self) -> impl Iterator<Item = (Writer, u64)> {
        self.last.iter().map(|(writer, number)| (*writer, *number))
    }

    /// What was merged into a month.
    pub fn in_month(&self, month: u32) -> impl Iterator<Item = (Writer, u64)> {
        self.merged.range((month, 0)..=(month, Writer::MAX)).map(|((_, writer), number)| (*writer, *number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_counts_once_whatever_is_read_again() {
        let mut counted = Counted::default();
        counted.merged(0, 1, 2);

        let read = |counted: &mut Counted, month, numbers: &[u64]| {
            numbers.iter().filter(|number| counted.is_new(month, 1, **number)).copied().collect::<Vec<_>>()
        };
        assert_eq!(read(&mut counted, 0, &[1, 2, 3]), [3], "two of them were merged");
        assert_eq!(read(&mut counted, 0, &[1, 2, 3, 5]), [5], "a longer copy of the file");
        assert_eq!(read(&mut counted, 720, &[6]), [6]);
        assert!(counted.is_new(0, 2, 1), "another writer");
        assert_eq!(counted.writers().collect::<Vec<_>>(), [(1, 6), (2, 1)]);
        assert_eq!(counted.in_month(0).collect::<Vec<_>>(), [(1, 2)]);
    }

    /// Killed between two months: the one is merged already and the other is not.
    #[test]
    fn of_two_months_one_may_be_merged_alone() {
        let mut counted = Counted::default();
        counted.merged(0, 1, 9);

        assert!(!counted.is_new(0, 1, 3));
        assert!(counted.is_new(720, 1, 4));
        assert!(!counted.is_new(0, 1, 9));
        assert!(counted.is_new(0, 1, 10));
    }
}
