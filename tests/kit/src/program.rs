//! A started program: its output in a file, told to end when it is dropped.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::proof::Trouble;
use engine::clock;

/// How long a program may take to be ready.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// How long a program may take to end before it is killed.
const END_PATIENCE: Duration = Duration::from_secs(3);
/// How often it is looked whether something has happened.
const POLL: Duration = Duration::from_millis(10);

/// A running program. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `executable`, both outputs into `log`.
    ///
    /// # Errors
    /// It cannot be started, or the log cannot be written.
    pub(crate) fn start<'a>(
        executable: &Path,
        arguments: impl IntoIterator<Item = &'a str>,
        log: &Path,
    ) -> Result<Self, Trouble> {
        let file = File::create(log)?;
        let child = Command::new(executable)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        Ok(Self { child, log: log.to_path_buf() })
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    ///
    /// # Errors
    /// The file is gone.
    pub(crate) fn output(&self) -> io::Result<String> {
        std::fs::read_to_string(&self.log)
    }

    /// Waits until `ready` finds what it looks for in the output.
    ///
    /// # Errors
    /// It ended, or took too long.
    pub(crate) async fn printed<T>(&mut self, ready: impl Fn(&str) -> Option<T>) -> Result<T, Trouble> {
        let end = clock::now() + START_PATIENCE;
        loop {
            let output = self.output()?;
            if let Some(found) = ready(&output) {
                return Ok(found);
            }
            if self.child.try_wait()?.is_some() || clock::now() > end {
                return Err(Trouble::Unexpected(format!("a program did not start: {}", output.trim())));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until something listens at `address`.
    ///
    /// # Errors
    /// It ended, or took too long.
    pub(crate) async fn listens(&mut self, address: SocketAddr) -> Result<(), Trouble> {
        let end = clock::now() + START_PATIENCE;
        while tokio::net::TcpStream::connect(address).await.is_err() {
            if self.child.try_wait()?.is_some() || clock::now() > end {
                return Err(Trouble::Unexpected(format!(
                    "a program did not start: {}",
                    self.output()?.trim()
                )));
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Whether it has not ended.
    ///
    /// # Errors
    /// The operating system does not say.
    pub(crate) fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT);
        let end = clock::now() + END_PATIENCE;
        while clock::now() < end {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::park_timeout(POLL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address of loopback that is free now.
///
/// # Errors
/// There is none.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Two of them. Both are held until both are known, or the second could be the first again.
///
/// # Errors
/// There are none.
pub(crate) fn two_free_addresses() -> io::Result<(SocketAddr, SocketAddr)> {
    let [one, other] = [0, 0].map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
    let (one, other) = (one?, other?);
    Ok((one.local_addr()?, other.local_addr()?))
}
