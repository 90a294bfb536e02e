//! Delays that are no load: a network, a busy API server, pictures, adapters, an engine that stands still.

use super::*;

/// Sends a prompt of account `of` at `at`; its first token comes at `token`.
fn answered(shedder: &mut Shedder, of: u64, tokens: u32, at: u64, token: u64) {
    let permit = permit(shedder.offer(ms(at), of_account(of, sized(tokens, offer(ms(at), REGULAR)))));
    shedder.dispatched(ms(at), permit.id);
    shedder.first_token(ms(token), permit.id);
    shedder.finish(ms(token), permit.id, &done(1));
}

/// A replica that computes 5,000 prompt tokens per second, behind a delay of `lag` ms.
fn behind(lag: u64) -> Shedder {
    let mut shedder = idle_behind(lag);
    run(&mut shedder, ms(199_000), offer(ms(199_000), PRIORITY));
    shedder
}

/// The same, with nothing running there.
fn idle_behind(lag: u64) -> Shedder {
    let mut shedder = shedder(fixed(200), 1);
    for n in 0..60u64 {
        let tokens = 100 + 250 * (n * 7 % 11);
        let at = 1_000 + n * 2_000;
        answered(&mut shedder, 1, tokens as u32, at, at + lag + tokens / 5);
    }
    shedder
}

/// Half of what a replica can compute, for two seconds: who is not started at once.
fn waiting_at_half_load(shedder: &mut Shedder) -> usize {
    let mut waits = 0;
    for n in 0..20u64 {
        let now = ms(200_000 + 100 * n);
        match shedder.offer(now, of_account(n % 5, sized(250, offer(now, REGULAR)))) {
            Decision::Admit(permit) => shedder.dispatched(now, permit.id),
            Decision::Wait(_) => waits += 1,
            Decision::Shed(rejection) => panic!("refused at half load: {rejection:?}"),
        }
    }
    waits
}

/// Two seconds of silence before every first token, and the replica is half idle all the time: nobody has to wait.
#[test]
fn what_is_under_way_is_not_waiting_to_be_computed() {
    assert_eq!(waiting_at_half_load(&mut behind(2_000)), 0);
    assert!(waiting_at_half_load(&mut behind(0)) > 10, "without a delay such a silence is a queue");
}

/// Some prompts have a delay of their own, and then all are late, in the order in which they came: that is a queue which was
/// sent because it seemed to be under way.
#[test]
fn what_comes_too_late_in_its_turn_was_not_under_way() {
    let mut shedder = idle_behind(500);
    let under_way = |shedder: &Shedder| shedder.replica(ReplicaId(0)).unwrap().under_way();
    assert!(under_way(&shedder) > 2_000.0);
    for n in 0..20u64 {
        let at = 150_000 + 2_400 * n;
        answered(&mut shedder, n % 5, 400, at, at + 2_300);
    }
    let doubted = under_way(&shedder);
    assert!(doubted < 300.0, "{doubted}");
    for n in 0..200u64 {
        let at = 210_000 + 1_000 * n;
        answered(&mut shedder, n % 5, 400, at, at + 580);
    }
    let again = under_way(&shedder);
    assert!(again > 3.0 * doubted, "{again}");
}

#[test]
fn a_delay_does_not_make_the_replica_slow() {
    for lag in [0, 100, 600] {
        let rate = behind(lag).snapshot(ms(130_000)).replicas[0].prefill_rate.unwrap();
        assert!((4_500.0..6_000.0).contains(&rate), "{lag} ms: {rate}");
    }
}

/// What is under way reaches the engine at once if it is sent at once.
#[test]
fn starts_are_spread_over_the_time_that_their_prompts_take() {
    let mut shedder = behind(2_000);
    let now = ms(200_000);
    let burst = (0..20).filter(|n| {
        let offer = of_account(*n, sized(250, offer(now, PRIORITY)));
        matches!(shedder.offer(now, offer), Decision::Admit(_))
    });
    // 100 ms a token are 500 tokens; the last one may exceed them.
    assert!((2..=4).contains(&burst.count()));
}

/// A request whose picture is decoded holds nobody up, once somebody who was sent later has a token.
#[test]
fn who_was_overtaken_is_no_queue() {
    let mut shedder = answering(fixed(20), 1);
    let now = ms(1_000);
    let sent = |shedder: &mut Shedder, at: u64, tokens: u32| {
        let permit = permit(shedder.offer(ms(at), sized(tokens, offer(ms(at), PRIORITY))));
        shedder.dispatched(ms(at), permit.id);
        permit
    };
    let _picture = sent(&mut shedder, 1_000, 400);
    let small = sent(&mut shedder, 1_010, 50);
    ticket(shedder.offer(now, sized(300, offer(now, PRIORITY))));
    assert_eq!(shedder.snapshot(now).replicas[0].backlog_tokens, 450);

    shedder.first_token(ms(1_100), small.id);

    assert_eq!(verdicts(&mut shedder).len(), 1, "the next one starts");
    assert_eq!(shedder.snapshot(ms(1_100)).replicas[0].backlog_tokens, 300);
}

