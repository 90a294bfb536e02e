//! Takes keys out of force when their time is over.

use crate::clock;
use crate::state::Gateway;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How often it is looked whether a key's time is over.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks every second, on a thread of its own, until the process ends.
///
/// # Errors
/// When the operating system gives no thread.
pub fn start(gateway: Arc<Gateway>) -> io::Result<()> {
    let (never, wait) = crossbeam::channel::bounded::<()>(0);
    std::thread::Builder::new().name("accounts".to_owned()).spawn(move || {
        // The sender is kept, so the only way out of the wait is its time.
        let _keep = never;
        loop {
            let _ = wait.recv_timeout(LOOK_EVERY);
            if gateway.roster.has_ended(clock::wall()) {
                gateway.accounts_changed(None);
            }
        }
    })?;
    Ok(())
}
