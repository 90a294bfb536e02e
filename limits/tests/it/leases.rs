//! Several gateways that share a budget by leases: together never more than the limit, whatever gets lost.

use std::time::Duration;

use limits::{Budget, Lease, LeaseTerms, Lender, Meter};
use proptest::prelude::*;

use crate::common::{adaptive, fixed, ms, prompt, secs, spend_prompt, used};

const LIMIT: u64 = 60_000;

fn terms(gateways: u16) -> LeaseTerms {
    LeaseTerms { gateways, owned_percent: 20, lasts: secs(10) }
}

/// Gateways with a budget each, and the store between them.
struct House {
    lender: Lender,
    gateways: Vec<Budget>,
    now: Duration,
}

impl House {
    fn new(gateways: u16, budget: impl Fn() -> Budget) -> Self {
        let mut house = House {
            lender: Lender::new(terms(gateways)),
            gateways: (0..gateways).map(|_| budget()).collect(),
            now: secs(0),
        };
        // A gateway that starts may use what is its own before it has heard of the store.
        for place in 0..house.gateways.len() {
            let _ = house.renew(place, true);
        }
        house
    }

    /// A renewal, whose answer may be lost.
    fn renew(&mut self, place: usize, arrives: bool) -> Option<Lease> {
        let budget = self.gateways.get_mut(place)?;
        let lease = self.lender.renew(self.now, place as u16, &budget.renewal(self.now))?;
        if arrives {
            budget.take_lease(self.now, lease);
        }
        Some(lease)
    }

    /// Asks for prompt tokens, which are spent at once if they are granted.
    fn spend(&mut self, place: usize, tokens: u64) -> bool {
        let now = self.now;
        let Some(budget) = self.gateways.get_mut(place) else { return false };
        let Ok(reservation) = budget.reserve(now, &prompt(tokens)) else { return false };
        budget.settle(now, reservation, &used(tokens, 0));
        true
    }

    /// What all sliding minutes hold together.
    fn used(&mut self) -> u64 {
        let now = self.now;
        self.gateways.iter_mut().map(|budget| budget.view(now).prompt.used).sum()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Spend(usize, u64),
    Renew(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (1_u64..4_000).prop_map(Step::Wait),
        // A minute and more without a word: leases end.
        1 => (5_000_u64..90_000).prop_map(Step::Wait),
        12 => (0_usize..4, 1_u64..40_000).prop_map(|(place, tokens)| Step::Spend(place, tokens)),
        8 => (0_usize..4, prop::bool::weighted(0.8)).prop_map(|(place, arrives)| Step::Renew(place, arrives)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn all_gateways_together_never_use_more_than_the_limit(
        gateways in 1_u16..=4,
        steps in prop::collection::vec(step(), 1..300),
    ) {
        let mut house = House::new(gateways, || fixed([LIMIT; 3], LIMIT));
        for step in steps {
            match step {
                Step::Wait(time) => house.now += ms(time),
                Step::Spend(place, tokens) => {
                    let _ = house.spend(place, tokens);
                }
                Step::Renew(place, arrives) => {
                    let _ = house.renew(place, arrives);
                }
            }
            let used = house.used();
            prop_assert!(used <= LIMIT, "{used} of {LIMIT} at {:?}", house.now);
            let exposed = house.lender.exposed(house.now, Meter::Prompt, LIMIT);
            prop_assert!(exposed <= LIMIT, "{exposed} lent of {LIMIT} at {:?}", house.now);
        }
    }
}

/// Whoever is busy gets what the others leave, within a lease and a minute.
#[test]
fn the_share_goes_where_the_work_is() {
    let mut house = House::new(3, || fixed([LIMIT; 3], LIMIT));
    let mut share = 0;
    for second in 1..=160 {
        house.now = secs(second);
        while house.spend(0, 500) {}
        for place in 0..3 {
            let lease = house.renew(place, true).unwrap();
            share = if place == 0 { lease.share.prompt } else { share };
        }
    }
    // The others keep their own 4,000 each and share what is left of the limit when all wants are met: nothing.
    assert!(share >= LIMIT - 2 * 4_000, "{share}");
    assert!(house.used() > LIMIT * 8 / 10, "and it is used: {}", house.used());
}

/// Report S15: nobody is refused because the store is down, and nothing is granted twice.
#[test]
fn report_s15_without_the_store_a_gateway_serves_on_with_what_is_its_own() {
    let mut house = House::new(2, || fixed([LIMIT; 3], LIMIT));
    let lease = house.renew(0, true).unwrap();
    let budget = house.gateways.first_mut().unwrap();
    assert_eq!((lease.share.prompt, lease.owned.prompt), (30_000, 6_000));
    assert_eq!(budget.view(secs(9)).prompt.remaining, 30_000, "until the lease ends");

    assert_eq!(budget.view(secs(11)).prompt.remaining, 6_000);
    assert_eq!(budget.view(secs(11)).prompt.limit, LIMIT, "the account's limit has not changed");
    let refusal = budget.reserve(secs(11), &prompt(6_001)).map(|_| ());
    assert_eq!(refusal, Ok(()), "larger than the share, in an empty minute: carried as debt");
    let refusal = budget.reserve(secs(12), &prompt(1)).unwrap_err();
    assert!(refusal.retry_after.is_some(), "{refusal:?}");
}

/// Neither gateway sees more than half of the limit used; both together do.
#[test]
fn limits_grow_by_the_use_of_all_gateways() {
    let grown = |shared: bool| {
        let mut house = House::new(2, || adaptive(LIMIT, LIMIT, 4 * LIMIT));
        if !shared {
            // Without a lease, so that each believes that it is alone.
            house.gateways.iter_mut().for_each(|budget| *budget = adaptive(LIMIT, LIMIT, 4 * LIMIT));
        }
        for second in 1..=1_200 {
            house.now = secs(second);
            for place in 0..2 {
                if shared {
                    house.renew(place, true);
                }
                if second % 2 == 0 {
                    spend_prompt(&mut house.gateways[place], secs(second), LIMIT / 100);
                }
            }
        }
        house.gateways[0].view(house.now).prompt.limit
    };
    assert_eq!((grown(true), grown(false)), (LIMIT * 5 / 4, LIMIT));
}
