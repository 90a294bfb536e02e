//! A timer that is set anew for each wait and hardly ever rings.
//!
//! A stream waits for its next piece some hundred times a second in all, each time with a bound some seconds away. A timer
//! of the runtime takes a lock when it is armed and again when it is dropped. This one stays armed for the first bound
//! asked for; when it rings and the bound has moved on meanwhile, it is armed again.

use crate::clock;
use std::pin::Pin;
use std::time::Duration;
use tokio::time::Sleep;

/// The timer of one relay.
pub(super) struct Alarm<'t> {
    sleep: Pin<&'t mut Sleep>,
    /// When it rings by itself.
    at: Duration,
}

impl<'t> Alarm<'t> {
    /// An alarm on a timer that the caller has pinned, whatever it was made for.
    pub(super) fn on(sleep: Pin<&'t mut Sleep>) -> Self {
        Alarm { sleep, at: Duration::MAX }
    }

    /// Resolves at `due`, and not before. Cancel-safe.
    pub(super) async fn ring(&mut self, due: Duration) {
        loop {
            if due < self.at {
                self.sleep.set(tokio::time::sleep(due.saturating_sub(clock::now())));
                self.at = due;
            }
            self.sleep.as_mut().await;
            self.at = Duration::MAX;
            if clock::now() >= due {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::task::Poll;

    #[tokio::test]
    async fn it_rings_when_due_wherever_the_bound_went_meanwhile() {
        let sleep = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        let mut alarm = Alarm::on(sleep);
        let begun = clock::now();
        let ms = Duration::from_millis;
        for due in [begun + ms(20), begun + Duration::from_secs(3600), begun + ms(5)] {
            // Armed, and left before it rings, as by a piece that comes.
            let mut ring = std::pin::pin!(alarm.ring(due));
            poll_fn(|context| {
                assert!(ring.as_mut().poll(context).is_pending());
                Poll::Ready(())
            })
            .await;
        }
        alarm.ring(begun + ms(40)).await;
        assert!(clock::now() >= begun + ms(40));
        let past = clock::now();
        alarm.ring(past).await;
        assert!(clock::now() < past + Duration::from_secs(60));
    }
}
