//! Who calls: pages in a browser, Azure's client, and accounts that ask for a model of others. Cases E09, E10 and E17.

use super::{Fleet, fleet, fleet_of};
use crate::PROGRAM;
use http::Request;
use http_body_util::Full;
use kit::base_config::{PLAIN_KEY, STRICT_KEY, account};
use kit::client::{Answer, get, post, post_to, send};
use kit::hostile::{Hostile, ordinary};
use kit::raw::Raw;
use kit::{Gateway, KEY, ask, config, gateway_and_engine};
use protocol::api::Api;
use serde_json::{Value, json};

const PAGE: &str = "https://chat.example.org";

/// A gateway that pages of these origins may call.
async fn open_to(origins: Value) -> Fleet {
    fleet_of(vec![Hostile::start(ordinary).await], json!({ "listen": { "cors": origins } })).await
}

fn from(page: &str, mut request: Request<Full<bytes::Bytes>>) -> Request<Full<bytes::Bytes>> {
    request.headers_mut().insert("origin", page.parse().unwrap());
    request
}

fn preflight(page: &str, path: &str, headers: &str) -> Request<Full<bytes::Bytes>> {
    let request = Request::options(path).header("host", "gateway.test").header("origin", page);
    let request = request.header("access-control-request-method", "POST");
    request.header("access-control-request-headers", headers).body(Full::default()).unwrap()
}

/// E09: a browser asks without a key, and is answered without a line in the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e09_a_page_of_a_listed_origin_may_call() {
    let fleet = open_to(json!([PAGE, "http://localhost:3000"])).await;
    let address = fleet.gateway.address;
    let asked = "authorization,content-type,x-stainless-lang,anthropic-version,api-key";

    for path in ["/v1/chat/completions", "/v1/messages", "/openai/deployments/sim/chat/completions"] {
        let answer = send(address, preflight(PAGE, path, asked)).await;
        assert!([200, 204].contains(&answer.status), "{path}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-origin"), PAGE, "{path}");
        assert_eq!(answer.header("access-control-allow-headers"), asked, "{path}");
        assert!(answer.header("access-control-allow-methods").contains("POST"), "{path}");
        assert_ne!(answer.header("access-control-max-age"), "", "{path}");
        assert!(answer.header("vary").contains("Origin"), "{path}");
        assert!(!answer.headers.contains_key("access-control-allow-credentials"), "{path}");
    }
    assert_eq!(fleet.gateway.log_text(), "", "a preflight is no request");

    let served = send(address, from(PAGE, post(&ask(json!({})), Some(KEY)))).await;
    let streamed = send(address, from(PAGE, post(&ask(json!({ "stream": true })), Some(KEY)))).await;
    let refused = send(address, from(PAGE, post(&ask(json!({})), None))).await;
    let unknown = send(address, from(PAGE, get("/v1/nothing", Some(KEY)))).await;
    assert_eq!([&served, &streamed, &refused, &unknown].map(|answer| answer.status), [200, 200, 401, 404]);
    for answer in [served, streamed, refused, unknown] {
        assert_eq!(answer.header("access-control-allow-origin"), PAGE);
        let exposed: Vec<&str> =
            answer.header("access-control-expose-headers").split(',').map(str::trim).collect();
        for name in ["retry-after", "x-request-id", "x-should-retry", "x-ratelimit-limit-tokens-prompt"] {
            assert!(exposed.contains(&name), "{name} is not exposed");
        }
        // What every page may see anyway, what is about the connection, and what is said to the browser alone.
        let plain = |name: &str| {
            ["content-type", "content-length", "cache-control", "connection", "vary", "transfer-encoding"]
                .contains(&name)
                || name.starts_with("access-control-")
                || name == "x-accel-buffering"
        };
        let hidden: Vec<_> = answer
            .headers
            .keys()
            .map(|name| name.as_str())
            .filter(|name| !exposed.contains(name) && !plain(name))
            .collect();
        assert!(hidden.is_empty(), "not exposed: {hidden:?}");
    }
}

