//! A budget put away and taken up again: limits and use survive a restart.
//!
//! Everything is kept as ages on the budget's own time line, so a snapshot means the same in another process: the caller
//! only says how much wall time passed in between. Of the 15-minute samples only those are kept that can still become the
//! largest, which changes nothing and makes an entry small: some 30 bytes for an idle account, 2 to 3 KiB for
//! one that uses every slot of its minute.
//!
//! Running requests do not survive. Their prompts count as charged, because they may have been prefilled; output that was
//! reserved but not generated does not.
//!
//! The byte form begins with a version. All numbers are LEB128 (seven bits a byte, the lowest first).

use std::time::Duration;

use crate::adaptive::history::{ChangeReason, Entry, History};
use crate::adaptive::usage::QUARTERS;
use crate::budget::Budget;
use crate::config::BudgetConfig;
use crate::forecast::Recent;
use crate::ledger::Ledger;
use crate::meter::{Meter, PerMeter};
use crate::reservation::ask::Usual;
use crate::window::timeline::{Millis, Timeline};
use crate::window::{SLOTS, Slot};

/// The form of the bytes.
const VERSION: u64 = 2;
/// The oldest form that is read: without what the forecast learns.
const VERSION_WITHOUT_FORECAST: u64 = 1;

/// A budget as it was at one time.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    latest: Millis,
    observed_from: Millis,
    last_use: Millis,
    usual: Usual,
    recent: Recent,
    meters: PerMeter<MeterSnapshot>,
    history: Vec<Entry>,
}

/// One meter as it was. Slots and quarters are numbers on the time line, the oldest first.
#[derive(Debug, Clone, PartialEq, Default)]
struct MeterSnapshot {
    limit: u64,
    changed: Option<Millis>,
    debt: u64,
    slots: Vec<(u64, u32)>,
    running: u64,
    samples: Vec<(u64, u32)>,
}

/// Why bytes are no snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Written by another version of the program.
    #[error("snapshot has version {found}, this program reads {VERSION_WITHOUT_FORECAST} to {VERSION}")]
    Version {
        /// The version found.
        found: u64,
    },
    /// The bytes end too early. Usually the disk was full.
    #[error("snapshot ends in the middle")]
    Truncated,
    /// The bytes go on after the end.
    #[error("snapshot has {bytes} bytes too many")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
    /// A value is beyond what a budget can hold. Usually the bytes are damaged.
    #[error("snapshot holds an impossible {what}")]
    Impossible {
        /// What the value was to be.
        what: &'static str,
    },
}

impl Budget {
    /// The budget as it is now. Allocates.
    pub fn snapshot(&mut self, now: Duration) -> Snapshot {
        self.advance(now);
        Snapshot {
            latest: self.timeline.latest(),
            observed_from: self.observed_from,
            last_use: self.last_use,
            usual: self.usual,
            recent: self.forecast.recent,
            meters: PerMeter::from_fn(|meter| MeterSnapshot::of(self.ledgers.get(meter), meter)),
            history: self.history.entries().collect(),
        }
    }

    /// A budget taken up again after `elapsed` of wall time, by a configuration that may have changed meanwhile. The time
    /// in between counts as time without traffic. Changes of limits that it brought about are new ones.
    #[must_use]
    pub fn restore(now: Duration, config: BudgetConfig, snapshot: &Snapshot, elapsed: Duration) -> Self {
        let mut budget = Budget::on(Timeline::resumed(now, snapshot.latest, elapsed), config);
        budget.observed_from = snapshot.observed_from.min(snapshot.latest);
        budget.last_use = snapshot.last_use.min(snapshot.latest);
        budget.usual = snapshot.usual;
        budget.forecast.recent = snapshot.recent;
        let observed = config.policy.rule().observed;
        for (meter, kept) in snapshot.meters.iter() {
            kept.put_back(budget.ledgers.get_mut(meter), observed);
        }
        let mut history = History::new();
        snapshot.history.iter().for_each(|&entry| history.record(entry));
        history.mark_taken();
        budget.history = history;
        budget.bring_between_bounds();
        budget.advance(now);
        budget
    }
}

impl MeterSnapshot {
    fn of(ledger: &Ledger, meter: Meter) -> Self {
        let mut window = ledger.window.clone();
        if meter != Meter::Generated {
            window.charge(window.newest(), ledger.reserved, ledger.limit);
        }
        let mut samples: Vec<_> = ledger.usage.staircase().collect();
        samples.reverse();
        MeterSnapshot {
            limit: ledger.limit,
            changed: ledger.changed,
            debt: window.debt(),
            slots: window.charged_slots().map(|(slot, tokens)| (u64::from(slot), tokens)).collect(),
            running: ledger.usage.running(),
            samples,
        }
    }