/// Two accounts' first tokens are late because the whole engine stood still, or because it has a queue.
#[test]
fn a_pause_of_the_whole_engine_is_no_queue() {
    let limit_after = |paused: bool| {
        let mut shedder = taught(Config { limit_start: 64.0, ..chat_slo() }, 1);
        let running = run_many(&mut shedder, ms(1_000), REGULAR, 8);
        let tokens: Vec<StreamProgress> = running
            .iter()
            .map(|permit| StreamProgress { id: permit.id, chunks: 5, gap_sum: ms(200), gaps: 5 })
            .collect();
        shedder.tick(ms(1_250), &tokens);
        let late: Vec<Permit> = (0..2)
            .map(|of| {
                let small = of_account(of, sized(20, offer(ms(1_300), REGULAR)));
                let permit = permit(shedder.offer(ms(1_300), small));
                shedder.dispatched(ms(1_300), permit.id);
                permit
            })
            .collect();
        for tick in 0..8 {
            let flows = !paused || tick == 7;
            shedder.tick(ms(1_500 + 250 * tick), if flows { &tokens } else { &[] });
        }
        late.iter().for_each(|permit| shedder.first_token(ms(3_300), permit.id));
        shedder.tick(ms(3_500), &tokens);
        shedder.snapshot(ms(3_500)).replicas[0].limit
    };
    let (paused, queued) = (limit_after(true), limit_after(false));
    assert!(queued < 20.0, "{queued}");
    assert!(paused > 50.0, "{paused}");
}

/// Some requests take a second by themselves. Now and then nobody is sent after one of them, so that none overtakes it:
/// that is no queue either, as long as others were overtaken a moment ago.
#[test]
fn late_ones_that_nobody_happened_to_overtake_are_no_queue_where_others_were() {
    let limit_after = |overtaken: bool| {
        let mut shedder = taught(Config { limit_start: 64.0, ..chat_slo() }, 1);
        let sent = |shedder: &mut Shedder, of: u64, at: u64| {
            let permit = permit(shedder.offer(ms(at), of_account(of, sized(20, offer(ms(at), REGULAR)))));
            shedder.dispatched(ms(at), permit.id);
            permit.id
        };
        let ended = |shedder: &mut Shedder, id: RequestId, at: u64| {
            shedder.first_token(ms(at), id);
            shedder.finish(ms(at), id, &done(1));
        };
        if overtaken {
            let picture = sent(&mut shedder, 1, 1_000);
            let quick = sent(&mut shedder, 2, 1_010);
            ended(&mut shedder, quick, 1_100);
            ended(&mut shedder, picture, 2_900);
        }
        let pictures = [3, 4].map(|of| sent(&mut shedder, of, 5_000));
        pictures.into_iter().for_each(|picture| ended(&mut shedder, picture, 6_000));
        shedder.snapshot(ms(7_000)).replicas[0].limit
    };
    assert!(limit_after(false) < 20.0);
    assert_eq!(limit_after(true), 64.0);
}

/// An engine with a queue of its own gives two of them a slot in the same step, and tells their tokens in any order. So does
/// llama.cpp, slot by slot.
#[test]
fn of_two_that_are_late_in_the_same_step_none_overtook_the_other() {
    let mut shedder = taught(Config { limit_start: 64.0, ..chat_slo() }, 1);
    let sent: Vec<RequestId> = (0..8)
        .map(|of| {
            let at = ms(1_000 + 10 * of);
            let permit = permit(shedder.offer(at, of_account(of, sized(20, offer(at, REGULAR)))));
            shedder.dispatched(at, permit.id);
            permit.id
        })
        .collect();
    for (step, pair) in sent.chunks(2).enumerate() {
        let at = ms(3_000 + 1_000 * step as u64);
        pair.iter().rev().for_each(|&id| shedder.first_token(at, id));
        shedder.tick(at, &[]);
    }

    let limit = shedder.snapshot(ms(6_500)).replicas[0].limit;
    assert!(limit < 20.0, "{limit}");
}

/// Tokens are computed in 0.1 ms each, one prompt after the other, and travel for as long again, each by itself.
#[test]
fn what_tokens_travel_is_not_computed() {
    let mut shedder = idle_behind(20);
    let rate = |shedder: &Shedder| shedder.replica(ReplicaId(0)).unwrap().prefill.learnt().unwrap();
    assert!((4_500.0..5_500.0).contains(&rate(&shedder)));
    run(&mut shedder, ms(149_000), offer(ms(149_000), PRIORITY));
    for n in 0..120u64 {
        // The second waits for the first one's computing, 60 ms, and not for its travel.
        let at = 150_000 + 1_000 * n;
        let (first, second) = (600, 700 + 10 * (n % 7) as u32);
        let permits = [(at, first), (at + 1, second)].map(|(at, tokens)| {
            match shedder.offer(ms(at), of_account(n % 5, sized(tokens, offer(ms(at), REGULAR)))) {
                Decision::Admit(permit) => {
                    shedder.dispatched(ms(at), permit.id);
                    Some(permit.id)
                }
                Decision::Wait(id) => {
                    shedder.cancel(ms(at), id);
                    None
                }
                Decision::Shed(rejection) => panic!("{rejection:?}"),
            }
        });
        let tokens = [u64::from(first) / 5, (u64::from(first) + 2 * u64::from(second)) / 10];
        for (id, after) in permits.into_iter().zip(tokens) {
            let Some(id) = id else { continue };
            shedder.first_token(ms(at + 20 + after), id);
            shedder.finish(ms(at + 20 + after), id, &done(1));
        }
    }
    let told = rate(&shedder);
    assert!((8_500.0..11_000.0).contains(&told), "{told}");
    assert!(shedder.replica(ReplicaId(0)).unwrap().lag() > 0.02, "and their travel is a delay");
}
