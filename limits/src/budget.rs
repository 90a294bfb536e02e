//! The budget of one account on one model: three meters, one decision.

mod elsewhere;
pub(crate) mod outlook;

use std::time::Duration;

use crate::adaptive::Evidence;
use crate::adaptive::history::{ChangeReason, History, LimitChange};
use crate::bounds::TOKENS_PER_MINUTE_MAX;
use crate::config::{BudgetConfig, Policy};
use crate::forecast::{AHEAD_SLOTS, Forecast, Minute};
use crate::ledger::{Ledger, NoRoom, until_slot};
use crate::meter::{Meter, PerMeter};
use crate::reservation::Reservation;
use crate::reservation::ask::{Ask, Used, Usual};
use crate::view::{MeterView, Refusal};
use crate::window::timeline::{Millis, Timeline, millis};
use crate::window::{MINUTE_SLOTS, SLOT_MS, Slot, slot_at};

/// What one account may spend on one model.
///
/// Every call with `now` first brings the budget up to that time: minutes that have ended are evaluated in order, each
/// with the state that it had. Calls are O(1) amortised over time and do not allocate. Under 8 KiB.
#[derive(Debug, Clone)]
pub struct Budget {
    pub(crate) timeline: Timeline,
    pub(crate) config: BudgetConfig,
    pub(crate) ledgers: PerMeter<Ledger>,
    pub(crate) history: History,
    pub(crate) usual: Usual,
    pub(crate) forecast: Forecast,
    /// When use began to be observed.
    pub(crate) observed_from: Millis,
    /// When anything was last charged.
    pub(crate) last_use: Millis,
    /// The running minute of the time line.
    minute: u64,
    live: u64,
    frozen: bool,
}

impl Budget {
    /// A budget that has seen nothing, each limit at its start.
    #[must_use]
    pub fn new(now: Duration, config: BudgetConfig) -> Self {
        Budget::on(Timeline::new(now), config)
    }

    /// An unused budget that begins where the time line stands.
    pub(crate) fn on(timeline: Timeline, config: BudgetConfig) -> Self {
        let latest = timeline.latest();
        let newest = slot_at(latest);
        Budget {
            timeline,
            config,
            ledgers: config.bounds.map(|bounds| Ledger::new(bounds, newest)),
            history: History::new(),
            usual: Usual::default(),
            forecast: Forecast::default(),
            observed_from: latest,
            last_use: latest,
            minute: u64::from(newest / MINUTE_SLOTS),
            live: 0,
            frozen: false,
        }
    }

    /// Brings the budget up to `now`. All calls do so themselves; a caller that wants idle budgets to show what time has
    /// done to them, or to hand out their changes, calls this now and then.
    pub fn advance(&mut self, now: Duration) {
        let newest = slot_at(self.timeline.advance(now));
        if newest == self.ledgers.prompt.window.newest() {
            return;
        }
        while let Some(last_slot) = self.last_slot_of_minute(newest) {
            self.end_minute(last_slot);
        }
        for meter in Meter::ALL {
            let ledger = self.ledgers.get_mut(meter);
            let limit = ledger.limit;
            ledger.window.advance(newest, limit);
        }
    }

    /// The last slot of the running minute, if `newest` lies beyond it.
    fn last_slot_of_minute(&self, newest: Slot) -> Option<Slot> {
        let next_minute = Slot::try_from((self.minute + 1) * u64::from(MINUTE_SLOTS)).ok()?;
        (newest >= next_minute).then(|| next_minute - 1)
    }

