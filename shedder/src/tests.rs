//! Tests of the whole state machine, in virtual time: what they share.

mod aging;
mod binding;
mod cases;
mod delays;
mod engine;
mod fleet;
mod flex;
mod foresight;
mod handover;
mod model;
mod policy;
mod queue;
mod reports;
mod sim;

use std::time::Duration;

use crate::*;

pub(crate) const PRIORITY: Tier = Tier::Priority;
pub(crate) const REGULAR: Tier = Tier::Regular;
pub(crate) const FLEX: Tier = Tier::Flex;

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn replicas(count: u16) -> Vec<ReplicaConfig> {
    (0..count).map(|n| ReplicaConfig::new(ReplicaId(n))).collect()
}

/// TTFT within 2 s, 100 ms per token.
pub(crate) fn chat_slo() -> Config {
    Config { slo: Some(Slo { ttft: ms(2_000), tpot: ms(100) }), ..Config::default() }
}

/// `limit` places per replica, held.
pub(crate) fn fixed(limit: u32) -> Config {
    Config { fixed_limit: Some(f64::from(limit)), ..chat_slo() }
}

pub(crate) fn shedder(config: Config, count: u16) -> Shedder {
    Shedder::new(Duration::ZERO, config, &replicas(count))
}

/// A small streaming request of account 1.
pub(crate) fn offer(now: Duration, tier: Tier) -> Offer {
    Offer {
        tier,
        account: 1,
        user: None,
        weight: 1.0,
        prompt: 10,
        uncached: Uncached::everywhere(10),
        expected_output: 200,
        streaming: true,
        has_output: true,
        bytes: 100,
        arrived: now,
        deadline: None,
        affinity: None,
        needs: 0,
    }
}

pub(crate) fn of_account(account: u64, offer: Offer) -> Offer {
    Offer { account, ..offer }
}

pub(crate) fn sized(tokens: u32, offer: Offer) -> Offer {
    Offer { prompt: tokens, uncached: Uncached::everywhere(tokens), ..offer }
}

pub(crate) fn permit(decision: Decision) -> Permit {
    match decision {
        Decision::Admit(permit) => permit,
        other => panic!("expected Admit, got {other:?}"),
    }
}

pub(crate) fn ticket(decision: Decision) -> RequestId {
    match decision {
        Decision::Wait(id) => id,
        other => panic!("expected Wait, got {other:?}"),
    }
}

pub(crate) fn rejection(decision: Decision) -> Rejection {
    match decision {
        Decision::Shed(rejection) => rejection,
        other => panic!("expected Shed, got {other:?}"),
    }
}

/// Admits `count` requests and sees their first tokens, so that no backlog is left.
pub(crate) fn run_many(shedder: &mut Shedder, now: Duration, tier: Tier, count: usize) -> Vec<Permit> {
    (0..count).map(|_| run(shedder, now, offer(now, tier))).collect()
}

/// Admits `offer` and sees its first token.
pub(crate) fn run(shedder: &mut Shedder, now: Duration, offer: Offer) -> Permit {
    let permit = permit(shedder.offer(now, offer));
    shedder.dispatched(now, permit.id);
    shedder.first_token(now, permit.id);
    permit
}

pub(crate) fn done(generated: u32) -> Finished {
    Finished { generated, content_chunks: generated, ..Finished::default() }
}

pub(crate) fn verdicts(shedder: &mut Shedder) -> Vec<Verdict> {
    std::iter::from_fn(|| shedder.poll_verdict()).collect()
}

/// Every replica computes 5,000 prompt tokens per second.
pub(crate) fn taught(config: Config, count: u16) -> Shedder {
    let mut shedder = shedder(config, count);
    let t0 = Duration::ZERO;
    let permits: Vec<_> =
        (0..count).map(|_| permit(shedder.offer(t0, sized(2_000, offer(t0, PRIORITY))))).collect();
    for permit in &permits {
        shedder.dispatched(t0, permit.id);
    }
    for permit in permits {
        shedder.first_token(ms(400), permit.id);
        shedder.finish(ms(400), permit.id, &done(1));
    }
    assert!(shedder.snapshot(ms(400)).replicas.iter().all(|replica| replica.prefill_rate == Some(5_000.0)));
    shedder
}

/// As [`taught`], with an answer running on each replica, so that prompts are paced.
pub(crate) fn answering(config: Config, count: u16) -> Shedder {
    let mut shedder = taught(config, count);
    run_many(&mut shedder, ms(900), PRIORITY, count.into());
    assert!(shedder.snapshot(ms(900)).replicas.iter().all(|replica| replica.with_token == 1));
    shedder
}

/// Many short requests have just come and gone: places free up quickly, so waiting is worth it.
pub(crate) fn flowing(shedder: &mut Shedder, now: Duration) {
    for _ in 0..5_000 {
        let permit = run(shedder, now, of_account(u64::MAX, offer(now, PRIORITY)));
        shedder.finish(now, permit.id, &done(0));
    }
}
