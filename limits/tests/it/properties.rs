//! What must hold whatever happens.

use std::time::Duration;

use limits::{Ask, Budget, BudgetConfig, Meter, PerMeter, Policy, Reservation, Snapshot, Used};
use proptest::prelude::*;

use crate::common::*;

/// Something that happens to a budget.
#[derive(Debug, Clone)]
enum Step {
    Wait { ms: u64 },
    Reserve(Ask),
    ChargePrompt { which: usize },
    ChargeGenerated { which: usize, tokens: u64 },
    Settle { which: usize, used: Used },
    Release { which: usize },
}

/// One in three asks for no output at all.
fn any_maximum() -> impl Strategy<Value = Option<u64>> {
    prop_oneof![1 => Just(Some(0)), 2 => proptest::option::of(0..2_000_u64)]
}

fn any_ask() -> impl Strategy<Value = Ask> {
    (0..3_000_u64, 0..3_000_u64, any_maximum(), 0..4_u32, 0..1_500_u64).prop_map(
        |(prompt, uncached_prompt, max_generated, choices, usual)| Ask {
            prompt,
            uncached_prompt,
            max_generated,
            choices,
            usual_of_model: Some(usual),
        },
    )
}

fn any_used() -> impl Strategy<Value = Used> {
    (0..4_000_u64, 0..4_000_u64, 0..4_000_u64, any::<bool>()).prop_map(
        |(prompt, uncached_prompt, generated, finished)| Used {
            prompt,
            uncached_prompt,
            generated,
            finished,
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => prop_oneof![0..400_u64, 0..70_000_u64].prop_map(|ms| Step::Wait { ms }),
        4 => any_ask().prop_map(Step::Reserve),
        2 => any::<usize>().prop_map(|which| Step::ChargePrompt { which }),
        4 => (any::<usize>(), 0..600_u64).prop_map(|(which, tokens)| Step::ChargeGenerated { which, tokens }),
        2 => (any::<usize>(), any_used()).prop_map(|(which, used)| Step::Settle { which, used }),
        1 => any::<usize>().prop_map(|which| Step::Release { which }),
    ]
}

/// A budget and what runs on it.
struct Scene {
    budget: Budget,
    now: Duration,
    running: Vec<Reservation>,
}

impl Scene {
    fn new(policy: Policy) -> Self {
        let config = BudgetConfig { policy, bounds: bounds(2_000, 1_000, 6_000) };
        Scene { budget: Budget::new(ms(12_345), config), now: ms(12_345), running: Vec::new() }
    }

    fn play(&mut self, step: Step) {
        let Scene { budget, now, running } = self;
        match step {
            Step::Wait { ms: wait } => *now += ms(wait),
            Step::Reserve(ask) => running.extend(budget.reserve(*now, &ask)),
            Step::ChargePrompt { which } => {
                if let Some(reservation) = pick(running, which) {
                    budget.charge_prompt(*now, reservation);
                }
            }
            Step::ChargeGenerated { which, tokens } => {
                if let Some(reservation) = pick(running, which) {
                    budget.charge_generated(*now, reservation, tokens);
                }
            }
            Step::Settle { which, used } => {
                if let Some(reservation) = take(running, which) {
                    budget.settle(*now, reservation, &used);
                }
            }
            Step::Release { which } => {
                if let Some(reservation) = take(running, which) {
                    budget.release(*now, reservation);
                }
            }
        }
    }

    fn end_all(&mut self) {
        for reservation in std::mem::take(&mut self.running) {
            settle_as_charged(&mut self.budget, self.now, reservation);
        }
    }
}

fn pick(running: &mut [Reservation], which: usize) -> Option<&mut Reservation> {
    let place = which.checked_rem(running.len())?;
    running.get_mut(place)
}

fn take(running: &mut Vec<Reservation>, which: usize) -> Option<Reservation> {
    let place = which.checked_rem(running.len())?;
    Some(running.swap_remove(place))
}

fn taken(budget: &mut Budget, now: Duration) -> PerMeter<u64> {
    budget.view(now).map(|view| view.used + view.reserved + view.debt)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(any_step(), 0..80)
}

fn policies() -> impl Strategy<Value = Policy> {
    prop_oneof![Just(Policy::Fixed), Just(Policy::Published(limits::AdaptiveRule::default()))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Not a token and not a request may stay behind, whatever happened.
    #[test]
    fn at_rest_everything_is_exactly_zero(policy in policies(), steps in steps()) {
        let mut scene = Scene::new(policy);
        steps.into_iter().for_each(|step| scene.play(step));

        prop_assert_eq!(scene.budget.live(), scene.running.len() as u64);
        scene.end_all();

        prop_assert_eq!(scene.budget.live(), 0);
        prop_assert_eq!(scene.budget.reserved(), PerMeter::default());
        let later = scene.now + secs(3_600 * 24);
        prop_assert_eq!(taken(&mut scene.budget, later), PerMeter::default());
    }

    /// The books agree with themselves after every step.
    #[test]
    fn the_books_agree(policy in policies(), steps in steps()) {
        let mut scene = Scene::new(policy);
        for step in steps {
            scene.play(step);

            let held = scene.running.iter().fold(PerMeter::default(), |sum: PerMeter<u64>, reservation| {
                let rest = reservation.reserved();
                PerMeter::from_fn(|meter| sum.get(meter) + rest.get(meter))
            });
            let views = scene.budget.view(scene.now);
            prop_assert_eq!(scene.budget.reserved(), held, "reserved is what the running ones hold");
            for (meter, view) in views.iter() {
                prop_assert!(view.floor <= view.limit && view.limit <= view.ceiling);
                prop_assert!(view.debt == 0 || view.used >= view.limit, "{} is owed with room left", meter);
                let left = view.limit.saturating_sub(view.used + view.reserved + view.debt);
                prop_assert_eq!(view.remaining, left);
            }
        }
    }

    /// A lone account that waits as told is admitted, and a moment earlier it is not; output, which is an estimate, may be
    /// admitted earlier.
    #[test]
    fn who_waits_as_told_is_admitted(steps in steps(), ask in any_ask()) {
        let mut scene = Scene::new(Policy::Fixed);
        steps.into_iter().for_each(|step| scene.play(step));
        scene.end_all();
        let (now, budget) = (scene.now, &mut scene.budget);

        let Err(refusal) = budget.reserve(now, &ask) else { return Ok(()) };
        let wait = refusal.retry_after.expect("nothing asked for is over the ceiling");

        let early = budget.clone().reserve(now + wait - ms(1), &ask);
        prop_assert!(early.is_err() || refusal.meter == Meter::Generated, "admitted before {:?}", wait);
        prop_assert!(budget.reserve(now + wait, &ask).is_ok(), "refused after {:?}", wait);
    }

    /// Running reservations are taken as charged now: if they are, the bound is still exact.
    #[test]
    fn who_waits_as_told_is_admitted_although_others_run(steps in steps(), ask in any_ask()) {
        let mut scene = Scene::new(Policy::Fixed);
        steps.into_iter().for_each(|step| scene.play(step));
        let Err(refusal) = scene.budget.reserve(scene.now, &ask) else { return Ok(()) };
        let wait = refusal.retry_after.expect("nothing asked for is over the ceiling");

        for reservation in &mut scene.running {
            scene.budget.charge_prompt(scene.now, reservation);
            let rest = reservation.expected();
            scene.budget.charge_generated(scene.now, reservation, rest);
        }

        let then = scene.now + wait;
        let early = scene.budget.clone().reserve(then - ms(1), &ask);
        prop_assert!(early.is_err() || refusal.meter == Meter::Generated);
        prop_assert!(scene.budget.reserve(then, &ask).is_ok());
    }

    /// The time until half is free is as exact.
    #[test]
    fn half_is_free_when_told(steps in steps()) {
        let mut scene = Scene::new(Policy::Fixed);
        steps.into_iter().for_each(|step| scene.play(step));
        scene.end_all();

        for meter in Meter::ALL {
            let view = *scene.budget.view(scene.now).get(meter);
            let then = scene.now + view.until_half;
            let mut later = scene.budget.clone();
            if !view.until_half.is_zero() {
                prop_assert!(later.view(then - ms(1)).get(meter).remaining * 2 < view.limit);
            }
            prop_assert!(later.view(then).get(meter).remaining * 2 >= view.limit);
        }
    }

    /// A refusal is all or nothing: it leaves no trace in any meter.
    #[test]
    fn a_refusal_changes_nothing(steps in steps(), ask in any_ask()) {
        let mut scene = Scene::new(Policy::Fixed);
        steps.into_iter().for_each(|step| scene.play(step));
        let before = scene.budget.view(scene.now);

        let refused = scene.budget.reserve(scene.now, &ask).is_err();

        if refused {
            prop_assert_eq!(scene.budget.view(scene.now), before);
        }
    }

    /// No refund mints tokens: a request never leaves more room than if it had not been, at any later time.
    #[test]
    fn a_request_never_makes_room(
        others in proptest::collection::vec((0..9_000_u64, 0..400_u64), 0..40),
        own in proptest::collection::vec((0..9_000_u64, 0..400_u64), 1..40),
        truth in any_used(),
        prompt in 0..2_000_u64,
    ) {
        let big = BudgetConfig { policy: Policy::Fixed, bounds: bounds(3_000, 3_000, 3_000) };
        let (mut with, mut without) = (Budget::new(secs(0), big), Budget::new(secs(0), big));
        let ask = Ask { prompt, uncached_prompt: prompt, max_generated: Some(300), ..Ask::default() };
        let mut stream = with.reserve(secs(0), &ask).unwrap();
        let mut busy = [with.reserve(secs(0), &output(1)).unwrap(), without.reserve(secs(0), &output(1)).unwrap()];
        with.charge_prompt(secs(0), &mut stream);

        let mut now = secs(0);
        for ((wait, theirs), (_, ours)) in others.iter().chain(&[(0, 0)]).zip(&own) {
            now += ms(*wait);
            let [in_with, in_without] = &mut busy;
            with.charge_generated(now, in_with, *theirs);
            without.charge_generated(now, in_without, *theirs);
            with.charge_generated(now, &mut stream, *ours);
        }
        with.settle(now, stream, &truth);

        for _ in 0..700 {
            let (a, b) = (taken(&mut with, now), taken(&mut without, now));
            for meter in Meter::ALL {
                prop_assert!(a.get(meter) >= b.get(meter), "{} at {:?}: {:?} < {:?}", meter, now, a, b);
            }
            now += ms(250);
        }
        let [in_with, in_without] = busy;
        with.release(now, in_with);
        without.release(now, in_without);
    }

    /// A correction within the minute is exact, in both directions, however the answer came.
    #[test]
    fn a_correction_in_time_is_exact(
        parts in proptest::collection::vec((0..1_400_u64, 0..100_u64), 0..40),
        truth in 0..6_000_u64,
    ) {
        let big = BudgetConfig { policy: Policy::Fixed, bounds: bounds(1_000_000, 1_000_000, 1_000_000) };
        let mut budget = Budget::new(secs(0), big);
        let mut stream = budget.reserve(secs(0), &output(500)).unwrap();
        let mut now = secs(0);
        for (wait, tokens) in parts {
            now += ms(wait);
            budget.charge_generated(now, &mut stream, tokens);
        }

        budget.settle(now, stream, &used(0, truth));

        prop_assert_eq!(budget.view(now).generated.used, truth);
    }

    /// A budget that was put away and taken up again decides as if nothing had happened.
    #[test]
    fn a_restored_budget_is_the_same(
        policy in policies(), steps in steps(), away_ms in 0..200_000_u64, restart_ms in 0..100_000_u64, ask in any_ask(),
    ) {
        let mut scene = Scene::new(policy);
        steps.into_iter().for_each(|step| scene.play(step));
        scene.end_all();
        let config = *scene.budget.config();

        let snapshot = scene.budget.snapshot(scene.now);
        let read = Snapshot::from_bytes(&snapshot.to_bytes()).unwrap();
        prop_assert_eq!(&read, &snapshot);
        let mut restored = Budget::restore(ms(restart_ms), config, &read, ms(away_ms));

        let (then, now) = (scene.now + ms(away_ms), ms(restart_ms));
        prop_assert_eq!(restored.view(now), scene.budget.view(then));
        prop_assert_eq!(restored.usual(), scene.budget.usual());
        let decisions = (restored.reserve(now, &ask), scene.budget.reserve(then, &ask));
        match decisions {
            (Ok(a), Ok(b)) => prop_assert_eq!(a.reserved(), b.reserved()),
            (Err(a), Err(b)) => prop_assert_eq!(a, b),
            (a, b) => prop_assert!(false, "{:?} and {:?}", a.map(|r| r.reserved()), b.map(|r| r.reserved())),
        }
    }

    /// Bytes from a disk can be anything.
    #[test]
    fn damaged_bytes_are_refused_or_read_and_never_more(
        steps in steps(), at in any::<usize>(), byte in any::<u8>(), cut in any::<usize>(),
    ) {
        let mut scene = Scene::new(Policy::Published(limits::AdaptiveRule::default()));
        steps.into_iter().for_each(|step| scene.play(step));
        let mut bytes = scene.budget.snapshot(scene.now).to_bytes();
        let whole = bytes.len();
        prop_assert!(Snapshot::from_bytes(&bytes[..cut % whole]).is_err(), "a part is no whole");

        bytes[at % whole] = byte;
        if let Ok(snapshot) = Snapshot::from_bytes(&bytes) {
            let mut budget = Budget::restore(secs(1), *scene.budget.config(), &snapshot, secs(5));
            let _ = budget.view(secs(2));
        }
    }
}
