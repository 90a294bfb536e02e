//! The running process's side: it looks for the new one, gives it everything, and tells what its last requests use.

use super::wire::{Message, Wire};
use super::{UpgradeError, learned, running, socket};
use crate::clock;
use crate::state::gateway::Gateway;
use crate::state::journal::Journal;
use parking_lot::Mutex;
use rustix::fd::AsFd;
use shedder::learned::Neighbour;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// How long each answer of the new process is waited for: it reads certificates, vocabularies and budgets.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// How long one report of use may take.
const TELLS_WITHIN: Duration = Duration::from_millis(200);
/// Tokens that are given back later than this after the hand-over have left the new process's minute.
const GIVES_BACK_WITHIN: Duration = Duration::from_secs(60);

/// The listening sockets of this process, with the addresses that its config had for them.
#[derive(Debug)]
pub struct Listeners {
    /// Where customers connect.
    pub customers: (SocketAddr, TcpListener),
    /// Where operators connect.
    pub admin: (SocketAddr, TcpListener),
}

/// The new process, once connections are its own.
#[derive(Debug)]
pub struct Successor {
    /// Its process id.
    pub pid: i32,
    /// Whether this process started it, so that it is in the same service.
    pub is_ours: bool,
    since: Duration,
    link: Mutex<Link>,
}

/// The connection to the new process.
#[derive(Debug)]
struct Link {
    /// `None` once it did not listen any more.
    wire: Option<Wire>,
    /// Whether what runs is told and heard.
    exchanges: bool,
}

/// Looks for a new process and hands everything over to it. Blocks until that one serves, or failed.
///
/// # Errors
/// Nobody waits, or the new process failed before it served. Then nothing has changed here.
pub fn offer(
    gateway: &Gateway,
    journal: Option<&Journal>,
    listeners: &Listeners,
) -> Result<Successor, UpgradeError> {
    let path = socket(&gateway.snapshot().config)?;
    let journal = journal.ok_or(UpgradeError::NoFolder)?;
    let stream = UnixStream::connect(&path).map_err(|_| UpgradeError::NobodyWaits(path))?;
    let (mut wire, pid) = Wire::new(stream, ANSWERS_WITHIN)?;
    let Listeners { customers, admin } = listeners;
    let message = Message::Listeners { customers: customers.0.to_string(), admin: admin.0.to_string() };
    wire.send_with(&message, &[customers.1.as_fd(), admin.1.as_fd()])?;
    wire.expect(&Message::Ready)?;
    // When keys were last used is worth telling and not worth failing for.
    let _ = journal.save_uses(&gateway.registry.unsaved_uses());
    journal.hand_over(gateway.registry.all_budgets())?;
    let since = clock::now();
    match give_place(&mut wire, gateway) {
        Ok(exchanges) => {
            let _ = wire.write_within(TELLS_WITHIN);
            let _ = wire.read_within(TELLS_WITHIN);
            Ok(Successor {
                pid,
                is_ours: false,
                since,
                link: Mutex::new(Link { wire: Some(wire), exchanges }),
            })
        }
        Err(e) => {
            // It ends when the connection does, and its lock with it.
            drop(wire);
            journal.take_back();
            Err(e)
        }
    }
}

/// Whether the new process exchanges what runs.
fn give_place(wire: &mut Wire, gateway: &Gateway) -> Result<bool, UpgradeError> {
    wire.send(&Message::State)?;
    let Message::Serving { learned, running } = wire.receive()? else { return Err(UpgradeError::OutOfTurn) };
    if gateway.is_draining() {
        return Err(UpgradeError::Stopping);
    }
    if learned {
        learned::tell(wire, gateway)?;
    }
    wire.send(&Message::Yours)?;
    Ok(running)
}

fn exchange(wire: &mut Wire, gateway: &Gateway) -> std::io::Result<()> {
    running::tell(wire, gateway, Neighbour::After)?;
    match wire.receive()? {
        Message::Running { json } => running::hear(wire, gateway, Neighbour::After, json),
        _ => Err(std::io::ErrorKind::InvalidData.into()),
    }
}

impl Successor {
    /// Tells what was used since this was last called, and exchanges what runs. May block for some hundred milliseconds.
    pub fn tell(&self, gateway: &Gateway) {
        let mut link = self.link.lock();
        let Link { wire, exchanges } = &mut *link;
        let Some(open) = wire.as_mut() else { return };
        let late = clock::now() > self.since + GIVES_BACK_WITHIN;
        for cell in gateway.registry.all_budgets() {
            let used = cell.take_beyond().map(|tokens| if late { tokens.max(0) } else { tokens });
            if used.iter().all(|(_, tokens)| *tokens == 0) {
                continue;
            }
            let message = Message::Used {
                account: cell.account.to_string(),
                model: cell.model.to_string(),
                prompt: used.prompt,
                uncached_prompt: used.uncached_prompt,
                generated: used.generated,
            };
            if let Err(e) = open.send(&message) {
                tracing::error!("the new process does not hear any more what the last requests use: {e}");
                *wire = None;
                running::ended(gateway, Neighbour::After);
                return;
            }
        }
        if *exchanges && let Err(e) = exchange(open, gateway) {
            tracing::warn!("what runs in the new process is not heard any more: {e}");
            *exchanges = false;
            running::ended(gateway, Neighbour::After);
        }
    }
}
