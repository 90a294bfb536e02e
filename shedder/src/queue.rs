//! What waits in one tier: fair between accounts, first come, first served within an account, or in turns of its users.
//!
//! Fairness is by virtual token counters (VTC; start-time fair queueing with tokens as the unit): the
//! account with the smallest counter is next. A counter grows by the uncached prompt tokens of a request
//! when it is dispatched and by twice its output tokens as they flow, divided by the account's weight. An
//! account that had nothing waiting is lifted to the smallest counter of those that have, so that idleness
//! earns no credit. Between two accounts that both keep waiting the served tokens differ by no more than
//! about two batches, whatever each sends.
//!
//! # Guarantees
//!
//! - The totals are the sums over what waits.
//! - Within an account requests leave in the order of their turns, else of first arrival, or by displacement from the end.
//! - Every operation is O(log n) in what waits; accounts that never waited cost nothing to look at.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::offer::RequestId;
use crate::turns::Turns;

/// Output tokens cost this many times what prompt tokens cost.
pub(crate) const OUTPUT_PRICE: i64 = 2;
/// Weights are counted in 1/1024, counters in 1/1024 token at weight 1.
const ONE: u64 = 1_024;
/// Accounts remembered though nothing of theirs waits or runs, so that one that comes back costs no allocation:
/// about 2 MB.
const IDLE_FLOWS_MAX: usize = 16_384;

/// Requests of a newcomer's own account that are looked at to say which of them come before it; with more it is all of them.
const OWN_COUNTED_MAX: usize = 256;

/// Where a waiting request stands: by account, then its user's turn there, then first arrival, then order of offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) account: u64,
    /// 0 where the account is not fair between its users.
    pub(crate) turn: u64,
    pub(crate) arrived: Duration,
    pub(crate) seq: u64,
}

/// What a waiting request holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) id: RequestId,
    pub(crate) tokens: u64,
    pub(crate) bytes: u64,
}

/// Sums over waiting requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Totals {
    pub(crate) requests: u32,
    pub(crate) tokens: u64,
    pub(crate) bytes: u64,
}

impl Totals {
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            tokens: self.tokens.saturating_add(other.tokens),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn add(&mut self, held: Held) {
        *self = self.plus(Self { requests: 1, tokens: held.tokens, bytes: held.bytes });
    }

    fn take(&mut self, held: Held) {
        self.requests = self.requests.saturating_sub(1);
        self.tokens = self.tokens.saturating_sub(held.tokens);
        self.bytes = self.bytes.saturating_sub(held.bytes);
    }
}

/// One account in one tier.
#[derive(Debug, Clone, Default)]
struct Flow {
    counter: u64,
    weight: u64,
    waiting: Totals,
    running: u32,
    /// The keys under which it is indexed while it waits.
    turn: Option<(u64, u64)>,
    load: u64,
    /// Of its users, where it is fair between those.
    users: Option<Box<Turns>>,
}

/// The queue of one tier.
#[derive(Debug, Clone, Default)]
pub(crate) struct TierQueue {
    flows: BTreeMap<u64, Flow>,
    items: BTreeMap<Place, Held>,
    /// Waiting accounts by counter, then by arrival of their first request.
    turns: BTreeSet<(u64, u64, u64)>,
    /// Waiting accounts by waiting tokens per weight.
    loads: BTreeSet<(u64, u64)>,
    totals: Totals,
    weight: u64,
    /// Accounts that have something here, waiting or running.
    present: u32,
    /// The counter that was served last: where accounts join when nothing waits.
    virtual_time: u64,
}

impl Flow {
    fn held(&self) -> u32 {
        self.waiting.requests + self.running
    }
}

fn fixed(weight: f64) -> u64 {
    let sane = if weight.is_finite() && weight > 0.0 { weight } else { 1.0 };
    ((sane * ONE as f64) as u64).clamp(1, 1 << 30)
}

/// Tokens per weight; requests without tokens count a little, so that they too can be the heaviest.
fn load(tokens: u64, requests: u32, weight: u64) -> u64 {
    (tokens + u64::from(requests)).saturating_mul(ONE * ONE) / weight.max(1)
}

