//! The gateway and a bare Pingora proxy in front of the same engine, measured in turn.
//!
//! Everything runs on one core: proxy, engine and load generator. There the processor time of a request repeats within
//! some percent, while with the proxy on a core of its own it jumps by up to two from minute to minute on small virtual
//! machines (idle cores halt, and waking them is charged to somebody). All are scheduled in batches where `chrt` is
//! installed: without that each write wakes its reader at once, and what is measured is the switching of tasks. The two sides of a round are a second apart and
//! change places from round to round; the ratio of each round is taken, and the median of the ratios is judged.

use std::net::SocketAddr;

use serde::Serialize;
use serde_json::{Value, json};

use crate::canned::Canned;
use crate::meter::{Load, Window};
use crate::proof::{Finding, RatioBound, Setting, Trouble, median};
use crate::tidegate::{Config, Tidegate};
use engine::profile::INSTANT;
use engine::server::{EngineServer, EngineServerConfig};
use kit::process;
use kit::program::{Program, free_address};

/// The core on which everything runs.
const CORE: usize = 0;
/// Accounts that the load is spread over: no budget has room for what one core can carry.
pub const ACCOUNTS: usize = 16;

/// Both proxies and their engine, running.
#[derive(Debug)]
pub struct Contest {
    /// The gateway.
    pub ours: Tidegate,
    /// What it is compared with.
    pub bare: Bare,
    /// Where the engine listens in front of which both stand.
    pub engine: SocketAddr,
}

/// A bare proxy. Dropping it ends it.
#[derive(Debug)]
pub struct Bare {
    /// The process.
    pub program: Program,
    /// Where it listens.
    pub address: SocketAddr,
}

impl Bare {
    /// Starts it in front of `upstream`; `refuse`: it reads each request and answers with this status.
    ///
    /// # Errors
    /// It does not build or start.
    pub async fn start(
        setting: &Setting,
        name: &str,
        upstream: SocketAddr,
        refuse: Option<u16>,
    ) -> Result<Self, Trouble> {
        let address = free_address()?;
        let mut arguments = vec![address.to_string(), upstream.to_string()];
        arguments.extend(refuse.map(|status| format!("refuse={status}")));
        let executable = setting.binaries().bare_pingora()?;
        let log = setting.out.join(format!("{name}-bare.log"));
        let mut program = Program::start(executable, arguments.iter().map(String::as_str), &log)?;
        program.listens(address).await?;
        Ok(Self { program, address })
    }
}

/// Both sides of one round.
#[derive(Debug, Clone, Serialize)]
pub struct Round {
    /// The gateway.
    pub ours: Window,
    /// The bare proxy.
    pub bare: Window,
}

impl Contest {
    /// Starts both in front of an engine that costs next to nothing.
    ///
    /// # Errors
    /// A program does not build or start.
    pub async fn start(setting: &Setting, name: &str) -> Result<Self, Trouble> {
        let engine = Canned::start()?.addr;
        let config = Config::limitless(vec![engine], ACCOUNTS);
        let ours = Tidegate::start(setting, name, &config).await?;
        let bare = Bare::start(setting, name, engine, None).await?;
        Ok(Self { ours, bare, engine })
    }

    /// Puts everything, this process too, on one core, where nobody interrupts anybody.
    ///
    /// # Errors
    /// A process is gone.
    pub fn share_a_core(&self) -> Result<(), Trouble> {
        for pid in [std::process::id(), self.ours.program.pid(), self.bare.program.pid()] {
            process::pin(pid, CORE)?;
            process::run_in_batches(pid, true);
        }
        Ok(())
    }

