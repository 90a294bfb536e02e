//! The account's side of a request: its budgets, and a ledger entry that settles itself.
//!
//! A [`Ledger`] is made by a successful reservation in all three meters. While the request runs it is charged;
//! at the end it is settled by the engine's usage, or by what was counted when there is none. If nobody
//! settles it (client gone, panic, shutdown), its drop does, so a reservation cannot leak.

use gateway_core::entry::{AnswerSize, Booked, Entry};
use gateway_core::settlement::Weighed;
use limits::{Budget, MeterView, PerMeter, Refusal, Snapshot, Used};
use parking_lot::Mutex;
use process::clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// The budget of one account on one model, behind its mutex.
#[derive(Debug)]
pub struct BudgetCell {
    /// The account's id, for logs and metrics.
    pub account: Arc<str>,
    /// The public model name, for logs and metrics.
    pub model: Arc<str>,
    budget: Mutex<Budget>,
    /// Whether it changed since it was last journalled.
    touched: AtomicBool,
    /// When it was last touched, milliseconds since the process started.
    touched_at: AtomicU64,
    /// Tokens booked since it was handed over, given back ones negative: what a new process does not know yet. Changed
    /// only while the budget is locked.
    beyond: PerMeter<AtomicI64>,
}

impl BudgetCell {
    /// A cell around `budget`.
    #[must_use]
    pub fn new(account: Arc<str>, model: Arc<str>, budget: Budget) -> Arc<Self> {
        let cell = BudgetCell {
            account,
            model,
            budget: Mutex::new(budget),
            touched: AtomicBool::new(false),
            touched_at: AtomicU64::new(0),
            beyond: PerMeter::default(),
        };
        cell.touch();
        Arc::new(cell)
    }

    /// It changed.
    pub fn touch(&self) {
        self.touched_at.store(clock::now().as_millis() as u64, Ordering::Relaxed);
        self.touched.store(true, Ordering::Release);
    }

    /// Whether it changed since this was last asked.
    #[must_use]
    pub fn take_touched(&self) -> bool {
        self.touched.swap(false, Ordering::Acquire)
    }

    /// Whether it may leave memory: saved, nothing running, not touched since `since`.
    #[must_use]
    pub fn is_idle(&self, since: Duration) -> bool {
        !self.touched.load(Ordering::Acquire)
            && u128::from(self.touched_at.load(Ordering::Relaxed)) < since.as_millis()
            && self.budget.lock().live() == 0
    }

    /// Whether a new one would say the same at `now`, and it was not touched since `since`.
    #[must_use]
    pub fn is_unused(&self, now: Duration, since: Duration) -> bool {
        u128::from(self.touched_at.load(Ordering::Relaxed)) < since.as_millis()
            && self.budget.lock().is_as_new(now)
    }

    /// Works on the budget under its lock; microseconds only.
    pub fn with<R>(&self, work: impl FnOnce(&mut Budget) -> R) -> R {
        work(&mut self.budget.lock())
    }

    /// The budget for another process to go on with: a reserved prompt counts as charged. What is booked here from now on
    /// is what [`take_beyond`](Self::take_beyond) tells.
    #[must_use]
    pub fn hand_over(&self) -> Snapshot {
        let mut budget = self.budget.lock();
        self.take_beyond();
        budget.snapshot(clock::now())
    }

    /// What was booked since this was last asked, per meter.
    pub fn take_beyond(&self) -> PerMeter<i64> {
        PerMeter::from_fn(|meter| self.beyond.get(meter).swap(0, Ordering::Relaxed))
    }

    /// To be called while the budget is locked.
    fn booked(&self, booked: Booked) {
        self.beyond.prompt.fetch_add(booked.prompt, Ordering::Relaxed);
        self.beyond.uncached_prompt.fetch_add(booked.uncached, Ordering::Relaxed);
        self.beyond.generated.fetch_add(booked.generated, Ordering::Relaxed);
    }

    /// What the meters show now.
    #[must_use]
    pub fn view(&self) -> PerMeter<MeterView> {
        self.with(|budget| budget.view(clock::now()))
    }

    /// Reserves in all three meters or in none; in both cases with the meters as they are afterwards.
    ///
    /// # Errors
    /// Which meter refused, and when it would not.
    pub fn reserve(
        self: &Arc<Self>,
        prompt: Prompt,
        wanted: AnswerSize,
    ) -> (Result<Arc<Ledger>, Refusal>, PerMeter<MeterView>) {
        let (reserved, meters) = self.enter(prompt, wanted);
        (reserved.map(|entry| self.ledger(prompt, entry, None)), meters)
    }

