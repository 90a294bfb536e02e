//! Two processes on the same replicas while one finishes what it has.

use super::*;
use crate::learned::{Neighbour, Told};

/// A process that took over from `old`.
fn next(old: &Shedder, now: Duration) -> Shedder {
    let mut new = shedder(fixed(100), 1);
    new.adopt(now, &old.export(now));
    new
}

/// Both tell each other what runs, as they do four times a second.
fn exchange(old: &mut Shedder, new: &mut Shedder, now: Duration) {
    new.hear(now, Neighbour::Before, &old.tell(now, Neighbour::After));
    old.hear(now, Neighbour::After, &new.tell(now, Neighbour::Before));
}

fn waiting(decision: Decision) -> Option<RequestId> {
    match decision {
        Decision::Wait(id) => Some(id),
        _ => None,
    }
}

fn active(shedder: &Shedder, now: Duration) -> u32 {
    shedder.snapshot(now).replicas[0].active
}

#[test]
fn two_processes_together_keep_to_one_limit() {
    let t0 = ms(0);
    let mut old = shedder(fixed(100), 1);
    let running = run_many(&mut old, t0, REGULAR, 80);
    let mut new = next(&old, t0);

    run_many(&mut new, t0, REGULAR, 5);
    ticket(new.offer(t0, offer(t0, REGULAR)));
    exchange(&mut old, &mut new, t0);
    assert_eq!((active(&old, t0), active(&new, t0)), (85, 85));
    // The old process has places of its own back, and may not give all of them away: the new one has taken five.
    running[..5].iter().for_each(|permit| old.finish(t0, permit.id, &done(10)));
    permit(old.offer(t0, offer(t0, PRIORITY)));
    assert_eq!(active(&old, t0), 81);
    exchange(&mut old, &mut new, t0);
    assert_eq!(active(&old, t0), active(&new, t0), "each counts both");
}

#[test]
fn what_a_process_heard_it_tells_the_next_one_and_not_back() {
    let t0 = ms(0);
    let mut first = shedder(fixed(100), 1);
    run_many(&mut first, t0, REGULAR, 10);
    let mut second = next(&first, t0);
    run_many(&mut second, t0, REGULAR, 20);
    let mut third = next(&second, t0);
    run_many(&mut third, t0, REGULAR, 30);

    for _ in 0..3 {
        exchange(&mut first, &mut second, t0);
        exchange(&mut second, &mut third, t0);
    }

    assert_eq!([&first, &second, &third].map(|one| active(one, t0)), [60; 3]);
    second.hear(t0, Neighbour::After, &Told::default());
    assert_eq!(active(&second, t0), 30, "the third has ended");
}

#[test]
fn what_was_heard_and_not_told_again_ends_by_itself() {
    let t0 = ms(0);
    let mut old = shedder(fixed(100), 1);
    run_many(&mut old, t0, REGULAR, 40);
    let mut new = next(&old, t0);
    assert_eq!(active(&new, t0), 40);

    let later = t0 + Duration::from_secs(700);
    new.tick(later, &[]);

    assert_eq!(active(&new, later), 0);
    assert!(new.snapshot(later).at_rest.is_zero());
}

#[test]
fn prompts_that_the_other_process_sent_are_still_to_be_computed() {
    let t0 = ms(0);
    let mut old = shedder(fixed(100), 1);
    permit(old.offer(t0, sized(3_000, offer(t0, REGULAR))));
    let mut new = next(&old, t0);
    let backlog = |shedder: &Shedder| shedder.snapshot(t0).replicas[0].backlog_tokens;

    assert_eq!(backlog(&new), 3_000);
    exchange(&mut old, &mut new, t0);
    assert_eq!((backlog(&old), backlog(&new)), (3_000, 3_000), "told twice, counted once");
    new.hear(t0, Neighbour::Before, &Told::default());
    assert_eq!(backlog(&new), 0);
}

/// Killed in the middle of it: nobody tells any more that its prompts are computed.
#[test]
fn prompts_of_a_process_that_is_not_heard_any_more_do_not_wait_for_ever() {
    let t0 = ms(0);
    let mut old = shedder(fixed(100), 1);
    permit(old.offer(t0, sized(3_000, offer(t0, REGULAR))));
    let mut new = next(&old, t0);
    exchange(&mut old, &mut new, t0);
    drop(old);

    new.tick(ms(2_000), &[]);

    assert_eq!(new.snapshot(ms(2_000)).replicas[0].backlog_tokens, 0);
}

#[test]
fn no_process_starts_regular_requests_while_priority_waits_in_another() {
    let t0 = ms(0);
    let slots = || Config { slots_max: Some(20), ..fixed(100) };
    let mut old = shedder(slots(), 1);
    let running = run_many(&mut old, t0, PRIORITY, 20);
    let regular = ticket(old.offer(t0, offer(t0, REGULAR)));
    let mut new = shedder(slots(), 1);
    new.adopt(t0, &old.export(t0));
    assert_eq!(active(&new, t0), 20);
    let decisions = (0..5).map(|_| new.offer(t0, offer(t0, PRIORITY)));
    let priority = decisions.filter_map(waiting).next().expect("one that waits");
    exchange(&mut old, &mut new, t0);

    running[..10].iter().for_each(|permit| old.finish(t0, permit.id, &done(10)));
    assert_eq!(verdicts(&mut old), [], "priority waits in the other one");
    ticket(old.offer(t0, of_account(7, offer(t0, REGULAR))));
    exchange(&mut old, &mut new, t0);
    assert!(matches!(verdicts(&mut new)[..], [Verdict::Admit(permit)] if permit.id == priority));

    exchange(&mut old, &mut new, t0);
    assert!(matches!(verdicts(&mut old)[..], [Verdict::Admit(permit), ..] if permit.id == regular));
}
