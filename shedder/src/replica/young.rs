//! Answers of priority that have only begun, and what a prompt beside them costs them.
//!
//! A long prompt stops all answers of its replica for as long as it is computed. An answer with a hundred tokens makes up
//! for it; one that ends after ten is slow. How long an answer will be nobody knows, so the youngest counts: every token
//! that comes sooner than it must saves a little time, and a prompt starts when so much is saved as it takes.
//!
//! ```text
//! saved per second = (what a token may take − gap) / gap
//! a prompt starts when the last first token of priority is  stall / saved per second  ago,  or the longest hold
//! ```
//!
//! Prompts that take no longer than one token may take are not held: pacing (`machine::placement`) is for them. Slack of long
//! answers is spent and not that of short ones, as SLOs-Serve (arXiv 2504.08784) and Andes (arXiv 2404.16283) do inside an
//! engine; here it costs nothing but a better order.
//!
//! Cost: O(answers remembered), eight.

use std::collections::VecDeque;
use std::time::Duration;

use crate::offer::RequestId;

/// Where tokens take nearly as long as they may, nothing is ever saved.
const SAVED_MIN: f64 = 0.01;

/// So many answers are remembered: enough that one of them still runs when a few short ones have ended.
const REMEMBERED: usize = 8;

/// The youngest answers of priority on a replica, the last to begin at the end.
#[derive(Debug, Clone, Default)]
pub(crate) struct YoungAnswers {
    begun: VecDeque<(RequestId, Duration)>,
}

impl YoungAnswers {
    /// A priority answer got its first token. Allocates at the first call only.
    pub(crate) fn on_first_token(&mut self, now: Duration, id: RequestId) {
        if self.begun.len() == REMEMBERED {
            self.begun.pop_front();
        }
        self.begun.push_back((id, now));
    }

    /// A request has ended.
    pub(crate) fn on_end(&mut self, id: RequestId) {
        self.begun.retain(|&(begun, _)| begun != id);
    }

    /// Whether the youngest has saved `stall` seconds, of tokens that may take `may_take` and take `gap`, or `most` seconds
    /// are over.
    pub(crate) fn have_made_up_for(
        &self,
        now: Duration,
        stall: f64,
        may_take: f64,
        gap: f64,
        most: f64,
    ) -> bool {
        let saved_per_s = ((may_take - gap) / gap).max(SAVED_MIN);
        self.begun
            .back()
            .is_none_or(|&(_, at)| now.saturating_sub(at).as_secs_f64() >= (stall / saved_per_s).min(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prompt_waits_until_the_youngest_answer_has_saved_what_it_takes() {
        let mut young = YoungAnswers::default();
        let at = Duration::from_millis;
        young.on_first_token(at(9_000), RequestId(1));
        young.on_first_token(at(10_000), RequestId(2));
        let free =
            |young: &YoungAnswers, ms: u64, gap: f64| young.have_made_up_for(at(ms), 0.3, 0.1, gap, 1.0);

        // With gaps of half of what they may be, a second saves a second.
        assert!(!free(&young, 10_290, 0.05) && free(&young, 10_310, 0.05));
        assert!(!free(&young, 10_690, 0.07) && free(&young, 10_710, 0.07));
        assert!(!free(&young, 10_990, 0.2) && free(&young, 11_010, 0.2), "never longer than that");

        young.on_end(RequestId(2));
        assert!(free(&young, 10_100, 0.05), "the other began long ago");
    }
}
