//! What operators changed of limits, when, and by which token: the part of a limit's history that no budget knows.
//!
//! A budget has a history from its first request on, and it does not know who asked. So each change of a bound is kept here,
//! the last [`EVENTS_MAX`] of an account on a model, beside the overrides themselves and as lasting as they are.

use config::{Bounds, Meters};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Changes that are kept of one account on one model: ten times three bounds of one meter.
pub const EVENTS_MAX: usize = 32;

/// One bound that an operator moved, tokens per minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideEvent {
    /// When, milliseconds since the epoch.
    pub at_ms: u64,
    /// The first digits of the SHA-256 of the operator's token.
    pub by: String,
    /// `start`, `floor` or `ceiling`.
    pub bound: String,
    /// `prompt`, `uncached-prompt` or `generated`.
    pub meter: String,
    /// Before.
    pub from: u64,
    /// From then on.
    pub to: u64,
}

/// Who changes limits, and when.
#[derive(Debug, Clone, Copy)]
pub struct Author<'a> {
    /// The first digits of the SHA-256 of its token.
    pub token: &'a str,
    /// Now, since the epoch.
    pub at: Duration,
}

/// The events of every account on every model.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Events(BTreeMap<String, BTreeMap<String, VecDeque<OverrideEvent>>>);

impl Events {
    /// Notes what differs between two sets of bounds.
    pub(crate) fn note(
        &mut self,
        account: &str,
        model: &str,
        author: Author<'_>,
        (before, after): (&Bounds, &Bounds),
    ) {
        let moved = moved(before, after, author);
        if moved.is_empty() {
            return;
        }
        let kept = self.0.entry(account.to_owned()).or_default().entry(model.to_owned()).or_default();
        kept.extend(moved);
        kept.drain(..kept.len().saturating_sub(EVENTS_MAX));
    }

    /// Those of an account on a model, the oldest first.
    pub(crate) fn of(&self, account: &str, model: &str) -> Vec<OverrideEvent> {
        let kept = self.0.get(account).and_then(|models| models.get(model));
        kept.into_iter().flatten().cloned().collect()
    }
}

fn moved(before: &Bounds, after: &Bounds, author: Author<'_>) -> Vec<OverrideEvent> {
    let of = |meters: &Meters| {
        [
            ("prompt", meters.prompt),
            ("uncached-prompt", meters.uncached_prompt),
            ("generated", meters.generated),
        ]
    };
    let bounds = [
        ("start", &before.start, &after.start),
        ("floor", &before.floor, &after.floor),
        ("ceiling", &before.ceiling, &after.ceiling),
    ];
    let each = bounds.into_iter().flat_map(|(bound, before, after)| {
        of(before).into_iter().zip(of(after)).map(move |((meter, from), (_, to))| (bound, meter, from, to))
    });
    each.filter(|(_, _, from, to)| from != to)
        .map(|(bound, meter, from, to)| OverrideEvent {
            at_ms: author.at.as_millis() as u64,
            by: author.token.to_owned(),
            bound: bound.to_owned(),
            meter: meter.to_owned(),
            from,
            to,
        })
        .collect()
}