impl TierQueue {
    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.totals.requests == 0
    }

    /// Accounts that wait.
    pub(crate) fn accounts_waiting(&self) -> usize {
        self.turns.len()
    }

    /// What `account` has here, waiting and running, and what each account that has something here would have if all had as
    /// much of `all`; the account itself counts in any case.
    pub(crate) fn held_by(&self, account: u64, all: f64) -> (f64, f64) {
        let held = self.flows.get(&account).map_or(0, Flow::held);
        let accounts = self.present + u32::from(held == 0);
        (f64::from(held), all / f64::from(accounts))
    }

    /// Whether something of `account` waits.
    pub(crate) fn waits(&self, account: u64) -> bool {
        self.flows.get(&account).is_some_and(|flow| flow.waiting.requests > 0)
    }

    /// The first request of each waiting account, the fairest first.
    pub(crate) fn heads(&self) -> impl Iterator<Item = RequestId> {
        self.turns.iter().filter_map(|&(_, _, account)| self.first_of(account).map(|(_, held)| held.id))
    }

    fn first_of(&self, account: u64) -> Option<(Place, Held)> {
        let from = Place { account, turn: 0, arrived: Duration::ZERO, seq: 0 };
        self.items.range(from..).next().filter(|(place, _)| place.account == account).map(|(p, h)| (*p, *h))
    }

    fn last_of(&self, account: u64) -> Option<Held> {
        let upto = Place { account, turn: u64::MAX, arrived: Duration::MAX, seq: u64::MAX };
        self.items.range(..=upto).next_back().filter(|(place, _)| place.account == account).map(|(_, h)| *h)
    }

    /// The longest wait of all.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.items.keys().map(|place| place.arrived).min()
    }

    /// The youngest request of the account with the most waiting tokens per weight, and that load.
    pub(crate) fn heaviest(&self) -> Option<(u64, u64, RequestId)> {
        let &(load, account) = self.loads.last()?;
        self.last_of(account).map(|held| (load, account, held.id))
    }

    /// The load that `account` would have with `tokens` more waiting.
    pub(crate) fn load_with(&self, account: u64, weight: f64, tokens: u64) -> u64 {
        let waiting = self.flows.get(&account).map(|flow| flow.waiting).unwrap_or_default();
        load(waiting.tokens + tokens, waiting.requests + 1, fixed(weight))
    }

    /// Tokens and requests of this tier that will be served before a newcomer of `account`.
    ///
    /// Its own come first, of other users only those whose turn is before; of every other account no more than its fair
    /// share while they are served. O(log n), with a user O(log n + [`OWN_COUNTED_MAX`]).
    pub(crate) fn ahead_of(&self, account: u64, user: Option<u64>, weight: f64, tokens: u64) -> (u64, u64) {
        let (own, own_weight) = match self.flows.get(&account) {
            Some(flow) if flow.waiting.requests > 0 => (self.own_ahead(account, user, flow), flow.weight),
            _ => (Totals::default(), 0),
        };
        let others = self.weight.saturating_sub(own_weight);
        if others == 0 {
            return (own.tokens, u64::from(own.requests));
        }
        let mean = self.totals.tokens / u64::from(self.totals.requests.max(1));
        let share = |served: u64| served.saturating_mul(others) / fixed(weight);
        let tokens_before =
            share(own.tokens.saturating_add(tokens.max(mean))).min(self.totals.tokens - own.tokens);
        let requests_before =
            share(u64::from(own.requests) + 1).min(u64::from(self.totals.requests - own.requests));
        (own.tokens + tokens_before, u64::from(own.requests) + requests_before)
    }

    /// What of the account waits before a newcomer of it.
    fn own_ahead(&self, account: u64, user: Option<u64>, flow: &Flow) -> Totals {
        let (Some(user), Some(turns)) = (user, &flow.users) else { return flow.waiting };
        let from = Place { account, turn: 0, arrived: Duration::ZERO, seq: 0 };
        let upto = Place { account, turn: turns.next(user), arrived: Duration::MAX, seq: u64::MAX };
        let mut ahead = Totals::default();
        for (_, held) in self.items.range(from..=upto).take(OWN_COUNTED_MAX) {
            ahead.add(*held);
        }
        if (ahead.requests as usize) < OWN_COUNTED_MAX { ahead } else { flow.waiting }
    }

    /// The turn of a request of `user` that is about to wait for the first time and costs so many tokens.
    pub(crate) fn take_turn(&mut self, account: u64, user: u64, cost: u64) -> u64 {
        let flow = self.flows.entry(account).or_default();
        let turns = flow.users.get_or_insert_default();
        if flow.waiting.requests == 0 {
            turns.forget();
        }
        turns.take(user, cost)
    }

    /// A waiting request of `user` left without being served.
    pub(crate) fn give_turn_back(&mut self, account: u64, user: u64, cost: u64) {
        if let Some(turns) = self.flows.get_mut(&account).and_then(|flow| flow.users.as_mut()) {
            turns.give_back(user, cost);
        }
    }

    /// A request with this turn is served.
    pub(crate) fn serve_turn(&mut self, account: u64, turn: u64) {
        if let Some(turns) = self.flows.get_mut(&account).and_then(|flow| flow.users.as_mut()) {
            turns.serve(turn);
        }
    }

    /// The last waiting request of `account`, where a newcomer of `user` would be before it.
    pub(crate) fn last_after(&self, account: u64, user: u64) -> Option<RequestId> {
        let turns = self.flows.get(&account)?.users.as_ref()?;
        let upto = Place { account, turn: u64::MAX, arrived: Duration::MAX, seq: u64::MAX };
        let (place, held) = self.items.range(..=upto).next_back()?;
        (place.account == account && place.turn > turns.next(user)).then_some(held.id)
    }

    /// Requests of this tier that will be served before one that waits at `place`: its account's own before it, and of every
    /// other account no more than its fair share meanwhile. No more than `most` are counted. O(log n + most).
    pub(crate) fn ahead_of_waiting(&self, place: Place, weight: f64, most: usize) -> u64 {
        let from = Place { turn: 0, arrived: Duration::ZERO, seq: 0, ..place };
        let own = self.items.range(from..place).take(most).count() as u64;
        let Some(flow) = self.flows.get(&place.account) else { return own };
        let others = u64::from(self.totals.requests.saturating_sub(flow.waiting.requests));
        let share = (own + 1).saturating_mul(self.weight.saturating_sub(flow.weight)) / fixed(weight);
        (own + share.min(others)).min(most as u64)
    }

    /// Adds a waiting request.
    pub(crate) fn push(&mut self, place: Place, weight: f64, held: Held) {
        self.join(place.account, weight);
        self.items.insert(place, held);
        self.totals.add(held);
        let Some(flow) = self.flows.get_mut(&place.account) else { return };
        self.present += u32::from(flow.held() == 0);
        if flow.waiting.requests == 0 {
            self.weight += flow.weight;
        }
        flow.waiting.add(held);
        self.index(place.account);
    }

    /// Takes a waiting request out. `None` when it is not here.
    pub(crate) fn remove(&mut self, place: Place) -> Option<Held> {
        let held = self.items.remove(&place)?;
        self.totals.take(held);
        if let Some(flow) = self.flows.get_mut(&place.account) {
            flow.waiting.take(held);
            if flow.waiting.requests == 0 {
                self.weight = self.weight.saturating_sub(flow.weight);
            }
            self.present = self.present.saturating_sub(u32::from(flow.held() == 0));
        }
        self.index(place.account);
        Some(held)
    }

    /// A request of `account` is dispatched: charges its uncached tokens.
    pub(crate) fn start(&mut self, account: u64, weight: f64, uncached: u32) {
        self.join(account, weight);
        if let Some(flow) = self.flows.get_mut(&account) {
            self.virtual_time = self.virtual_time.max(flow.counter);
            self.present += u32::from(flow.held() == 0);
            flow.running += 1;
        }
        self.charge(account, i64::from(uncached));
    }

    /// A dispatched request of `account` ended or came back.
    pub(crate) fn end(&mut self, account: u64) {
        if let Some(flow) = self.flows.get_mut(&account).filter(|flow| flow.running > 0) {
            flow.running -= 1;
            self.present = self.present.saturating_sub(u32::from(flow.held() == 0));
        }
    }

    /// Charges `tokens` prompt-equivalent tokens, or returns them.
    pub(crate) fn charge(&mut self, account: u64, tokens: i64) {
        let Some(flow) = self.flows.get_mut(&account) else { return };
        let amount = tokens.unsigned_abs().saturating_mul(ONE * ONE) / flow.weight.max(1);
        flow.counter = if tokens < 0 {
            flow.counter.saturating_sub(amount)
        } else {
            flow.counter.saturating_add(amount)
        };
        if flow.waiting.requests > 0 {
            self.index(account);
        }
    }

    /// Lifts an account with nothing waiting to where the others are, and takes over its weight.
    fn join(&mut self, account: u64, weight: f64) {
        let floor = self.turns.first().map_or(self.virtual_time, |&(counter, _, _)| counter);
        let flow = self.flows.entry(account).or_default();
        if flow.waiting.requests == 0 {
            flow.counter = flow.counter.max(floor);
            flow.weight = fixed(weight);
        }
    }

    fn index(&mut self, account: u64) {
        let first = self.first_of(account).map(|(place, _)| place.seq);
        let Some(flow) = self.flows.get_mut(&account) else { return };
        if let Some((counter, seq)) = flow.turn.take() {
            self.turns.remove(&(counter, seq, account));
            self.loads.remove(&(flow.load, account));
        }
        if let Some(seq) = first {
            flow.turn = Some((flow.counter, seq));
            flow.load = load(flow.waiting.tokens, flow.waiting.requests, flow.weight);
            self.turns.insert((flow.counter, seq, account));
            self.loads.insert((flow.load, account));
        }
    }

    /// Forgets accounts that have nothing here, when there are too many of them. Who comes back is lifted to the
    /// others' floor either way, remembered or not.
    pub(crate) fn forget_idle(&mut self) {
        if self.flows.len() > IDLE_FLOWS_MAX {
            self.flows.retain(|_, flow| flow.waiting.requests > 0 || flow.running > 0);
        }
    }

    /// The `count` accounts with the most waiting: account, requests, tokens.
    pub(crate) fn top(&self, count: usize) -> Vec<(u64, u32, u64)> {
        let heaviest = self.loads.iter().rev().take(count);
        heaviest
            .filter_map(|(_, account)| {
                let waiting = self.flows.get(account)?.waiting;
                Some((*account, waiting.requests, waiting.tokens))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(queue: &mut TierQueue, account: u64, seq: u64, tokens: u64, weight: f64) {
        let place = Place { account, turn: 0, arrived: Duration::from_millis(seq), seq };
        queue.push(place, weight, Held { id: RequestId(seq), tokens, bytes: 1 });
    }

    fn serve(queue: &mut TierQueue, weight_of: impl Fn(u64) -> f64) -> Option<(u64, u64)> {
        let id = queue.heads().next()?;
        let (&place, &held) = queue.items.iter().find(|(_, held)| held.id == id)?;
        queue.remove(place);
        queue.start(place.account, weight_of(place.account), held.tokens as u32);
        Some((place.account, held.tokens))
    }

    #[test]
    fn equal_accounts_are_served_equal_tokens_whatever_the_size_of_their_requests() {
        let mut queue = TierQueue::default();
        (0..400).for_each(|n| push(&mut queue, 1, n, 100, 1.0));
        (400..500).for_each(|n| push(&mut queue, 2, n, 1_000, 1.0));

        let mut served = [0_u64; 3];
        for _ in 0..110 {
            let (account, tokens) = serve(&mut queue, |_| 1.0).unwrap();
            served[account as usize] += tokens;
        }

        assert!(served[1].abs_diff(served[2]) <= 1_000, "{served:?}");
    }

    #[test]
    fn twice_the_weight_gets_twice_the_tokens() {
        let weight = |account| if account == 2 { 2.0 } else { 1.0 };
        let mut queue = TierQueue::default();
        for n in 0..300 {
            push(&mut queue, 1, 2 * n, 100, weight(1));
            push(&mut queue, 2, 2 * n + 1, 100, weight(2));
        }

        let mut served = [0_u64; 3];
        for _ in 0..300 {
            let (account, tokens) = serve(&mut queue, weight).unwrap();
            served[account as usize] += tokens;
        }

        assert!(served[2].abs_diff(2 * served[1]) <= 400, "{served:?}");
    }

    /// Credit for idle time would let a returning account shut out the others.
    #[test]
    fn an_account_that_was_idle_gets_no_credit_for_it() {
        let mut queue = TierQueue::default();
        (0..300).for_each(|n| push(&mut queue, 1, n, 100, 1.0));
        (0..100).for_each(|_| assert!(serve(&mut queue, |_| 1.0).is_some()));

        (300..400).for_each(|n| push(&mut queue, 2, n, 100, 1.0));
        let first_ten: Vec<_> = (0..10).filter_map(|_| serve(&mut queue, |_| 1.0)).map(|s| s.0).collect();

        assert_eq!(first_ten.iter().filter(|&&account| account == 1).count(), 5, "{first_ten:?}");
    }

    #[test]
    fn an_account_is_served_in_the_order_of_first_arrival() {
        let mut queue = TierQueue::default();
        push(&mut queue, 1, 7, 10, 1.0);
        push(&mut queue, 1, 3, 10, 1.0);

        assert_eq!(queue.heads().next(), Some(RequestId(3)), "a request that came back goes to the head");
    }

    #[test]
    fn the_heaviest_is_measured_by_tokens_per_weight() {
        let mut queue = TierQueue::default();
        push(&mut queue, 1, 1, 1_000, 1.0);
        push(&mut queue, 2, 2, 1_500, 4.0);

        assert_eq!(queue.heaviest().map(|(_, account, _)| account), Some(1));
    }

    #[test]
    fn a_light_account_is_ahead_of_most_of_a_heavy_neighbour() {
        let mut queue = TierQueue::default();
        (0..1_000).for_each(|n| push(&mut queue, 1, n, 100, 1.0));

        assert_eq!(queue.ahead_of(2, None, 1.0, 100), (100, 1));
        assert_eq!(queue.ahead_of(1, None, 1.0, 100), (100_000, 1_000));
    }

    fn push_of(queue: &mut TierQueue, (account, user): (u64, u64), seq: u64, tokens: u64) {
        let turn = queue.take_turn(account, user, tokens);
        let place = Place { account, turn, arrived: Duration::from_millis(seq), seq };
        queue.push(place, 1.0, Held { id: RequestId(seq), tokens, bytes: 1 });
    }

    /// The next one that is served, with its sequence number.
    fn serve_of(queue: &mut TierQueue) -> Option<(u64, u64)> {
        let id = queue.heads().next()?;
        let (&place, &held) = queue.items.iter().find(|(_, held)| held.id == id)?;
        queue.remove(place);
        queue.serve_turn(place.account, place.turn);
        queue.start(place.account, 1.0, held.tokens as u32);
        Some((place.account, place.seq))
    }

    #[test]
    fn users_of_an_account_take_turns_however_much_one_of_them_sends() {
        let mut queue = TierQueue::default();
        (0..100).for_each(|n| push_of(&mut queue, (1, 7), n, 100));
        (100..105).for_each(|n| push_of(&mut queue, (1, 8), n, 100));

        assert_eq!(queue.ahead_of(1, Some(9), 1.0, 100), (200, 2), "a third user waits for one of each");
        assert_eq!(queue.ahead_of(1, Some(7), 1.0, 100), (10_500, 105), "who floods waits for all");
        let first_ten: Vec<u64> =
            (0..10).filter_map(|_| serve_of(&mut queue)).map(|served| served.1).collect();
        assert_eq!(first_ten, [0, 100, 1, 101, 2, 102, 3, 103, 4, 104]);
    }

    /// Whoever invents users takes turns from his own account only.
    #[test]
    fn an_account_gains_nothing_by_having_many_users() {
        let mut queue = TierQueue::default();
        (0..300).for_each(|n| push_of(&mut queue, (1, n), n, 100));
        (300..600).for_each(|n| push(&mut queue, 2, n, 100, 1.0));

        let mut served = [0_u64; 3];
        (0..200).filter_map(|_| serve_of(&mut queue)).for_each(|(account, _)| served[account as usize] += 1);

        assert_eq!(served, [0, 100, 100]);
    }

    /// When a full queue holds more than one may wait for, the heaviest user's last request makes room for the lightest.
    #[test]
    fn a_light_user_comes_before_the_last_of_a_heavy_one() {
        let mut queue = TierQueue::default();
        (0..10).for_each(|n| push_of(&mut queue, (1, 7), n, 100));

        assert_eq!(queue.last_after(1, 8), Some(RequestId(9)));
        assert_eq!(queue.last_after(1, 7), None, "nobody makes room for himself");
        assert_eq!(queue.last_after(2, 8), None);
    }

    #[test]
    fn totals_return_to_zero_when_everybody_has_been_served() {
        let mut queue = TierQueue::default();
        (0..50).for_each(|n| push(&mut queue, n % 7, n, n, 1.0));

        while serve(&mut queue, |_| 1.0).is_some() {}
        (0..7).for_each(|account| (0..8).for_each(|_| queue.end(account)));
        queue.virtual_time = u64::MAX;
        queue.forget_idle();

        assert_eq!(queue.totals(), Totals::default());
        assert!(queue.turns.is_empty() && queue.loads.is_empty());
        assert_eq!(queue.held_by(1, 10.0), (0.0, 10.0), "nobody is left");
        assert_eq!(queue.weight, 0);
    }
}