/// E09: other pages are told nothing, and where `cors` is not set nobody is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e09_other_pages_may_not_call() {
    let listed = open_to(json!([PAGE])).await;
    let all = open_to(json!(["*"])).await;
    let nobody = open_to(json!([])).await;
    let told = |answer: &Answer| answer.header("access-control-allow-origin").to_owned();
    let call = |page: &str| from(page, post(&ask(json!({})), Some(KEY)));

    for page in ["https://evil.example", "https://chat.example.org.evil.example", "null"] {
        for request in [preflight(page, "/v1/chat/completions", "authorization"), call(page)] {
            assert_eq!(told(&send(listed.gateway.address, request).await), "", "{page}");
        }
        for request in [preflight(page, "/v1/chat/completions", "authorization"), call(page)] {
            assert_eq!(told(&send(all.gateway.address, request).await), "*", "{page}");
        }
    }
    for (fleet, refused) in [(&listed, 3), (&all, 0), (&nobody, 0)] {
        let page = fleet.gateway.admin("/metrics").await.text();
        let series = format!("tidegate_connections_refused_total{{reason=\"origin\"}} {refused}\n");
        assert!(page.contains(&series), "a preflight that is refused leaves a trace, once each: {page}");
    }
    let plain = send(listed.gateway.address, post(&ask(json!({})), Some(KEY))).await;
    assert_eq!((told(&plain).as_str(), plain.header("vary")), ("", "Origin"));
    let off = send(nobody.gateway.address, preflight(PAGE, "/v1/chat/completions", "authorization")).await;
    assert_eq!((off.status, told(&off).as_str()), (405, ""));
    let off = send(nobody.gateway.address, call(PAGE)).await;
    assert_eq!((off.status, told(&off).as_str(), off.header("vary")), (200, "", ""));
}

/// E10: HEAD is answered as GET without its body, and a slash at the end changes nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e10_head_and_a_slash_at_the_end_are_served() {
    let (gateway, _engine) = gateway_and_engine(PROGRAM).await;
    for path in ["/v1/models", "/v1/models/", "/v1/models/sim", "/v1/models/sim/", "/openai/v1/models"] {
        let mut request = get(path, Some(KEY));
        let whole = send(gateway.address, request.clone()).await;
        *request.method_mut() = http::Method::HEAD;
        let head = send(gateway.address, request).await;
        assert_eq!((whole.status, head.status), (200, 200), "{path}");
        assert_eq!(head.header("content-length"), whole.body.len().to_string(), "{path}");
        assert!(head.body.is_empty(), "{path}");
    }
    // The connection goes on behind an answer without a body.
    let mut raw = Raw::connect(gateway.address).await;
    let line = |path: &str, key: &str| {
        format!("HEAD {path} HTTP/1.1\r\nHost: g\r\nAuthorization: Bearer {key}\r\n\r\n")
    };
    for (path, key, status) in
        [("/v1/models", KEY, 200), ("/v1/models", "tg-nobody", 401), ("/v1/models/no", KEY, 404)]
    {
        raw.send(line(path, key)).await;
        assert_eq!(raw.head().await.unwrap().0, status, "{path}");
    }
    for path in ["/v1/chat/completions/", "/inference/v1/chat/completions/", "/openai/v1/chat/completions"] {
        let answer = send(gateway.address, post_to(path, &ask(json!({})), Some(KEY))).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
}

/// E10: Azure's client names the model in the path and sends its key as `api-key`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e10_azures_client_is_served() {
    let fleet = fleet_of(
        vec![Hostile::start(ordinary).await],
        json!({ "models": { "served_model": "vendor/sim", "aliases": ["meta/sim", "sim-nick"] } }),
    )
    .await;
    let call = |path: &str, body: Value| {
        let mut request = post_to(path, &body, None);
        request.headers_mut().insert("api-key", KEY.parse().unwrap());
        send(fleet.gateway.address, request)
    };
    let body = |api: Api, model: Value| {
        let mut body = kit::shape::request(api, 8, json!({}));
        match model {
            Value::Null => drop(body.as_object_mut().unwrap().remove("model")),
            model => body["model"] = model,
        }
        body
    };
    for (api, path) in
        [(Api::Chat, "chat/completions"), (Api::Completions, "completions"), (Api::Embeddings, "embeddings")]
    {
        for (name, model) in [
            ("sim", Value::Null),
            ("sim", json!("sim")),
            ("sim", json!("sim-nick")),
            ("meta%2Fsim", Value::Null),
            ("meta/sim", Value::Null),
        ] {
            let path = format!("/openai/deployments/{name}/{path}?api-version=2024-10-21");
            let answer = call(&path, body(api, model.clone())).await;
            assert_eq!(answer.status, 200, "{path} {model}: {}", answer.text());
            let shown = model.as_str().map_or_else(|| name.replace("%2F", "/"), str::to_owned);
            assert_eq!(answer.json()["model"], shown, "{path} {model}");
        }
        let conflict =
            call(&format!("/openai/deployments/sim/{path}"), body(api, json!("other-model"))).await;
        assert_eq!(conflict.verdict(), (400, "bad-request"), "{path}");
        let unknown = call(&format!("/openai/deployments/nobody/{path}"), body(api, Value::Null)).await;
        assert_eq!(unknown.verdict(), (404, "not-found"), "{path}");
    }
    for asked in fleet.engines[0].asked() {
        assert!(asked.path.starts_with("/v1/"), "{}", asked.path);
        assert_eq!(asked.json()["model"], "vendor/sim", "{}", asked.body);
    }
}

