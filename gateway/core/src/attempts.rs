//! What follows when an attempt at an answer has failed: here again, elsewhere, or not at all.
//!
//! Whose fault it was is the caller's to say ([`Failed`]); the deployment's controller says whether it may be tried again
//! there. After the first byte of an answer went out nothing is sent again, and nobody asks here.

use shedder::Failure;

/// A failed attempt, of which the client has seen nothing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Failed {
    /// What the controller was told; `None`: it was the request's fault, and every replica would say the same.
    pub failure: Option<Failure>,
    /// Nobody knows whose fault it was.
    pub is_unknown: bool,
    /// It has failed on another replica before.
    pub is_second: bool,
    /// No replica of the deployment has what the request needs.
    pub is_absent_everywhere: bool,
}

/// What the controller said to a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It has a place again, or waits for one.
    Again,
    /// It may be tried again, but there is no place.
    Shed,
    /// It is not to be tried again there.
    Never,
}

/// What the client of a request is told that finds no other place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// What the engine said or did.
    Own,
    /// The engine was too busy, as it says itself.
    Busy,
    /// The replicas that were asked do not have the model; others may.
    AbsentHere,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// At the same deployment.
    Again,
    /// Another deployment may take it, else it is over.
    Elsewhere(Cause),
    /// It is over.
    Over,
}

/// What follows a failed attempt. Each deployment fails a request at most once.
#[must_use]
pub fn next(failed: &Failed, said: Said) -> Next {
    let Some(failure) = failed.failure else { return Next::Over };
    match said {
        Said::Again => Next::Again,
        Said::Shed if matches!(failure, Failure::Busy { .. }) => Next::Elsewhere(Cause::Busy),
        Said::Shed => Next::Elsewhere(Cause::Own),
        // What took this long once would take it again, and the engine may be computing it still. What is our own bound is
        // everywhere.
        Said::Never if failure == Failure::Timeout || failure == Failure::Ours => Next::Over,
        // What failed on two replicas would fail on a third.
        Said::Never if failed.is_second && failed.is_unknown => Next::Over,
        // Another replica may have it still: then it is no 404.
        Said::Never if failure == Failure::Absent && !failed.is_absent_everywhere => {
            Next::Elsewhere(Cause::AbsentHere)
        }
        Said::Never => Next::Elsewhere(Cause::Own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAILED: Failed =
        Failed { failure: None, is_unknown: false, is_second: false, is_absent_everywhere: false };

    fn with(failure: Failure) -> Failed {
        Failed { failure: Some(failure), ..FAILED }
    }

    #[test]
    fn what_follows_a_failed_attempt() {
        let busy = with(Failure::Busy { retry_after: None });
        let unknown = Failed { is_unknown: true, ..with(Failure::Unexplained { body: 1 }) };
        let absent = with(Failure::Absent);
        for (what, failed, said, expected) in [
            ("the request's own fault", FAILED, Said::Again, Next::Over),
            ("a dead replica", with(Failure::Connect), Said::Again, Next::Again),
            ("no place is left", with(Failure::Reset), Said::Shed, Next::Elsewhere(Cause::Own)),
            ("no retry is left", with(Failure::Reset), Said::Never, Next::Elsewhere(Cause::Own)),
            ("a busy engine and no place", busy, Said::Shed, Next::Elsewhere(Cause::Busy)),
            ("a busy engine, again", busy, Said::Again, Next::Again),
            ("it took too long", with(Failure::Timeout), Said::Never, Next::Over),
            ("our own bound", with(Failure::Ours), Said::Never, Next::Over),
            ("nobody knows whose fault", unknown, Said::Never, Next::Elsewhere(Cause::Own)),
            ("nobody knows, on two replicas", Failed { is_second: true, ..unknown }, Said::Never, Next::Over),
            (
                "known, on two replicas",
                Failed { is_second: true, ..with(Failure::Reset) },
                Said::Never,
                Next::Elsewhere(Cause::Own),
            ),
            ("some replicas lack the model", absent, Said::Never, Next::Elsewhere(Cause::AbsentHere)),
            (
                "all replicas lack the model",
                Failed { is_absent_everywhere: true, ..absent },
                Said::Never,
                Next::Elsewhere(Cause::Own),
            ),
        ] {
            assert_eq!(next(&failed, said), expected, "{what}");
        }
    }
}
