//! Resident memory follows what is counted, under the loads that hold most.
//!
//! Five loads one after the other, each on a process of its own with `inflight_bytes` of 64 MiB: embeddings of 55 MB whose
//! clients do not read, whole answers of 10 MB, events of 10 MB, streams with long prompts, and very many short streams.
//! While each lasts, resident memory is compared with 1.2 times what is counted, 64 KiB for each connection, and 100 MiB for
//! the process itself; what is counted must stay within its bound.

mod giant;

use std::time::Duration;

use serde_json::{Value, json};

use giant::{Giant, Says};
use harness::proof::{Finding, Proof, Setting, Trouble};
use harness::raw::Connection;
use harness::tidegate::{Config, MODEL, Tidegate, post};
use kit::process;

pub(crate) const PROOF: Proof = Proof {
    id: "memory",
    what: "large answers, bodies and events, clients that do not read, many streams: resident against what is counted",
    goal: "≤1.2× + 64 KiB a connection + 100 MiB",
    quick_s: 12,
    full_s: 60,
    needs: "",
    run,
};

/// The bound of what is held, bytes.
const INFLIGHT: u64 = 64 << 20;
/// What may be held above it: the first part of each answer is never refused.
const INFLIGHT_OVER: u64 = 64 << 10;
/// What a process has beside what it counts, and what each connection has.
const BESIDE: u64 = 100 << 20;
const EACH: u64 = 64 << 10;
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Each has places for 1,024 requests.
const ENGINES: usize = 4;

/// One load.
struct Load {
    name: &'static str,
    path: &'static str,
    body: String,
    says: Says,
    connections: usize,
}

/// What one load showed, bytes: at the moment at which resident memory was furthest above what was counted.
struct Shown {
    name: &'static str,
    connections: usize,
    resident: u64,
    counted: u64,
    counted_most: u64,
}

impl Shown {
    fn allowed(&self) -> u64 {
        self.counted + self.counted / 5 + EACH * self.connections as u64 + BESIDE
    }

    fn holds(&self) -> bool {
        let bound = INFLIGHT + INFLIGHT_OVER * self.connections as u64;
        self.resident <= self.allowed() && self.counted_most <= bound
    }

    fn json(&self) -> Value {
        json!({
            "load": self.name, "connections": self.connections, "resident_mib": self.resident >> 20,
            "counted_mib": self.counted >> 20, "allowed_mib": self.allowed() >> 20, "counted_most_mib": self.counted_most >> 20,
        })
    }
}

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(async {
        let mut shown = Vec::new();
        for load in loads(setting) {
            shown.push(show(setting, &load).await?);
        }
        let share = |one: &Shown| one.resident as f64 / one.allowed() as f64;
        let worst = shown.iter().max_by(|a, b| share(a).total_cmp(&share(b)));
        let worst = worst.ok_or_else(|| Trouble::Unexpected("no load was played".to_owned()))?;
        Ok(Finding {
            figure: format!(
                "{} of {} MiB ({}); {} loads",
                worst.resident >> 20,
                worst.allowed() >> 20,
                worst.name,
                shown.len()
            ),
            goal: PROOF.goal.to_owned(),
            ok: shown.iter().all(Shown::holds),
            details: json!({ "inflight_mib": INFLIGHT >> 20, "loads": shown.iter().map(Shown::json).collect::<Vec<_>>() }),
        })
    })
}

fn loads(setting: &Setting) -> Vec<Load> {
    let chat = "/v1/chat/completions";
    let ask = |stream: bool, text: &str| {
        format!(
            "{{\"model\":\"{MODEL}\",\"stream\":{stream},\"max_tokens\":9000000,\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]}}"
        )
    };
    let short = ask(true, "go");
    let crowd = setting.size(12, 40);
    vec![
        Load {
            name: "embeddings of 55 MB",
            path: "/v1/embeddings",
            body: format!("{{\"model\":\"{MODEL}\",\"input\":\"go\"}}"),
            says: Says::Embeddings(55 << 20),
            connections: crowd,
        },
        Load {
            name: "whole answers of 10 MB",
            path: chat,
            body: ask(false, "go"),
            says: Says::Whole(10 << 20),
            connections: crowd,
        },
        Load {
            name: "events of 10 MB",
            path: chat,
            body: short.clone(),
            says: Says::Event(10 << 20),
            connections: crowd,
        },
        Load {
            name: "prompts of 8 MB",
            path: chat,
            body: ask(true, &"lorem ipsum ".repeat(700_000)),
            says: Says::Event(8),
            connections: crowd,
        },
        Load {
            name: "short streams",
            path: chat,
            body: short,
            says: Says::Event(8),
            connections: setting.size(300, 3_000),
        },
    ]
}

async fn show(setting: &Setting, load: &Load) -> Result<Shown, Trouble> {
    let mut engines = Vec::new();
    for _ in 0..ENGINES {
        engines.push(Giant::start(load.says).await?);
    }
    let mut config = Config::limitless(engines.iter().map(|engine| engine.address).collect(), 1);
    config.threads = 2;
    config.deployment = ", slo: { ttft_ms: 600000, tpot_ms: 60000 }, limit: 1024".to_owned();
    config.listen_limits = format!(
        ", inflight_bytes: {INFLIGHT}, inflight_account_share: 1.0, inflight_priority_share: 0.0, body_bytes: 32MiB, connections_share: 0.9"
    );
    let gateway = Tidegate::start(setting, "memory", &config).await?;
    let request = post(load.path, "key-0", &load.body);
    let mut clients = Vec::new();
    for _ in 0..load.connections {
        let mut client = Connection::open(gateway.address).await?;
        client.send(&request).await?;
        clients.push(client);
        if load.body.len() > 1 << 20 {
            // One after the other: together they would be more than may be held.
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    let looks = setting.size(16, 160);
    let (mut worst, mut counted_most): (Option<(u64, u64, u64)>, u64) = (None, 0);
    for _ in 0..looks {
        let counted = gateway.invariants().await?.counters.get("bytes_in_flight").copied().unwrap_or(0);
        let resident = process::memory(gateway.program.pid())?;
        counted_most = counted_most.max(counted);
        let above = resident.saturating_sub(counted + counted / 5);
        if worst.is_none_or(|(most, ..)| above > most) {
            worst = Some((above, resident, counted));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let (_, resident, counted) = worst.unwrap_or_default();
    if engines.iter().map(Giant::requests).sum::<u64>() == 0 {
        return Err(Trouble::Unexpected(format!("{}: nothing reached the engine", load.name)));
    }
    drop(clients);
    Ok(Shown { name: load.name, connections: load.connections, resident, counted, counted_most })
}
