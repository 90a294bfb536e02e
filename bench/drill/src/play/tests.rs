//! The harness itself: that it is deterministic, loses nothing, sees what it should, and is quick.

use std::time::Duration;

use engine::profile::Profile;
use engine::workload::{Size, Workload};
use shedder::Tier;

use super::play;
use crate::policy::Policy;
use crate::run::{Limit, Outcome, Run};
use crate::scenario::fleet::{Deployment, Requests, Route};
use crate::scenario::traffic::Stream;
use crate::scenario::{Client, Incident, Prefixes, Retry, Scenario, Slo};
use crate::settings::Setting;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn short(load: f64) -> Scenario {
    Scenario { warm_up: seconds(10), end: seconds(40), ..Setting::CHAT.scenario(5, load, 1.0) }
}

fn policies() -> [Policy; 6] {
    [
        Policy::Shipped,
        Policy::held_at(40.0),
        Policy::NoControl,
        Policy::QueueOrMemory,
        Policy::FixedConcurrency { places: 70, wait: seconds(60), regular: 1.0 },
        Policy::FixedConcurrency { places: 70, wait: Duration::from_millis(1_700), regular: 0.85 },
    ]
}

/// Everything that can go wrong at once.
fn storm(seed: u64) -> Scenario {
    let mut scenario = Scenario { seed, ..short(2.0) };
    scenario.incidents = vec![
        (seconds(15), Incident::Lost(1)),
        (seconds(16), Incident::MetricsFrozen),
        (seconds(22), Incident::Back(1)),
        (seconds(25), Incident::MetricsBack),
        (seconds(30), Incident::Lost(0)),
    ];
    for source in &mut scenario.sources {
        source.streaming = 0.5;
        source.prefixes = Prefixes::Conversations { continued: 50 };
        source.context = 8_000;
        source.steps = vec![(seconds(20), 0.5), (seconds(30), 2.0)];
        source.client = Client {
            retry: Some(Retry { tries: 2, obeys: seed.is_multiple_of(2) }),
            patience: Some(seconds(3)),
        };
    }
    scenario
}

#[test]
fn the_same_scenario_gives_the_same_run_to_the_bit() {
    for policy in policies() {
        assert_eq!(play(&storm(9), &policy), play(&storm(9), &policy), "{}", policy.name());
    }
    assert_ne!(play(&storm(9), &Policy::Shipped), play(&storm(10), &Policy::Shipped));
}

/// Each request has one end per try, each policy has forgotten everybody, and no call came for someone unknown.
#[test]
fn every_try_ends_once_and_every_place_comes_back() {
    for policy in policies() {
        for seed in 1..=2 {
            let scenario = storm(seed);
            let asked: usize = Stream::all(&scenario).into_iter().map(Iterator::count).sum();

            let run = play(&scenario, &policy);

            let first_tries = run.ended.iter().filter(|ended| ended.number == 0).count();
            assert_eq!(first_tries, asked, "{} {seed}", policy.name());
            let mut tickets: Vec<u32> = run.ended.iter().map(|ended| ended.ticket).collect();
            tickets.sort_unstable();
            tickets.dedup();
            assert_eq!(tickets.len(), run.ended.len(), "{} {seed}", policy.name());
            assert!(run.at_rest, "{} {seed}", policy.name());
            let came_back = run.ended.iter().any(|ended| ended.number > 0);
            assert!(came_back || policy != Policy::Shipped, "whoever is refused tries again");
        }
    }
}

fn met_requests(run: &Run) -> u64 {
    run.count(|_| true).1
}

/// What engines computed for an answered request is its prompt and its answer, once.
#[test]
fn work_of_an_answered_request_is_its_uncached_prompt_and_its_answer() {
    let run = play(&short(0.5), &Policy::Shipped);
    assert!(met_requests(&run) > 300);
    for ended in run.judged().filter(|ended| ended.is_met()) {
        assert_eq!(ended.tokens, ended.size.output_tokens);
        assert_eq!(ended.work, u64::from(ended.size.prompt_tokens + ended.size.output_tokens));
    }
}

