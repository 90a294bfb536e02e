//! The requests of a scenario, drawn from its seed alone.
//!
//! Each source has a generator of its own, so one more source changes nothing about the others, and nothing about a
//! request depends on what became of those before it (but for conversations, which continue what was *asked*, whether
//! it was answered or not). Policies are therefore compared on the same requests.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use shedder::Tier;

use super::trace::Trace;
use super::{Prefixes, Scenario, Senders, Source};
use engine::workload::{Arrivals, Size, Workload};

/// Conversations that an account may continue.
const OPEN_CONVERSATIONS: usize = 8;

/// When each account that sends by itself does so next, and how long its prompts are.
#[derive(Debug)]
struct Each {
    senders: Senders,
    /// When, in time that passes as the source's rate without its steps, and the account's index.
    next: BinaryHeap<Reverse<(Duration, usize)>>,
    lengths: Vec<f64>,
    /// How far the source's own time has gone at `at`.
    gone: Duration,
}

impl Each {
    /// The first requests come within a gap of the beginning.
    fn new(senders: Senders, source: &Source, shares: &[f64], rng: &mut SmallRng) -> Self {
        let next = (0..shares.len()).map(|index| {
            let gap = arrivals(senders, source, shares, index).gap(rng);
            Reverse((gap.mul_f64(rng.random::<f64>()), index))
        });
        let next = next.collect();
        let lengths = shares.iter().map(|_| engine::workload::spread(rng, senders.length_spread)).collect();
        Self { senders, next, lengths, gone: Duration::ZERO }
    }
}

/// Those of one account at the source's rate.
fn arrivals(senders: Senders, source: &Source, shares: &[f64], index: usize) -> Arrivals {
    let before = index.checked_sub(1).and_then(|before| shares.get(before)).copied().unwrap_or(0.0);
    let (own, all) =
        (shares.get(index).copied().unwrap_or(0.0) - before, shares.last().copied().unwrap_or(1.0));
    Arrivals { rate_per_s: (source.rate_per_s * own / all).max(1e-9), cv: senders.cv }
}

/// One request as its client sends it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ask {
    /// When it reaches the gateway for the first time.
    pub at: Duration,
    /// Which source it is of.
    pub source: u32,
    /// Whose it is.
    pub account: u32,
    /// The index of the model that it asks for.
    pub model: u16,
    /// Its tier.
    pub tier: Tier,
    /// Whether its tokens are seen one by one.
    pub streaming: bool,
    /// Its sizes.
    pub size: Size,
    /// The family of prompts that its own begins like, and for how many tokens.
    pub prefix: Option<(u64, u32)>,
}

/// The requests of one source, one after the other.
#[derive(Debug)]
pub struct Stream {
    source: Source,
    number: u32,
    rng: SmallRng,
    /// Cumulated shares of accounts.
    shares: Vec<f64>,
    pool: Vec<Size>,
    conversations: BTreeMap<u32, Vec<(u64, u32)>>,
    each: Option<Each>,
    begun: u64,
    /// The next request of the trace.
    recorded: usize,
    at: Duration,
    end: Duration,
}

impl Stream {
    /// One stream for each source of `scenario`, in their order.
    #[must_use]
    pub fn all(scenario: &Scenario) -> Vec<Self> {
        let numbered = scenario.sources.iter().zip(0_u32..);
        numbered.map(|(source, number)| Self::new(scenario, source, number)).collect()
    }

    fn new(scenario: &Scenario, source: &Source, number: u32) -> Self {
        let mut rng = SmallRng::seed_from_u64(
            scenario.seed ^ (u64::from(number) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15),
        );
        let mut sum = 0.0;
        let shares = (1..=source.accounts.count.max(1)).map(|k| {
            sum += f64::from(k).powf(-source.accounts.zipf);
            sum
        });
        let shares: Vec<f64> = shares.collect();
        let each = source.senders.map(|senders| Each::new(senders, source, &shares, &mut rng));
        let prompts = if let Prefixes::Pool { prompts } = source.prefixes { prompts.max(1) } else { 0 };
        let pool = (0..prompts).map(|_| draw(source, &mut rng)).collect();
        Self {
            source: source.clone(),
            number,
            rng,
            shares,
            pool,
            conversations: BTreeMap::new(),
            each,
            begun: 0,
            recorded: 0,
            at: Duration::ZERO,
            end: scenario.end,
        }
    }

    fn account(&mut self) -> u32 {
        let all = self.shares.last().copied().unwrap_or(1.0);
        let drawn = all * self.rng.random::<f64>();
        let index =
            self.shares.partition_point(|share| *share <= drawn).min(self.shares.len().saturating_sub(1));
        self.source.accounts.first + index as u32
    }

