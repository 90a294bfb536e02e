//! Who tries to get more than the budget has, and engines that tell what cannot be: what is answered, what is held and
//! booked for it, and that nothing stays behind.
//!
//! What is held for a request is what `RateLimit` shows as gone on its own answer, because each account here asks once.

use crate::PROGRAM;
use engine::server::EngineServer;
use kit::base_config::{account, budget};
use kit::client::{Answer, post};
use kit::recorder::Recorder;
use kit::{Gateway, ask, config, engine};
use serde_json::json;

/// Generated tokens per minute of each account.
const BUDGET: u64 = 10_000;

/// A gateway with so many accounts, `tg-0` and so on, each with a budget of its own.
async fn gateway_with(accounts: usize) -> (Gateway, EngineServer) {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    for nth in 0..accounts {
        let limits = json!({ "limits": [budget(1_000_000, 1_000_000, BUDGET)] });
        let account = account(&format!("h{nth}"), &format!("tg-{nth}"), limits);
        config["accounts"].as_array_mut().unwrap().push(account);
    }
    (Gateway::start(PROGRAM, &config).await, engine)
}

/// A chat request without a maximum of its own, with these members in its text: JSON that no library would write.
async fn send_text(gateway: &Gateway, nth: usize, members: &str) -> Answer {
    let body =
        format!(r#"{{"model":"sim","messages":[{{"role":"user","content":"Is the tide in?"}}],{members}}}"#);
    let mut request = post(&json!(null), Some(&format!("tg-{nth}")));
    *request.body_mut() = http_body_util::Full::new(body.into());
    kit::client::send(gateway.address, request).await
}

/// Tokens of the generated meter that are left by `RateLimit`.
fn generated_left(answer: &Answer) -> u64 {
    let (_, rest) = answer.header("ratelimit").split_once("\"generated\";r=").unwrap();
    rest.split(';').next().unwrap().parse().unwrap()
}

/// Tokens that an account is charged: prompt, uncached prompt, generated; debt included.
async fn charged(gateway: &Gateway, account: &str) -> [u64; 3] {
    let page = gateway.admin(&format!("/api/v1/accounts/{account}/limits")).await.json();
    let meters = page["models"].as_array().unwrap().iter().find(|model| model["model"] == "sim");
    [0, 1, 2].map(|nth| {
        let of = |name: &str| meters.map_or(0, |model| model["meters"][nth][name].as_u64().unwrap());
        of("used") + of("debt")
    })
}

/// Threats S8 and S13: numbers that an engine might read as another number, or that would overflow a reserve.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_s13_numbers_that_are_none_are_refused_and_cost_nothing() {
    let numbers = [
        "0",
        "-1",
        "1.5",
        "8.0",
        "\"8\"",
        "true",
        "[8]",
        "{}",
        "1e9",
        "1e400",
        "4294967296",
        "18446744073709551616",
        "-9223372036854775809",
    ];
    let of = |member: &str, more: &str| numbers.map(|number| format!("\"{member}\":{number}{more}"));
    let mut cases: Vec<String> = Vec::new();
    for member in ["max_tokens", "max_completion_tokens", "n_predict"] {
        cases.extend(of(member, ""));
        // The other one being in order makes it no better.
        cases.extend(of(member, ",\"n\":1"));
    }
    for member in ["n", "best_of", "n_cmpl"] {
        cases.extend(of(member, ",\"max_tokens\":8"));
        cases.extend(["129", "1000000000"].map(|n| format!("\"{member}\":{n},\"max_tokens\":8")));
    }
    cases.push("\"max_tokens\":8,\"max_completion_tokens\":-8".to_owned());
    cases.push("\"max_tokens\":8,\"MAX_TOKENS\":9000".to_owned());
    cases.push("\"n\":1,\"\\u006e\":100,\"max_tokens\":8".to_owned());
    let (gateway, engine) = gateway_with(1).await;

    for case in &cases {
        let answer = send_text(&gateway, 0, case).await;
        assert_eq!(answer.verdict(), (400, "bad-request"), "{case}: {}", answer.text());
    }

    assert_eq!(engine.totals().requests, 0, "an engine was asked");
    assert_eq!(charged(&gateway, "h0").await, [0; 3]);
    gateway.invariants().await;
    let lines = gateway.log(cases.len()).await;
    assert_eq!(lines.len(), cases.len(), "each of them is told of");
}

