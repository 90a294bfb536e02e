//! Failures whose cause only another replica can show, under the ids of the list of cases.

use super::fleet::{Ask, Does, Fleet};
use super::*;

const PLAIN: Ask = Ask { account: 1, body: 0, needs: 0, tier: REGULAR, pinned: None };
/// The model that some replicas lack, and another one.
const MODEL: u64 = 77;
const OTHER: u64 = 78;

fn unexplained(ask: &Ask) -> Does {
    Does::Fail(Failure::Unexplained { body: ask.body })
}

/// Every fleet, with and without a session that is bound to the first replica, of one or many accounts.
fn table() -> impl Iterator<Item = (u16, Option<ReplicaId>, u64)> {
    let pins = [None, Some(ReplicaId(0))];
    let each = move |count| {
        pins.into_iter().flat_map(move |pin| [1, 10].map(move |accounts| (count, pin, accounts)))
    };
    (1..=8).flat_map(each)
}

/// 300 broken bodies within a minute, each failing wherever it goes, beside as many good requests of another account.
#[test]
fn case_f02_bodies_that_fail_everywhere_eject_nobody() {
    for (count, pinned, accounts) in table() {
        let broken = |ask: &Ask| ask.account < 100;
        let mut fleet = Fleet::new(
            count,
            ms(500),
            move |_, ask| if broken(ask) { unexplained(ask) } else { Does::Serve },
        );

        fleet.ask_many(600, ms(100), |n| {
            let account = if n % 2 == 0 { n % accounts } else { 100 };
            Ask { account, body: n, pinned, ..PLAIN }
        });
        let bodies: u32 = (0..count).map(|n| fleet.replica(n).evidence).sum();
        fleet.rest();

        let row = format!("{count} replicas, {pinned:?}, {accounts} accounts");
        assert_eq!(fleet.out_most, 0, "{row}");
        assert_eq!((bodies, fleet.shedder.snapshot(fleet.now).counters.outliers), (0, 0), "{row}");
        assert_eq!((fleet.failed, fleet.served), (300, 300), "{row}");
        let again = if count > 1 { 300 } else { 0 };
        assert_eq!(fleet.sent.iter().sum::<u32>(), 600 + again, "{row}: each once elsewhere");
    }
}

#[test]
fn case_f02_a_replica_that_fails_what_others_serve_is_out_after_three_bodies() {
    for (count, pinned, accounts) in table() {
        let bad = ReplicaId(0);
        let mut fleet =
            Fleet::new(count, ms(500), move |on, ask| if on == bad { unexplained(ask) } else { Does::Serve });
        let row = format!("{count} replicas, {pinned:?}, {accounts} accounts");

        let mut n = 0;
        while fleet.replica(0).healthy && n < 100 {
            fleet.ask(Ask { account: n % accounts, body: n, pinned, ..PLAIN });
            fleet.run(fleet.now + ms(200));
            n += 1;
        }

        if count == 1 {
            assert_eq!((fleet.failed, fleet.sent[0]), (100, 100), "{row}: told, and nothing else");
            continue;
        }
        assert!(!fleet.replica(0).healthy, "{row}");
        assert_eq!(fleet.sent[0], 3, "{row}");
        assert_eq!((fleet.failed, fleet.shed.len()), (0, 0), "{row}: nobody notices");
        fleet.rest();
        assert_eq!(u64::from(fleet.served), n, "{row}");
    }
}

#[test]
fn case_f02_one_body_repeated_a_thousand_times_is_one_piece_of_evidence() {
    for (count, pinned, accounts) in table().filter(|row| row.0 > 1) {
        let bad = ReplicaId(0);
        let fails =
            move |on, ask: &Ask| if on == bad && ask.body == 7 { unexplained(ask) } else { Does::Serve };
        let mut fleet = Fleet::new(count, ms(500), fails);

        fleet.ask_many(1_000, ms(50), |n| Ask { account: n % accounts, body: 7, pinned, ..PLAIN });

        let row = format!("{count} replicas, {pinned:?}, {accounts} accounts");
        assert!(fleet.sent[0] > 10, "{row}: {:?}", fleet.sent);
        assert_eq!((fleet.out_most, fleet.replica(0).evidence), (0, 1), "{row}");
        fleet.rest();
        assert_eq!(fleet.served, 1_000, "{row}");
    }
}

