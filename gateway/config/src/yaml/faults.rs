//! Every fault of a config file, each with its place, its key and a sentence that says what to do.
//!
//! One line a fault, in the order of the file, as compilers print them, so that editors can jump there:
//!
//! ```text
//! tidegate.yaml:14:5 deployments[0].slo.ttft_ms: must be between 1 and 600000, is 0
//! ```
//!
//! At most [`FAULTS_MAX`] are kept and the rest is counted: a wrong file must not become a flood.

use std::fmt;

use crate::yaml::tree::{Node, Place};

/// How many faults are kept with their text. Beyond it they are only counted.
pub const FAULTS_MAX: usize = 200;

/// One thing that is wrong in a config file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Line, from 1; 0 where the fault is not in the text (an unreadable file).
    pub line: u32,
    /// Column in characters, from 1; 0 where the line is 0.
    pub column: u32,
    /// The key path, such as `deployments[0].slo.ttft_ms`; empty for the file as a whole.
    pub path: String,
    /// What is wrong and what to do about it.
    pub message: String,
}

/// All faults of one file, in its order. Never empty where it is returned as an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// The file's name as it was given.
    pub origin: String,
    /// The faults, at most [`FAULTS_MAX`].
    pub list: Vec<Fault>,
    /// How many more there were.
    pub more: usize,
}

impl Faults {
    /// A fault of the file as a whole.
    pub(crate) fn of_file(origin: &str, message: String) -> Self {
        let fault = Fault { line: 0, column: 0, path: String::new(), message };
        Self { origin: origin.to_owned(), list: vec![fault], more: 0 }
    }
}

impl std::error::Error for Faults {}

impl fmt::Display for Fault {
    /// `:14:5 deployments[0].slo.ttft_ms: must be …`, to be written behind the file's name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        let between = if self.path.is_empty() { ":" } else { " " };
        let colon = if self.path.is_empty() { "" } else { ":" };
        write!(f, "{between}{}{colon} {}", self.path, self.message)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, fault) in self.list.iter().enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}{fault}", self.origin)?;
        }
        if self.more > 0 {
            write!(f, "\n{}: and {} more", self.origin, self.more)?;
        }
        Ok(())
    }
}

/// Where in the file something is: a path that is only written out when a fault is found.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    above: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    File,
    Key(&'a str),
    Item(usize),
}

impl<'a> At<'a> {
    /// The file itself.
    pub(crate) const FILE: At<'static> = At { above: None, step: Step::File };

    /// A key of the mapping here.
    pub(crate) fn key(&'a self, key: &'a str) -> At<'a> {
        At { above: Some(self), step: Step::Key(key) }
    }

    /// An entry of the list here, from 0.
    pub(crate) fn item(&'a self, nth: usize) -> At<'a> {
        At { above: Some(self), step: Step::Item(nth) }
    }

    /// Whether this is a key that ends so.
    pub(crate) fn is_key_ending(&self, end: &str) -> bool {
        matches!(self.step, Step::Key(key) if key.ends_with(end))
    }

    /// The place of this path in a file, or of the nearest thing above it that is there.
    fn place(&self, file: &Node) -> Place {
        self.node(file).map_or_else(|nearest| nearest, |node| node.place)
    }

    /// Its line, from 1.
    pub(crate) fn line(&self, file: &Node) -> u32 {
        self.place(file).line
    }

    /// The value at this path.
    pub(crate) fn find<'t>(&self, file: &'t Node) -> Option<&'t Node> {
        self.node(file).ok()
    }

    fn node<'t>(&self, file: &'t Node) -> Result<&'t Node, Place> {
        let Some(above) = self.above else { return Ok(file) };
        let node = above.node(file)?;
        let found = match self.step {
            Step::File => Some(node),
            Step::Key(key) => node.value(key),
            Step::Item(nth) => node.entry(nth),
        };
        found.ok_or(node.place)
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(above) = self.above {
            above.fmt(f)?;
        }
        match self.step {
            Step::File => Ok(()),
            Step::Item(nth) => write!(f, "[{nth}]"),
            Step::Key(key) => {
                let inner = self.above.is_some_and(|above| !matches!(above.step, Step::File));
                let dot = if inner { "." } else { "" };
                write!(f, "{dot}{}", Shown(key))
            }
        }
    }
}

