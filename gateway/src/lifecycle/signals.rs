//! Signals: `SIGTERM` drains, `SIGINT` ends, `SIGHUP` reads the config again and opens the logs anew, `SIGUSR1` does the
//! latter alone. `SIGQUIT` hands over to a new process that waits for it, `SIGUSR2` starts that one first.

use crate::lifecycle::heard::Heard;
use crate::lifecycle::notify;
use crate::lifecycle::upgrade::{self, Listeners, Successor, UpgradeError};
use crate::state::gateway::Gateway;
use crate::state::journal::Journal;
use crate::state::reload::Trigger;
use async_trait::async_trait;
use crossbeam::channel::bounded;
use history::events::{Kind, Subject};
use parking_lot::Mutex;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the last lines of the log may take on the way out.
pub const FLUSH_PATIENCE: Duration = Duration::from_millis(500);
/// How often a new process is told what the last requests use here.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// Turns signals into what the framework is to do.
pub struct Signals {
    gateway: Arc<Gateway>,
    journal: Option<Arc<Journal>>,
    /// To be handed over; gone once the process goes down, or its port would stay open.
    listeners: Arc<Mutex<Option<Listeners>>>,
    successor: Arc<OnceLock<Successor>>,
    /// What was heard since the start.
    heard: Arc<tokio::sync::Mutex<mpsc::Receiver<Heard>>>,
}

/// What became of an upgrade.
type Outcome = Result<Successor, UpgradeError>;
/// How a new process is come by.
type Offer = fn(&Gateway, Option<&Journal>, &Listeners) -> Outcome;

impl Signals {
    /// Acts for `gateway` on what was `heard`; who takes over is put into `successor`.
    #[must_use]
    pub fn new(
        gateway: Arc<Gateway>,
        journal: Option<Arc<Journal>>,
        listeners: Listeners,
        successor: Arc<OnceLock<Successor>>,
        heard: mpsc::Receiver<Heard>,
    ) -> Self {
        let listeners = Arc::new(Mutex::new(Some(listeners)));
        let heard = Arc::new(tokio::sync::Mutex::new(heard));
        Signals { gateway, journal, listeners, successor, heard }
    }

    /// Offers everything to a new process, on a thread: it may take seconds, and requests go on.
    fn upgrade(&self, ended: mpsc::Sender<Outcome>, how: Offer) {
        self.gateway.upgrades.begin();
        let (gateway, journal) = (Arc::clone(&self.gateway), self.journal.clone());
        let listeners = Arc::clone(&self.listeners);
        let offer = move || {
            // Held for as long as it takes: the next signal waits, and then finds nobody or the listeners gone.
            let outcome = match &*listeners.lock() {
                Some(listeners) => how(&gateway, journal.as_deref(), listeners),
                None => Err(UpgradeError::Stopping),
            };
            let _ = ended.blocking_send(outcome);
        };
        if let Err(e) = std::thread::Builder::new().name("upgrade".to_owned()).spawn(offer) {
            tracing::error!("no thread for the upgrade, this process goes on: {e}");
            self.gateway.upgrades.failed(&e);
        }
    }

    /// The new process serves: this one takes no connection any more.
    fn handed_over(&self, successor: Successor) {
        tracing::info!(pid = successor.pid, "a new process took over, this one ends with its last answer");
        if successor.is_ours {
            notify::say(&notify::main_process(successor.pid));
        } else {
            notify::say(notify::STOPPING);
        }
        let words =
            format!("A new process, {}, took over; this one ends with its last answer.", successor.pid);
        self.gateway.accounts.recorder.note(Kind::HandOver, Subject::PROCESS, &words, None);
        let _ = self.successor.set(successor);
        self.gateway.hand_over();
        self.listeners.lock().take();
        let (gateway, successor) = (Arc::clone(&self.gateway), Arc::clone(&self.successor));
        let tell = move || {
            // Nobody sends: the only way out of the wait is its time.
            let (_keep, wait) = bounded::<()>(0);
            while let Some(successor) = successor.get() {
                successor.tell(&gateway);
                let _ = wait.recv_timeout(TELL_EVERY);
            }
        };
        if let Err(e) = std::thread::Builder::new().name("upgrade".to_owned()).spawn(tell) {
            tracing::error!("what the last requests use is told at the end only: {e}");
        }
    }

    /// Opens the logs anew: their files may have been moved away.
    fn reopen_logs(gateway: &Gateway) {
        gateway.accounts.reopen();
        crate::telemetry::logging::reopen();
    }

    /// Goes on opening logs anew while the process goes down, which may take minutes.
    fn heed_rotation(&self) {
        let (gateway, heard) = (Arc::clone(&self.gateway), Arc::clone(&self.heard));
        tokio::spawn(async move {
            while let Some(heard) = heard.lock().await.recv().await {
                if matches!(heard, Heard::HangUp | Heard::User1) {
                    Self::reopen_logs(&gateway);
                }
            }
        });
    }

    async fn stop(&self) {
        self.gateway.begin_draining();
        let words = "The process stops: it takes no new connections, and ends with its last answer.";
        self.gateway.accounts.recorder.note(Kind::Stopping, Subject::PROCESS, words, None);
        notify::say(notify::STOPPING);
        let lame_duck = self.gateway.snapshot().config.listen.shutdown.lame_duck;
        tracing::info!(lame_duck_ms = lame_duck.as_millis() as u64, "SIGTERM: draining");
        tokio::time::sleep(lame_duck).await;
        // An upgrade that is under way has it; it is refused, and then the listener closes with that thread.
        if let Some(mut listeners) = self.listeners.try_lock() {
            listeners.take();
        }
    }
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let signal = self.heed().await;
        self.heed_rotation();
        signal
    }
}

impl Signals {
    /// Acts on signals until one ends the process.
    async fn heed(&self) -> ShutdownSignal {
        let mut heard = self.heard.lock().await;
        let (sender, mut ended) = mpsc::channel(1);
        loop {
            let heard = tokio::select! {
                Some(heard) = heard.recv() => heard,
                Some(outcome) = ended.recv() => {
                    match outcome {
                        Ok(successor) => {
                            self.handed_over(successor);
                            return ShutdownSignal::GracefulTerminate;
                        }
                        Err(e) => {
                            tracing::error!("no upgrade, this process goes on: {e}");
                            self.gateway.upgrades.failed(&e);
                        }
                    }
                    continue;
                }
            };
            match heard {
                Heard::HangUp => {
                    Self::reopen_logs(&self.gateway);
                    self.gateway.reloader.ask(Trigger::Signal);
                }
                Heard::User1 => Self::reopen_logs(&self.gateway),
                Heard::Quit => self.upgrade(sender.clone(), upgrade::offer),
                Heard::User2 => self.upgrade(sender.clone(), upgrade::start),
                Heard::Interrupt => {
                    self.gateway.accounts.flush(FLUSH_PATIENCE);
                    crate::telemetry::logging::flush(FLUSH_PATIENCE);
                    return ShutdownSignal::FastShutdown;
                }
                Heard::Terminate => {
                    self.stop().await;
                    return ShutdownSignal::GracefulTerminate;
                }
            }
        }
    }
}