    /// Reserves in the budget `inside`, of a part of the account, and here, or in neither; with the meters of whichever has
    /// less left.
    ///
    /// # Errors
    /// Which of the two refused.
    pub fn reserve_inside(
        self: &Arc<Self>,
        inside: &Arc<BudgetCell>,
        prompt: Prompt,
        wanted: AnswerSize,
    ) -> (Result<Arc<Ledger>, RefusedBy>, PerMeter<MeterView>) {
        let (reserved, meters) = inside.reserve(prompt, wanted);
        let part = match reserved {
            Ok(part) => part,
            Err(refused) => return (Err(RefusedBy::Part(refused)), meters),
        };
        let (reserved, of_whole) = self.enter(prompt, wanted);
        let narrower = PerMeter::from_fn(|meter| {
            let (part, whole) = (*meters.get(meter), *of_whole.get(meter));
            if part.remaining < whole.remaining { part } else { whole }
        });
        match reserved {
            Ok(entry) => (Ok(self.ledger(prompt, entry, Some(part))), narrower),
            Err(refused) => {
                part.release();
                (Err(RefusedBy::Account(refused)), of_whole)
            }
        }
    }

    fn ledger(self: &Arc<Self>, prompt: Prompt, entry: Entry, part: Option<Arc<Ledger>>) -> Arc<Ledger> {
        Arc::new(Ledger { cell: Arc::clone(self), prompt, entry: Mutex::new(Some(entry)), part })
    }

    fn enter(&self, prompt: Prompt, wanted: AnswerSize) -> (Result<Entry, Refusal>, PerMeter<MeterView>) {
        let now = clock::now();
        self.touch();
        let mut budget = self.budget.lock();
        let reserved = Entry::reserve(now, &mut budget, prompt.weighed(), prompt.tokens_per_chunk, wanted);
        let view = budget.view(now);
        let entry = reserved.map(|(entry, booked)| {
            self.booked(booked);
            entry
        });
        (entry, view)
    }
}

/// Which budget refused a request that needs two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBy {
    /// The account's own.
    Account(Refusal),
    /// That of the part of the account.
    Part(Refusal),
}

/// Prompt tokens of one request as weighed at admission.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Prompt {
    /// All of them.
    pub tokens: u64,
    /// Those that the best replica did not have cached.
    pub uncached: u64,
    /// Tokens that one content chunk of this deployment usually carries.
    pub tokens_per_chunk: f64,
}

impl Prompt {
    /// Its tokens.
    #[must_use]
    pub fn weighed(&self) -> Weighed {
        Weighed { prompt: self.tokens, uncached: self.uncached }
    }
}

/// One request's entry in its account's budget, ended once.
#[derive(Debug)]
pub struct Ledger {
    cell: Arc<BudgetCell>,
    prompt: Prompt,
    /// Taken before the budget is locked.
    entry: Mutex<Option<Entry>>,
    /// The same request in the budget of a part of the account; ends with this one.
    part: Option<Arc<Ledger>>,
}

impl Ledger {
    /// The budget this is charged to.
    #[must_use]
    pub fn cell(&self) -> &Arc<BudgetCell> {
        &self.cell
    }

    /// The prompt as weighed.
    #[must_use]
    pub fn prompt(&self) -> Prompt {
        self.prompt
    }

    /// Whether an engine works on the prompt. Taken back when the engine itself gave up before a token.
    pub fn set_started(&self, started: bool) {
        self.in_part(|part| part.set_started(started));
        if let Some(entry) = self.entry.lock().as_mut() {
            entry.set_started(started);
        }
    }

    /// Whether an engine works on the prompt.
    #[must_use]
    pub fn is_started(&self) -> bool {
        self.entry.lock().as_ref().is_some_and(Entry::is_started)
    }

    /// The first token came: the prompt's tokens flow now. Idempotent.
    pub fn charge_prompt(&self) {
        self.in_part(Ledger::charge_prompt);
        if let Some(entry) = self.entry.lock().as_mut() {
            entry.charge_prompt(clock::now(), &mut self.cell.budget.lock());
        }
    }

