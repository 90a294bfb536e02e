//! Whose turn it is: fairness by size, priority that is about to be refused, and refusals that come at once.

use super::*;

/// Ends those of `running` whose time, in ms, has come: first token and end at once.
fn end_due(shedder: &mut Shedder, running: &mut Vec<(u64, Permit)>, at: u64) {
    for (_, permit) in running.extract_if(.., |(until, _)| *until <= at) {
        shedder.first_token(ms(at), permit.id);
        shedder.finish(ms(at), permit.id, &done(1));
    }
}

/// Two replicas at 5,000 tokens per second with small prompts of many accounts going by, and a large one four times a
/// second: how many of sixty large ones start.
fn large_that_start(size_share_min: f64) -> usize {
    let mut shedder = answering(Config { size_share_min, ..fixed(400) }, 2);
    let (mut running, mut large, mut began) = (Vec::<(u64, Permit)>::new(), Vec::new(), 0);
    for at in (1_000..16_000).step_by(10) {
        let now = ms(at);
        if at % 250 == 0 {
            shedder.tick(now, &[]);
        }
        end_due(&mut shedder, &mut running, at);
        let mut started: Vec<Permit> = Vec::new();
        let mut come = |tokens: u32, account: u64, shedder: &mut Shedder| {
            let decision = shedder.offer(now, of_account(account, sized(tokens, offer(now, REGULAR))));
            match decision {
                Decision::Admit(permit) => started.push(permit),
                Decision::Wait(id) if tokens > 1_000 => large.push(id),
                Decision::Wait(_) | Decision::Shed(_) => {}
            }
        };
        if at % 250 == 0 {
            come(2_000, 10_000 + at, &mut shedder);
        }
        // Twice as many as both can compute: there is always one that fits beside another.
        come(200, 100 + at, &mut shedder);
        for verdict in verdicts(&mut shedder) {
            if let Verdict::Admit(permit) = verdict {
                began += usize::from(large.contains(&permit.id));
                started.push(permit);
            }
        }
        for permit in started {
            shedder.dispatched(now, permit.id);
            let takes = if large.contains(&permit.id) { 400 } else { 60 };
            running.push((at + takes, permit));
        }
    }
    began
}

#[test]
fn small_prompts_overtake_large_ones_only_as_far_as_those_get_their_share() {
    let (passed_over, shared) = (large_that_start(0.0), large_that_start(0.5));
    assert!(passed_over <= 5, "let pass for ever, they keep them out: {passed_over}");
    assert!(shared >= 10, "{shared}");
}

/// Only the next may keep a replica free: who has many large prompts waiting does not close the fleet to others.
#[test]
fn an_account_with_many_large_prompts_does_not_keep_others_out() {
    let mut shedder = answering(fixed(400), 4);
    let now = ms(2_000);
    let running: Vec<Permit> = (0..4)
        .map(|_| {
            let permit = permit(shedder.offer(now, of_account(1, sized(2_000, offer(now, REGULAR)))));
            shedder.dispatched(now, permit.id);
            permit
        })
        .collect();
    let large: Vec<RequestId> = (0..6)
        .map(|_| ticket(shedder.offer(now, of_account(1, sized(1_900, offer(now, REGULAR))))))
        .collect();
    shedder.tick(ms(2_300), &[]);
    let small: Vec<RequestId> = (0..3)
        .map(|_| ticket(shedder.offer(ms(2_300), of_account(2, sized(20, offer(ms(2_300), REGULAR))))))
        .collect();

    running.iter().take(2).for_each(|permit| shedder.first_token(ms(2_400), permit.id));
    let begun: Vec<RequestId> = verdicts(&mut shedder)
        .iter()
        .filter_map(|verdict| if let Verdict::Admit(permit) = verdict { Some(permit.id) } else { None })
        .collect();

    assert!(small.iter().all(|id| begun.contains(id)), "{begun:?}");
    assert_eq!(begun.iter().filter(|id| large.contains(id)).count(), 1, "{begun:?}");
}