/// On an idle fleet a first token comes after prefill, network both ways and nothing else.
#[test]
fn an_idle_fleet_answers_in_the_time_of_the_model() {
    let scenario = short(0.01);
    let run = play(&scenario, &Policy::Shipped);
    assert!(!run.ended.is_empty());
    for ended in &run.ended {
        let own = scenario.fleet().profile.idle_prefill(ended.size.prompt_tokens) + 2 * scenario.network;
        let ttft = ended.ttft.expect("answered");
        assert!(ttft >= own && ttft < own + Duration::from_millis(20), "{ttft:?}, alone {own:?}");
    }
}

/// Past the knee an uncontrolled fleet meets nothing any more, and computes everything in vain.
#[test]
fn without_control_there_is_no_middle() {
    let run = play(&Setting::CHAT.scenario(1, 2.0, 1.0), &Policy::NoControl);
    assert_eq!(met_requests(&run), 0);
    assert!(run.waste() > 0.99);
    let calm = play(&Setting::CHAT.scenario(1, 1.0, 1.0), &Policy::NoControl);
    assert!(calm.attained_of(|_| true) > 0.98, "{}", calm.summary());
}

#[test]
fn requests_on_a_lost_replica_break_or_go_elsewhere_and_later_ones_are_served() {
    let mut scenario = short(0.6);
    scenario.incidents = vec![(seconds(20), Incident::Lost(2))];

    let run = play(&scenario, &Policy::Shipped);

    let broken = |ended: &&crate::run::Ended| ended.outcome == Outcome::Broken;
    let last = seconds(20) + 3 * scenario.network;
    assert!((10..60).contains(&run.ended.iter().filter(broken).count()));
    assert!(run.ended.iter().filter(broken).all(|ended| ended.tried <= last));
    assert!(run.attained_of(|ended| ended.tried > seconds(22)) > 0.99, "{}", run.summary());
}

#[test]
fn frozen_metrics_show_nothing_and_impatient_clients_leave() {
    let mut scenario = short(2.0);
    scenario.incidents = vec![(Duration::ZERO, Incident::MetricsFrozen)];
    scenario.sources.iter_mut().for_each(|source| source.client.patience = Some(Duration::from_millis(500)));

    let run = play(&scenario, &Policy::QueueOrMemory);

    assert!(run.shed().is_empty(), "the rule never saw a full engine");
    let left = run.count(|ended| ended.outcome == Outcome::Left);
    assert!(left.0 > 500 && left.1 == 0, "{left:?}");
    let waited = run.judged().filter(|ended| ended.outcome == Outcome::Left).map(|e| e.ended - e.tried);
    assert!(waited.into_iter().all(|waited| waited == Duration::from_millis(500)));
}

/// The same prompts again and again are computed once a replica, and the gateway knows.
#[test]
fn prompts_of_a_pool_are_cached_after_their_first_time() {
    let mut scenario = short(0.5);
    scenario.sources.iter_mut().for_each(|source| source.prefixes = Prefixes::Pool { prompts: 10 });

    let run = play(&scenario, &Policy::Shipped);

    let late = run.judged().filter(|ended| ended.tried > seconds(20) && ended.size.prompt_tokens > 64);
    let (prompt, cached) = late
        .fold((0, 0), |(prompt, cached), ended| (prompt + ended.size.prompt_tokens, cached + ended.cached));
    assert!(f64::from(cached) > 0.95 * f64::from(prompt), "{cached} of {prompt}");
}

#[test]
fn priority_alone_are_the_same_requests() {
    let scenario = short(2.0);
    let alone = play(&Scenario { only: Some(Tier::Priority), ..scenario.clone() }, &Policy::NoControl);
    let among = play(&scenario, &Policy::NoControl);
    let sizes = |run: &Run| {
        let mut of: Vec<_> = run.ended.iter().filter(|ended| ended.tier == Tier::Priority).collect();
        of.sort_by_key(|ended| ended.asked);
        of.into_iter().map(|ended| (ended.asked, ended.size.prompt_tokens)).collect::<Vec<_>>()
    };
    assert_eq!(sizes(&alone), sizes(&among));
    assert!(alone.ended.iter().all(|ended| ended.tier == Tier::Priority));
}