/// Threat S13, report A8: of two maxima the larger one counts, and what multiplies answers multiplies what is held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn threat_s13_what_is_held_follows_what_an_engine_may_obey() {
    // What is held, and what of it the engine generates: its answers end by themselves after eight tokens.
    let eight = ",\"user\":\"sim:output=8\"";
    let cases: [(&str, u64); 12] = [
        ("\"max_tokens\":40", 16),
        ("\"max_tokens\":400", 100),
        ("\"max_tokens\":4,\"max_completion_tokens\":400", 100),
        ("\"max_tokens\":400,\"max_completion_tokens\":4", 100),
        ("\"max_tokens\":4,\"max_completion_tokens\":400,\"n_predict\":40", 100),
        ("\"max_tokens\":null,\"max_completion_tokens\":400", 100),
        ("\"max_tokens\":400,\"n\":null", 100),
        ("\"max_tokens\":400,\"n\":5", 500),
        ("\"max_tokens\":400,\"best_of\":5", 500),
        ("\"max_tokens\":400,\"n\":2,\"best_of\":5,\"n_cmpl\":3", 500),
        // A maximum that says nothing, times the most choices, would be half a billion: an empty minute is enough.
        ("\"max_tokens\":4000,\"n\":128", BUDGET),
        ("\"n\":128", BUDGET),
    ];
    let (gateway, engine) = gateway_with(cases.len()).await;

    for (nth, (members, least)) in cases.iter().enumerate() {
        let answer = send_text(&gateway, nth, &format!("{members}{eight}")).await;
        assert_eq!(answer.status, 200, "{members}: {}", answer.text());
        let held = BUDGET - generated_left(&answer);
        assert!(held >= *least, "{members}: {held} held, at least {least} could come");
    }

    gateway.invariants().await;
    let mut booked = 0;
    for (nth, (members, _)) in cases.iter().enumerate() {
        let [prompt, _, generated] = charged(&gateway, &format!("h{nth}")).await;
        let several = [("\"n\":5", 5), ("\"n\":128", 128)].into_iter().find(|(n, _)| members.contains(n));
        assert!(prompt > 0 && generated > 0, "{members}");
        assert!(several.is_none_or(|(_, n)| generated == 8 * n), "{members}: {generated} booked");
        booked += generated;
    }
    assert_eq!(booked, engine.totals().generated_tokens, "what was held and did not come is free again");
}

/// The largest numbers that are numbers reach the engine, which refuses them in its own words, and nothing is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_maximum_overflows_nothing() {
    let (gateway, _engine) = gateway_with(1).await;

    let answer =
        send_text(&gateway, 0, "\"max_tokens\":4294967295,\"max_completion_tokens\":4294967295,\"n\":128")
            .await;

    assert_eq!(answer.verdict(), (400, "context-too-long"), "{}", answer.text());
    assert!(answer.text().contains("maximum context length"), "the engine's own words: {}", answer.text());
    gateway.invariants().await;
    assert_eq!(charged(&gateway, "h0").await, [0; 3], "what the engine refused costs nothing");
}

/// A prompt larger than the limit waits for an empty minute and is owed; one that is larger than the ceiling never fits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_a3_a_prompt_larger_than_a_minute_is_owed_and_one_over_the_ceiling_never_fits() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    let meters = |prompt: u64| json!({ "prompt": prompt, "uncached_prompt": prompt, "generated": BUDGET });
    let limits = json!({ "limits": [{ "start": meters(300), "ceiling": meters(3_000) }] });
    // Where limits do not move, none has a ceiling above it.
    config["limits"]["policy"] = json!("published");
    config["accounts"].as_array_mut().unwrap().push(account("small", "tg-small", limits));
    let gateway = Gateway::start(PROGRAM, &config).await;
    let of_words =
        |words: usize| ask(json!({ "messages": [{ "role": "user", "content": "tide ".repeat(words) }] }));

    let never = gateway.chat_as("tg-small", &of_words(20_000)).await;
    let larger = gateway.chat_as("tg-small", &of_words(1_000)).await;
    gateway.invariants().await;
    let next = gateway.chat_as("tg-small", &ask(json!({}))).await;

    assert_eq!(never.verdict(), (429, "prompt_tokens_limited"), "{}", never.text());
    assert_eq!((never.header("x-should-retry"), never.headers.get("retry-after")), ("false", None));
    assert_eq!(larger.status, 200, "{}", larger.text());
    assert_eq!(next.verdict(), (429, "prompt_tokens_limited"), "the debt comes first: {}", next.text());
    let [prompt, ..] = charged(&gateway, "small").await;
    assert!((900..1_200).contains(&prompt), "{prompt} is the whole prompt, and nothing of the refused ones");
}

/// What an engine told and what follows: whether its counts are booked, and how much of the prompt as uncached.
struct Told {
    usage: &'static str,
    /// Prompt and generated as booked; `None`: what was weighed and counted.
    booked: Option<(u64, u64)>,
    cached: Option<u64>,
    anomalous: bool,
}

const fn told(usage: &'static str, booked: Option<(u64, u64)>, cached: Option<u64>, anomalous: bool) -> Told {
    Told { usage, booked, cached, anomalous }
}