    /// `chunks` content chunks came.
    pub fn charge_chunks(&self, now: Duration, chunks: u32) {
        self.in_part(|part| part.charge_chunks(now, chunks));
        if let Some(entry) = self.entry.lock().as_mut() {
            let mut budget = self.cell.budget.lock();
            let booked = entry.charge_chunks(now, &mut budget, chunks);
            self.cell.booked(booked);
            drop(budget);
            self.cell.touch();
        }
    }

    /// The end, by the best proof there is.
    pub fn settle(&self, used: &Used) {
        self.in_part(|part| part.settle(used));
        self.end(|entry, budget| entry.settle(clock::now(), budget, used));
    }

    /// The end without any use: shed, or left while it waited.
    pub fn release(&self) {
        self.in_part(Ledger::release);
        self.end(|entry, budget| entry.release(clock::now(), budget));
    }

    fn in_part(&self, work: impl FnOnce(&Ledger)) {
        if let Some(part) = &self.part {
            work(part);
        }
    }

    fn end(&self, how: impl FnOnce(Entry, &mut Budget) -> Booked) {
        if let Some(entry) = self.entry.lock().take() {
            let mut budget = self.cell.budget.lock();
            let booked = how(entry, &mut budget);
            self.cell.booked(booked);
            drop(budget);
            self.cell.touch();
        }
    }
}

impl Drop for Ledger {
    /// Nobody settled: the client left, or the request panicked. What it has in the budget of a part ends with that one's drop.
    fn drop(&mut self) {
        self.end(|entry, budget| entry.give_up(clock::now(), budget));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use limits::{Bounds, BudgetConfig, Meter, Policy};

    const PROMPT: Prompt = Prompt { tokens: 100, uncached: 60, tokens_per_chunk: 1.0 };
    const ANSWER: AnswerSize = AnswerSize { tokens_max: Some(50), choices: 1, usual: 20 };

    fn cell(limit: u64) -> Arc<BudgetCell> {
        let bounds = PerMeter::from_fn(|_| Bounds::fixed(limit).unwrap());
        let budget = Budget::new(clock::now(), BudgetConfig { policy: Policy::Fixed, bounds });
        BudgetCell::new("acme".into(), "m".into(), budget)
    }

    fn used(cell: &BudgetCell) -> [u64; 3] {
        let view = cell.view();
        Meter::ALL.map(|meter| view.get(meter).used)
    }

    fn is_at_rest(cell: &BudgetCell) -> bool {
        cell.with(|budget| budget.live() == 0 && budget.reserved() == PerMeter::default())
    }

    /// Whichever of the two has no room, nothing is held in the other.
    #[test]
    fn a_request_that_needs_two_budgets_reserves_in_both_or_in_neither() {
        for (of_part, of_account, by_part) in [(50, 100_000, true), (100_000, 50, false)] {
            let (part, account) = (cell(of_part), cell(of_account));

            let (refused, _) = account.reserve_inside(&part, PROMPT, ANSWER);

            assert_eq!(matches!(refused, Err(RefusedBy::Part(_))), by_part);
            assert!(is_at_rest(&part) && is_at_rest(&account));
            assert_eq!((used(&part), used(&account)), ([0; 3], [0; 3]));
        }
    }

    /// Answered, refused for load, left: each end is the same in both.
    #[test]
    fn a_request_ends_in_both_budgets_as_it_ends_in_one() {
        type End = fn(Arc<Ledger>);
        let answered: End = |ledger| {
            ledger.set_started(true);
            ledger.charge_prompt();
            ledger.charge_chunks(clock::now(), 3);
            ledger.settle(&Used { prompt: 90, uncached_prompt: 50, generated: 7, finished: true });
        };
        let shed: End = |ledger| ledger.release();
        let left_in_the_answer: End = |ledger| ledger.charge_chunks(clock::now(), 4);
        let left_in_the_prefill: End = |ledger| ledger.set_started(true);
        for (end, charged) in [
            (answered, [90, 50, 7]),
            (shed, [0, 0, 0]),
            (left_in_the_answer, [100, 60, 4]),
            (left_in_the_prefill, [100, 60, 0]),
        ] {
            let (part, account) = (cell(10_000), cell(100_000));
            let (ledger, meters) = account.reserve_inside(&part, PROMPT, ANSWER);
            assert_eq!(meters.prompt.limit, 10_000, "the part has less left");

            end(ledger.unwrap());

            assert_eq!((used(&part), used(&account)), (charged, charged));
            assert!(is_at_rest(&part) && is_at_rest(&account));
        }
    }
}
