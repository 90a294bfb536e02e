//! A child process: its output in a file, told to end when it is dropped; and the one starter of `tidegate serve`.
//!
//! Tests and proofs start a gateway the same way: free ports or port 0 in its config, its output in a file, ready as
//! soon as it has printed where it listens and takes a connection.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use engine::clock;

/// How long a program may take to be ready.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// How long a program may take to end before it is killed.
const END_PATIENCE: Duration = Duration::from_secs(3);
/// How often it is looked whether something has happened.
const POLL: Duration = Duration::from_millis(10);

/// The reason why a program does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The operating system did not start it, or its output cannot be read.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// It ended or took too long; with what it printed.
    #[error("a program did not start: {0}")]
    NotReady(String),
}

/// A running program. Dropping it ends it.
#[derive(Debug)]
pub struct Program {
    child: Child,
    log: PathBuf,
}

impl Program {
    /// Starts `executable`, both outputs into `log`.
    ///
    /// # Errors
    /// It cannot be started, or the log cannot be written.
    pub fn start<'a>(
        executable: &Path,
        arguments: impl IntoIterator<Item = &'a str>,
        log: &Path,
    ) -> io::Result<Self> {
        let file = File::create(log)?;
        let child = Command::new(executable)
            .args(arguments)
            .env_remove("RUST_LOG")
            .env_remove("STATE_DIRECTORY")
            // Large blocks go back to the system as soon as they are free, as with the allocator of what is shipped: what
            // is resident is what is held, not what the C library keeps for the next time.
            .env("MALLOC_MMAP_THRESHOLD_", "1048576")
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        Ok(Self { child, log: log.to_path_buf() })
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    ///
    /// # Errors
    /// The file is gone.
    pub fn output(&self) -> io::Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.log)?).into_owned())
    }

    /// Waits until `ready` finds what it looks for in the output.
    ///
    /// # Errors
    /// It ended, or took too long.
    pub async fn printed<T>(&mut self, ready: impl Fn(&str) -> Option<T>) -> Result<T, StartError> {
        let end = clock::now() + START_PATIENCE;
        loop {
            let output = self.output()?;
            if let Some(found) = ready(&output) {
                return Ok(found);
            }
            if self.child.try_wait()?.is_some() || clock::now() > end {
                return Err(StartError::NotReady(output.trim().to_owned()));
            }
            // Polls the output of another process.
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until something listens at `address`.
    ///
    /// # Errors
    /// It ended, or took too long.
    pub async fn listens(&mut self, address: SocketAddr) -> Result<(), StartError> {
        let end = clock::now() + START_PATIENCE;
        while tokio::net::TcpStream::connect(address).await.is_err() {
            if self.child.try_wait()?.is_some() || clock::now() > end {
                return Err(StartError::NotReady(self.output()?.trim().to_owned()));
            }
            // Polls the port of another process.
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Whether it has not ended.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn is_running(&mut self) -> io::Result<bool> {
        Ok(self.exit()?.is_none())
    }

    /// The exit status; `None` while it runs.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn exit(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Ends it at once, with SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // An id that was waited for may be another's by now.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
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

/// A process of `tidegate serve` that takes connections.
#[derive(Debug)]
pub struct Serving {
    /// The process.
    pub program: Program,
    /// Where customers connect.
    pub address: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
}

impl Serving {
    /// Starts the gateway `executable` on the config file `config`, its output into `log`, and waits until it serves.
    ///
    /// # Errors
    /// It refuses the config, cannot be started, or took too long.
    pub async fn start(executable: &Path, config: &Path, log: &Path) -> Result<Self, StartError> {
        let mut program = serve(executable, config, &[], log)?;
        let (address, admin) = program
            .printed(|output| Some((listed(output, "listening on ")?, listed(output, "admin on ")?)))
            .await?;
        program.listens(address).await?;
        Ok(Self { program, address, admin })
    }
}

/// Starts `tidegate serve` on a config file, with more `arguments`, and waits for nothing.
///
/// # Errors
/// As [`Program::start`].
pub fn serve(executable: &Path, config: &Path, arguments: &[&str], log: &Path) -> io::Result<Program> {
    let first = ["serve", "--config", config.to_str().unwrap_or_default()];
    Program::start(executable, first.into_iter().chain(arguments.iter().copied()), log)
}

/// The address of the URL in the line of `output` that begins with `before`.
fn listed(output: &str, before: &str) -> Option<SocketAddr> {
    // The last line may be written in part only.
    let (whole, _) = output.rsplit_once('\n')?;
    whole.lines().find_map(|line| line.strip_prefix(before)?.split_once("://")?.1.trim().parse().ok())
}

/// An address of loopback that is free now.
///
/// # Errors
/// There is none.
pub fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// Two of them. Both are held until both are known, or the second could be the first again.
///
/// # Errors
/// There are none.
pub fn two_free_addresses() -> io::Result<(SocketAddr, SocketAddr)> {
    let [one, other] = [0, 0].map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
    let (one, other) = (one?, other?);
    Ok((one.local_addr()?, other.local_addr()?))
}
