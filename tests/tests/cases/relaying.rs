//! Relaying: where an answer ends, what was said once, and what is charged and shown of it.

use super::{events, fleet, values};
use kit::KEY;
use kit::client::Answer;
use kit::hostile::{Act, Asked, beginning, beginning_with, chunk, ending, finish, whole, word};
use kit::shape::{STREAMED, read};
use protocol::api::Api;
use serde_json::{Value, json};
use std::time::Duration;

/// The longest that an engine may take to end its body after the API's last event.
const ENDS_WITHIN: Duration = Duration::from_secs(3);

/// A stream of one word with `end` after its last event.
fn stream(asked: &Asked, end: Vec<Act>) -> Vec<Act> {
    let mut acts = vec![Act::Sse];
    acts.extend(beginning(asked));
    acts.extend(word(asked, "hello"));
    acts.extend(ending(asked));
    acts.extend(end);
    acts
}

#[track_caller]
fn assert_whole(what: &str, api: Api, answer: &Answer) {
    let read = read(api, answer);
    let what = format!("{what}, {api:?}: {}", answer.text());
    assert_eq!(answer.status, 200, "{what}");
    assert!(read.whole && read.error.is_none(), "{what}");
    assert_eq!(read.text, "hello", "{what}");
}

/// The API's last event ends the answer, also where the engine leaves the body open, or goes on with comments.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_r03_the_last_event_ends_the_answer() {
    let ends = [
        ("open", vec![Act::Hang]),
        ("comments", vec![Act::Forever(": ping\n\n".to_owned(), Duration::from_millis(50))]),
        ("reset", vec![Act::Pause(Duration::from_millis(50)), Act::Reset]),
    ];
    for (end, acts) in ends {
        let fleet = fleet(1, json!({ "limit": 1 }), move |asked: &Asked| stream(asked, acts.clone())).await;
        for api in STREAMED {
            let answer = fleet.call_within(KEY, api, json!({ "stream": true }), ENDS_WITHIN).await;
            let answer = answer.unwrap_or_else(|| panic!("{end}, {api:?}: it does not end"));
            assert_whole(end, api, &answer);
            assert_eq!(
                answer.text().matches("[DONE]").count(),
                usize::from(matches!(api, Api::Chat | Api::Completions))
            );
        }
        // Its place is free.
        fleet.gateway.invariants().await;
        fleet.assert_nobody_blamed(end).await;
    }
}

/// With every choice finished and a clean end the answer is whole, and the `[DONE]` that is missing is written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_r04_a_stream_that_is_whole_but_for_done_is_whole() {
    let script = |asked: &Asked| {
        let mut acts = vec![Act::Sse];
        acts.extend(beginning(asked));
        acts.extend(word(asked, "hello"));
        if asked.has("with-usage") {
            let mut all = ending(asked);
            all.pop();
            acts.extend(all);
        } else {
            acts.extend(finish(asked));
        }
        acts.push(Act::End);
        acts
    };
    let fleet = fleet(1, json!({}), script).await;
    for api in [Api::Chat, Api::Completions] {
        for user in ["with-usage", "without"] {
            for _ in 0..4 {
                let answer = fleet.call(api, json!({ "stream": true, "user": user })).await;
                assert_whole(user, api, &answer);
            }
        }
    }
    fleet.assert_nobody_blamed("no [DONE]").await;
}

/// Where one of two choices has no end, the answer has none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_r04_a_choice_without_an_end_is_no_whole_answer() {
    let script = |asked: &Asked| {
        let mut second = chunk(json!({ "content": "two" }), json!(null));
        second["choices"][0]["index"] = json!(1);
        let mut acts = vec![Act::Sse];
        acts.extend(beginning(asked));
        acts.extend(word(asked, "hello"));
        acts.push(Act::Event(second));
        acts.extend(finish(asked));
        acts.push(Act::End);
        acts
    };
    let fleet = fleet(1, json!({}), script).await;
    let answer = fleet.call(Api::Chat, json!({ "stream": true, "n": 2 })).await;
    let read = read(Api::Chat, &answer);
    assert!(!read.whole && read.error.is_some(), "{}", answer.text());
}

/// Once a byte of an answer went out the request is bound to it: what a client had is not said again by another replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_r05_what_a_client_had_is_not_said_again() {
    let script = |asked: &Asked| {
        let mut acts = vec![Act::Sse];
        acts.extend(beginning_with(asked, &json!("p".repeat(100_000))));
        acts.extend([Act::Pause(Duration::from_millis(100)), Act::Reset]);
        acts
    };
    for api in [Api::Chat, Api::Responses, Api::Messages] {
        let fleet = fleet(2, json!({}), script).await;

        let answer = fleet.call(api, json!({ "stream": true })).await;

        let said = answer.text().matches("\"padding\":\"ppp").count()
            + answer.text().matches("\"instructions\":\"ppp").count();
        let read = read(api, &answer);
        assert!(!read.whole, "{api:?}: it looks whole");
        assert!(said <= 1, "{api:?}: it was said {said} times");
        if answer.status == 200 {
            assert_eq!((said, fleet.sent("tide")), (1, 1), "{api:?}: bound to one answer");
            assert!(read.error.is_some() && !answer.clean, "{api:?}: the break is told");
        } else {
            assert_eq!((answer.status, said), (502, 0), "{api:?}");
        }
    }
}