/// One engine with four slots that it tells and short answers, offered just what it bears: found before a llama-server, of
/// which a third was kept free for priority, which would have waited a fifth of a second for a slot.
#[test]
fn of_a_small_engine_nearly_all_is_used() {
    let bears = 4.0 / 0.8;
    let mut scenario =
        Scenario { warm_up: seconds(20), end: seconds(200), ..Setting::CHAT.scenario(1, 1.0, 1.0) };
    scenario.fleet_mut().profile = Profile::named("llamacpp-4").expect("a profile");
    scenario.fleet_mut().replicas = 1;
    scenario.fleet_mut().slo = Slo { ttft: Duration::from_millis(2_400), tpot: Duration::from_millis(60) };
    for source in &mut scenario.sources {
        source.rate_per_s = bears;
        source.workload = Workload::Fixed(Size { prompt_tokens: 44, output_tokens: 34 });
    }

    let run = play(&scenario, &Policy::Shipped);

    let met = |tier: Option<Tier>| {
        let (all, met) = run.count(|ended| tier.is_none_or(|tier| ended.tier == tier));
        met as f64 / all as f64
    };
    assert!(met(Some(Tier::Priority)) >= 0.999, "{}", met(Some(Tier::Priority)));
    assert!(met(None) >= 0.9, "{}", met(None));
}

/// Two models share a pool that the first of them has for priority alone.
fn with_a_pool(load: f64) -> Scenario {
    let mut scenario = short(load);
    let pool = Deployment { name: "pool".to_owned(), ..Deployment::of(Setting::CHAT.engine(), 1) };
    scenario.deployments.push(pool);
    let tiers = shedder::PerTier { priority: true, ..shedder::PerTier::default() };
    scenario.models[0].routes.push(Route { deployment: 1, weight: None, tiers, accounts: None });
    scenario
}

#[test]
fn priority_spills_over_where_regular_may_not_and_all_comes_back() {
    let alone = play(&short(3.0), &Policy::Shipped);
    let pooled = play(&with_a_pool(3.0), &Policy::Shipped);

    assert!(pooled.at_rest, "every sum is zero in the end");
    assert!(pooled.attained(Tier::Priority) >= alone.attained(Tier::Priority) - 0.002);
    let on_pool =
        pooled.inside.iter().filter_map(|inside| inside.replicas.get(4)).map(|replica| replica.active).max();
    assert!(on_pool.is_some_and(|active| active > 0), "the pool was used");
    assert!(
        pooled.attained(Tier::Regular) > alone.attained(Tier::Regular),
        "what went there left room for others"
    );
}

#[test]
fn requests_per_minute_and_at_once_are_the_accounts_own_limits() {
    let mut scenario = short(0.5);
    scenario.requests = (0..40).map(|account| Requests { account, per_minute: 6, concurrency: 1 }).collect();

    let run = play(&scenario, &Policy::Shipped);

    let limited =
        |limit: Limit| run.ended.iter().filter(|ended| ended.outcome == Outcome::Limited(limit)).count();
    assert!(limited(Limit::Requests) > 20, "{}", limited(Limit::Requests));
    assert!(limited(Limit::Concurrency) > 20, "{}", limited(Limit::Concurrency));
    assert!(run.at_rest && run.ended.iter().all(|ended| !matches!(ended.outcome, Outcome::Shed(_))));
}

/// Another process goes on where one stopped: nobody is lost, and N stays where it was.
#[test]
fn an_upgrade_in_mid_drill_keeps_what_was_learnt() {
    let limit_at = |run: &Run, second: u64| {
        run.seconds.iter().find(|at| at.at_s == second).map_or(f64::NAN, |at| at.gauges.limit)
    };
    let mut scenario = short(2.0);
    let plain = play(&scenario, &Policy::Shipped);
    scenario.incidents.push((seconds(25), Incident::GatewayUpgraded));
    let upgraded = play(&scenario, &Policy::Shipped);

    assert_eq!(upgraded.ended.len(), plain.ended.len());
    let (before, after) = (limit_at(&upgraded, 24), limit_at(&upgraded, 26));
    assert!((after / before - 1.0).abs() < 0.08, "{before} and {after}");
    let lost = plain.attained(Tier::Priority) - upgraded.attained(Tier::Priority);
    assert!(lost < 0.01, "{lost}");
    assert!(upgraded.at_rest);
}
