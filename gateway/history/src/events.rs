//! What people and machines did, on the same axis as the figures: the last thousand events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Events that are kept.
pub const EVENTS_MAX: usize = 1_000;
/// Characters of an event's sentence.
pub const WORDS_MAX: usize = 400;

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The process began.
    Start,
    /// A new process took over from this one.
    HandOver,
    /// The process stops: it takes no new connections.
    Stopping,
    /// Another config came into force.
    Reload,
    /// A config was refused; the one in force stays.
    ReloadRefused,
    /// An operator drained a replica.
    Drain,
    /// An operator put a drained replica back.
    Undrain,
    /// A replica failed and is out of service.
    ReplicaDown,
    /// It is in service again.
    ReplicaUp,
    /// An operator had a part of the capacity taken away.
    Pressure,
    /// It came back.
    PressureOver,
    /// An operator set ceilings, or put those of the config back.
    Thresholds,
    /// An operator set limits of an account.
    Limits,
    /// An account was made.
    AccountMade,
    /// An account was changed.
    AccountChanged,
    /// An account was removed.
    AccountRemoved,
    /// An account got another key.
    KeyMade,
    /// An account got a new key in place of its old ones.
    KeysRotated,
    /// A key of an account was ended.
    KeyEnded,
    /// An operator set the level of the log.
    LogLevel,
    /// A drill was started.
    DrillStarted,
    /// A drill is over.
    DrillEnded,
}

impl Kind {
    /// Its name in the admin API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Start => "start",
            Kind::HandOver => "hand_over",
            Kind::Stopping => "stopping",
            Kind::Reload => "reload",
            Kind::ReloadRefused => "reload_refused",
            Kind::Drain => "drain",
            Kind::Undrain => "undrain",
            Kind::ReplicaDown => "replica_down",
            Kind::ReplicaUp => "replica_up",
            Kind::Pressure => "pressure",
            Kind::PressureOver => "pressure_over",
            Kind::Thresholds => "thresholds",
            Kind::Limits => "limits",
            Kind::AccountMade => "account_made",
            Kind::AccountChanged => "account_changed",
            Kind::AccountRemoved => "account_removed",
            Kind::KeyMade => "key_made",
            Kind::KeysRotated => "keys_rotated",
            Kind::KeyEnded => "key_ended",
            Kind::LogLevel => "log_level",
            Kind::DrillStarted => "drill_started",
            Kind::DrillEnded => "drill_ended",
        }
    }
}

/// What it happened to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subject {
    /// A deployment.
    pub deployment: Option<Arc<str>>,
    /// A replica of it, by its URL.
    pub replica: Option<String>,
    /// An account.
    pub account: Option<Arc<str>>,
    /// A model.
    pub model: Option<Arc<str>>,
}

impl Subject {
    /// The process as a whole.
    pub const PROCESS: Subject = Subject { deployment: None, replica: None, account: None, model: None };

    /// A deployment.
    #[must_use]
    pub fn deployment(name: &Arc<str>) -> Self {
        Subject { deployment: Some(Arc::clone(name)), ..Subject::PROCESS }
    }

    /// A replica of a deployment.
    #[must_use]
    pub fn replica(deployment: &Arc<str>, url: &str) -> Self {
        Subject { replica: Some(url.to_owned()), ..Subject::deployment(deployment) }
    }

    /// An account.
    #[must_use]
    pub fn account(id: &str) -> Self {
        Subject { account: Some(id.into()), ..Subject::PROCESS }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its number, in the order in which they came; from 1.
    pub id: u64,
    /// Wall time since the epoch.
    pub at: Duration,
    /// What kind of thing happened.
    pub kind: Kind,
    /// To what.
    pub subject: Subject,
    /// In a sentence.
    pub words: String,
    /// The first digits of the digest of the token of whoever did it; `None`: nobody did.
    pub by: Option<String>,
}

/// The last events.
#[derive(Debug, Default)]
pub struct Events {
    kept: VecDeque<Event>,
    noted: u64,
}

impl Events {
    /// Notes one at the wall time `at`. The oldest goes when there are [`EVENTS_MAX`]; a sentence that is too long is cut.
    pub fn note(&mut self, at: Duration, kind: Kind, subject: Subject, words: &str, by: Option<&str>) {
        if self.kept.len() == EVENTS_MAX {
            self.kept.pop_front();
        }
        self.noted += 1;
        let words = words.chars().take(WORDS_MAX).collect();
        self.kept.push_back(Event { id: self.noted, at, kind, subject, words, by: by.map(str::to_owned) });
    }

    /// Those after a moment, the oldest first.
    pub fn since(&self, since: Duration) -> impl DoubleEndedIterator<Item = &Event> {
        self.kept.iter().filter(move |event| event.at > since)
    }

    /// How many are no longer kept.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.noted - self.kept.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_thousand_are_kept_in_order() {
        let mut events = Events::default();
        for second in 0..1_500 {
            let at = Duration::from_secs(second);
            events.note(at, Kind::Drain, Subject::replica(&"gpu".into(), "http://gpu-1"), "Drained.", None);
        }

        let kept: Vec<u64> = events.since(Duration::ZERO).map(|event| event.id).collect();
        assert_eq!((kept.len(), kept.first(), kept.last()), (EVENTS_MAX, Some(&501), Some(&1_500)));
        assert_eq!(events.dropped(), 500);
        assert_eq!(events.since(Duration::from_secs(1_497)).count(), 2);
    }

    #[test]
    fn a_sentence_has_a_bound() {
        let mut events = Events::default();
        events.note(
            Duration::from_secs(1),
            Kind::ReloadRefused,
            Subject::PROCESS,
            &"ä".repeat(5_000),
            Some("1a2b"),
        );

        let event = events.since(Duration::ZERO).next().unwrap();
        assert_eq!((event.words.chars().count(), event.by.as_deref()), (WORDS_MAX, Some("1a2b")));
    }
}
