//! Limits that an operator set at run time: kept beside the journal, above the config until they are taken back.

use crate::override_events::{Author, Events, OverrideEvent};
use crate::private;
use config::{Bounds, Meters, MetersFile};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// Overrides that are kept; more are refused.
pub const OVERRIDES_MAX: usize = 10_000;

/// Largest file that is read: [`OVERRIDES_MAX`] with the longest names, several times over.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What an operator set for one account on one model; what is absent stays as configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Override {
    /// Where limits start.
    pub start: MetersFile,
    /// Below which they never fall.
    pub floor: MetersFile,
    /// Above which they never grow.
    pub ceiling: MetersFile,
}

/// All of them, by account and model.
#[derive(Debug, Default)]
pub struct Overrides {
    path: Option<PathBuf>,
    kept: Mutex<Kept>,
}

/// What is set, by account and model, and how it came so.
#[derive(Debug, Default)]
struct Kept {
    set: BTreeMap<String, BTreeMap<String, Override>>,
    events: Events,
}

/// Why an override was not taken.
#[derive(Debug, thiserror::Error)]
pub enum OverrideError {
    /// No limit satisfies the bounds. Usually two numbers were swapped.
    #[error("{meter}: floor {floor} <= start {start} <= ceiling {ceiling} must hold")]
    Bounds {
        /// The meter.
        meter: &'static str,
        /// As it would be.
        floor: u64,
        /// As it would be.
        start: u64,
        /// As it would be.
        ceiling: u64,
    },
    /// [`OVERRIDES_MAX`].
    #[error("there are {OVERRIDES_MAX} overrides already; put lasting ones into the config")]
    TooMany,
    /// It holds for now but could not be written down.
    #[error("it is in force but could not be saved and would be lost by a restart: {0}")]
    NotSaved(#[from] io::Error),
}

impl Overrides {
    /// Those saved in `folder`. An unreadable file is said and begins empty.
    #[must_use]
    pub fn open(folder: Option<&std::path::Path>) -> Self {
        let path = folder.map(|folder| folder.join("overrides.json"));
        let set = path.as_deref().map(taken_over).unwrap_or_default();
        let events = path.as_deref().map(|path| taken_over(&history_of(path))).unwrap_or_default();
        Overrides { path, kept: Mutex::new(Kept { set, events }) }
    }

    /// What operators changed of the limits of an account on a model, the oldest change first.
    #[must_use]
    pub fn events(&self, account: &str, model: &str) -> Vec<OverrideEvent> {
        self.kept.lock().events.of(account, model)
    }

    /// The bounds of an account on a model: as configured, with what was set.
    #[must_use]
    pub fn apply(&self, account: &str, model: &str, configured: Bounds) -> Bounds {
        match self.kept.lock().set.get(account).and_then(|models| models.get(model)) {
            Some(set) => merged(configured, set),
            None => configured,
        }
    }

