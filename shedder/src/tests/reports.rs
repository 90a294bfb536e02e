//! Failures that users of other systems reported, as tests, under the ids of the list of reports.

use super::*;

/// At the threshold regular waits and priority is served in full; above it priority waits too; below it
/// regular resumes, and never is priority refused while regular is admitted.
#[test]
fn report_s1_regular_closes_first_and_reopens_last() {
    let t0 = ms(0);
    let mut shedder = shedder(fixed(20), 1);
    let mut running = run_many(&mut shedder, t0, REGULAR, 17);
    ticket(shedder.offer(t0, offer(t0, REGULAR)));
    running.extend(run_many(&mut shedder, t0, PRIORITY, 3));
    ticket(shedder.offer(t0, offer(t0, PRIORITY)));

    let mut order = Vec::new();
    for permit in running {
        shedder.finish(t0, permit.id, &done(1));
        order.extend(verdicts(&mut shedder).into_iter().filter_map(|verdict| match verdict {
            Verdict::Admit(permit) => Some(permit.tier),
            _ => None,
        }));
    }

    assert_eq!(order, [PRIORITY, REGULAR]);
}

#[test]
fn report_s2_a_full_queue_of_regular_makes_room_for_priority() {
    let t0 = ms(0);
    let queue = QueueBounds { requests: 10, ..QueueBounds::default() };
    let mut shedder = shedder(Config { queue, ..fixed(1) }, 1);
    flowing(&mut shedder, t0);
    run(&mut shedder, t0, offer(t0, REGULAR));
    let waiting: Vec<_> = (0..9).map(|_| ticket(shedder.offer(t0, offer(t0, REGULAR)))).collect();
    assert_eq!(rejection(shedder.offer(t0, offer(t0, REGULAR))).reason, Reason::QueueFull);

    ticket(shedder.offer(t0, offer(t0, PRIORITY)));
    assert_eq!(verdicts(&mut shedder), [], "the last tenth of the queue is priority's");
    ticket(shedder.offer(t0, offer(t0, PRIORITY)));

    let displaced = verdicts(&mut shedder);
    assert!(
        matches!(displaced[..], [Verdict::Shed(id, refusal)]
            if id == waiting[8] && refusal.reason == Reason::Displaced && refusal.retry_after.is_some()),
        "the youngest gives way: {displaced:?}"
    );
}

#[test]
fn report_s2_the_account_that_filled_the_queue_gives_way_within_its_tier() {
    let t0 = ms(0);
    let queue = QueueBounds { requests: 10, share: PerTier::from_fn(|_| 1.0), ..QueueBounds::default() };
    let mut shedder = shedder(Config { queue, ..fixed(1) }, 1);
    flowing(&mut shedder, t0);
    run(&mut shedder, t0, offer(t0, REGULAR));
    let waiting: Vec<_> =
        (0..10).map(|_| ticket(shedder.offer(t0, of_account(1, offer(t0, REGULAR))))).collect();

    ticket(shedder.offer(t0, of_account(2, offer(t0, REGULAR))));

    assert!(matches!(verdicts(&mut shedder)[..], [Verdict::Shed(id, _)] if id == waiting[9]));
    assert_eq!(rejection(shedder.offer(t0, of_account(1, offer(t0, REGULAR)))).reason, Reason::QueueFull);
}

/// With a floor regular gets its share although priority never stops waiting; without one it gets nothing.
#[test]
fn report_s3_regular_is_not_starved_when_a_floor_is_configured() {
    let regular_starts = |regular_floor: f64| {
        let t0 = ms(0);
        let mut shedder = shedder(Config { regular_floor, ..fixed(10) }, 1);
        flowing(&mut shedder, t0);
        let mut running = run_many(&mut shedder, t0, PRIORITY, 10);
        for _ in 0..200 {
            ticket(shedder.offer(t0, offer(t0, PRIORITY)));
            ticket(shedder.offer(t0, offer(t0, REGULAR)));
        }
        let mut regular = 0;
        for _ in 0..100 {
            shedder.finish(t0, running.remove(0).id, &done(1));
            for verdict in verdicts(&mut shedder) {
                let Verdict::Admit(permit) = verdict else { continue };
                shedder.dispatched(t0, permit.id);
                shedder.first_token(t0, permit.id);
                regular += u32::from(permit.tier == REGULAR);
                running.push(permit);
            }
        }
        regular
    };

    assert_eq!(regular_starts(0.0), 0);
    assert!((8..=10).contains(&regular_starts(0.1)), "a tenth of 100 starts: {}", regular_starts(0.1));
}

