//! The simulated server as a client sees it.

mod said;

use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::profile::{INSTANT, Profile};
use crate::text::{expected_text, seed_of_texts};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

async fn server(config: EngineServerConfig) -> EngineServer {
    EngineServer::start(config).await.expect("a free port on loopback")
}

fn instant() -> EngineServerConfig {
    EngineServerConfig { profile: INSTANT, ..EngineServerConfig::default() }
}

/// The 8B profile, a hundred times faster.
fn stepping() -> EngineServerConfig {
    EngineServerConfig { time_scale: 100.0, ..EngineServerConfig::default() }
}

/// Ten seconds between two tokens: whoever waits for one waits.
fn stuck() -> EngineServerConfig {
    let profile =
        Profile { weights_ms: 10_000.0, api_ms: 0.0, ..Profile::named("8b-a100").expect("a profile") };
    EngineServerConfig { profile, ..EngineServerConfig::default() }
}

async fn send(
    addr: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    fault: &str,
) -> hyper::Result<Response<Incoming>> {
    let stream = TcpStream::connect(addr).await.expect("the server listens");
    let (mut sender, conn) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(conn);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "sim")
        .header("content-type", "application/json")
        .header("x-request-id", "abc-1")
        .header("x-sim-fault", fault)
        .body(Full::new(Bytes::from(body.to_owned())))
        .expect("a valid request");
    sender.send_request(request).await
}

async fn chat(addr: SocketAddr, body: Value, fault: &str) -> hyper::Result<Response<Incoming>> {
    send(addr, "POST", "/v1/chat/completions", &body.to_string(), fault).await
}

