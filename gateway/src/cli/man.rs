//! `tidegate man`: manual pages, one for the program and one for each command, from the same definition as `--help`.

use super::{failed, say};
use clap::Command;
use std::path::Path;
use std::process::ExitCode;

/// Writes them into `folder`.
pub(super) fn run(command: Command, folder: &Path) -> ExitCode {
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(command, folder));
    match written {
        Ok(()) => {
            say(&format!("manual pages in {}", folder.display()));
            ExitCode::SUCCESS
        }
        Err(e) => failed(&format!("the manual pages cannot be written to {}: {e}", folder.display())),
    }
}
