//! What an engine still says to a client that has left: those tokens were computed, so they are counted.
//!
//! Dropping a connection throws away what is on its way. So its sending half is closed first, by which engines notice
//! that nobody listens any more, and what comes until they hang up is read, for a short time: nothing of it is passed on.

use super::{Batch, Relay};
use crate::clock;
use bytes::BytesMut;
use protocol::answer::StreamReader;
use protocol::answer::sse::SseSplitter;
use std::time::Duration;

/// Longest time for it. Engines hang up within milliseconds; one that takes a closed half for a client that only
/// sends no more learns it by the closed connection after this.
const LAST_WORDS_MAX: Duration = Duration::from_millis(100);

impl Relay<'_, '_> {
    /// Tells the engine that the client is gone and counts what it says until it stops.
    pub(super) async fn last_words(
        &mut self,
        splitter: &mut SseSplitter,
        reader: &mut StreamReader<'_>,
        first_token: &mut impl FnMut(),
    ) {
        let end = tokio::time::sleep(LAST_WORDS_MAX);
        let mut end = std::pin::pin!(end);
        // Over TLS the good-bye is written, too, and an engine that reads nothing must not hold the place for it.
        let can_be_heard = tokio::select! {
            biased;
            told = self.exchange.hang_up() => told,
            () = end.as_mut() => false,
        };
        if !can_be_heard {
            return;
        }
        let mut unsaid = BytesMut::new();
        loop {
            let read = tokio::select! {
                biased;
                read = self.exchange.read_body() => read,
                () = end.as_mut() => return,
            };
            let Ok(Some(bytes)) = read else { return };
            let mut batch = Batch::default();
            Self::events(splitter, reader, bytes, &mut unsaid, &mut batch);
            unsaid.clear();
            self.learn(reader);
            self.count(&batch, clock::now(), Duration::ZERO, true, first_token);
            if batch.done || batch.error.is_some() {
                return;
            }
        }
    }
}