    fn put_back(&self, ledger: &mut Ledger, observed: Duration) {
        ledger.limit = self.limit;
        ledger.changed = self.changed;
        let slots =
            self.slots.iter().filter_map(|&(slot, tokens)| Some((Slot::try_from(slot).ok()?, tokens)));
        ledger.window.restore(slots, self.debt);
        ledger.usage.restore(self.samples.iter().copied(), self.running, observed);
    }
}

impl Snapshot {
    /// The byte form.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer(Vec::with_capacity(256));
        out.number(VERSION);
        out.number(self.latest);
        out.number(self.latest.saturating_sub(self.observed_from));
        out.number(self.latest.saturating_sub(self.last_use));
        out.option(self.usual.generated.map(f64::to_bits));
        out.number(self.usual.flowed.to_bits());
        out.number(self.usual.lasted.to_bits());
        self.recent.asked.iter().chain(&self.recent.refused).for_each(|&count| out.number(u64::from(count)));
        for (_, meter) in self.meters.iter() {
            out.number(meter.limit);
            out.option(meter.changed.map(|at| self.latest.saturating_sub(at)));
            out.number(meter.debt);
            out.series(&meter.slots);
            out.number(meter.running);
            out.series(&meter.samples);
        }
        out.number(self.history.len() as u64);
        for entry in &self.history {
            out.number(self.latest.saturating_sub(entry.at));
            out.number(u64::from(entry.from));
            out.number(u64::from(entry.to));
            out.number(code(entry.meter, &Meter::ALL));
            out.number(code(entry.reason, &ChangeReason::ALL));
        }
        out.0
    }

    /// Reads the byte form.
    ///
    /// # Errors
    ///
    /// A [`SnapshotError`] for bytes that no snapshot of this version has. Never more is allocated than a budget holds.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let mut input = Reader(bytes);
        let found = input.number()?;
        if !(VERSION_WITHOUT_FORECAST..=VERSION).contains(&found) {
            return Err(SnapshotError::Version { found });
        }
        let latest = input.number()?;
        let observed_from = latest.saturating_sub(input.number()?);
        let last_use = latest.saturating_sub(input.number()?);
        let mut usual = Usual { generated: input.option()?.map(amount).transpose()?, ..Usual::default() };
        let mut recent = Recent::default();
        if found > VERSION_WITHOUT_FORECAST {
            usual.flowed = amount(input.number()?)?;
            usual.lasted = amount(input.number()?)?;
            for count in recent.asked.iter_mut().chain(&mut recent.refused) {
                *count = input.small("number of asks")?;
            }
        }
        let mut meters = PerMeter::from_fn(|_| MeterSnapshot::default());
        for meter in Meter::ALL {
            *meters.get_mut(meter) = MeterSnapshot::read(&mut input, latest)?;
        }
        let count = input.count(crate::adaptive::history::CHANGES, "number of changes")?;
        let history = (0..count).map(|_| input.entry(latest)).collect::<Result<_, _>>()?;
        match input.0.len() {
            0 => Ok(Snapshot { latest, observed_from, last_use, usual, recent, meters, history }),
            bytes => Err(SnapshotError::TrailingBytes { bytes }),
        }
    }
}

impl MeterSnapshot {
    fn read(input: &mut Reader<'_>, latest: Millis) -> Result<Self, SnapshotError> {
        Ok(MeterSnapshot {
            limit: u64::from(input.small("limit")?),
            changed: input.option()?.map(|age| latest.saturating_sub(age)),
            debt: input.number()?,
            slots: input.series(u64::from(SLOTS), "number of slots")?,
            running: input.number()?,
            samples: input.series(QUARTERS, "number of samples")?,
        })
    }
}

/// An amount of tokens or seconds that an average holds.
fn amount(bits: u64) -> Result<f64, SnapshotError> {
    let amount = f64::from_bits(bits);
    let is_possible = amount.is_finite() && amount >= 0.0;
    if is_possible { Ok(amount) } else { Err(SnapshotError::Impossible { what: "usual answer" }) }
}

/// The place of `value` in a list that is only ever appended to.
fn code<T: PartialEq>(value: T, all: &[T]) -> u64 {
    all.iter().position(|other| *other == value).unwrap_or(0) as u64
}

struct Writer(Vec<u8>);

impl Writer {
    fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn option(&mut self, value: Option<u64>) {
        self.number(u64::from(value.is_some()));
        if let Some(value) = value {
            self.number(value);
        }
    }

