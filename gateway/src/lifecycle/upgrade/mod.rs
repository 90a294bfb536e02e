//! An upgrade without a gap: a running gateway hands everything over to a new process, and ends when its last answer has.
//!
//! The new process is started with `--upgrade` and waits at a socket in the state folder; `SIGQUIT` makes the running one
//! look for it there, and on `SIGUSR2` it starts the new one itself. The framework has a hand-over of its own, but it goes down whether somebody took over or not, knows
//! nothing of the admin listener, and leaves each process with budgets of its own. So this is ours:
//!
//! ```text
//! running process                                new process, started with --upgrade
//!                                                reads its config, waits at <state.dir>/upgrade.sock
//! SIGQUIT: connects ── listeners ──────────────► opens logs, reads certificates
//!                   ◄── ready ──────────────────
//! writes all budgets, lets go of the folder
//!                   ── state ──────────────────► takes the folder, builds itself whole
//!                   ◄── serving ────────────────
//! from here on it takes no connection
//!                   ── learned, learned … ─────► goes on with what was learnt of each deployment
//!                   ── yours ──────────────────► takes connections
//! its last answers  ── used, used, used … ─────► books what they use
//!                   ── running ────────────────► each counts what the other runs,
//!                   ◄── running ──────────────── four times a second
//! ends              ──
//! ```
//!
//! # Guarantees
//!
//! - The listening sockets are the same ones, with the same queue, so no connection is refused or lost between them.
//! - Until `yours` each side may fail, and the running process goes on as before. After it the new one serves.
//! - Who waits in the old process gets a place there or its own verdict; nothing is shed because of the upgrade.
//! - Each token is booked once: what was used or reserved goes with the folder, what is used later is told.
//! - Both processes run under the same user, or the new one under root: nobody else gets listeners or budgets.
//!
//! - What was learnt goes with it: of each replica the limit, gaps, prefill rate, lag, slots and memory, of each model the
//!   usual answer and how far estimates of prompts were off, and which prompts are cached where.
//! - While the old process finishes what it has, each of the two counts what the other runs, so that both together keep to
//!   what the replicas bear; over several upgrades in a row, too.
//!
//! What is not handed over: how many requests each account runs, how estimates of each account's prompts differ from those of
//! all, and how much longer waits turn out than predicted. The new process begins with them as any start does.

mod learned;
mod predecessor;
mod running;
mod started;
mod successor;
mod wire;

pub use predecessor::Predecessor;
pub use started::note_program;
pub use successor::{Listeners, Successor, offer};

use crate::state::gateway::Gateway;
use crate::state::journal::Journal;
use config::Config;
use started::Started;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

/// The socket's name in the state folder.
const SOCKET: &str = "upgrade.sock";

/// Why an upgrade did not come about.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// Budgets are handed over by way of the folder.
    #[error("an upgrade needs state.dir, by which budgets are handed over; set it, or restart instead")]
    NoFolder,
    /// Nobody waits. Usually the new process was not started yet, or refused its config.
    #[error(
        "no new process waits at {0}; start one with `tidegate serve --upgrade`, then send SIGQUIT again"
    )]
    NobodyWaits(PathBuf),
    /// The socket cannot be made. Usually the path is too long, or the folder is not writable.
    #[error("the socket {path} cannot be made: {cause}")]
    Socket {
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// No running process came.
    #[error(
        "no running process handed over within {patience_s} s; send it SIGQUIT once this one waits, or start without --upgrade"
    )]
    NobodyCame {
        /// How long it was waited for.
        patience_s: u64,
    },
    /// The other side broke off, or was silent too long.
    #[error("the other process broke off: {0}")]
    BrokeOff(#[from] io::Error),
    /// The other side said something else than its part.
    #[error("the other process does not follow: it may be of another version; restart instead")]
    OutOfTurn,
    /// Another user's process.
    #[error("the other process belongs to another user ({0})")]
    Stranger(u32),
    /// The folder.
    #[error("{0}")]
    Journal(#[from] crate::state::journal::JournalError),
    /// The program cannot be started again. Usually it was removed.
    #[error("the new process cannot be started: {0}")]
    NotStarted(io::Error),
    /// The new process refused its config, or could not open what it needs.
    #[error(
        "the new process ended ({0}); its log says why, and `tidegate check` says what is wrong with the config"
    )]
    Ended(ExitStatus),
    /// A container ends with its first process.
    #[error(
        "this process is its container's first, which would end with it: start a second container before this one ends"
    )]
    First,
    /// A gateway that was not started by `tidegate serve`.
    #[error("only `tidegate serve` can start its own successor")]
    NoFile,
    /// It was told to stop meanwhile.
    #[error("this process is going down already")]
    Stopping,
}

/// Starts a new process and hands everything over to it. Blocks until that one serves, or failed.
///
/// # Errors
/// As [`offer`], and the new process cannot be started or ends before it serves. Then nothing has changed here.
pub fn start(
    gateway: &Gateway,
    journal: Option<&Journal>,
    listeners: &Listeners,
) -> Result<Successor, UpgradeError> {
    if gateway.reloader.file().is_none() {
        return Err(UpgradeError::NoFile);
    }
    socket(&gateway.snapshot().config)?;
    let started = Started::now()?;
    let mut successor = started.offer(|| offer(gateway, journal, listeners))?;
    successor.is_ours = true;
    Ok(successor)
}

fn socket(config: &Config) -> Result<PathBuf, UpgradeError> {
    Ok(config.state.dir.as_ref().ok_or(UpgradeError::NoFolder)?.join(SOCKET))
}
