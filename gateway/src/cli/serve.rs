//! `tidegate serve`.

use super::{check, failed, say};
use crate::config::Config;
use crate::{logging, serve};
use std::path::Path;
use std::process::ExitCode;

pub(super) fn run(path: &Path) -> ExitCode {
    let config = match Config::load(path) {
        Ok(config) => config,
        Err(faults) => return check::refuse(&faults),
    };
    logging::start(&config.log);
    match serve::prepare(config) {
        Ok(prepared) => {
            let scheme = if prepared.tls { "https" } else { "http" };
            say(&format!("listening on {scheme}://{}", prepared.address));
            say(&format!("admin on http://{}", prepared.admin_address));
            if let Err(e) = prepared.follow(path) {
                return failed(&e.to_string());
            }
            prepared.run();
            ExitCode::SUCCESS
        }
        Err(e) => failed(&e.to_string()),
    }
}
