//! A client of T1: draws a request, good or bad, sends it well or badly, and may leave at any moment.

use std::net::SocketAddr;
use std::time::Duration;

use rand::Rng;
use rand::rngs::SmallRng;

use harness::raw::Connection;
use harness::tidegate::{MODEL, chat};

/// Directives to the simulated engine, one in six requests has one.
const FAULTS: [&str; 18] = [
    "status=400",
    "delay=50ms",
    "delay=400ms",
    "hang",
    "hang=3",
    "cut=0",
    "cut=4",
    "reset=0",
    "reset=4",
    "stream-error=3",
    "no-usage",
    "wrong-usage=-5:99999999:7",
    "ends=2",
    "after-done",
    "garbage",
    "huge-line=300000",
    "split-utf8,role-in-first",
    "wrong-length=9,output=3",
];

/// After these the gateway spares a replica for a while, and if they were frequent nothing would ever be served.
const RARE: [&str; 4] = ["status=503", "status=500", "status=429,retry-after=1", "stream-error=0"];

/// One client with its connection, if that is still good.
#[derive(Debug)]
pub(super) struct Guest {
    target: SocketAddr,
    connection: Option<Connection>,
}

impl Guest {
    pub(super) fn new(target: SocketAddr) -> Self {
        Self { target, connection: None }
    }

    /// One request; how it ended, in a word or two.
    pub(super) async fn visit(&mut self, random: &mut SmallRng) -> String {
        let mut connection = match self.connection.take() {
            Some(open) => open,
            None => match Connection::open(self.target).await {
                Ok(fresh) => fresh,
                Err(_) => return "no connection".to_owned(),
            },
        };
        let request = request(random);
        if random.random_range(0..100) < 4 {
            let part = request.get(..random.random_range(1..request.len())).unwrap_or_default();
            // Whether it got through does not matter: the client is gone either way.
            let _ = connection.send(part).await;
            return "left while sending".to_owned();
        }
        let patience = match random.random_range(0..10) {
            0 | 1 => Duration::from_micros(random.random_range(0..300_000)),
            _ => Duration::from_secs(10),
        };
        let exchange = connection.exchange(&request, |_| ());
        match tokio::time::timeout(patience, exchange).await {
            Err(_) if patience.as_secs() == 10 => "no end in 10 s".to_owned(),
            Err(_) => "left while waiting".to_owned(),
            Ok(Err(_)) => "broken off".to_owned(),
            Ok(Ok(answer)) => {
                if answer.keep && random.random_range(0..20) > 0 {
                    self.connection = Some(connection);
                }
                // Who is told to come later and comes at once keeps everybody else out.
                if matches!(answer.status, 429 | 503) {
                    tokio::time::sleep(Duration::from_millis(random.random_range(10..150))).await;
                }
                answer.status.to_string()
            }
        }
    }
}

fn request(random: &mut SmallRng) -> Vec<u8> {
    let key = match random.random_range(0..20) {
        0 => "nobody's",
        1 => "slow",
        2 | 3 => "poor",
        4..=11 => "key-0",
        _ => "key-1",
    };
    let body = match random.random_range(0..40) {
        0 => "{\"model\":".to_owned(),
        1 => "[".repeat(100),
        2 => body(random, "no-such-model"),
        3 => String::new(),
        _ => body(random, MODEL),
    };
    chat(key, &body)
}

fn body(random: &mut SmallRng, model: &str) -> String {
    let stream = random.random_range(0..3) > 0;
    let tier = match random.random_range(0..4) {
        0 => ",\"service_tier\":\"priority\"",
        _ => "",
    };
    let fault = match random.random_range(0..400) {
        drawn @ 0..72 => FAULTS.get(drawn % FAULTS.len()),
        drawn @ 72..76 => RARE.get(drawn % RARE.len()),
        _ => None,
    };
    let fault = fault.copied().unwrap_or("gap=1ms");
    let usage = if stream && random.random_range(0..2) == 0 {
        ",\"stream_options\":{\"include_usage\":true}"
    } else {
        ""
    };
    let words = "a word ".repeat(random.random_range(1..60));
    let most = random.random_range(1..60);
    let seed = random.random::<u32>();
    format!(
        "{{\"model\":\"{model}\",\"stream\":{stream},\"max_tokens\":{most},\"ignore_eos\":true,\"seed\":{seed}{usage}{tier},\
         \"user\":\"sim:{fault}\",\"messages\":[{{\"role\":\"user\",\"content\":\"{words}\"}}]}}"
    )
}
