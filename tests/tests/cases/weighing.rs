//! What a request weighs before the engine has said it: parts and text are known apart, and only what is certain refuses.

use super::{Fleet, fleet, words};
use kit::KEY;
use kit::client::{Connection, post_to};
use kit::hostile::{Act, Asked, ordinary, whole};
use kit::shape::request;
use protocol::api::Api;
use serde_json::{Value, json};

/// Bytes of base64 of the cases.
const BYTES: usize = 1 << 20;
/// What they weigh at most where they are opaque: an eighth, and a little for the rest.
const SMALL: u64 = BYTES as u64 / 8 + 4_000;
/// What they weigh at least where they are text: no tokeniser puts more than four characters of noise into a token.
const LARGE: u64 = BYTES as u64 / 4;

/// Noise in base64.
fn base64() -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let letter = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(LETTERS[(state >> 58) as usize])
    };
    (0..BYTES).map(letter).collect()
}

/// Answers with `seed` as the tokens of the prompt.
fn told_by_seed(asked: &Asked) -> Vec<Act> {
    let mut answer = whole(asked);
    let prompt = asked.json()["seed"].as_u64().unwrap_or(7);
    answer["usage"] = json!({
        "prompt_tokens": prompt, "completion_tokens": 3, "total_tokens": prompt + 3, "input_tokens": prompt, "output_tokens": 3,
    });
    vec![Act::Json(200, answer)]
}

/// A gateway that has had three hundred like prompts of 23 tokens and then many of 14, as in the case W01.
async fn taught() -> Fleet {
    let fleet = fleet(1, json!({ "context": 4_096 }), told_by_seed).await;
    let mut connection = Connection::open(fleet.gateway.address).await;
    for nth in 0..450 {
        let (text, tokens) =
            if nth < 300 { ("Is the tide in?".to_owned(), 23) } else { (format!("tide {}", nth - 300), 14) };
        let more = json!({ "messages": [{ "role": "user", "content": text }], "seed": tokens });
        let body = request(Api::Chat, 3, more);
        let answer = connection.send(post_to(Api::Chat.path(), &body, Some(KEY))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    fleet
}

/// Whatever was learnt before, what is not certainly too long is for the engine to say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_w02_an_estimate_refuses_nothing_as_too_long() {
    let fleet = taught().await;
    let picture = format!("data:image/png;base64,{}", &base64()[..200_000]);
    let text = "the tide is in ".repeat(700);
    let pictures = vec![json!({ "type": "image_url", "image_url": { "url": picture } }); 3];
    let contents = [json!(pictures), json!(text), json!("tide 7")];
    for content in contents {
        for nth in 0..3 {
            let shown = content.to_string().chars().take(60).collect::<String>();
            let more = json!({ "messages": [{ "role": "user", "content": content }], "seed": 2_810, "user": format!("{nth}") });
            let answer = fleet.call(Api::Chat, more).await;
            assert_eq!(answer.status, 200, "{shown}: {}", answer.text());
        }
    }
}

/// A picture is never "certainly too long" here; where the engine says it, its words come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_w02_of_a_picture_the_engine_says_that_it_is_too_long() {
    let too_long = "This model's maximum context length is 100 tokens. However, you requested 5000 tokens.";
    let script = move |asked: &Asked| {
        if asked.has("too-long") {
            let error = json!({ "message": too_long, "type": "BadRequestError", "param": null, "code": 400 });
            return vec![Act::Json(400, json!({ "error": error }))];
        }
        ordinary(asked)
    };
    let fleet = fleet(1, json!({ "context": 100 }), script).await;
    let url = format!("data:image/png;base64,{}", base64());
    let pictures = json!([{ "type": "image_url", "image_url": { "url": url } }, { "type": "image_url", "image_url": { "url": url } }]);
    let ask = async |user: &str| {
        let more = json!({ "messages": [{ "role": "user", "content": pictures }], "user": user });
        fleet.call(Api::Chat, more).await
    };

    let served = ask("fits").await;
    let refused = ask("too-long").await;

    assert_eq!(served.status, 200, "{}", served.text());
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(words(&refused).starts_with(too_long), "{}", words(&refused));
}