    /// Sets `change` for an account on a model, on top of what was set before, and notes whose change it is.
    ///
    /// # Errors
    /// When no limit would satisfy the bounds (nothing changes then), or it could not be saved.
    pub fn set(
        &self,
        account: &str,
        model: &str,
        configured: Bounds,
        change: &Override,
        author: Author<'_>,
    ) -> Result<(), OverrideError> {
        let mut kept = self.kept.lock();
        let Kept { set, events } = &mut *kept;
        let before = set.get(account).and_then(|models| models.get(model)).copied().unwrap_or_default();
        let after = Override {
            start: change.start.or(before.start),
            floor: change.floor.or(before.floor),
            ceiling: change.ceiling.or(before.ceiling),
        };
        let bounds = (merged(configured, &before), merged(configured, &after));
        judge(bounds.1)?;
        if set.values().map(BTreeMap::len).sum::<usize>() >= OVERRIDES_MAX {
            return Err(OverrideError::TooMany);
        }
        set.entry(account.to_owned()).or_default().insert(model.to_owned(), after);
        events.note(account, model, author, (&bounds.0, &bounds.1));
        let Some(path) = &self.path else { return Ok(()) };
        save(path, set)?;
        Ok(save(&history_of(path), events)?)
    }
}

/// The file of the history beside that of the overrides: an earlier version reads the latter alone.
fn history_of(path: &Path) -> PathBuf {
    path.with_file_name("overrides-history.json")
}

fn save(path: &Path, what: &impl Serialize) -> io::Result<()> {
    let next = path.with_extension("next");
    private::write(&next, &serde_json::to_vec_pretty(what).map_err(io::Error::other)?)?;
    fs::rename(&next, path)
}

/// What a file holds; nothing, and a line in the log, where it cannot be read.
fn taken_over<T: Default + for<'de> Deserialize<'de>>(path: &Path) -> T {
    let Ok(bytes) = read(path) else { return T::default() };
    let read = serde_json::from_slice(&bytes);
    read.inspect_err(|e| tracing::warn!(path = %path.display(), "overrides were not taken over: {e}"))
        .unwrap_or_default()
}

/// Reads the file, which is private afterwards.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    private::open(path, OpenOptions::new().read(true))?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A start that was set moves the bounds that were not: a floor down to it, a ceiling up to it.
fn merged(configured: Bounds, set: &Override) -> Bounds {
    let start = set.start.filled(configured.start);
    let floor = set.floor.filled(configured.floor.with(start, u64::min));
    let ceiling = set.ceiling.filled(configured.ceiling.with(start, u64::max));
    Bounds { start, floor, ceiling }
}

fn judge(bounds: Bounds) -> Result<(), OverrideError> {
    let of = |meters: Meters| [meters.prompt, meters.uncached_prompt, meters.generated];
    let meters = ["prompt", "uncached_prompt", "generated"].into_iter();
    let values = of(bounds.floor).into_iter().zip(of(bounds.start)).zip(of(bounds.ceiling));
    for (meter, ((floor, start), ceiling)) in meters.zip(values) {
        if !(floor <= start && start <= ceiling && floor > 0) {
            return Err(OverrideError::Bounds { meter, floor, start, ceiling });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meters(tokens: u64) -> Meters {
        Meters { prompt: tokens, uncached_prompt: tokens, generated: tokens }
    }

    fn configured() -> Bounds {
        Bounds { start: meters(100), floor: meters(100), ceiling: meters(1000) }
    }

    fn generated(tokens: u64) -> MetersFile {
        MetersFile { generated: Some(tokens), ..MetersFile::default() }
    }

    fn author(token: &str) -> Author<'_> {
        Author { token, at: std::time::Duration::from_secs(1_700_000_000) }
    }

    #[test]
    fn what_was_set_comes_on_top_of_the_config_and_survives() {
        let folder = std::env::temp_dir().join(format!("tidegate-overrides-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let overrides = Overrides::open(Some(&folder));
        overrides
            .set(
                "acme",
                "m",
                configured(),
                &Override { start: generated(5000), ..Override::default() },
                author("11111111"),
            )
            .unwrap();
        overrides
            .set(
                "acme",
                "m",
                configured(),
                &Override { floor: generated(50), ..Override::default() },
                author("22222222"),
            )
            .unwrap();

        let bounds = Overrides::open(Some(&folder)).apply("acme", "m", configured());

        assert_eq!(
            (bounds.floor.generated, bounds.start.generated, bounds.ceiling.generated),
            (50, 5000, 5000)
        );
        assert_eq!(bounds.start.prompt, 100, "the others stay");
        assert_eq!(overrides.apply("acme", "other", configured()), configured());
        let events = Overrides::open(Some(&folder)).events("acme", "m");
        let told = |event: &OverrideEvent| (event.bound.clone(), event.from, event.to, event.by.clone());
        let moved = |bound: &str, from, to, by: &str| (bound.to_owned(), from, to, by.to_owned());
        assert_eq!(
            events.iter().map(told).collect::<Vec<_>>(),
            [
                moved("start", 100, 5000, "11111111"),
                moved("ceiling", 1000, 5000, "11111111"),
                moved("floor", 100, 50, "22222222"),
            ]
        );
    }

    #[test]
    fn bounds_that_no_limit_satisfies_change_nothing() {
        let overrides = Overrides::default();
        let wrong = Override { ceiling: generated(10), ..Override::default() };
        let refused = overrides.set("acme", "m", configured(), &wrong, author("11111111")).unwrap_err();
        assert_eq!(refused.to_string(), "generated: floor 100 <= start 100 <= ceiling 10 must hold");
        assert_eq!(overrides.apply("acme", "m", configured()), configured());
    }
}