#[test]
fn report_s4_a_thousand_waiting_requests_of_one_account_do_not_delay_another() {
    let t0 = ms(0);
    let mut shedder = shedder(fixed(2), 1);
    let mut running = run_many(&mut shedder, t0, PRIORITY, 2);
    let heavy: Vec<_> = (0..1_000)
        .filter_map(|_| match shedder.offer(t0, of_account(1, offer(t0, PRIORITY))) {
            Decision::Wait(id) => Some(id),
            _ => None,
        })
        .collect();
    let light = ticket(shedder.offer(t0, of_account(2, offer(t0, PRIORITY))));

    let mut order = Vec::new();
    while order.len() < 4 {
        let next = running.remove(0);
        shedder.finish(t0, next.id, &done(10));
        for verdict in verdicts(&mut shedder) {
            let Verdict::Admit(permit) = verdict else { continue };
            shedder.dispatched(t0, permit.id);
            shedder.first_token(t0, permit.id);
            order.push(permit.id);
            running.push(permit);
        }
    }

    assert!(order[..2].contains(&light), "within one turn: {order:?}");
    let of_heavy: Vec<_> = order.into_iter().filter(|id| *id != light).collect();
    assert_eq!(of_heavy, heavy[..3], "first come, first served within the account");
}

/// A thousand requests between two scrapes are bounded by what was sent, not by what was scraped.
#[test]
fn report_s5_a_burst_between_scrapes_is_bounded() {
    let t0 = ms(0);
    let mut shedder = shedder(Config { kv_tokens: Some(1_000_000), ..fixed(1_000) }, 1);
    let idle = Scrape { kv_used: Some(0.0), kv_capacity_tokens: Some(1_000_000), ..Scrape::default() };
    shedder.observe(t0, ReplicaId(0), &idle);

    let mut admitted = 0;
    for _ in 0..1_000 {
        if let Decision::Admit(permit) = shedder.offer(t0, sized(9_900, offer(t0, PRIORITY))) {
            shedder.dispatched(t0, permit.id);
            shedder.first_token(t0, permit.id);
            admitted += 1;
        }
    }

    assert_eq!(admitted, 90, "10,000 tokens each, 90 % of the memory");
}

#[test]
fn report_s6_without_scrapes_a_replica_is_neither_halted_nor_opened() {
    let t0 = ms(0);
    let mut never = shedder(fixed(10), 1);
    permit(never.offer(t0, offer(t0, REGULAR)));

    let mut stale = shedder(fixed(1_000), 1);
    let idle = Scrape { kv_used: Some(0.0), kv_capacity_tokens: Some(1_000_000), ..Scrape::default() };
    stale.observe(t0, ReplicaId(0), &idle);
    let later = ms(60_000);
    let admitted = (0..200)
        .filter(|_| match stale.offer(later, sized(9_900, offer(later, PRIORITY))) {
            Decision::Admit(permit) => {
                stale.dispatched(later, permit.id);
                stale.first_token(later, permit.id);
                true
            }
            _ => false,
        })
        .count();

    assert_eq!(admitted, 82, "own count and a tenth more: a little earlier than with a scrape");
    assert_eq!(stale.snapshot(later).replicas[0].scrape_age, Some(later), "and it can be seen");
}

#[test]
fn report_s7_one_deployments_overload_is_not_anothers() {
    let t0 = ms(0);
    let (mut a, mut b) = (shedder(fixed(1), 1), shedder(fixed(1), 1));
    flowing(&mut a, t0);
    run(&mut a, t0, offer(t0, PRIORITY));
    for _ in 0..100 {
        ticket(a.offer(t0, offer(t0, REGULAR)));
    }

    permit(b.offer(t0, offer(t0, REGULAR)));
}

#[test]
fn report_s8_an_engine_that_is_busy_is_spared_and_the_request_goes_elsewhere() {
    let t0 = ms(0);
    let mut shedder = shedder(chat_slo(), 2);
    let first = run(&mut shedder, t0, offer(t0, REGULAR));
    let refused = permit(shedder.offer(t0, offer(t0, REGULAR)));
    shedder.dispatched(t0, refused.id);

    let again =
        permit(shedder.failed(t0, refused.id, Failure::Busy { retry_after: Some(ms(2_000)) }).unwrap());

    assert_eq!((again.id, again.replica), (refused.id, first.replica));
    let snapshot = shedder.snapshot(t0);
    assert!(snapshot.replicas.iter().all(|replica| replica.healthy), "back-pressure is no failure");
    let next = permit(shedder.offer(t0, offer(t0, REGULAR)));
    assert_eq!(next.replica, first.replica, "the busy one rests");
    assert_eq!(shedder.snapshot(t0).counters.retries, 1);
}

