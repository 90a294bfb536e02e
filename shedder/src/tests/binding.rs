//! What binds is told as it is decided: by the same facts, in the terms of refusals.

use super::*;

fn binding(shedder: &Shedder, now: Duration) -> (Option<Binding>, Option<Binding>) {
    let binding = shedder.snapshot(now).binding;
    (binding.priority, binding.regular)
}

#[test]
fn places_bind_the_tier_whose_places_are_taken() {
    let t0 = ms(0);
    let mut shedder = shedder(fixed(100), 1);
    assert_eq!(binding(&shedder, t0), (None, None));
    run_many(&mut shedder, t0, REGULAR, 85);
    assert_eq!(binding(&shedder, t0), (None, Some(Binding::Places)));

    ticket(shedder.offer(t0, offer(t0, REGULAR)));

    assert_eq!(binding(&shedder, t0), (None, Some(Binding::Places)));
}

#[test]
fn while_priority_waits_it_is_what_regular_waits_for() {
    let t0 = ms(0);
    let mut shedder = shedder(fixed(20), 1);
    run_many(&mut shedder, t0, PRIORITY, 20);
    ticket(shedder.offer(t0, offer(t0, PRIORITY)));

    assert_eq!(binding(&shedder, t0), (Some(Binding::Places), Some(Binding::TierAbove)));
}

#[test]
fn prompts_bind_who_waits_for_them_though_there_are_places() {
    let t0 = ms(0);
    let mut shedder = shedder(fixed(50), 1);
    permit(shedder.offer(t0, sized(2_000, offer(t0, REGULAR))));
    permit(shedder.offer(t0, sized(2_000, offer(t0, REGULAR))));
    ticket(shedder.offer(t0, sized(2_000, offer(t0, REGULAR))));

    assert_eq!(binding(&shedder, t0), (None, Some(Binding::Prompts)));
    assert!(shedder.snapshot(t0).open.regular, "there are places");
}

/// Case O11: regular stops at 35 % while the gauge says 85 %.
#[test]
fn case_o11_room_that_is_kept_for_priority_is_told_with_the_ceiling_in_force() {
    let mut shedder = shedder(fixed(100), 1);
    let running = run_many(&mut shedder, ms(0), PRIORITY, 100);
    ticket(shedder.offer(ms(0), offer(ms(0), PRIORITY)));
    for step in 1..=6 {
        shedder.tick(ms(250 * step), &[]);
    }
    let now = ms(1_500);
    running.iter().for_each(|permit| shedder.finish(now, permit.id, &done(10)));
    verdicts(&mut shedder);
    let ceiling = shedder.snapshot(now).ceilings.regular;
    assert!(ceiling < 0.8, "priority waited for long: {ceiling}");
    let mut started = 0;
    while let Decision::Admit(_) = shedder.offer(now, offer(now, REGULAR)) {
        started += 1;
    }

    assert!(started < 85, "{started}");
    assert_eq!(binding(&shedder, now), (None, Some(Binding::HeadRoom)));
}

#[test]
fn without_a_replica_and_on_the_way_down_that_is_what_binds() {
    let t0 = ms(0);
    let mut shedder = shedder(fixed(20), 1);
    shedder.set_drained(t0, ReplicaId(0), true);
    assert_eq!(binding(&shedder, t0), (Some(Binding::NoReplica), Some(Binding::NoReplica)));

    shedder.close(t0);

    assert_eq!(binding(&shedder, t0), (Some(Binding::Draining), Some(Binding::Draining)));
}

#[test]
fn names_are_there_once() {
    let names: std::collections::BTreeSet<&str> = Binding::ALL.iter().map(|one| one.name()).collect();
    assert_eq!(names.len(), Binding::ALL.len());
}
