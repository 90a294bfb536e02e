//! Whose fault a failure is: the request's own, the replica's, or not known; and that nobody else pays for it.

use super::{Fleet, fleet, fleet_of, words};
use kit::base_config::PLAIN_KEY;
use kit::hostile::{Act, Asked, Hostile, beginning, ordinary, word};
use kit::shape::{POOLED, STREAMED, read};
use kit::{KEY, eventually};
use protocol::api::Api;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

const WORDS: &str = "Grammar error: Invalid json_schema";

/// An event that refuses the request itself, in the words of each API and engine.
fn refusing_events(api: Api) -> Vec<Act> {
    let inner = json!({ "message": WORDS, "type": "BadRequestError", "param": null, "code": 400 });
    match api {
        Api::Messages => {
            let error = json!({ "type": "invalid_request_error", "message": WORDS });
            vec![Act::Named("error", json!({ "error": error }))]
        }
        Api::Responses => {
            let error = json!({ "code": "invalid_prompt", "message": WORDS });
            let response =
                json!({ "id": "resp_1", "object": "response", "status": "failed", "error": error });
            vec![
                Act::Named("response.failed", json!({ "sequence_number": 0, "response": response })),
                Act::Event(json!({ "error": inner })),
            ]
        }
        _ => vec![
            Act::Event(json!({ "error": inner })),
            Act::Event(
                json!({ "object": "error", "message": WORDS, "type": "BadRequestError", "param": null, "code": 400 }),
            ),
        ],
    }
}

/// A 200 that says in its first event that the request is bad is the client's 400: in the engine's words, sent once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f01_an_error_in_the_first_event_is_the_clients_400() {
    for api in STREAMED {
        for event in refusing_events(api) {
            let script = move |_: &Asked| vec![Act::Sse, event.clone(), Act::End];
            let fleet = fleet(2, json!({}), script).await;

            let answer = fleet.call(api, json!({ "stream": true })).await;

            let what = format!("{api:?}: {}", answer.text());
            assert_eq!(answer.status, 400, "{what}");
            assert!(words(&answer).contains(WORDS), "{what}");
            assert_ne!(answer.header("x-should-retry"), "true", "{what}");
            assert_eq!(fleet.sent("tide"), 1, "{what}: sent once");
            fleet.assert_nobody_blamed(&what).await;
            fleet.gateway.invariants().await;
        }
    }
}

/// The same in a whole body, of any API.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f01_an_error_as_a_whole_200_body_is_the_clients_400() {
    let bodies = [
        json!({ "error": { "message": WORDS, "type": "BadRequestError", "param": null, "code": 400 } }),
        json!({ "object": "error", "message": WORDS, "type": "BadRequestError", "param": null, "code": 400 }),
        json!({ "type": "error", "error": { "type": "invalid_request_error", "message": WORDS } }),
        json!({ "detail": WORDS }),
    ];
    let script = {
        let bodies = bodies.clone();
        move |asked: &Asked| {
            let nth = (0..bodies.len()).find(|nth| asked.has(&format!("form-{nth}"))).unwrap();
            vec![Act::Json(200, bodies[nth].clone())]
        }
    };
    let fleet = fleet(2, json!({}), script).await;
    for api in STREAMED.into_iter().chain(POOLED) {
        for (nth, body) in bodies.iter().enumerate() {
            let marker = format!("form-{nth}-{api:?}");

            let answer = fleet.call(api, json!({ "user": marker })).await;

            let what = format!("{api:?}, {body}: {}", answer.text());
            assert_eq!(answer.status, 400, "{what}");
            assert!(words(&answer).contains(WORDS), "{what}");
            assert_eq!(fleet.sent(&marker), 1, "{what}: sent once");
        }
    }
    fleet.assert_nobody_blamed("a whole body").await;
    fleet.gateway.invariants().await;
}

