//! What the policy promises, one sentence each.

use super::*;

/// Regular traffic must give way before priority traffic feels anything.
#[test]
fn regular_waits_while_priority_is_still_admitted() {
    let t0 = ms(0);
    let mut shedder = shedder(fixed(100), 1);
    run_many(&mut shedder, t0, REGULAR, 85);

    let regular = shedder.offer(t0, offer(t0, REGULAR));
    ticket(regular);
    let priority = shedder.offer(t0, offer(t0, PRIORITY));

    permit(priority);
}

#[test]
fn without_a_queue_a_closed_tier_is_refused_as_saturated() {
    let t0 = ms(0);
    let queue = QueueBounds { requests: 0, ..QueueBounds::default() };
    let mut shedder = shedder(Config { queue, ..fixed(20) }, 1);
    run_many(&mut shedder, t0, REGULAR, 17);

    let refusal = rejection(shedder.offer(t0, offer(t0, REGULAR)));

    assert_eq!(refusal.reason, Reason::Saturated, "85 % of 20 is regular's ceiling");
    assert_eq!(refusal.ceiling, 0.85);
    permit(shedder.offer(t0, offer(t0, PRIORITY)));
}

#[test]
fn a_closed_tier_reopens_only_a_twentieth_below_its_ceiling() {
    let t0 = ms(0);
    let mut shedder = shedder(fixed(100), 1);
    let running = run_many(&mut shedder, t0, REGULAR, 85);
    let waiting = ticket(shedder.offer(t0, offer(t0, REGULAR)));

    for permit in &running[..5] {
        shedder.finish(t0, permit.id, &done(10));
    }
    assert_eq!(verdicts(&mut shedder), [], "80 are running");
    shedder.finish(t0, running[5].id, &done(10));

    assert!(matches!(verdicts(&mut shedder)[..], [Verdict::Admit(permit)] if permit.id == waiting));
}

/// An engine with four slots is not given a regular request for the last one while nothing says that places come back soon.
#[test]
fn a_four_slot_engine_keeps_its_last_slot_for_priority() {
    let t0 = ms(0);
    let mut shedder = shedder(Config { slots_max: Some(4), ..chat_slo() }, 1);
    run_many(&mut shedder, t0, REGULAR, 3);

    ticket(shedder.offer(t0, offer(t0, REGULAR)));
    permit(shedder.offer(t0, offer(t0, PRIORITY)));
    ticket(shedder.offer(t0, offer(t0, PRIORITY)));

    assert_eq!(shedder.snapshot(t0).replicas[0].active, 4);
}

#[test]
fn an_engine_that_reports_its_slots_is_never_given_more() {
    let t0 = ms(0);
    let mut shedder = shedder(chat_slo(), 1);
    shedder.observe(t0, ReplicaId(0), &Scrape { slots: Some(1), ..Scrape::default() });

    permit(shedder.offer(t0, offer(t0, REGULAR)));

    ticket(shedder.offer(t0, offer(t0, PRIORITY)));
}

/// The own prefill is not waiting: an idle replica serves any prompt, however long it takes.
#[test]
fn an_idle_replica_never_sheds_a_long_prompt() {
    for count in 1..4 {
        for tier in Tier::ALL {
            let now = ms(1_000);
            let mut shedder = taught(chat_slo(), count);

            permit(shedder.offer(now, sized(200_000, offer(now, tier))));
        }
    }
}

#[test]
fn a_long_regular_prompt_leaves_another_replica_to_priority() {
    let now = ms(1_000);
    let mut shedder = taught(fixed(50), 2);
    permit(shedder.offer(now, sized(20_000, offer(now, REGULAR))));

    ticket(shedder.offer(now, sized(20_000, of_account(2, offer(now, REGULAR)))));

    permit(shedder.offer(now, sized(20_000, offer(now, PRIORITY))));
}

#[test]
fn on_a_single_replica_a_long_regular_prompt_waits_until_priority_has_been_away() {
    let mut shedder = shedder(fixed(50), 1);
    run(&mut shedder, ms(0), offer(ms(0), PRIORITY));

    ticket(shedder.offer(ms(1_000), sized(20_000, offer(ms(1_000), REGULAR))));

    permit(shedder.offer(ms(10_000), sized(20_000, of_account(2, offer(ms(10_000), REGULAR)))));
}

