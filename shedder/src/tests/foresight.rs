//! Waits that are predicted by what comes, not only by what is there; and replicas that priority finds free of prompts.

use super::*;
use crate::Decision;

/// Priority that comes while a regular request waits is served before it.
#[test]
fn a_regular_request_is_told_sooner_while_priority_keeps_coming() {
    let now = ms(2_000);
    let predicted = |busy: bool| {
        let mut shedder = answering(fixed(50), 1);
        if busy {
            for _ in 0..40 {
                run(&mut shedder, now, sized(100, offer(now, PRIORITY)));
            }
        }
        run_backlog(&mut shedder, now);
        ticket(shedder.offer(now, sized(3_000, offer(now, REGULAR))));
        shedder.predict_wait(now, &sized(100, of_account(2, offer(now, REGULAR))))
    };

    let (calm, busy) = (predicted(false), predicted(true));

    // 4,000 tokens in a second, half of which count, are 2,000 of the 5,000 per second.
    assert!(busy > calm.mul_f64(1.1), "{busy:?} against {calm:?}");
    assert!(busy < ms(1_200), "{busy:?}");
}

/// A prompt that is being computed and leaves no place for another beside it.
fn run_backlog(shedder: &mut Shedder, now: Duration) {
    permit(shedder.offer(now, sized(450, offer(now, PRIORITY))));
}

/// Where nothing streams no prefill rate is learnt; what starts while others wait is a rate, too.
#[test]
fn without_a_prefill_rate_the_pace_of_the_queue_predicts() {
    let mut shedder = shedder(chat_slo(), 1);
    let silent = |now| Offer { streaming: false, ..sized(1_500, offer(now, REGULAR)) };
    let mut refused = 0;
    for step in 0..40_u64 {
        let now = ms(250 * step);
        for n in 0..4_u64 {
            match shedder.offer(now, of_account(n, silent(now))) {
                Decision::Shed(refusal) => {
                    refused += u32::from(refusal.reason == Reason::Predicted);
                }
                Decision::Admit(permit) => shedder.dispatched(now, permit.id),
                Decision::Wait(_) => {}
            }
        }
        shedder.tick(now, &[]);
        for verdict in verdicts(&mut shedder) {
            if let Verdict::Admit(permit) = verdict {
                shedder.dispatched(now, permit.id);
            }
        }
    }

    assert!(refused > 10, "{refused} refused at arrival, not at the end of their wait");
    assert_eq!(shedder.snapshot(ms(10_000)).replicas[0].prefill_rate, None);
}

/// Priority had to wait for prompts: a large regular prompt now starts only while another replica computes none.
#[test]
fn after_long_waits_of_priority_a_replica_is_kept_free_of_large_regular_prompts() {
    let started = |waited: bool| {
        let mut shedder = answering(fixed(50), 2);
        let mut now = ms(1_000);
        let blockers: Vec<Permit> =
            (0..2).map(|_| permit(shedder.offer(now, sized(4_000, offer(now, PRIORITY))))).collect();
        if waited {
            ticket(shedder.offer(now, sized(400, offer(now, PRIORITY))));
        }
        now = ms(2_000);
        for permit in blockers {
            shedder.dispatched(ms(1_000), permit.id);
            shedder.first_token(now, permit.id);
            shedder.finish(now, permit.id, &done(1));
        }
        for verdict in verdicts(&mut shedder) {
            if let Verdict::Admit(permit) = verdict {
                shedder.dispatched(now, permit.id);
                shedder.first_token(now, permit.id);
            }
        }
        now = ms(2_600);
        // More comes than can be computed.
        let large = permit(shedder.offer(now, sized(8_000, of_account(9, offer(now, PRIORITY)))));
        shedder.cancel(now, large.id);
        shedder.tick(now, &[]);
        run_backlog(&mut shedder, now);
        matches!(shedder.offer(now, sized(3_000, offer(now, REGULAR))), Decision::Admit(_))
    };

    assert!(started(false), "nothing is kept while priority waits for nothing");
    assert!(!started(true), "the other replica computes a prompt, so this one is kept");
}
