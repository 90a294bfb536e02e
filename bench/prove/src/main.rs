//! `prove`: each claim of the project is a command.
//!
//! ```text
//! prove [IDS…] [--quick] [--list] [--out DIR]
//! ```
//!
//! One line per id: what is claimed, the figure, the goal, `ok` or `short`, and the file with the details. Exit code 0
//! if all goals are met, 1 if one is not, 2 if it was called wrongly.

#[path = "../prove/mod.rs"]
mod prove;

use std::process::ExitCode;

/// Counts the allocations of each thread, so that a proof can say that a path makes none.
#[global_allocator]
static COUNTING: prove::allocations::Counting = prove::allocations::Counting;

fn main() -> ExitCode {
    prove::cli::run()
}
