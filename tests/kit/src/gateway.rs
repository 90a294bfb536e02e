//! The process under test, from its config to its end.
//!
//! It is ended by its process id when the value is dropped, also when a test panics; then the end of what it
//! said is printed too.

use super::client::{self, Answer, Held};
use super::config::KEY;
use super::wait::{PATIENCE, eventually};
use serde_json::Value;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Gateways at once: tests of end-to-end behaviour must not measure how crowded the machine is.
static PLACES: Semaphore = Semaphore::const_new(3);

/// Another process can take a port between our choice and our bind.
const STARTS_MAX: u32 = 3;

/// Bytes of its last words that are shown.
const LAST_WORDS: usize = 4 << 10;

/// A running gateway.
pub(crate) struct Gateway {
    /// Where customers connect.
    pub(crate) address: SocketAddr,
    /// Where operators connect.
    pub(crate) admin: SocketAddr,
    child: Child,
    folder: Arc<Folder>,
    /// Before the names of the files with what it said.
    nth: &'static str,
    _place: Option<SemaphorePermit<'static>>,
}

/// A folder that is gone with its value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("e2e-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn text(&self, file: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.0.join(file)).unwrap_or_default()).into_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Gateway {
    /// Starts a gateway and waits until it serves.
    pub(crate) async fn start(config: &Value) -> Gateway {
        let place = PLACES.acquire().await.unwrap();
        let mut starts = 1;
        loop {
            match launch(config).await {
                Ok((child, folder, address, admin)) => {
                    let (folder, place) = (Arc::new(folder), Some(place));
                    return Gateway { address, admin, child, folder, nth: "", _place: place };
                }
                Err(said) => assert!(starts < STARTS_MAX, "the gateway did not start:\n{said}"),
            }
            starts += 1;
        }
    }

    /// Starts a process that is to take this one's place, on the same folder, and waits until it waits for it. `None`: it
    /// ended before.
    pub(crate) async fn successor(&self) -> Option<Gateway> {
        let mut child = start(&self.folder, "next-", &["--upgrade"]);
        let folder = Arc::clone(&self.folder);
        let said = || folder.text("next-stdout");
        eventually("the successor waits or ends", || {
            let over = said().contains("waiting at ") || child.try_wait().unwrap().is_some();
            async move { over.then_some(()) }
        })
        .await;
        let (address, admin) = (self.address, self.admin);
        let waits = child.try_wait().unwrap().is_none();
        let next = Gateway { address, admin, child, folder, nth: "next-", _place: None };
        waits.then_some(next)
    }

    /// Where its state is.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.0.join("state")
    }

    /// A page of the admin listener.
    pub(crate) async fn admin(&self, path: &str) -> Answer {
        client::send(self.admin, client::get(path, None)).await
    }

    /// Sends a chat request with the key of `acme` on a connection of its own and reads the whole answer.
    pub(crate) async fn chat(&self, body: &Value) -> Answer {
        self.chat_as(KEY, body).await
    }

    /// The same with another key.
    pub(crate) async fn chat_as(&self, key: &str, body: &Value) -> Answer {
        client::send(self.address, client::post(body, Some(key))).await
    }

    /// Takes a place as `acme`, regular, until what is returned is dropped.
    pub(crate) async fn hold(&self) -> Held {
        client::hold(self.address, KEY, client::ask(serde_json::json!({}))).await
    }

    /// Waits until nothing runs, then asserts that every counter that must be zero is.
    pub(crate) async fn invariants(&self) {
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
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    /// One of the counters of the invariants.
    pub(crate) async fn counter(&self, name: &str) -> u64 {
        let page = self.admin("/api/v1/invariants").await.json();
        page["counters"][name].as_u64().unwrap_or_else(|| panic!("no counter {name} in {page}"))
    }

    /// Waits until one of the counters has a value.
    pub(crate) async fn counter_becomes(&self, name: &str, value: u64) {
        eventually(name, || async { (self.counter(name).await == value).then_some(()) }).await;
    }

    /// Replaces its config file, as an operator's editor does: whole, by a rename.
    pub(crate) fn write_config(&self, config: &Value) {
        let mut config = config.clone();
        place(&mut config, &self.folder);
        let next = self.file("config.next", &config.to_string());
        fs::rename(next, self.folder.0.join("config.yaml")).unwrap();
    }

    /// Writes a file into its folder; where it is.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        let path = self.folder.0.join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Open descriptors of the process.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Bytes that the process has read from anywhere, sockets included.
    pub(crate) fn bytes_read(&self) -> u64 {
        let io = fs::read_to_string(format!("/proc/{}/io", self.child.id())).unwrap();
        io.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
    }

    /// The access log as written.
    pub(crate) fn log_text(&self) -> String {
        self.folder.text("access.log")
    }

    /// The access log, once it has at least `lines` lines.
    pub(crate) async fn log(&self, lines: usize) -> Vec<Value> {
        eventually("lines of the access log", || async {
            let text = self.log_text();
            let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
            let read: Vec<Value> = whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            (read.len() >= lines).then_some(read)
        })
        .await
    }

    /// Everything else that the process said.
    pub(crate) fn said(&self) -> String {
        let [out, err] = ["stdout", "stderr"].map(|name| self.folder.text(&format!("{}{name}", self.nth)));
        out + &err
    }

    /// Sends it a signal by name, as `kill -NAME` does.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").arg(format!("-{name}")).arg(id).status().unwrap();
        assert!(sent.success(), "kill -{name}");
    }

    /// Whether it has ended, and how.
    pub(crate) fn exit(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let said = self.said();
            let from = said.char_indices().map(|(at, _)| at).find(|at| said.len() - at <= LAST_WORDS);
            println!("--- the gateway said:\n{}", &said[from.unwrap_or(0)..]);
        }
    }
}

