//! The streams of one HTTP/2 connection that are being answered: whether there is any.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Streams of one connection that are being answered.
#[derive(Debug, Default)]
pub struct Streams {
    count: AtomicUsize,
    ended: Notify,
}

/// One of them; counted until it is dropped.
#[derive(Debug)]
pub struct Running(Arc<Streams>);

impl Running {
    /// Counts one more.
    #[must_use]
    pub fn begin(streams: &Arc<Streams>) -> Running {
        streams.count.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(streams))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.0.ended.notify_one();
        }
    }
}

impl Streams {
    /// Resolves when nothing runs.
    pub async fn idle(&self) {
        while self.count.load(Ordering::Relaxed) > 0 {
            self.ended.notified().await;
        }
    }
}