    /// Plays `load` against both in turn, `rounds` times.
    ///
    /// # Errors
    /// An answer was not what it had to be.
    pub async fn rounds(&self, load: &Load, rounds: usize) -> Result<Vec<Round>, Trouble> {
        let mut all = Vec::with_capacity(rounds);
        for round in 0..rounds {
            all.push(if round % 2 == 0 {
                let ours = load.measure(self.ours.address, self.ours.program.pid()).await?;
                let bare = load.measure(self.bare.address, self.bare.program.pid()).await?;
                Round { ours, bare }
            } else {
                let bare = load.measure(self.bare.address, self.bare.program.pid()).await?;
                let ours = load.measure(self.ours.address, self.ours.program.pid()).await?;
                Round { ours, bare }
            });
        }
        Ok(all)
    }
}

/// An engine without cost, on a free port of loopback.
///
/// # Errors
/// No port or thread is to be had.
pub async fn instant_engine() -> Result<EngineServer, Trouble> {
    Ok(EngineServer::start(EngineServerConfig { profile: INSTANT, ..EngineServerConfig::default() }).await?)
}

/// The medians of rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Ratio {
    /// Median of the rounds' ratios: ours by bare.
    pub ratio: f64,
    /// Smallest and largest of the rounds' ratios.
    pub from: f64,
    /// See `from`.
    pub to: f64,
    /// Median of ours, microseconds per operation.
    pub ours_us: f64,
    /// Median of the bare proxy's, microseconds per operation.
    pub bare_us: f64,
}

impl Ratio {
    /// Of processor time per operation.
    pub fn of(rounds: &[Round]) -> Self {
        let of = |value: fn(&Round) -> f64| rounds.iter().map(value).collect::<Vec<_>>();
        let ratios = of(|round| round.ours.cpu_us / round.bare.cpu_us);
        Self {
            ratio: median(&ratios),
            from: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            to: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            ours_us: median(&of(|round| round.ours.cpu_us)),
            bare_us: median(&of(|round| round.bare.cpu_us)),
        }
    }

    /// In a line.
    pub fn figure(&self) -> String {
        format!("{:.2}× ({:.1} µs, bare {:.1} µs)", self.ratio, self.ours_us, self.bare_us)
    }
}

/// The finding of a contest that one ratio decides.
pub fn judge(setting: &Setting, rounds: &[Round], bound: RatioBound) -> Finding {
    let ratio = Ratio::of(rounds);
    let (goal, ok) = bound.judge(setting.quick, ratio.ratio);
    Finding { figure: ratio.figure(), goal, ok, details: details(&ratio, rounds) }
}

/// All that was measured.
pub fn details(ratio: &Ratio, rounds: &[Round]) -> Value {
    json!({ "median": ratio, "rounds": rounds })
}

/// Bodies of chat requests with a prompt of about `bytes` bytes of plain words, sixteen different ones, each with the
/// key of another account.
pub fn chats(bytes: usize, max_tokens: u32, stream: bool) -> Vec<Vec<u8>> {
    let usage = if stream { ",\"stream_options\":{\"include_usage\":true}" } else { "" };
    let request = |number: usize| {
        let prompt = words(bytes, number as u64 + 1);
        let body = format!(
            "{{\"model\":\"{}\",\"stream\":{stream},\"max_tokens\":{max_tokens},\"ignore_eos\":true{usage},\"messages\":[\
             {{\"role\":\"system\",\"content\":\"You are a helpful assistant.\"}},\
             {{\"role\":\"user\",\"content\":\"{prompt}\"}}]}}",
            crate::tidegate::MODEL
        );
        crate::tidegate::chat(&format!("key-{}", number % ACCOUNTS), &body)
    };
    (0..ACCOUNTS).map(request).collect()
}

/// Plain words, about `bytes` bytes of them, different for each seed.
pub fn words(bytes: usize, seed: u64) -> String {
    const WORDS: [&str; 16] = [
        "the", "model", "answer", "question", "because", "people", "should", "write", "history", "between",
        "results", "please", "explain", "latency", "of", "and",
    ];
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        text.push_str(WORDS.get((state >> 33) as usize % WORDS.len()).copied().unwrap_or("the"));
        text.push(' ');
    }
    text.truncate(bytes);
    text
}
