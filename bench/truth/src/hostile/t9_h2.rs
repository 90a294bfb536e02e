//! T9 over HTTP/2: malformed frames and header lines, over TLS, as [`t9`](super::t9) has it for HTTP/1.
//!
//! Each case is a connection of its own ([`frames`]). A connection hangs if for 15 s it is neither answered, on any stream,
//! nor closed. What the engine gets is compared with what a reader of the RFC ([`reading`]) finds in the same bytes.

mod frames;
mod reading;

use std::net::SocketAddr;

use kit::front::client::tls_lines;
use kit::recorder::Recorder;
use kit::tls::{self, FIRST};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::t9::{AT_ONCE, HANG, IMPATIENT, PATIENT, Tally, address_of, crashes};
use engine::clock;
use frames::{GOAWAY, HEAD, HEADERS, RST_STREAM};
use harness::proof::{Finding, Proof, Setting, Trouble};
use harness::tidegate::{Config, Tidegate};

pub(crate) const PROOF: Proof = Proof {
    id: "T9-h2",
    what: "malformed HTTP/2: crashes, hangs, requests at an engine that no client legally sent",
    goal: "0, 0, 0 of 100000",
    quick_s: 10,
    full_s: 1200,
    needs: "",
    run,
};

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let cases: u64 = setting.size(1_000, 100_000);
    let seed = setting.seeds(1).start;
    setting.block_on(async {
        let engine = Recorder::start().await;
        let mut config = Config::limitless(vec![address_of(&engine)?], 1);
        config.listen = tls_lines(&setting.out)?;
        let gateway = Tidegate::start(setting, "t9-h2", &config).await?;
        let mut tally = Tally::default();
        let mut random = SmallRng::seed_from_u64(seed);
        let mut number = 0;
        while number < cases {
            let until = cases.min(number + AT_ONCE as u64);
            let round: Vec<(u64, Vec<u8>)> =
                (number..until).map(|n| (n, frames::case(n, &mut random))).collect();
            play(gateway.address, &round, &mut tally).await?;
            let bodies = round.iter().flat_map(|(_, bytes)| reading::bodies(bytes));
            tally.judge(&round, bodies, &engine);
            number = until;
        }
        let crashes = crashes(setting, "t9-h2", &gateway).await?;
        Ok(tally.finding(crashes, cases, seed))
    })
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
            Ok(end) => *tally.answers.entry(end.to_owned()).or_default() += 1,
        }
    }
    Ok(())
}

/// How it was answered, or ended.
async fn exchange(gateway: SocketAddr, number: u64, bytes: &[u8]) -> &'static str {
    let Ok(mut stream) = tls::connect(gateway, &FIRST, &[b"h2"]).await else { return "no connection" };
    if stream.write_all(bytes).await.is_err() || stream.flush().await.is_err() {
        return "reset";
    }
    let mut read = Vec::new();
    let is_patient = number.is_multiple_of(PATIENT);
    let end = clock::now() + IMPATIENT;
    let mut has_left = is_patient;
    loop {
        if let Some(said) = answered(&read) {
            return said;
        }
        let wait = if has_left { HANG } else { end.saturating_sub(clock::now()) };
        match timeout(wait, stream.read_buf(&mut read)).await {
            Ok(Ok(1..)) => {}
            Ok(_) => return "closed",
            Err(_) if has_left => return std::future::pending().await,
            Err(_) => {
                has_left = true;
                let _ = stream.shutdown().await;
            }
        }
    }
}

/// The first frame that answers or ends something.
fn answered(mut read: &[u8]) -> Option<&'static str> {
    while let Some((head, rest)) = read.split_first_chunk::<HEAD>() {
        let [a, b, c, kind, ..] = *head;
        match kind {
            HEADERS => return Some("answered"),
            RST_STREAM => return Some("stream reset"),
            GOAWAY => return Some("goaway"),
            _ => read = rest.get(u32::from_be_bytes([0, a, b, c]) as usize..)?,
        }
    }
    None
}
