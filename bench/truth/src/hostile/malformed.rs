//! Connections that are malformed by chance, over the gateway as it is shipped: what both versions of HTTP are judged by.
//!
//! Each case is a connection of its own. Three things are counted:
//!
//! - **crashes**: a panic, a process that is gone, a counter of the invariants that is not zero afterwards;
//! - **hangs**: a connection that is neither answered nor closed within 15 s. Most clients end their sending half when no
//!   answer came for a moment; one of fifty waits;
//! - **requests at the engine that no client legally sent**, by a reader of the letter that shares nothing with the gateway:
//!   whatever the engine gets must be a body that a client framed by the letter, and as often as it did.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use kit::recorder::Recorder;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use harness::proof::{self, Finding, Setting, Trouble};
use harness::tidegate::{Config, Tidegate};

/// Cases in flight at once.
const AT_ONCE: usize = 250;
/// When a client that has no answer ends its sending half.
pub(super) const IMPATIENT: Duration = Duration::from_millis(250);
/// One of so many clients waits instead.
pub(super) const PATIENT: u64 = 50;
/// No connection may be silent for longer.
pub(super) const HANG: Duration = Duration::from_secs(15);
/// How an exchange ends that found nobody listening.
pub(super) const NOBODY: &str = "no connection";

/// The number of a case, and its bytes.
type Case = (u64, Vec<u8>);

/// Cases of one protocol.
pub(super) struct Contest<'a> {
    pub(super) setting: &'a Setting,
    /// Of the gateway.
    pub(super) name: &'static str,
    pub(super) cases: u64,
    /// Makes a case.
    pub(super) case: fn(u64, &mut SmallRng) -> Vec<u8>,
    /// The bodies of the requests that were legally sent in it.
    pub(super) bodies: fn(&[u8]) -> Vec<Vec<u8>>,
}

impl Contest<'_> {
    /// Plays all cases. `configured` changes the gateway's config, `exchange` plays one case and says how it ended, `last`
    /// asks the gateway once more, after all, and says whether it serves.
    pub(super) async fn played<X: Future<Output = String> + Send + 'static>(
        &self,
        configured: impl FnOnce(&mut Config) -> Result<(), Trouble>,
        exchange: fn(SocketAddr, Case) -> X,
        last: impl AsyncFn(SocketAddr) -> bool,
    ) -> Result<Finding, Trouble> {
        let engine = Recorder::start().await;
        let mut config = Config::limitless(vec![address_of(&engine)?], 1);
        configured(&mut config)?;
        let gateway = Tidegate::start(self.setting, self.name, &config).await?;
        let seed = self.setting.seeds(1).start;
        let (mut tally, mut random) = (Tally::default(), SmallRng::seed_from_u64(seed));
        let mut number = 0;
        while number < self.cases {
            let until = self.cases.min(number + AT_ONCE as u64);
            let round: Vec<Case> = (number..until).map(|n| (n, (self.case)(n, &mut random))).collect();
            tally.play(gateway.address, &round, exchange).await?;
            tally.judge(&round, round.iter().flat_map(|(_, bytes)| (self.bodies)(bytes)), &engine);
            number = until;
        }
        let panics = std::fs::read_to_string(self.setting.out.join(format!("{}.log", self.name)))?;
        let panics = panics.matches("panicked").count() as u64;
        let settled = gateway.settle(Duration::from_secs(30)).await?;
        let serves = last(gateway.address).await;
        Ok(tally.finding(panics + u64::from(!settled.at_rest) + u64::from(!serves), self.cases, seed))
    }
}

fn address_of(engine: &Recorder) -> Result<SocketAddr, Trouble> {
    let url = engine.url();
    let address = url.trim_start_matches("http://").parse();
    address.map_err(|_| Trouble::Unexpected(format!("{url} is no address")))
}

/// A shortfall that is known is no more than one of so many.
const KNOWN_OF: u64 = 100_000;

/// What came out so far.
#[derive(Debug, Default)]
struct Tally {
    answers: BTreeMap<String, u64>,
    hangs: Vec<String>,
    illegal: Vec<String>,
    served: u64,
}

impl Tally {
    /// Sends each case on its own connection.
    async fn play<X: Future<Output = String> + Send + 'static>(
        &mut self,
        gateway: SocketAddr,
        round: &[Case],
        exchange: fn(SocketAddr, Case) -> X,
    ) -> Result<(), Trouble> {
        let mut running = JoinSet::new();
        for case in round.iter().cloned() {
            let bytes = case.1.clone();
            running.spawn(async move { (timeout(HANG, exchange(gateway, case)).await, bytes) });
        }
        while let Some(done) = running.join_next().await {
            let (ended, bytes) = done.map_err(|e| Trouble::Unexpected(e.to_string()))?;
            match ended {
                Err(_) => self.hangs.push(bytes.escape_ascii().to_string()),
                Ok(end) => *self.answers.entry(end).or_default() += 1,
            }
        }
        Ok(())
    }

    /// What came of so many cases, with so many crashes.
    fn finding(&self, crashes: u64, cases: u64, seed: u64) -> Finding {
        // Whoever finds nobody listening has found a process that is gone.
        let crashes = crashes + self.answers.get(NOBODY).copied().unwrap_or(0);
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
    fn judge(&mut self, round: &[(u64, Vec<u8>)], sent: impl Iterator<Item = Vec<u8>>, engine: &Recorder) {
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