/// A text from the file, cut short and without control characters, for printing.
pub(crate) struct Shown<'a>(pub(crate) &'a str);

/// Longest text of the file that a message repeats, characters.
const SHOWN_CHARS_MAX: usize = 60;

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, letter) in self.0.chars().enumerate() {
            if nth == SHOWN_CHARS_MAX {
                return f.write_str("…");
            }
            // Escapes of terminals and line breaks must not reach one.
            match letter {
                '"' | '\'' | '\\' => write!(f, "{letter}")?,
                _ => write!(f, "{}", letter.escape_debug())?,
            }
        }
        Ok(())
    }
}

/// The faults found so far.
#[derive(Default)]
pub(crate) struct Report {
    list: Vec<Fault>,
    more: usize,
    /// What is allowed and was probably not meant; at most [`FAULTS_MAX`].
    hints: Vec<Fault>,
}

impl Report {
    /// Notes a fault at a known place.
    pub(crate) fn at_place(&mut self, place: Place, at: &At<'_>, message: impl Into<String>) {
        if self.list.len() == FAULTS_MAX {
            self.more += 1;
            return;
        }
        let (line, column) = (place.line, place.column);
        self.list.push(Fault { line, column, path: at.to_string(), message: message.into() });
    }

    /// Notes something that is allowed and probably not meant.
    pub(crate) fn hint(&mut self, place: Place, at: &At<'_>, message: String) {
        if self.hints.len() < FAULTS_MAX {
            let (line, column) = (place.line, place.column);
            self.hints.push(Fault { line, column, path: at.to_string(), message });
        }
    }

    /// What was noted as allowed and probably not meant, in the order of the file.
    pub(crate) fn take_hints(&mut self) -> Vec<Fault> {
        let mut hints = std::mem::take(&mut self.hints);
        hints.sort_by_key(|hint| (hint.line, hint.column));
        hints.dedup();
        hints
    }

    /// Notes a fault at a path; the place is looked up in the file. O(width of the mappings on the way).
    pub(crate) fn at(&mut self, file: &Node, at: &At<'_>, message: impl Into<String>) {
        if self.list.len() == FAULTS_MAX {
            self.more += 1;
            return;
        }
        self.at_place(at.place(file), at, message);
    }

    /// Whether nothing was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether another fault would only be counted.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() == FAULTS_MAX
    }

    /// All faults in the order of the file, or nothing if there are none.
    pub(crate) fn into_faults(mut self, origin: &str) -> Option<Faults> {
        if self.list.is_empty() {
            return None;
        }
        self.list.sort_by(|a, b| (a.line, a.column, &a.path).cmp(&(b.line, b.column, &b.path)));
        self.list.dedup();
        Some(Faults { origin: origin.to_owned(), list: self.list, more: self.more })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_escapes_of_a_file_are_not_repeated_raw() {
        assert_eq!(Shown("a\u{1b}[31m\n\"b\"").to_string(), "a\\u{1b}[31m\\n\"b\"");
    }

    #[test]
    fn a_flood_of_faults_is_counted_not_kept() {
        let mut report = Report::default();
        for line in 0..1000 {
            report.at_place(Place { line, column: 1 }, &At::FILE, "wrong");
        }
        let faults = report.into_faults("f.yaml").unwrap();

        assert_eq!((faults.list.len(), faults.more), (FAULTS_MAX, 1000 - FAULTS_MAX));
        assert!(faults.to_string().ends_with("f.yaml: and 800 more"));
    }
}
