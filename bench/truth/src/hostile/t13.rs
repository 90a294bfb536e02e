//! T13: a thousand slow clients of each kind, from 200 addresses and from one, before processes with few and many
//! descriptors: honest clients do not notice.
//!
//! The attackers do what the kind says and nothing more, and come back a moment after they are closed. Meanwhile honest
//! clients, each on a connection and at an address of its own, ask one after the other, and streams that began before the
//! attack go on: all must be answered whole.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use engine::profile::INSTANT;
use engine::server::{EngineServer, EngineServerConfig};
use harness::proof::{Finding, Proof, Setting, Trouble};
use harness::tidegate::{Config, MODEL, Tidegate};
use kit::front::attacker::{Attack, KINDS};
use kit::front::client::{ask, closing_chat, files_max, limited, tls_lines};

pub(crate) const PROOF: Proof = Proof {
    id: "T13",
    what: "slow attackers of each kind, from many addresses and from one, few descriptors and many: honest clients served",
    goal: "100 % beside 1,000 attackers",
    quick_s: 14,
    full_s: 260,
    needs: "4,000 open files at full size",
    run,
};

/// Streams that run all the time.
const STREAMS: usize = 4;
/// Time for the attackers to come.
const GATHERING: Duration = Duration::from_secs(1);
/// Time between two honest requests.
const BETWEEN: Duration = Duration::from_millis(25);

/// What came of one attack.
#[derive(Debug, Default)]
struct Outcome {
    offered: usize,
    served: usize,
    /// Streams that began before and did not end whole.
    cut: usize,
}

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let attackers = setting.size(400, 1_000);
        // More than there are attackers: 65,536, or as many as this process may give away.
        let many = u64::min(65_536, files_max());
        let limits: &[u64] = if setting.quick { &[512] } else { &[1_024, many] };
        let (mut all, mut rows) = (Outcome::default(), Vec::new());
        for limit in limits {
            for over_tls in [false, true] {
                let gateway = start(setting, *limit, over_tls).await?;
                for kind in KINDS.into_iter().filter(|kind| kind.is_over_tls() == over_tls) {
                    for addresses in [200, 1] {
                        let attack = Attack { kind, addresses, count: attackers, target: gateway.1.address };
                        let outcome = one(setting, attack).await?;
                        rows.push(row(*limit, &attack, &outcome));
                        all.offered += outcome.offered;
                        all.served += outcome.served;
                        all.cut += outcome.cut;
                    }
                }
            }
        }
        let shown: Vec<String> = limits.iter().map(ToString::to_string).collect();
        Ok(Finding {
            figure: format!(
                "{} of {} served, {} streams cut, in {} attacks by {attackers} (open files {})",
                all.served,
                all.offered,
                all.cut,
                rows.len(),
                shown.join(", "),
            ),
            goal: format!("100 % beside {attackers} attackers"),
            ok: all.served == all.offered && all.cut == 0 && all.offered > 0,
            details: json!(rows),
        })
    })
}

/// The gateway with so many descriptors, and its engine.
async fn start(setting: &Setting, files: u64, over_tls: bool) -> Result<(EngineServer, Tidegate), Trouble> {
    let engine =
        EngineServer::start(EngineServerConfig { profile: INSTANT, ..EngineServerConfig::default() }).await?;
    let mut config = Config::limitless(vec![engine.addr], 2);
    config.connections_per_address = None;
    // What is judged is the door, not the queue behind it.
    config.deployment = ", slo: { ttft_ms: 60000, tpot_ms: 60000 }, limit: 1024".to_owned();
    if over_tls {
        config.listen = tls_lines(&setting.out)?;
    }
    let program = limited(&setting.out, setting.binaries().tidegate()?, files)?;
    let name = format!("t13-{files}-{over_tls}");
    let gateway = Tidegate::start_as(setting, &name, &config, &program).await?;
    Ok((engine, gateway))
}

async fn one(setting: &Setting, attack: Attack) -> Result<Outcome, Trouble> {
    let body = |more: &str| {
        format!("{{\"model\":\"{MODEL}\",\"messages\":[{{\"role\":\"user\",\"content\":\"tide\"}}]{more}}}")
    };
    let over_tls = attack.kind.is_over_tls();
    let asks = setting.size(20, 100);
    let lasts = GATHERING + BETWEEN * asks * 4;
    let mut streams = JoinSet::new();
    for nth in 0..STREAMS {
        let gap = lasts.as_millis() / 10;
        let more =
            format!(",\"stream\":true,\"max_tokens\":11,\"ignore_eos\":true,\"user\":\"sim:gap={gap}ms\"");
        let request = closing_chat("key-0", &body(&more));
        streams.spawn(async move { ask(honest(nth), attack.target, over_tls, &request).await });
    }
    sleep(GATHERING / 4).await;
    let mut attackers = attack.begin();
    sleep(GATHERING).await;
    let request = closing_chat("key-0", &body(",\"max_tokens\":3"));
    let mut outcome = Outcome::default();
    for nth in 0..asks as usize {
        let answer = ask(honest(nth), attack.target, over_tls, &request).await;
        outcome.offered += 1;
        outcome.served += usize::from(answer.is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200")));
        sleep(BETWEEN).await;
    }
    while let Some(stream) = streams.join_next().await {
        let whole = matches!(&stream, Ok(Ok(answer)) if String::from_utf8_lossy(answer).contains("[DONE]"));
        outcome.cut += usize::from(!whole);
    }
    attackers.abort_all();
    Ok(outcome)
}

/// An address of an honest client.
fn honest(nth: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 200, (nth % 200) as u8 + 1)
}

fn row(files: u64, attack: &Attack, outcome: &Outcome) -> Value {
    json!({
        "open_files": files,
        "kind": attack.kind.name(),
        "addresses": attack.addresses,
        "attackers": attack.count,
        "offered": outcome.offered,
        "served": outcome.served,
        "streams_cut": outcome.cut,
    })
}