/// After the first token it comes in the API's own frame, and is no fault of the replica either.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f01_an_error_after_the_first_token_is_told_and_blames_nobody() {
    for api in STREAMED {
        for event in refusing_events(api) {
            let script = move |asked: &Asked| {
                let mut acts = vec![Act::Sse];
                acts.extend(beginning(asked));
                acts.extend(word(asked, "hello"));
                acts.extend([event.clone(), Act::End]);
                acts
            };
            let fleet = fleet(2, json!({}), script).await;

            let answer = fleet.call(api, json!({ "stream": true })).await;

            let what = format!("{api:?}: {}", answer.text());
            assert_eq!((answer.status, answer.clean), (200, false), "{what}");
            let read = read(api, &answer);
            assert!(!read.whole && read.text == "hello", "{what}");
            assert!(words(&answer).contains(WORDS), "{what}");
            assert_eq!(fleet.sent("tide"), 1, "{what}: sent once");
            fleet.assert_nobody_blamed(&what).await;
            fleet.gateway.invariants().await;
        }
    }
}

/// A page of a proxy before the engine is not an engine's words.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f01_a_page_of_html_is_never_quoted() {
    let page =
        "<!DOCTYPE html><html><head><title>400</title></head><body><h1>nginx-internal-7</h1></body></html>";
    for status in [200, 400, 404, 413, 422, 500, 502] {
        let script = move |_: &Asked| vec![Act::Whole(status, "text/html", page.to_owned())];
        let fleet = fleet(1, json!({}), script).await;
        for api in [Api::Chat, Api::Messages, Api::Embeddings] {
            let answer = fleet.call(api, json!({})).await;
            assert!(answer.status >= 400, "{status}, {api:?}: {}", answer.text());
            let quoted = ["<html", "<h1", "nginx-internal-7"].iter().any(|part| answer.text().contains(part));
            assert!(!quoted, "{status}, {api:?}: {}", answer.text());
        }
    }
}

/// What bad requests of one account did to another.
struct Beside {
    fleet: Arc<Fleet>,
    /// How many of the other account's requests ended with each status.
    others: BTreeMap<u16, u32>,
    /// Bad requests that clients sent.
    bad: usize,
    /// Most replicas that were out at once.
    out: usize,
}

/// Two loops of `bad` requests beside twelve loops of another account's priority requests, before four replicas of four
/// places.
async fn beside(bad: impl Fn() -> Vec<Act> + Clone + Send + Sync + 'static, more: Value) -> Beside {
    let script = move |asked: &Asked| {
        if asked.has("POISON") {
            return bad();
        }
        let mut acts = vec![Act::Pause(Duration::from_millis(300))];
        acts.extend(ordinary(asked));
        acts
    };
    let deployment = json!({ "limit": 4, "slo": { "ttft_ms": 300, "tpot_ms": 100 } });
    let fleet = Arc::new(fleet(4, deployment, script).await);
    let over = Arc::new(AtomicBool::new(false));
    let mut poison = JoinSet::new();
    for nth in 0..2 {
        let (fleet, over, more) = (Arc::clone(&fleet), Arc::clone(&over), more.clone());
        poison.spawn(async move {
            let (mut sent, mut out) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                let mut more = more.clone();
                more["user"] = json!(format!("POISON-{nth}-{sent}-"));
                fleet.call_as(PLAIN_KEY, Api::Chat, more).await;
                sent += 1;
                out = out.max(fleet.in_service().await.iter().filter(|up| !**up).count());
                // One client's pace; the other attempts go on in between.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            (sent, out)
        });
    }
    let mut loops = JoinSet::new();
    for _ in 0..12 {
        let fleet = Arc::clone(&fleet);
        loops.spawn(async move {
            let mut statuses = Vec::new();
            for _ in 0..6 {
                let priority = json!({ "service_tier": "priority", "stream": true });
                statuses.push(fleet.call(Api::Chat, priority).await.status);
            }
            statuses
        });
    }
    let mut others = BTreeMap::new();
    for status in loops.join_all().await.into_iter().flatten() {
        *others.entry(status).or_insert(0) += 1;
    }
    over.store(true, Ordering::Relaxed);
    let poison = poison.join_all().await;
    let bad = poison.iter().map(|(sent, _)| sent).sum();
    let out = poison.iter().map(|(_, out)| *out).max().unwrap_or(0);
    Beside { fleet, others, bad, out }
}

