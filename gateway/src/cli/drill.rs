//! `tidegate drill`: plays a capacity drill. Exit code 0: passed, 1: failed, 2: called wrongly or a wrong scenario.

use super::{USAGE, failed};
use ::drill::command::{DrillArguments, command};
use std::process::ExitCode;

pub(super) fn run(arguments: &DrillArguments) -> ExitCode {
    match command(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let code = failed(&error.to_string());
            if error.is_usage() { ExitCode::from(USAGE) } else { code }
        }
    }
}