#[test]
fn report_s8_back_pressure_without_a_retry_left_is_our_503() {
    let t0 = ms(0);
    let mut shedder = shedder(chat_slo(), 2);
    let id = permit(shedder.offer(t0, offer(t0, PRIORITY))).id;

    permit(shedder.failed(t0, id, Failure::Busy { retry_after: None }).unwrap());
    let end = shedder.failed(t0, id, Failure::Busy { retry_after: None }).unwrap();

    assert_eq!(rejection(end).reason, Reason::Saturated);
    assert!(shedder.snapshot(t0).at_rest.is_zero());
}

#[test]
fn report_s8_a_bad_request_frees_the_half_open_trial_and_judges_nothing() {
    let mut shedder = shedder(chat_slo(), 2);
    let victim = permit(shedder.offer(ms(0), offer(ms(0), REGULAR)));
    permit(shedder.failed(ms(0), victim.id, Failure::Connect).unwrap());
    let out = victim.replica;
    let trial = permit(shedder.offer(ms(1_000), offer(ms(1_000), REGULAR)));
    assert_eq!(trial.replica, out, "one request to see whether it answers");
    shedder.dispatched(ms(1_000), trial.id);
    assert_ne!(permit(shedder.offer(ms(1_000), offer(ms(1_000), REGULAR))).replica, out, "and only one");

    shedder.finish(ms(1_001), trial.id, &Finished::default());

    assert_eq!(permit(shedder.offer(ms(1_002), offer(ms(1_002), REGULAR))).replica, out);
}

#[test]
fn report_s9_a_busy_replica_that_misses_its_probe_stays_in_service() {
    let mut shedder = shedder(chat_slo(), 1);
    let running = run(&mut shedder, ms(0), offer(ms(0), REGULAR));
    let progress = StreamProgress { id: running.id, chunks: 5, gap_sum: ms(100), gaps: 5 };
    shedder.tick(ms(20_000), &[progress]);

    (0..10).for_each(|_| shedder.probe(ms(20_100), ReplicaId(0), false));
    permit(shedder.offer(ms(20_100), offer(ms(20_100), PRIORITY)));

    (0..10).for_each(|_| shedder.probe(ms(60_000), ReplicaId(0), false));
    let silent = rejection(shedder.offer(ms(60_000), offer(ms(60_000), PRIORITY)));
    assert_eq!(silent.reason, Reason::NoReplica);

    shedder.probe(ms(60_001), ReplicaId(0), true);
    permit(shedder.offer(ms(60_001), offer(ms(60_001), PRIORITY)));
}

/// 500 clients that are refused at once do not come back at once.
#[test]
fn report_s10_a_herd_is_spread_over_the_time_that_it_takes_to_serve_it() {
    let now = ms(10_000);
    let mut shedder = shedder(fixed(50), 1);
    for n in 0..50 {
        let at = ms(9_000 + n * 20);
        let permit = run(&mut shedder, at, offer(at, PRIORITY));
        shedder.finish(at, permit.id, &done(1));
    }
    run_many(&mut shedder, now, PRIORITY, 50);

    let mut back = [0_u32; 60];
    for n in 0..2_000 {
        if let Decision::Shed(refusal) = shedder.offer(now, of_account(n, offer(now, PRIORITY))) {
            let told = refusal.retry_after.unwrap();
            assert!(told >= ms(1_000) && told <= ms(30_000));
            // The caller's jitter of up to a quarter of it, a different part for each.
            let jittered = told.mul_f64(1.0 + 0.25 * ((n * 37 % 100) as f64 / 100.0));
            back[jittered.as_secs() as usize] += 1;
        }
    }

    let herd: u32 = back.iter().sum();
    assert!(herd >= 500, "{herd}");
    let peak = back.iter().max().copied().unwrap();
    assert!(peak <= herd / 5, "of {herd} at most a fifth come back in the same second: {back:?}");
}