/// What cannot start now because it is too long must not stop others of its tier.
#[test]
fn a_prompt_too_long_to_start_does_not_block_the_tier() {
    let now = ms(500);
    let mut shedder = taught(fixed(50), 1);
    run(&mut shedder, now, offer(now, PRIORITY));
    ticket(shedder.offer(now, sized(20_000, offer(now, REGULAR))));

    permit(shedder.offer(now, of_account(2, offer(now, REGULAR))));
}

#[test]
fn with_an_unknown_prefill_rate_nothing_is_predicted_and_caps_hold() {
    let t0 = ms(0);
    let mut shedder = shedder(fixed(50), 1);
    permit(shedder.offer(t0, sized(2_000, offer(t0, REGULAR))));
    permit(shedder.offer(t0, sized(2_000, offer(t0, REGULAR))));

    let third = shedder.offer(t0, sized(2_000, offer(t0, REGULAR)));

    ticket(third);
    assert_eq!(
        shedder.snapshot(t0).replicas[0].backlog_tokens,
        4_000,
        "two steps of 2,048 are regular's cap"
    );
    permit(shedder.offer(t0, sized(4_000, offer(t0, PRIORITY))));
}

/// Cached prompts leave nothing to wait for, and nothing that could refuse one.
#[test]
fn all_cached_traffic_is_bounded_by_places_alone() {
    let t0 = ms(0);
    let mut shedder = shedder(fixed(40), 1);
    let cached = Offer { prompt: 50_000, ..sized(0, offer(t0, REGULAR)) };
    (0..34).for_each(|_| {
        let permit = permit(shedder.offer(t0, cached));
        shedder.dispatched(t0, permit.id);
    });

    ticket(shedder.offer(t0, cached));

    let snapshot = shedder.snapshot(t0);
    assert_eq!((snapshot.replicas[0].active, snapshot.replicas[0].backlog_tokens), (34, 0));
    assert_eq!(snapshot.replicas[0].prefill_rate, None);
}

/// Half a second in which priority has waited for long takes a twentieth of the places from regular; it fades when priority
/// waits no more.
#[test]
fn regular_gives_way_further_while_priority_waits_long_for_places() {
    let mut shedder = shedder(fixed(20), 1);
    run_many(&mut shedder, ms(0), PRIORITY, 20);
    let regular = |shedder: &Shedder, now| shedder.snapshot(now).ceilings.regular;
    let waiting = ticket(shedder.offer(ms(1), offer(ms(1), PRIORITY)));

    shedder.tick(ms(500), &[]);
    assert_eq!(regular(&shedder, ms(500)), 0.85, "less than a quarter of the TTFT target");
    (2..=4).for_each(|n| shedder.tick(ms(500 * n), &[]));
    let lowered = regular(&shedder, ms(2_000));
    assert!((lowered - 0.75).abs() < 1e-9, "{lowered}: from one second to the end of its wait, in two steps");

    shedder.cancel(ms(2_000), waiting);
    (5..200).for_each(|n| shedder.tick(ms(500 * n), &[]));
    assert!(regular(&shedder, ms(100_000)) > 0.84);
}

/// Case llama.cpp: a place that comes back in a tenth of a second is no reason to keep one of four.
#[test]
fn of_few_slots_whose_places_come_back_soon_none_is_kept() {
    let mut shedder = shedder(Config { slots_max: Some(4), ..chat_slo() }, 1);
    for n in 0..40 {
        let now = ms(100 * n);
        let permit = permit(shedder.offer(now, offer(now, REGULAR)));
        shedder.dispatched(now, permit.id);
        shedder.first_token(now, permit.id);
        shedder.finish(now + ms(50), permit.id, &done(10));
    }

    run_many(&mut shedder, ms(4_000), REGULAR, 4);
    ticket(shedder.offer(ms(4_000), offer(ms(4_000), REGULAR)));
    assert_eq!(shedder.snapshot(ms(4_000)).replicas[0].active, 4);

    let waits = ticket(shedder.offer(ms(4_000), offer(ms(4_000), PRIORITY)));
    shedder.cancel(ms(4_000), waits);
    shedder.tick(ms(4_500), &[]);
    assert_eq!(
        shedder.snapshot(ms(4_500)).ceilings.regular,
        0.85,
        "a wait of a tenth of a second is not long"
    );
}

