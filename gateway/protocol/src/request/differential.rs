//! 273 bodies that parsers read differently: refused, or read as every engine reads them.
//!
//! `bodies.jsonl` says of each body what an engine built on Python's json, on Node's `JSON.parse` and on Go's
//! encoding/json would serve; `tests/clients/parsers.py` asks those parsers whether the table is right. Where we accept a
//! body, no engine may serve another model, another stream flag, more choices or a longer answer than was admitted and
//! charged, neither from the client's bytes nor from those that we send in their place.

use super::call::Call;
use crate::api::Api;
use crate::engine::Engine;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use shedder::Tier;

const TABLE: &str = include_str!("bodies.jsonl");

#[derive(Deserialize)]
struct Case {
    name: String,
    body: Option<String>,
    hex: Option<String>,
    python: Value,
    go: Value,
    node: Value,
}

impl Case {
    fn bytes(&self) -> Bytes {
        match (&self.body, &self.hex) {
            (Some(body), _) => Bytes::copy_from_slice(body.as_bytes()),
            (None, Some(hex)) => (0..hex.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
                .collect(),
            (None, None) => panic!("{} has no body", self.name),
        }
    }

    fn readings(&self) -> [(&'static str, &Value); 3] {
        [("Python", &self.python), ("Go", &self.go), ("Node", &self.node)]
    }
}

fn table() -> Vec<Case> {
    TABLE.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn read(bytes: Bytes) -> Option<Call> {
    Call::read(Api::Chat, bytes, 64).ok()
}

/// What an engine may have read, given what we did.
#[track_caller]
fn assert_agrees(name: &str, parser: &str, call: &Call, reading: &Value) {
    if reading == "error" {
        return;
    }
    let what = format!("{name}: {parser} reads {reading}, we read {call:?}");
    assert_eq!(reading["model"], call.model.as_str(), "{what}");
    assert_eq!(reading["stream"], call.stream, "{what}");
    assert!(reading["n"].as_u64().is_some_and(|n| n <= u64::from(call.choices)), "{what}");
    match (reading["max"].as_u64(), call.max_tokens) {
        (Some(theirs), Some(ours)) => assert!(theirs <= u64::from(ours), "{what}"),
        (_, ours) => assert_eq!(ours, None, "{what}"),
    }
}

#[test]
fn threat_s8_a_body_is_refused_or_read_as_every_engine_reads_it() {
    let table = table();
    assert!(table.len() >= 200, "{} bodies", table.len());
    let mut accepted = 0;
    for case in &table {
        let Some(call) = read(case.bytes()) else { continue };
        accepted += 1;
        for (parser, reading) in case.readings() {
            assert_agrees(&case.name, parser, &call, reading);
        }
    }
    // Both happen: a reader that refused everything would agree with everybody.
    assert!((30..table.len() - 100).contains(&accepted), "{accepted} of {} accepted", table.len());
}

/// What we send is read by us as what was admitted, but for the model's name at the engine.
#[test]
fn threat_s8_what_is_sent_is_what_was_admitted() {
    for case in table() {
        let Some(call) = read(case.bytes()) else { continue };
        let sent = Bytes::from(call.forwarded("served", Engine::Openai, Tier::Regular, Vec::new()).concat());
        let again = read(sent.clone()).unwrap_or_else(|| panic!("{}: {sent:?}", case.name));
        assert_eq!(
            (again.model.as_str(), again.stream, again.choices, again.max_tokens),
            ("served", call.stream, call.choices, call.max_tokens),
            "{}",
            case.name
        );
    }
}

/// The check itself can fail: a reading that differs in any of the four is found.
#[test]
fn a_reading_that_differs_is_found() {
    let call = read(Bytes::from_static(br#"{"model":"m","messages":[],"stream":true,"n":2,"max_tokens":9}"#))
        .unwrap();
    let good = serde_json::json!({ "model": "m", "stream": true, "n": 2, "max": 9 });
    assert_agrees("good", "x", &call, &good);
    for (member, value) in [
        ("model", Value::from("other")),
        ("stream", Value::from(false)),
        ("n", Value::from(3)),
        ("max", Value::from(10)),
        ("max", Value::Null),
    ] {
        let mut bad = good.clone();
        bad[member] = value;
        let found =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| assert_agrees("bad", "x", &call, &bad)))
                .is_err();
        assert!(found, "{bad}");
    }
}