/// Bodies that fail one time in five wherever they are say little about where they failed: of about 240 in a minute few
/// runs of three stand out.
#[test]
fn case_f02_bodies_that_fail_by_chance_hardly_eject_anybody() {
    for count in 2..=8 {
        let rolled = std::cell::RefCell::new(super::engine::Dice::new(u64::from(count)));
        let chance = move |_, ask: &Ask| match rolled.borrow_mut().unit() {
            unit if unit < 0.2 => unexplained(ask),
            _ => Does::Serve,
        };
        let mut fleet = Fleet::new(count, ms(500), chance);

        fleet.ask_many(1_200, ms(50), |n| Ask { account: n % 10, body: n % 40, ..PLAIN });

        let outliers = fleet.shedder.snapshot(fleet.now).counters.outliers;
        assert!(outliers <= 5, "{count} replicas: {outliers} in a minute");
        fleet.rest();
    }
}

#[test]
fn case_f02_a_trial_that_fails_again_doubles_the_pause_and_a_probe_is_no_trial() {
    let healed = ms(20_000);
    let clock = std::rc::Rc::new(std::cell::Cell::new(ms(0)));
    let seen = std::rc::Rc::clone(&clock);
    let fails = move |on, ask: &Ask| {
        if on == ReplicaId(0) && seen.get() < healed { unexplained(ask) } else { Does::Serve }
    };
    let mut fleet = Fleet::new(4, ms(500), fails);
    let mut sent = Vec::new();
    for n in 0..1_200 {
        clock.set(fleet.now);
        let before = fleet.sent[0];
        let tier = if n % 2 == 0 { PRIORITY } else { REGULAR };
        fleet.ask(Ask { body: n, tier, ..PLAIN });
        if fleet.sent[0] > before {
            sent.push(fleet.now.as_millis());
        }
        fleet.run(fleet.now + ms(50));
        fleet.shedder.probe(fleet.now, ReplicaId(0), true);
    }

    let until_healed: Vec<_> = sent.iter().copied().filter(|&at| at < healed.as_millis()).collect();
    assert!((6..=9).contains(&until_healed.len()), "three, then after 1, 2, 4, 8 s: {until_healed:?}");
    let pauses: Vec<_> = until_healed[2..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.windows(2).all(|pair| pair[1] >= 2 * pair[0] - 500), "{pauses:?}");
    assert_eq!((fleet.failed, fleet.shed.len()), (0, 0), "nobody notices");
    assert!(
        fleet.replica(0).healthy && fleet.replica(0).evidence == 0,
        "served, it is back and nothing is held"
    );
    fleet.rest();
}

#[test]
fn case_f02_half_of_the_replicas_stay_whatever_they_answer() {
    for count in 1..=8_u16 {
        let broken = count.saturating_sub(1);
        let mut fleet =
            Fleet::new(
                count,
                ms(500),
                move |on, ask| if on.0 < broken { unexplained(ask) } else { Does::Serve },
            );

        fleet.ask_many(400, ms(100), |n| Ask { account: n % 10, body: n, ..PLAIN });

        let snapshot = fleet.shedder.snapshot(fleet.now);
        let healthy = snapshot.replicas.iter().filter(|replica| replica.healthy).count();
        assert!(fleet.out_most <= usize::from(count / 2), "{count} replicas, {} out", fleet.out_most);
        assert!(healthy >= usize::from(count - count / 2));
        fleet.rest();
    }
}

/// The second replica cannot say so either, the budget is untouched, and the request never comes back to the first.
#[test]
fn case_f02_an_unexplained_request_goes_elsewhere_once_without_the_retry_budget() {
    let mut shedder = shedder(chat_slo(), 2);
    for n in 0..50 {
        let first = permit(shedder.offer(ms(n), offer(ms(n), REGULAR)));
        let why = Failure::Unexplained { body: n };
        let Some(Decision::Admit(second)) = shedder.failed(ms(n), first.id, why) else { panic!("not sent") };
        assert_ne!(first.replica, second.replica);
        assert_eq!(shedder.failed(ms(n), second.id, why), None);
    }

    let counters = shedder.snapshot(ms(50)).counters;
    assert_eq!((counters.retries, counters.sent_elsewhere, counters.unexplained), (0, 50, 100));
    assert!(shedder.snapshot(ms(50)).replicas.iter().all(|replica| replica.healthy && replica.evidence == 0));
}