/// Bad requests of one account cost another account's priority requests nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f01_requests_that_are_refused_in_the_first_event_cost_others_nothing() {
    let bad = || vec![Act::Sse, refusing_events(Api::Chat).remove(0), Act::End];

    let beside = beside(bad, json!({ "stream": true })).await;

    assert_eq!((beside.out, beside.others), (0, BTreeMap::from([(200, 72)])));
    assert!(beside.bad > 10, "{} bad ones", beside.bad);
    assert!(beside.fleet.sent("POISON") <= beside.bad, "each is sent once");
    beside.fleet.assert_nobody_blamed("beside").await;
}

/// A 500 with an error body, in words that nobody has listed.
fn frobnicated(_: &Asked) -> Vec<Act> {
    let error =
        json!({ "code": 500, "message": "Frobnication of the lattice failed", "type": "server_error" });
    vec![Act::Json(500, json!({ "error": error }))]
}

/// Asserts that bodies which every engine answers with 500 cost others nothing.
async fn assert_failing_costs_nothing(more: Value) {
    let error = json!({ "error": { "code": 500, "message": "Frobnication failed", "type": "server_error" } });

    let beside = beside(move || vec![Act::Json(500, error.clone())], more).await;

    assert_eq!((beside.out, beside.others), (0, BTreeMap::from([(200, 72)])));
    let sent = beside.fleet.sent("POISON");
    assert!(beside.bad > 10 && sent <= 2 * beside.bad, "{} became {sent}", beside.bad);
}

/// Requests that make every engine answer 500 cost others nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f02_requests_that_fail_everywhere_cost_others_nothing() {
    assert_failing_costs_nothing(json!({})).await;
}

/// Nor do they where all of them go to one replica first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f02_requests_that_fail_everywhere_and_are_pinned_cost_others_nothing() {
    assert_failing_costs_nothing(json!({ "prompt_cache_key": "pinned", "stream": true })).await;
}

/// What fails on two replicas is the request's own or nobody's: sent twice, told in a fixed sentence, blamed on nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f02_a_500_that_comes_from_two_replicas_is_sent_twice_and_blames_nobody() {
    for replicas in [2, 4] {
        let fleet = fleet(replicas, json!({}), frobnicated).await;
        for (nth, api) in STREAMED.into_iter().chain(POOLED).cycle().take(14).enumerate() {
            let marker = format!("body-{nth}-");

            let answer = fleet
                .call(api, json!({ "user": marker, "stream": api.form().streams && nth % 2 == 0 }))
                .await;

            let what = format!("{replicas} replicas, {api:?}: {}", answer.text());
            assert_eq!((answer.status, answer.header("x-should-retry")), (502, "false"), "{what}");
            assert!(!answer.text().contains("lattice"), "{what}: a fixed sentence");
            assert_eq!(fleet.sent(&marker), 2, "{what}: sent twice");
            assert!(fleet.engines.iter().all(|engine| engine.count(&marker) <= 1), "{what}: to two replicas");
        }
        assert!(fleet.in_service().await.iter().all(|up| *up), "{replicas}: nobody is out");
        fleet.gateway.invariants().await;
    }
}

/// With one replica there is nowhere to send it; the deployment stays open.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f02_a_500_of_the_only_replica_closes_nothing() {
    let script = |asked: &Asked| if asked.has("POISON") { frobnicated(asked) } else { ordinary(asked) };
    let fleet = fleet(1, json!({}), script).await;

    for nth in 0..12 {
        let answer = fleet.call(Api::Chat, json!({ "user": format!("POISON-{nth}-") })).await;
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert_eq!(fleet.sent(&format!("POISON-{nth}-")), 1);
        assert_eq!(fleet.call(Api::Chat, json!({})).await.status, 200, "after {nth}");
    }
    assert_eq!(fleet.in_service().await, [true]);
}

