//! Whose turn it is inside one account, where that is fair between its end users.
//!
//! Start-time fair queueing: a request's turn is where its user's last one ended, and no earlier than the turn that was served
//! last; it ends as many tokens later as the request costs. Requests of one account leave in the order of their turns, so
//! users who keep waiting are served equal tokens, whoever sends more.
//!
//! # Guarantees
//!
//! - Turns order requests inside an account. They change nothing between accounts: users are free to invent, and who invents
//!   some takes from nobody but his own account.
//! - What left without being served costs its user nothing.
//! - At most [`USERS_MAX`] users are told apart; beyond that some share a turn.

use std::collections::BTreeMap;

/// Users of one account that are told apart at once: 16 KiB, where so many wait.
const USERS_MAX: u64 = 1_024;

/// The turns of one account's users.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns {
    /// Where each user's last turn ends.
    ends: BTreeMap<u64, u64>,
    /// The turn that was served last.
    served: u64,
}

impl Turns {
    /// The turn that a request of `user` would get.
    pub(crate) fn next(&self, user: u64) -> u64 {
        self.ends.get(&(user % USERS_MAX)).map_or(self.served, |&end| end.max(self.served))
    }

    /// A turn for a request of `user` that costs so many tokens.
    pub(crate) fn take(&mut self, user: u64, cost: u64) -> u64 {
        let turn = self.next(user);
        self.ends.insert(user % USERS_MAX, turn.saturating_add(cost.max(1)));
        turn
    }

    /// A request of `user` that cost so many tokens left without being served.
    pub(crate) fn give_back(&mut self, user: u64, cost: u64) {
        if let Some(end) = self.ends.get_mut(&(user % USERS_MAX)) {
            *end = end.saturating_sub(cost.max(1));
        }
    }

    /// The request with this turn is served.
    pub(crate) fn serve(&mut self, turn: u64) {
        self.served = self.served.max(turn);
    }

    /// Nothing of the account waits any more: all users are equal again.
    pub(crate) fn forget(&mut self) {
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_who_keep_waiting_take_turns_by_tokens() {
        let mut turns = Turns::default();
        let heavy: Vec<u64> = (0..4).map(|_| turns.take(1, 100)).collect();
        let light: Vec<u64> = (0..4).map(|_| turns.take(2, 50)).collect();

        assert_eq!((heavy, light), (vec![0, 100, 200, 300], vec![0, 50, 100, 150]));
    }

    #[test]
    fn who_comes_late_begins_where_the_others_are_and_has_no_credit() {
        let mut turns = Turns::default();
        (0..10).for_each(|_| _ = turns.take(1, 100));
        turns.serve(700);

        assert_eq!((turns.take(2, 100), turns.next(2), turns.next(1)), (700, 800, 1_000));
    }

    #[test]
    fn what_was_not_served_costs_nothing() {
        let mut turns = Turns::default();
        turns.take(1, 100);
        turns.take(1, 100);
        turns.give_back(1, 100);

        assert_eq!(turns.next(1), 100);
    }

    #[test]
    fn no_more_users_are_remembered_than_the_bound() {
        let mut turns = Turns::default();
        (0..100_000_u64).for_each(|user| _ = turns.take(user.wrapping_mul(0x9E37_79B9_7F4A_7C15), 10));

        assert!(turns.ends.len() <= USERS_MAX as usize);
    }
}
