//! Whose turn it is: fairness by size, priority that is about to be refused, and refusals that come at once.

use super::*;

/// Two replicas at 5,000 tokens per second with small prompts of many accounts going by: when a large prompt of another
/// account starts, in ms after it came; `None` if it is refused first.
fn large_starts_after(overtaken_for: f64) -> Option<u64> {
    let mut shedder = taught(Config { overtaken_for, ..fixed(400) }, 2);
    let (mut running, mut large): (Vec<(u64, Permit)>, Option<RequestId>) = (Vec::new(), None);
    for at in (1_000..6_000).step_by(10) {
        let now = ms(at);
        let over: Vec<Permit> = running.extract_if(.., |(until, _)| *until <= at).map(|(_, p)| p).collect();
        for permit in over {
            shedder.first_token(now, permit.id);
            shedder.finish(now, permit.id, &done(1));
        }
        let mut began = Vec::new();
        for verdict in verdicts(&mut shedder) {
            match verdict {
                Verdict::Admit(permit) if Some(permit.id) == large => return Some(at - 2_000),
                Verdict::Shed(id, _) if Some(id) == large => return None,
                Verdict::Admit(permit) => began.push(permit),
                _ => {}
            }
        }
        if at == 2_000 {
            let offer = of_account(7, sized(2_000, offer(now, REGULAR)));
            large = Some(ticket(shedder.offer(now, offer)));
        }
        // Each takes 40 ms, and on both replicas together one begins every 15 ms: none is ever free.
        if (at / 10) % 3 != 0
            && let Decision::Admit(permit) =
                shedder.offer(now, of_account(100 + at, sized(200, offer(now, REGULAR))))
        {
            began.push(permit);
        }
        for permit in began {
            shedder.dispatched(now, permit.id);
            running.push((at + 60, permit));
        }
    }
    None
}

#[test]
fn small_prompts_overtake_a_large_one_only_for_a_while() {
    assert_eq!(large_starts_after(1.0), None, "let pass for ever, they keep it out");
    let after = large_starts_after(0.1);
    assert!(after.is_some_and(|ms| (100..600).contains(&ms)), "{after:?}");
}

/// Only the next may keep a replica free: who has many large prompts waiting does not close the fleet to others.
#[test]
fn an_account_with_many_large_prompts_does_not_keep_others_out() {
    let mut shedder = taught(fixed(400), 4);
    let now = ms(1_000);
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
    shedder.tick(ms(1_300), &[]);
    let small: Vec<RequestId> = (0..3)
        .map(|_| ticket(shedder.offer(ms(1_300), of_account(2, sized(20, offer(ms(1_300), REGULAR))))))
        .collect();

    running.iter().take(2).for_each(|permit| shedder.first_token(ms(1_400), permit.id));
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
    let mut shedder = taught(fixed(400), 1);
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
    let mut shedder = taught(fixed(4_000), 2);
    let mut running: Vec<(u64, Permit)> = Vec::new();
    let (mut at_once, mut after_a_wait) = (0, 0);
    for at in (1_000..61_000).step_by(10) {
        let now = ms(at);
        if at % 250 == 0 {
            shedder.tick(now, &[]);
        }
        let over: Vec<Permit> = running.extract_if(.., |(until, _)| *until <= at).map(|(_, p)| p).collect();
        for permit in over {
            shedder.first_token(now, permit.id);
            shedder.finish(now, permit.id, &done(1));
        }
        // Real prompts take twice as long as predicted: the rate is that of an idle engine.
        let mut begin = |shedder: &mut Shedder, permit: Permit| {
            shedder.dispatched(now, permit.id);
            running.push((at + 160, permit));
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
