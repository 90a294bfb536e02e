//! A scenario in real time: its requests over HTTP, and what came of them judged as in virtual time.
//!
//! The requests are those that virtual time plays, drawn from the same seed. What a client cannot see is left out:
//! work of engines is counted from what arrived (the whole prompt, and the tokens received), and a priority request
//! counts as refused out of order only where that is certain from outside, that is where a regular one that came later
//! and is at least as large had its first token before the refusal.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use limits::Meter;
use shedder::{Reason, Tier};

use crate::policy::Inside;
use crate::run::{Ended, Limit, Outcome, Run, Second};
use crate::scenario::Scenario;
use crate::scenario::traffic::{Ask, Stream};
use engine::clock;
use load::report::End;
use load::script::{self, Script, ScriptRun, Scripted, Tried};
use load::{Retry, report::Times};

/// Priority that ended within so long is looked at when it is asked to stop below a share.
const WATCHED: Duration = Duration::from_secs(15);
/// Fewer than so many say nothing.
const WATCHED_MIN: usize = 20;

/// A scenario that is being played in real time.
#[derive(Debug)]
pub struct Live {
    scenario: Scenario,
    script: ScriptRun,
    run: Run,
    lag: Times,
    unsent: u64,
    corrupt: u64,
    /// Priority tries that ended lately: when, and whether they were met.
    recent: VecDeque<(Duration, bool)>,
}

/// What the generator says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Generator {
    /// How late requests were sent, ms: median and 99 %.
    pub lag_ms: [f64; 2],
    /// Requests that were not sent, because too many were under way.
    pub unsent: u64,
    /// Answers that were not what the engine must have said.
    pub corrupt: u64,
}

/// All requests of a scenario in order of time.
fn asks(scenario: &Scenario) -> impl Iterator<Item = Ask> + Send + use<> {
    let mut streams: Vec<_> = Stream::all(scenario).into_iter().map(Iterator::peekable).collect();
    std::iter::from_fn(move || {
        let first = streams.iter_mut().filter_map(|stream| stream.peek().map(|ask| ask.at)).min()?;
        streams.iter_mut().find_map(|stream| stream.next_if(|ask| ask.at == first))
    })
}

impl Live {
    /// Begins to send the requests of `scenario`.
    ///
    /// # Errors
    /// No thread or runtime can be made.
    pub fn start(scenario: &Scenario, script: Script, policy: &str) -> io::Result<Self> {
        let clients: Vec<_> = scenario.sources.iter().map(|source| source.client).collect();
        let requests = asks(scenario).map(move |ask| {
            let client = clients.get(ask.source as usize).copied().unwrap_or_default();
            Scripted {
                at: ask.at,
                account: ask.account,
                model: ask.model,
                tier: (ask.tier != Tier::Regular).then_some(ask.tier.name()),
                size: ask.size,
                streaming: ask.streaming,
                shared: ask.prefix,
                retry: client.retry.map(|retry| Retry { attempts_max: retry.tries, obedient: retry.obeys }),
                patience: client.patience,
            }
        });
        Ok(Self {
            scenario: scenario.clone(),
            script: script::start(script, requests)?,
            run: Run::new(scenario, policy.to_owned()),
            lag: Times::default(),
            unsent: 0,
            corrupt: 0,
            recent: VecDeque::new(),
        })
    }

    /// Time since the first request could be sent.
    #[must_use]
    pub fn now(&self) -> Duration {
        clock::now().saturating_sub(self.script.start())
    }

    /// What happened so far, with what ended since this was last asked.
    pub fn look(&mut self) -> &Run {
        for tried in self.script.collect() {
            self.take(&tried);
        }
        &self.run
    }

    /// What the gateway showed of its inside in this second.
    pub fn inside(&mut self, inside: Inside) {
        let at_s = self.now().as_secs();
        self.run.seconds.push(Second { at_s, gauges: crate::policy::Gauges::default() });
        self.run.inside.push(inside);
    }