/// One replica that answers 500 to everything is mended by the other, and is out once three bodies were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f02_a_replica_that_alone_fails_is_out_and_nobody_notices() {
    let engines = vec![Hostile::start(frobnicated).await, Hostile::start(ordinary).await];
    let fleet = fleet_of(engines, json!({})).await;

    for nth in 0..60 {
        let more = json!({ "user": format!("body-{nth}"), "stream": nth % 2 == 0 });
        let answer = fleet.call(Api::Chat, more).await;
        assert_eq!(answer.status, 200, "{nth}: {}", answer.text());
    }
    let failed = fleet.engines[0].count("body-");
    assert!((3..=10).contains(&failed), "the broken one had {failed} of 60");
    assert_eq!(fleet.in_service().await, [false, true]);
    fleet.gateway.invariants().await;
}

/// One body again and again is one piece of evidence, whatever pins it to its replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f02_repeating_one_body_makes_no_outlier() {
    let script = |asked: &Asked| if asked.has("POISON") { frobnicated(asked) } else { ordinary(asked) };
    let mut asked = 0;
    // One of the two is where it is pinned.
    for broken in [0, 1] {
        let mut engines = vec![Hostile::start(ordinary).await];
        engines.insert(broken, Hostile::start(script).await);
        let fleet = fleet_of(engines, json!({})).await;
        for _ in 0..30 {
            let answer =
                fleet.call(Api::Chat, json!({ "user": "POISON", "prompt_cache_key": "pinned" })).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(fleet.in_service().await, [true, true]);
        }
        asked += fleet.engines[broken].count("POISON");
    }
    assert!(asked > 0, "the broken one was never asked");
}

/// Sentences with which engines answer 500 to a client's mistake.
const KNOWN: [&str; 5] = [
    "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
    "Failed to parse grammar",
    "Missing 'role' in message: {\"content\":\"x\"}",
    "input is too large to process. increase the physical batch size",
    "JSON schema conversion failed:\nUnrecognized schema: {\"type\":\"strin\"}",
];

/// A 500 in words that are known to be a client's mistake is a 400 in these words, sent once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f02_known_sentences_of_a_500_are_the_clients_400() {
    let script = |asked: &Asked| {
        let sentence = (0..KNOWN.len()).find(|nth| asked.has(&format!("known-{nth}")));
        let error = json!({ "code": 500, "message": KNOWN[sentence.unwrap()], "type": "server_error" });
        vec![Act::Json(500, json!({ "error": error }))]
    };
    let fleet = fleet(2, json!({ "engine": "llamacpp" }), script).await;
    for (nth, sentence) in KNOWN.iter().enumerate() {
        for stream in [false, true] {
            let marker = format!("known-{nth}-{stream}");

            let answer = fleet.call(Api::Chat, json!({ "user": marker, "stream": stream })).await;

            assert_eq!(answer.status, 400, "{sentence}: {}", answer.text());
            assert!(words(&answer).contains(&sentence[..20]), "{sentence}: {}", answer.text());
            assert_eq!(fleet.sent(&marker), 1, "{sentence}: sent once");
        }
    }
    fleet.assert_nobody_blamed("known sentences").await;
}

/// How engines say that they have not got a model.
fn without_model(asked: &Asked) -> Vec<Act> {
    let model = asked.json()["model"].as_str().unwrap_or_default().to_owned();
    let flat = |code: u16, message: String| json!({ "object": "error", "message": message, "type": "NotFoundError", "param": null, "code": code });
    vec![match asked.json()["seed"].as_u64().unwrap_or(0) {
        0 => Act::Json(404, flat(404, format!("The model `{model}` does not exist."))),
        1 => Act::Json(400, flat(400, format!("model `{model}` not found"))),
        _ => Act::Json(404, json!({ "error": flat(404, format!("The model `{model}` does not exist.")) })),
    }]
}