    /// Numbered values in ascending order, as steps from one number to the next.
    fn series(&mut self, values: &[(u64, u32)]) {
        self.number(values.len() as u64);
        let mut last = 0;
        for &(number, value) in values {
            self.number(number.saturating_sub(last));
            self.number(u64::from(value));
            last = number;
        }
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn number(&mut self) -> Result<u64, SnapshotError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(SnapshotError::Truncated)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(SnapshotError::Impossible { what: "number" })
    }

    fn option(&mut self) -> Result<Option<u64>, SnapshotError> {
        if self.number()? == 0 { Ok(None) } else { self.number().map(Some) }
    }

    fn small(&mut self, what: &'static str) -> Result<u32, SnapshotError> {
        u32::try_from(self.number()?).map_err(|_| SnapshotError::Impossible { what })
    }

    fn count(&mut self, most: u64, what: &'static str) -> Result<u64, SnapshotError> {
        self.number().and_then(|n| if n <= most { Ok(n) } else { Err(SnapshotError::Impossible { what }) })
    }

    fn series(&mut self, most: u64, what: &'static str) -> Result<Vec<(u64, u32)>, SnapshotError> {
        let mut last = 0_u64;
        (0..self.count(most, what)?)
            .map(|_| {
                last = last.saturating_add(self.number()?);
                Ok((last, self.small("amount of tokens")?))
            })
            .collect()
    }

    fn entry(&mut self, latest: Millis) -> Result<Entry, SnapshotError> {
        Ok(Entry {
            at: latest.saturating_sub(self.number()?),
            from: self.small("limit")?,
            to: self.small("limit")?,
            meter: self.one_of(&Meter::ALL, "meter")?,
            reason: self.one_of(&ChangeReason::ALL, "reason")?,
        })
    }

    fn one_of<T: Copy>(&mut self, all: &[T], what: &'static str) -> Result<T, SnapshotError> {
        let place = usize::try_from(self.number()?).ok();
        place.and_then(|place| all.get(place)).copied().ok_or(SnapshotError::Impossible { what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adaptive::AdaptiveRule;
    use crate::bounds::Bounds;
    use crate::config::Policy;

    fn config() -> BudgetConfig {
        let bounds = PerMeter::from_fn(|_| Bounds::new(1_000, 1_000, 5_000).unwrap());
        BudgetConfig { policy: Policy::Published(AdaptiveRule::default()), bounds }
    }

    /// As the first version wrote it: at 100 s, 700 prompt tokens in slot 399, the limit grown by a quarter 40 s before.
    const FIRST: &[u8] = &[
        1, 0xA0, 0x8D, 0x06, 0xA0, 0x8D, 0x06, 0xF4,
        0x03, // version, latest, observed for, last used 500 ms ago
        1, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0xC0, 0xB4, 0x40, // the usual answer: 200 tokens
        0xE2, 0x09, 1, 0xC0, 0xB8, 0x02, 0, 1, 0x8F, 0x03, 0xBC, 0x05, 0xBC, 0x05, 0, // prompt
        0xE8, 0x07, 0, 0, 0, 0, 0, // uncached prompt
        0xE8, 0x07, 0, 0, 0, 0, 0, // generated
        1, 0xC0, 0xB8, 0x02, 0xE8, 0x07, 0xE2, 0x09, 0, 0, // one change, grown
    ];

    /// Files of users have this form for ever.
    #[test]
    fn a_snapshot_of_the_first_version_is_read_and_written_as_the_newest() {
        let snapshot = Snapshot::from_bytes(FIRST).unwrap();
        let now = Duration::from_secs(5);
        let mut budget = Budget::restore(now, config(), &snapshot, Duration::ZERO);

        let view = budget.view(now);
        assert_eq!((view.prompt.limit, view.prompt.used, view.generated.limit), (1_250, 700, 1_000));
        assert_eq!(budget.usual(), 200);
        let changes: Vec<_> =
            budget.history().map(|change| (change.from, change.to, change.reason)).collect();
        assert_eq!(changes, [(1_000, 1_250, ChangeReason::Grown)]);
        let written = budget.snapshot(now).to_bytes();
        assert_eq!(written.first(), Some(&(VERSION as u8)));
        assert_eq!(Snapshot::from_bytes(&written).unwrap(), budget.snapshot(now));
    }

    #[test]
    fn a_snapshot_of_a_newer_program_is_refused_by_its_version() {
        for version in [0, VERSION as u8 + 1, 99] {
            let mut bytes = FIRST.to_vec();
            bytes[0] = version;

            let refused = Snapshot::from_bytes(&bytes).unwrap_err();

            assert_eq!(refused, SnapshotError::Version { found: version.into() });
            assert_eq!(
                refused.to_string(),
                format!("snapshot has version {version}, this program reads 1 to 2")
            );
        }
    }
}