    /// Size and prefix.
    fn prompt(&mut self, account: u32) -> (Size, Option<(u64, u32)>) {
        let family = |member: u64| u64::from(self.number) << 48 | member;
        let size = draw(&self.source, &mut self.rng);
        let index = account.saturating_sub(self.source.accounts.first) as usize;
        let longer = self.each.as_ref().and_then(|each| each.lengths.get(index)).copied().unwrap_or(1.0);
        let prompt_tokens = (f64::from(size.prompt_tokens) * longer) as u32;
        let size = fit(Size { prompt_tokens, ..size }, self.source.context);
        match self.source.prefixes {
            Prefixes::None => (size, None),
            Prefixes::System { groups, tokens } => {
                let group = self.rng.random_range(0..groups.max(1));
                let prompt_tokens = size.prompt_tokens.saturating_add(tokens).min(self.source.context);
                (Size { prompt_tokens, ..size }, Some((family(u64::from(group)), tokens)))
            }
            Prefixes::Pool { prompts } => {
                let chosen = self.rng.random_range(0..prompts.max(1));
                let prompt =
                    self.pool.get(chosen as usize).map_or(size.prompt_tokens, |size| size.prompt_tokens);
                (Size { prompt_tokens: prompt, ..size }, Some((family(u64::from(chosen)), prompt)))
            }
            Prefixes::Conversations { continued } => self.turn(account, continued, size),
        }
    }

    /// When the next account that sends by itself does so, and which it is.
    fn next_of_each(&mut self) -> Option<u32> {
        let each = self.each.as_mut()?;
        let Reverse((moment, index)) = each.next.pop()?;
        let ahead = moment.saturating_sub(each.gone);
        each.gone = moment;
        let gap = arrivals(each.senders, &self.source, &self.shares, index).gap(&mut self.rng);
        each.next.push(Reverse((moment.saturating_add(gap), index)));
        self.at = self.source.after(self.at, ahead)?;
        Some(index as u32)
    }

    /// The next request of the source's trace. What the trace does not say is drawn.
    fn next_recorded(&mut self, trace: &Trace) -> Option<Ask> {
        let recorded = trace.asks.get(self.recorded).filter(|recorded| recorded.at < self.end)?;
        self.recorded += 1;
        let account = recorded.account.unwrap_or_else(|| self.account());
        let drawn = self.source.tier(self.rng.random());
        let streaming = self.rng.random::<f64>() < self.source.streaming;
        Some(Ask {
            at: recorded.at,
            source: self.number,
            account,
            model: recorded.model.unwrap_or(self.source.model),
            tier: recorded.tier.unwrap_or(drawn),
            streaming: recorded.streaming.unwrap_or(streaming),
            size: fit(recorded.size, self.source.context),
            prefix: recorded.prefix.map(|(family, tokens)| (u64::from(self.number) << 48 | family, tokens)),
        })
    }

    fn turn(&mut self, account: u32, continued: u32, size: Size) -> (Size, Option<(u64, u32)>) {
        let goes_on = self.rng.random_range(0..100) < continued;
        let chosen = self.rng.random_range(0..OPEN_CONVERSATIONS);
        let open = self.conversations.entry(account).or_default();
        self.begun += 1;
        let fresh = u64::from(self.number) << 48 | self.begun;
        let (family, history) = open.get(chosen).copied().filter(|_| goes_on).unwrap_or((fresh, 0));
        let prompt_tokens = history.saturating_add(size.prompt_tokens).min(self.source.context);
        // The whole prompt is the beginning of the next turn's; the part that is known already is what counts.
        let next = (family, prompt_tokens.saturating_add(size.output_tokens));
        match open.get_mut(chosen) {
            Some(slot) => *slot = next,
            None => open.push(next),
        }
        (Size { prompt_tokens, ..size }, Some((family, prompt_tokens)))
    }
}

impl Iterator for Stream {
    type Item = Ask;

    fn next(&mut self) -> Option<Ask> {
        if let Some(trace) = self.source.trace.clone() {
            return self.next_recorded(&trace);
        }
        if self.each.is_some() {
            let index = self.next_of_each().filter(|_| self.at < self.end)?;
            return Some(self.ask(self.source.accounts.first + index));
        }
        // A rate of nothing begins again with the next step of the source.
        while self.source.rate_at(self.at) <= 0.0 {
            self.at = self.source.steps.iter().map(|(from, _)| *from).find(|from| *from > self.at)?;
        }
        let arrivals = Arrivals { rate_per_s: self.source.rate_at(self.at), cv: self.source.cv };
        self.at = self.at.saturating_add(arrivals.gap(&mut self.rng));
        if self.at >= self.end {
            return None;
        }
        let account = self.account();
        Some(self.ask(account))
    }
}

impl Stream {
    /// A request of `account`, now.
    fn ask(&mut self, account: u32) -> Ask {
        let tier = self.source.tier(self.rng.random());
        let streaming = self.rng.random::<f64>() < self.source.streaming;
        let (size, prefix) = self.prompt(account);
        Ask {
            at: self.at,
            source: self.number,
            account,
            model: self.source.model,
            tier,
            streaming,
            size,
            prefix,
        }
    }
}

fn draw(source: &Source, rng: &mut SmallRng) -> Size {
    fit(Workload::draw(&source.workload, rng), source.context)
}

