//! The new process's side: it waits for the running one, takes its listeners and its state, and then its place.

use super::wire::{LISTENERS, Message, Wire};
use super::{UpgradeError, learned, running, socket};
use crate::clock;
use crate::state::gateway::Gateway;
use crate::state::keys;
use config::Config;
use limits::PerMeter;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use shedder::learned::Neighbour;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use store::private;

/// How long the running process is waited for: an operator or a script sends the signal next.
const COMES_WITHIN: Duration = Duration::from_secs(60);
/// How long each answer of the running process is waited for. It writes its budgets in between.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// The running process, as the new one sees it.
#[derive(Debug)]
pub struct Predecessor {
    wire: Wire,
    customers: Option<(String, TcpListener)>,
    admin: Option<(String, TcpListener)>,
}

impl Predecessor {
    /// Waits until the running process hands over its listeners. `waits` is called once somebody listens here.
    ///
    /// # Errors
    /// Nobody came, or the state folder is missing.
    pub fn wait(config: &Config, waits: impl FnOnce(&Path)) -> Result<Self, UpgradeError> {
        let path = socket(config)?;
        let made = |cause| UpgradeError::Socket { path: path.clone(), cause };
        if let Some(folder) = path.parent() {
            private::make_folder(folder).map_err(made)?;
        }
        // What an earlier one left behind: a name that nobody listens to.
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(made)?;
        private::close_off(&path).map_err(made)?;
        waits(&path);
        let accepted = set_socket_timeout(&listener, Timeout::Recv, Some(COMES_WITHIN))
            .map_err(io::Error::from)
            .and_then(|()| listener.accept());
        let _ = fs::remove_file(&path);
        let (stream, _) = accepted.map_err(|e| match e.kind() {
            io::ErrorKind::WouldBlock => UpgradeError::NobodyCame { patience_s: COMES_WITHIN.as_secs() },
            _ => UpgradeError::BrokeOff(e),
        })?;
        let (mut wire, _) = Wire::new(stream, ANSWERS_WITHIN)?;
        let (message, fds) = wire.receive_with()?;
        let (Message::Listeners { customers, admin }, Ok([first, second])) =
            (message, <[_; LISTENERS]>::try_from(fds))
        else {
            return Err(UpgradeError::OutOfTurn);
        };
        let customers = Some((customers, TcpListener::from(first)));
        let admin = Some((admin, TcpListener::from(second)));
        Ok(Predecessor { wire, customers, admin })
    }

    /// Its customers' listener, if the config wants the same address. One of another address is left to it.
    pub fn customers(&mut self, configured: SocketAddr) -> Option<TcpListener> {
        same(self.customers.take(), configured)
    }

    /// Its operators' listener, likewise.
    pub fn admin(&mut self, configured: SocketAddr) -> Option<TcpListener> {
        same(self.admin.take(), configured)
    }

    /// Says that all is done that needs no state, and waits for the state folder.
    ///
    /// # Errors
    /// The running process broke off; it goes on.
    pub fn take_state(&mut self) -> Result<(), UpgradeError> {
        self.wire.send(&Message::Ready)?;
        self.wire.expect(&Message::State)
    }

    /// Takes its place: from now on connections are this process's. What the old one's last requests use is booked as it
    /// is told, on a thread that ends with the old process.
    ///
    /// # Errors
    /// The running process broke off; it goes on, and this one must not.
    pub fn take_over(mut self, gateway: Arc<Gateway>) -> Result<(), UpgradeError> {
        self.wire.send(&Message::Serving { learned: true, running: true })?;
        loop {
            match self.wire.receive()? {
                Message::Learned { deployment, json, prefixes } => {
                    learned::hear(&mut self.wire, &gateway, (&deployment, json, prefixes))?;
                }
                Message::Yours => break,
                _ => return Err(UpgradeError::OutOfTurn),
            }
        }
        self.wire.wait_for_ever()?;
        tracing::info!("took over from the process that ran before");
        std::thread::Builder::new().name("upgrade".to_owned()).spawn(move || {
            let mut exchanged = false;
            while let Ok(message) = self.wire.receive() {
                let Message::Running { json } = message else {
                    book(&gateway, &message);
                    continue;
                };
                exchanged = true;
                let heard = running::hear(&mut self.wire, &gateway, Neighbour::Before, json)
                    .and_then(|()| running::tell(&mut self.wire, &gateway, Neighbour::Before));
                if let Err(e) = heard {
                    tracing::warn!("what still runs in the process before is not heard any more: {e}");
                    break;
                }
            }
            // What an even earlier process still runs was told as well, and holds its places until it should have ended.
            if !exchanged {
                running::ended(&gateway, Neighbour::Before);
            }
            tracing::info!("the process that ran before has ended");
        })?;
        Ok(())
    }
}

fn same(passed: Option<(String, TcpListener)>, configured: SocketAddr) -> Option<TcpListener> {
    passed.filter(|(address, _)| *address == configured.to_string()).map(|(_, listener)| listener)
}

fn book(gateway: &Gateway, message: &Message) {
    let Message::Used { account, model, prompt, uncached_prompt, generated } = message else { return };
    let snapshot = gateway.snapshot();
    // Who is in no config any more has no budget. A key's is told by the name of both, which no earlier version finds.
    let (account, key) = keys::split(account).map_or((account.as_str(), None), |(id, key)| (id, Some(key)));
    let (Some(account), Some(model)) = (snapshot.account(account), snapshot.models.get(model.as_str()))
    else {
        return;
    };
    let of_account = account.budget(&gateway.registry, &snapshot.config, model);
    let of_key = key.map(|name| {
        let key = account.named_keys.iter().find(|key| *key.config.name == *name)?;
        key.budget(&gateway.registry, model, &of_account)
    });
    let Some(cell) = of_key.unwrap_or(Some(of_account)) else { return };
    let tokens = PerMeter { prompt: *prompt, uncached_prompt: *uncached_prompt, generated: *generated };
    cell.with(|budget| budget.book_elsewhere(clock::now(), &tokens));
    cell.touch();
}
