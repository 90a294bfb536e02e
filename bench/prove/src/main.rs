//! `prove`: each claim of the project is a command.
//!
//! ```text
//! prove [IDS…] [--quick] [--list] [--out DIR]
//! ```
//!
//! One line per id: what is claimed, the figure, the goal, `ok` or `short`, and the file with the details. Exit code 0
//! if all goals are met, 1 if one is not, 2 if it was called wrongly.
//!
//! One file per claim, one table of all. A proof of cost runs both sides in turn in one run and compares medians, because
//! machines are small and noisy: ratios are judged, absolute times are reported. A proof of truth counts, and a count is
//! judged exactly. Where a claim is about the program, the program that is shipped is built and started; where it is
//! about a policy, the crate that is shipped is called.
//!
//! To add one: a file with a `const PROOF: Proof`, and its line in [`registry::proofs`], here or in the crate `truth`.

mod cli;
mod known;
mod registry;

// So that each claim finds it beside itself.
use ::harness;

mod blame;
mod budgets;
mod cost;
mod drills;
mod operation;
mod overload;
mod real;
mod weights;

use std::process::ExitCode;

/// Counts the allocations of each thread, so that a proof can say that a path makes none.
#[global_allocator]
static COUNTING: harness::allocations::Counting = harness::allocations::Counting;

fn main() -> ExitCode {
    cli::run()
}
