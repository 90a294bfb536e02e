//! Blocks of like prompts in random orders: what is estimated before, in and after each of them.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tokenizer::{Estimator, Features, Weights, estimate};

use super::shapes::{Engine, Shape};

/// Requests of a block after which its estimates are judged.
const TAUGHT: u32 = 50;
/// Requests of a block.
const BLOCK: std::ops::RangeInclusive<u32> = 20..=500;
/// Judged requests of which a mean says something: blocks of fewer than 70 are judged by single requests only.
const JUDGED_MIN: u32 = 20;
/// Accounts that share the model. One more never sends anything.
const ACCOUNTS: usize = 4;

/// Estimates of one kind against the truth.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Judged {
    pub(super) estimates: u64,
    /// Those outside of the goal.
    pub(super) outside: u64,
    /// Sum of the sizes of the relative errors.
    pub(super) off: f64,
    /// The same of an estimator that has seen nothing.
    pub(super) fresh: f64,
    /// By how much the worst is beyond what is allowed, as a part of the truth.
    pub(super) worst: f64,
    /// The shape of the worst.
    pub(super) worst_shape: &'static str,
}

/// What came out of some orders.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Figures {
    /// Mean errors of blocks from the 51st request on, of 20 or more: allowed are 5 % or 2 tokens.
    pub(super) blocks: Judged,
    /// The same requests one by one.
    pub(super) taught: Judged,
    /// Of an account and shape seen before: allowed are 0.67 to 1.5 times, and 4 tokens.
    pub(super) seen: Judged,
    /// Of an account and shape never seen: allowed is the error of a fresh estimator, and 5 % or 2 tokens.
    pub(super) unseen: Judged,
}

impl Judged {
    fn add(&mut self, shape: &'static str, [estimated, truth, fresh]: [f64; 3], [least, most]: [f64; 2]) {
        let beyond = (least - estimated).max(estimated - most) / truth;
        self.estimates += 1;
        self.outside += u64::from(beyond > 0.0);
        self.off += (estimated / truth - 1.0).abs();
        self.fresh += (fresh / truth - 1.0).abs();
        if beyond > self.worst {
            (self.worst, self.worst_shape) = (beyond, shape);
        }
    }

    fn join(&mut self, other: &Self) {
        self.estimates += other.estimates;
        self.outside += other.outside;
        self.off += other.off;
        self.fresh += other.fresh;
        if other.worst > self.worst {
            (self.worst, self.worst_shape) = (other.worst, other.worst_shape);
        }
    }

    /// The mean size of the error, and that of an estimator that has seen nothing.
    pub(super) fn means(&self) -> [f64; 2] {
        [self.off, self.fresh].map(|sum| sum / self.estimates.max(1) as f64)
    }
}

impl Figures {
    pub(super) fn join(&mut self, other: &Self) {
        self.blocks.join(&other.blocks);
        self.taught.join(&other.taught);
        self.seen.join(&other.seen);
        self.unseen.join(&other.unseen);
    }
}

/// A gateway's estimators of one model, and the engine that they learn from.
struct Order<'a> {
    shapes: &'a [Shape],
    engine: Engine,
    fresh: Estimator,
    model: Estimator,
    accounts: BTreeMap<usize, Estimator>,
    /// Accounts and shapes that were sent.
    sent: BTreeSet<(usize, usize)>,
    figures: Figures,
}

/// Plays one order: each shape once, by some account, 20 to 500 requests.
pub(super) fn play(shapes: &[Shape], seed: u64) -> Figures {
    let mut random = SmallRng::seed_from_u64(seed);
    let weights = Weights::default();
    let mut order = Order {
        shapes,
        engine: Engine::draw(&mut random),
        fresh: Estimator::new(weights),
        model: Estimator::new(weights),
        accounts: BTreeMap::new(),
        sent: BTreeSet::new(),
        figures: Figures::default(),
    };
    let mut blocks: Vec<usize> = (0..shapes.len()).collect();
    blocks.shuffle(&mut random);
    for shape in blocks {
        order.block(random.random_range(0..ACCOUNTS), shape, &mut random);
        order.probe(&mut random);
    }
    order.figures
}

impl Order<'_> {
    fn block(&mut self, account: usize, shape: usize, random: &mut SmallRng) {
        let Some(Shape { name, prompts }) = self.shapes.get(shape) else { return };
        // Sums of the sizes of errors, of the truth and of a fresh estimator's errors, and how many.
        let (mut off, mut truths, mut fresh, mut judged) = (0.0, 0.0, 0.0, 0u32);
        for number in 0..random.random_range(BLOCK) {
            let Some(prompt) = prompts.get(random.random_range(0..prompts.len().max(1))) else { return };
            let truth = self.engine.count(prompt);
            let found = self.found(account, &prompt.features, truth);
            if number >= TAUGHT {
                let [estimated, truth, untaught] = found;
                let allowed = allowed(truth);
                self.figures.taught.add(name, found, [truth - allowed, truth + allowed]);
                off += (estimated - truth).abs();
                truths += truth;
                fresh += (untaught - truth).abs();
                judged += 1;
            }
            if number > 0 {
                self.figures.seen.add(name, found, known_range(found));
            }
            self.observe(account, &prompt.features, truth);
        }
        if judged >= JUDGED_MIN {
            let [off, truth, fresh] = [off, truths, fresh].map(|sum| sum / f64::from(judged));
            self.figures.blocks.add(name, [truth + off, truth, truth + fresh], [0.0, truth + allowed(truth)]);
        }
        self.sent.insert((account, shape));
    }

    /// Looks at every shape of every account.
    fn probe(&mut self, random: &mut SmallRng) {
        for (at, Shape { name, prompts }) in self.shapes.iter().enumerate() {
            for account in 0..=ACCOUNTS {
                let Some(prompt) = prompts.get(random.random_range(0..prompts.len().max(1))) else { return };
                let found = self.found(account, &prompt.features, self.engine.count(prompt));
                if self.sent.contains(&(account, at)) {
                    self.figures.seen.add(name, found, known_range(found));
                } else {
                    let [_, truth, fresh] = found;
                    let allowed = (fresh - truth).abs() + allowed(truth);
                    self.figures.unseen.add(name, found, [truth - allowed, truth + allowed]);
                }
            }
        }
    }

    /// The estimate, the truth, and what a fresh estimator says.
    fn found(&self, account: usize, features: &Features, truth: u32) -> [f64; 3] {
        let own = self.accounts.get(&account);
        let tokens = estimate(&self.model, own, features).tokens;
        [tokens, truth, estimate(&self.fresh, None, features).tokens].map(f64::from)
    }

    /// As a gateway does when an answer has ended.
    fn observe(&mut self, account: usize, features: &Features, tokens: u32) {
        self.model.observe(features, tokens);
        let model = &self.model;
        self.accounts.entry(account).or_insert_with(|| Estimator::seeded(model)).observe(features, tokens);
    }
}

/// What an estimate may be off by: 5 % or 2 tokens.
fn allowed(truth: f64) -> f64 {
    (0.05 * truth).max(2.0)
}

fn known_range([_, truth, _]: [f64; 3]) -> [f64; 2] {
    [0.67 * truth - 4.0, 1.5 * truth + 4.0]
}