#[test]
fn case_f02_after_a_token_and_by_our_own_bounds_nothing_is_held_against_anybody() {
    let mut shedder = shedder(chat_slo(), 2);
    for n in 0..50 {
        let begun = run(&mut shedder, ms(n), offer(ms(n), REGULAR));
        assert_eq!(shedder.failed(ms(n), begun.id, Failure::Unexplained { body: n }), None);
        let ours = permit(shedder.offer(ms(n), offer(ms(n), REGULAR)));
        assert_eq!(shedder.failed(ms(n), ours.id, Failure::Ours), None);
    }

    let snapshot = shedder.snapshot(ms(50));
    assert!(snapshot.replicas.iter().all(|replica| replica.healthy && replica.evidence == 0));
    assert_eq!((snapshot.at_rest.requests, snapshot.counters.retries), (0, 0));
}

/// The only replica is not refused to anybody because of what failed on it.
#[test]
fn case_f02_ghosts_take_no_place_from_anybody() {
    let mut shedder = shedder(fixed(4), 1);
    for n in 0..100 {
        let id = permit(shedder.offer(ms(0), offer(ms(0), REGULAR))).id;
        assert_eq!(shedder.failed(ms(0), id, Failure::Unexplained { body: n }), None);
    }
    assert_eq!(shedder.snapshot(ms(0)).replicas[0].ghosts, 100);
    assert_eq!(shedder.snapshot(ms(0)).at_rest.active, 0);

    let running: Vec<_> = (0..4).map(|_| permit(shedder.offer(ms(0), offer(ms(0), PRIORITY))).id).collect();
    ticket(shedder.offer(ms(0), offer(ms(0), PRIORITY)));

    running.into_iter().for_each(|id| shedder.cancel(ms(0), id));
    let next = verdicts(&mut shedder);
    assert!(matches!(next[..], [Verdict::Admit(permit)] if { shedder.cancel(ms(0), permit.id); true }));
    shedder.tick(ms(10_000), &[]);
    assert!(shedder.snapshot(ms(10_000)).at_rest.is_zero());
}

/// Fails every request at once, but always the same body, so that it stays: no more than its fair share goes there.
#[test]
fn case_f03_a_replica_that_fails_at_once_does_not_attract() {
    let kinds = [|ask: &Ask| Failure::Unexplained { body: ask.body }, |_: &Ask| Failure::Absent];
    for (kind, hold) in kinds.into_iter().flat_map(|kind| [(kind, 500), (kind, 3_000), (kind, 8_000)]) {
        let fails = move |on, ask: &Ask| if on == ReplicaId(2) { Does::Fail(kind(ask)) } else { Does::Serve };
        let mut fleet = Fleet::new(4, ms(hold), fails);
        // Two fifths full when all four serve.
        let limit_start = 2.5 * 12.5 * Duration::as_secs_f64(&ms(hold));
        fleet.shedder = shedder(Config { limit_start, ..chat_slo() }, 4);

        fleet.ask_many(3_000, ms(20), |n| Ask { account: n % 10, body: 7, ..PLAIN });

        let share = f64::from(fleet.first_sent[2]) / f64::from(fleet.first_sent.iter().sum::<u32>());
        assert_eq!(fleet.out_most, 0);
        assert!(share < 0.25 * 1.3, "held for {hold} ms: {share}, {:?}", fleet.first_sent);
        fleet.rest();
    }
}

#[test]
fn case_f03_a_replica_without_the_model_is_out_for_that_model_alone() {
    for (count, pinned, accounts) in table().filter(|row| row.0 > 1) {
        let lacks = move |on, ask: &Ask| match ask.needs {
            MODEL if on == ReplicaId(0) => Does::Fail(Failure::Absent),
            _ => Does::Serve,
        };
        let mut model = Fleet::new(count, ms(500), lacks);
        let ask = |needs| move |n: u64| Ask { account: n % accounts, needs, pinned, ..PLAIN };

        model.ask_many(600, ms(50), ask(MODEL));
        let row = format!("{count} replicas, {pinned:?}, {accounts} accounts");
        let share = f64::from(model.sent[0]) / 600.0;
        assert!(share < 0.05, "{row}: {share}");
        assert_eq!(model.shedder.absent_on(ReplicaId(0)).collect::<Vec<_>>(), [MODEL], "{row}");
        assert_eq!((model.failed, model.shed.len(), model.out_most), (0, 0, 0), "{row}: nobody notices");

        model.rest();
        let before = model.sent[0];
        model.ask_many(600, ms(50), ask(OTHER));
        let other = f64::from(model.sent[0] - before) / 600.0;
        assert!(other > 0.8 / f64::from(count), "{row}: its other model gets its share there: {other}");
        model.rest();
    }
}