const USAGES: &[Told] = &[
    told(r#"{"prompt_tokens":9,"completion_tokens":2}"#, Some((9, 2)), None, false),
    told(
        r#"{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":null}"#,
        Some((9, 2)),
        None,
        false,
    ),
    told(
        r#"{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":null}}"#,
        Some((9, 2)),
        None,
        false,
    ),
    told(
        r#"{"prompt_tokens":9,"completion_tokens":2,"prompt_tokens_details":{"cached_tokens":4}}"#,
        Some((9, 2)),
        Some(4),
        false,
    ),
    told(r#"{"prompt_tokens":9.5,"completion_tokens":2.25,"cached_tokens":3.7}"#, None, None, true),
    told(r#"{"prompt_tokens":9,"completion_tokens":2,"cached_tokens":-3}"#, Some((9, 2)), None, true),
    told(r#"{"prompt_tokens":9,"completion_tokens":2,"cached_tokens":5000}"#, Some((9, 2)), Some(9), true),
    told("null", None, None, false),
    told("{}", None, None, false),
    told("[9,2]", None, None, false),
    told("7", None, None, false),
    told(r#"{"prompt_tokens":null,"completion_tokens":null}"#, None, None, false),
    told(r#"{"prompt_tokens":"9","completion_tokens":"2"}"#, None, None, true),
    // No prompt is without a token: it is charged as weighed, and the answer as told or counted.
    told(r#"{"prompt_tokens":-9,"completion_tokens":-2}"#, None, None, true),
    told(r#"{"prompt_tokens":0,"completion_tokens":0}"#, None, None, true),
    told(r#"{"prompt_tokens":1e18,"completion_tokens":2}"#, None, None, true),
    told(r#"{"prompt_tokens":9,"completion_tokens":1e300}"#, None, None, true),
    told(r#"{"prompt_tokens":900000000,"completion_tokens":900000000}"#, None, None, true),
];

/// Reports A5 and A6: whatever an engine says it used, what is booked can be, and it teaches nothing that cannot.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_a6_whatever_an_engine_tells_what_is_booked_can_be() {
    let engine = Recorder::start().await;
    let gateway = Gateway::start(PROGRAM, &config([engine.url()])).await;
    let mut lines = 0;

    for case in USAGES {
        for stream in [false, true] {
            engine.tell(case.usage);
            let answer = gateway.chat(&ask(json!({ "stream": stream }))).await;
            let what = format!("{} stream {stream}", case.usage);
            assert_eq!(answer.status, 200, "{what}: {}", answer.text());
            lines += 1;
            let line = gateway.log(lines).await.remove(lines - 1);
            let number = |name: &str| line[name].as_u64();
            assert_eq!(number("cached_tokens"), case.cached, "{what}: {line}");
            assert!(number("uncached_tokens") <= number("prompt_tokens"), "{what}: {line}");
            match case.booked {
                Some((prompt, generated)) => {
                    assert_eq!(number("prompt_tokens"), Some(prompt), "{what}: {line}");
                    assert_eq!(number("generated_tokens"), Some(generated), "{what}: {line}");
                    assert_eq!(line["usage_missing"], false, "{what}");
                }
                None => {
                    assert!((5..40).contains(&number("prompt_tokens").unwrap()), "{what}: {line}");
                    // A chunk may stand for the two tokens that chunks had before; of a whole answer nothing was counted.
                    let counted = u64::from(stream)..=2;
                    assert!(counted.contains(&number("generated_tokens").unwrap()), "{what}: {line}");
                }
            }
        }
    }

    gateway.invariants().await;
    let page = gateway.admin("/metrics").await.text();
    let anomalous = 2 * USAGES.iter().filter(|case| case.anomalous).count();
    let counted = format!("tidegate_usage_anomalous_total{{deployment=\"sim\"}} {anomalous}\n");
    assert!(page.contains(&counted), "{page}");
}

/// One absurd report must not make the next requests of everybody look absurd.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_a6_an_absurd_report_teaches_nothing() {
    let engine = Recorder::start().await;
    let mut config = config([engine.url()]);
    for (nth, key) in ["tg-first", "tg-second"].into_iter().enumerate() {
        let limits = json!({ "limits": [budget(100_000, 100_000, BUDGET)] });
        config["accounts"].as_array_mut().unwrap().push(account(&format!("t{nth}"), key, limits));
    }
    let gateway = Gateway::start(PROGRAM, &config).await;
    let body = json!({ "model": "sim", "messages": [{ "role": "user", "content": "tide ".repeat(400) }] });
    engine.tell(r#"{"prompt_tokens":420,"completion_tokens":200}"#);
    let before = gateway.chat_as("tg-first", &body).await;
    gateway.invariants().await;

    engine.tell(r#"{"prompt_tokens":1e9,"completion_tokens":1e9,"cached_tokens":1e9}"#);
    for _ in 0..5 {
        assert_eq!(gateway.chat(&body).await.status, 200);
    }
    gateway.invariants().await;
    let after = gateway.chat_as("tg-second", &body).await;

    let left = |answer: &Answer| {
        let meter = |name: &str| -> u64 {
            let (_, rest) = answer.header("ratelimit").split_once(&format!("\"{name}\";r=")).unwrap();
            rest.split(';').next().unwrap().parse().unwrap()
        };
        ["prompt", "uncached-prompt", "generated"].map(meter)
    };
    assert_eq!((before.status, after.status), (200, 200), "{}", after.text());
    for (before, after) in left(&before).into_iter().zip(left(&after)) {
        assert!(before.abs_diff(after) <= before / 20, "{before} left before, {after} after");
    }
}
