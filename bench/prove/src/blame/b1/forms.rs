//! The forms in which an engine refuses a request, or fails at it, without being at fault itself.

use kit::hostile::{Act, Asked, beginning, word};
use serde_json::{Value, json};

/// One form.
#[derive(Debug)]
pub(super) struct Form {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    pub(super) stream: bool,
    /// What the engine answers to the request of this number.
    pub(super) answer: fn(&Asked, u64) -> Vec<Act>,
}

const CHAT: &str = "/v1/chat/completions";
/// A sentence that is in no list.
const WORDS: &str = "Frobnication of the lattice failed";

const fn stream(name: &'static str, path: &'static str, answer: fn(&Asked, u64) -> Vec<Act>) -> Form {
    Form { name, path, stream: true, answer }
}

const fn whole(name: &'static str, answer: fn(&Asked, u64) -> Vec<Act>) -> Form {
    Form { name, path: CHAT, stream: false, answer }
}

fn inner() -> Value {
    json!({ "message": WORDS, "type": "BadRequestError", "param": null, "code": 400 })
}

fn flat() -> Value {
    json!({ "object": "error", "message": WORDS, "type": "BadRequestError", "param": null, "code": 400 })
}

fn first(event: Act) -> Vec<Act> {
    vec![Act::Sse, event, Act::End]
}

/// All twelve.
pub(super) const FORMS: [Form; 12] = [
    stream("first event, nested", CHAT, |_, _| first(Act::Event(json!({ "error": inner() })))),
    stream("first event, flat", CHAT, |_, _| first(Act::Event(flat()))),
    stream("first event of messages", "/v1/messages", |_, _| {
        let error = json!({ "type": "invalid_request_error", "message": WORDS });
        first(Act::Named("error", json!({ "error": error })))
    }),
    stream("response.failed", "/v1/responses", |_, _| {
        let error = json!({ "code": "invalid_prompt", "message": WORDS });
        let response = json!({ "id": "resp_1", "object": "response", "status": "failed", "error": error });
        first(Act::Named("response.failed", json!({ "sequence_number": 0, "response": response })))
    }),
    stream("after the first token", CHAT, |asked, _| {
        let mut acts = vec![Act::Sse];
        acts.extend(beginning(asked));
        acts.extend(word(asked, "hello"));
        acts.extend([Act::Event(json!({ "error": inner() })), Act::End]);
        acts
    }),
    whole("200 with `error`", |_, _| vec![Act::Json(200, json!({ "error": inner() }))]),
    whole("200 with `object: error`", |_, _| vec![Act::Json(200, flat())]),
    whole("200 with `detail`", |_, _| vec![Act::Json(200, json!({ "detail": WORDS }))]),
    whole("400, 413 and 422", |_, number| match number % 3 {
        0 => vec![Act::Json(400, json!({ "error": inner() }))],
        1 => vec![Act::Json(413, flat())],
        _ => {
            let detail = json!([{ "loc": ["body", "tools"], "msg": WORDS, "type": "value_error" }]);
            vec![Act::Json(422, json!({ "detail": detail }))]
        }
    }),
    whole("500 in JSON", |_, _| {
        let error = json!({ "code": 500, "message": WORDS, "type": "server_error" });
        vec![Act::Json(500, json!({ "error": error }))]
    }),
    whole("500 in text", |_, _| vec![Act::Whole(500, "text/plain", "Internal Server Error".to_owned())]),
    whole("200 with a page", |_, _| {
        let page = "<!DOCTYPE html><html><body><h1>Bad request</h1></body></html>";
        vec![Act::Whole(200, "text/html", page.to_owned())]
    }),
];
