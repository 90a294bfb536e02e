//! The program under test: the shipped `main`, built for the tests so that they never judge a stale binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    gateway::cli::run()
}