/// Prompt and answer have to fit into the window together.
fn fit(size: Size, context: u32) -> Size {
    let output_tokens = size.output_tokens.min(context / 2).max(1);
    let prompt_tokens = size.prompt_tokens.min(context - output_tokens).max(1);
    Size { prompt_tokens, output_tokens }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Accounts;
    use crate::settings::Setting;

    fn asks(scenario: &Scenario) -> Vec<Ask> {
        Stream::all(scenario).into_iter().flatten().collect()
    }

    #[test]
    fn the_same_seed_gives_the_same_requests_and_another_one_others() {
        let scenario = Setting::CHAT.scenario(1, 1.0, 3.0);
        assert_eq!(asks(&scenario), asks(&scenario));
        assert_ne!(asks(&scenario), asks(&Scenario { seed: 2, ..scenario }));
    }

    #[test]
    fn rates_tiers_and_streaming_are_as_asked_for() {
        let mut scenario = Setting::CHAT.scenario(7, 2.0, 1.0);
        scenario.sources.iter_mut().for_each(|source| source.streaming = 0.5);

        let asks = asks(&scenario);

        let share = |of: usize| of as f64 / asks.len() as f64;
        let rate = asks.len() as f64 / scenario.end.as_secs_f64();
        assert!((rate / (2.0 * Setting::CHAT.knee_per_s) - 1.0).abs() < 0.05, "{rate}");
        let priority = share(asks.iter().filter(|ask| ask.tier == Tier::Priority).count());
        assert!((priority - 0.3).abs() < 0.02, "{priority}");
        let streaming = share(asks.iter().filter(|ask| ask.streaming).count());
        assert!((streaming - 0.5).abs() < 0.02, "{streaming}");
    }

    #[test]
    fn accounts_follow_zipf() {
        let mut scenario = Setting::CHAT.scenario(3, 3.0, 1.0);
        let accounts = Accounts { first: 100, count: 4, zipf: 1.0 };
        scenario.sources.iter_mut().for_each(|source| source.accounts = accounts);

        let asks = asks(&scenario);

        // 1 : 1/2 : 1/3 : 1/4 of 25/12.
        for (k, share) in [(100, 0.48), (101, 0.24), (102, 0.16), (103, 0.12)] {
            let got = asks.iter().filter(|ask| ask.account == k).count() as f64 / asks.len() as f64;
            assert!((got - share).abs() < 0.02, "account {k}: {got}");
        }
    }

    #[test]
    fn turns_of_a_conversation_grow_and_stay_within_the_window() {
        let mut scenario = Setting::CHAT.scenario(3, 1.0, 1.0);
        scenario.sources.iter_mut().for_each(|source| {
            source.prefixes = Prefixes::Conversations { continued: 90 };
            source.context = 16_000;
        });

        let asks = asks(&scenario);

        let mut lengths = BTreeMap::<u64, u32>::new();
        let mut continued = 0;
        for ask in &asks {
            let (family, _) = ask.prefix.expect("a conversation");
            let before = lengths.insert(family, ask.size.prompt_tokens).unwrap_or(0);
            assert!(ask.size.prompt_tokens >= before && ask.size.prompt_tokens <= 16_000);
            continued += u32::from(before > 0);
        }
        assert!(f64::from(continued) > 0.6 * asks.len() as f64, "{continued} of {}", asks.len());
    }

    /// Ten accounts that send by themselves, twice as much in the second half.
    fn sent_by_each() -> Vec<Ask> {
        let senders = Some(Senders { cv: 4.0, length_spread: 1.0 });
        let mut scenario =
            Setting { senders, accounts: 10, end_s: 2_000, ..Setting::CHAT }.scenario(7, 0.4, 1.0);
        scenario.sources.iter_mut().for_each(|source| {
            source.steps = vec![(Duration::from_secs(1_000), 2.0)];
        });
        asks(&scenario)
    }

    #[test]
    fn accounts_that_send_by_themselves_keep_the_rate_and_its_steps() {
        let asks = sent_by_each();
        let before = asks.iter().filter(|ask| ask.at < Duration::from_secs(1_000)).count() as f64;
        let after = asks.len() as f64 - before;
        assert!((0.8..1.2).contains(&(before / 10_240.0)), "{before}");
        assert!((0.8..1.2).contains(&(after / 20_480.0)), "{after}");
        assert!(asks.windows(2).all(|pair| pair[0].at <= pair[1].at));
    }

    #[test]
    fn each_of_them_has_bursts_and_lengths_of_its_own() {
        let asks = sent_by_each();
        let of = |account: u32| asks.iter().filter(move |ask| ask.account == account);
        let (first, last) = (of(0).count() as f64, of(9).count() as f64);
        assert!(first > 5.0 * last, "by zipf ten times: {first} and {last}");

        let times: Vec<f64> = of(0).map(|ask| ask.at.as_secs_f64()).collect();
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((3.0..5.0).contains(&(variance.sqrt() / mean)), "{}", variance.sqrt() / mean);

        let mut lengths: Vec<f64> = (0..10)
            .map(|account| {
                of(account).map(|ask| f64::from(ask.size.prompt_tokens)).sum::<f64>()
                    / of(account).count() as f64
            })
            .collect();
        lengths.sort_by(f64::total_cmp);
        assert!(lengths[9] > 2.5 * lengths[0], "{lengths:?}");
    }
}
