//! The programs under test, built by cargo and found where it says that it put them.

use std::cell::{Cell, OnceCell};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Why a program is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Cargo failed; it has said why on standard error.
    #[error("cargo could not build `{0}`")]
    Failed(&'static str),
    /// Cargo went well and named no executable.
    #[error("cargo named no executable for `{0}`")]
    Missing(&'static str),
}

/// The way of building: what a proof says about time and memory holds for one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Quickly built, as `cargo run --release` builds.
    #[default]
    Release,
    /// As shipped: optimised across crates, with the allocator of the images.
    Dist,
}

/// Each program, once it was asked for.
#[derive(Debug, Default)]
pub struct Binaries {
    /// Where they are, if they are not to be built.
    folder: Option<PathBuf>,
    /// What the running proof asks for.
    profile: Cell<Profile>,
    release: Built,
    dist: Built,
}

/// The programs of one profile.
#[derive(Debug, Default)]
struct Built {
    tidegate: OnceCell<PathBuf>,
    counted: OnceCell<PathBuf>,
    bare_pingora: OnceCell<PathBuf>,
}

impl Binaries {
    /// The programs of `folder`; `None`: built when asked for.
    pub fn of(folder: Option<PathBuf>) -> Self {
        Self { folder, ..Self::default() }
    }

    /// Chooses how the programs of the next proof are built.
    pub fn choose(&self, profile: Profile) {
        self.profile.set(profile);
    }

    /// The gateway. Never a stale one: cargo looks each time that `prove` runs.
    ///
    /// # Errors
    /// It does not build.
    pub fn tidegate(&self) -> Result<&Path, BuildError> {
        let package: &[&str] = match self.profile.get() {
            Profile::Release => &["-p", "gateway"],
            Profile::Dist => &["-p", "gateway", "--features", "jemalloc"],
        };
        self.found(&self.built().tidegate, "tidegate", package)
    }

    /// The gateway with an allocator that counts.
    ///
    /// # Errors
    /// It does not build.
    pub fn counted(&self) -> Result<&Path, BuildError> {
        self.found(&self.built().counted, "tidegate-counted", &["-p", "tests", "--features", "counted"])
    }

    /// The proxy that does nothing but proxy.
    ///
    /// # Errors
    /// It does not build.
    pub fn bare_pingora(&self) -> Result<&Path, BuildError> {
        self.found(&self.built().bare_pingora, "bare-pingora", &["-p", "prove", "--features", "bare-pingora"])
    }

    fn built(&self) -> &Built {
        match self.profile.get() {
            Profile::Release => &self.release,
            Profile::Dist => &self.dist,
        }
    }

    fn found<'a>(
        &self,
        cell: &'a OnceCell<PathBuf>,
        name: &'static str,
        package: &[&str],
    ) -> Result<&'a Path, BuildError> {
        if let Some(path) = cell.get() {
            return Ok(path);
        }
        let path = match &self.folder {
            Some(folder) => folder.join(name),
            None => build(name, self.profile.get(), package)?,
        };
        Ok(cell.get_or_init(|| path))
    }
}

fn build(name: &'static str, profile: Profile, package: &[&str]) -> Result<PathBuf, BuildError> {
    let profile = match profile {
        Profile::Release => "release",
        Profile::Dist => "dist",
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["build", "--profile", profile, "--locked", "--message-format=json-render-diagnostics"])
        .args(["--bin", name])
        .args(package)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stderr(Stdio::inherit())
        .output()
        .map_err(|_| BuildError::Failed(name))?;
    if !output.status.success() {
        return Err(BuildError::Failed(name));
    }
    executable(&output.stdout, name).ok_or(BuildError::Missing(name))
}

/// The executable of the binary target `name` in cargo's messages, one JSON object a line.
fn executable(messages: &[u8], name: &str) -> Option<PathBuf> {
    messages.split(|byte| *byte == b'\n').find_map(|line| {
        let message: Value = serde_json::from_slice(line).ok()?;
        let of_target = message.pointer("/target/name")? == name;
        let path = message.get("executable")?.as_str()?;
        of_target.then(|| PathBuf::from(path))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_the_one_of_the_target() {
        let messages = br#"{"reason":"compiler-artifact","target":{"name":"limits"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"tidegate"},"executable":"/t/release/tidegate"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages, "tidegate"), Some(PathBuf::from("/t/release/tidegate")));
        assert_eq!(executable(messages, "limits"), None);
    }
}
