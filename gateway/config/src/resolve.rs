//! What all sections need on the way from the checked file to types that cannot be wrong.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use tokenizer::Counter;

use crate::keys::Digest;
use crate::tokenizer_file::{self, TOKENIZER_BYTES_MAX};
use crate::yaml::faults::{At, Report};
use crate::yaml::tree::{Kind, Node};

/// Longest secret in a file, bytes.
const SECRET_BYTES_MAX: usize = 8 * 1024;

/// A secret read from a file. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The secret itself: visible ASCII without spaces at its ends, never empty.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What is read of a file that the config names, bytes: a certificate chain has some thousands, and a device
/// that never ends must not be waited for.
const NAMED_FILE_BYTES_MAX: usize = 1 << 20;

/// Reads a file that the config names, and at most so many bytes of it.
pub(crate) type ReadFile<'e> = &'e dyn Fn(&Path, usize) -> std::io::Result<Vec<u8>>;

/// The file being resolved, what surrounds it, and the faults found so far.
pub(crate) struct Resolver<'e> {
    pub(crate) file: &'e Node,
    pub(crate) report: Report,
    /// The folder that relative paths start from: that of the config file.
    pub(crate) folder: PathBuf,
    pub(crate) env: &'e dyn Fn(&str) -> Option<String>,
    /// Absent where only the text is judged: then named files are neither read nor missed.
    pub(crate) read_file: Option<ReadFile<'e>>,
}

impl Resolver<'_> {
    /// Notes a fault.
    pub(crate) fn fault(&mut self, at: &At<'_>, message: impl Into<String>) {
        self.report.at(self.file, at, message);
    }

    /// Notes what is allowed and was probably not meant, where it stands in the file.
    pub(crate) fn hint(&mut self, at: &At<'_>, message: impl Into<String>) {
        if let Some(node) = at.find(self.file) {
            self.report.hint(node.place, at, message.into());
        }
    }

    /// Notes a fault whose message is costly to find: beyond the bound nothing is looked for.
    pub(crate) fn fault_with(&mut self, at: &At<'_>, message: impl FnOnce() -> String) {
        let message = if self.report.is_full() { String::new() } else { message() };
        self.fault(at, message);
    }

    /// Whether a value stands at this path, though it may have been left out as faulty.
    pub(crate) fn is_faulty(&self, at: &At<'_>) -> bool {
        at.find(self.file).is_some_and(|node| !matches!(node.kind, Kind::Empty))
    }

    /// A variable of the environment.
    pub(crate) fn env(&self, name: &str) -> Option<String> {
        (self.env)(name)
    }

    /// A path, relative ones starting at the config file's folder.
    pub(crate) fn path(&self, text: &str) -> PathBuf {
        self.folder.join(text)
    }

    /// An IP address with a port. A stand-in on loopback where it is none.
    pub(crate) fn address(&mut self, at: &At<'_>, text: &str) -> SocketAddr {
        text.parse().unwrap_or_else(|_| {
            let hint = match text.rsplit_once(':') {
                Some(("", port)) => {
                    format!("; for all addresses write \"0.0.0.0:{port}\" or \"[::]:{port}\"")
                }
                Some(("localhost", port)) => format!("; write \"127.0.0.1:{port}\""),
                _ => String::new(),
            };
            self.fault(at, format!("must be an IP address and a port such as \"127.0.0.1:8080\"{hint}"));
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)
        })
    }

    /// A digest of a key or token.
    pub(crate) fn digest(&mut self, at: &At<'_>, text: &str) -> Option<Digest> {
        Digest::parse(text).map_err(|error| self.fault(at, error.to_string())).ok()
    }

    /// Whether a name is made of the allowed characters; an empty one was reported already.
    pub(crate) fn name(&mut self, at: &At<'_>, name: &str, also: &str) {
        let odd = name.chars().find(|c| !c.is_ascii_alphanumeric() && !also.contains(*c));
        if let Some(odd) = odd {
            let shown: String = also.chars().flat_map(|c| [' ', c]).collect();
            let odd = odd.escape_debug();
            self.fault(at, format!("may have letters, digits and{shown} only, has '{odd}'"));
        } else if name == "other" {
            self.fault(at, "is kept for what has no name of its own in the metrics; choose another");
        }
    }

    /// What a named file holds; nothing where files are not read, and nothing with a fault where it cannot be.
    pub(crate) fn bytes(&mut self, at: &At<'_>, path: &Path) -> Option<Vec<u8>> {
        let read = self.read_file?(path, NAMED_FILE_BYTES_MAX);
        read.map_err(|error| self.fault(at, format!("{} cannot be read: {error}", path.display()))).ok()
    }

    /// The secret in a file.
    pub(crate) fn secret(&mut self, at: &At<'_>, path: &Path) -> Option<Secret> {
        let bytes = self.bytes(at, path)?;
        let text = String::from_utf8_lossy(&bytes);
        let secret = text.trim_end_matches(['\n', '\r']);
        if secret.is_empty() {
            self.fault(at, format!("{} is empty; put the secret into it", path.display()));
            return None;
        }
        if secret.len() > SECRET_BYTES_MAX || !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            let fault = format!("{} must hold one line of visible ASCII without spaces", path.display());
            self.fault(at, fault);
            return None;
        }
        Some(Secret(secret.to_owned()))
    }

    /// The counter of a `tokenizer.json`, or why there is none; nothing where files are not read. Takes one to
    /// two seconds for a large vocabulary.
    pub(crate) fn counter(&self, path: &Path) -> Option<Result<Counter, String>> {
        // One byte more than allowed, so that a file that is too large is noticed.
        let bytes = self.read_file?(path, TOKENIZER_BYTES_MAX + 1);
        let counter =
            bytes.map_err(|error| format!("{} cannot be read: {error}", path.display())).and_then(|bytes| {
                let hint = "leave `tokenizer_file` out, and tokens are estimated and learnt";
                tokenizer_file::read(&bytes).map_err(|why| format!("{} {why}; {hint}", path.display()))
            });
        Some(counter)
    }

    /// Notes a fault where a named file cannot be read.
    pub(crate) fn must_be_readable(&mut self, at: &At<'_>, path: &Path) {
        if let Some(Err(error)) = self.read_file.map(|read| read(path, NAMED_FILE_BYTES_MAX)) {
            self.fault(at, format!("{} cannot be read: {error}", path.display()));
        }
    }
}