/// 5,000 tokens per second and 100 ms per token: 500 tokens at a time, and a longer prompt alone.
#[test]
fn prompts_are_paced_so_that_running_answers_get_their_tokens_in_time() {
    let now = ms(1_000);
    let mut shedder = answering(fixed(50), 1);
    let first = permit(shedder.offer(now, sized(300, offer(now, REGULAR))));
    let second = permit(shedder.offer(now, sized(200, offer(now, REGULAR))));

    let regular = ticket(shedder.offer(now, sized(100, offer(now, REGULAR))));
    let priority = ticket(shedder.offer(now, sized(4_000, offer(now, PRIORITY))));
    shedder.first_token(now, first.id);
    assert_eq!(
        verdicts(&mut shedder),
        [],
        "200 are left, and neither 4,000 fit beside them nor may 100 go before"
    );

    shedder.first_token(now, second.id);
    let started = verdicts(&mut shedder);
    assert!(matches!(started[..], [Verdict::Admit(permit)] if permit.id == priority), "{started:?}");
    shedder.first_token(now, priority);
    let started = verdicts(&mut shedder);
    assert!(matches!(started[..], [Verdict::Admit(permit)] if permit.id == regular), "{started:?}");
}

/// A prefill that nobody sees ends with the next call of any kind after its time, not with the next tick.
#[test]
fn an_unseen_prefill_ends_between_ticks_too() {
    let now = ms(500);
    let mut shedder = taught(fixed(50), 1);
    let silent = Offer { streaming: false, ..sized(500, offer(now, REGULAR)) };
    let first = permit(shedder.offer(now, silent));
    shedder.dispatched(now, first.id);
    ticket(shedder.offer(now, silent));

    ticket(shedder.offer(ms(650), sized(10, offer(ms(650), REGULAR))));

    assert_eq!(verdicts(&mut shedder).len(), 1, "100 ms for 500 tokens and 50 for the way");
}

#[test]
fn a_request_is_shed_at_arrival_when_the_prompts_ahead_take_too_long() {
    let now = ms(500);
    let mut shedder = taught(fixed(50), 1);
    // 8,000 tokens at 5,000 per second are 1.6 s: more than either tier may wait.
    permit(shedder.offer(now, sized(8_000, offer(now, PRIORITY))));

    let refusal = rejection(shedder.offer(now, sized(1_000, offer(now, REGULAR))));

    assert_eq!(refusal.reason, Reason::Predicted);
    assert_eq!(refusal.predicted_wait, Some(ms(1_600)));
    assert_eq!(refusal.predicted_wait_max, ms(1_000));
    assert_eq!(rejection(shedder.offer(now, sized(1_000, offer(now, PRIORITY)))).reason, Reason::Predicted);
}

#[test]
fn a_queued_account_is_not_refused_for_the_queue_of_another() {
    let now = ms(500);
    let mut shedder = taught(fixed(50), 1);
    permit(shedder.offer(now, sized(4_000, offer(now, REGULAR))));
    for _ in 0..100 {
        shedder.offer(now, sized(500, of_account(2, offer(now, REGULAR))));
    }

    assert_eq!(
        rejection(shedder.offer(now, sized(500, of_account(2, offer(now, REGULAR))))).reason,
        Reason::Predicted
    );
    permit_or_ticket(shedder.offer(now, sized(50, of_account(3, offer(now, REGULAR)))));
}

fn permit_or_ticket(decision: Decision) {
    assert!(!matches!(decision, Decision::Shed(_)), "{decision:?}");
}

#[test]
fn waiting_ends_with_a_refusal_that_says_how_long_it_was() {
    let t0 = ms(0);
    let mut shedder = shedder(fixed(1), 1);
    run(&mut shedder, t0, offer(t0, REGULAR));
    let regular = ticket(shedder.offer(t0, offer(t0, REGULAR)));
    let priority = ticket(shedder.offer(t0, offer(t0, PRIORITY)));

    assert_eq!(shedder.next_due(), Some(ms(1_500)));
    shedder.tick(ms(1_500), &[]);
    let first = verdicts(&mut shedder);
    shedder.tick(ms(1_700), &[]);
    let second = verdicts(&mut shedder);

    let [Verdict::Shed(id, refusal)] = first[..] else { panic!("{first:?}") };
    assert_eq!((id, refusal.reason, refusal.waited), (regular, Reason::QueueTimeout, ms(1_500)));
    let [Verdict::Shed(id, refusal)] = second[..] else { panic!("{second:?}") };
    assert_eq!((id, refusal.reason, refusal.waited), (priority, Reason::QueueTimeout, ms(1_700)));
}

