//! The bytes held for requests in flight: bodies that wait for a place or for their first token, and answers.
//!
//! A body is held from its first byte until the engine has begun to answer, because until then it may have to
//! be sent again. Bytes are reserved before they are read. An answer is held while it is read where it comes as a whole,
//! and until its client has taken it; of a stream what is not written yet. The first [`ANSWER_FREE`] of an answer are
//! counted and never refused: engines have worked for it. One account holds at most a sixteenth, one connection whose
//! requests have keys of several accounts no more, and the last quarter is kept for accounts that are entitled to
//! priority: a flood of regular bodies must not push priority out before the queue has even seen it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of one answer that are held whatever the bounds say. Nearly all answers are shorter, and their number is bounded by
/// the places of the engines.
pub const ANSWER_FREE: u64 = 64 << 10;

/// The pool of the whole gateway.
#[derive(Debug)]
pub struct Memory {
    total_max: u64,
    /// Of one account, and of one connection.
    holder_max: u64,
    regular_max: u64,
    held: AtomicU64,
}

/// What one account holds, or one connection.
#[derive(Debug, Default)]
pub struct HolderMemory(AtomicU64);

impl HolderMemory {
    fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give(&self, bytes: u64) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Adds `more`; `false` and nothing where that is over `most`.
    fn take(&self, more: u64, most: u64) -> bool {
        let fits = self.0.fetch_add(more, Ordering::Relaxed) + more <= most;
        if !fits {
            self.give(more);
        }
        fits
    }
}

/// Which bound refused the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryBound {
    /// The account's share; bytes.
    Account(u64),
    /// The connection's share; bytes.
    Connection(u64),
    /// The gateway's pool, or the part of it that is open to this account; bytes.
    Total(u64),
}

impl Memory {
    /// A pool of `total_max` bytes, of which one account or connection may hold `holder_share` and the last
    /// `priority_share` is kept.
    #[must_use]
    pub fn new(total_max: u64, holder_share: f64, priority_share: f64) -> Arc<Self> {
        let share = |of: f64| (total_max as f64 * of.clamp(0.0, 1.0)) as u64;
        let (holder_max, regular_max) = (share(holder_share), total_max - share(priority_share));
        Arc::new(Memory { total_max, holder_max, regular_max, held: AtomicU64::new(0) })
    }

    /// Bytes held now.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// An empty guard for one request. `connection`: the share of its connection, where that is one client's.
    /// `may_priority`: the account is entitled to priority.
    #[must_use]
    pub fn guard(
        self: &Arc<Self>,
        account: Arc<HolderMemory>,
        connection: Option<Arc<HolderMemory>>,
        may_priority: bool,
    ) -> MemoryGuard {
        let open = if may_priority { self.total_max } else { self.regular_max };
        MemoryGuard { memory: Arc::clone(self), account, connection, open, bytes: 0, answer: 0 }
    }
}

/// The bytes of one request; given back on drop.
#[derive(Debug)]
pub struct MemoryGuard {
    memory: Arc<Memory>,
    account: Arc<HolderMemory>,
    connection: Option<Arc<HolderMemory>>,
    open: u64,
    /// Of its body.
    bytes: u64,
    /// Of its answer.
    answer: u64,
}

impl MemoryGuard {
    /// Takes `more` bytes, or none of them. Lock-free.
    ///
    /// # Errors
    /// Which bound is reached.
    pub fn grow(&mut self, more: u64) -> Result<(), MemoryBound> {
        self.take(more)?;
        self.bytes += more;
        Ok(())
    }

    /// Holds `bytes` of the answer in the place of those that it held before. Lock-free.
    ///
    /// # Errors
    /// Which bound is reached; then as much is held as before. Less than before, or no more than [`ANSWER_FREE`], is never
    /// refused.
    pub fn hold_answer(&mut self, bytes: u64) -> Result<(), MemoryBound> {
        match bytes.checked_sub(self.answer) {
            Some(0) => {}
            Some(more) if bytes <= ANSWER_FREE => {
                self.memory.held.fetch_add(more, Ordering::Relaxed);
                self.holders().for_each(|holder| holder.add(more));
            }
            Some(more) => self.take(more)?,
            None => self.give(self.answer - bytes),
        }
        self.answer = bytes;
        Ok(())
    }

