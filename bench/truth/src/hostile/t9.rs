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

use harness::proof::{self, Finding, Proof, Setting, Trouble};
use harness::raw::Connection;
use harness::tidegate::{Config, MODEL, Tidegate, chat};

pub(crate) const PROOF: Proof = Proof {
    id: "T9",
    what: "malformed HTTP/1: crashes, hangs, requests at an engine that no client legally sent",
    goal: "0, 0, 0 of 100000",
    quick_s: 14,
    full_s: 1800,
    needs: "",
    run,
};

/// Cases in flight at once.
pub(super) const AT_ONCE: usize = 250;
/// When a client that has no answer ends its sending half.
pub(super) const IMPATIENT: Duration = Duration::from_millis(250);
/// One of so many clients waits instead.
pub(super) const PATIENT: u64 = 50;
/// No connection may be silent for longer.
pub(super) const HANG: Duration = Duration::from_secs(15);

/// A shortfall that is known is no more than one of so many.
const KNOWN_OF: u64 = 100_000;

/// What came out so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) answers: BTreeMap<String, u64>,
    pub(super) hangs: Vec<String>,
    pub(super) illegal: Vec<String>,
    pub(super) served: u64,
}

impl Tally {
    /// What came of so many cases, with so many crashes.
    pub(super) fn finding(&self, crashes: u64, cases: u64, seed: u64) -> Finding {
        let (hangs, illegal) = (self.hangs.len(), self.illegal.len());
        // A gateway that refused everything would pass as well.
        let is_served = self.served > cases / 20;
        // Of HTTP/2 one of 100,000 is known.
        let as_known = crashes == 0 && hangs == 0 && is_served && illegal as u64 * KNOWN_OF <= cases;
        Finding {
            figure: format!("{crashes}, {hangs}, {illegal} of {cases} ({} served)", self.served),
            goal: format!("0, 0, 0 of {cases}"),
            ok: crashes == 0 && hangs == 0 && illegal == 0 && is_served,
            details: json!({
                proof::WORSE: !as_known,
                "cases": cases,
                "seed": seed,
                "answers": self.answers,
                "hangs": self.hangs,
                "illegal": self.illegal,
            }),
        }
    }

    /// Compares what the engine got with the bodies that the clients of `round` legally sent.
    pub(super) fn judge(
        &mut self,
        round: &[(u64, Vec<u8>)],
        sent: impl Iterator<Item = Vec<u8>>,
        engine: &Recorder,
    ) {
        let mut legal: Vec<Value> = sent.filter_map(|body| serde_json::from_slice(&body).ok()).collect();
        for request in engine.take() {
            self.served += 1;
            let read: Option<Value> = serde_json::from_slice(&request.body).ok();
            match read.and_then(|read| legal.iter().position(|sent| *sent == read)) {
                Some(at) => drop(legal.swap_remove(at)),
                None => {
                    let got = request.body.escape_ascii().to_string();
                    // The number of its case stands at the end of its only text.
                    let number = got.trim_end_matches(|c: char| !c.is_ascii_digit());
                    let digits = number.rsplit(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
                    let case = digits
                        .parse()
                        .ok()
                        .and_then(|number: u64| round.iter().find(|case| case.0 == number));
                    let sent = case.map(|(_, bytes)| bytes.escape_ascii().to_string());
                    self.illegal.push(format!("{got} of {}", sent.unwrap_or_default()));
                }
            }
        }
    }
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
            let bodies = round.iter().flat_map(|(_, bytes)| reading::bodies(bytes));
            tally.judge(&round, bodies.map(reading::content), &engine);
            number = until;
        }
        let crashes = crashes(setting, "t9", &gateway).await?;
        let body =
            format!("{{\"model\":\"{MODEL}\",\"messages\":[{{\"role\":\"user\",\"content\":\"last\"}}]}}");
        let last = Connection::open(gateway.address).await?.exchange(&chat("key-0", &body), |_| ()).await?;
        let crashes = crashes + u64::from(last.status != 200);
        Ok(tally.finding(crashes, cases, seed))
    })
}

pub(super) fn address_of(engine: &Recorder) -> Result<SocketAddr, Trouble> {
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

/// Panics in the log of the gateway of this name, and counters that are not zero.
pub(super) async fn crashes(setting: &Setting, name: &str, gateway: &Tidegate) -> Result<u64, Trouble> {
    let said = std::fs::read_to_string(setting.out.join(format!("{name}.log")))?;
    let panics = said.matches("panicked").count() as u64;
    let settled = gateway.settle(Duration::from_secs(30)).await?;
    Ok(panics + u64::from(!settled.at_rest))
}
