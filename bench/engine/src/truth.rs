//! What the simulated server knows for certain: what it computed, for whom, and when it saw whom leave.
//!
//! Accounting proofs compare their books with this. The totals are complete; the records of single requests are kept
//! for the last [`RECORDS_MAX`] only. Times are seconds of [`clock::now`](crate::clock::now), so within one process
//! they compare with anyone's; from outside, `now_s` of the same answer gives the offset.

use std::collections::VecDeque;
use std::time::Duration;

use serde::Serialize;

/// Records kept.
pub const RECORDS_MAX: usize = 20_000;

/// Bytes of a request's body kept in its record.
pub const RECORD_BODY_MAX: usize = 64 << 10;

/// Sums over all requests since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Requests for generation whose head arrived.
    pub requests: u64,
    /// Of them, taken by the engine.
    pub accepted: u64,
    /// Of them, ended with everything that was due.
    pub finished: u64,
    /// Answered with an error.
    pub refused: u64,
    /// Broken off by a fault of this server.
    pub broken: u64,
    /// Given up because the client's connection ended.
    pub disconnects: u64,
    /// Prompt tokens of accepted requests, each request once whatever its `n`.
    pub prompt_tokens: u64,
    /// Of them, found in the prefix cache (of the first choice).
    pub cached_tokens: u64,
    /// Prefill tokens computed, with recomputation and further choices.
    pub prefill_tokens: u64,
    /// Tokens generated until the request finished or its client was seen to be gone.
    pub generated_tokens: u64,
    /// Tokens handed to connections.
    pub sent_tokens: u64,
    /// Content chunks handed to connections.
    pub sent_chunks: u64,
}

/// One request.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Record {
    /// Counted from 0 in order of arrival.
    pub number: u64,
    /// The `x-request-id` that came with it.
    pub request_id: Option<String>,
    /// Path.
    pub path: String,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// Status answered; 0 while there is none.
    pub status: u16,
    /// When its head arrived, seconds.
    pub received_s: f64,
    /// When its first token existed, seconds.
    pub first_token_s: Option<f64>,
    /// When its answer was complete, seconds.
    pub finished_s: Option<f64>,
    /// When its client was seen to be gone, seconds.
    pub disconnected_s: Option<f64>,
    /// Prompt tokens.
    pub prompt_tokens: u32,
    /// Of them, found in the prefix cache.
    pub cached_tokens: u32,
    /// Prefill tokens computed.
    pub prefill_tokens: u64,
    /// Tokens generated, all choices.
    pub generated_tokens: u64,
    /// Tokens handed to the connection.
    pub sent_tokens: u64,
    /// Content chunks handed to the connection.
    pub sent_chunks: u64,
    /// Broken off on purpose.
    pub broken: bool,
    /// Request headers, if the server was told to record them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
    /// The beginning of the request's body, if the server was told to record it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub body: String,
}

/// Totals and the last records.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    totals: Totals,
    records: VecDeque<Record>,
    first: u64,
}

impl Truth {
    /// All sums so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The last records, oldest first.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.records.iter()
    }

    /// Opens a record; the number is its name from now on.
    pub(super) fn open(&mut self, now: Duration, mut record: Record) -> u64 {
        let number = self.totals.requests;
        record.number = number;
        record.received_s = now.as_secs_f64();
        self.totals.requests += 1;
        if self.records.len() == RECORDS_MAX {
            self.records.pop_front();
            self.first += 1;
        }
        self.records.push_back(record);
        number
    }

    /// Changes the sums and, while it is still kept, the record.
    pub(super) fn update(&mut self, number: u64, change: impl FnOnce(&mut Totals, &mut Record)) {
        let mut forgotten = Record::default();
        let at = number.checked_sub(self.first).map(|at| at as usize);
        let record = at.and_then(|at| self.records.get_mut(at)).unwrap_or(&mut forgotten);
        change(&mut self.totals, record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_outlive_forgotten_records() {
        let mut truth = Truth::default();
        let first = truth.open(Duration::ZERO, Record::default());
        for _ in 0..RECORDS_MAX {
            truth.open(Duration::ZERO, Record::default());
        }

        truth.update(first, |totals, record| {
            totals.finished += 1;
            record.status = 200;
        });

        assert_eq!(truth.totals().finished, 1);
        assert_eq!(truth.records().count(), RECORDS_MAX);
        assert!(truth.records().all(|record| record.number > first && record.status == 0));
    }
}