    /// Evaluates the running minute at its end and begins the next one.
    fn end_minute(&mut self, last_slot: Slot) {
        let at = (u64::from(last_slot) + 1) * SLOT_MS;
        let rule = self.config.policy.rule();
        let idle_ms = if self.live > 0 { 0 } else { at.saturating_sub(self.last_use) };
        for meter in Meter::ALL {
            let ledger = self.ledgers.get_mut(meter);
            let limit = ledger.limit;
            ledger.window.advance(last_slot, limit);
            let tokens = ledger.window.last_240_slots();
            ledger.usage.end_minute(self.minute, tokens, rule.observed);
            let Policy::Published(rule) = self.config.policy else { continue };
            let observed_ms = at.saturating_sub(self.observed_from);
            let decision = rule.decide(&Evidence {
                limit: ledger.limit,
                bounds: ledger.bounds,
                minute: tokens,
                busiest: (observed_ms >= millis(rule.observed)).then_some(ledger.usage.busiest()),
                unchanged: ledger.changed.map(|changed| Duration::from_millis(at.saturating_sub(changed))),
                idle: Duration::from_millis(idle_ms),
                frozen: self.frozen,
            });
            if let Some((limit, reason)) = decision {
                self.history.record(ledger.change_limit(at, meter, limit, reason));
            }
        }
        self.forecast.recent.end_minute();
        self.minute += 1;
    }

    /// Reserves what a request asks for, in all three meters or in none. Of the output that is expected only as much is
    /// reserved as the minute has room for; whether it is admitted all the same, a forecast says.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] names the meter that has no room for the longest time. Nothing was reserved. O(241).
    pub fn reserve(&mut self, now: Duration, ask: &Ask) -> Result<Reservation, Refusal> {
        self.advance(now);
        let asked = PerMeter {
            prompt: ask.prompt,
            uncached_prompt: ask.uncached_prompt.min(ask.prompt),
            // An estimate must not refuse what an empty minute would take.
            generated: ask.expected(&self.usual).min(self.ledgers.generated.limit),
        };
        let refusal = self.check(now, &asked, ask.choices());
        if asked.generated > 0 {
            self.forecast.ask(refusal.is_none_or(|refusal| refusal.meter != Meter::Generated));
        }
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        let reserve =
            PerMeter { generated: asked.generated.min(self.ledgers.generated.remaining()), ..asked };
        for (meter, &tokens) in reserve.iter() {
            self.ledgers.get_mut(meter).reserved += tokens;
        }
        self.forecast.begin(ask.choices(), asked.generated);
        self.live += 1;
        let usual = self.usual.tokens(ask.usual_of_model);
        Ok(Reservation::new(self.timeline.latest(), reserve, asked.generated, ask.choices(), usual))
    }

    /// Charges the prompt as flowing now: to be called at the first token. A second call changes nothing.
    pub fn charge_prompt(&mut self, now: Duration, reservation: &mut Reservation) {
        self.advance(now);
        if reservation.prompt_charged {
            return;
        }
        reservation.prompt_charged = true;
        self.last_use = self.timeline.latest();
        let rest = &mut reservation.rest;
        let (prompt, uncached) = (rest.prompt, rest.uncached_prompt);
        self.ledgers.prompt.charge(&mut reservation.prompt, &mut rest.prompt, prompt);
        self.ledgers.uncached_prompt.charge(
            &mut reservation.uncached_prompt,
            &mut rest.uncached_prompt,
            uncached,
        );
    }

    /// Charges generated tokens as flowing now. They use up the reserve first; beyond it they are charged all the same, and
    /// owed as far as the minute has no room: a running answer is never cut.
    pub fn charge_generated(&mut self, now: Duration, reservation: &mut Reservation, tokens: u64) {
        self.advance(now);
        self.last_use = self.timeline.latest();
        let tokens = tokens.min(TOKENS_PER_MINUTE_MAX);
        let Reservation { generated, rest, expected, .. } = reservation;
        self.forecast.expect_less(expected, tokens);
        self.ledgers.generated.charge(generated, &mut rest.generated, tokens);
    }

