//! Answers look as the client asked for them: text, usage, tier, model and limits.

use crate::PROGRAM;
use engine::text::expected_text;
use kit::base_config::{PLAIN_KEY, account, budget};
use kit::client::{Answer, Connection, post};
use kit::{Gateway, KEY, ask, config, engine, gateway_and_engine};
use serde_json::{Value, json};

/// Report A7: usage is always asked for upstream, and shown to those who asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_a7_usage_is_shown_to_those_who_asked() {
    let (gateway, engine) = gateway_and_engine(PROGRAM).await;
    let base = json!({ "stream": true, "seed": 7, "max_tokens": 30 });
    let mut asked = ask(base.clone());
    asked["stream_options"] = json!({ "include_usage": true });
    let mut declined = ask(base.clone());
    declined["stream_options"] = json!({ "include_usage": false });

    let with = gateway.chat(&asked).await.streamed();
    let without = [gateway.chat(&ask(base)).await.streamed(), gateway.chat(&declined).await.streamed()];

    let truth = engine.records().remove(0);
    let usage = &with.events.last().unwrap()["usage"];
    assert_eq!(with.events.last().unwrap()["choices"], json!([]));
    assert_eq!(usage["prompt_tokens"], truth.prompt_tokens);
    assert_eq!(usage["completion_tokens"], truth.generated_tokens);
    for streamed in without {
        assert!(streamed.done && !streamed.broken);
        assert_eq!(streamed.text, expected_text(7, 30));
        assert_eq!(streamed.events.len() + 1, with.events.len(), "only the usage chunk is gone");
        for event in &streamed.events {
            assert!(event["usage"].is_null(), "{event}");
            assert_ne!(event["choices"], json!([]), "{event}");
        }
    }
    // The meter had it in each case.
    for line in gateway.log(3).await {
        assert_eq!(
            (&line["generated_tokens"], &line["usage_missing"]),
            (&json!(30), &json!(false)),
            "{line}"
        );
    }
}

/// Text passes byte for byte, streamed or whole, one choice or several.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_passes_byte_for_byte() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    for fault in ["", "sim:split-utf8", "sim:role-in-first", "sim:after-done"] {
        for seed in 0..5_u64 {
            let more = json!({ "seed": seed, "max_tokens": 200, "user": fault });
            let whole = gateway.chat(&ask(more.clone())).await;
            let mut streaming = ask(more);
            streaming["stream"] = json!(true);
            let stream = gateway.chat(&streaming).await;

            assert_eq!(whole.content(), expected_text(seed, 200), "{fault}");
            assert_eq!(stream.content(), expected_text(seed, 200), "{fault}");
            assert!(stream.streamed().done && stream.clean, "{fault}");
        }
    }
    let several = gateway.chat(&ask(json!({ "seed": 3, "n": 3 }))).await.json();
    for choice in 0..3_u64 {
        let text = &several["choices"][choice as usize]["message"]["content"];
        assert_eq!(text, &json!(expected_text(3 + choice, 8)));
    }
    gateway.invariants().await;
}

/// The tier in the answer is the one that was served: asked for and allowed, never an echo.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_name_the_tier_that_was_served() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    let cases = [
        (KEY, json!(null), "default"),
        (KEY, json!("auto"), "default"),
        (KEY, json!("priority"), "priority"),
        (KEY, json!("fast"), "priority"),
        (KEY, json!("default"), "default"),
        (KEY, json!("standard_only"), "default"),
        (KEY, json!("made-up"), "default"),
        (PLAIN_KEY, json!(null), "default"),
        (PLAIN_KEY, json!("priority"), "default"),
        (PLAIN_KEY, json!("fast"), "default"),
    ];
    for (key, tier, served) in cases {
        let whole = gateway.chat_as(key, &ask(json!({ "service_tier": tier }))).await;
        let stream = gateway.chat_as(key, &ask(json!({ "service_tier": tier, "stream": true }))).await;

        assert_eq!(whole.json()["service_tier"], served, "{key} asks for {tier}");
        let events = stream.streamed().events;
        assert!(events.len() > 8);
        for event in events {
            assert_eq!(event["service_tier"], served, "{key} asks for {tier}: {event}");
            assert_eq!(event["model"], "sim");
        }
    }
}