    /// Whose share it is in.
    fn holders(&self) -> impl Iterator<Item = &HolderMemory> {
        [Some(&self.account), self.connection.as_ref()].into_iter().flatten().map(Arc::as_ref)
    }

    fn give(&self, bytes: u64) {
        self.memory.held.fetch_sub(bytes, Ordering::Relaxed);
        self.holders().for_each(|holder| holder.give(bytes));
    }

    fn take(&self, more: u64) -> Result<(), MemoryBound> {
        let most = self.memory.holder_max;
        if !self.account.take(more, most) {
            return Err(MemoryBound::Account(most));
        }
        if self.connection.as_ref().is_some_and(|connection| !connection.take(more, most)) {
            self.account.give(more);
            return Err(MemoryBound::Connection(most));
        }
        if self.memory.held.fetch_add(more, Ordering::Relaxed) + more > self.open {
            self.give(more);
            return Err(MemoryBound::Total(self.open));
        }
        Ok(())
    }

    /// Gives the body's bytes back before the end: it is no longer held.
    pub fn release_body(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.give(bytes);
    }
}

impl Drop for MemoryGuard {
    fn drop(&mut self) {
        self.give(self.bytes + self.answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_holds_at_most_a_sixteenth() {
        let memory = Memory::new(1600, 0.0625, 0.25);
        let account = Arc::new(HolderMemory::default());
        let mut first = memory.guard(Arc::clone(&account), None, false);
        first.grow(60).unwrap();
        let mut second = memory.guard(Arc::clone(&account), None, false);
        assert_eq!(second.grow(41), Err(MemoryBound::Account(100)));
        assert_eq!(second.grow(40), Ok(()));
        drop((first, second));
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn a_connection_with_keys_of_many_accounts_holds_no_more_than_one_account() {
        let memory = Memory::new(1600, 0.0625, 0.25);
        let connection = Arc::new(HolderMemory::default());
        let of_another = || memory.guard(Arc::default(), Some(Arc::clone(&connection)), false);
        let (mut first, mut second) = (of_another(), of_another());
        first.grow(60).unwrap();

        assert_eq!(second.grow(41), Err(MemoryBound::Connection(100)));
        assert_eq!((memory.held(), second.grow(40)), (60, Ok(())), "what was refused is given back");
        drop((first, second));
        assert_eq!((memory.held(), of_another().grow(100)), (0, Ok(())));
    }

    #[test]
    fn an_answer_counts_with_the_body_and_its_first_part_is_never_refused() {
        let memory = Memory::new(4 << 20, 0.0625, 0.25);
        let account = Arc::new(HolderMemory::default());
        let mut first = memory.guard(Arc::clone(&account), None, false);
        first.grow(200 << 10).unwrap();

        assert_eq!(first.hold_answer(ANSWER_FREE), Ok(()), "over the account's share");
        assert_eq!(first.hold_answer(ANSWER_FREE + 1), Err(MemoryBound::Account(256 << 10)));
        assert_eq!(memory.held(), 264 << 10);
        first.release_body();
        assert_eq!((memory.held(), first.hold_answer(250 << 10)), (64 << 10, Ok(())));
        assert_eq!((first.hold_answer(10), memory.held()), (Ok(()), 10));
        drop(first);
        assert_eq!(memory.held(), 0);
    }

    #[test]
    fn the_last_quarter_is_kept_for_priority() {
        let memory = Memory::new(1600, 0.0625, 0.25);
        let mut regular: Vec<_> = (0..12)
            .map(|_| {
                let mut guard = memory.guard(Arc::default(), None, false);
                guard.grow(100).unwrap();
                guard
            })
            .collect();
        assert_eq!(memory.guard(Arc::default(), None, false).grow(1), Err(MemoryBound::Total(1200)));
        assert_eq!(memory.guard(Arc::default(), None, true).grow(100), Ok(()));
        regular.clear();
        assert_eq!(memory.held(), 0);
    }
}