#[test]
fn a_non_streaming_prompt_leaves_the_backlog_when_it_should_be_computed() {
    let now = ms(500);
    let mut shedder = taught(fixed(50), 1);
    let silent = Offer { streaming: false, ..sized(4_000, offer(now, REGULAR)) };
    let permit = permit(shedder.offer(now, silent));
    shedder.dispatched(now, permit.id);

    shedder.tick(ms(1_000), &[]);
    assert_eq!(shedder.snapshot(ms(1_000)).replicas[0].backlog_tokens, 4_000);
    shedder.tick(ms(1_500), &[]);

    assert_eq!(shedder.snapshot(ms(1_500)).replicas[0].backlog_tokens, 0, "4,000 tokens at 5,000 per second");
    assert_eq!(shedder.snapshot(ms(1_500)).replicas[0].active, 1);
}

#[test]
fn priority_beyond_its_share_is_served_as_regular_and_says_so() {
    let t0 = ms(0);
    let mut shedder = shedder(Config { share_max: Some(0.5), ..fixed(10) }, 1);

    let tiers: Vec<_> = (0..8).map(|_| run(&mut shedder, t0, offer(t0, PRIORITY)).tier).collect();

    assert_eq!(tiers[..5], [PRIORITY; 5]);
    assert_eq!(tiers[5..], [REGULAR; 3]);
    assert_eq!(shedder.snapshot(t0).counters.downgraded, 3);
}

/// One account fills priority's share; another one that asks for little is not served as regular for it.
#[test]
fn the_share_of_priority_hits_who_floods_it_and_not_those_beside() {
    let t0 = ms(0);
    let mut shedder = shedder(Config { share_max: Some(0.5), ..fixed(20) }, 1);
    let tier =
        |shedder: &mut Shedder, account: u64| run(shedder, t0, of_account(account, offer(t0, PRIORITY))).tier;

    let flooder: Vec<_> = (0..12).map(|_| tier(&mut shedder, 1)).collect();
    assert_eq!(flooder[..10], [PRIORITY; 10]);
    assert_eq!(flooder[10..], [REGULAR; 2]);
    assert_eq!([2, 3, 2].map(|account| tier(&mut shedder, account)), [PRIORITY; 3]);
    assert_eq!(tier(&mut shedder, 1), REGULAR);
}

#[test]
fn pressure_takes_capacity_away_and_gives_it_back() {
    let t0 = ms(0);
    let mut shedder = shedder(fixed(20), 1);
    shedder.set_pressure(t0, 0.5, ms(60_000));
    run_many(&mut shedder, t0, REGULAR, 8);

    ticket(shedder.offer(t0, offer(t0, REGULAR)));
    assert_eq!(shedder.snapshot(t0).pressure, Some((0.5, ms(60_000))));
    shedder.tick(ms(60_000), &[]);
    assert_eq!(shedder.snapshot(ms(60_000)).pressure, None);

    permit(shedder.offer(ms(60_000), offer(ms(60_000), REGULAR)));
}

#[test]
fn after_close_everything_that_waits_or_comes_is_draining() {
    let t0 = ms(0);
    let mut shedder = shedder(fixed(1), 1);
    let running = run(&mut shedder, t0, offer(t0, REGULAR));
    let waiting = ticket(shedder.offer(t0, offer(t0, PRIORITY)));

    shedder.close(t0);

    let drained = verdicts(&mut shedder);
    assert!(
        matches!(drained[..], [Verdict::Shed(id, refusal)] if id == waiting && refusal.reason == Reason::Draining)
    );
    assert_eq!(rejection(shedder.offer(t0, offer(t0, PRIORITY))).reason, Reason::Draining);
    shedder.finish(t0, running.id, &done(5));
    assert!(shedder.snapshot(t0).at_rest.is_zero());
}

