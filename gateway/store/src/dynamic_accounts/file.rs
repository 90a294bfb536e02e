//! The file of the accounts made at run time: a line of JSON for each change, and the last line of an id counts.
//!
//! ```text
//! {"v":1,"id":"acme","account":{"keys":["sha256:…"],"tiers":["priority"]},"ends":{"sha256:…":1790000000000}}
//! {"v":1,"id":"dune","account":{"keys":[{"key":"sha256:…","name":"ci","share":0.25}]}}
//! {"v":1,"id":"bolt"}                                          removed
//! ```
//!
//! A line is on the disk before the change is acknowledged. A last line without its end is a change that nobody was
//! told of, and is dropped. Any other line that cannot be read is damage: it may have taken a right away from any account
//! that has no readable line after it, so those are in doubt, and the others are not. Nothing is guessed about what it
//! said. A damaged file stays as it is for whoever repairs it; changes are appended to it.
//! Written anew at the start, and when most of its lines are old.

use super::keys;
use crate::private;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
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

    /// From now on these are its keys.
    pub(super) fn set_keys(&mut self, entries: Vec<Value>) {
        self.ends.retain(|key, _| entries.iter().any(|entry| keys::digest(entry) == Some(key)));
        if let Some(account) = &mut self.account {
            account.insert("keys".to_owned(), entries.into());
        }
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
    /// A line cannot be read, so none may be cleared away.
    damaged: bool,
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
    /// What cannot be read, in a sentence.
    pub(super) damage: Option<String>,
    /// Those of `lines` that a line which cannot be read may have changed.
    pub(super) in_doubt: BTreeSet<String>,
}

/// A file as it was read.
#[derive(Debug, Default)]
struct Content {
    /// By id with the number of its line, removed ones left out.
    lines: BTreeMap<String, (usize, Line)>,
    /// Lines with an end.
    count: usize,
    /// Where the last of them ends.
    end: u64,
    torn: bool,
    /// The lines that cannot be read, with the reason: the first few of them, and how many there are.
    damaged: Vec<(usize, String)>,
    damaged_count: usize,
    damaged_last: usize,
}

/// Damaged lines that are told.
const DAMAGE_TOLD_MAX: usize = 5;

impl RosterFile {
    /// Opens or makes the file, and leaves one line for each account in it, unless it is damaged.
    ///
    /// # Errors
    /// Why it cannot be read or written, in a sentence. Nothing was changed then.
    pub(super) fn open(path: &Path) -> Result<Opened, String> {
        let content = read(path)?;
        let (damage, in_doubt) = (content.damage(path), content.in_doubt());
        let Content { lines, count, end, torn, .. } = content;
        let lines: BTreeMap<String, Line> = lines.into_iter().map(|(id, (_, line))| (id, line)).collect();
        let is_tidy = count == lines.len() && !torn && path.exists();
        let next = if is_tidy || damage.is_some() {
            let file = private::open(path, OpenOptions::new().append(true));
            file.and_then(|file| {
                if torn {
                    file.set_len(end)?;
                }
                let damaged = damage.is_some();
                Ok(RosterFile { path: path.to_owned(), file, end, lines: count, torn: false, damaged })
            })
        } else {
            write_anew(path, lines.values())
        };
        let file = next.map_err(|e| format!("{} cannot be written: {e}", path.display()))?;
        Ok(Opened { file, lines, torn, damage, in_doubt })
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
        !self.damaged && self.lines > REWRITE_LINES_MIN.max((1 + OLD_LINES_SHARE) * count)
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

/// Reads the lines that count, and which cannot be read.
fn read(path: &Path) -> Result<Content, String> {
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
    let mut content = Content::default();
    let mut rest = bytes.as_slice();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let (text, after) = rest.split_at(end);
        rest = after.get(1..).unwrap_or_default();
        content.take(text);
    }
    content.end = (bytes.len() - rest.len()) as u64;
    content.torn = !rest.is_empty();
    Ok(content)
}

impl Content {
    /// Takes the next line in.
    fn take(&mut self, text: &[u8]) {
        self.count += 1;
        let line = match serde_json::from_slice::<Line>(text) {
            Ok(line) if line.v == VERSION => line,
            Ok(line) => {
                return self.damaged(format!("has version {}, this tidegate knows {VERSION}", line.v));
            }
            Err(e) => return self.damaged(format!("cannot be read: {e}")),
        };
        match line.account {
            Some(_) => drop(self.lines.insert(line.id.clone(), (self.count, line))),
            None => drop(self.lines.remove(&line.id)),
        }
    }

    fn damaged(&mut self, why: String) {
        self.damaged_count += 1;
        self.damaged_last = self.count;
        if self.damaged.len() < DAMAGE_TOLD_MAX {
            self.damaged.push((self.count, why));
        }
    }

    /// The accounts that a damaged line may have changed: those without a readable line after it.
    fn in_doubt(&self) -> BTreeSet<String> {
        let older = self.lines.iter().filter(|(_, (line, _))| *line < self.damaged_last);
        older.map(|(id, _)| id.clone()).collect()
    }

    fn damage(&self, path: &Path) -> Option<String> {
        let told: Vec<String> = self
            .damaged
            .iter()
            .map(|(line, why)| format!("{}, line {line}: {why}", path.display()))
            .collect();
        let more = self.damaged_count - told.len();
        let more = if more > 0 { format!("; and {more} more lines") } else { String::new() };
        (!told.is_empty()).then(|| told.join("; ") + &more)
    }
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
    Ok(RosterFile { path: path.to_owned(), file, end, lines: count, torn: false, damaged: false })
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
    fn damage_puts_in_doubt_what_has_no_readable_line_after_it_and_changes_nothing() {
        let path = path("damage");
        let text = |line: Line| String::from_utf8(line.written().unwrap()).unwrap();
        let (a, b, c) = (text(line("a", 1)), text(line("b", 1)), text(line("c", 1)));
        let gone = text(Line::new("b", None));
        let version = text(line("d", 1)).replace("\"v\":1", "\"v\":7");
        for (damaged, told, in_doubt) in [
            (format!("{a}{b}nonsense\n{a}{c}"), "line 3: cannot be read", "b"),
            (format!("{a}{version}{b}"), "line 2: has version 7", "a"),
            (format!("\n{a}"), "line 1", ""),
            (format!("{a}{b}{gone}x\n{a}"), "line 4", ""),
            (format!("{a}{b}x\n{c}y\n{a}{{\"v\":1"), "line 5", "b c"),
            (format!("{}{a}", "x\n".repeat(9)), "and 4 more lines", ""),
            (format!("{a}{b}{}", c.replace("\"id\"", "\"name\"")), "line 3", "a b"),
        ] {
            fs::write(&path, &damaged).unwrap();
            let mut opened = RosterFile::open(&path).unwrap();
            let damage = opened.damage.unwrap();
            assert!(damage.contains(told), "{damage}");
            assert_eq!(opened.in_doubt.into_iter().collect::<Vec<_>>().join(" "), in_doubt, "{damaged}");
            let whole = &damaged[..=damaged.rfind('\n').unwrap()];
            assert_eq!(fs::read_to_string(&path).unwrap(), whole);

            opened.file.append(&line("z", 1)).unwrap();
            opened.file.lines = 1 << 20;
            assert!(!opened.file.is_mostly_old(1), "a line that nobody can read is not cleared away");
            let again = RosterFile::open(&path).unwrap();
            assert!(again.lines.contains_key("z") && !again.in_doubt.contains("z"));
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
