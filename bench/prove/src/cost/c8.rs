//! C8: the memory of a stream that is open and mostly silent, against bare Pingora.
//!
//! Each side in a fresh process, since an allocator keeps what a busy minute took. One token a second on each stream.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use crate::harness::contest::{ACCOUNTS, Bare, instant_engine};
use crate::harness::proof::{Finding, Proof, RatioBound, Setting, Trouble, median};
use crate::harness::raw::Connection;
use crate::harness::tidegate::{Config, Tidegate, hold};
use kit::process;

pub(crate) const PROOF: Proof = Proof {
    id: "C8",
    what: "memory per live stream (5,000; quick: 1,000), against bare Pingora",
    goal: "≤1",
    quick_s: 12,
    full_s: 60,
    needs: "20,000 open files at full size",
    run,
};

const BOUND: RatioBound = RatioBound { full: 1.0, quick: 1.5 };
const REPLICAS: usize = 8;
/// Streams opened at once.
const AT_ONCE: usize = 100;
/// For buffers to reach the size that they keep.
const REST: Duration = Duration::from_secs(3);

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    let streams = setting.size(1_000, 5_000);
    setting.block_on(async {
        let (mut ours, mut bare) = (Vec::new(), Vec::new());
        for round in 0..setting.size(1, 3) {
            ours.push(of_gateway(setting, round, streams).await?);
            bare.push(of_bare(setting, round, streams).await?);
        }
        let (our, other) = (median(&ours), median(&bare));
        let (goal, ok) = BOUND.judge(setting.quick, our / other);
        Ok(Finding {
            figure: format!("{:.2}× ({our:.1} KiB, bare {other:.1} KiB, {streams} streams)", our / other),
            goal,
            ok,
            details: json!({ "streams": streams, "ours_kib": ours, "bare_kib": bare }),
        })
    })
}

async fn of_gateway(setting: &Setting, round: usize, streams: usize) -> Result<f64, Trouble> {
    // A replica is never given more than 1,024 streams, and regular fills 0.85 of that.
    let mut engines = Vec::new();
    for _ in 0..REPLICAS {
        engines.push(instant_engine().await?);
    }
    let mut config = Config::limitless(engines.iter().map(|engine| engine.addr).collect(), ACCOUNTS);
    config.deployment = ", slo: { ttft_ms: 2000, tpot_ms: 60000 }, limit: 1024".to_owned();
    let ours = Tidegate::start(setting, &format!("c8-{round}"), &config).await?;
    grown(ours.address, ours.program.pid(), streams).await
}

async fn of_bare(setting: &Setting, round: usize, streams: usize) -> Result<f64, Trouble> {
    let engine = instant_engine().await?;
    let bare = Bare::start(setting, &format!("c8-{round}"), engine.addr, None).await?;
    grown(bare.address, bare.program.pid(), streams).await
}

/// KiB by which the process grows for each stream.
async fn grown(target: SocketAddr, pid: u32, streams: usize) -> Result<f64, Trouble> {
    drop(hold(target).await?);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = process::memory(pid)?;
    let mut held: Vec<Connection> = Vec::with_capacity(streams);
    while held.len() < streams {
        let mut opening = tokio::task::JoinSet::new();
        for _ in 0..AT_ONCE.min(streams - held.len()) {
            opening.spawn(hold(target));
        }
        while let Some(opened) = opening.join_next().await {
            held.push(opened.map_err(|e| Trouble::Unexpected(e.to_string()))??);
        }
    }
    tokio::time::sleep(REST).await;
    let after = process::memory(pid)?;
    Ok((after as f64 - before as f64) / 1024.0 / streams as f64)
}
