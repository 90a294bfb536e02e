//! What answers hold besides plain text: the prompt again, several prompts, reasoning, tool calls, pairs, vectors.

use super::*;

async fn whole(server: &EngineServer, path: &str, body: Value) -> Value {
    let answer = send(server.addr, "POST", path, &body.to_string(), "").await.expect("an answer");
    serde_json::from_str(&text(answer).await.expect("a body")).expect("JSON")
}

async fn streamed(server: &EngineServer, path: &str, mut body: Value, fault: &str) -> String {
    body["stream"] = json!(true);
    let answer = send(server.addr, "POST", path, &body.to_string(), fault).await.expect("an answer");
    text(answer).await.expect("a whole stream")
}

/// What `pointer` holds in the events, joined.
fn joined(stream: &str, pointer: &str) -> String {
    let events = stream.split("\n\n").filter_map(|event| event.split_once("data: "));
    let values = events.filter_map(|(_, data)| serde_json::from_str::<Value>(data).ok());
    values.filter_map(|value| value.pointer(pointer)?.as_str().map(str::to_owned)).collect()
}

fn sequence(stream: &str) -> Vec<i64> {
    let events = stream.split("\n\n").filter_map(|event| event.split_once("data: "));
    let numbers = events.map(|(_, data)| serde_json::from_str::<Value>(data).expect("JSON"));
    numbers.map(|value| value["sequence_number"].as_i64().expect("a number")).collect()
}

/// A part of the answer with the seed 7.
fn part(from: u32, to: u32) -> String {
    expected_text(7, to).split_off(expected_text(7, from).len())
}

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";
const MESSAGES: &str = "/v1/messages";
const RESPONSES: &str = "/v1/responses";

#[tokio::test]
async fn echo_says_the_prompt_before_each_answer_and_counts_it_once() {
    let server = server(instant()).await;
    let ask =
        || json!({"model": "sim", "prompt": "Once upon", "echo": true, "n": 2, "seed": 7, "max_tokens": 5});

    let answer = whole(&server, COMPLETIONS, ask()).await;
    let stream = streamed(&server, COMPLETIONS, ask(), "").await;

    for choice in 0..2 {
        let said = format!("Once upon{}", expected_text(7 + choice as u64, 5));
        assert_eq!(answer["choices"][choice]["text"], said);
    }
    let usage = &answer["usage"];
    assert_eq!((&usage["prompt_tokens"], &usage["completion_tokens"]), (&json!(2), &json!(10)));
    assert_eq!(joined(&stream, "/choices/0/text").matches("Once upon").count(), 2);
}

#[tokio::test]
async fn echo_without_an_answer_says_the_prompt_and_still_computes_a_token() {
    let server = server(instant()).await;
    let ask = json!({"model": "sim", "prompt": [5, 6], "echo": true, "max_tokens": 0});

    let answer = whole(&server, COMPLETIONS, ask).await;

    assert_eq!(answer["choices"][0]["text"], "<5><6>");
    assert_eq!(answer["usage"]["completion_tokens"], 1);
    assert_eq!(server.totals().generated_tokens, 1);
    let refused = json!({"model": "sim", "prompt": "a", "max_tokens": 0});
    assert_eq!(whole(&server, COMPLETIONS, refused).await["error"]["code"], 400);
}