/// What each request weighed, by the access log. An engine says `tokens` of each of them.
async fn weights(
    fleet: &Fleet,
    tokens: u64,
    cases: Vec<(&'static str, Api, Value)>,
) -> Vec<(&'static str, u64)> {
    let mut weights = Vec::new();
    for (nth, (what, api, mut more)) in cases.into_iter().enumerate() {
        more["seed"] = json!(tokens);
        let answer = fleet.call(api, more).await;
        let text = answer.text();
        assert_eq!(answer.status, 200, "{what}: {}", text.chars().take(300).collect::<String>());
        let line = fleet.gateway.log(nth + 1).await.remove(nth);
        weights.push((what, line["weighed_prompt_tokens"].as_u64().unwrap()));
    }
    weights
}

/// A message of a user, and one before it.
fn after(before: Value) -> Value {
    json!({ "messages": [{ "role": "user", "content": "Is the tide in?" }, before, { "role": "user", "content": "And now?" }] })
}

/// Parts and opaque members are no text: weighed small, and never refused here as too long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_w03_base64_outside_of_text_weighs_little_and_is_never_too_long() {
    let data = base64();
    let url = format!("data:audio/wav;base64,{data}");
    let user = |part: Value| json!({ "messages": [{ "role": "user", "content": [part, { "type": "text", "text": "What is said?" }] }] });
    let tool_result = json!({ "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t1", "content": [
        { "type": "input_audio", "input_audio": { "data": data, "format": "wav" } },
    ] }] });
    let thinking = json!({ "role": "assistant", "content": [
        { "type": "thinking", "thinking": "hm", "signature": data }, { "type": "text", "text": "Yes." },
    ] });
    let redacted = json!({ "role": "assistant", "content": [{ "type": "redacted_thinking", "data": data }, { "type": "text", "text": "Yes." }] });
    let reasoning = json!([
        { "type": "reasoning", "id": "r1", "summary": [], "encrypted_content": data }, { "role": "user", "content": "And now?" },
    ]);
    let cases = vec![
        ("audio_url", Api::Chat, user(json!({ "type": "audio_url", "audio_url": { "url": url } }))),
        ("video_url", Api::Chat, user(json!({ "type": "video_url", "video_url": { "url": url } }))),
        (
            "input_audio",
            Api::Chat,
            user(json!({ "type": "input_audio", "input_audio": { "data": data, "format": "wav" } })),
        ),
        (
            "file",
            Api::Chat,
            user(json!({ "type": "file", "file": { "filename": "a.pdf", "file_data": url } })),
        ),
        (
            "a part of next year",
            Api::Chat,
            user(json!({ "type": "next_year", "next_year": { "blob": data } })),
        ),
        ("a tool's audio", Api::Messages, after(tool_result)),
        ("signature", Api::Messages, after(thinking)),
        ("redacted_thinking", Api::Messages, after(redacted)),
        ("encrypted_content", Api::Responses, json!({ "input": reasoning })),
    ];
    let fleet = fleet(1, json!({ "context": 32_768 }), told_by_seed).await;
    for (what, weight) in weights(&fleet, 1_000, cases).await {
        assert!(weight <= SMALL, "{what}: weighed {weight}");
    }
}

/// Where the engine reads text everything is text, whatever it looks like.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_w03_base64_in_text_weighs_as_text() {
    let data = base64();
    let url = format!("data:image/png;base64,{data}");
    let call = json!({ "role": "assistant", "content": null, "tool_calls": [
        { "id": "t1", "type": "function", "function": { "name": "put", "arguments": json!({ "blob": data }).to_string() } },
    ] });
    let result = json!({ "role": "tool", "tool_call_id": "t1", "content": data });
    let tool_result = json!({ "role": "user", "content": [{ "type": "tool_result", "tool_use_id": "t1", "content": data }] });
    let user = |content: Value| json!({ "messages": [{ "role": "user", "content": content }] });
    let cases = vec![
        ("content", Api::Chat, user(json!(data))),
        ("content that looks like a picture", Api::Chat, user(json!(url))),
        ("a text part", Api::Chat, user(json!([{ "type": "text", "text": data }]))),
        ("a text part that looks like a picture", Api::Chat, user(json!([{ "type": "text", "text": url }]))),
        ("arguments", Api::Chat, after(call)),
        ("a tool's result", Api::Chat, after(result)),
        ("prompt", Api::Completions, json!({ "prompt": data })),
        ("input", Api::Responses, json!({ "input": data })),
        (
            "a text part of input",
            Api::Responses,
            json!({ "input": [{ "role": "user", "content": [{ "type": "input_text", "text": url }] }] }),
        ),
        ("content of messages", Api::Messages, user(json!(data))),
        ("system", Api::Messages, json!({ "system": url })),
        ("a tool's result in messages", Api::Messages, after(tool_result)),
        ("input of embeddings", Api::Embeddings, json!({ "input": [data] })),
    ];
    let fleet = fleet(1, json!({}), told_by_seed).await;
    for (what, weight) in weights(&fleet, LARGE * 2, cases).await {
        assert!(weight >= LARGE, "{what}: weighed {weight}");
    }
}

/// SGLang's embeddings of pictures are accepted, and their pictures are parts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_w03_sglangs_text_and_image_as_an_input_are_accepted() {
    let url = format!("data:image/png;base64,{}", base64());
    let inputs = [json!([{ "text": "a cat", "image": url }]), json!([{ "text": "a cat" }, { "image": url }])];
    let cases = inputs.map(|input| ("text and image", Api::Embeddings, json!({ "input": input })));
    let fleet = fleet(1, json!({ "engine": "sglang", "context": 32_768 }), told_by_seed).await;
    for (what, weight) in weights(&fleet, 1_000, cases.to_vec()).await {
        assert!(weight <= SMALL, "{what}: weighed {weight}");
    }
}