#[test]
fn replicas_can_be_replaced_under_load() {
    let t0 = ms(0);
    let mut shedder = shedder(fixed(2), 1);
    let old = run_many(&mut shedder, t0, PRIORITY, 2);
    let waiting = ticket(shedder.offer(t0, offer(t0, PRIORITY)));

    shedder.set_replicas(t0, &[ReplicaConfig::new(ReplicaId(7))]);

    let started = verdicts(&mut shedder);
    assert!(
        matches!(started[..], [Verdict::Admit(permit)] if permit.id == waiting && permit.replica == ReplicaId(7))
    );
    old.iter().for_each(|permit| shedder.finish(t0, permit.id, &done(1)));
    shedder.tick(t0, &[]);
    assert_eq!(shedder.snapshot(t0).replicas.len(), 1);
}

/// What runs and waits survives a reload, and so does what was learnt; only what the operator wrote changes.
#[test]
fn a_reload_keeps_what_runs_what_waits_and_what_was_learnt() {
    let now = ms(400);
    let mut shedder = taught(chat_slo(), 2);
    let running = run(&mut shedder, now, offer(now, PRIORITY));
    shedder.set_drained(now, ReplicaId(1), true);
    shedder.set_ceilings(now, PerTier { priority: 0.5, regular: 0.1, flex: 0.1 });

    let slo = Slo { ttft: ms(4_000), tpot: ms(50) };
    let next = Config {
        slo: Some(slo),
        ceilings: PerTier { priority: 0.9, regular: 0.6, flex: 0.5 },
        ..Config::default()
    };
    shedder.reconfigure(now, next, &replicas(3));

    let snapshot = shedder.snapshot(now);
    assert_eq!(snapshot.ceilings, PerTier { priority: 0.9, regular: 0.6, flex: 0.5 });
    assert_eq!(
        snapshot.replicas.iter().map(|replica| replica.drained).collect::<Vec<_>>(),
        [false, true, false]
    );
    assert_eq!(snapshot.replicas[0].prefill_rate, Some(5_000.0), "learnt before the reload");
    assert_eq!((snapshot.replicas[2].prefill_rate, snapshot.replicas[2].limit), (None, 64.0), "a new one");
    assert_eq!(snapshot.at_rest.requests, 1);
    shedder.finish(now, running.id, &done(3));
    assert!(shedder.snapshot(now).at_rest.is_zero());
}

#[test]
fn a_reload_can_hold_the_limit_and_let_it_go_again() {
    let t0 = ms(0);
    let mut shedder = shedder(chat_slo(), 1);

    shedder.reconfigure(t0, fixed(3), &replicas(1));
    assert_eq!(shedder.snapshot(t0).replicas[0].limit, 3.0);
    run_many(&mut shedder, t0, PRIORITY, 3);
    let waiting = ticket(shedder.offer(t0, offer(t0, PRIORITY)));
    shedder.reconfigure(t0, fixed(4), &replicas(1));

    let started = verdicts(&mut shedder);
    assert!(matches!(started[..], [Verdict::Admit(permit)] if permit.id == waiting), "{started:?}");
    shedder.reconfigure(t0, chat_slo(), &replicas(1));
    assert_eq!(shedder.snapshot(t0).replicas[0].limit, 4.0, "it learns on from where it was held");
}

#[test]
fn a_drained_replica_gets_nothing_new_until_it_is_back() {
    let t0 = ms(0);
    let mut shedder = shedder(fixed(4), 2);
    let before = run(&mut shedder, t0, offer(t0, PRIORITY));

    shedder.set_drained(t0, before.replica, true);
    let elsewhere = run_many(&mut shedder, t0, PRIORITY, 3);
    assert!(elsewhere.iter().all(|permit| permit.replica != before.replica), "{elsewhere:?}");
    shedder.set_drained(t0, before.replica, false);

    assert_eq!(run(&mut shedder, t0, offer(t0, PRIORITY)).replica, before.replica, "the emptier one");
    let all = [ReplicaId(0), ReplicaId(1)];
    all.iter().for_each(|&replica| shedder.set_drained(t0, replica, true));
    assert_eq!(rejection(shedder.offer(t0, offer(t0, PRIORITY))).reason, Reason::NoReplica);
}

