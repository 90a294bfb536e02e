//! T9 over HTTP/2: malformed frames and header lines, over TLS, judged as [`malformed`](super::malformed) says.
//!
//! Each case is a connection of its own ([`frames`]). A connection hangs if for 15 s it is neither answered, on any stream,
//! nor closed. What the engine gets is compared with what a reader of the RFC ([`reading`]) finds in the same bytes.

mod frames;
mod reading;

use std::net::SocketAddr;

use kit::front::client::tls_lines;
use kit::tls::{self, FIRST};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::malformed::{Contest, HANG, IMPATIENT, NOBODY, PATIENT};
use engine::clock;
use frames::{GOAWAY, HEAD, HEADERS, RST_STREAM};
use harness::proof::{Finding, Proof, Setting, Trouble};
use harness::tidegate::Config;

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
    let contest = Contest {
        setting,
        name: "t9-h2",
        cases: setting.size(1_000, 100_000),
        case: frames::case,
        bodies: reading::bodies,
    };
    let over_tls = |config: &mut Config| {
        config.listen = tls_lines(&setting.out)?;
        Ok(())
    };
    setting.block_on(contest.played(over_tls, exchange, last))
}

/// Whether a connection is still taken, and answered.
async fn last(gateway: SocketAddr) -> bool {
    let Ok(mut stream) = tls::connect(gateway, &FIRST, &[b"h2"]).await else { return false };
    let empty_settings = [0, 0, 0, frames::SETTINGS, 0, 0, 0, 0, 0];
    let mut read = Vec::new();
    stream.write_all(&[frames::PREFACE, &empty_settings].concat()).await.is_ok()
        && matches!(timeout(HANG, stream.read_buf(&mut read)).await, Ok(Ok(1..)))
}

/// How it was answered, or ended.
async fn exchange(gateway: SocketAddr, (number, bytes): (u64, Vec<u8>)) -> String {
    ended(gateway, number, &bytes).await.to_owned()
}

async fn ended(gateway: SocketAddr, number: u64, bytes: &[u8]) -> &'static str {
    let Ok(mut stream) = tls::connect(gateway, &FIRST, &[b"h2"]).await else { return NOBODY };
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
