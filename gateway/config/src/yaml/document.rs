//! Other files that are read like the config: one schema from their types, and every fault with its line.

use std::path::Path;
use std::rc::Rc;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use super::check;
use super::schema::schema_of;
use super::text::read_text;
use crate::yaml::faults::{At, Faults, Report};
use crate::yaml::tree::{self, Node};

/// A file that was read, with the places of its keys.
#[derive(Debug)]
pub struct Document<T> {
    /// What it says.
    pub value: T,
    /// Its text.
    pub text: String,
    origin: String,
    tree: Rc<Node>,
}

/// One step of a path into a document.
#[derive(Debug, Clone, Copy)]
pub enum Part {
    /// A key of a mapping.
    Key(&'static str),
    /// An entry of a list, from 0.
    Item(usize),
}

impl<T: JsonSchema + DeserializeOwned> Document<T> {
    /// Reads a file.
    ///
    /// # Errors
    /// Every fault at once; a file that cannot be read is one.
    pub fn load(path: &Path) -> Result<Self, Faults> {
        let origin = path.display().to_string();
        let text = read_text(path).map_err(|message| Faults::of_file(&origin, message))?;
        Self::parse(text, &origin)
    }

    /// Reads a text; `origin` is the file's name.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn parse(text: String, origin: &str) -> Result<Self, Faults> {
        let mut report = Report::default();
        let unusable = || Faults::of_file(origin, "cannot be used".to_owned());
        let env = |name: &str| std::env::var(name).ok();
        let Some(tree) = tree::read(&text, &env, &mut report) else {
            return Err(report.into_faults(origin).unwrap_or_else(unusable));
        };
        if matches!(tree.kind, tree::Kind::Empty) {
            report.at_place(tree.place, &At::FILE, "is empty");
        }
        let checked = check::check(&tree, &schema_of::<T>(), &At::FILE, &mut report);
        if let Some(faults) = report.into_faults(origin) {
            return Err(faults);
        }
        let value = serde_json::from_value(checked.unwrap_or_default())
            .map_err(|error| Faults::of_file(origin, format!("cannot be used: {error}")))?;
        Ok(Self { value, text, origin: origin.to_owned(), tree })
    }

    /// Faults that were found later, by their paths.
    #[must_use]
    pub fn faults(&self, found: impl IntoIterator<Item = (Vec<Part>, String)>) -> Faults {
        let mut report = Report::default();
        for (path, message) in found {
            note(&mut report, &self.tree, &At::FILE, &path, message);
        }
        report
            .into_faults(&self.origin)
            .unwrap_or_else(|| Faults::of_file(&self.origin, "cannot be used".to_owned()))
    }
}

/// The lines of a text, asked by path.
#[derive(Debug)]
pub struct Lines {
    origin: String,
    tree: Option<Rc<Node>>,
}

impl Lines {
    /// Of a text that is in order; of another, nothing but its name is known.
    #[must_use]
    pub fn of(text: &str, origin: &str, env: &dyn Fn(&str) -> Option<String>) -> Self {
        Lines { origin: origin.to_owned(), tree: tree::read(text, env, &mut Report::default()) }
    }

    /// `FILE:LINE` of what stands at `path`, or of the nearest thing above it that is there.
    #[must_use]
    pub fn at(&self, path: &[Part]) -> String {
        let line = self.tree.as_deref().map(|tree| line(tree, &At::FILE, path));
        line.map_or_else(|| self.origin.clone(), |line| format!("{}:{line}", self.origin))
    }
}

fn line(tree: &Node, at: &At<'_>, path: &[Part]) -> u32 {
    match path.split_first() {
        None => at.line(tree),
        Some((Part::Key(key), rest)) => line(tree, &at.key(key), rest),
        Some((Part::Item(nth), rest)) => line(tree, &at.item(*nth), rest),
    }
}

/// A path is a chain of borrows, so it is walked down before the fault is noted.
fn note(report: &mut Report, tree: &Node, at: &At<'_>, path: &[Part], message: String) {
    match path.split_first() {
        None => report.at(tree, at, message),
        Some((Part::Key(key), rest)) => note(report, tree, &at.key(key), rest, message),
        Some((Part::Item(nth), rest)) => note(report, tree, &at.item(*nth), rest, message),
    }
}