/// A replica without the model is out for that model alone, loses nobody a request, and does not attract by being quick.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f03_a_replica_without_the_model_loses_nothing_and_attracts_nothing() {
    for seed in [0, 1, 2] {
        let lacks = |asked: &Asked| {
            if asked.json()["model"] == "sim" { without_model(asked) } else { ordinary(asked) }
        };
        let slow = |asked: &Asked| {
            let mut acts = vec![Act::Pause(Duration::from_millis(20))];
            acts.extend(ordinary(asked));
            acts
        };
        let engines = vec![Hostile::start(lacks).await, Hostile::start(slow).await];
        let fleet = Arc::new(fleet_of(engines, json!({})).await);

        for nth in 0..20 {
            let answer = fleet.call(Api::Chat, json!({ "seed": seed, "user": format!("one-{nth}") })).await;
            assert_eq!(answer.status, 200, "form {seed}, {nth}: {}", answer.text());
        }
        let mut at_once = JoinSet::new();
        for worker in 0..8 {
            let fleet = Arc::clone(&fleet);
            at_once.spawn(async move {
                for nth in 0..10 {
                    let more = json!({ "seed": seed, "user": format!("many-{worker}-{nth}"), "stream": nth % 2 == 0 });
                    let answer = fleet.call(Api::Chat, more).await;
                    assert_eq!(answer.status, 200, "form {seed}: {}", answer.text());
                }
            });
        }
        at_once.join_all().await;
        let asked = fleet.engines[0].count("\"model\":\"sim\"");
        assert!(asked <= 10, "form {seed}: the replica without the model had {asked} of 100");
        assert!(fleet.failures().await >= 1.0, "it is counted");
    }
}

/// Its other models do not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f03_other_models_of_the_replica_do_not_notice() {
    let lacks =
        |asked: &Asked| if asked.json()["model"] == "sim" { without_model(asked) } else { ordinary(asked) };
    let engines = vec![Hostile::start(lacks).await, Hostile::start(ordinary).await];
    let fleet = fleet_of(engines, json!({})).await;
    let mut others = 0;
    for nth in 0..40 {
        let answer = fleet.call(Api::Chat, json!({ "user": format!("lacking-{nth}") })).await;
        assert_eq!(answer.status, 200, "{nth}: {}", answer.text());
        let other = json!({ "model": "other-model", "prompt_cache_key": format!("{nth}") });
        let answer = fleet.call(Api::Chat, other).await;
        assert_eq!(answer.status, 200, "{nth}: {}", answer.text());
        others += u32::from(answer.header("x-tidegate-replica") == fleet.engines[0].url());
    }
    assert!(others >= 5, "the replica had {others} of 40 requests of a model that it has");
    assert_eq!(fleet.in_service().await, [true, true]);
}

/// A route that one replica lacks is served by the other, and its other routes do not notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f03_a_replica_without_the_route_is_out_for_that_route_alone() {
    let lacks = |asked: &Asked| {
        if asked.path.ends_with("/embeddings") {
            return vec![Act::Json(404, json!({ "detail": "Not Found" }))];
        }
        ordinary(asked)
    };
    let engines = vec![Hostile::start(lacks).await, Hostile::start(ordinary).await];
    let fleet = fleet_of(engines, json!({})).await;
    for nth in 0..20 {
        let answer = fleet.call(Api::Embeddings, json!({ "user": format!("lacking-{nth}") })).await;
        assert_eq!(answer.status, 200, "{nth}: {}", answer.text());
        assert_eq!(fleet.call(Api::Chat, json!({})).await.status, 200, "{nth}");
    }
    assert!(fleet.engines[0].count("lacking") <= 5, "it had {} of 20", fleet.engines[0].count("lacking"));
    assert_eq!(fleet.in_service().await, [true, true]);
}

/// Where no replica has it, that is a 404 with the name that the client used.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f03_a_model_that_all_replicas_lack_is_a_404_with_the_public_name() {
    let engines = vec![Hostile::start(without_model).await, Hostile::start(without_model).await];
    let fleet = fleet_of(engines, json!({ "models": { "served_model": "/srv/weights/internal-7b" } })).await;
    for api in STREAMED.into_iter().chain(POOLED) {
        for seed in [0, 1] {
            let answer = fleet.call(api, json!({ "seed": seed })).await;
            let what = format!("{api:?}, form {seed}: {}", answer.text());
            assert_eq!(answer.verdict(), (404, "not-found"), "{what}");
            assert!(words(&answer).contains("sim") && !answer.text().contains("internal-7b"), "{what}");
        }
    }
    assert!(fleet.in_service().await.iter().all(|up| *up));
    fleet.gateway.invariants().await;
}