async fn text(answer: Response<Incoming>) -> hyper::Result<String> {
    let bytes = answer.into_body().collect().await?.to_bytes();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn hello(more: Value) -> Value {
    let mut body =
        json!({"model": "sim", "messages": [{"role": "user", "content": "Hello, harbour."}], "seed": 7});
    for (key, value) in more.as_object().expect("an object") {
        body[key] = value.clone();
    }
    body
}

/// The data lines of a stream.
fn events(stream: &str) -> Vec<&str> {
    stream.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect()
}

fn content(stream: &str) -> String {
    events(stream)
        .into_iter()
        .filter_map(|event| serde_json::from_str::<Value>(event).ok())
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect()
}

async fn until(mut holds: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.expect("it holds within ten seconds");
}

#[tokio::test]
async fn an_answer_that_does_not_stream_is_the_expected_text_with_usage() {
    let server = server(instant()).await;

    let answer =
        chat(server.addr, hello(json!({"max_tokens": 20, "ignore_eos": true})), "").await.expect("an answer");
    assert_eq!(answer.headers()["x-request-id"], "abc-1");
    let body: Value = serde_json::from_str(&text(answer).await.expect("a body")).expect("JSON");

    assert_eq!(body["choices"][0]["message"]["content"], expected_text(7, 20));
    assert_eq!(body["choices"][0]["finish_reason"], "length");
    assert_eq!(body["usage"]["completion_tokens"], 20);
    assert_eq!(body["usage"]["prompt_tokens"], 2 + 4 + 5, "start, message frame, five tokens of text");
    assert_eq!(server.totals().generated_tokens, 20);
    assert_eq!(server.totals().finished, 1);
}

#[tokio::test]
async fn a_stream_has_a_preamble_one_chunk_per_token_usage_and_done() {
    for config in [instant(), stepping()] {
        let server = server(config).await;
        let body =
            hello(json!({"max_tokens": 20, "stream": true, "stream_options": {"include_usage": true}}));

        let stream =
            text(chat(server.addr, body, "").await.expect("an answer")).await.expect("a whole stream");

        let events = events(&stream);
        assert_eq!(events.len(), 1 + 20 + 1 + 1, "{stream}");
        assert!(events[0].contains(r#""role":"assistant","content":"""#));
        assert_eq!(content(&stream), expected_text(7, 20));
        let usage: Value = serde_json::from_str(events[21]).expect("JSON");
        assert_eq!(usage["choices"], json!([]));
        assert_eq!(usage["usage"]["total_tokens"], 31);
        assert_eq!(events[22], "[DONE]");
        until(|| server.totals().finished == 1).await;
        assert_eq!(server.totals().sent_chunks, 20);
    }
}

#[tokio::test]
async fn without_a_seed_the_answer_follows_from_the_prompt() {
    let server = server(instant()).await;
    let body = json!({"model": "sim", "max_tokens": 10, "messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "Why?"}]}]});

    let body: Value = serde_json::from_str(
        &text(chat(server.addr, body, "").await.expect("an answer")).await.expect("a body"),
    )
    .expect("JSON");

    let seed = seed_of_texts(["Be brief.", "Why?"]);
    assert_eq!(body["choices"][0]["message"]["content"], expected_text(seed, 10));
}

#[tokio::test]
async fn several_choices_each_have_their_own_text_and_are_all_counted() {
    let server = server(stepping()).await;
    let ask = hello(json!({"max_tokens": 9, "n": 3}));

    let body: Value = serde_json::from_str(
        &text(chat(server.addr, ask, "").await.expect("an answer")).await.expect("a body"),
    )
    .expect("JSON");

    for choice in 0..3 {
        assert_eq!(body["choices"][choice]["message"]["content"], expected_text(7 + choice as u64, 9));
    }
    assert_eq!(body["usage"]["completion_tokens"], 27);
    assert_eq!(server.totals().generated_tokens, 27);
}

#[tokio::test]
async fn a_forced_tool_call_streams_arguments_that_are_json() {
    let server = server(instant()).await;
    let tools = json!([{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]);
    let ask = hello(json!({"max_tokens": 30, "stream": true, "tools": tools,
        "tool_choice": {"type": "function", "function": {"name": "look"}}}));

    let stream = text(chat(server.addr, ask, "").await.expect("an answer")).await.expect("a whole stream");

    let arguments: String = events(&stream)
        .into_iter()
        .filter_map(|event| serde_json::from_str::<Value>(event).ok())
        .filter_map(|event| {
            event["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"].as_str().map(str::to_owned)
        })
        .collect();
    let arguments: Value = serde_json::from_str(&arguments).expect("JSON");
    assert_eq!(arguments["text"], expected_text(7, 30));
    assert!(stream.contains(r#""name":"look""#));
}

#[tokio::test]
async fn completions_answer_in_their_own_shape() {
    let server = server(instant()).await;
    let ask = json!({"model": "sim", "prompt": "Once upon", "seed": 3, "max_tokens": 5}).to_string();

    let answer = send(server.addr, "POST", "/v1/completions", &ask, "").await.expect("an answer");
    let body: Value = serde_json::from_str(&text(answer).await.expect("a body")).expect("JSON");

    assert_eq!(body["object"], "text_completion");
    assert_eq!(body["choices"][0]["text"], expected_text(3, 5));
}

#[tokio::test]
async fn the_books_show_who_left_and_what_was_computed_until_then() {
    let server = server(stepping()).await;
    let ask = hello(json!({"max_tokens": 5000, "stream": true, "ignore_eos": true}));
    let answer = chat(server.addr, ask, "").await.expect("an answer");
    let mut body = answer.into_body();
    for _ in 0..4 {
        body.frame().await.expect("a chunk").expect("a good chunk");
    }

    drop(body);

    until(|| server.totals().disconnects == 1).await;
    let record = server.records().pop().expect("one record");
    assert!(record.disconnected_s.is_some());
    assert!(record.finished_s.is_none());
    assert!((3..5000).contains(&record.generated_tokens), "{record:?}");
    assert!(record.sent_tokens <= record.generated_tokens);
}

#[tokio::test]
async fn a_client_that_waits_for_a_whole_answer_and_leaves_is_noticed() {
    let server = server(stuck()).await;
    let body = hello(json!({"max_tokens": 50})).to_string();
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut client = TcpStream::connect(server.addr).await.expect("the server listens");
    client.write_all(head.as_bytes()).await.expect("written");
    client.write_all(body.as_bytes()).await.expect("written");
    until(|| server.totals().accepted == 1).await;
    assert_eq!(server.totals().disconnects, 0);

    drop(client);

    until(|| server.totals().disconnects == 1).await;
    assert_eq!(server.totals().finished, 0);
}

#[tokio::test]
async fn a_cut_stream_ends_unfinished_after_exactly_so_many_chunks() {
    for (fault, user) in [("cut=3", ""), ("reset=3", ""), ("", "sim:cut=3")] {
        let server = server(instant()).await;
        let ask = hello(json!({"max_tokens": 20, "stream": true, "user": user}));
        let mut body = if fault.is_empty() {
            send_without_fault(server.addr, &ask.to_string()).await
        } else {
            chat(server.addr, ask, fault).await.expect("an answer")
        }
        .into_body();

        let mut got = String::new();
        let end = loop {
            match body.frame().await {
                Some(Ok(frame)) => got.push_str(&String::from_utf8_lossy(frame.data_ref().expect("data"))),
                end => break end,
            }
        };

        assert!(matches!(end, Some(Err(_))), "an unfinished body is an error, got {end:?}");
        assert_eq!(content(&got), expected_text(7, 3), "{fault} {user}");
        assert!(!got.contains("[DONE]"));
        until(|| server.totals().broken == 1).await;
    }
}

async fn send_without_fault(addr: SocketAddr, body: &str) -> Response<Incoming> {
    let stream = TcpStream::connect(addr).await.expect("the server listens");
    let (mut sender, conn) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
    tokio::spawn(conn);
    let request = Request::post("/v1/chat/completions").header("host", "sim");
    let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a valid request");
    sender.send_request(request).await.expect("an answer")
}

#[tokio::test]
async fn an_error_in_a_stream_comes_after_the_chunks_asked_for_and_may_hide_in_the_first_event() {
    let server = server(instant()).await;
    for chunks in [0, 2] {
        let ask = hello(json!({"max_tokens": 20, "stream": true}));
        let answer = chat(server.addr, ask, &format!("stream-error={chunks}")).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        let stream = text(answer).await.expect("a whole stream");

        assert_eq!(content(&stream), expected_text(7, chunks));
        let events = events(&stream);
        let error: Value = serde_json::from_str(events[events.len() - 2]).expect("JSON");
        assert_eq!(error["error"]["code"], 503);
        assert_eq!(events.last(), Some(&"[DONE]"));
        assert_eq!(events.len() == 2, chunks == 0);
    }
}

#[tokio::test]
async fn the_other_faults_do_what_the_table_says() {
    let server = server(instant()).await;
    let ask = || hello(json!({"max_tokens": 4, "stream": true, "stream_options": {"include_usage": true}}));
    let stream = async |fault: &str| {
        let answer = chat(server.addr, ask(), fault).await.expect("an answer");
        text(answer).await.expect("a whole stream")
    };

    let answer = chat(server.addr, ask(), "status=429,retry-after=2").await.expect("an answer");
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["retry-after"]),
        (429, &"2".parse().expect("a value"))
    );
    assert!(!stream("no-done").await.contains("[DONE]"));
    assert!(!stream("no-usage").await.contains("usage"));
    assert!(stream("wrong-usage=-1:99:7").await.contains(r#""prompt_tokens":-1,"total_tokens":98"#));
    assert!(stream("after-done").await.ends_with(": more\n\n"));
    assert!(stream("garbage").await.contains("garbage"));
    assert!(stream("huge-line=200000").await.len() > 200_000);
    assert_eq!(content(&stream("split-utf8").await), expected_text(7, 4));
    assert!(events(&stream("role-in-first").await)[0].contains(r#""role":"assistant","content":"#));
    let answer = chat(server.addr, ask(), "echo-headers,gzip").await.expect("an answer");
    assert_eq!(answer.headers()["x-echo-x-sim-fault"], "echo-headers,gzip");
    assert_eq!(answer.headers()["content-encoding"], "gzip");
    assert_eq!(chat(server.addr, ask(), "nonsense").await.expect("an answer").status(), 400);
}

#[tokio::test]
async fn a_standing_fault_needs_no_header_of_the_client() {
    let server = server(instant()).await;
    server.set_fault("status=500,times=1").expect("a good list");
    let ask = hello(json!({"max_tokens": 1})).to_string();

    assert_eq!(send_without_fault(server.addr, &ask).await.status(), 500);
    assert_eq!(send_without_fault(server.addr, &ask).await.status(), 200);
}

#[tokio::test]
async fn bad_requests_are_refused_as_engines_do() {
    let server = server(EngineServerConfig { context: Some(100), ..instant() }).await;
    let status = async |body: Value| chat(server.addr, body, "").await.expect("an answer").status().as_u16();

    assert_eq!(status(json!({"model": "sim"})).await, 400, "no messages");
    assert_eq!(status(hello(json!({"model": "other"}))).await, 404);
    assert_eq!(status(hello(json!({"stream_options": {"include_usage": true}}))).await, 400, "not a stream");
    assert_eq!(status(hello(json!({"max_tokens": 95}))).await, 400, "beyond the context window");
    assert_eq!(status(hello(json!({"max_tokens": "5"}))).await, 400);
    assert_eq!(server.totals().refused, 5);
}

#[tokio::test]
async fn an_engine_at_its_bound_refuses_and_hides_it_in_streams() {
    let server = server(EngineServerConfig { requests_max: Some(0), ..instant() }).await;

    let whole = chat(server.addr, hello(json!({})), "").await.expect("an answer");
    let stream = chat(server.addr, hello(json!({"stream": true})), "").await.expect("an answer");

    assert_eq!(whole.status(), 503);
    assert_eq!(stream.status(), 200);
    assert!(text(stream).await.expect("a body").starts_with("data: {\"error\""));
}

#[tokio::test]
async fn metrics_carry_the_names_and_values_of_the_engine() {
    let server = server(instant()).await;
    text(chat(server.addr, hello(json!({"max_tokens": 8})), "").await.expect("an answer"))
        .await
        .expect("a body");

    let page =
        text(send(server.addr, "GET", "/metrics", "", "").await.expect("an answer")).await.expect("a page");

    for line in [
        "vllm:num_requests_running{engine=\"0\",model_name=\"sim\"} 0.0",
        "vllm:num_requests_waiting{engine=\"0\",model_name=\"sim\"} 0.0",
        "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"sim\"} 0.0",
        "vllm:generation_tokens_total{engine=\"0\",model_name=\"sim\"} 8.0",
        "vllm:prompt_tokens_total{engine=\"0\",model_name=\"sim\"} 11.0",
    ] {
        assert!(page.lines().any(|got| got == line), "{line} is missing in\n{page}");
    }
    assert!(page.contains("vllm:cache_config_info{block_size=\"16\""));
}

#[tokio::test]
async fn a_second_request_with_the_same_beginning_finds_it_cached() {
    let server = server(stepping()).await;
    let ask = json!({"model": "sim", "max_tokens": 2, "messages": [{"role": "user", "content": "tide ".repeat(200)}]});
    let mut cached = Vec::new();
    for _ in 0..2 {
        let answer = chat(server.addr, ask.clone(), "").await.expect("an answer");
        let body: Value = serde_json::from_str(&text(answer).await.expect("a body")).expect("JSON");
        cached.push(body["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().expect("a number"));
    }
    assert_eq!(cached, [0, 192], "206 tokens are twelve full blocks of sixteen");
    assert_eq!(server.totals().prefill_tokens, 206 + 206 - 192);
}

#[tokio::test]
async fn a_killed_server_resets_its_streams_and_frees_its_port() {
    let server = server(stuck()).await;
    let addr = server.addr;
    let ask = hello(json!({"max_tokens": 50, "stream": true}));
    let mut body = chat(addr, ask, "").await.expect("an answer").into_body();

    server.kill();

    assert!(matches!(body.frame().await, Some(Err(_))));
    let again = EngineServer::start(EngineServerConfig { address: addr, ..instant() }).await;
    again.expect("the port is free").stop().await;
}

/// The data of all events of one kind.
fn of_kind(stream: &str, kind: &str) -> Vec<Value> {
    let events =
        stream.split("\n\n").filter_map(|event| event.strip_prefix(&format!("event: {kind}\ndata: ")));
    events.map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

#[tokio::test]
async fn messages_stream_and_answer_in_their_own_shape() {
    let server = server(stepping()).await;
    let ask = |stream: bool| {
        json!({"model": "sim", "system": "Be brief.", "max_tokens": 12, "seed": 7, "stream": stream,
            "messages": [{"role": "user", "content": "tide ".repeat(100)}]})
        .to_string()
    };

    let whole = send(server.addr, "POST", "/v1/messages", &ask(false), "").await.expect("an answer");
    let whole: Value = serde_json::from_str(&text(whole).await.expect("a body")).expect("JSON");
    let stream = send(server.addr, "POST", "/v1/messages", &ask(true), "").await.expect("an answer");
    let stream = text(stream).await.expect("a whole stream");

    assert_eq!(whole["content"][0]["text"], expected_text(7, 12));
    assert_eq!(whole["stop_reason"], "max_tokens");
    let said: String = of_kind(&stream, "content_block_delta")
        .iter()
        .map(|event| event["delta"]["text"].as_str().expect("text").to_owned())
        .collect();
    assert_eq!(said, expected_text(7, 12));
    let input = &of_kind(&stream, "message_start")[0]["message"]["usage"]["input_tokens"];
    let usage = &of_kind(&stream, "message_delta")[0]["usage"];
    assert_eq!(usage["cache_read_input_tokens"], 96, "the first request left six blocks");
    assert_eq!(input.as_i64(), usage["input_tokens"].as_i64().map(|fresh| fresh + 96));
    assert_eq!(usage["output_tokens"], 12);
    assert!(stream.ends_with("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"));
}

#[tokio::test]
async fn responses_stream_and_answer_in_their_own_shape() {
    let server = server(instant()).await;
    let ask = |stream: bool, input: Value| {
        json!({"model": "sim", "instructions": "Be brief.", "input": input, "max_output_tokens": 12, "seed": 7,
            "stream": stream})
        .to_string()
    };

    let listed = json!([{"role": "user", "content": [{"type": "input_text", "text": "Hello, harbour."}]}]);
    let whole = send(server.addr, "POST", "/v1/responses", &ask(false, listed), "").await.expect("an answer");
    let whole: Value = serde_json::from_str(&text(whole).await.expect("a body")).expect("JSON");
    let stream = send(server.addr, "POST", "/v1/responses", &ask(true, json!("Hello, harbour.")), "").await;
    let stream = text(stream.expect("an answer")).await.expect("a whole stream");

    assert_eq!(whole["output"][0]["content"][0]["text"], expected_text(7, 12));
    assert_eq!((&whole["status"], &whole["usage"]["output_tokens"]), (&json!("incomplete"), &json!(12)));
    let deltas = of_kind(&stream, "response.output_text.delta");
    let said: String = deltas.iter().map(|event| event["delta"].as_str().expect("text").to_owned()).collect();
    assert_eq!(said, expected_text(7, 12));
    let completed = &of_kind(&stream, "response.completed")[0];
    assert_eq!(completed["response"]["output"][0]["content"][0]["text"], expected_text(7, 12));
    let numbers: Vec<i64> = stream
        .split("\n\n")
        .filter_map(|event| event.split_once("data: "))
        .map(|(_, data)| {
            serde_json::from_str::<Value>(data).expect("JSON")["sequence_number"].as_i64().expect("one")
        })
        .collect();
    assert_eq!(numbers, (0..numbers.len() as i64).collect::<Vec<_>>(), "without a gap");
}

#[tokio::test]
async fn what_generates_nothing_is_counted_and_answered_at_once() {
    let server = server(stuck()).await;
    let cases = [
        ("/v1/embeddings", json!({"model": "sim", "input": ["one two", "three"]}), 3),
        ("/v1/rerank", json!({"model": "sim", "query": "one", "documents": ["two", "three four"]}), 5),
        ("/v1/score", json!({"model": "sim", "text_1": "one", "text_2": ["two", "three"]}), 4),
    ];
    for (path, ask, tokens) in cases {
        let answer = send(server.addr, "POST", path, &ask.to_string(), "").await.expect("an answer");
        let body: Value = serde_json::from_str(&text(answer).await.expect("a body")).expect("JSON");
        assert_eq!(body["usage"]["prompt_tokens"], tokens, "{path}");
        let list = if path == "/v1/rerank" { &body["results"] } else { &body["data"] };
        assert_eq!(list.as_array().map(Vec::len), Some(2), "{path}");
    }
    let ask = json!({"model": "sim", "messages": [{"role": "user", "content": "one two"}]}).to_string();
    let count = send(server.addr, "POST", "/v1/messages/count_tokens", &ask, "").await.expect("an answer");
    assert_eq!(text(count).await.expect("a body"), "{\"input_tokens\":8}");
    assert_eq!((server.totals().prompt_tokens, server.totals().generated_tokens), (3 + 5 + 4 + 8, 0));
}
