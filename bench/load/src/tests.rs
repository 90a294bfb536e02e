//! The generator against the simulated server, which it must believe when it is right and catch when it is not.

use std::time::Duration;

use super::*;
use crate::check::Corruption;
use engine::profile::INSTANT;
use engine::server::{EngineServer, EngineServerConfig};
use engine::workload::{Arrivals, Size, Workload};

async fn instant() -> EngineServer {
    let config = EngineServerConfig { profile: INSTANT, ..EngineServerConfig::default() };
    EngineServer::start(config).await.expect("a free port on loopback")
}

/// 200 requests per second for half a second, of 50 prompt tokens and 20 of answer.
fn plan(server: &EngineServer) -> LoadPlan {
    let arrivals = Arrivals { rate_per_s: 200.0, cv: 1.0 };
    LoadPlan {
        mode: Mode::Open { stages: vec![Stage { arrivals, duration: Duration::from_millis(500) }] },
        workload: Workload::Fixed(Size { prompt_tokens: 50, output_tokens: 20 }),
        streaming_share: 0.5,
        timeout: Duration::from_secs(10),
        ..LoadPlan::to(server.addr)
    }
}

#[tokio::test]
async fn every_answer_of_a_good_server_is_complete_and_the_books_agree() {
    let server = instant().await;

    let report = run(LoadPlan { keep_outcomes: true, ..plan(&server) }).await.expect("a report");

    let all = &report.all;
    assert!((60..160).contains(&all.offered), "{} in half a second", all.offered);
    assert_eq!(all.ends.get("complete"), Some(&all.offered), "{:?}", all.ends);
    assert_eq!(all.attained, all.offered);
    assert_eq!(all.tokens, all.offered * 20);
    let totals = server.totals();
    assert_eq!(totals.requests, all.offered);
    assert_eq!(totals.generated_tokens, all.tokens);
    assert_eq!(totals.prompt_tokens, all.offered * 50, "prompts have exactly the tokens asked for");
    assert_eq!(report.outcomes.len() as u64, all.offered);
    assert!(report.outcomes.iter().any(|outcome| outcome.streaming && outcome.ttft.is_some()));
    assert!(report.outcomes.iter().any(|outcome| !outcome.streaming && outcome.ttft.is_none()));
}

#[tokio::test]
async fn the_same_seed_offers_the_same_requests() {
    let server = instant().await;
    let plan = LoadPlan { keep_outcomes: true, workload: Workload::Chat, ..plan(&server) };
    let offered = async |plan: LoadPlan| {
        let report = run(plan).await.expect("a report");
        report.outcomes.iter().map(|o| (o.due, o.size, o.streaming)).collect::<Vec<_>>()
    };

    let first = offered(plan.clone()).await;

    assert_eq!(first, offered(plan.clone()).await);
    assert_ne!(first, offered(LoadPlan { seed: 2, ..plan }).await);
}

#[tokio::test]
async fn what_the_server_does_wrong_is_named() {
    let server = instant().await;
    let cases = [
        ("cut=3", "truncated".to_owned()),
        ("reset=3", "truncated".to_owned()),
        ("stream-error=0", "streamerror".to_owned()),
        ("stream-error=2", "streamerror".to_owned()),
        ("no-done", format!("corrupt: {}", Corruption::NoDone)),
        ("after-done", format!("corrupt: {}", Corruption::AfterDone)),
        ("garbage", format!("corrupt: {}", Corruption::Json)),
        ("wrong-usage=1:1", format!("corrupt: {}", Corruption::WrongUsage)),
        ("no-usage", format!("corrupt: {}", Corruption::NoUsage)),
        ("huge-line=2000", format!("corrupt: {}", Corruption::Text)),
        ("huge-line=2000000", format!("corrupt: {}", Corruption::HugeEvent)),
        ("split-utf8", "complete".to_owned()),
        ("status=503,retry-after=2", "refused".to_owned()),
    ];
    for (fault, end) in cases {
        server.set_fault(fault).expect("a known fault");
        let report = run(LoadPlan {
            streaming_share: 1.0,
            usage_share: 1.0,
            requests_max: 3,
            workload: Workload::Fixed(Size { prompt_tokens: 50, output_tokens: 20 }),
            ..plan(&server)
        });
        let report = report.await.expect("a report");
        assert_eq!(report.all.ends.get(&end), Some(&3), "{fault}: {:?}", report.all.ends);
        assert_eq!(report.all.attained, if end == "complete" { 3 } else { 0 });
    }
}

