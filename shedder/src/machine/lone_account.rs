//! Whether a deployment serves one account alone.
//!
//! A late first token shows that the engine queues, and then the limit N falls for everybody. But lateness may be the
//! request's own (a schema to compile, a picture, an answer that never shows a token), and one account that sends many of
//! those must not take the others' places. So late tokens of one account count only while there are no others: then N
//! protects that account's own answers, and costs nobody else anything.

use std::time::Duration;

/// Others that were here within it may be here again before N has recovered.
const ALONE_SPAN: Duration = Duration::from_secs(60);

/// The account that asked last, and when another one did before it.
#[derive(Debug, Clone, Default)]
pub(super) struct LoneAccount {
    last: Option<u64>,
    changed: Option<Duration>,
}

impl LoneAccount {
    /// A request of `account` came. O(1).
    pub(super) fn on_offer(&mut self, now: Duration, account: u64) {
        if self.last.replace(account).is_some_and(|last| last != account) {
            self.changed = Some(now);
        }
    }

    /// Only one account has asked for anything in the last minute.
    pub(super) fn is_one(&self, now: Duration) -> bool {
        self.changed.is_none_or(|at| now.saturating_sub(at) >= ALONE_SPAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_account_is_remembered_for_a_minute() {
        let at = Duration::from_secs;
        let mut lone = LoneAccount::default();
        lone.on_offer(at(0), 1);
        assert!(lone.is_one(at(0)));

        lone.on_offer(at(1), 2);
        (2..61).for_each(|s| lone.on_offer(at(s), 2));

        assert!(!lone.is_one(at(60)));
        assert!(lone.is_one(at(61)));
    }
}