/// A bound so small that regular's share of it is less than one request still lets one wait.
#[test]
fn a_queue_for_one_request_has_a_place_for_regular() {
    let t0 = ms(0);
    let queue = QueueBounds { requests: 1, ..QueueBounds::default() };
    let mut shedder = shedder(Config { queue, ..fixed(1) }, 1);
    flowing(&mut shedder, t0);
    run_many(&mut shedder, t0, PRIORITY, 1);

    let waiting = ticket(shedder.offer(t0, offer(t0, REGULAR)));
    assert_eq!(rejection(shedder.offer(t0, offer(t0, REGULAR))).reason, Reason::QueueFull);
    ticket(shedder.offer(t0, offer(t0, PRIORITY)));

    let displaced = verdicts(&mut shedder);
    assert!(
        matches!(displaced[..], [Verdict::Shed(id, why)] if id == waiting && why.reason == Reason::Displaced),
        "{displaced:?}"
    );
}

/// With a minute between two scrapes, memory is what the engine held beyond the own count and the own count of now:
/// neither what was scraped a minute ago nor nothing.
#[test]
fn a_scrape_that_ages_corrects_the_own_count_until_three_are_missing() {
    let config = Config { scrape_interval: ms(60_000), kv_tokens: Some(100_000), ..fixed(50) };
    let mut shedder = shedder(config, 1);
    let running = run(&mut shedder, ms(0), sized(20_000, offer(ms(0), PRIORITY)));
    let used = |shedder: &Shedder, now| shedder.snapshot(now).replicas[0].kv_tokens;
    shedder.observe(ms(1), ReplicaId(0), &Scrape { kv_used: Some(0.5), ..Scrape::default() });
    assert_eq!(used(&shedder, ms(1)), 50_000);

    let more = run(&mut shedder, ms(2), sized(10_000, offer(ms(2), PRIORITY)));
    assert_eq!(used(&shedder, ms(2)), 60_100, "and half of the usual answer");
    assert_eq!(used(&shedder, ms(100_000)), 29_900 + 33_220, "20,100 of 50,000 were its own; 1.1 × 30,200");
    shedder.finish(ms(100_000), running.id, &done(1));
    assert_eq!(used(&shedder, ms(100_000)), 29_900 + 11_110);
    assert_eq!(used(&shedder, ms(180_002)), 11_110, "three readings are missing");
    shedder.finish(ms(180_002), more.id, &done(1));
}

/// 85 % of nothing is one: a deployment whose only place is taken by nobody serves regular traffic.
#[test]
fn one_place_serves_every_tier() {
    let t0 = ms(0);
    let mut shedder = shedder(fixed(1), 1);

    permit(shedder.offer(t0, offer(t0, REGULAR)));

    ticket(shedder.offer(t0, offer(t0, PRIORITY)));
}

#[test]
fn late_calls_about_ended_requests_change_nothing_but_a_counter() {
    let t0 = ms(0);
    let mut shedder = shedder(fixed(2), 1);
    let permit = run(&mut shedder, t0, offer(t0, REGULAR));
    shedder.finish(t0, permit.id, &done(5));

    shedder.finish(t0, permit.id, &done(5));
    shedder.cancel(t0, permit.id);
    shedder.first_token(t0, permit.id);
    assert_eq!(shedder.failed(t0, permit.id, Failure::Reset), None);

    let snapshot = shedder.snapshot(t0);
    assert_eq!(snapshot.counters.unknown_ids, 4);
    assert!(snapshot.at_rest.is_zero());
    assert_ne!(run(&mut shedder, t0, offer(t0, REGULAR)).id, permit.id, "an id is never given twice");
}

#[test]
fn a_place_now_or_nothing_leaves_nothing_behind() {
    let t0 = ms(0);
    let mut shedder = shedder(fixed(1), 1);
    let running = shedder.try_admit(t0, offer(t0, REGULAR)).expect("an idle replica");

    assert_eq!(shedder.try_admit(t0, offer(t0, PRIORITY)), None);

    assert_eq!(shedder.snapshot(t0).at_rest.requests, 1);
    shedder.cancel(t0, running.id);
    assert!(shedder.snapshot(t0).at_rest.is_zero());
}