    /// Ends a request: what it really used corrects what was charged, and the rest of the reserve is free.
    ///
    /// A correction goes to the slots of the original charge. Where those have left the minute, a credit is dropped and a
    /// debit is charged now. What was never charged (no first token was seen) is charged now.
    pub fn settle(&mut self, now: Duration, mut reservation: Reservation, used: &Used) {
        self.advance(now);
        self.end(&mut reservation);
        let Reservation { made, prompt, uncached_prompt, generated, choices, usual, .. } = reservation;
        if used.prompt > 0 || used.generated > 0 {
            self.last_use = self.timeline.latest();
        }
        let tokens = |reported: u64| reported.min(TOKENS_PER_MINUTE_MAX);
        self.ledgers.prompt.correct(&prompt, tokens(used.prompt));
        self.ledgers.uncached_prompt.correct(&uncached_prompt, tokens(used.uncached_prompt.min(used.prompt)));
        self.ledgers.generated.correct(&generated, tokens(used.generated));
        if used.finished {
            let lasted = Duration::from_millis(self.timeline.latest().saturating_sub(made));
            self.usual.learn(tokens(used.generated) / u64::from(choices), usual, lasted);
        }
    }

    /// Ends a request that was shed or left the queue: everything reserved is free, nothing was used.
    ///
    /// What was charged already stays charged: such a request has to be settled instead.
    pub fn release(&mut self, now: Duration, mut reservation: Reservation) {
        self.advance(now);
        self.end(&mut reservation);
    }

    /// Stops growth while the model is short of capacity, and lets it go on afterwards.
    pub fn set_frozen(&mut self, now: Duration, frozen: bool) {
        self.advance(now);
        self.frozen = frozen;
    }

    /// Puts a new configuration in force. Use, reservations and debt stay; each limit is brought between its new
    /// bounds, or to its start where limits do not move.
    pub fn reconfigure(&mut self, now: Duration, config: BudgetConfig) {
        self.advance(now);
        self.config = config;
        for (meter, bounds) in config.bounds.iter() {
            let ledger = self.ledgers.get_mut(meter);
            ledger.bounds = bounds.nearest_valid();
            ledger.usage.observe(config.policy.rule().observed);
        }
        self.bring_between_bounds();
    }

    /// Brings each limit to where the configuration allows it to be.
    pub(crate) fn bring_between_bounds(&mut self) {
        let at = self.timeline.latest();
        for meter in Meter::ALL {
            let ledger = self.ledgers.get_mut(meter);
            let limit = match self.config.policy {
                Policy::Fixed => ledger.bounds.start,
                Policy::Published(_) => ledger.limit.clamp(ledger.bounds.floor, ledger.bounds.ceiling),
            };
            if limit != ledger.limit {
                self.history.record(ledger.change_limit(at, meter, limit, ChangeReason::Reconfigured));
                ledger.window.pay(ledger.limit);
            }
        }
    }

