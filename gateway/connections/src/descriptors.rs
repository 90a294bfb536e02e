//! How many file descriptors this process may have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are asked for where no limit is set: what kernels give at most by default.
const MOST: u64 = 1 << 20;

/// Raises the limit of open files to as many as the process may ask for, and returns it: the lower one that processes
/// begin with is for programs that use `select`. Where it cannot be raised it stays, with a warning.
#[must_use]
pub fn raised() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(MOST, |most| most.min(MOST));
    let now = limit.current.unwrap_or(most);
    if now >= most {
        return now;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum: limit.maximum }) {
        Ok(()) => most,
        Err(e) => {
            tracing::warn!("the limit of open files stays at {now}, it could not be raised to {most}: {e}");
            now
        }
    }
}
