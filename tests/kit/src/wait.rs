//! Waiting with a bound, for what other tasks and processes do.

use std::time::Duration;

/// Longer than anything that a test waits for takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How often is looked.
const POLL: Duration = Duration::from_millis(10);

/// Waits until `look` finds something, and fails with `what` when it does not.
#[track_caller]
pub fn eventually<T, F>(what: &str, mut look: impl FnMut() -> F) -> impl Future<Output = T>
where
    F: Future<Output = Option<T>>,
{
    let caller = std::panic::Location::caller();
    async move {
        let end = engine::clock::now() + PATIENCE;
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(engine::clock::now() < end, "{caller}: {what}: not within {PATIENCE:?}");
            // The one poll that all waits of the tests share.
            tokio::time::sleep(POLL).await;
        }
    }
}
