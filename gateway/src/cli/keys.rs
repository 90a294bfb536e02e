//! `tidegate keys new`.

use super::{failed, say};
use clap::Subcommand;
use config::keys::NewKey;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Make a key: printed once, with the hash that goes into the config.
    New,
}

pub(super) fn run(command: &KeysCommand) -> ExitCode {
    match command {
        KeysCommand::New => match NewKey::from_os() {
            Ok(key) => {
                say(&format!("key:  {}", key.key));
                say(&format!("hash: {}", key.digest));
                say("");
                say("Give the key to the customer; it is not stored and cannot be shown again.");
                say("Put the hash into the config, at accounts[].keys.");
                ExitCode::SUCCESS
            }
            Err(e) => failed(&format!("the operating system gave no randomness: {e}")),
        },
    }
}
