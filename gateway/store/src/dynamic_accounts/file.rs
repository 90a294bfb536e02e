//! The file of the accounts made at run time: a line of JSON for each change, and the last line of an id counts.
//!
//! ```text
//! {"v":1,"id":"acme","account":{"keys":["sha256:…"],"tiers":["priority"]},"ends":{"sha256:…":1790000000000}}
//! {"v":1,"id":"bolt"}                                          removed
//! ```
//!
//! A line is on the disk before the change is acknowledged. A last line without its end is a change that nobody was
//! told of, and is dropped. Any other line that cannot be read is damage: a line may have taken a right away, so
//! nothing is guessed about what it said; the file stays as it is for whoever repairs it, and no account in it is in
//! force. Written anew at the start, and when most of its lines are old.

use crate::private;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read as _, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What lines say of themselves; a later version may add fields, and then counts up.
const VERSION: u32 = 1;
/// Largest file that is read: the most accounts with some 1,000 bytes each, twenty times over.
const FILE_BYTES_MAX: u64 = 2 << 30;
/// Old lines that are kept beside each line that counts before the file is written anew.
const OLD_LINES_SHARE: usize = 4;
/// A file with fewer lines is not worth it.
const REWRITE_LINES_MIN: usize = 4096;

/// One account after a change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    v: u32,
    /// The account's id.
    pub(super) id: String,
    /// What `accounts[]` of a config would say, without the id; `None`: it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) account: Option<Map<String, Value>>,
    /// Keys that end, with the wall time in ms since the epoch.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) ends: BTreeMap<String, u64>,
}

impl Line {
    pub(super) fn new(id: &str, account: Option<Map<String, Value>>) -> Line {
        Line { v: VERSION, id: id.to_owned(), account, ends: BTreeMap::new() }
    }

    fn written(&self) -> io::Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self).map_err(io::Error::other)?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// The open file.
#[derive(Debug)]
pub(super) struct RosterFile {
    path: PathBuf,
    file: File,
    /// Where the last whole line ends.
    end: u64,
    lines: usize,
    /// A line was written by half and could not be taken back: whatever followed it would be damage.
    torn: bool,
}

/// A file that was read.
#[derive(Debug)]
pub(super) struct Opened {
    /// Open for changes.
    pub(super) file: RosterFile,
    /// By id, removed ones left out.
    pub(super) lines: BTreeMap<String, Line>,
    /// Whether a last line was dropped.
    pub(super) torn: bool,
}

impl RosterFile {
    /// Opens or makes the file, and leaves one line for each account in it.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence. Nothing was changed then.
    pub(super) fn open(path: &Path) -> Result<Opened, String> {
        let (lines, count, torn) = read(path)?;
        let next = if count == lines.len() && !torn && path.exists() {
            let file = private::open(path, OpenOptions::new().append(true));
            file.and_then(|file| {
                let end = file.metadata()?.len();
                Ok(RosterFile { path: path.to_owned(), file, end, lines: count, torn: false })
            })
        } else {
            write_anew(path, lines.values())
        };
        let file = next.map_err(|e| format!("{} cannot be written: {e}", path.display()))?;
        Ok(Opened { file, lines, torn })
    }

    /// Opens it again where another process has put one in its place, as a new process does before an upgrade fails.
    /// `false`: that one has not the lines that `are_known`.
    ///
    /// # Errors
    /// What is wrong with the other file, in a sentence.
    pub(super) fn follow(
        &mut self,
        are_known: impl FnOnce(&BTreeMap<String, Line>) -> bool,
    ) -> Result<bool, String> {
        let name = |file: io::Result<fs::Metadata>| file.map(|file| (file.dev(), file.ino())).ok();
        if name(self.file.metadata()) == name(fs::metadata(&self.path)) {
            return Ok(true);
        }
        let opened = RosterFile::open(&self.path)?;
        if !are_known(&opened.lines) {
            return Ok(false);
        }
        *self = opened.file;
        Ok(true)
    }

    /// Writes a line down: on the disk when this returns.
    ///
    /// # Errors
    /// What the operating system says. The file is as it was before, or takes no line any more.
    pub(super) fn append(&mut self, line: &Line) -> io::Result<()> {
        if self.torn {
            let message =
                "an earlier change was written by half and could not be taken back; restart tidegate";
            return Err(io::Error::other(message));
        }
        let bytes = line.written()?;
        let written = self.file.write_all(&bytes).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.end += bytes.len() as u64;
                self.lines += 1;
                Ok(())
            }
            Err(e) => {
                self.torn = self.file.set_len(self.end).is_err();
                Err(e)
            }
        }
    }

    /// Whether most lines are old, when so many count.
    pub(super) fn is_mostly_old(&self, count: usize) -> bool {
        self.lines > REWRITE_LINES_MIN.max((1 + OLD_LINES_SHARE) * count)
    }

    /// Leaves these lines only.
    ///
    /// # Errors
    /// What the operating system says; the file is as it was.
    pub(super) fn rewrite<'l>(&mut self, lines: impl Iterator<Item = &'l Line>) -> io::Result<()> {
        *self = write_anew(&self.path, lines)?;
        Ok(())
    }
}

