//! One claim: what it says, what is expected, how long the showing takes, and what came out.

use std::any::Any;
use std::cell::OnceCell;
use std::io;
use std::path::PathBuf;

use serde_json::Value;

use crate::binaries::{Binaries, BuildError};

/// The member of a proof's details that says that a known shortfall has become worse.
pub const WORSE: &str = "worse_than_known";

/// A claim and the function that shows it.
#[derive(Debug)]
pub struct Proof {
    /// As given on the command line.
    pub id: &'static str,
    /// What is claimed, in a few words.
    pub what: &'static str,
    /// The goal at full size.
    pub goal: &'static str,
    /// About how long the quick size takes, seconds.
    pub quick_s: u32,
    /// About how long the full size takes, seconds.
    pub full_s: u32,
    /// What must be installed beyond Rust; empty: nothing.
    pub needs: &'static str,
    /// Shows it.
    pub run: fn(&Setting) -> Result<Finding, Trouble>,
}

/// How and where to run.
#[derive(Debug)]
pub struct Setting {
    /// The small size, as CI runs it.
    pub quick: bool,
    /// The first seed of what is drawn at random, where a proof lets it be chosen; see [`Setting::seeds`].
    first_seed: u64,
    /// Where details, logs and configs of the started programs go. Exists.
    pub out: PathBuf,
    /// What several proofs judge is played once.
    played: OnceCell<Box<dyn Any>>,
    binaries: Binaries,
}

/// What came out.
#[derive(Debug)]
pub struct Finding {
    /// The figure, with its unit.
    pub figure: String,
    /// The goal that it was judged by.
    pub goal: String,
    /// Whether the goal is met.
    pub ok: bool,
    /// All that was measured.
    pub details: Value,
}

/// Why a proof could not be run to its end.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// A program that it needs could not be built.
    #[error("{0}")]
    Build(#[from] BuildError),
    /// Something of the operating system, such as a port or a process, was not to be had.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A program did not start.
    #[error("{0}")]
    Start(#[from] kit::program::StartError),
    /// Something that it needs is not installed.
    #[error("{0}")]
    Missing(&'static str),
    /// The machine was too busy: what was measured says nothing about the programs.
    #[error("void: {0}; run it on a machine with nothing else to do")]
    Void(String),
    /// A program or an answer was not what the proof needs to go on.
    #[error("{0}")]
    Unexpected(String),
}

impl Setting {
    /// How to run: the size, the first seed, where details go, and the programs.
    pub fn new(quick: bool, first_seed: u64, out: PathBuf, binaries: Binaries) -> Self {
        Self { quick, first_seed, out, played: OnceCell::new(), binaries }
    }

    /// So many seeds, from the first on. What a constant was tuned on must not be all that it is judged on.
    pub fn seeds(&self, count: u64) -> std::ops::Range<u64> {
        self.first_seed..self.first_seed.saturating_add(count)
    }

    /// What several proofs of one module judge and play only once; empty when first asked for.
    ///
    /// # Errors
    /// Another module has asked before, with a type of its own.
    pub fn played<T: Default + 'static>(&self) -> Result<&T, Trouble> {
        let played = self.played.get_or_init(|| Box::new(T::default()));
        played.downcast_ref().ok_or_else(|| Trouble::Unexpected("two modules keep what they play".to_owned()))
    }

    /// `quick` or `full`, whichever size is run.
    pub fn size<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// The programs under test, built when first asked for.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Runs `work` on a runtime of one thread, as the load generator of a proof wants it.
    ///
    /// # Errors
    /// No runtime can be made; and what `work` fails with.
    pub fn block_on<T>(&self, work: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
    }
}

/// A bound from above on a noisy ratio: the goal at full size, a wider one in quick size, where a run of a few seconds
/// on a busy machine must not cry wolf.
#[derive(Debug, Clone, Copy)]
pub struct RatioBound {
    /// The goal.
    pub full: f64,
    /// What the quick size is judged by.
    pub quick: f64,
}

impl RatioBound {
    /// The goal in words, and whether `ratio` meets it.
    pub fn judge(self, quick: bool, ratio: f64) -> (String, bool) {
        let Self { full, quick: wide } = self;
        if quick {
            (format!("≤{full} (quick: ≤{wide})"), ratio <= wide)
        } else {
            (format!("≤{full}"), ratio <= full)
        }
    }
}

/// The middle value; the mean of the two middle ones. Not a number for none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    if sorted.len() % 2 == 1 { at(middle) } else { f64::midpoint(at(middle.wrapping_sub(1)), at(middle)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert!((median(&[3.0, 1.0, 9.0]) - 3.0).abs() < f64::EPSILON);
        assert!((median(&[3.0, 1.0, 9.0, 5.0]) - 4.0).abs() < f64::EPSILON);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_quick_size_is_judged_by_its_own_bound_and_says_so() {
        let bound = RatioBound { full: 1.25, quick: 2.0 };
        assert_eq!(bound.judge(false, 1.3), ("≤1.25".to_owned(), false));
        assert_eq!(bound.judge(true, 1.3), ("≤1.25 (quick: ≤2)".to_owned(), true));
        assert!(!bound.judge(true, f64::NAN).1, "no figure proves nothing");
    }
}
