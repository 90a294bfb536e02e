//! `tidegate demo`, and what happens without a command.

use super::failed;
use crate::demo::{self, DemoArgs};
use std::process::ExitCode;

pub(super) fn run(args: &DemoArgs) -> ExitCode {
    match demo::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => failed(&format!("the demo could not start: {e}")),
    }
}