/// Four engines, one of which is brought to life again only by the test.
async fn mortals() -> Fleet {
    let script = |asked: &Asked| {
        if asked.has("POISON") {
            return vec![Act::Pause(Duration::from_millis(20)), Act::Die];
        }
        if asked.has("slow") {
            // Longer than a busy machine takes to send all of them.
            let mut acts = vec![Act::Pause(Duration::from_millis(1_500))];
            acts.extend(ordinary(asked));
            return acts;
        }
        ordinary(asked)
    };
    fleet(4, json!({}), script).await
}

/// What two replicas died of is not sent to a third, however often it is repeated; everybody else is served.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f04_a_request_that_two_replicas_died_of_kills_no_third() {
    for api in [Api::Chat, Api::Completions, Api::Responses, Api::Messages, Api::Embeddings] {
        let fleet = mortals().await;
        for nth in 0..6 {
            let stream = json!({ "user": "POISON", "stream": api.form().streams });
            let answer = fleet.call(api, stream).await;
            let what = format!("{api:?}, {nth}: {}", answer.text());
            assert_eq!((answer.status, answer.header("x-should-retry")), (502, "false"), "{what}");
            assert_eq!(fleet.call(api, json!({})).await.status, 200, "{what}");
        }
        let deaths: u64 = fleet.engines.iter().map(Hostile::deaths).sum();
        assert_eq!(deaths, 2, "{api:?}: replicas died");
        fleet.gateway.invariants().await;
    }
}

/// A power cut with somebody's request in flight on each replica locks nobody out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f04_a_power_cut_locks_nobody_out() {
    let fleet = Arc::new(mortals().await);
    let mut in_flight = JoinSet::new();
    for nth in 0..24 {
        let fleet = Arc::clone(&fleet);
        // The same body on several replicas, as a monitoring probe is, between others.
        let user = if nth % 2 == 0 { "slow probe".to_owned() } else { format!("slow {nth}") };
        in_flight.spawn(async move { fleet.call(Api::Chat, json!({ "user": user })).await.status });
    }
    eventually("all are under way", || async { (fleet.sent("slow") >= 24).then_some(()) }).await;
    for engine in &fleet.engines {
        engine.die();
    }
    in_flight.join_all().await;
    for engine in &fleet.engines {
        engine.revive().await;
    }

    eventually("the probe is served again", || async {
        let answer = fleet.call_as(KEY, Api::Chat, json!({ "user": "slow probe" })).await;
        assert_ne!(answer.header("x-should-retry"), "false", "{}", answer.text());
        (answer.status == 200).then_some(())
    })
    .await;
}

/// An engine that has restarted: each connection of before breaks when it is used. The second try takes a new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_f13_a_second_try_does_not_take_another_dead_connection() {
    for api in [Api::Chat, Api::Messages, Api::Embeddings] {
        let restarted = Arc::new(AtomicBool::new(false));
        let old = Arc::clone(&restarted);
        let script = move |asked: &Asked| {
            let of_before = asked.connection < 6;
            if of_before && old.load(Ordering::Relaxed) {
                return vec![Act::Reset];
            }
            let mut acts = vec![Act::Pause(Duration::from_millis(if of_before { 200 } else { 0 }))];
            acts.extend(ordinary(asked));
            acts
        };
        let fleet = Arc::new(fleet(1, json!({}), script).await);
        let mut first = JoinSet::new();
        for _ in 0..6 {
            let fleet = Arc::clone(&fleet);
            first.spawn(async move { fleet.call(api, json!({})).await.status });
        }
        assert_eq!(first.join_all().await, [200; 6]);
        fleet.gateway.invariants().await;
        restarted.store(true, Ordering::Relaxed);

        for nth in 0..3 {
            let answer = fleet.call(api, json!({ "user": format!("later-{nth}") })).await;
            assert_eq!(answer.status, 200, "{api:?}, {nth}: {}", answer.text());
            assert!(fleet.sent(&format!("later-{nth}")) <= 2, "{api:?}: a second try is the last");
        }
        fleet.assert_nobody_blamed("a restart").await;
    }
}