    /// The last changes of the limits, the oldest first; at most 32.
    pub fn history(&self) -> impl Iterator<Item = LimitChange> + '_ {
        self.history.changes(&self.timeline)
    }

    /// The changes since this was last asked, the oldest first, each handed out once; at most the last 32.
    pub fn take_changes(&mut self) -> impl Iterator<Item = LimitChange> + '_ {
        self.history.take_new(&self.timeline)
    }

    /// The state of each meter. O(241).
    pub fn view(&mut self, now: Duration) -> PerMeter<MeterView> {
        self.advance(now);
        let at = self.timeline.at(now);
        PerMeter::from_fn(|meter| {
            let ledger = self.ledgers.get(meter);
            let slots_until_half = ledger.slots_until_half();
            MeterView {
                limit: ledger.limit,
                floor: ledger.bounds.floor,
                ceiling: ledger.bounds.ceiling,
                used: ledger.window.sum(),
                reserved: ledger.reserved,
                debt: ledger.window.debt(),
                remaining: ledger.remaining(),
                until_half: until_slot(ledger.window.newest(), slots_until_half, at),
            }
        })
    }

    /// Tokens held for running requests. Zero at rest.
    #[must_use]
    pub fn reserved(&self) -> PerMeter<u64> {
        PerMeter::from_fn(|meter| self.ledgers.get(meter).reserved)
    }

    /// The limits in force, as of the last call.
    #[must_use]
    pub fn limits(&self) -> PerMeter<u64> {
        PerMeter::from_fn(|meter| self.ledgers.get(meter).limit)
    }

    /// Reservations that are neither settled nor released. Zero at rest.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.live
    }

    /// Whether a new budget would admit the same: nothing runs, nothing is charged or owed, and the limits stand at their
    /// start, from where without use they will not move. Learnt lengths of answers are not asked for. O(1).
    pub fn is_as_new(&mut self, now: Duration) -> bool {
        self.advance(now);
        let is_fixed = matches!(self.config.policy, Policy::Fixed);
        self.live == 0
            && Meter::ALL.into_iter().all(|meter| {
                let ledger = self.ledgers.get(meter);
                let rests = is_fixed || ledger.bounds.floor == ledger.bounds.start;
                ledger.taken() == 0 && ledger.limit == ledger.bounds.start && rests
            })
    }

    /// Tokens that an answer of this account on this model usually generates.
    #[must_use]
    pub fn usual(&self) -> u64 {
        self.usual.tokens(None)
    }

    /// Whether growth is stopped.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> &BudgetConfig {
        &self.config
    }

    /// The meter without room; of several the one that takes longest.
    fn check(&self, now: Duration, asked: &PerMeter<u64>, choices: u32) -> Option<Refusal> {
        let mut slowest: Option<Refusal> = None;
        // A forecast is for now. Who has to wait for another meter is told when output is sure to fit, too.
        let waits = Meter::ALL
            .into_iter()
            .any(|meter| meter != Meter::Generated && !self.ledgers.get(meter).has_room(*asked.get(meter)));
        for (meter, &asked) in asked.iter() {
            let ledger = self.ledgers.get(meter);
            let (has_room, held) = match meter {
                Meter::Generated if waits => {
                    let held = self.forecast.expected();
                    let whole = ledger.charged().saturating_add(held).saturating_add(asked);
                    (asked == 0 || whole <= ledger.limit, held)
                }
                Meter::Generated => (self.foresees_room(asked, choices), self.forecast.expected()),
                Meter::Prompt | Meter::UncachedPrompt => (ledger.has_room(asked), ledger.reserved),
            };
            if has_room {
                continue;
            }
            let retry_after = match ledger.no_room(asked, held) {
                NoRoom::Until { slots } => {
                    Some(until_slot(ledger.window.newest(), slots, self.timeline.at(now)))
                }
                NoRoom::Ever => None,
            };
            let used = ledger.charged().saturating_add(held);
            let refusal = Refusal { meter, limit: ledger.limit, used, asked, retry_after };
            // One that never fits waits longest; the first of equals is named.
            let wait = |refusal: &Refusal| refusal.retry_after.unwrap_or(Duration::MAX);
            if slowest.as_ref().is_none_or(|known| wait(&refusal) > wait(known)) {
                slowest = Some(refusal);
            }
        }
        slowest
    }

    /// Whether `choices` more answers may run, of which `tokens` are expected in all.
    fn foresees_room(&self, tokens: u64, choices: u32) -> bool {
        let ledger = &self.ledgers.generated;
        let minute = Minute {
            limit: ledger.limit,
            taken: ledger.charged(),
            leaves: ledger.window.leaving(AHEAD_SLOTS),
        };
        tokens == 0 || self.forecast.admits(&self.usual, minute, choices, tokens)
    }

    /// A request has ended: nothing is reserved for it or expected of it any more.
    fn end(&mut self, reservation: &mut Reservation) {
        for meter in Meter::ALL {
            self.ledgers.get_mut(meter).unreserve(reservation.rest.get_mut(meter), u64::MAX);
        }
        self.forecast.expect_less(&mut reservation.expected, u64::MAX);
        self.forecast.end(reservation.choices);
        self.live = self.live.saturating_sub(1);
    }
}
