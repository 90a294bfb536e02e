//! What ends the demo from outside: `SIGTERM`, `SIGINT`, `SIGQUIT`, and on a terminal `SIGHUP`, which says that it was
//! closed.
//!
//! A terminal that takes no output, as after Ctrl-S, holds whoever draws on it; the demo ends all the same.

use super::terminal::Held;
use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

/// How long the demo may take to end by itself: a frame takes milliseconds.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

/// Signals that end the demo, heard from now on.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
    /// Without a terminal it says nothing: `nohup` ignores it.
    hang_up: Option<Signal>,
}

impl Signals {
    /// Hears them.
    ///
    /// # Errors
    /// When the operating system has no descriptor for it.
    pub(super) fn hear(runtime: &Runtime, on_a_terminal: bool) -> io::Result<Signals> {
        let _guard = runtime.enter();
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hang_up: on_a_terminal.then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    async fn first(&mut self) {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            _ = self.quit.recv() => {}
            _ = hang_up => {}
        }
    }

    /// Is told with the first of them. If the process is still there soon after, it ends with the keyboard put back.
    pub(super) fn told(mut self, runtime: &Runtime, held: Option<Arc<Held>>) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        runtime.spawn(async move {
            self.first().await;
            let _ = tell.send(());
            tokio::time::sleep(ENDS_WITHIN).await;
            if let Some(held) = held {
                held.put_input_back();
            }
            std::process::exit(0);
        });
        told
    }
}