#[tokio::test]
async fn a_refused_client_comes_again_as_told_and_its_time_runs_on() {
    let server = instant().await;
    server.set_fault("status=503,retry-after=1,times=1").expect("a known fault");

    let report = run(LoadPlan {
        requests_max: 1,
        streaming_share: 1.0,
        retry: Retry { attempts_max: 2, obedient: true },
        keep_outcomes: true,
        ..plan(&server)
    });
    let report = report.await.expect("a report");

    let outcome = &report.outcomes[0];
    assert_eq!((outcome.attempts, outcome.status), (2, 200));
    assert!(outcome.ttft.expect("it streamed") >= Duration::from_secs(1), "it counts from when it was due");
    assert_eq!(report.all.retries, 1);
    assert_eq!(server.totals().requests, 2);
}

#[tokio::test]
async fn clients_that_leave_are_seen_by_the_server() {
    let server = instant().await;
    server.set_fault("gap=2ms").expect("a known directive");

    let report =
        run(LoadPlan { streaming_share: 1.0, abandon_share: 1.0, requests_max: 20, ..plan(&server) });
    let report = report.await.expect("a report");

    let left = report.all.ends.get("abandoned").copied().unwrap_or(0);
    assert!(left > 10, "{:?}", report.all.ends);
    let seen = tokio::time::timeout(Duration::from_secs(10), async {
        while server.totals().disconnects + server.totals().finished < 20 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    seen.await.expect("the server notices every end");
    // A client that leaves at the last chunk may find that the server has already finished.
    let totals = server.totals();
    assert!(totals.disconnects * 10 >= left * 8, "{left} left, {} seen", totals.disconnects);
}

#[tokio::test]
async fn callers_are_drawn_by_weight_and_summed_up_by_tier() {
    let server = instant().await;
    let caller = |tier: &str, weight| Caller { tier: tier.to_owned(), weight, ..Caller::anonymous() };

    let run =
        start(LoadPlan { callers: vec![caller("priority", 1.0), caller("regular", 3.0)], ..plan(&server) })
            .expect("a thread");
    let live = std::sync::Arc::clone(&run.live);
    let report = run.report().await.expect("a report");

    let share = report.tiers["priority"].offered as f64 / report.all.offered as f64;
    assert!((0.1..0.45).contains(&share), "{share}");
    let offered: u64 =
        live.tiers.iter().map(|tier| tier.offered.load(std::sync::atomic::Ordering::Relaxed)).sum();
    assert_eq!(offered, report.all.offered);
    assert!(live.tiers.iter().all(|tier| tier.in_flight.load(std::sync::atomic::Ordering::Relaxed) == 0));
}

#[tokio::test]
async fn a_closed_loop_keeps_its_connections_busy_until_the_count_is_reached() {
    let server = instant().await;

    let report = run(LoadPlan {
        mode: Mode::Closed { connections: 4, duration: Duration::from_secs(20) },
        requests_max: 300,
        bodies: 16,
        ..plan(&server)
    });
    let report = report.await.expect("a report");

    assert_eq!(report.all.ends.get("complete"), Some(&300), "{:?}", report.all.ends);
}

#[tokio::test]
async fn nobody_there_is_an_outcome_and_not_an_error() {
    let server = instant().await;
    let plan = LoadPlan { requests_max: 3, ..plan(&server) };
    server.stop().await;

    let report = run(plan).await.expect("a report");

    assert_eq!(report.all.ends.get("connect"), Some(&3));
    assert_eq!(report.all.attainment, 0.0);
}