/// E10: several carriers with one key are one key; a byte order mark is no fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e10_one_key_in_several_headers_and_a_byte_order_mark() {
    let fleet = fleet(1, json!({}), ordinary).await;
    let with = |lines: &[(&'static str, String)], body: Vec<u8>| {
        let mut request = post(&json!(null), None);
        for (name, value) in lines {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        *request.body_mut() = Full::new(body.into());
        send(fleet.gateway.address, request)
    };
    let bearer = ("authorization", format!("Bearer {KEY}"));
    let (own, azure) = (("x-api-key", KEY.to_owned()), ("api-key", KEY.to_owned()));
    let plain = ask(json!({})).to_string().into_bytes();
    for lines in [
        vec![bearer.clone(), own.clone()],
        vec![bearer.clone(), own.clone(), azure.clone()],
        vec![azure.clone()],
        vec![bearer.clone(), ("x-api-key", String::new())],
    ] {
        let answer = with(&lines, plain.clone()).await;
        assert_eq!(answer.status, 200, "{lines:?}: {}", answer.text());
    }
    for (lines, status) in [
        (vec![bearer.clone(), ("x-api-key", PLAIN_KEY.to_owned())], 400),
        (vec![own, ("api-key", PLAIN_KEY.to_owned())], 400),
        (vec![("authorization", KEY.to_owned())], 401),
    ] {
        assert_eq!(with(&lines, plain.clone()).await.status, status, "{lines:?}");
    }

    let marked = [b"\xef\xbb\xbf".as_slice(), &plain].concat();
    let answer = with(&[bearer], marked).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(fleet.engines[0].asked().last().unwrap().body.starts_with('{'), "the mark stays here");
}

/// E17: a model of others is answered as one that does not exist, and not listed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_e17_a_model_of_others_does_not_exist() {
    let engine = Hostile::start(ordinary).await;
    let mut config = config([engine.url()]);
    let own =
        |name: &str, route: Value| json!({ "name": name, "deployments": [route], "size_class": "small" });
    let models = config["models"].as_array_mut().unwrap();
    models.push(own("of-acme", json!({ "name": "sim", "accounts": ["acme"] })));
    models.push(own("of-priority", json!({ "name": "sim", "tiers": ["priority"] })));
    let more = json!({ "models": ["sim", "of-acme", "of-priority"], "tiers": ["regular"] });
    config["accounts"].as_array_mut().unwrap().push(account("narrow", "tg-narrow", more));
    let gateway = Gateway::start(PROGRAM, &config).await;
    let listed = |key: &'static str| async {
        let page = send(gateway.address, get("/v1/models", Some(key))).await.json();
        let ids: Vec<String> = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect();
        ids
    };
    assert_eq!(listed(KEY).await, ["sim", "other-model", "of-acme", "of-priority"]);
    assert_eq!(listed(PLAIN_KEY).await, ["sim", "other-model"]);
    assert_eq!(listed(STRICT_KEY).await, ["sim"]);
    assert_eq!(listed("tg-narrow").await, ["sim"]);

    let told = |key: &'static str, model: &'static str| {
        let gateway = &gateway;
        async move {
            let called = gateway.chat_as(key, &ask(json!({ "model": model }))).await;
            let read = send(gateway.address, get(&format!("/v1/models/{model}"), Some(key))).await;
            [called, read].map(|answer| {
                let names: Vec<String> = answer.headers.keys().map(|name| name.as_str().to_owned()).collect();
                (answer.status, answer.text().replace(model, "MODEL"), names)
            })
        }
    };
    for (key, model) in [
        (STRICT_KEY, "other-model"),
        (PLAIN_KEY, "of-acme"),
        (PLAIN_KEY, "of-priority"),
        ("tg-narrow", "of-acme"),
        ("tg-narrow", "other-model"),
    ] {
        let [called, read] = told(key, model).await;
        let [no_call, no_read] = told(key, "nobody-has").await;
        assert_eq!(called, no_call, "{model}");
        assert_eq!(read, no_read, "{model}");
        assert_eq!((called.0, read.0), (404, 404), "{model}");
    }
    assert_eq!(engine.asked().len(), 0);
}