/// At first a prompt that would make a pace longer waits; shortly before it would be refused it does not.
#[test]
fn priority_that_is_about_to_be_refused_may_make_answers_slower() {
    let mut shedder = answering(fixed(400), 1);
    let now = ms(1_000);
    let long = permit(shedder.offer(now, sized(600, offer(now, PRIORITY))));
    shedder.dispatched(now, long.id);
    let waiting = ticket(shedder.offer(now, of_account(2, sized(300, offer(now, PRIORITY)))));

    shedder.tick(ms(1_500), &[]);
    assert_eq!(verdicts(&mut shedder), []);
    shedder.tick(ms(2_600), &[]);
    assert!(matches!(verdicts(&mut shedder)[..], [Verdict::Admit(Permit { id, .. })] if id == waiting));
}

/// And it may take a place more than N, unless N is a number of slots.
#[test]
fn priority_that_is_about_to_be_refused_may_exceed_n_but_not_slots() {
    let begun = |slots_max: Option<u32>| {
        let config = Config { limit_start: 10.0, slots_max, kv_tokens: Some(1_000_000), ..chat_slo() };
        let mut shedder = shedder(config, 1);
        run_many(&mut shedder, ms(1_000), PRIORITY, 10);
        ticket(shedder.offer(ms(1_000), offer(ms(1_000), PRIORITY)));
        shedder.tick(ms(2_680), &[]);
        verdicts(&mut shedder).iter().filter(|verdict| matches!(verdict, Verdict::Admit(_))).count()
    };
    assert_eq!(begun(None), 1);
    assert_eq!(begun(Some(10)), 0);
}

/// Regular traffic of three times what the fleet computes, for a minute: refusals, and those of them that came late.
#[test]
fn who_will_not_be_served_is_told_at_once() {
    let mut shedder = answering(fixed(4_000), 2);
    let mut running: Vec<(u64, Permit)> = Vec::new();
    let mut free_at = [0; 2];
    let (mut at_once, mut after_a_wait) = (0, 0);
    for at in (1_000..61_000).step_by(10) {
        let now = ms(at);
        if at % 250 == 0 {
            shedder.tick(now, &[]);
        }
        end_due(&mut shedder, &mut running, at);
        // Real prompts take twice as long as predicted, as the rate is that of an idle engine, and one after the other.
        let mut begin = |shedder: &mut Shedder, permit: Permit| {
            shedder.dispatched(now, permit.id);
            let free = &mut free_at[usize::from(permit.replica.0)];
            *free = at.max(*free) + 160;
            running.push((*free, permit));
        };
        for verdict in verdicts(&mut shedder) {
            match verdict {
                Verdict::Admit(permit) => begin(&mut shedder, permit),
                Verdict::Shed(..) => after_a_wait += u32::from(at >= 11_000),
                Verdict::Withdraw(_) => {}
            }
        }
        if at % 30 == 0 {
            match shedder.offer(now, of_account(at % 17, sized(400, offer(now, REGULAR)))) {
                Decision::Admit(permit) => begin(&mut shedder, permit),
                Decision::Wait(_) => {}
                Decision::Shed(_) => at_once += u32::from(at >= 11_000),
            }
        }
    }
    assert!(at_once > 500, "{at_once} and {after_a_wait}");
    assert!(10 * after_a_wait <= at_once + after_a_wait, "{after_a_wait} of {}", at_once + after_a_wait);
}

/// Classification: the first token is the last, and no running answer is slowed by prompts that are computed together.
#[test]
fn nothing_is_paced_where_no_answer_runs() {
    let now = ms(1_000);
    let started = |answers: usize| {
        let mut shedder = taught(fixed(400), 1);
        run_many(&mut shedder, now, PRIORITY, answers);
        (0..10)
            .filter(|_| matches!(shedder.offer(now, sized(400, offer(now, PRIORITY))), Decision::Admit(_)))
            .count()
    };
    assert_eq!(started(1), 1, "a pace is 500 tokens");
    assert_eq!(started(0), 10, "four steps of the engine are 8,192");
}
