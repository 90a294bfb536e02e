//! T9: malformed HTTP/1, over the gateway as it is shipped.
//!
//! A corpus of requests, changed by chance ([`corpus`]), each on a connection of its own. Three things are counted:
//!
//! - **crashes**: a panic, a process that is gone, a counter of the invariants that is not zero afterwards;
//! - **hangs**: a connection that is neither answered nor closed within 15 s. Most clients end their sending half when no
//!   answer came for a moment; one of fifty waits;
//! - **requests at the engine that no client legally sent**, by a reader of the letter ([`reading`]) that shares nothing
//!   with the gateway: whatever the engine gets must be a body that a client framed by the letter, and as often as it did.

mod corpus;
mod reading;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use kit::recorder::Recorder;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use harness::proof::{Finding, Proof, Setting, Trouble};
use harness::raw::Connection;
use harness::tidegate::{Config, MODEL, Tidegate, chat};

pub(crate) const PROOF: Proof = Proof {
    id: "T9",
    what: "malformed HTTP/1: crashes, hangs, requests at an engine that no client legally sent",
    goal: "0, 0, 0 of 100000",
    quick_s: 12,
    full_s: 1800,
    needs: "",
    run,
};

/// Cases in flight at once.
const AT_ONCE: usize = 250;
/// When a client that has no answer ends its sending half.
const IMPATIENT: Duration = Duration::from_millis(250);
/// One of so many clients waits instead.
const PATIENT: u64 = 50;
/// No connection may be silent for longer.
const HANG: Duration = Duration::from_secs(15);

/// What came out so far.
#[derive(Debug, Default)]
struct Tally {
    answers: BTreeMap<String, u64>,
    hangs: Vec<String>,
    illegal: Vec<String>,
    served: u64,
}

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let cases: u64 = setting.size(2_000, 100_000);
    let seed = setting.seeds(1).start;
    setting.block_on(async {
        let engine = Recorder::start().await;
        let config = Config::limitless(vec![address_of(&engine)?], 1);
        let gateway = Tidegate::start(setting, "t9", &config).await?;
        let mut tally = Tally::default();
        let mut random = SmallRng::seed_from_u64(seed);
        let mut number = 0;
        while number < cases {
            let until = cases.min(number + AT_ONCE as u64);
            let round: Vec<(u64, Vec<u8>)> =
                (number..until).map(|n| (n, corpus::case(n, &mut random))).collect();
            play(gateway.address, &round, &mut tally).await?;
            judge(&round, &engine, &mut tally);
            number = until;
        }
        let crashes = crashes(setting, &gateway).await?;
        let (hangs, illegal) = (tally.hangs.len(), tally.illegal.len());
        // A gateway that refused everything would pass as well.
        let is_served = tally.served > cases / 20;
        Ok(Finding {
            figure: format!("{crashes}, {hangs}, {illegal} of {cases} ({} served)", tally.served),
            goal: format!("0, 0, 0 of {cases}"),
            ok: crashes == 0 && hangs == 0 && illegal == 0 && is_served,
            details: json!({
                "cases": cases,
                "seed": seed,
                "answers": tally.answers,
                "hangs": tally.hangs,
                "illegal": tally.illegal,
            }),
        })
    })
}

fn address_of(engine: &Recorder) -> Result<SocketAddr, Trouble> {
    let url = engine.url();
    let address = url.trim_start_matches("http://").parse();
    address.map_err(|_| Trouble::Unexpected(format!("{url} is no address")))
}

/// Sends each case on its own connection.
async fn play(gateway: SocketAddr, round: &[(u64, Vec<u8>)], tally: &mut Tally) -> Result<(), Trouble> {
    let mut running = JoinSet::new();
    for (number, bytes) in round {
        let (number, bytes) = (*number, bytes.clone());
        running.spawn(async move { (timeout(HANG, exchange(gateway, number, &bytes)).await, bytes) });
    }
    while let Some(done) = running.join_next().await {
        let (ended, bytes) = done.map_err(|e| Trouble::Unexpected(e.to_string()))?;
        match ended {
            Err(_) => tally.hangs.push(bytes.escape_ascii().to_string()),
            Ok(status) => *tally.answers.entry(status).or_default() += 1,
        }
    }
    Ok(())
}

/// The status that came, or how it ended without one.
async fn exchange(gateway: SocketAddr, number: u64, bytes: &[u8]) -> String {
    let Ok(mut stream) = TcpStream::connect(gateway).await else { return "no connection".to_owned() };
    if stream.write_all(bytes).await.is_err() {
        return "reset".to_owned();
    }
    let mut read = Vec::new();
    let is_patient = number.is_multiple_of(PATIENT);
    if !is_patient && timeout(IMPATIENT, stream.read_buf(&mut read)).await.is_err() {
        let _ = stream.shutdown().await;
    }
    while !read.starts_with(b"HTTP/1.1 ") || read.len() < 12 {
        if !matches!(stream.read_buf(&mut read).await, Ok(1..)) {
            return "closed".to_owned();
        }
    }
    String::from_utf8_lossy(read.get(9..12).unwrap_or_default()).into_owned()
}

/// Compares what the engine got with what the clients of this round legally sent.
fn judge(round: &[(u64, Vec<u8>)], engine: &Recorder, tally: &mut Tally) {
    let mut legal: Vec<Value> = Vec::new();
    for (_, bytes) in round {
        let contents = reading::bodies(bytes).into_iter().map(reading::content);
        legal.extend(contents.filter_map(|body| serde_json::from_slice(&body).ok()));
    }
    for request in engine.take() {
        tally.served += 1;
        let read: Option<Value> = serde_json::from_slice(&request.body).ok();
        match read.and_then(|read| legal.iter().position(|sent| *sent == read)) {
            Some(at) => drop(legal.swap_remove(at)),
            None => tally.illegal.push(request.body.escape_ascii().to_string()),
        }
    }
}

/// Panics in the log, counters that are not zero, and whether it still answers.
async fn crashes(setting: &Setting, gateway: &Tidegate) -> Result<u64, Trouble> {
    let said = std::fs::read_to_string(setting.out.join("t9.log"))?;
    let panics = said.matches("panicked").count() as u64;
    let settled = gateway.settle(Duration::from_secs(30)).await?;
    let body = format!("{{\"model\":\"{MODEL}\",\"messages\":[{{\"role\":\"user\",\"content\":\"last\"}}]}}");
    let last = Connection::open(gateway.address).await?.exchange(&chat("key-0", &body), |_| ()).await?;
    Ok(panics + u64::from(!settled.at_rest) + u64::from(last.status != 200))
}
