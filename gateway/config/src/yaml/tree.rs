//! A YAML text as a tree in which every value knows its line and column.
//!
//! Deserializing straight into types stops at the first fault. A person wants all of them, so the text is
//! first read into this tree, which only fails where the YAML itself is broken, and then checked as a whole.
//!
//! # Guarantees
//!
//! - No recursion deeper than [`DEPTH_MAX`], no more than [`NODES_MAX`] values, aliases counted as often as
//!   they are used: the file that grows a thousandfold when it is read is refused.
//! - A later key never silently replaces an earlier one.
//! - Linear in the text.

use std::collections::HashMap;
use std::rc::Rc;

use granit_parser::{Event, Parser, ScalarStyle, Span};

use crate::yaml::expand::expand;
use crate::yaml::faults::{At, Report};

/// How deep lists and mappings may be nested. The config's own keys need 6.
pub const DEPTH_MAX: usize = 24;

/// How many values a file may hold, each use of an alias counted whole. 10,000 accounts need about 150,000.
pub const NODES_MAX: usize = 2_000_000;

/// A place in the text. Line and column (in characters) from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Place {
    const START: Self = Self { line: 1, column: 1 };

    fn new(line: usize, column: usize) -> Self {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        Self { line: count(line.max(1)), column: count(column.saturating_add(1)) }
    }

    fn of(span: &Span) -> Self {
        Self::new(span.start.line(), span.start.col())
    }
}

/// A value and its place.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) kind: Kind,
    /// Values in here, aliases counted whole.
    size: usize,
}

/// What a value is.
#[derive(Debug)]
pub(crate) enum Kind {
    /// Nothing is written here, or `null` or `~`: the same as leaving the key out.
    Empty,
    /// Something wrong that has been reported already.
    Faulty,
    /// A text, number or truth value: which of them, the key decides.
    Scalar(Scalar),
    /// A list.
    List(Vec<Rc<Node>>),
    /// A mapping, keys in the order of the file, each once.
    Map(Vec<Entry>),
}

/// A text, number or truth value as it is written.
#[derive(Debug)]
pub(crate) struct Scalar {
    /// The text, variables replaced.
    pub(crate) text: String,
    /// As written, where a variable was replaced: what may be shown, since the value may be a secret.
    pub(crate) written: Option<String>,
    /// Quoted, so a text and no number.
    pub(crate) quoted: bool,
}

/// A key of a mapping with its value.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) node: Rc<Node>,
}

impl Node {
    /// The value of a key. O(keys).
    pub(crate) fn value(&self, key: &str) -> Option<&Node> {
        let Kind::Map(entries) = &self.kind else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| &*entry.node)
    }

    /// The entry of a list.
    pub(crate) fn entry(&self, nth: usize) -> Option<&Node> {
        let Kind::List(entries) = &self.kind else { return None };
        entries.get(nth).map(|node| &**node)
    }
}

/// A list or mapping that is still being read.
struct Open {
    place: Place,
    anchor: usize,
    size: usize,
    content: Content,
}

enum Content {
    List(Vec<Rc<Node>>),
    Map { entries: Vec<Entry>, first: HashMap<String, u32>, key: Option<(String, Place)>, again: bool },
}

struct Reader<'e> {
    env: &'e dyn Fn(&str) -> Option<String>,
    report: &'e mut Report,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
    root: Option<Rc<Node>>,
}

/// Why reading stopped.
struct Stop(Place, String);

/// Reads a text. Broken YAML is reported and gives nothing; all else gives a tree.
pub(crate) fn read(
    text: &str,
    env: &dyn Fn(&str) -> Option<String>,
    report: &mut Report,
) -> Option<Rc<Node>> {
    let mut options = granit_parser::options! {
        disallow_directives: true,
        flow_nesting_limit: DEPTH_MAX,
        block_nesting_limit: DEPTH_MAX,
    };
    options.set_emit_comments(false);
    let mut reader = Reader { env, report, open: Vec::new(), anchors: HashMap::new(), root: None };
    for next in Parser::new_from_str_with_options(text, options) {
        let step = match next {
            Ok((event, span)) => reader.event(event, Place::of(&span)),
            Err(error) => {
                let place = Place::new(error.marker().line(), error.marker().col());
                Err(Stop(place, format!("this is not valid YAML: {}", error.info())))
            }
        };
        if let Err(Stop(place, message)) = step {
            reader.report.at_place(place, &At::FILE, message);
            return None;
        }
    }
    let empty = || Rc::new(Node { place: Place::START, kind: Kind::Empty, size: 1 });
    Some(reader.root.unwrap_or_else(empty))
}

