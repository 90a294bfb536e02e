//! Takes keys out of force when their time is over, and tells of those that ended by their own rights.

use crate::clock;
use crate::state::Gateway;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether a key's time is over.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A key that ends within this is told beforehand: a week, so that a person who looks once a week learns of it.
pub const SOON: Duration = Duration::from_secs(7 * 86_400);

/// Looks every second, on a thread of its own, until the process ends.
///
/// # Errors
/// When the operating system gives no thread.
pub fn start(gateway: Arc<Gateway>) -> io::Result<()> {
    let (never, wait) = crossbeam::channel::bounded::<()>(0);
    std::thread::Builder::new().name("accounts".to_owned()).spawn(move || {
        // The sender is kept, so the only way out of the wait is its time.
        let _keep = never;
        let mut looked = clock::wall();
        loop {
            let _ = wait.recv_timeout(LOOK_EVERY);
            let now = clock::wall();
            if gateway.roster.has_ended(now) {
                gateway.accounts_changed(None);
            }
            tell_of_expired(&gateway, looked, now);
            looked = now;
        }
    })?;
    Ok(())
}

/// Says which keys expired since the last look. O(keys that expire).
fn tell_of_expired(gateway: &Gateway, looked: Duration, now: Duration) {
    for (account, key) in &gateway.snapshot().expiring {
        if key.config.has_expired(now) && !key.config.has_expired(looked) {
            let (account, name, key) = (&*account.config.id, &*key.config.name, key.config.digest.short());
            tracing::warn!(
                account,
                name,
                key,
                "the key has expired: its requests are refused with 401 from now on; give it another end, or make a new key"
            );
        }
    }
}

/// Keys that are good at the wall time `now` and will not be [`SOON`] afterwards. O(keys that expire).
#[must_use]
pub fn ending_soon(gateway: &Gateway, now: Duration) -> usize {
    let snapshot = gateway.snapshot();
    let keys = snapshot.expiring.iter().map(|(_, key)| &key.config);
    keys.filter(|key| !key.has_expired(now) && key.has_expired(now + SOON)).count()
}
