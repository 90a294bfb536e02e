//! The last part of a process's life: when connections end, and when nothing is left to wait for.
//!
//! The framework says that the process goes down, and from then on takes no connection. What it had taken falls in three:
//!
//! - **A request runs.** It is finished; the configured grace is its bound. Shortly before it is over, streams that still
//!   run end with an error event, which is more than a connection that breaks.
//! - **A head is on its way**, or the connection's handshake: a client that connected in time is not to be dropped for
//!   being in the middle of a sentence. It has a moment, and after it is told to come back.
//! - **Nothing is asked.** The connection is closed. Only after an [upgrade](crate::lifecycle::upgrade) it is kept for the lame-duck
//!   time, as nobody was told before: a request that comes meanwhile is answered, and the answer says that it was the last.

use crate::clock;
use crate::state::gateway::Gateway;
use pingora::server::ShutdownWatch;
use std::time::Duration;

/// How long a head, or a handshake before it, may still take once the process goes down. The end of an idle process has to
/// be within a second.
pub const LAST_HEAD: Duration = Duration::from_millis(500);
/// How often the end of the last request is looked for.
const POLL: Duration = Duration::from_millis(25);
/// How long the last answer's connection may take to be written out and closed.
const CLOSES_WITHIN: Duration = Duration::from_millis(400);

/// How long before the end of the grace streams are told, or a quarter of the grace: time for a token or two.
const TOLD_BEFORE: Duration = Duration::from_secs(2);

/// Resolves when the process begins to go down.
pub async fn shut_down(shutdown: &mut ShutdownWatch) {
    while !*shutdown.borrow_and_update() {
        if shutdown.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Resolves when heads are not waited for any more.
pub async fn heads_are_over(mut shutdown: ShutdownWatch) {
    shut_down(&mut shutdown).await;
    tokio::time::sleep(LAST_HEAD).await;
}

/// Resolves when a connection without a request is to be closed.
pub async fn idle_is_over(gateway: &Gateway, mut shutdown: ShutdownWatch) {
    shut_down(&mut shutdown).await;
    tokio::time::sleep(idle_time(gateway)).await;
}

/// How long an idle connection is kept once the process goes down.
fn idle_time(gateway: &Gateway) -> Duration {
    if gateway.is_handed_over() {
        gateway.snapshot().config.listen.shutdown.lame_duck
    } else {
        Duration::ZERO
    }
}

/// Waits until the process goes down and nothing of it is left to wait for. Who waits for a place when the last heads are
/// in is refused, but after an upgrade: there the old process still gives them.
pub async fn drained(gateway: &Gateway, grace: Duration, mut shutdown: ShutdownWatch) {
    shut_down(&mut shutdown).await;
    // After an upgrade the gates stay open.
    let mut to_close = !gateway.is_handed_over();
    let heads_until = clock::now() + LAST_HEAD + POLL;
    let idle_until = heads_until.max(clock::now() + idle_time(gateway));
    let mut told_at = Some(clock::now() + grace.saturating_sub(TOLD_BEFORE.min(grace / 4)));
    let mut last_seen = clock::now();
    loop {
        let now = clock::now();
        if gateway.in_flight() > 0 {
            last_seen = now;
        }
        if to_close && now >= heads_until {
            to_close = false;
            gateway.close_gates();
        }
        if told_at.take_if(|at| *at <= now).is_some() {
            gateway.run_out_of_time();
        }
        let closed = gateway.connections.open() == 0 || now >= last_seen.max(idle_until) + CLOSES_WITHIN;
        if last_seen < now && now >= heads_until && closed {
            return;
        }
        tokio::time::sleep(POLL).await;
    }
}
