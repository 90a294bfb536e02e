//! Watches over engines on loopback, good ones and others, seen through the gate that requests see.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use engine::profile::LLAMA_8B_A100;
use engine::server::{EngineServer, EngineServerConfig};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use parking_lot::Mutex;
use pingora::connectors::TransportConnector;
use shedder::{Decision, Offer, ReplicaId, ReplicaSnapshot, Tier, Uncached};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::watch::Watch;
use super::{Watches, watch_of};
use crate::deployment::Deployment;
use config::Config;
use process::clock;

const LLAMACPP: &str = include_str!("../../../protocol/src/engine/fixtures/llamacpp-metrics.txt");
const SMALL: &str =
    "vllm:num_requests_running 0\nvllm:cache_config_info{block_size=\"16\",num_gpu_blocks=\"10\"} 1\n";

/// How long an engine that answers is waited for, however busy the machine is, ms.
const PATIENT: u32 = 20_000;
/// How long one that never answers is, ms.
const IMPATIENT: u32 = 100;

fn deployment(engine: &str, replicas: &[String], timeout_ms: u32) -> Arc<Deployment> {
    let text = format!(
        "deployments:\n\
         \x20 - name: d\n\
         \x20   engine: {engine}\n\
         \x20   replicas: {replicas:?}\n\
         \x20   scrape: {{ interval_ms: 100, timeout_ms: {timeout_ms} }}\n\
         models: [{{ name: m, deployments: [d] }}]\n\
         accounts: [{{ id: a, keys: [\"sha256:{}\"] }}]\n",
        "0".repeat(64)
    );
    let config = Config::parse(&text, "t.yaml", &|_| None).unwrap();
    Arc::new(Deployment::after(&config.deployments[0], &[]))
}

/// A watch over one replica that does nothing by itself, and where its counters are seen.
fn watch(engine: &str, url: &str, timeout_ms: u32) -> (Watch, Arc<Deployment>, PrometheusHandle) {
    let deployment = deployment(engine, &[url.to_owned()], timeout_ms);
    let recorder = PrometheusBuilder::new().build_recorder();
    let connector = Arc::new(TransportConnector::new(None));
    let watch = metrics::with_local_recorder(&recorder, || {
        let (id, replica) = deployment.replicas.all()[0].clone();
        watch_of(&deployment, id, &replica, &connector)
    });
    (watch, deployment, recorder.handle())
}

fn state(deployment: &Deployment) -> ReplicaSnapshot {
    deployment.gate.read(|shedder| shedder.replica_snapshot(clock::now(), ReplicaId(0)).unwrap())
}

fn is_admitted(deployment: &Deployment) -> bool {
    let offer = Offer {
        tier: Tier::Regular,
        account: 1,
        user: None,
        weight: 1.0,
        prompt: 10,
        uncached: Uncached::everywhere(10),
        expected_output: 10,
        streaming: true,
        has_output: true,
        bytes: 100,
        arrived: clock::now(),
        deadline: None,
        needs: 0,
        affinity: None,
    };
    let decision = deployment.gate.with(|shedder| shedder.offer(clock::now(), offer));
    matches!(decision, Decision::Admit(_))
}

/// What a scripted engine does with a request.
#[derive(Debug, Clone)]
enum Act {
    Answer(u16, String),
    /// Raw bytes, then the end of the connection.
    Raw(Vec<u8>),
    Hang,
}

/// By path.
type Script = fn(&str) -> Act;

/// An engine that acts as it is told.
struct Scripted {
    url: String,
    acts: Arc<Mutex<Script>>,
    connections: Arc<AtomicU32>,
    requests: Arc<AtomicU32>,
}

impl Scripted {
    async fn start(acts: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let engine = Scripted {
            url: format!("http://{}", listener.local_addr().unwrap()),
            acts: Arc::new(Mutex::new(acts)),
            connections: Arc::default(),
            requests: Arc::default(),
        };
        let (acts, connections, requests) =
            (Arc::clone(&engine.acts), Arc::clone(&engine.connections), Arc::clone(&engine.requests));
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(act(stream, Arc::clone(&acts), Arc::clone(&requests)));
            }
        });
        engine
    }

    fn now_does(&self, acts: Script) {
        *self.acts.lock() = acts;
    }
}

async fn act(mut stream: TcpStream, acts: Arc<Mutex<Script>>, requests: Arc<AtomicU32>) {
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        requests.fetch_add(1, Ordering::Relaxed);
        let head = String::from_utf8(head).unwrap();
        let acts = *acts.lock();
        match acts(head.split(' ').nth(1).unwrap()) {
            Act::Answer(status, body) => {
                let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
            Act::Raw(bytes) => {
                let _ = stream.write_all(&bytes).await;
                return;
            }
            Act::Hang => std::future::pending().await,
        }
    }
}

