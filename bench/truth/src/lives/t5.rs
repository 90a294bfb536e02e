//! T5: replicas that are killed under load cost nobody of the priority tier an answer that had not begun.
//!
//! Eight engines in processes of their own, seven tenths of the places taken by clients that ask again as soon as they are
//! answered: so that what seven have is enough for the regular tier, too, which gets 85 % of it. One engine after another gets SIGKILL and is started anew at the same address. Whoever had the first byte
//! loses the rest, which nobody can mend; whoever had none is sent elsewhere, or waits. A request counts as failed before
//! its first byte for any status but 200, too: a refusal is no better to the one who asked.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use harness::proof::{Finding, Proof, Setting, Trouble};
use harness::raw::Connection;
use harness::tidegate::{AccountLines, Config, LIMITLESS, MODEL, Tidegate, chat};
use kit::program::{Program, free_address};

pub(crate) const PROOF: Proof = Proof {
    id: "T5",
    what: "kill -9 of replicas under 70 % load: priority that fails before its first byte; others",
    goal: "0; ≤0.1 %",
    quick_s: 14,
    full_s: 270,
    needs: "",
    run,
};

const REPLICAS: usize = 8;
/// Places of each, a fixed number, so that it is known what 70 % are.
const PLACES: usize = 16;
const CLIENTS: usize = REPLICAS * PLACES * 7 / 10;
/// Of ten clients so many are of the priority tier.
const PRIORITY_OF_TEN: usize = 3;
/// How long a killed replica is away.
const AWAY: Duration = Duration::from_millis(1_500);
/// From its start to the next kill.
const BACK: Duration = Duration::from_millis(3_500);
/// Part of the regular requests that may fail before their first byte.
const OTHERS_MAX: f64 = 0.001;

/// What became of the requests of a tier.
#[derive(Debug, Default)]
struct Ends {
    served: AtomicU64,
    /// After the first byte.
    cut: AtomicU64,
    /// Before it.
    failed: AtomicU64,
    /// Of those, answered with a status of their own.
    refused: AtomicU64,
}

impl Ends {
    fn all(&self) -> u64 {
        [&self.served, &self.cut, &self.failed].into_iter().map(|count| count.load(Relaxed)).sum()
    }

    fn shown(&self) -> serde_json::Value {
        json!({
            "served": self.served.load(Relaxed), "cut": self.cut.load(Relaxed),
            "failed_before_first_byte": self.failed.load(Relaxed), "with_a_status": self.refused.load(Relaxed),
        })
    }
}

fn run(setting: &Setting) -> Result<Finding, Trouble> {
    setting.block_on(show(setting))
}

async fn show(setting: &Setting) -> Result<Finding, Trouble> {
    let mut engines = Vec::new();
    for number in 0..REPLICAS {
        let address = free_address()?;
        engines.push((address, engine(setting, address, number).await?));
    }
    let addresses: Vec<SocketAddr> = engines.iter().map(|(address, _)| *address).collect();
    let gateway = Tidegate::start(setting, "t5", &config(addresses)).await?;

    let over = Arc::new(AtomicBool::new(false));
    let ends = Arc::new([Ends::default(), Ends::default()]);
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let tier = usize::from(number % 10 >= PRIORITY_OF_TEN);
        clients.spawn(ask(gateway.address, tier, number as u64, Arc::clone(&over), Arc::clone(&ends)));
    }
    sleep(BACK).await;
    let kills = setting.size(2, 50);
    for kill in 0..kills {
        let number = kill % REPLICAS;
        if let Some((address, program)) = engines.get_mut(number) {
            program.kill();
            sleep(AWAY).await;
            *program = engine(setting, *address, number).await?;
        }
        sleep(BACK).await;
    }
    over.store(true, Relaxed);
    while clients.join_next().await.is_some() {}

    let [priority, others] = &*ends;
    let (failed, failed_others) = (priority.failed.load(Relaxed), others.failed.load(Relaxed));
    let share = failed_others as f64 / others.all().max(1) as f64;
    let cut = priority.cut.load(Relaxed) + others.cut.load(Relaxed);
    Ok(Finding {
        figure: format!(
            "{failed} of {}; {failed_others} of {} ({:.2} %); {cut} cut behind their first byte, {kills} kills",
            priority.all(),
            others.all(),
            100.0 * share
        ),
        goal: PROOF.goal.to_owned(),
        // Without one that was cut nobody was there when a replica died.
        ok: failed == 0 && share <= OTHERS_MAX && cut > 0,
        details: json!({ "kills": kills, "clients": CLIENTS, "priority": priority.shown(), "others": others.shown() }),
    })
}

async fn engine(setting: &Setting, address: SocketAddr, number: usize) -> Result<Program, Trouble> {
    let executable = setting.binaries().tidegate()?;
    let listens = address.to_string();
    let arguments = ["engine", "--profile", "8b-a100", "--address", listens.as_str(), "--model", MODEL];
    let mut program =
        Program::start(executable, arguments, &setting.out.join(format!("t5-engine-{number}.log")))?;
    program.listens(address).await?;
    Ok(program)
}

fn config(replicas: Vec<SocketAddr>) -> Config {
    let free = format!(
        ", spending_tier: enterprise, tiers: [priority, regular], requests_per_minute: 100000000, concurrency: 100000, \
         limits: [{{ start: {LIMITLESS}, floor: {LIMITLESS}, ceiling: {LIMITLESS} }}]"
    );
    Config {
        threads: 2,
        deployment: format!(", slo: {{ ttft_ms: 5000, tpot_ms: 200 }}, limit: {PLACES}"),
        accounts: vec![AccountLines { key: "key-0".to_owned(), more: free }],
        ..Config::limitless(replicas, 0)
    }
}

/// A client that asks again as soon as it was answered.
async fn ask(target: SocketAddr, tier: usize, number: u64, over: Arc<AtomicBool>, ends: Arc<[Ends; 2]>) {
    let mut random = SmallRng::seed_from_u64(number);
    let named = if tier == 0 { "priority" } else { "default" };
    let mut kept: Option<Connection> = None;
    while !over.load(Relaxed) {
        let body = format!(
            "{{\"model\":\"{MODEL}\",\"stream\":true,\"service_tier\":\"{named}\",\"max_tokens\":{},\"ignore_eos\":true,\
             \"messages\":[{{\"role\":\"user\",\"content\":\"{number} {}\"}}]}}",
            random.random_range(20..60),
            "word ".repeat(random.random_range(20..200)),
        );
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => match Connection::open(target).await {
                Ok(connection) => connection,
                Err(_) => {
                    ends.get(tier).map(|ends| ends.failed.fetch_add(1, Relaxed));
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        let mut begun = false;
        let answered = connection.exchange(&chat("key-0", &body), |_| begun = true).await;
        let Some(ends) = ends.get(tier) else { return };
        if answered.as_ref().is_ok_and(|answer| answer.status != 200) {
            ends.refused.fetch_add(1, Relaxed);
        }
        let end = match answered {
            Ok(answer) if answer.status == 200 => &ends.served,
            Err(_) if begun => &ends.cut,
            _ => &ends.failed,
        };
        end.fetch_add(1, Relaxed);
        kept = answered.ok().filter(|answer| answer.keep && answer.status == 200).map(|_| connection);
        if kept.is_none() {
            sleep(Duration::from_millis(random.random_range(50..150))).await;
        }
    }
}