async fn launch(config: &Value) -> Result<(Child, Folder, SocketAddr, SocketAddr), String> {
    let folder = Folder::new();
    let mut config = config.clone();
    place(&mut config, &folder);
    fs::write(folder.0.join("config.yaml"), serde_json::to_vec_pretty(&config).unwrap()).unwrap();
    let mut child = start(&folder, "", &[]);
    let end = engine::clock::now() + PATIENCE;
    loop {
        let said = folder.text("stdout");
        let ended = child.try_wait().unwrap().is_some();
        if let (Some(address), Some(admin), false) =
            (told(&said, "listening on "), told(&said, "admin on "), ended)
            && tokio::net::TcpStream::connect(address).await.is_ok()
        {
            return Ok((child, folder, address, admin));
        }
        if ended || engine::clock::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            return Err(said + &folder.text("stderr"));
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Puts into the folder what is to be written there: the log, and the state where the config has one without a place.
fn place(config: &mut Value, folder: &Folder) {
    config["log"]["access"] = folder.0.join("access.log").to_str().unwrap().into();
    if config.get("state").is_some_and(|state| state.get("dir").is_none()) {
        config["state"]["dir"] = folder.0.join("state").to_str().unwrap().into();
    }
}

/// Starts the program on the folder's config.
fn start(folder: &Folder, nth: &str, more: &[&str]) -> Child {
    let output = |name: &str| Stdio::from(File::create(folder.0.join(format!("{nth}{name}"))).unwrap());
    Command::new(env!("CARGO_BIN_EXE_tidegate-under-test"))
        .args(["serve", "--config"])
        .arg(folder.0.join("config.yaml"))
        .args(more)
        .env_remove("RUST_LOG")
        .env_remove("STATE_DIRECTORY")
        .stdin(Stdio::null())
        .stdout(output("stdout"))
        .stderr(output("stderr"))
        .spawn()
        .unwrap()
}

fn told(said: &str, before: &str) -> Option<SocketAddr> {
    said.lines().find_map(|line| line.strip_prefix(before)?.split_once("://")?.1.parse().ok())
}