#[tokio::test]
async fn a_scrape_of_an_engine_reaches_the_shedder() {
    let engine = EngineServer::start(EngineServerConfig::default()).await.unwrap();
    let (mut watch, deployment, counters) = watch("vllm", &engine.url(), PATIENT);
    assert_eq!(state(&deployment).kv_capacity_tokens, None, "nobody told");

    watch.scrape("/metrics").await;

    let profile = LLAMA_8B_A100;
    let blocks = u64::from(profile.kv_tokens / profile.block_tokens);
    let state = state(&deployment);
    assert_eq!(state.kv_capacity_tokens, Some(blocks * u64::from(profile.block_tokens)));
    assert!(state.scrape_age.is_some());
    assert!(counters.render().contains("tidegate_scrape_failures_total{deployment=\"d\",replica=\"0\"} 0"));
}

#[tokio::test]
async fn all_replicas_are_watched_without_being_told() {
    let engines = [
        EngineServer::start(EngineServerConfig::default()).await.unwrap(),
        EngineServer::start(EngineServerConfig::default()).await.unwrap(),
    ];
    let deployment = deployment("vllm", &engines.each_ref().map(EngineServer::url), PATIENT);
    let gate = &deployment.gate;
    let ages = || {
        let state = gate.read(|shedder| shedder.snapshot(clock::now()));
        state.replicas.iter().filter(|replica| replica.scrape_age.is_some()).count()
    };

    let mut watches = Watches::default();
    watches.follow(&[Arc::clone(&deployment)], &Arc::new(TransportConnector::new(None)));

    let mut polls = tokio::time::interval(Duration::from_millis(5));
    let seen = async {
        while ages() < 2 {
            polls.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), seen).await.expect("both replicas are read");
}

#[tokio::test]
async fn the_slots_of_llamacpp_bound_what_it_is_sent() {
    let engine = Scripted::start(|path| match path {
        "/metrics" => Act::Answer(200, LLAMACPP.to_owned()),
        "/props" => Act::Answer(200, "{\"total_slots\":2,\"model_path\":\"x\"}".to_owned()),
        _ => Act::Answer(404, String::new()),
    })
    .await;
    let (mut watch, deployment, _) = watch("llamacpp", &engine.url, PATIENT);
    assert_eq!(state(&deployment).limit, 64.0);

    watch.scrape("/metrics").await;
    watch.scrape("/metrics").await;

    assert_eq!(state(&deployment).limit, 2.0);
    assert_eq!(engine.requests.load(Ordering::Relaxed), 3, "slots are asked for once");
    assert_eq!(engine.connections.load(Ordering::Relaxed), 1, "the connection is kept");
}

