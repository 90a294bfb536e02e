//! Hears signals from the first moment of the process, and keeps them until somebody acts on them.
//!
//! A signal that nobody handles ends a process, and `SIGHUP` is what log rotation and service managers send at any time:
//! so handlers stand before anything shows that the gateway runs. What no start should be ended by is heard at once,
//! `SIGTERM`, `SIGINT` and `SIGQUIT` from the moment on at which the process begins to open its listeners; until then it
//! may wait for another process, and ends as any program does.

use std::io;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// Signals that wait to be acted on: more of one kind say nothing new.
const WAITING_MAX: usize = 16;

/// What was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// `SIGTERM`.
    Terminate,
    /// `SIGINT`.
    Interrupt,
    /// `SIGHUP`.
    HangUp,
    /// `SIGQUIT`.
    Quit,
    /// `SIGUSR1`.
    User1,
    /// `SIGUSR2`.
    User2,
}

/// The signals that end no start.
#[derive(Debug)]
pub struct Ears {
    runtime: Runtime,
    hang_up: Signal,
    user: [Signal; 2],
}

impl Ears {
    /// Hears `SIGHUP`, `SIGUSR1` and `SIGUSR2` from now on.
    ///
    /// # Errors
    /// When the operating system has no descriptor for it.
    pub fn open() -> io::Result<Ears> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let guard = runtime.enter();
        let hang_up = signal(SignalKind::hangup())?;
        let user = [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?];
        drop(guard);
        Ok(Ears { runtime, hang_up, user })
    }

    /// Hears `SIGTERM`, `SIGINT` and `SIGQUIT` too, and tells of all of them, on a thread of its own.
    ///
    /// # Errors
    /// When the operating system has no descriptor or thread for it.
    pub fn listen(self) -> io::Result<mpsc::Receiver<Heard>> {
        let Ears { runtime, mut hang_up, user: [mut first, mut second] } = self;
        let guard = runtime.enter();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut quit = signal(SignalKind::quit())?;
        drop(guard);
        let (told, heard) = mpsc::channel(WAITING_MAX);
        let hear = async move {
            loop {
                let heard = tokio::select! {
                    _ = terminate.recv() => Heard::Terminate,
                    _ = interrupt.recv() => Heard::Interrupt,
                    _ = hang_up.recv() => Heard::HangUp,
                    _ = quit.recv() => Heard::Quit,
                    _ = first.recv() => Heard::User1,
                    _ = second.recv() => Heard::User2,
                };
                // So many wait already that nobody acts on them any more.
                let _ = told.try_send(heard);
            }
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || runtime.block_on(hear))?;
        Ok(heard)
    }
}
