//! The one binary, `tidegate`.

use std::process::ExitCode;

fn main() -> ExitCode {
    gateway::cli::run()
}