/// Started without metrics it still tells its load.
#[tokio::test]
async fn an_engine_without_metrics_is_read_where_it_tells_its_load_otherwise() {
    const LOADS: &str = r#"{"loads":[{"num_running_reqs":3,"num_waiting_reqs":0,"token_usage":0.5,"max_total_num_tokens":4096,"max_running_requests":8}]}"#;
    let cases: [(&str, f64, Script); 2] = [
        ("sglang", 8.0, |path| match path {
            "/v1/loads?include=core" => Act::Answer(200, LOADS.to_owned()),
            _ => Act::Answer(404, String::new()),
        }),
        ("llamacpp", 1.0, |path| match path {
            "/slots" => Act::Answer(200, r#"[{"is_processing":true}]"#.to_owned()),
            _ => Act::Answer(404, String::new()),
        }),
    ];
    for (engine, limit, acts) in cases {
        let scripted = Scripted::start(acts).await;
        let (mut watch, deployment, counters) = watch(engine, &scripted.url, PATIENT);

        watch.scrape("/metrics").await;

        assert_eq!(state(&deployment).limit, limit, "{engine}");
        assert!(state(&deployment).scrape_age.is_some(), "{engine}");
        assert!(counters.render().contains("replica=\"0\"} 0"), "{engine}: it is read, so nothing failed");
    }
}

/// The window is used where the config says none.
#[tokio::test]
async fn the_window_that_the_engine_tells_is_learnt() {
    let engine = Scripted::start(|path| match path {
        "/v1/models" => Act::Answer(200, r#"{"data":[{"id":"m","max_model_len":4096}]}"#.to_owned()),
        _ => Act::Answer(404, String::new()),
    })
    .await;
    let (mut watch, deployment, _) = watch("openai", &engine.url, PATIENT);
    assert_eq!(deployment.learned.context("m"), None);

    watch.ask().await;

    assert_eq!((deployment.learned.context("m"), deployment.learned.context("n")), (Some(4096), None));
}

/// threat_f8, report_s6: no page, no effect but a count.
#[tokio::test]
async fn threat_f8_an_engine_whose_metrics_are_of_no_use_still_serves() {
    let cases: [(&str, Script); 8] = [
        ("hangs", |_| Act::Hang),
        ("is garbage", |_| Act::Raw(vec![0xff; 4096])),
        ("is another page", |_| Act::Answer(200, "<html>hello</html>".to_owned())),
        ("is huge", |_| Act::Answer(200, SMALL.repeat(20_000))),
        ("has too many lines", |_| Act::Answer(200, "a 1\n".repeat(20_000))),
        ("is missing", |_| Act::Answer(404, SMALL.to_owned())),
        ("is cut", |_| Act::Raw(format!("HTTP/1.1 200 X\r\ncontent-length: 9999\r\n\r\n{SMALL}").into())),
        ("moved", |_| {
            Act::Raw(b"HTTP/1.1 302 X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".into())
        }),
    ];
    for (what, acts) in cases {
        let engine = Scripted::start(acts).await;
        let (mut watch, deployment, counters) = watch("vllm", &engine.url, IMPATIENT);

        watch.scrape("/metrics").await;
        watch.scrape("/metrics").await;

        let failures = "tidegate_scrape_failures_total{deployment=\"d\",replica=\"0\"} 2";
        assert!(counters.render().contains(failures), "{what}: {}", counters.render());
        let state = state(&deployment);
        assert_eq!((state.scrape_age, state.healthy, state.limit), (None, true, 64.0), "{what}");
        assert!(is_admitted(&deployment), "{what}");
    }
}

#[tokio::test]
async fn report_s6_after_the_last_page_the_engine_serves_on_what_is_known() {
    let engine = Scripted::start(|_| Act::Answer(200, SMALL.to_owned())).await;
    let (mut watch, deployment, _) = watch("vllm", &engine.url, PATIENT);
    watch.scrape("/metrics").await;
    let read_at = clock::now();

    engine.now_does(|_| Act::Raw(Vec::new()));
    watch.scrape("/metrics").await;

    // The state's own time is later than this one, however long the scheduler takes between the two.
    let least = clock::now().saturating_sub(read_at);
    let state = state(&deployment);
    assert_eq!(state.kv_capacity_tokens, Some(160));
    assert!(state.scrape_age >= Some(least), "the age grows");
    assert!(is_admitted(&deployment));
}

#[tokio::test]
async fn a_connection_that_the_engine_closed_is_opened_again() {
    let engine = Scripted::start(|_| {
        Act::Raw(format!("HTTP/1.1 200 X\r\ncontent-length: {}\r\n\r\n{SMALL}", SMALL.len()).into())
    })
    .await;
    let (mut watch, deployment, counters) = watch("vllm", &engine.url, PATIENT);

    for _ in 0..3 {
        watch.scrape("/metrics").await;
    }

    assert_eq!(state(&deployment).kv_capacity_tokens, Some(160));
    assert!(counters.render().contains("tidegate_scrape_failures_total{deployment=\"d\",replica=\"0\"} 0"));
    assert_eq!(engine.connections.load(Ordering::Relaxed), 4, "three pages, and once what does not change");
}

#[tokio::test]
async fn an_idle_replica_that_misses_two_probes_is_out_until_one_succeeds() {
    let engine = Scripted::start(|_| Act::Answer(503, String::new())).await;
    let (mut watch, deployment, _) = watch("vllm", &engine.url, PATIENT);

    watch.probe().await;
    assert!(state(&deployment).healthy, "one is chance");
    watch.probe().await;
    assert!(!state(&deployment).healthy);

    engine.now_does(|_| Act::Answer(200, String::new()));
    watch.look().await;
    assert!(state(&deployment).healthy);
}

/// A server that answers is alive, wherever its health route is.
#[tokio::test]
async fn a_health_route_that_is_missing_or_locked_is_no_failure() {
    for acts in [|_: &str| Act::Answer(404, String::new()), |_: &str| Act::Answer(401, String::new())] {
        let engine = Scripted::start(acts).await;
        let (mut watch, deployment, _) = watch("openai", &engine.url, PATIENT);

        for _ in 0..3 {
            watch.probe().await;
        }

        assert!(state(&deployment).healthy);
    }
}

#[tokio::test]
async fn report_s9_a_busy_replica_that_would_miss_its_probe_stays_in() {
    let engine = Scripted::start(|_| Act::Hang).await;
    let (mut watch, deployment, _) = watch("vllm", &engine.url, IMPATIENT);
    assert!(is_admitted(&deployment));

    watch.look().await;
    assert_eq!(engine.requests.load(Ordering::Relaxed), 0, "it is not even asked");

    for _ in 0..3 {
        watch.probe().await;
    }
    assert!(state(&deployment).healthy, "nor does a probe count that was under way when it got busy");
}

#[tokio::test]
async fn an_idle_replica_is_not_probed_at_each_look() {
    let engine = Scripted::start(|_| Act::Answer(200, String::new())).await;
    let (mut watch, _, _) = watch("vllm", &engine.url, PATIENT);

    for _ in 0..3 {
        watch.look().await;
    }

    assert_eq!(engine.requests.load(Ordering::Relaxed), 1);
}