#[test]
fn a_priority_request_above_the_share_is_counted_once_however_often_it_asks() {
    let t0 = ms(0);
    let mut shedder = shedder(Config { share_max: Some(0.5), ..fixed(10) }, 1);
    run_many(&mut shedder, t0, PRIORITY, 5);
    run_many(&mut shedder, t0, REGULAR, 3);
    assert_eq!(shedder.snapshot(t0).counters.downgraded, 0);

    for _ in 0..3 {
        assert_eq!(shedder.try_admit(t0, offer(t0, PRIORITY)), None);
    }
    let decision = shedder.offer(t0, offer(t0, PRIORITY));

    assert!(!matches!(decision, Decision::Admit(_)), "{decision:?}");
    assert_eq!(shedder.snapshot(t0).counters.downgraded, 1);
}

/// A refused connection leaves no doubt; half of the replicas stay whatever happens.
#[test]
fn at_most_half_of_the_replicas_are_ejected() {
    let mut shedder = shedder(chat_slo(), 4);
    for n in 0..40 {
        let id = permit(shedder.offer(ms(n), offer(ms(n), PRIORITY))).id;
        if let Some(Decision::Admit(again)) = shedder.failed(ms(n), id, Failure::Connect) {
            shedder.failed(ms(n), again.id, Failure::Connect);
        }
    }

    let healthy = shedder.snapshot(ms(40)).replicas.iter().filter(|replica| replica.healthy).count();
    assert_eq!(healthy, 2);
}

#[test]
fn a_request_that_failed_goes_elsewhere_once_and_its_lost_time_is_added() {
    let mut shedder = shedder(fixed(1), 2);
    let first = permit(shedder.offer(ms(0), offer(ms(0), REGULAR)));
    let other = run(&mut shedder, ms(0), offer(ms(0), REGULAR));
    shedder.dispatched(ms(0), first.id);

    let again = ticket(shedder.failed(ms(5_000), first.id, Failure::Reset).unwrap());
    assert_eq!(again, first.id);
    assert_eq!(shedder.next_due(), Some(ms(6_500)), "1.5 s as if the lost five had not been");
    shedder.finish(ms(5_100), other.id, &done(3));

    assert!(matches!(verdicts(&mut shedder)[..], [Verdict::Admit(permit)]
            if permit.id == first.id && permit.replica == other.replica));
    assert_eq!(shedder.failed(ms(5_200), first.id, Failure::Reset), None, "once");
}

/// An engine that tells nothing about its memory, and throws an answer out when that is full: the stream pauses while the
/// others go on. From then on no more is held there than was held then, on the other replicas too.
#[test]
fn answers_that_pause_show_how_much_memory_there_is() {
    let mut shedder = shedder(chat_slo(), 1);
    let running: Vec<_> =
        (0..20).map(|_| run(&mut shedder, ms(0), sized(1_000, offer(ms(0), PRIORITY)))).collect();
    let flowing = |of: &[Permit]| -> Vec<StreamProgress> {
        of.iter()
            .map(|permit| StreamProgress { id: permit.id, chunks: 5, gap_sum: ms(200), gaps: 5 })
            .collect()
    };
    (1..40).for_each(|n| shedder.tick(ms(250 * n), &flowing(&running)));
    let before = shedder.snapshot(ms(9_750)).replicas[0].saturation;
    assert!(before < 0.5, "much more fits, for all that is known: {before}");

    let mut pause = |at: u64, paused: usize, gap: u64| {
        let mut harvest = flowing(&running[2..]);
        harvest.push(StreamProgress { id: running[paused].id, chunks: 1, gap_sum: ms(gap), gaps: 1 });
        shedder.tick(ms(at), &harvest);
        shedder.snapshot(ms(at)).replicas[0].saturation
    };
    assert!(pause(10_000, 0, 3_000) < 0.5, "one pause while little is held may be a lost packet");
    assert!(pause(11_250, 1, 1_000) > 1.0, "another that began after it is not");

    ticket(shedder.offer(ms(11_250), sized(1_000, offer(ms(11_250), PRIORITY))));
    running[2..].iter().for_each(|permit| shedder.finish(ms(11_250), permit.id, &done(200)));
    assert_eq!(verdicts(&mut shedder).len(), 1, "what ended makes room");
}