/// Two hundred words, of which an engine says nothing or nonsense.
const WORDS: usize = 200;

/// A whole answer of [`WORDS`] words with this usage; null: none.
fn without_usage(asked: &Asked, usage: &Value) -> Vec<Act> {
    let text = "tide ".repeat(WORDS);
    let mut answer = whole(asked);
    for path in
        ["/choices/0/message/content", "/choices/0/text", "/content/0/text", "/output/0/content/0/text"]
    {
        if let Some(place) = answer.pointer_mut(path) {
            *place = json!(text);
        }
    }
    answer["usage"] = usage.clone();
    if usage.is_null() {
        answer.as_object_mut().unwrap().remove("usage");
    }
    vec![Act::Json(200, answer)]
}

/// A whole answer without usage, or with an impossible one, is charged for what is in hand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_r08_a_whole_answer_without_usable_usage_is_charged() {
    let usages = [
        json!(null),
        json!({}),
        json!({ "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0, "input_tokens": 0, "output_tokens": 0 }),
        json!({ "prompt_tokens": 7, "completion_tokens": -3, "input_tokens": 7, "output_tokens": -3 }),
        json!({ "prompt_tokens": 7, "completion_tokens": 9e18, "input_tokens": 7, "output_tokens": 9e18 }),
    ];
    let script = {
        let usages = usages.clone();
        move |asked: &Asked| without_usage(asked, &usages[asked.json()["seed"].as_u64().unwrap() as usize])
    };
    let fleet = fleet(1, json!({}), script).await;
    let mut asked = 0;
    for api in STREAMED {
        for (nth, usage) in usages.iter().enumerate() {
            let answer = fleet
                .call(api, json!({ "seed": nth, "max_tokens": 1_000, "max_output_tokens": 1_000 }))
                .await;
            assert_eq!(answer.status, 200, "{api:?}, {usage}: {}", answer.text());
            asked += 1;
            let line = fleet.gateway.log(asked).await.remove(asked - 1);
            let charged = line["generated_tokens"].as_u64().unwrap_or(0);
            assert!((100..=400).contains(&charged), "{api:?}, {usage}: {charged} of about 200: {line}");
            assert!(
                line["prompt_tokens"].as_u64().is_some_and(|tokens| tokens > 0),
                "{api:?}, {usage}: {line}"
            );
        }
    }
}

/// One impossible number does not throw the others away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_r08_one_impossible_number_leaves_the_others() {
    let usages = [
        (json!({ "prompt_tokens": 31, "completion_tokens": -3 }), "prompt_tokens", 31),
        (json!({ "prompt_tokens": -31, "completion_tokens": 190 }), "generated_tokens", 190),
        (json!({ "prompt_tokens": 9e18, "completion_tokens": 190 }), "generated_tokens", 190),
        (
            json!({ "prompt_tokens": 31, "completion_tokens": 190, "prompt_tokens_details": { "cached_tokens": -4 } }),
            "generated_tokens",
            190,
        ),
        (
            json!({ "prompt_tokens": 31, "completion_tokens": 190, "prompt_tokens_details": { "cached_tokens": 5_000 } }),
            "prompt_tokens",
            31,
        ),
    ];
    let script = {
        let usages = usages.clone();
        move |asked: &Asked| without_usage(asked, &usages[asked.json()["seed"].as_u64().unwrap() as usize].0)
    };
    let fleet = fleet(1, json!({}), script).await;
    for (nth, (usage, meter, value)) in usages.iter().enumerate() {
        let answer = fleet.call(Api::Chat, json!({ "seed": nth, "max_tokens": 1_000 })).await;
        assert_eq!(answer.status, 200, "{usage}: {}", answer.text());
        let line = fleet.gateway.log(nth + 1).await.remove(nth);
        assert_eq!(line[*meter], json!(value), "{usage}: {line}");
    }
}