impl Reader<'_> {
    fn event(&mut self, event: Event<'_>, place: Place) -> Result<(), Stop> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                no_tag(tag.is_some(), place)?;
                self.scalar(&text, style, anchor, place)
            }
            Event::SequenceStart(_, anchor, tag) => {
                no_tag(tag.is_some(), place)?;
                self.start(Content::List(Vec::new()), anchor, place)
            }
            Event::MappingStart(_, anchor, tag) => {
                no_tag(tag.is_some(), place)?;
                let first = HashMap::new();
                self.start(
                    Content::Map { entries: Vec::new(), first, key: None, again: false },
                    anchor,
                    place,
                )
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(anchor, place),
            Event::DocumentStart(..) if self.root.is_some() => {
                Err(Stop(place, "a config is one YAML document; remove the second".to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, anchor: usize, place: Place) -> Result<(), Stop> {
        if self.awaits_key() {
            return self.key(text.to_owned(), place);
        }
        let quoted = style != ScalarStyle::Plain;
        let kind = match expand(text, self.env) {
            Err(fault) => {
                let path = self.keys_above();
                self.report.at_place(place, &At::FILE.key(&path), fault.to_string());
                Kind::Faulty
            }
            Ok(None) if !quoted && is_null(text) => Kind::Empty,
            Ok(None) => Kind::Scalar(Scalar { text: text.to_owned(), written: None, quoted }),
            Ok(Some(text)) if is_null(&text) => Kind::Empty,
            // What a variable holds is read as if it stood there, quoted or not: `"${PORTS}"` may be a number.
            Ok(Some(expanded)) => {
                Kind::Scalar(Scalar { text: expanded, written: Some(text.to_owned()), quoted: false })
            }
        };
        self.add(Rc::new(Node { place, kind, size: 1 }), anchor)
    }

    fn start(&mut self, content: Content, anchor: usize, place: Place) -> Result<(), Stop> {
        if self.awaits_key() {
            return Err(Stop(place, "a key must be a name, not a list or a mapping".to_owned()));
        }
        if self.open.len() == DEPTH_MAX {
            return Err(Stop(
                place,
                format!("lists and mappings may be nested {DEPTH_MAX} deep, not deeper"),
            ));
        }
        self.open.push(Open { place, anchor, size: 1, content });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Stop> {
        let Some(Open { place, anchor, size, content }) = self.open.pop() else { return Ok(()) };
        let kind = match content {
            Content::List(nodes) => Kind::List(nodes),
            Content::Map { entries, .. } => Kind::Map(entries),
        };
        self.add(Rc::new(Node { place, kind, size }), anchor)
    }

    fn alias(&mut self, anchor: usize, place: Place) -> Result<(), Stop> {
        if self.awaits_key() {
            return Err(Stop(place, "a key must be a name, not an alias".to_owned()));
        }
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(Stop(place, "this alias stands inside the value that it repeats".to_owned()));
        };
        self.add(node, 0)
    }

    fn awaits_key(&self) -> bool {
        matches!(self.open.last(), Some(Open { content: Content::Map { key: None, .. }, .. }))
    }

    fn key(&mut self, name: String, place: Place) -> Result<(), Stop> {
        let Some(Open { content: Content::Map { key, first, again, .. }, .. }) = self.open.last_mut() else {
            return Ok(());
        };
        let earlier = first.get(&name).copied();
        *again = earlier.is_some();
        if earlier.is_none() {
            first.insert(name.clone(), place.line);
        }
        *key = Some((name, place));
        if let Some(line) = earlier {
            let path = self.keys_above();
            self.report.at_place(
                place,
                &At::FILE.key(&path),
                format!("is given twice, first in line {line}; remove one"),
            );
        }
        Ok(())
    }

    fn add(&mut self, node: Rc<Node>, anchor: usize) -> Result<(), Stop> {
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        let (place, size) = (node.place, node.size);
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(open) => {
                open.size = open.size.saturating_add(size);
                if open.size > NODES_MAX {
                    let what = format!("holds more than {NODES_MAX} values once its aliases are filled in");
                    return Err(Stop(place, what));
                }
                open.content.take(node);
            }
        }
        Ok(())
    }

    /// The keys and positions down to the value that is read now, as a path.
    fn keys_above(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match &open.content {
                Content::List(nodes) => path.push_str(&format!("[{}]", nodes.len())),
                Content::Map { key: Some((key, _)), .. } => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(key);
                }
                Content::Map { key: None, .. } => {}
            }
        }
        path
    }
}

impl Content {
    fn take(&mut self, node: Rc<Node>) {
        match self {
            Self::List(nodes) => nodes.push(node),
            Self::Map { entries, key, again, .. } => {
                if let Some((key, key_place)) = key.take()
                    && !*again
                {
                    entries.push(Entry { key, key_place, node });
                }
            }
        }
    }
}

fn no_tag(tagged: bool, place: Place) -> Result<(), Stop> {
    if tagged {
        return Err(Stop(place, "tags (`!…`) are not used here; remove it".to_owned()));
    }
    Ok(())
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}
