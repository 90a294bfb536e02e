//! What became of attempts to hand over to a new process, for whoever asked for one. One that succeeded is told by the new
//! process: it answers in the place of this one.

use crate::clock;
use parking_lot::Mutex;
use std::fmt::Display;
use std::time::Duration;

/// Attempts so far.
#[derive(Debug, Default)]
pub struct Upgrades(Mutex<Attempts>);

/// Attempts so far.
#[derive(Debug, Default, Clone)]
pub struct Attempts {
    /// Whether one is under way.
    pub runs: bool,
    /// The last that failed: when, wall time since the epoch, and why.
    pub failed: Option<(Duration, String)>,
}

impl Upgrades {
    /// One begins.
    pub fn begin(&self) {
        *self.0.lock() = Attempts { runs: true, failed: None };
    }

    /// It came to nothing.
    pub fn failed(&self, why: &dyn Display) {
        *self.0.lock() = Attempts { runs: false, failed: Some((clock::wall(), why.to_string())) };
    }

    /// As it stands.
    #[must_use]
    pub fn state(&self) -> Attempts {
        self.0.lock().clone()
    }
}