#[test]
fn report_s11_a_client_deadline_that_cannot_be_met_is_refused_as_such() {
    let now = ms(500);
    let mut shedder = taught(fixed(1), 1);

    let hopeless = Offer { deadline: Some(ms(700)), ..sized(2_000, offer(now, PRIORITY)) };
    let refusal = rejection(shedder.offer(now, hopeless));
    assert_eq!((refusal.reason, refusal.retry_after), (Reason::Deadline, None), "its prefill takes 400 ms");

    run(&mut shedder, now, offer(now, PRIORITY));
    let tight = Offer { deadline: Some(ms(1_100)), ..sized(2_000, offer(now, PRIORITY)) };
    let id = ticket(shedder.offer(now, tight));
    assert_eq!(shedder.next_due(), Some(ms(700)), "the last moment at which it could still be met");
    shedder.tick(ms(700), &[]);

    let ended = verdicts(&mut shedder);
    assert!(
        matches!(ended[..], [Verdict::Shed(shed, refusal)] if shed == id && refusal.reason == Reason::Deadline)
    );
}

#[test]
fn report_s12_a_shared_prompt_does_not_collapse_onto_one_replica() {
    let t0 = ms(0);
    let mut shedder = taught(fixed(60), 4);
    let shared = Offer {
        uncached: Uncached { elsewhere: 2_000, best: [Some((ReplicaId(0), 100)), None, None] },
        prompt: 2_000,
        ..offer(t0, REGULAR)
    };
    for n in 0..100 {
        let now = ms(1_000 + n * 100);
        run(&mut shedder, now, Offer { arrived: now, ..shared });
    }

    let active: Vec<_> = shedder.snapshot(ms(11_000)).replicas.iter().map(|replica| replica.active).collect();

    assert!(active[0] > active[1], "what is cached counts: {active:?}");
    assert!(active[0] <= 50 && active[1..].iter().all(|&n| n >= 15), "but not alone: {active:?}");
}

#[test]
fn report_s16_a_request_without_a_token_is_taken_back_for_priority_and_served_later() {
    let now = ms(1_000);
    let config = Config { withdraw: true, aborts_on_disconnect: true, ..fixed(3) };
    let mut shedder = taught(config, 1);
    // It began long ago, so that a long prompt may start beside it.
    let running = run(&mut shedder, ms(0), offer(ms(0), PRIORITY));
    let regular = permit(shedder.offer(now, sized(3_000, offer(now, REGULAR))));
    shedder.dispatched(now, regular.id);

    let priority = ticket(shedder.offer(ms(1_100), offer(ms(1_100), PRIORITY)));
    assert_eq!(verdicts(&mut shedder), [Verdict::Withdraw(regular.id)]);
    assert_eq!(shedder.snapshot(ms(1_100)).replicas[0].active, 2, "booked until the engine noticed");

    shedder.tick(ms(1_700), &[]);
    assert!(matches!(verdicts(&mut shedder)[..], [Verdict::Admit(permit)] if permit.id == priority));
    shedder.finish(ms(1_800), running.id, &done(5));
    shedder.finish(ms(1_800), priority, &done(5));
    assert!(matches!(verdicts(&mut shedder)[..], [Verdict::Admit(permit)] if permit.id == regular.id));
    shedder.finish(ms(1_900), regular.id, &done(5));
    assert!(shedder.snapshot(ms(1_900)).at_rest.is_zero());
    assert_eq!(shedder.snapshot(ms(1_900)).counters.withdrawn, 1);
}

#[test]
fn report_s16_nothing_is_taken_back_after_its_first_token_or_half_of_its_prefill() {
    let now = ms(1_000);
    let config = Config { withdraw: true, aborts_on_disconnect: true, ..fixed(1) };
    let mut shedder = taught(config, 1);
    let id = permit(shedder.offer(now, sized(3_000, offer(now, REGULAR)))).id;
    shedder.dispatched(now, id);

    ticket(shedder.offer(ms(1_301), offer(ms(1_301), PRIORITY)));

    assert_eq!(verdicts(&mut shedder), [], "300 ms are half of it");
}