#[tokio::test]
async fn each_prompt_of_a_list_has_answers_of_its_own() {
    let server = server(stepping()).await;
    let plain =
        json!({"model": "sim", "prompt": ["one two", "three"], "n": 2, "max_tokens": 6, "ignore_eos": true});
    let mut with_usage = plain.clone();
    with_usage["stream_options"] = json!({"include_usage": true});

    let answer = whole(&server, COMPLETIONS, plain).await;
    let stream = streamed(&server, COMPLETIONS, with_usage, "").await;

    let seeds = [seed_of_texts(["one two"]), seed_of_texts(["three"])];
    let streamed: Vec<Value> =
        events(&stream).into_iter().filter_map(|event| serde_json::from_str(event).ok()).collect();
    for choice in 0..4_usize {
        let said = expected_text(seeds[choice / 2].wrapping_add(choice as u64 % 2), 6);
        assert_eq!(answer["choices"][choice]["text"], said, "choice {choice}");
        let of_it = streamed.iter().map(|event| &event["choices"][0]).filter(|it| it["index"] == choice);
        let of_it: String = of_it.map(|it| it["text"].as_str().expect("text").to_owned()).collect();
        assert_eq!(of_it, said, "choice {choice}, streamed");
    }
    assert_eq!(answer["usage"]["prompt_tokens"], 3);
    assert_eq!(answer["usage"]["completion_tokens"], 24);
    assert!(stream.contains(r#""prompt_tokens":3,"total_tokens":27,"completion_tokens":24"#), "{stream}");
    assert_eq!((server.totals().generated_tokens, server.totals().prompt_tokens), (48, 6));
}

#[tokio::test]
async fn chat_has_reasoning_beside_the_content() {
    let server = server(stepping()).await;
    let ask = hello(json!({"max_tokens": 12, "ignore_eos": true, "reasoning_effort": "high"}));

    let answer = whole(&server, CHAT, ask.clone()).await;
    let stream = streamed(&server, CHAT, ask, "").await;

    let message = &answer["choices"][0]["message"];
    assert_eq!((&message["reasoning"], &message["content"]), (&json!(part(0, 6)), &json!(part(6, 12))));
    assert_eq!(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 6);
    assert_eq!(joined(&stream, "/choices/0/delta/reasoning"), part(0, 6));
    assert_eq!(content(&stream), part(6, 12));
}

#[tokio::test]
async fn messages_have_a_block_of_thinking_before_the_text() {
    let server = server(stepping()).await;
    let ask = hello(json!({"max_tokens": 12, "ignore_eos": true, "thinking": {"type": "enabled"}}));

    let answer = whole(&server, MESSAGES, ask.clone()).await;
    let stream = streamed(&server, MESSAGES, ask, "").await;

    let [first, second] = [&answer["content"][0], &answer["content"][1]];
    assert_eq!((&first["type"], &first["thinking"]), (&json!("thinking"), &json!(part(0, 6))));
    assert_eq!((&second["type"], &second["text"]), (&json!("text"), &json!(part(6, 12))));
    assert_eq!(
        (joined(&stream, "/delta/thinking"), joined(&stream, "/delta/text")),
        (part(0, 6), part(6, 12))
    );
    assert_eq!(joined(&stream, "/delta/signature"), first["signature"].as_str().expect("text"));
    for kind in ["start", "stop"] {
        assert_eq!(stream.matches(&format!("event: content_block_{kind}\n")).count(), 2, "{stream}");
    }
}

#[tokio::test]
async fn responses_have_an_item_of_reasoning_before_the_message() {
    let server = server(stepping()).await;
    let ask = json!({"model": "sim", "input": "Hello", "seed": 7, "max_output_tokens": 12, "reasoning": {"effort": "low"}});

    let answer = whole(&server, RESPONSES, ask.clone()).await;
    let stream = streamed(&server, RESPONSES, ask, "").await;

    assert_eq!(answer["output"][0]["content"][0]["text"], part(0, 6));
    assert_eq!(answer["output"][1]["content"][0]["text"], part(6, 12));
    assert_eq!(answer["usage"]["output_tokens_details"]["reasoning_tokens"], 6);
    assert_eq!(deltas(&stream, "response.reasoning_text.delta"), part(0, 6));
    assert_eq!(deltas(&stream, "response.output_text.delta"), part(6, 12));
    assert_eq!(
        of_kind(&stream, "response.completed")[0]["response"]["output"].as_array().map(Vec::len),
        Some(2)
    );
    let numbers = sequence(&stream);
    assert_eq!(numbers, (0..numbers.len() as i64).collect::<Vec<_>>(), "without a gap");
}

fn deltas(stream: &str, kind: &str) -> String {
    of_kind(stream, kind).iter().map(|event| event["delta"].as_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn an_answer_may_end_in_mid_thought() {
    let server = server(instant()).await;
    let ask = hello(json!({"max_tokens": 8, "ignore_eos": true, "user": "sim:reasoning=50"}));

    let answer = send_without_fault(server.addr, &ask.to_string()).await;
    let answer: Value = serde_json::from_str(&text(answer).await.expect("a body")).expect("JSON");
    let stream = streamed(&server, MESSAGES, ask, "reasoning=50").await;

    assert_eq!(answer["choices"][0]["message"]["content"], Value::Null);
    assert_eq!(answer["choices"][0]["message"]["reasoning"], expected_text(7, 8));
    assert_eq!(answer["choices"][0]["finish_reason"], "length");
    assert_eq!(joined(&stream, "/delta/thinking"), expected_text(7, 8));
    assert_eq!(stream.matches("event: content_block_stop").count(), 1);
}

#[tokio::test]
async fn messages_call_the_tool_that_is_forced() {
    let server = server(stepping()).await;
    for choice in [json!({"type": "any"}), json!({"type": "tool", "name": "look"})] {
        let ask = hello(json!({"max_tokens": 40, "tool_choice": choice,
            "tools": [{"name": "look", "input_schema": {"type": "object"}}]}));
        let answer =
            send(server.addr, "POST", MESSAGES, &ask.to_string(), "output=9").await.expect("an answer");
        let answer: Value = serde_json::from_str(&text(answer).await.expect("a body")).expect("JSON");
        let stream = streamed(&server, MESSAGES, ask, "output=9").await;

        let block = &answer["content"][0];
        assert_eq!((&block["type"], &block["name"]), (&json!("tool_use"), &json!("look")));
        assert_eq!(block["input"]["text"], expected_text(7, 9));
        assert_eq!(answer["stop_reason"], "tool_use");
        let input: Value = serde_json::from_str(&joined(&stream, "/delta/partial_json")).expect("JSON");
        assert_eq!(input, block["input"]);
    }
}

#[tokio::test]
async fn responses_call_the_tool_that_is_forced() {
    let server = server(stepping()).await;
    for choice in [json!("required"), json!({"type": "function", "name": "look"})] {
        let ask = json!({"model": "sim", "input": "Hello", "seed": 7, "max_output_tokens": 9, "tool_choice": choice,
            "tools": [{"type": "function", "name": "look", "parameters": {"type": "object"}}]});
        let answer = whole(&server, RESPONSES, ask.clone()).await;
        let stream = streamed(&server, RESPONSES, ask, "").await;

        let call = &answer["output"][0];
        assert_eq!((&call["type"], &call["name"]), (&json!("function_call"), &json!("look")));
        assert_eq!(call["arguments"], deltas(&stream, "response.function_call_arguments.delta"));
        let read: Value = serde_json::from_str(call["arguments"].as_str().expect("text")).expect("JSON");
        assert_eq!(read["text"], expected_text(7, 9));
        let numbers = sequence(&stream);
        assert_eq!(numbers, (0..numbers.len() as i64).collect::<Vec<_>>(), "without a gap");
    }
}

#[tokio::test]
async fn pairs_are_read_both_sides_and_the_best_comes_first() {
    let server = server(instant()).await;
    let documents = ["two", "three four", "five"];
    let ask = json!({"model": "sim", "query": "one", "documents": documents, "top_n": 2});

    let ranked = whole(&server, "/v1/rerank", ask).await;

    assert_eq!(ranked["usage"]["prompt_tokens"], 3 + 4, "the query with each of three documents");
    let results = ranked["results"].as_array().expect("a list");
    assert_eq!(results.len(), 2);
    let score = |result: &Value| result["relevance_score"].as_f64().expect("a number");
    assert!(score(&results[0]) >= score(&results[1]));
    for result in results {
        let index = result["index"].as_u64().expect("a number") as usize;
        assert_eq!(result["document"]["text"], documents[index]);
    }
    let pairs = json!({"model": "sim", "text_1": ["a b", "c"], "text_2": ["d", "e"]});
    assert_eq!(whole(&server, "/v1/score", pairs).await["usage"]["prompt_tokens"], 5, "one by one");
    let uneven = json!({"model": "sim", "text_1": ["a", "b"], "text_2": ["c", "d", "e"]});
    assert_eq!(whole(&server, "/v1/score", uneven).await["error"]["code"], 400);
}

#[tokio::test]
async fn vectors_are_numbers_or_their_bytes_and_as_long_as_asked_for() {
    use base64::Engine as _;
    let server = server(instant()).await;
    let ask = |format: &str| json!({"model": "sim", "input": [[1, 2, 3], [4]], "dimensions": 5, "encoding_format": format});

    let numbers = whole(&server, "/v1/embeddings", ask("float")).await;
    let bytes = whole(&server, "/v1/embeddings", ask("base64")).await;

    assert_eq!(numbers["usage"]["prompt_tokens"], 4, "token ids are their own count");
    for index in 0..2 {
        let listed: Vec<f32> =
            serde_json::from_value(numbers["data"][index]["embedding"].clone()).expect("numbers");
        assert_eq!(listed.len(), 5);
        let packed = bytes["data"][index]["embedding"].as_str().expect("text");
        let packed = base64::engine::general_purpose::STANDARD.decode(packed).expect("base64");
        let unpacked: Vec<f32> =
            packed.chunks(4).map(|four| f32::from_le_bytes(four.try_into().expect("four bytes"))).collect();
        assert_eq!(unpacked, listed);
    }
}