    /// Whether everything has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.script.is_over()
    }

    /// Share of the priority requests of the last seconds that were served within the service level; `None` when they
    /// are too few to say.
    #[must_use]
    pub fn priority_lately(&self) -> Option<f64> {
        let met = self.recent.iter().filter(|(_, met)| *met).count();
        (self.recent.len() >= WATCHED_MIN).then(|| met as f64 / self.recent.len() as f64)
    }

    /// Ends it, and says what came of everything. `early`: before its time.
    #[must_use]
    pub fn end(mut self, early: bool) -> (Run, Generator) {
        let now = self.now();
        let unfinished = self.script.give_up();
        self.script.stop();
        self.look();
        // What somebody broke off is not judged; what the drain's end finds unfinished has missed.
        for tried in unfinished.iter().filter(|_| !early) {
            self.take(tried);
        }
        if early {
            self.run.cut(now);
        }
        self.run.inversions = certain_inversions(&self.run);
        let lag = self.lag.quantiles();
        let Self { unsent, corrupt, run, .. } = self;
        (run, Generator { lag_ms: [lag.p50_ms, lag.p99_ms], unsent, corrupt })
    }

    fn take(&mut self, tried: &Tried) {
        let outcome = self.outcome(tried);
        self.lag.record(tried.lag);
        self.unsent += u64::from(tried.end == Some(End::Unsent));
        self.corrupt += u64::from(matches!(tried.end, Some(End::Corrupt(_))));
        let Scripted { size, account, at, .. } = tried.request;
        let tier = asked(&tried.request);
        if tier == Tier::Priority {
            self.recent.push_back((tried.ended, outcome == Outcome::Met));
        }
        while self.recent.front().is_some_and(|(at, _)| *at + WATCHED < tried.ended) {
            self.recent.pop_front();
        }
        let prompt = if tried.tokens > 0 { u64::from(size.prompt_tokens) } else { 0 };
        self.run.ended.push(Ended {
            ticket: tried.serial,
            asked: at,
            tried: tried.due,
            ended: tried.ended,
            number: tried.number,
            account,
            tier,
            size,
            cached: 0,
            tokens: tried.tokens,
            ttft: tried.ttft,
            tpot: tried.tpot,
            outcome,
            work: prompt + u64::from(tried.tokens),
        });
    }

    fn outcome(&self, tried: &Tried) -> Outcome {
        let reason = tried.reason.as_deref().unwrap_or_default();
        match (&tried.end, tried.status) {
            (Some(End::Complete), _) => self.judge(tried),
            (Some(End::Refused), 429) => Outcome::Limited(limit(reason)),
            (Some(End::Refused), 503) => {
                let known = Reason::ALL.into_iter().find(|known| known.name() == reason);
                Outcome::Shed(known.unwrap_or(Reason::NoReplica))
            }
            (Some(End::Timeout), _) => Outcome::CutOff,
            (None, _) => Outcome::Left,
            _ => Outcome::Broken,
        }
    }

    fn judge(&self, tried: &Tried) -> Outcome {
        // Which deployment served it a client does not see: it is judged by the one that its model names first.
        let model = self.scenario.models.get(usize::from(tried.request.model));
        let first =
            model.and_then(|model| model.routes.first()).map_or(0, |route| usize::from(route.deployment));
        let deployment = self.scenario.deployments.get(first).unwrap_or_else(|| self.scenario.fleet());
        let slo = deployment.slo;
        let promised = deployment.promised_ttft(asked(&tried.request));
        let own = deployment.profile.idle_prefill(tried.request.size.prompt_tokens);
        let Some(ttft) = tried.ttft else { return Outcome::Broken };
        if !tried.request.streaming {
            let further = tried.request.size.output_tokens.saturating_sub(1);
            let whole = promised + own + slo.tpot * further;
            return if ttft <= whole { Outcome::Met } else { Outcome::Late };
        }
        if ttft > promised + own {
            return Outcome::Late;
        }
        if tried.tpot.is_some_and(|tpot| tpot > slo.tpot) { Outcome::Slow } else { Outcome::Met }
    }
}

fn limit(reason: &str) -> Limit {
    match reason {
        "requests_limited" => Limit::Requests,
        "concurrency_limited" => Limit::Concurrency,
        "prompt_tokens_limited" => Limit::Meter(Meter::Prompt),
        "uncached_prompt_tokens_limited" => Limit::Meter(Meter::UncachedPrompt),
        _ => Limit::Meter(Meter::Generated),
    }
}

/// The tier that a request asks for.
fn asked(request: &Scripted) -> Tier {
    let named = |tier: &Tier| request.tier == Some(tier.name());
    Tier::ALL.into_iter().find(named).unwrap_or(Tier::Regular)
}

/// Priority requests refused after a later and at least as large regular one had its first token.
fn certain_inversions(run: &Run) -> u64 {
    let started = run.ended.iter().filter(|ended| ended.tier == Tier::Regular);
    let mut started: Vec<(Duration, Duration, u32)> = started
        .filter_map(|ended| Some((ended.tried, ended.tried + ended.ttft?, ended.size.prompt_tokens)))
        .collect();
    started.sort_unstable();
    let refused = run.ended.iter().filter(|ended| {
        let for_load = matches!(ended.outcome, Outcome::Shed(reason) if !matches!(reason, Reason::Deadline | Reason::Draining | Reason::NoReplica));
        ended.tier == Tier::Priority && for_load
    });
    let overtaken = refused.filter(|refused| {
        let from = started.partition_point(|(tried, ..)| *tried < refused.tried);
        let later = started.iter().skip(from).take_while(|(tried, ..)| *tried < refused.ended);
        later
            .into_iter()
            .any(|(_, first, prompt)| *first < refused.ended && *prompt >= refused.size.prompt_tokens)
    });
    overtaken.count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Setting;

    #[test]
    fn real_time_sends_what_virtual_time_plays_in_order() {
        let mut scenario = Setting::CHAT.scenario(3, 1.0, 1.0);
        scenario.sources.push(scenario.sources[0].clone());

        let merged: Vec<Ask> = asks(&scenario).collect();

        let mut drawn: Vec<Ask> = Stream::all(&scenario).into_iter().flatten().collect();
        drawn.sort_by_key(|ask| ask.at);
        assert_eq!(merged.len(), drawn.len());
        assert!(merged.iter().zip(&drawn).all(|(merged, drawn)| merged.at == drawn.at));
    }
}