#[test]
fn case_f03_a_model_that_is_loaded_is_found_by_the_next_trial() {
    let clock = std::rc::Rc::new(std::cell::Cell::new(ms(0)));
    let seen = std::rc::Rc::clone(&clock);
    let lacks = move |on, _: &Ask| match on {
        ReplicaId(1) if seen.get() < ms(5_000) => Does::Fail(Failure::Absent),
        _ => Does::Serve,
    };
    let mut fleet = Fleet::new(2, ms(200), lacks);
    for _ in 0..200 {
        clock.set(fleet.now);
        fleet.ask(Ask { needs: MODEL, tier: PRIORITY, ..PLAIN });
        fleet.ask(Ask { needs: MODEL, tier: PRIORITY, ..PLAIN });
        fleet.run(fleet.now + ms(50));
    }

    assert_eq!(fleet.replica(1).absent, 0);
    assert_eq!(fleet.shedder.snapshot(fleet.now).counters.absent, 3, "at the start, after 1 and after 3 s");
    assert!(fleet.sent[1] > 40, "{:?}", fleet.sent);
    fleet.rest();
}

#[test]
fn case_f03_when_all_lack_it_the_answer_says_so_and_one_request_tries_again() {
    for count in 1..=8_u16 {
        let mut fleet = Fleet::new(count, ms(500), |_, ask| match ask.needs {
            MODEL => Does::Fail(Failure::Absent),
            _ => Does::Serve,
        });

        fleet.ask_many(600, ms(50), |n| Ask {
            needs: if n % 2 == 0 { MODEL } else { OTHER },
            body: n,
            ..PLAIN
        });

        assert!(fleet.shedder.is_absent(fleet.now, MODEL) && !fleet.shedder.is_absent(fleet.now, OTHER));
        assert_eq!(fleet.shedder.predict_wait(fleet.now, &offer(fleet.now, REGULAR)), ms(0));
        assert!(fleet.shed.iter().all(|shed| shed.absent && shed.reason == Reason::NoReplica));
        let told = fleet.shed.iter().filter_map(|shed| shed.retry_after);
        assert!(told.clone().count() == fleet.shed.len() && told.max() <= Some(ms(30_000)));
        assert_eq!(fleet.shed.len() + fleet.failed as usize, 300, "{count}: each is answered");
        let tried = fleet.shedder.snapshot(fleet.now).counters.absent;
        assert!(tried <= 7 * u64::from(count), "{count}: {tried}");
        fleet.rest();
        assert_eq!(fleet.served, 300, "{count}: the other model does not notice");
    }
}

/// What waits for the replica that has its model holds nobody up who can use the one that has not.
#[test]
fn case_f03_a_request_bound_to_a_full_replica_does_not_block_the_others() {
    let mut shedder = shedder(fixed(2), 2);
    let needing = |account| Offer { needs: MODEL, ..of_account(account, offer(ms(0), PRIORITY)) };
    let first = permit(shedder.offer(ms(0), needing(1)));
    let Some(Decision::Admit(_)) = shedder.failed(ms(0), first.id, Failure::Absent) else {
        panic!("not sent")
    };
    permit(shedder.offer(ms(0), needing(1)));
    ticket(shedder.offer(ms(0), needing(1)));

    let other = permit(shedder.offer(ms(0), of_account(2, offer(ms(0), PRIORITY))));

    assert_eq!(other.replica, first.replica);
}

/// Ten requests of one account come late; of two accounts, two.
#[test]
fn case_r01_late_first_tokens_of_one_account_do_not_set_the_limit_of_others() {
    let limit_after = |late: [u64; 10], others: bool| {
        let mut shedder = taught(chat_slo(), 1);
        let t0 = ms(1_000);
        if others {
            let other = run(&mut shedder, t0, of_account(1_000, offer(t0, REGULAR)));
            shedder.finish(t0, other.id, &done(1));
        }
        let sent: Vec<_> =
            late.iter().map(|&of| permit(shedder.offer(t0, of_account(of, offer(t0, REGULAR)))).id).collect();
        sent.iter().for_each(|&id| shedder.dispatched(t0, id));
        (1..40).for_each(|n| shedder.tick(t0 + ms(250 * n), &[]));
        shedder.snapshot(ms(11_000)).replicas[0].limit
    };

    assert!(limit_after([5; 10], true) >= 64.0, "one account beside another");
    let two = limit_after([5, 5, 5, 5, 5, 6, 6, 6, 6, 6], true);
    assert!(two < 16.0, "late for two: the engine queues: {two}");
    let alone = limit_after([1; 10], false);
    assert!(alone < 16.0, "one account alone is protected from its own queue: {alone}");
}