/// The three meters of `RateLimit` or `RateLimit-Policy`: the number after `mark`.
fn meters(header: &str, mark: &str) -> [u64; 3] {
    let number = |item: &str| {
        let digits = item.split(mark).nth(1).unwrap_or_else(|| panic!("no {mark} in {header}"));
        digits.split(';').next().unwrap().parse().unwrap()
    };
    let items: Vec<&str> = header.split(", ").collect();
    let names = ["\"prompt\";", "\"uncached-prompt\";", "\"generated\";"];
    assert!(items.iter().zip(names).all(|(item, name)| item.starts_with(name)), "{header}");
    [0, 1, 2].map(|at| number(items[at]))
}

/// The same of the `x-ratelimit-…` headers.
fn per_second(answer: &Answer, kind: &str) -> [u64; 3] {
    ["prompt", "cache-adjusted-prompt", "generated"]
        .map(|meter| answer.header(&format!("x-ratelimit-{kind}-tokens-{meter}")).parse().unwrap())
}

/// Both families of headers say the same, and what remains is what the ledger says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn report_a15_the_limit_headers_equal_the_ledger() {
    let engine = engine().await;
    let mut config = config([engine.url()]);
    let limits = json!({ "limits": [budget(123_457, 54_323, 9_999)] });
    config["accounts"].as_array_mut().unwrap().push(account("odd", "tg-odd", limits));
    let gateway = Gateway::start(PROGRAM, &config).await;

    let mut spent = [0_u64; 3];
    for turn in 0..6_usize {
        let answer =
            gateway.chat_as("tg-odd", &ask(json!({ "max_tokens": 1, "stream": turn % 2 == 0 }))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let line = gateway.log(turn + 1).await.remove(turn);
        let tokens = |name: &str| line[name].as_u64().unwrap();

        let limit = meters(answer.header("ratelimit-policy"), ";q=");
        let left = meters(answer.header("ratelimit"), ";r=");
        assert_eq!(limit, [123_457, 54_323, 9_999]);
        assert_eq!(per_second(&answer, "limit"), limit.map(|tokens| tokens / 60));
        assert_eq!(per_second(&answer, "remaining"), left.map(|tokens| tokens / 60));
        // Whatever was settled, and the reservation of this request: its prompt as weighed, one token.
        let weighed = tokens("weighed_prompt_tokens");
        assert_eq!(left[0], limit[0] - spent[0] - weighed, "turn {turn}");
        assert!(left[1] >= limit[1] - spent[1] - weighed, "turn {turn}");
        assert_eq!(left[2], limit[2] - spent[2] - 1, "turn {turn}");
        for (spent, name) in spent.iter_mut().zip(["prompt_tokens", "uncached_tokens", "generated_tokens"]) {
            *spent += tokens(name);
        }
    }
}

/// The sentence of an engine about a client's mistake is the client's to read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_that_only_the_engine_sees_is_told_in_its_words() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    let mut connection = Connection::open(gateway.address).await;
    let impossible = ask(json!({ "max_tokens": 4_000_000_000_u32 }));

    let refused = connection.send(post(&impossible, Some(KEY))).await;

    assert_eq!(refused.verdict(), (400, "context-too-long"));
    assert!(refused.message().contains("maximum context length"), "{}", refused.message());
    assert_eq!(refused.json()["error"]["type"], "invalid_request_error");
    let next: Value = connection.send(post(&ask(json!({})), Some(KEY))).await.json();
    assert_eq!(next["choices"][0]["finish_reason"], "length");
    gateway.invariants().await;
}

/// What an account may use is what it sees.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_are_listed_as_far_as_the_account_may_use_them() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    let list =
        |key: &'static str| kit::client::send(gateway.address, kit::client::get("/v1/models", Some(key)));
    let names = |answer: &Answer| -> Vec<String> {
        let page = answer.json();
        page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|model| model["id"].as_str().unwrap().to_owned())
            .collect()
    };

    assert_eq!(names(&list(KEY).await), ["sim", "other-model"]);
    assert_eq!(names(&list(kit::base_config::STRICT_KEY).await), ["sim"]);
}