/// An outage does not double the load of what is left: regular is sent again for a fifth of what was dispatched, and three.
#[test]
fn report_s14_an_outage_does_not_multiply_the_load() {
    let now = ms(1_000);
    let mut shedder = shedder(fixed(200), 2);
    let ids: Vec<_> = (0..100).map(|_| run(&mut shedder, now, offer(now, REGULAR)).id).collect();
    ids.iter().for_each(|&id| shedder.finish(now, id, &done(1)));
    let ids: Vec<_> = (0..100).map(|_| permit(shedder.offer(now, offer(now, REGULAR))).id).collect();

    let again = ids.iter().filter(|&&id| shedder.failed(now, id, Failure::Timeout).is_some()).count();

    assert!((40..=60).contains(&again), "a fifth of 200 to 260 dispatches and three: {again}");
    assert_eq!(shedder.snapshot(now).counters.retries, again as u64);
}

/// Who leaves while waiting frees the place at once, and nothing is ever sent for it.
#[test]
fn report_l2_who_leaves_the_queue_is_never_sent() {
    let t0 = ms(0);
    let mut shedder = shedder(fixed(1), 1);
    let running = run(&mut shedder, t0, offer(t0, PRIORITY));
    let leaving = ticket(shedder.offer(t0, offer(t0, PRIORITY)));
    let staying = ticket(shedder.offer(t0, offer(t0, PRIORITY)));

    shedder.cancel(t0, leaving);
    assert_eq!(shedder.snapshot(t0).queue.priority.requests, 1);
    shedder.finish(t0, running.id, &done(1));

    let started = verdicts(&mut shedder);
    assert!(matches!(started[..], [Verdict::Admit(permit)] if permit.id == staying), "{started:?}");
}

/// Counters that are decremented twice must not wrap around.
#[test]
fn report_l5_nothing_underflows_when_ends_race() {
    let t0 = ms(0);
    let mut shedder = shedder(fixed(4), 1);
    let permit = run(&mut shedder, t0, offer(t0, REGULAR));

    shedder.cancel(t0, permit.id);
    shedder.finish(t0, permit.id, &done(9));
    shedder.failed(t0, permit.id, Failure::Reset);
    shedder.tick(t0, &[StreamProgress { id: permit.id, chunks: 9, gap_sum: ms(9), gaps: 9 }]);

    let snapshot = shedder.snapshot(t0);
    assert!(snapshot.at_rest.is_zero());
    assert_eq!(snapshot.replicas[0].active, 0);

    let next = run(&mut shedder, t0, offer(t0, REGULAR));
    shedder.finish(t0, permit.id, &done(9));
    assert_ne!(next.id, permit.id);
    assert_eq!(shedder.snapshot(t0).replicas[0].active, 1, "a late end does not end who came after");
}

/// Odd numbers in an offer neither jump the queue nor break it.
#[test]
fn report_l8_odd_deadlines_weights_and_arrivals_are_harmless() {
    let now = ms(5_000);
    let mut shedder = shedder(fixed(1), 1);
    run(&mut shedder, now, offer(now, REGULAR));
    let patient = ticket(shedder.offer(now, of_account(1, offer(now, REGULAR))));
    for (n, weight) in
        [f64::NAN, f64::INFINITY, -1.0, 0.0, f64::MIN_POSITIVE, f64::MAX].into_iter().enumerate()
    {
        let odd =
            Offer { weight, arrived: Duration::MAX, deadline: Some(Duration::MAX), ..offer(now, REGULAR) };
        shedder.offer(now, of_account(10 + n as u64, odd));
    }
    let past = Offer { deadline: Some(Duration::ZERO), ..offer(now, REGULAR) };
    assert_eq!(rejection(shedder.offer(now, past)).reason, Reason::Deadline);

    shedder.set_ceilings(now, PerTier { priority: f64::NAN, regular: 7.0, flex: 7.0 });
    assert!(shedder.next_due().is_some_and(|due| due <= ms(6_500)), "no wait is longer than its tier's");
    let next = shedder.poll_verdict();
    assert!(next.is_none(), "{next:?}");
    shedder.cancel(now, patient);
    shedder.tick(ms(6_500), &[]);
    assert_eq!(shedder.next_due(), None);
}

/// A request without a deadline of its own does not wait for ever.
#[test]
fn report_l10_every_wait_ends() {
    let t0 = ms(0);
    let mut shedder = Shedder::new(t0, Config { fixed_limit: Some(1.0), ..Config::default() }, &replicas(1));
    run(&mut shedder, t0, offer(t0, REGULAR));

    ticket(shedder.offer(t0, offer(t0, PRIORITY)));

    assert_eq!(shedder.next_due(), Some(ms(1_700)), "without an SLO first tokens are wanted within 2 s");
}
