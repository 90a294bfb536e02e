//! What the accounts of a drill are charged, and what the gateway learns from answers: by its own parts, as it does it.

use std::time::Duration;

use gateway_core::averages::{Average, UsualAnswer};
use gateway_core::pace::Gaps;
use gateway_core::settlement::{self, Told, Weighed};
use shedder::Uncached;

use super::accounts::Refused;
use super::{Play, Stage};
use crate::scenario::traffic::Ask;
use engine::model::Usage;

impl Play<'_> {
    /// The account's own limits, as the gateway asks them before it offers a request.
    pub(super) fn admit_to_limits(
        &mut self,
        now: Duration,
        ticket: u32,
        ask: &Ask,
        uncached: &[Uncached],
        usual: UsualAnswer,
    ) -> Result<(), Refused> {
        self.accounts.enter(now, ticket, ask.account)?;
        let first = self.scenario.models.get(usize::from(ask.model)).and_then(|model| model.routes.first());
        let first = first.map_or(0, |route| usize::from(route.deployment));
        let least = uncached.get(first).map_or(ask.size.prompt_tokens, Uncached::least);
        let weighed = Weighed { prompt: ask.size.prompt_tokens.into(), uncached: least.into() };
        let per_chunk = self.tokens_per_chunk.get(first).map_or(1.0, |average| average.value());
        self.accounts.reserve(now, ticket, (ask.account, ask.model), weighed, (usual.tokens(), per_chunk))
    }

    /// How soon first tokens come, where somebody pays for answers that nobody sees.
    pub(super) fn learn_first_token(&mut self, now: Duration, ticket: u32) {
        let Some(attempt) = self.tries.get(ticket as usize).filter(|_| self.accounts.has_budgets()) else {
            return;
        };
        let Stage::Active(replica) = attempt.stage else { return };
        let (uncached, after) = (self.uncached_on(attempt, replica), now - attempt.sent);
        let (_, index) = self.deployment(replica);
        if let Some(pace) = self.paces.get_mut(index) {
            pace.first_token(uncached.into(), after);
        }
    }

    /// What the gateway learns from an answer.
    pub(super) fn learn(&mut self, now: Duration, ticket: u32, usage: Usage) {
        let Some(attempt) = self.tries.get(ticket as usize) else { return };
        if let Some(usual) = self.usual.get_mut(usize::from(attempt.ask.model)) {
            *usual = usual.after(usage.completion_tokens.into());
        }
        let Stage::Active(replica) = attempt.stage else { return };
        let (uncached, (_, index)) = (self.uncached_on(attempt, replica), self.deployment(replica));
        if let Some(average) = self.tokens_per_chunk.get_mut(index) {
            *average = average.after(usage.completion_tokens.into(), attempt.chunks_all);
        }
        if let (Some(pace), Some(unseen)) = (self.paces.get_mut(index), &attempt.unseen) {
            pace.whole(now, usage.completion_tokens.into(), unseen, uncached.into());
        }
    }

    /// What an answer is charged: by what its engine tells.
    pub(super) fn settle(&mut self, now: Duration, ticket: u32, usage: Usage) {
        let Some(attempt) = self.tries.get(ticket as usize).filter(|_| self.accounts.has_budgets()) else {
            return;
        };
        let uncached =
            attempt.uncached.iter().map(Uncached::least).min().unwrap_or(attempt.ask.size.prompt_tokens);
        let weighed = Weighed { prompt: attempt.ask.size.prompt_tokens.into(), uncached: uncached.into() };
        let told = Told {
            prompt: weighed.prompt,
            cached: self.scenario.reports_cached.then(|| u64::from(usage.cached_tokens)),
            generated: usage.completion_tokens.into(),
        };
        let counted = u64::from(attempt.tokens);
        let answer = settlement::Answer { told: Some(told), counted, runs: false, finished: true };
        self.accounts.settle(now, ticket, &answer.used(weighed, weighed));
    }

    /// What a whole answer is charged whose client leaves before it came: as much as it has by the pace of the others.
    pub(super) fn settle_unseen(&mut self, now: Duration, ticket: u32) {
        let Some(attempt) = self.tries.get(ticket as usize).filter(|_| self.accounts.has_budgets()) else {
            return;
        };
        let (Stage::Active(replica), Some(unseen)) = (attempt.stage, &attempt.unseen) else { return };
        let (uncached, (_, index)) = (self.uncached_on(attempt, replica), self.deployment(replica));
        let since = Gaps::default();
        let pace = self.paces.get(index);
        let chunks = pace.and_then(|pace| pace.tokens(now, since, unseen, uncached.into())).unwrap_or(0.0);
        let per_chunk = self.tokens_per_chunk.get(index).map_or(1.0, |average| average.value());
        let least =
            attempt.uncached.iter().map(Uncached::least).min().unwrap_or(attempt.ask.size.prompt_tokens);
        let used = limits::Used {
            prompt: attempt.ask.size.prompt_tokens.into(),
            uncached_prompt: least.into(),
            generated: (chunks * per_chunk).floor() as u64,
            finished: false,
        };
        self.accounts.settle(now, ticket, &used);
    }
}
