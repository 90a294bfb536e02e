//! The tier below regular: served from what is left, with a wait of its own, the first to give way.

use super::*;
use crate::learned::{Neighbour, Told};

/// One place, taken.
fn one_at_a_time() -> (Shedder, RequestId) {
    let mut shedder = shedder(Config { flex_wait: ms(60_000), ..fixed(1) }, 1);
    let running = run(&mut shedder, ms(0), offer(ms(0), REGULAR)).id;
    (shedder, running)
}

#[test]
fn it_starts_only_when_nobody_above_waits() {
    let (mut shedder, mut running) = one_at_a_time();
    let flex = ticket(shedder.offer(ms(10), offer(ms(10), FLEX)));
    let regular = ticket(shedder.offer(ms(20), offer(ms(20), REGULAR)));
    let priority = ticket(shedder.offer(ms(30), offer(ms(30), PRIORITY)));

    for (at, next) in [(40, priority), (50, regular), (60, flex)] {
        shedder.finish(ms(at), running, &done(1));
        let started = verdicts(&mut shedder);
        assert!(matches!(started[..], [Verdict::Admit(permit)] if permit.id == next), "{at}: {started:?}");
        shedder.first_token(ms(at), next);
        running = next;
    }
}

#[test]
fn it_waits_for_its_own_time_and_not_for_that_of_a_first_token() {
    let (mut shedder, _) = one_at_a_time();
    let flex = ticket(shedder.offer(ms(10), offer(ms(10), FLEX)));
    shedder.tick(ms(60_000), &[]);
    assert_eq!(verdicts(&mut shedder), []);
    assert_eq!(shedder.next_due(), Some(ms(60_010)));

    shedder.tick(ms(60_010), &[]);

    let ended = verdicts(&mut shedder);
    let timeout = |refusal: &Rejection| refusal.reason == Reason::QueueTimeout && refusal.tier == FLEX;
    assert!(matches!(&ended[..], [Verdict::Shed(id, why)] if *id == flex && timeout(why)), "{ended:?}");
}

#[test]
fn a_full_queue_is_emptied_of_it_first_and_it_may_fill_only_half() {
    let queue = QueueBounds { requests: 4, ..QueueBounds::default() };
    let mut shedder = shedder(Config { queue, ..fixed(1) }, 1);
    flowing(&mut shedder, ms(0));
    run(&mut shedder, ms(0), offer(ms(0), PRIORITY));
    let account = |n: u64, tier| of_account(n, offer(ms(10), tier));
    let flex: Vec<_> = (0..2).map(|n| ticket(shedder.offer(ms(10), account(n, FLEX)))).collect();
    assert_eq!(rejection(shedder.offer(ms(10), account(2, FLEX))).reason, Reason::QueueFull);
    let regular: Vec<_> = (0..2).map(|n| ticket(shedder.offer(ms(10), account(n, REGULAR)))).collect();

    for _ in 0..2 {
        ticket(shedder.offer(ms(20), account(9, PRIORITY)));
        let displaced = verdicts(&mut shedder);
        assert!(
            matches!(&displaced[..], [Verdict::Shed(id, why)] if flex.contains(id) && why.reason == Reason::Displaced),
            "{displaced:?}"
        );
    }
    ticket(shedder.offer(ms(20), account(9, PRIORITY)));
    assert!(matches!(&verdicts(&mut shedder)[..], [Verdict::Shed(id, _)] if regular.contains(id)));
}

#[test]
fn it_leaves_places_to_both_tiers_above() {
    let mut shedder = shedder(fixed(20), 1);
    run_many(&mut shedder, ms(0), FLEX, 14);
    ticket(shedder.offer(ms(0), offer(ms(0), FLEX)));
    run_many(&mut shedder, ms(0), REGULAR, 3);
    ticket(shedder.offer(ms(0), offer(ms(0), REGULAR)));
    run_many(&mut shedder, ms(0), PRIORITY, 3);
}

/// Regular that waits for places lowers the ceiling of flex, and not its own.
#[test]
fn what_regular_is_short_of_is_kept_from_it() {
    let mut shedder = shedder(fixed(20), 1);
    run_many(&mut shedder, ms(0), REGULAR, 17);
    let mut at = ms(0);
    for n in 0..8 {
        at = ms(500 * n);
        // Whoever waits has not been served within a quarter of the target.
        shedder.offer(at, offer(at, REGULAR));
        shedder.tick(at + ms(499), &[]);
        verdicts(&mut shedder);
    }

    let ceilings = shedder.snapshot(at).ceilings;
    assert_eq!((ceilings.priority, ceilings.regular), (1.0, 0.85));
    assert!(ceilings.flex < 0.6, "{ceilings:?}");
}

#[test]
fn it_is_taken_back_before_regular_is_and_for_regular_too() {
    let config = Config { withdraw: true, aborts_on_disconnect: true, ..fixed(4) };
    for (waits, taken) in [(PRIORITY, vec![FLEX]), (REGULAR, vec![FLEX]), (FLEX, vec![])] {
        let mut shedder = taught(config.clone(), 1);
        run(&mut shedder, ms(0), offer(ms(0), PRIORITY));
        let now = ms(1_000);
        let flex = permit(shedder.offer(now, sized(1_500, offer(now, FLEX))));
        shedder.dispatched(now, flex.id);

        ticket(shedder.offer(ms(1_100), sized(1_000, offer(ms(1_100), waits))));

        let expected: Vec<_> = taken.iter().map(|_| Verdict::Withdraw(flex.id)).collect();
        assert_eq!(verdicts(&mut shedder), expected, "{waits} waits");
    }
}

#[test]
fn it_waits_for_who_waits_in_another_process() {
    let mut shedder = shedder(fixed(20), 1);
    let told = Told { regular_waits: true, ..Told::default() };
    shedder.hear(ms(0), Neighbour::Before, &told);

    ticket(shedder.offer(ms(100), offer(ms(100), FLEX)));
    run(&mut shedder, ms(100), offer(ms(100), REGULAR));
    shedder.tick(ms(1_100), &[]);

    assert!(matches!(verdicts(&mut shedder)[..], [Verdict::Admit(permit)] if permit.tier == FLEX));
}

#[test]
fn who_waits_is_told_what_is_before_it() {
    let (mut shedder, running) = one_at_a_time();
    let at = ms(10);
    let waiting: Vec<_> = [(1, FLEX), (1, FLEX), (2, FLEX), (3, REGULAR)]
        .map(|(account, tier)| ticket(shedder.offer(at, of_account(account, offer(at, tier)))))
        .into();

    let before: Vec<_> =
        waiting.iter().map(|id| shedder.line_before(at, *id).map(|line| line.requests)).collect();

    // Of each other account that waits one request comes first for each of one's own, if it has as many.
    assert_eq!(before, [Some(2), Some(3), Some(2), Some(0)]);
    assert_eq!(shedder.line_before(at, running), None, "it does not wait");
    assert_eq!(
        shedder.line_before(at, waiting[3]).and_then(|line| line.wait),
        Some(ms(1_000)),
        "one start a second"
    );
}
