//! A new process that the running one starts itself, on `SIGUSR2`: the program at the same path, which may be a newer one by
//! now, with the same arguments and `--upgrade`.
//!
//! Under a service manager it is in the same service with the same rights, and becomes its main process once it serves.

use super::UpgradeError;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

/// How the new process is told to take over.
const OPTION: &str = "--upgrade";
/// How long a new process may take until it waits for its listeners: it reads its config, certificates and vocabularies.
const WAITS_WITHIN: Duration = Duration::from_secs(60);
/// How often it is looked whether it does.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What the system appends to the path of a program that was replaced.
const REPLACED: &str = " (deleted)";

/// The program's path, as it was when the process started.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Notes the path of the running program, before it may be replaced.
pub fn note_program() {
    if let Ok(path) = std::env::current_exe() {
        let _ = PROGRAM.set(path);
    }
}

/// A new process of this one's.
#[derive(Debug)]
pub(super) struct Started(Child);

impl Started {
    /// Starts the program at the path of the running one.
    ///
    /// # Errors
    /// It cannot be started, or this process is the container's first: the container would end with it.
    pub(super) fn now() -> Result<Started, UpgradeError> {
        if std::process::id() == 1 {
            return Err(UpgradeError::First);
        }
        let program = PROGRAM.get().cloned().map_or_else(std::env::current_exe, Ok).map(still_there);
        let program = program.map_err(UpgradeError::NotStarted)?;
        let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        if !arguments.iter().any(|argument| argument == OPTION) {
            arguments.push(OPTION.into());
        }
        let child = Command::new(program).args(arguments).stdin(Stdio::null()).spawn();
        child.map(Started).map_err(UpgradeError::NotStarted)
    }

    /// Calls `offer` until the new process waits for it. One that does not come so far is ended.
    ///
    /// # Errors
    /// Those of `offer`, and the new process ended or did not wait in time.
    pub(super) fn offer<T>(
        mut self,
        mut offer: impl FnMut() -> Result<T, UpgradeError>,
    ) -> Result<T, UpgradeError> {
        // Nobody sends: the only way out of the wait is its time.
        let (_keep, pause) = crossbeam::channel::bounded::<()>(0);
        let mut looks = WAITS_WITHIN.as_millis() / LOOK_EVERY.as_millis();
        let failed = loop {
            match offer() {
                Err(UpgradeError::NobodyWaits(_)) if looks > 0 => {}
                Ok(taken) => {
                    self.reap();
                    return Ok(taken);
                }
                Err(e) => break e,
            }
            if let Ok(Some(status)) = self.0.try_wait() {
                return Err(UpgradeError::Ended(status));
            }
            looks -= 1;
            let _ = pause.recv_timeout(LOOK_EVERY);
        };
        let _ = self.0.kill();
        let _ = self.0.wait();
        Err(failed)
    }

    /// Waits for its end, on a thread: it usually outlives this process, and else leaves no trace.
    fn reap(mut self) {
        let _ = std::thread::Builder::new().name("upgrade".to_owned()).spawn(move || self.0.wait());
    }
}

/// The path of a program, also where the one that runs was replaced.
fn still_there(path: PathBuf) -> PathBuf {
    match path.to_str().and_then(|text| text.strip_suffix(REPLACED)) {
        Some(text) => text.into(),
        None => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_replaced_is_found_at_its_path() {
        assert_eq!(still_there("/usr/bin/tidegate (deleted)".into()), PathBuf::from("/usr/bin/tidegate"));
        assert_eq!(still_there("/usr/bin/tidegate".into()), PathBuf::from("/usr/bin/tidegate"));
    }
}