/// The lines that count, how many there were, and whether the last one had no end.
fn read(path: &Path) -> Result<(BTreeMap<String, Line>, usize, bool), String> {
    let shown = path.display();
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(FILE_BYTES_MAX).read_to_end(&mut bytes),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(e) => Err(e),
    }
    .map_err(|e| format!("{shown} cannot be read: {e}"))?;
    if bytes.len() as u64 == FILE_BYTES_MAX {
        return Err(format!("{shown} is larger than {FILE_BYTES_MAX} bytes"));
    }
    let mut lines = BTreeMap::new();
    let mut count = 0;
    let mut rest = bytes.as_slice();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (text, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        count += 1;
        let damaged = |why: String| {
            format!(
                "{shown}, line {count}: {why}; put the file right (without that line the others are good) and restart"
            )
        };
        let line: Line = serde_json::from_slice(text).map_err(|e| damaged(format!("cannot be read: {e}")))?;
        if line.v != VERSION {
            return Err(damaged(format!("has version {}, this tidegate knows {VERSION}", line.v)));
        }
        match line.account {
            Some(_) => lines.insert(line.id.clone(), line),
            None => lines.remove(&line.id),
        };
    }
    Ok((lines, count, !rest.is_empty()))
}

/// A file with these lines in the place of the old one: whole or not at all.
fn write_anew<'l>(path: &Path, lines: impl Iterator<Item = &'l Line>) -> io::Result<RosterFile> {
    let next = path.with_extension("next");
    // For nobody else's eyes: who has which rights is the operator's business.
    let file = private::open(&next, OpenOptions::new().create(true).truncate(true).write(true))?;
    let mut out = BufWriter::new(file);
    let (mut end, mut count) = (0, 0);
    for line in lines {
        let bytes = line.written()?;
        out.write_all(&bytes)?;
        end += bytes.len() as u64;
        count += 1;
    }
    out.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
    fs::rename(&next, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    let file = OpenOptions::new().append(true).open(path)?;
    Ok(RosterFile { path: path.to_owned(), file, end, lines: count, torn: false })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn path(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("tidegate-roster-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder.join("accounts.jsonl")
    }

    fn line(id: &str, weight: u32) -> Line {
        let Value::Object(account) = json!({ "keys": [], "weight": weight }) else { unreachable!() };
        Line::new(id, Some(account))
    }

    #[test]
    fn the_last_line_of_an_id_counts_and_old_ones_are_gone_after_a_start() {
        let path = path("last");
        let mut opened = RosterFile::open(&path).unwrap();
        for line in [line("a", 1), line("b", 1), line("a", 2), Line::new("b", None)] {
            opened.file.append(&line).unwrap();
        }
        drop(opened);

        let again = RosterFile::open(&path).unwrap();

        assert_eq!(again.lines.into_values().collect::<Vec<_>>(), [line("a", 2)]);
        assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 1);
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap()) & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_another_process_has_put_there_is_followed_while_it_says_the_same() {
        let path = path("followed");
        let mut old = RosterFile::open(&path).unwrap().file;
        old.append(&line("a", 1)).unwrap();
        old.append(&line("a", 2)).unwrap();
        let known = |lines: &BTreeMap<String, Line>| lines.values().eq([&line("a", 2)]);
        assert_eq!(old.follow(|_| unreachable!("it is the same file")), Ok(true));

        let mut new = RosterFile::open(&path).unwrap().file;
        assert_eq!(old.follow(known), Ok(true));
        old.append(&line("b", 1)).unwrap();
        assert_eq!(RosterFile::open(&path).unwrap().lines.len(), 2, "not lost in the file that was replaced");

        new.rewrite([line("c", 1)].iter()).unwrap();
        assert_eq!(old.follow(known), Ok(false), "it says something else");
    }

    #[test]
    fn a_last_line_without_its_end_was_never_acknowledged_and_is_dropped() {
        let path = path("torn");
        let mut opened = RosterFile::open(&path).unwrap();
        opened.file.append(&line("a", 1)).unwrap();
        let whole = fs::read(&path).unwrap();
        let second = line("a", 2).written().unwrap();
        for cut in 1..second.len() {
            fs::write(&path, [&whole, &second[..cut]].concat()).unwrap();
            let mut opened = RosterFile::open(&path).unwrap();
            assert!(opened.torn, "cut at {cut}");
            assert_eq!(opened.lines["a"], line("a", 1), "cut at {cut}");
            opened.file.append(&line("b", 1)).unwrap();
            assert_eq!(RosterFile::open(&path).unwrap().lines.len(), 2, "cut at {cut}");
        }
    }

    #[test]
    fn any_other_damage_takes_nothing_and_changes_nothing() {
        let path = path("damage");
        let good = String::from_utf8(line("a", 1).written().unwrap()).unwrap();
        for (damaged, told) in [
            (format!("{good}nonsense\n{good}"), "line 2: cannot be read"),
            (format!("{good}{}", good.replace("\"v\":1", "\"v\":7")), "line 2: has version 7"),
            (format!("\n{good}"), "line 1"),
            (good.replace("\"id\"", "\"name\""), "line 1"),
        ] {
            fs::write(&path, &damaged).unwrap();
            let refused = RosterFile::open(&path).unwrap_err();
            assert!(refused.contains(told), "{refused}");
            assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
        }
    }

    #[test]
    fn a_file_of_old_lines_is_written_anew() {
        let path = path("old");
        let mut opened = RosterFile::open(&path).unwrap();
        opened.file.lines = REWRITE_LINES_MIN + 1;
        assert!(opened.file.is_mostly_old(1) && !opened.file.is_mostly_old(1000));
        opened.file.rewrite([line("a", 3)].iter()).unwrap();
        assert!(!opened.file.is_mostly_old(1));
        opened.file.append(&line("b", 1)).unwrap();
        assert_eq!(RosterFile::open(&path).unwrap().lines.len(), 2);
    }
}
