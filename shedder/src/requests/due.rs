//! What is due when, by request: found in the order of time, forgotten lazily.
//!
//! A heap from which nothing is taken before its time: a request that ends early leaves its entry behind, and who takes
//! it out sees that there is nothing to do. So joining costs O(log n), ending nothing, and looking when nothing is due
//! O(1). Never more than twice as many entries as requests, and [`SPARE`]: then those of ended requests are dropped.
//! In the steady state nothing allocates.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use crate::offer::RequestId;
use crate::requests::Requests;

/// Entries that are kept without looking whether their requests have ended.
const SPARE: usize = 256;

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Due {
    heap: BinaryHeap<Reverse<(Duration, RequestId)>>,
}

impl Due {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::with_capacity(2 * SPARE) }
    }

    /// `id` is to be looked at when it is `at`. O(log n), every so often O(n).
    pub(crate) fn push(&mut self, at: Duration, id: RequestId, requests: &Requests) {
        if self.heap.len() >= 2 * requests.count() as usize + SPARE {
            self.heap.retain(|Reverse((_, id))| requests.get(*id).is_some());
        }
        self.heap.push(Reverse((at, id)));
    }

    /// When the first is due, if any. O(1).
    pub(crate) fn next(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes one out that is due at `now`. O(log n).
    pub(crate) fn pop(&mut self, now: Duration) -> Option<RequestId> {
        self.next().filter(|at| *at <= now)?;
        self.heap.pop().map(|Reverse((_, id))| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_comes_in_the_order_of_time_and_nothing_before() {
        let (mut due, requests) = (Due::new(), Requests::new());
        for (at, id) in [(30, 3), (10, 1), (20, 2)] {
            due.push(Duration::from_secs(at), RequestId(id), &requests);
        }

        let now = Duration::from_secs(20);

        assert_eq!(
            [due.pop(now), due.pop(now), due.pop(now)],
            [Some(RequestId(1)), Some(RequestId(2)), None]
        );
        assert_eq!(due.next(), Some(Duration::from_secs(30)));
    }

    #[test]
    fn entries_of_ended_requests_are_dropped_before_they_are_many() {
        let (mut due, requests) = (Due::new(), Requests::new());
        for n in 0..10_000 {
            due.push(Duration::from_secs(1_000), RequestId(n), &requests);
        }
        assert!(due.heap.len() <= SPARE, "{}", due.heap.len());
    }
}
