//! The queue of a tier beside one that is obviously right: a list that is searched from end to end.
//!
//! The list knows nothing of trees, indices and running sums, which is where a queue of O(log n) goes wrong. What both say
//! must be equal after every operation: who is next, who is the heaviest, and how much waits.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::ms;
use crate::RequestId;
use crate::queue::{Held, Place, TierQueue, Totals};

/// Weights and counters are counted in so many parts.
const ONE: u64 = 1_024;

#[derive(Debug, Clone)]
enum Op {
    Push { account: u64, arrived: u64, tokens: u64, weight: f64 },
    Remove(usize),
    Serve,
    Charge { account: u64, tokens: i64 },
    Displace,
}

fn op() -> impl Strategy<Value = Op> {
    let weight = prop_oneof![Just(0.5), Just(1.0), Just(2.0), Just(4.0)];
    let push = (0..6_u64, 0..50_u64, 0..2_000_u64, weight);
    prop_oneof![
        6 => push.prop_map(|(account, arrived, tokens, weight)| Op::Push { account, arrived, tokens, weight }),
        2 => any::<usize>().prop_map(Op::Remove),
        4 => Just(Op::Serve),
        2 => (0..6_u64, -500..2_000_i64).prop_map(|(account, tokens)| Op::Charge { account, tokens }),
        1 => Just(Op::Displace),
    ]
}

#[derive(Debug, Clone, Copy, Default)]
struct Account {
    counter: u64,
    weight: u64,
}

/// The obvious queue.
#[derive(Debug, Default)]
struct List {
    items: Vec<(Place, Held)>,
    accounts: BTreeMap<u64, Account>,
    served: u64,
}

impl List {
    fn of(&self, account: u64) -> impl Iterator<Item = (Place, Held)> {
        self.items.iter().filter(move |(place, _)| place.account == account).copied()
    }

    fn waiting(&self) -> Vec<u64> {
        self.accounts.keys().copied().filter(|&account| self.of(account).next().is_some()).collect()
    }

    fn first(&self, account: u64) -> (Place, Held) {
        self.of(account).min_by_key(|(place, _)| (place.arrived, place.seq)).expect("waits")
    }

    fn join(&mut self, account: u64, weight: f64) {
        let least = self.waiting().iter().map(|other| self.accounts[other].counter).min();
        let idle = self.of(account).next().is_none();
        let known = self.accounts.entry(account).or_default();
        if idle {
            known.counter = known.counter.max(least.unwrap_or(self.served));
            known.weight = (weight * ONE as f64) as u64;
        }
    }

    fn charge(&mut self, account: u64, tokens: i64) {
        let Some(known) = self.accounts.get_mut(&account) else { return };
        let amount = i128::from(tokens.abs()) * i128::from(ONE * ONE) / i128::from(known.weight);
        let counter = i128::from(known.counter) + i128::from(tokens.signum()) * amount;
        known.counter = counter.max(0) as u64;
    }

    fn start(&mut self, account: u64, weight: f64, tokens: u64) {
        self.join(account, weight);
        self.served = self.served.max(self.accounts[&account].counter);
        self.charge(account, tokens as i64);
    }

    fn remove(&mut self, place: Place) {
        self.items.retain(|(other, _)| *other != place);
    }

    /// The first request of every account, the fairest account first.
    fn heads(&self) -> Vec<RequestId> {
        let mut accounts = self.waiting();
        accounts
            .sort_by_key(|&account| (self.accounts[&account].counter, self.first(account).0.seq, account));
        accounts.into_iter().map(|account| self.first(account).1.id).collect()
    }

    /// The youngest of the account with the most waiting tokens (and requests, a little) per weight.
    fn heaviest(&self) -> Option<(u64, RequestId)> {
        let load = |account: u64| {
            let sum: u64 = self.of(account).map(|(_, held)| held.tokens + 1).sum();
            sum * ONE * ONE / self.accounts[&account].weight
        };
        let account = self.waiting().into_iter().max_by_key(|&account| (load(account), account))?;
        let youngest = self.of(account).max_by_key(|(place, _)| (place.arrived, place.seq))?;
        Some((account, youngest.1.id))
    }

    fn totals(&self) -> Totals {
        self.items.iter().fold(Totals::default(), |sum, (_, held)| {
            sum.plus(Totals { requests: 1, tokens: held.tokens, bytes: held.bytes })
        })
    }
}

/// Both of them, kept in step.
#[derive(Debug, Default)]
struct Pair {
    queue: TierQueue,
    list: List,
    weights: BTreeMap<RequestId, f64>,
    next: u64,
}

impl Pair {
    fn take(&mut self, id: RequestId) -> Option<(Place, Held)> {
        let (place, held) = *self.list.items.iter().find(|(_, held)| held.id == id)?;
        self.list.remove(place);
        assert_eq!(self.queue.remove(place), Some(held));
        assert_eq!(self.queue.remove(place), None, "what left is gone");
        Some((place, held))
    }

    fn apply(&mut self, op: &Op) {
        match *op {
            Op::Push { account, arrived, tokens, weight } => {
                self.next += 1;
                let place = Place { account, turn: 0, arrived: ms(arrived), seq: self.next };
                let held = Held { id: RequestId(self.next), tokens, bytes: 3 * tokens };
                self.weights.insert(held.id, weight);
                self.queue.push(place, weight, held);
                self.list.join(account, weight);
                self.list.items.push((place, held));
            }
            Op::Remove(nth) => {
                let ids: Vec<RequestId> = self.list.items.iter().map(|(_, held)| held.id).collect();
                if !ids.is_empty() {
                    self.take(ids[nth % ids.len()]);
                }
            }
            Op::Serve => {
                let Some(id) = self.queue.heads().next() else { return };
                let (place, held) = self.take(id).expect("a head waits");
                let weight = self.weights[&id];
                self.queue.start(place.account, weight, held.tokens as u32);
                self.list.start(place.account, weight, held.tokens);
            }
            Op::Charge { account, tokens } => {
                self.queue.charge(account, tokens);
                self.list.charge(account, tokens);
            }
            Op::Displace => {
                if let Some((_, _, id)) = self.queue.heaviest() {
                    self.take(id);
                }
            }
        }
    }

    fn compare(&self) {
        let heads: Vec<RequestId> = self.queue.heads().collect();
        assert_eq!(heads, self.list.heads());
        assert_eq!(self.queue.heaviest().map(|(_, account, id)| (account, id)), self.list.heaviest());
        assert_eq!(self.queue.totals(), self.list.totals());
        assert_eq!(self.queue.accounts_waiting(), self.list.waiting().len());
        let oldest: Option<Duration> = self.list.items.iter().map(|(place, _)| place.arrived).min();
        assert_eq!(self.queue.oldest(), oldest);
        for account in 0..6 {
            assert_eq!(self.queue.waits(account), self.list.of(account).next().is_some());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_queue_says_what_a_searched_list_says(ops in prop::collection::vec(op(), 1..200)) {
        let mut pair = Pair::default();
        for op in &ops {
            pair.apply(op);
            pair.compare();
        }
    }
}