/// What comes beside the usage moves to the last chunk that stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_r09_what_comes_with_the_usage_stays() {
    let script = |asked: &Asked| {
        let mut acts = vec![Act::Sse];
        acts.extend(beginning(asked));
        acts.extend(word(asked, "hello"));
        acts.extend(finish(asked));
        if asked.json()["stream_options"]["include_usage"] == true {
            acts.push(Act::Event(json!({
                "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "sim", "choices": [],
                "usage": { "prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10 },
                "timings": { "predicted_ms": 12.5, "predicted_n": 3 }, "system_fingerprint": "fp-of-the-usage-chunk",
            })));
        }
        acts.extend([Act::Text("data: [DONE]\n\n".to_owned()), Act::End]);
        acts
    };
    for engine in ["llamacpp", "vllm", "openai"] {
        let fleet = fleet(1, json!({ "engine": engine }), script).await;

        let unasked = fleet.call(Api::Chat, json!({ "stream": true })).await;
        let asked = fleet
            .call(Api::Chat, json!({ "stream": true, "stream_options": { "include_usage": true } }))
            .await;

        assert_whole(engine, Api::Chat, &unasked);
        let events = values(&unasked);
        let last = events.last().unwrap();
        assert_eq!(last["choices"][0]["finish_reason"], "stop", "{engine}: {}", unasked.text());
        assert_eq!(last["timings"]["predicted_ms"], 12.5, "{engine}: {}", unasked.text());
        assert_eq!(last["system_fingerprint"], "fp-of-the-usage-chunk", "{engine}: {}", unasked.text());
        assert!(!unasked.text().contains("usage\":"), "{engine}: {}", unasked.text());
        let events = values(&asked);
        assert_eq!(events.last().unwrap()["timings"]["predicted_n"], 3, "{engine}: {}", asked.text());
        assert_eq!(events.last().unwrap()["usage"]["completion_tokens"], 3, "{engine}");
    }
}

/// llama.cpp's own name of the maximum is read as the maximum, and its engine hears of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_r10_n_predict_is_a_maximum() {
    let fleet = fleet(1, json!({ "engine": "llamacpp" }), kit::hostile::ordinary).await;
    for api in [Api::Chat, Api::Completions] {
        for stream in [false, true] {
            let more = json!({ "stream": stream, "max_tokens": null, "n_predict": 5 });
            let answer = fleet.call(api, more).await;
            assert_eq!(answer.status, 200, "{api:?}: {}", answer.text());
            let sent = fleet.engines[0].asked().pop().unwrap().json();
            let names = ["max_tokens", "max_completion_tokens", "n_predict"];
            let told: Vec<u64> = names.iter().filter_map(|name| sent[*name].as_u64()).collect();
            assert!(!told.is_empty() && told.iter().all(|most| *most == 5), "{api:?}: {sent}");
        }
    }
}

/// The same stream in every way in which the standard lets it be written.
fn written(way: &str, asked: &Asked) -> Vec<Act> {
    let mut usage = json!({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "sim", "choices": [],
    });
    usage["usage"] = json!({ "prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10 });
    let mut lines = Vec::new();
    for value in [
        chunk(json!({ "role": "assistant", "content": "" }), json!(null)),
        chunk(json!({ "content": "hello" }), json!(null)),
        chunk(json!({}), json!("stop")),
        usage,
    ] {
        let text = if way == "several lines" {
            serde_json::to_string_pretty(&value).unwrap()
        } else {
            value.to_string()
        };
        let data = text.lines().map(|line| format!("data: {line}\n"));
        lines.push(data.collect::<String>() + "\n");
    }
    lines.push(
        if way == "a blank after [DONE]" { "data: [DONE] \n\n" } else { "data: [DONE]\n\n" }.to_owned(),
    );
    let end = match way {
        "CR" => "\r",
        "CRLF" => "\r\n",
        _ => "\n",
    };
    let mut acts = vec![Act::Sse];
    for event in lines {
        let event = if way == "no blank after the colon" { event.replace("data: ", "data:") } else { event };
        acts.push(Act::Text(event.replace('\n', end)));
    }
    assert!(asked.streams());
    acts.push(Act::End);
    acts
}

/// Whatever the standard allows is read as the standard says: the usage is charged and not shown, and the end is the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_r11_streams_are_read_as_the_standard_says() {
    let ways =
        ["one line", "several lines", "CR", "CRLF", "a blank after [DONE]", "no blank after the colon"];
    for (nth, way) in ways.into_iter().enumerate() {
        let fleet = fleet(1, json!({}), move |asked: &Asked| written(way, asked)).await;

        let answer = fleet.call(Api::Chat, json!({ "stream": true })).await;

        let what = format!("{nth} {way}: {:?}", answer.text());
        assert_eq!((answer.status, answer.clean), (200, true), "{what}");
        let events = events(&answer);
        assert_eq!(events.iter().filter(|(_, data)| data.trim() == "[DONE]").count(), 1, "{what}");
        assert_eq!(events.last().unwrap().1.trim(), "[DONE]", "{what}");
        let values = values(&answer);
        let text = values.iter().filter_map(|value| value["choices"][0]["delta"]["content"].as_str());
        assert_eq!(text.collect::<String>(), "hello", "{what}");
        assert!(values.iter().all(|value| value["error"].is_null() && value["usage"].is_null()), "{what}");
        let line = fleet.gateway.log(1).await.remove(0);
        assert_eq!(
            (&line["prompt_tokens"], &line["generated_tokens"]),
            (&json!(7), &json!(3)),
            "{what}: {line}"
        );
        fleet.assert_nobody_blamed(&what).await;
    }
}
