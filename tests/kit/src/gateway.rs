//! The gateway of a test, from its config to its end.
//!
//! It is ended by its process id when the value is dropped, also when a test panics; then the end of what it
//! said is printed too.

use super::base_config::KEY;
use super::client::{self, Answer, Held};
use super::folder::Folder;
use super::process;
use super::program::{Program, Serving, StartError, serve};
use super::wait::{PATIENCE, eventually};
use serde_json::Value;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Gateways at once: tests of end-to-end behaviour must not measure how crowded the machine is.
static PLACES: Semaphore = Semaphore::const_new(3);

/// Another process can take a port between our choice and our bind.
const STARTS_MAX: u32 = 3;

/// Bytes of its last words that are shown.
const LAST_WORDS: usize = 4 << 10;

/// A running gateway.
pub struct Gateway {
    /// Where customers connect.
    pub address: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
    /// The executable, for a successor.
    executable: PathBuf,
    program: Program,
    folder: Arc<Folder>,
    _place: Option<SemaphorePermit<'static>>,
}

impl Gateway {
    /// Starts the gateway `executable` and waits until it serves.
    pub async fn start(executable: impl AsRef<Path>, config: &Value) -> Gateway {
        let executable = executable.as_ref().to_path_buf();
        let place = PLACES.acquire().await.unwrap();
        let mut starts = 1;
        loop {
            let folder = Arc::new(Folder::new());
            match launch(&executable, config, &folder).await {
                Ok(Serving { program, address, admin }) => {
                    return Gateway { address, admin, executable, program, folder, _place: Some(place) };
                }
                Err(error) => assert!(starts < STARTS_MAX, "the gateway did not start:\n{error}"),
            }
            starts += 1;
        }
    }

    /// Starts a process that is to take this one's place, on the same folder, and waits until it waits for it. `None`: it
    /// ended before.
    pub async fn successor(&self) -> Option<Gateway> {
        let folder = Arc::clone(&self.folder);
        let executable = self.executable.clone();
        let config = folder.path().join("config.yaml");
        let mut program =
            serve(&executable, &config, &["--upgrade"], &folder.path().join("next-output")).unwrap();
        eventually("the successor waits or ends", || {
            let over = program.output().unwrap().contains("waiting at ") || !program.is_running().unwrap();
            async move { over.then_some(()) }
        })
        .await;
        let waits = program.is_running().unwrap();
        let (address, admin) = (self.address, self.admin);
        let next = Gateway { address, admin, executable, program, folder, _place: None };
        waits.then_some(next)
    }

    /// Where its state is.
    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    /// A page of the admin listener.
    pub async fn admin(&self, path: &str) -> Answer {
        client::send(self.admin, client::get(path, None)).await
    }

    /// Sends a chat request with the key of `acme` on a connection of its own and reads the whole answer.
    pub async fn chat(&self, body: &Value) -> Answer {
        self.chat_as(KEY, body).await
    }

    /// The same with another key.
    pub async fn chat_as(&self, key: &str, body: &Value) -> Answer {
        client::send(self.address, client::post(body, Some(key))).await
    }

    /// Takes a place as `acme`, regular, until what is returned is dropped.
    pub async fn hold(&self) -> Held {
        client::hold(self.address, KEY, client::ask(serde_json::json!({}))).await
    }

    /// Waits until nothing runs, then asserts that every counter that must be zero is.
    pub async fn invariants(&self) {
        let end = engine::clock::now() + PATIENCE;
        loop {
            let page = self.admin("/api/v1/invariants").await.json();
            let counters = page["counters"].as_object().unwrap().clone();
            let open: Vec<_> = counters.iter().filter(|(_, value)| **value != 0).collect();
            assert!(counters.len() >= 10, "these are not the counters: {page}");
            if open.is_empty() {
                assert_eq!(page["at_rest"], true, "{page}");
                return;
            }
            assert!(engine::clock::now() < end, "not zero at rest: {open:?}");
            // Polls the page of another process.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// One of the counters of the invariants.
    pub async fn counter(&self, name: &str) -> u64 {
        let page = self.admin("/api/v1/invariants").await.json();
        page["counters"][name].as_u64().unwrap_or_else(|| panic!("no counter {name} in {page}"))
    }

    /// Waits until one of the counters has a value.
    pub async fn counter_becomes(&self, name: &str, value: u64) {
        eventually(name, || async { (self.counter(name).await == value).then_some(()) }).await;
    }

    /// Replaces its config file, as an operator's editor does: whole, by a rename.
    pub fn write_config(&self, config: &Value) {
        let mut config = config.clone();
        place(&mut config, &self.folder);
        let next = self.file("config.next", &config.to_string());
        fs::rename(next, self.folder.path().join("config.yaml")).unwrap();
    }

    /// Writes a file into its folder; where it is.
    pub fn file(&self, name: &str, content: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.program.pid()
    }

    /// Open descriptors of the process.
    pub fn descriptors(&self) -> usize {
        process::descriptors(self.program.pid()).unwrap()
    }

    /// Bytes that the process has read from anywhere, sockets included.
    pub fn bytes_read(&self) -> u64 {
        process::bytes_read(self.program.pid()).unwrap()
    }

    /// The access log as written.
    pub fn log_text(&self) -> String {
        self.folder.text("access.log")
    }

    /// The access log, once it has at least `lines` lines.
    pub async fn log(&self, lines: usize) -> Vec<Value> {
        eventually("lines of the access log", || async {
            let text = self.log_text();
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let read: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            (read.len() >= lines).then_some(read)
        })
        .await
    }

    /// Everything else that the process said.
    pub fn said(&self) -> String {
        self.program.output().unwrap_or_default()
    }

    /// Sends it a signal by name, as `kill -NAME` does.
    pub fn signal(&self, name: &str) {
        let id = self.program.pid().to_string();
        let sent = Command::new("kill").arg(format!("-{name}")).arg(id).status().unwrap();
        assert!(sent.success(), "kill -{name}");
    }

    /// Whether it has ended, and how.
    pub fn exit(&mut self) -> Option<ExitStatus> {
        self.program.exit().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.program.kill();
        if std::thread::panicking() {
            let said = self.said();
            let from = said.char_indices().map(|(at, _)| at).find(|at| said.len() - at <= LAST_WORDS);
            println!("--- the gateway said:\n{}", &said[from.unwrap_or(0)..]);
        }
    }
}

/// Writes the config into `folder` and starts the program on it.
async fn launch(executable: &Path, config: &Value, folder: &Folder) -> Result<Serving, StartError> {
    let mut config = config.clone();
    place(&mut config, folder);
    let file = folder.path().join("config.yaml");
    fs::write(&file, serde_json::to_vec_pretty(&config).unwrap())?;
    Serving::start(executable, &file, &folder.path().join("output")).await
}

/// Puts into the folder what is to be written there: the log, and the state where the config has one without a place.
fn place(config: &mut Value, folder: &Folder) {
    config["log"]["access"] = folder.path().join("access.log").to_str().unwrap().into();
    if config.get("state").is_some_and(|state| state.get("dir").is_none()) {
        config["state"]["dir"] = folder.path().join("state").to_str().unwrap().into();
    }
}
