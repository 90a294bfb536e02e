//! T9: malformed HTTP/1, over the gateway as it is shipped.
//!
//! A corpus of requests, changed by chance ([`corpus`]), judged as [`malformed`](super::malformed) says by a reader of the
//! letter ([`reading`]).

mod corpus;
mod reading;

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::malformed::{Contest, IMPATIENT, NOBODY, PATIENT};
use harness::proof::{Finding, Proof, Setting, Trouble};
use harness::raw::Connection;
use harness::tidegate::{MODEL, chat};

pub(crate) const PROOF: Proof = Proof {
    id: "T9",
    what: "malformed HTTP/1: crashes, hangs, requests at an engine that no client legally sent",
    goal: "0, 0, 0 of 100000",
    quick_s: 14,
    full_s: 1800,
    needs: "",
    run,
};

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let bodies = |bytes: &[u8]| reading::bodies(bytes).into_iter().map(reading::content).collect();
    let contest =
        Contest { setting, name: "t9", cases: setting.size(2_000, 100_000), case: corpus::case, bodies };
    setting.block_on(contest.played(|_| Ok(()), exchange, last))
}

/// Whether a request that is well-formed is served.
async fn last(gateway: SocketAddr) -> bool {
    let body = format!("{{\"model\":\"{MODEL}\",\"messages\":[{{\"role\":\"user\",\"content\":\"last\"}}]}}");
    let Ok(mut connection) = Connection::open(gateway).await else { return false };
    connection.exchange(&chat("key-0", &body), |_| ()).await.is_ok_and(|answer| answer.status == 200)
}

/// The status that came, or how it ended without one.
async fn exchange(gateway: SocketAddr, (number, bytes): (u64, Vec<u8>)) -> String {
    let Ok(mut stream) = TcpStream::connect(gateway).await else { return NOBODY.to_owned() };
    if stream.write_all(&bytes).await.is_err() {
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
